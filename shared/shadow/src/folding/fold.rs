//! The order in which a change is folded in: which call comes next, without the calls.

use std::time::Duration;

use super::change::Change;
use super::decision::{Question, Tree, latest_time};
use super::other_results::OtherResults;
use super::scope::Scope;
use crate::shadows::{Document, Error, Updated};
use requests::DatamodelWrite;

/// Coiote wrote first so many times in a row: more than any number of notifications explains.
const MOST_CONFLICTS: u32 = 10;

/// So many times the fold waits for older ones under way: half a second on average, while one takes a tenth of that.
const MOST_WAITS: u32 = 20;

/// So many times a write is repeated that AWS IoT did not answer, or not take for now.
const MOST_REPEATS: u32 = 2;

/// Between a look at others and the next; one of them takes about that long.
const SHORT: Duration = Duration::from_millis(50);

/// Before a write is repeated.
const LONG: Duration = Duration::from_millis(500);

/// A version of the datamodel shadow, and when the last of what stands in it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision {
    pub version: u64,
    /// Seconds since 1970.
    pub written_at: u64,
}

/// How a change was folded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoldOutcome {
    /// Entries without a value had to make room.
    pub dropped_valueless: bool,
    /// How many times somebody else's write came first.
    pub conflicts: u32,
    /// The datamodel shadow after it, for the ledger; nothing where it was not looked at, or AWS IoT did not tell the time.
    pub revision: Option<Revision>,
    /// When it wrote, for the ledger.
    pub wrote: DatamodelWrite,
}

/// The call that comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read the datamodel shadow.
    Read,
    /// Make an empty one: an update of a shadow that is not there cannot be conditional, so it must not say anything.
    Create,
    /// Read the ledger.
    AskOthers,
    /// Write, if the shadow has still this version.
    Write(Tree, u64),
    /// Wait, so long at most, before what comes next.
    Wait(Duration),
    Done(FoldOutcome),
}

/// A change on its way into the datamodel shadow.
#[derive(Debug, Clone)]
pub(crate) struct Fold<'a> {
    change: &'a Change,
    scope: &'a Scope,
    reported_at: Option<u64>,
    step: Step,
    /// As it was read last.
    current: Option<Document>,
    others: OtherResults,
    conflicts: u32,
    repeats: u32,
    waits_left: u32,
    is_relieving: bool,
}

impl<'a> Fold<'a> {
    pub(crate) fn new(
        change: &'a Change,
        scope: &'a Scope,
        reported_at: Option<u64>,
        known: Option<Revision>,
    ) -> Fold<'a> {
        // While the shadow is as it was left when the result had not been reported, nothing in it is newer.
        let is_older = |known: &Revision| reported_at.is_none_or(|reported_at| known.written_at <= reported_at);
        let step = match known.filter(is_older) {
            _ if change.is_empty() => Step::Done(FoldOutcome {
                dropped_valueless: false,
                conflicts: 0,
                revision: None,
                wrote: DatamodelWrite::Nothing,
            }),
            Some(known) if change.is_plain(scope) && change.resources() > 0 => {
                Step::Write(Tree::of(change), known.version)
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
            is_relieving: false,
        }
    }

    pub(crate) fn step(&self) -> &Step {
        &self.step
    }

    /// After [`Step::Read`].
    pub(crate) fn was_read(&mut self, current: Option<Document>) {
        self.step = if current.is_some() { Step::AskOthers } else { Step::Create };
        self.current = current;
    }

    /// After [`Step::Create`] and [`Step::Wait`].
    pub(crate) fn goes_on(&mut self) {
        self.step = Step::Read;
    }

    /// After [`Step::AskOthers`].
    pub(crate) fn was_told(&mut self, others: OtherResults) {
        self.others = others;
        self.is_relieving = false;
        self.decide();
    }

    fn decide(&mut self) {
        let Some(current) = &self.current else {
            self.step = Step::Read;
            return;
        };
        let question = Question {
            change: self.change,
            scope: self.scope,
            reported_at: self.reported_at,
            current,
            others: &self.others,
            is_patient: self.waits_left > 0,
            is_relieving: self.is_relieving,
            is_confirming: false,
        };
        let decision = question.decide();
        self.step = if decision.is_open {
            self.waits_left -= 1;
            Step::Wait(SHORT)
        } else if decision.update.is_empty() && self.others.may_write_after(self.reported_at) && !self.is_relieving {
            // What stands there already has to be written all the same: an older result that read the ledger before this one
            // was in it must find another version, and one that has just written makes this one look again.
            let update = Question { is_confirming: true, ..question }.decide().update;
            Step::Write(update, current.version)
        } else if decision.update.is_empty() {
            let written_at = latest_time(&current.metadata.reported).unwrap_or_default();
            let known = Revision { version: current.version, written_at };
            self.done(Some(known), DatamodelWrite::Nothing)
        } else {
            Step::Write(decision.update, current.version)
        };
    }

    /// After [`Step::Write`]. The error is one that this fold can do nothing about.
    pub(crate) fn was_written(&mut self, written: Result<Updated, Error>) -> Result<(), Error> {
        match written {
            Ok(Updated { version, timestamp }) => {
                let known = timestamp.map(|written_at| Revision { version, written_at });
                self.step = self.done(known, timestamp.map_or(DatamodelWrite::Unknown, DatamodelWrite::At));
            }
            Err(Error::Conflict) if self.conflicts < MOST_CONFLICTS => {
                self.conflicts += 1;
                // What was written without a look only needs one.
                self.step = if self.current.is_some() { Step::Wait(SHORT) } else { Step::Read };
            }
            Err(Error::Unavailable(_)) if self.repeats < MOST_REPEATS => {
                self.repeats += 1;
                self.step = Step::Wait(LONG);
            }
            Err(Error::TooLarge) if self.current.is_none() => self.step = Step::Read,
            Err(Error::TooLarge) if !self.is_relieving => {
                self.is_relieving = true;
                self.decide();
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// What decides how it goes on, and when what it read was written.
    #[cfg(test)]
    pub(crate) fn state(&self) -> (&Step, Option<&Document>, bool) {
        (&self.step, self.current.as_ref(), self.waits_left == 0)
    }

    #[cfg(test)]
    pub(crate) fn lose_patience(&mut self) {
        self.waits_left = 0;
    }

    fn done(&self, known: Option<Revision>, wrote: DatamodelWrite) -> Step {
        // What was not answered may have been written.
        let wrote = if self.repeats == 0 { wrote } else { DatamodelWrite::Unknown };
        Step::Done(FoldOutcome {
            dropped_valueless: self.is_relieving,
            conflicts: self.conflicts,
            revision: known,
            wrote,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::decision::tests::document;
    use super::super::other_results::EarlierResult;
    use super::*;

    const AFTER: Updated = Updated { version: 4, timestamp: Some(105) };

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
    fn a_plain_result_is_one_call_while_nothing_has_happened_since_the_last() {
        let whole = Scope::new(Some(vec!["T".to_owned()]), vec![]);
        let known = |written_at| Some(Revision { version: 3, written_at });
        for (scope, reported_at, known, at_once) in [
            (Scope::nothing(), Some(100), known(99), true),
            (Scope::nothing(), Some(100), known(100), true),
            (Scope::nothing(), Some(100), known(101), false),
            (Scope::nothing(), None, known(101), true),
            (Scope::nothing(), Some(100), None, false),
            (whole, Some(100), known(99), false),
        ] {
            let change = plain();
            let mut fold = Fold::new(&change, &scope, reported_at, known);
            assert_eq!(is_write(&fold, 3), at_once, "{scope:?} {reported_at:?} {known:?}");
            if at_once {
                fold.was_written(Ok(AFTER)).unwrap();
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
    fn nothing_to_fold_is_no_call_and_nothing_new_is_no_write() {
        let (empty, scope) = (Change::default(), Scope::new(Some(vec![String::new()]), vec![]));
        assert_eq!(done(&Fold::new(&empty, &scope, Some(100), None)).wrote, DatamodelWrite::Nothing);

        let (change, scope) = (plain(), Scope::nothing());
        let mut fold = Fold::new(&change, &scope, Some(100), None);
        fold.was_read(Some(document(json!({"T": {"0": {"R": "new"}}}), 90)));
        let mut beside_another = fold.clone();
        fold.was_told(OtherResults::default());
        let known = Some(Revision { version: 3, written_at: 90 });
        assert_eq!(
            done(&fold),
            FoldOutcome { dropped_valueless: false, conflicts: 0, revision: known, wrote: DatamodelWrite::Nothing }
        );

        // An older one that is under way must find another version.
        beside_another.was_told(OtherResults::new([], [EarlierResult { fingerprint: vec![], wrote: None }]));
        let Step::Write(update, 3) = beside_another.step().clone() else { panic!("{:?}", beside_another.step()) };
        assert_eq!(update.into_json(), json!({"T": {"0": {"R": "new"}}}));
    }

    #[test]
    fn a_shadow_that_is_not_there_is_made_before_anything_is_said() {
        let (change, scope) = (plain(), Scope::nothing());
        let mut fold = Fold::new(&change, &scope, Some(100), None);
        fold.was_read(None);
        assert_eq!(*fold.step(), Step::Create);
        fold.goes_on();
        fold.was_read(Some(Document { version: 1, ..Document::default() }));
        assert_eq!(*fold.step(), Step::AskOthers);
        fold.was_told(OtherResults::default());
        assert!(is_write(&fold, 1));
    }

    #[test]
    fn conflicts_are_looked_at_again_but_not_for_ever() {
        let (change, scope) = (plain(), Scope::nothing());
        let mut fold = Fold::new(&change, &scope, Some(100), Some(Revision { version: 2, written_at: 90 }));
        fold.was_written(Err(Error::Conflict)).unwrap();
        for conflicts in 1.. {
            fold.was_read(Some(document(json!({}), 90)));
            fold.was_told(OtherResults::default());
            assert!(is_write(&fold, 3));
            match fold.was_written(Err(Error::Conflict)) {
                Ok(()) => assert_eq!(*fold.step(), Step::Wait(SHORT)),
                Err(error) => {
                    assert_eq!((error, conflicts), (Error::Conflict, MOST_CONFLICTS));
                    break;
                }
            }
            fold.goes_on();
        }
    }

    #[test]
    fn a_write_without_an_answer_is_repeated_and_may_have_been_made() {
        let (change, scope) = (plain(), Scope::nothing());
        let mut fold = Fold::new(&change, &scope, Some(100), None);
        let lost = || Err(Error::Unavailable("lost".to_owned()));
        for _ in 0..MOST_REPEATS {
            fold.was_read(Some(document(json!({}), 90)));
            fold.was_told(OtherResults::default());
            fold.was_written(lost()).unwrap();
            assert_eq!(*fold.step(), Step::Wait(LONG));
            fold.goes_on();
        }
        let mut arrived = fold.clone();
        arrived.was_read(Some(document(json!({"T": {"0": {"R": "new"}}}), 105)));
        arrived.was_told(OtherResults::default());
        assert_eq!(done(&arrived).wrote, DatamodelWrite::Unknown);
        fold.was_read(Some(document(json!({}), 90)));
        fold.was_told(OtherResults::default());
        assert_eq!(fold.was_written(lost()), lost().map(|_: Updated| ()));
    }

    #[test]
    fn what_does_not_fit_is_written_once_more_without_entries_that_have_no_value() {
        let (change, scope) = (plain(), Scope::nothing());
        let mut fold = Fold::new(&change, &scope, Some(100), Some(Revision { version: 2, written_at: 90 }));
        fold.was_written(Err(Error::TooLarge)).unwrap();
        fold.was_read(Some(document(json!({"T": {"0": {"N": {"noValue": true}}}}), 90)));
        fold.was_told(OtherResults::default());
        fold.was_written(Err(Error::TooLarge)).unwrap();
        let Step::Write(update, 3) = fold.step().clone() else { panic!("{:?}", fold.step()) };
        assert_eq!(update.into_json(), json!({"T": {"0": {"R": "new", "N": null}}}));
        let mut still_too_large = fold.clone();
        assert_eq!(still_too_large.was_written(Err(Error::TooLarge)), Err(Error::TooLarge));
        fold.was_written(Ok(AFTER)).unwrap();
        assert!(done(&fold).dropped_valueless);
    }

    #[test]
    fn a_fold_waits_for_an_older_one_under_way_but_not_for_ever() {
        let (change, scope) = (plain(), Scope::nothing());
        let under_way = |wrote| OtherResults::new([], [EarlierResult { fingerprint: plain().fingerprint(), wrote }]);
        let mut fold = Fold::new(&change, &scope, Some(100), None);
        for _ in 0..MOST_WAITS {
            fold.was_read(Some(document(json!({"T": {"0": {"R": "held"}}}), 105)));
            fold.was_told(under_way(None));
            assert_eq!(*fold.step(), Step::Wait(SHORT));
            fold.goes_on();
        }
        fold.was_read(Some(document(json!({"T": {"0": {"R": "held"}}}), 105)));
        fold.was_told(under_way(None));
        assert!(is_write(&fold, 3));
    }
}
