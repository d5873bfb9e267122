//! The order of the calls by which a change is folded into the datamodel shadow, as a state machine.

use std::time::Duration;

use super::change::Change;
use super::decision::{DecisionInput, latest_time};
use super::other_results::OtherResults;
use super::scope::Scope;
use super::update::Update;
use crate::shadows::{Document, Error, Written};
use requests::DatamodelWrite;

/// Number of conflicts after which a fold gives up, more than notifications can explain.
const MOST_CONFLICTS: u32 = 10;

/// Number of waits for older folds under way: half a second on average, ten times the duration of a fold.
const MOST_WAITS: u32 = 20;

/// Number of repeats of a write that AWS IoT did not answer or throttled.
const MOST_REPEATS: u32 = 2;

/// Longest wait before the document is read again, about the duration of a fold.
const SHORT: Duration = Duration::from_millis(50);

/// Longest wait before a write is repeated.
const LONG: Duration = Duration::from_millis(500);

/// A version of the datamodel shadow and the time of its latest write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision {
    /// Version of the shadow.
    pub version: u64,
    /// Time of the latest write, in seconds since 1970.
    pub written_at: u64,
}

/// Result of folding a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoldOutcome {
    /// Whether resources without a value were removed, to make room.
    pub dropped_valueless: bool,
    /// Number of times another write came first.
    pub conflicts: u32,
    /// The datamodel shadow after the fold; `None` where it was not read, or AWS IoT did not return the time.
    pub revision: Option<Revision>,
    /// Write of the fold, for the ledger.
    pub wrote: DatamodelWrite,
}

/// The next call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read the datamodel shadow.
    Read,
    /// Create an empty shadow. An update of a missing shadow cannot be conditional, so it must not contain values.
    Create,
    /// Read the other results from the ledger.
    ReadLedger,
    /// Write on the condition that the shadow still has this version.
    Write(Update, u64),
    /// Wait for a random time up to this one.
    Wait(Duration),
    /// The fold is complete.
    Done(FoldOutcome),
}

/// A change that is being folded into the datamodel shadow.
#[derive(Debug, Clone)]
pub(crate) struct Fold<'a> {
    change: &'a Change,
    scope: &'a Scope,
    reported_at: Option<u64>,
    step: Step,
    /// The document as it was read last.
    current: Option<Document>,
    others: OtherResults,
    conflicts: u32,
    repeats: u32,
    waits_left: u32,
    drops_valueless: bool,
}

impl<'a> Fold<'a> {
    pub(crate) fn new(
        change: &'a Change,
        scope: &'a Scope,
        reported_at: Option<u64>,
        known: Option<Revision>,
    ) -> Fold<'a> {
        // If the latest write is not later than the result's report, nothing in the shadow is newer than the result
        let is_older = |known: &Revision| reported_at.is_none_or(|reported_at| known.written_at <= reported_at);
        let step = match known.filter(is_older) {
            _ if change.is_empty() => Step::Done(FoldOutcome {
                dropped_valueless: false,
                conflicts: 0,
                revision: None,
                wrote: DatamodelWrite::Nothing,
            }),
            Some(known) if change.needs_no_document(scope) && change.resources() > 0 => {
                Step::Write(Update::of(change), known.version)
            }
            _ => Step::Read,
        };
        Fold {
            change,
            scope,
            reported_at,
            step,
            current: None,
            others: OtherResults::default(),
            conflicts: 0,
            repeats: 0,
            waits_left: MOST_WAITS,
            drops_valueless: false,
        }
    }

    pub(crate) fn step(&self) -> &Step {
        &self.step
    }

    /// After [`Step::Read`].
    pub(crate) fn document_read(&mut self, current: Option<Document>) {
        self.step = if current.is_some() { Step::ReadLedger } else { Step::Create };
        self.current = current;
    }

    /// After [`Step::Create`] and [`Step::Wait`].
    pub(crate) fn resume(&mut self) {
        self.step = Step::Read;
    }

    /// After [`Step::ReadLedger`].
    pub(crate) fn ledger_read(&mut self, others: OtherResults) {
        self.others = others;
        self.drops_valueless = false;
        self.decide();
    }

    fn decide(&mut self) {
        let Some(current) = &self.current else {
            self.step = Step::Read;
            return;
        };
        let input = DecisionInput {
            change: self.change,
            scope: self.scope,
            reported_at: self.reported_at,
            current,
            others: &self.others,
            waits_for_folds: self.waits_left > 0,
            drops_valueless: self.drops_valueless,
            rewrites_unchanged: false,
        };
        let decision = input.decide();
        self.step = if decision.has_to_wait {
            self.waits_left -= 1;
            Step::Wait(SHORT)
        } else if decision.update.is_empty() && self.others.may_write_after(self.reported_at) && !self.drops_valueless {
            // Values that are there already are written again: an older result that read the ledger before this one was in
            // it has to find another version, and one that has just written makes this one read again
            let update = DecisionInput { rewrites_unchanged: true, ..input }.decide().update;
            Step::Write(update, current.version)
        } else if decision.update.is_empty() {
            let written_at = latest_time(&current.metadata.reported).unwrap_or_default();
            let known = Revision { version: current.version, written_at };
            self.done(Some(known), DatamodelWrite::Nothing)
        } else {
            Step::Write(decision.update, current.version)
        };
    }

    /// After [`Step::Write`].
    ///
    /// # Errors
    ///
    /// The error of the write, if the fold cannot do anything about it.
    pub(crate) fn write_answered(&mut self, written: Result<Written, Error>) -> Result<(), Error> {
        match written {
            Ok(Written { version, timestamp }) => {
                let known = timestamp.map(|written_at| Revision { version, written_at });
                self.step = self.done(known, timestamp.map_or(DatamodelWrite::Unknown, DatamodelWrite::At));
            }
            Err(Error::Conflict) if self.conflicts < MOST_CONFLICTS => {
                self.conflicts += 1;
                // A write without a read needs no wait before the read
                self.step = if self.current.is_some() { Step::Wait(SHORT) } else { Step::Read };
            }
            Err(Error::Unavailable(_)) if self.repeats < MOST_REPEATS => {
                self.repeats += 1;
                self.step = Step::Wait(LONG);
            }
            Err(Error::TooLarge) if self.current.is_none() => self.step = Step::Read,
            Err(Error::TooLarge) if !self.drops_valueless => {
                self.drops_valueless = true;
                self.decide();
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The parts that decide how the fold continues.
    #[cfg(test)]
    pub(crate) fn state(&self) -> (&Step, Option<&Document>, bool) {
        (&self.step, self.current.as_ref(), self.waits_left == 0)
    }

    #[cfg(test)]
    pub(crate) fn stop_waiting(&mut self) {
        self.waits_left = 0;
    }

    fn done(&self, known: Option<Revision>, wrote: DatamodelWrite) -> Step {
        // A write without an answer may have been made
        let wrote = if self.repeats == 0 { wrote } else { DatamodelWrite::Unknown };
        Step::Done(FoldOutcome {
            dropped_valueless: self.drops_valueless,
            conflicts: self.conflicts,
            revision: known,
            wrote,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::other_results::EarlierResult;
    use super::super::tests::document;
    use super::*;

    const AFTER: Written = Written { version: 4, timestamp: Some(105) };

    fn plain() -> Change {
        Change::from_result(json!({"T": {"0": {"R": "new"}}})).0
    }

    fn is_write(fold: &Fold<'_>, version: u64) -> bool {
        matches!(fold.step(), Step::Write(_, of) if *of == version)
    }

    fn done(fold: &Fold<'_>) -> FoldOutcome {
        match fold.step() {
            Step::Done(folded) => *folded,
            step => panic!("{step:?}"),
        }
    }

    #[test]
    fn a_change_without_removals_is_one_call_if_nothing_was_written_since_the_last_result() {
        let whole = Scope::new(Some(vec!["T".to_owned()]), vec![]);
        let known = |written_at| Some(Revision { version: 3, written_at });
        for (scope, reported_at, known, at_once) in [
            (Scope::default(), Some(100), known(99), true),
            (Scope::default(), Some(100), known(100), true),
            (Scope::default(), Some(100), known(101), false),
            (Scope::default(), None, known(101), true),
            (Scope::default(), Some(100), None, false),
            (whole, Some(100), known(99), false),
        ] {
            let change = plain();
            let mut fold = Fold::new(&change, &scope, reported_at, known);
            assert_eq!(is_write(&fold, 3), at_once, "{scope:?} {reported_at:?} {known:?}");
            if at_once {
                fold.write_answered(Ok(AFTER)).unwrap();
                let known = Some(Revision { version: 4, written_at: 105 });
                let folded = FoldOutcome {
                    dropped_valueless: false,
                    conflicts: 0,
                    revision: known,
                    wrote: DatamodelWrite::At(105),
                };
                assert_eq!(done(&fold), folded);
            } else {
                assert_eq!(*fold.step(), Step::Read);
            }
        }
    }

    #[test]
    fn an_empty_change_makes_no_call_and_unchanged_values_no_write() {
        let (empty, scope) = (Change::default(), Scope::new(Some(vec![String::new()]), vec![]));
        assert_eq!(done(&Fold::new(&empty, &scope, Some(100), None)).wrote, DatamodelWrite::Nothing);

        let (change, scope) = (plain(), Scope::default());
        let mut fold = Fold::new(&change, &scope, Some(100), None);
        fold.document_read(Some(document(json!({"T": {"0": {"R": "new"}}}), 90)));
        let mut beside_another = fold.clone();
        fold.ledger_read(OtherResults::default());
        let known = Some(Revision { version: 3, written_at: 90 });
        assert_eq!(
            done(&fold),
            FoldOutcome { dropped_valueless: false, conflicts: 0, revision: known, wrote: DatamodelWrite::Nothing }
        );

        // An older fold under way has to find another version
        beside_another.ledger_read(OtherResults::new([], [EarlierResult { fingerprint: vec![], wrote: None }]));
        let Step::Write(update, 3) = beside_another.step().clone() else { panic!("{:?}", beside_another.step()) };
        assert_eq!(update.into_json(), json!({"T": {"0": {"R": "new"}}}));
    }

    #[test]
    fn a_missing_shadow_is_created_empty_before_it_is_written() {
        let (change, scope) = (plain(), Scope::default());
        let mut fold = Fold::new(&change, &scope, Some(100), None);
        fold.document_read(None);
        assert_eq!(*fold.step(), Step::Create);
        fold.resume();
        fold.document_read(Some(Document { version: 1, ..Document::default() }));
        assert_eq!(*fold.step(), Step::ReadLedger);
        fold.ledger_read(OtherResults::default());
        assert!(is_write(&fold, 1));
    }

    #[test]
    fn a_conflict_leads_to_another_read_but_not_for_ever() {
        let (change, scope) = (plain(), Scope::default());
        let mut fold = Fold::new(&change, &scope, Some(100), Some(Revision { version: 2, written_at: 90 }));
        fold.write_answered(Err(Error::Conflict)).unwrap();
        for conflicts in 1.. {
            fold.document_read(Some(document(json!({}), 90)));
            fold.ledger_read(OtherResults::default());
            assert!(is_write(&fold, 3));
            match fold.write_answered(Err(Error::Conflict)) {
                Ok(()) => assert_eq!(*fold.step(), Step::Wait(SHORT)),
                Err(error) => {
                    assert_eq!((error, conflicts), (Error::Conflict, MOST_CONFLICTS));
                    break;
                }
            }
            fold.resume();
        }
    }

    #[test]
    fn a_write_without_an_answer_is_repeated_and_may_have_been_made() {
        let (change, scope) = (plain(), Scope::default());
        let mut fold = Fold::new(&change, &scope, Some(100), None);
        let lost = || Err(Error::Unavailable("lost".to_owned()));
        for _ in 0..MOST_REPEATS {
            fold.document_read(Some(document(json!({}), 90)));
            fold.ledger_read(OtherResults::default());
            fold.write_answered(lost()).unwrap();
            assert_eq!(*fold.step(), Step::Wait(LONG));
            fold.resume();
        }
        let mut arrived = fold.clone();
        arrived.document_read(Some(document(json!({"T": {"0": {"R": "new"}}}), 105)));
        arrived.ledger_read(OtherResults::default());
        assert_eq!(done(&arrived).wrote, DatamodelWrite::Unknown);
        fold.document_read(Some(document(json!({}), 90)));
        fold.ledger_read(OtherResults::default());
        assert_eq!(fold.write_answered(lost()), lost().map(|_: Written| ()));
    }

    #[test]
    fn a_document_that_is_too_large_is_written_without_valueless_resources() {
        let (change, scope) = (plain(), Scope::default());
        let mut fold = Fold::new(&change, &scope, Some(100), Some(Revision { version: 2, written_at: 90 }));
        fold.write_answered(Err(Error::TooLarge)).unwrap();
        fold.document_read(Some(document(json!({"T": {"0": {"N": {"noValue": true}}}}), 90)));
        fold.ledger_read(OtherResults::default());
        fold.write_answered(Err(Error::TooLarge)).unwrap();
        let Step::Write(update, 3) = fold.step().clone() else { panic!("{:?}", fold.step()) };
        assert_eq!(update.into_json(), json!({"T": {"0": {"R": "new", "N": null}}}));
        let mut still_too_large = fold.clone();
        assert_eq!(still_too_large.write_answered(Err(Error::TooLarge)), Err(Error::TooLarge));
        fold.write_answered(Ok(AFTER)).unwrap();
        assert!(done(&fold).dropped_valueless);
    }

    #[test]
    fn a_fold_waits_for_an_older_one_under_way_but_not_for_ever() {
        let (change, scope) = (plain(), Scope::default());
        let under_way = |wrote| OtherResults::new([], [EarlierResult { fingerprint: plain().fingerprint(), wrote }]);
        let mut fold = Fold::new(&change, &scope, Some(100), None);
        for _ in 0..MOST_WAITS {
            fold.document_read(Some(document(json!({"T": {"0": {"R": "held"}}}), 105)));
            fold.ledger_read(under_way(None));
            assert_eq!(*fold.step(), Step::Wait(SHORT));
            fold.resume();
        }
        fold.document_read(Some(document(json!({"T": {"0": {"R": "held"}}}), 105)));
        fold.ledger_read(under_way(None));
        assert!(is_write(&fold, 3));
    }
}
