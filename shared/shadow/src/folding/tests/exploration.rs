//! Exploration of the orders in which results of one device, their folds and a notification can come.
//!
//! The code of the fold is the real one; the datamodel shadow, the ledger and the time are models. Each event has a second of
//! its own, so events within a second are not covered. States that differ only in irrelevant parts are explored once.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value as Json, json};

use crate::folding::decision::latest_time;
use crate::folding::fold::{Fold, FoldOutcome, Revision, Step};
use crate::folding::{Change, EarlierResult, OtherResults, Scope};
use crate::shadows::{Document, Error, Written};
use requests::DatamodelWrite;

/// Guard to remove, to check that the exploration finds the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    KnowingNewer,
    KnowingEarlier,
    ReadingTheLedgerLast,
    Conditions,
}

/// A result, and its effect.
struct ReportedResult {
    change: Change,
    scope: Scope,
    /// Hashes of the paths that were read, which the ledger adds.
    covered: Vec<u32>,
    /// Keys that were read as a whole.
    takes: Vec<&'static str>,
    /// Paths and their values afterwards.
    puts: Vec<(&'static str, &'static str)>,
}

/// A scenario to explore.
struct World {
    /// The datamodel shadow at the start; `None` where there is none.
    at_first: Option<Json>,
    results: Vec<ReportedResult>,
    /// A write of Coiote at any time: the update, and the path and value of its effect.
    notification: Option<(Json, &'static str, &'static str)>,
    /// The result of each delivery.
    deliveries: Vec<usize>,
    /// Number of invocations that end early.
    crashes: u32,
    without: Without,
}

#[derive(Clone)]
struct State<'w> {
    now: u64,
    shadow: Option<Document>,
    /// Time of each result's report, in the order of their versions.
    reported: Vec<u64>,
    notified: Option<u64>,
    ledger: Vec<Entry>,
    known: Option<Revision>,
    runs: Vec<Run<'w>>,
    crashes: u32,
}

#[derive(Debug, Clone, Default)]
struct Entry {
    attempts: u32,
    wrote: Option<DatamodelWrite>,
}

#[derive(Clone)]
enum Run<'w> {
    Waiting,
    Folding(Box<Fold<'w>>, OtherResults),
    Concluded,
}

fn reported(result: Json, keys: Option<&[&'static str]>, puts: &[(&'static str, &'static str)]) -> ReportedResult {
    let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<String>>();
    let none_failed = vec![String::new()];
    let covered = keys.map(|keys| requests::covered_hashes(&owned(keys), &none_failed)).unwrap_or_default();
    let scope = match keys {
        Some(keys) => Scope::new(Some(owned(keys)), none_failed),
        None => Scope::default(),
    };
    let (change, messages) = Change::from_result(result);
    assert!(messages.is_empty());
    ReportedResult { change, scope, covered, takes: keys.unwrap_or_default().to_vec(), puts: puts.to_vec() }
}

impl World {
    fn of(
        at_first: Option<Json>,
        results: Vec<ReportedResult>,
        notification: Option<(Json, &'static str, &'static str)>,
    ) -> World {
        let deliveries = (0..results.len()).collect();
        World { at_first, results, notification, deliveries, crashes: 0, without: Without::Nothing }
    }

    /// Number of states. Fails at the first end state with a wrong shadow.
    fn explore(&self) -> Result<usize, String> {
        let mut seen = HashSet::new();
        let mut left = vec![self.first()];
        let mut ends = 0;
        while let Some(state) = left.pop() {
            if !seen.insert(state.key()) {
                continue;
            }
            let next = self.next(&state);
            if next.is_empty() {
                ends += 1;
                self.check(&state)?;
            }
            left.extend(next);
        }
        assert!(ends > 0);
        Ok(seen.len())
    }

    fn first(&self) -> State<'_> {
        let shadow = self.at_first.clone().map(|reported| {
            let mut document: Document = Document { version: 1, ..Document::default() };
            merge(&mut document.state.reported, &mut document.metadata.reported, reported, 1);
            document
        });
        State {
            now: 2,
            shadow,
            reported: vec![],
            notified: None,
            ledger: self.results.iter().map(|_| Entry::default()).collect(),
            known: None,
            runs: self.deliveries.iter().map(|_| Run::Waiting).collect(),
            crashes: 0,
        }
    }

    fn next<'w>(&'w self, state: &State<'w>) -> Vec<State<'w>> {
        let mut next = Vec::new();
        let mut then = |change: &dyn Fn(&mut State<'w>)| {
            let mut state = state.clone();
            state.now += 1;
            change(&mut state);
            next.push(state);
        };
        if state.reported.len() < self.results.len() {
            then(&|state| state.reported.push(state.now));
        }
        if let (Some((update, ..)), None) = (&self.notification, state.notified) {
            then(&|state| {
                state.write(update.clone());
                state.notified = Some(state.now);
            });
        }
        for (index, (run, &result)) in state.runs.iter().zip(&self.deliveries).enumerate() {
            match run {
                Run::Waiting if state.reported.len() > result => then(&|state| self.register(state, index, result)),
                Run::Folding(..) => {
                    then(&|state| self.step(state, index, result, false));
                    if matches!(run, Run::Folding(fold, _) if matches!(fold.step(), Step::Wait(_))) && state.crashes > 0
                    {
                        then(&|state| self.step(state, index, result, true));
                    }
                    if state.crashes < self.crashes {
                        then(&|state| {
                            state.runs[index] = Run::Waiting;
                            state.crashes += 1;
                        });
                    }
                }
                Run::Waiting | Run::Concluded => {}
            }
        }
        next
    }

    fn register<'w>(&'w self, state: &mut State<'w>, run: usize, result: usize) {
        let of = &self.results[result];
        state.ledger[result].attempts += 1;
        let is_newest = state.ledger.iter().skip(result + 1).all(|newer| newer.attempts == 0);
        let known = state.known.filter(|_| is_newest);
        let others = self.others(state, result);
        let fold = Fold::new(&of.change, &of.scope, Some(state.reported[result]), known);
        state.runs[run] = Run::Folding(Box::new(fold), others);
    }

    fn others(&self, state: &State<'_>, result: usize) -> OtherResults {
        let of = |other: usize| {
            let ReportedResult { change, covered, .. } = &self.results[other];
            change.fingerprint().into_iter().chain(covered.iter().copied()).collect::<Vec<u32>>()
        };
        let registered = |other: &usize| state.ledger[*other].attempts > 0;
        let newer = (result + 1..self.results.len()).filter(registered).map(of);
        let earlier = (0..result).filter(registered);
        let earlier = earlier.map(|other| EarlierResult { fingerprint: of(other), wrote: state.ledger[other].wrote });
        match self.without {
            Without::KnowingNewer => OtherResults::new([], earlier),
            Without::KnowingEarlier => OtherResults::new(newer, []),
            _ => OtherResults::new(newer, earlier),
        }
    }

    fn step<'w>(&'w self, state: &mut State<'w>, run: usize, result: usize, without_waiting: bool) {
        let Run::Folding(mut fold, mut others) = state.runs[run].clone() else { return };
        if without_waiting {
            fold.stop_waiting();
        }
        match fold.step().clone() {
            Step::Read => fold.document_read(state.shadow.clone()),
            Step::Create => {
                state.write(json!({}));
                fold.resume();
            }
            Step::ReadLedger => {
                if self.without != Without::ReadingTheLedgerLast {
                    others = self.others(state, result);
                }
                fold.ledger_read(others.clone());
            }
            Step::Write(update, version) => {
                let is_so = state.shadow.as_ref().is_some_and(|shadow| shadow.version == version);
                let written = if is_so || self.without == Without::Conditions {
                    Ok(Written { version: state.write(update.into_json()), timestamp: Some(state.now) })
                } else {
                    Err(Error::Conflict)
                };
                assert!(fold.write_answered(written).is_ok(), "a conflict is no failure");
            }
            Step::Wait(_) => fold.resume(),
            Step::Done(FoldOutcome { revision: known, wrote, .. }) => {
                let entry = &mut state.ledger[result];
                entry.wrote = Some(if entry.attempts > 1 { DatamodelWrite::Unknown } else { wrote });
                state.known = known.or(state.known);
                state.runs[run] = Run::Concluded;
                return;
            }
        }
        state.runs[run] = Run::Folding(fold, others);
    }

    /// Checks an end state: the shadow has to contain all writes, in the order of their reports.
    fn check(&self, state: &State<'_>) -> Result<(), String> {
        assert!(state.runs.iter().all(|run| matches!(run, Run::Concluded)), "a fold cannot go on: {}", state.key());
        let mut expected = BTreeMap::new();
        flatten(&mut expected, "", &self.at_first.clone().unwrap_or_default());
        let mut notified = state.notified;
        for (result, reported_at) in self.results.iter().zip(&state.reported) {
            self.notify(&mut expected, notified.take_if(|notified| *notified < *reported_at));
            expected.retain(|path, _| !result.takes.iter().any(|key| path.starts_with(&format!("{key}."))));
            expected.extend(result.puts.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned())));
        }
        self.notify(&mut expected, notified);
        let mut actual = BTreeMap::new();
        let shadow = state.shadow.as_ref().ok_or_else(|| "there is no datamodel shadow".to_owned())?;
        flatten(&mut actual, "", &shadow.state.reported);
        if actual == expected { Ok(()) } else { Err(format!("{actual:?} instead of {expected:?}")) }
    }

    fn notify(&self, expected: &mut BTreeMap<String, String>, notified: Option<u64>) {
        if let (Some((_, path, value)), Some(_)) = (&self.notification, notified) {
            expected.insert((*path).to_owned(), (*value).to_owned());
        }
    }
}

impl State<'_> {
    fn write(&mut self, update: Json) -> u64 {
        let document = self.shadow.get_or_insert_default();
        document.version += 1;
        merge(&mut document.state.reported, &mut document.metadata.reported, update, self.now);
        document.version
    }

    /// Identity of a state: all relevant parts; of times only their order.
    fn key(&self) -> String {
        let documents = || {
            self.runs
                .iter()
                .filter_map(|run| match run {
                    Run::Folding(fold, _) => fold.state().1,
                    _ => None,
                })
                .chain(&self.shadow)
        };
        let mut times: Vec<u64> = self.reported.iter().copied().chain(self.notified).collect();
        for document in documents() {
            collect(&document.metadata.reported, &mut times);
        }
        times.extend(self.known.map(|known| known.written_at));
        times.extend(self.ledger.iter().filter_map(|entry| match entry.wrote {
            Some(DatamodelWrite::At(at)) => Some(at),
            _ => None,
        }));
        for run in &self.runs {
            if let Run::Folding(fold, _) = run
                && let Step::Done(folded) = fold.step()
            {
                times.extend(folded.revision.map(|known| known.written_at));
                times.extend(match folded.wrote {
                    DatamodelWrite::At(at) => Some(at),
                    _ => None,
                });
            }
        }
        times.sort_unstable();
        times.dedup();
        let rank = |time: u64| times.partition_point(|known| *known < time) as u64;
        let known = |known: Option<Revision>| known.map(|known| (known.version, rank(known.written_at)));
        let wrote = |wrote: DatamodelWrite| match wrote {
            DatamodelWrite::At(at) => DatamodelWrite::At(rank(at)),
            other => other,
        };
        let document = |document: &Document| {
            let metadata = ranked(&document.metadata.reported, &rank);
            format!("{} {} {metadata}", document.version, document.state.reported)
        };
        let runs: Vec<String> = self
            .runs
            .iter()
            .map(|run| match run {
                Run::Waiting => "waiting".to_owned(),
                Run::Concluded => "concluded".to_owned(),
                Run::Folding(fold, _) => {
                    let (step, current, is_done_waiting) = fold.state();
                    let step = match step {
                        Step::Done(folded) => format!("{:?} {:?}", known(folded.revision), wrote(folded.wrote)),
                        step => format!("{step:?}"),
                    };
                    format!("{step} {:?} {is_done_waiting}", current.map(document))
                }
            })
            .collect();
        let ledger: Vec<_> = self.ledger.iter().map(|entry| (entry.attempts, entry.wrote.map(wrote))).collect();
        let reported: Vec<_> = self.reported.iter().copied().map(rank).collect();
        format!(
            "{:?} {reported:?} {:?} {ledger:?} {:?} {runs:?} {}",
            self.shadow.as_ref().map(document),
            self.notified.map(rank),
            known(self.known),
            self.crashes
        )
    }
}

/// Merges an update in the same way as AWS IoT.
fn merge(reported: &mut Json, metadata: &mut Json, update: Json, now: u64) {
    match update {
        Json::Object(update) => {
            if !reported.is_object() {
                (*reported, *metadata) = (json!({}), json!({}));
            }
            assert!(metadata.is_object(), "metadata are of the form of what they are about");
            let (Some(reported), Some(metadata)) = (reported.as_object_mut(), metadata.as_object_mut()) else { return };
            for (name, update) in update {
                if update.is_null() {
                    reported.shift_remove(&name);
                    metadata.shift_remove(&name);
                } else {
                    let (reported, metadata) = (
                        reported.entry(name.clone()).or_insert(Json::Null),
                        metadata.entry(name).or_insert(Json::Null),
                    );
                    merge(reported, metadata, update, now);
                }
            }
        }
        value => (*reported, *metadata) = (value, json!({"timestamp": now})),
    }
}

fn collect(metadata: &Json, times: &mut Vec<u64>) {
    match metadata.as_object() {
        Some(members) if members.contains_key("timestamp") => times.extend(latest_time(metadata)),
        members => members.into_iter().flat_map(Map::values).for_each(|part| collect(part, times)),
    }
}

fn ranked(metadata: &Json, rank: &dyn Fn(u64) -> u64) -> Json {
    match metadata {
        Json::Object(members) => members.iter().map(|(name, part)| (name.clone(), ranked(part, rank))).collect(),
        Json::Number(time) => json!(time.as_u64().map(rank)),
        other => other.clone(),
    }
}

fn flatten(into: &mut BTreeMap<String, String>, path: &str, json: &Json) {
    match json {
        Json::Object(members) => {
            for (name, part) in members {
                flatten(into, &if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, part);
            }
        }
        Json::Null => {}
        Json::String(value) => _ = into.insert(path.to_owned(), value.clone()),
        value => _ = into.insert(path.to_owned(), value.to_string()),
    }
}

fn notification(update: Json, path: &'static str) -> Option<(Json, &'static str, &'static str)> {
    Some((update, path, "n"))
}

/// The newer result has the value from before both.
fn back() -> World {
    let write = |value: &'static str| reported(json!({"T": {"0": {"R": value}}}), None, &[("T.0.R", value)]);
    World::of(Some(json!({"T": {"0": {"R": "b"}}})), vec![write("a"), write("b")], None)
}

/// The newer read finds less than the older one.
fn less() -> World {
    World::of(
        Some(json!({"T": {"2": {"R": "0"}}})),
        vec![
            reported(json!({"T": {"0": {"R": "a"}, "1": {"R": "a"}}}), Some(&["T"]), &[("T.0.R", "a"), ("T.1.R", "a")]),
            reported(json!({"T": {"0": {"R": "b"}}}), Some(&["T"]), &[("T.0.R", "b")]),
        ],
        notification(json!({"T": {"0": {"R": "n"}}}), "T.0.R"),
    )
}

/// Two results with one resource in common, and one that only the newer or the older has.
fn plain() -> World {
    World::of(
        Some(json!({"T": {"0": {"R": "0", "S": "0"}}})),
        vec![
            reported(json!({"T": {"0": {"R": "a", "S": "a"}}}), None, &[("T.0.R", "a"), ("T.0.S", "a")]),
            reported(json!({"T": {"0": {"R": "b", "U": "b"}}}), None, &[("T.0.R", "b"), ("T.0.U", "b")]),
        ],
        notification(json!({"T": {"0": {"R": "n"}}}), "T.0.R"),
    )
}

fn worlds() -> Vec<(&'static str, World)> {
    let write = |value: &'static str| {
        let result = json!({"T": {"0": {"R": value}}});
        reported(result, None, &[("T.0.R", value)])
    };
    vec![
        ("two plain results", plain()),
        (
            "a notification of what only the older one names",
            World { notification: notification(json!({"T": {"0": {"S": "n"}}}), "T.0.S"), ..plain() },
        ),
        ("the newer one says what stood there before", back()),
        ("no shadow at first", World { at_first: None, ..plain() }),
        ("one result comes twice", World { deliveries: vec![0, 0, 1], notification: None, ..plain() }),
        ("the newer one comes twice", World { deliveries: vec![0, 1, 1], notification: None, ..plain() }),
        ("an invocation ends in the middle", World { crashes: 2, notification: None, ..plain() }),
        (
            "resource instances",
            World::of(
                Some(json!({"T": {"0": {"M": {"0": "0", "1": "0"}}}})),
                vec![
                    reported(
                        json!({"T": {"0": {"M": {"0": "a", "1": "a"}}}}),
                        None,
                        &[("T.0.M.0", "a"), ("T.0.M.1", "a")],
                    ),
                    reported(
                        json!({"T": {"0": {"M": {"0": "b", "2": "b"}}}}),
                        None,
                        &[("T.0.M.0", "b"), ("T.0.M.2", "b")],
                    ),
                ],
                notification(json!({"T": {"0": {"M": {"0": "n"}}}}), "T.0.M.0"),
            ),
        ),
        ("the newer read finds less", less()),
        (
            "the newer read finds what stood there before",
            World::of(
                Some(json!({"T": {"0": {"R": "b"}}})),
                vec![
                    reported(
                        json!({"T": {"0": {"R": "a"}, "1": {"R": "a"}}}),
                        Some(&["T"]),
                        &[("T.0.R", "a"), ("T.1.R", "a")],
                    ),
                    reported(json!({"T": {"0": {"R": "b"}}}), Some(&["T"]), &[("T.0.R", "b")]),
                ],
                None,
            ),
        ),
        (
            "the older read found less",
            World::of(
                Some(json!({"T": {"0": {"R": "0"}, "1": {"R": "0", "S": "0"}}})),
                vec![
                    reported(json!({"T": {"0": {"R": "a"}}}), Some(&["T"]), &[("T.0.R", "a")]),
                    reported(json!({"T": {"1": {"R": "b"}}}), None, &[("T.1.R", "b")]),
                ],
                notification(json!({"T": {"1": {"S": "n"}}}), "T.1.S"),
            ),
        ),
        (
            "a value and none",
            World::of(
                Some(json!({"T": {"0": {"R": {"noValue": true}}}})),
                vec![
                    reported(json!({"T": {"0": {"R": "a"}}}), None, &[("T.0.R", "a")]),
                    reported(json!({"T": {"0": {"R": "b"}}}), Some(&["T.0"]), &[("T.0.R", "b")]),
                ],
                None,
            ),
        ),
        ("three results", World::of(Some(json!({})), vec![write("a"), write("b"), write("c")], None)),
        (
            "three results, and a notification",
            World::of(
                Some(json!({})),
                vec![write("a"), write("b"), write("c")],
                notification(json!({"T": {"0": {"R": "n"}}}), "T.0.R"),
            ),
        ),
    ]
}

#[test]
fn in_every_order_the_newest_value_wins() {
    for (name, world) in worlds() {
        let started = std::time::Instant::now();
        let explored = world.explore();
        assert!(explored.is_ok(), "{name}: {explored:?}");
        println!("{name}: {explored:?} states, {} ms", started.elapsed().as_millis());
    }
}

#[test]
fn without_a_guard_an_older_value_wins() {
    for (without, world) in [
        (Without::KnowingNewer, back()),
        (Without::KnowingEarlier, plain()),
        (Without::ReadingTheLedgerLast, less()),
        (Without::Conditions, plain()),
    ] {
        let found = World { without, ..world }.explore();
        assert!(found.is_err(), "{without:?}: {found:?}");
    }
}
