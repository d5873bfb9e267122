//! Explores every order of events, up to a bound, of a few requests of one device. Around the state machine, a model stands in for
//! Coiote, for runs that may die at any step, and for events that are delivered twice, late or never.
//!
//! It is a breadth-first search over worlds. A world consists of the device, which only `Device::apply` changes, and of the model.
//! For each promise, a second test takes its guard out and expects the search to find a trace that breaks it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod model;
mod promises;
mod sabotage;
mod steps;

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::time::Instant;

use requests::{Device, Event, Millis, Name};

use crate::sabotage::{Sabotage, sabotaged};

/// Time at which a world begins.
const START: Millis = 1_000_000_000;
/// Time after which a run that holds a request has certainly ended.
const RUN_LIMIT: Millis = 90_000;
const LIFETIME: Millis = 3_600_000;
/// Seconds between two things at Coiote. Those within a second cannot be told apart.
const APART: u64 = 2;
/// Attempts of one invocation. A third one would add no order of events that a redrive does not.
const ATTEMPTS: u8 = 2;

/// Request that its author makes.
struct Request {
    operation: &'static str,
    keys: &'static [&'static str],
    token: Option<&'static str>,
    /// Requests with the same content are equal tasks for Coiote.
    content: u8,
    with_reported: bool,
}

const fn request(operation: &'static str, keys: &'static [&'static str], content: u8) -> Request {
    Request { operation, keys, token: None, content, with_reported: false }
}

/// Configuration of a search.
struct Setup {
    name: &'static str,
    requests: &'static [Request],
    /// Number of faults that may happen: crashes, lost or repeated messages, refusals.
    faults: u8,
    /// Number of jumps of time.
    jumps: u8,
    redrives: u8,
    /// Seconds by which Coiote's clock is ahead of ours.
    ahead: i64,
    sabotage: Sabotage,
    /// Whether the requests are executions of an AWS IoT job, one of which AWS may end at any time.
    of_job: bool,
}

/// Invocation of operation-request by an event.
#[derive(Clone, Hash, PartialEq, Eq, Debug)]
struct Delivery {
    request: u8,
    run: u8,
    redriven: bool,
    attempts: u8,
}

/// Progress of a run.
#[derive(Clone, Hash, PartialEq, Eq, Debug)]
enum Phase {
    /// It holds the request and has not called Coiote.
    Sending,
    /// Coiote has the task; its response is on the way.
    Reached { task_id: String, reached: u64, sent_at: Millis },
    /// The outcome has to be saved. Another event may follow.
    Outcome(Event, Option<Event>),
    /// Another event, after the run has saved its outcome: a 201 that came late, or that the device could not be woken.
    Late(Event),
}

/// Run of operation-request that holds a request.
#[derive(Clone, Hash, PartialEq, Eq, Debug)]
struct Run {
    request: u8,
    mark: String,
    void_at: Millis,
    phase: Phase,
    delivery: Option<Delivery>,
}

/// Task at Coiote.
#[derive(Clone, Hash, PartialEq, Eq, Debug)]
struct Task {
    id: String,
    content: u8,
    pending: bool,
    removed: bool,
    /// Requests whose POST has reached Coiote.
    posted_by: u8,
    /// Report of the last run: its time, its outcome, the requests whose POST had come by then, and those whose first run it was.
    report: Option<(u64, bool, u8, u8)>,
}

/// Result in the operation shadow.
#[derive(Clone, Hash, PartialEq, Eq, Debug)]
struct ShadowResult {
    version: u64,
    content: u8,
    is_good: bool,
    at: Millis,
    /// Deliveries that are still to come.
    deliveries: u8,
    /// Whether a run of operation-response is folding it.
    folding: bool,
    is_lost: bool,
}

/// Removal of a task by reconcile.
#[derive(Clone, Hash, PartialEq, Eq, Debug)]
struct Removal {
    name: Name,
    task_id: String,
    is_shared: bool,
    deleted: bool,
}

/// State of the device and of the model around it.
#[derive(Clone, Hash, PartialEq, Eq)]
struct World {
    now: Millis,
    device: Device,
    /// Versions of the requests that are made.
    versions: Vec<u64>,
    next_version: u64,
    queue: Vec<Delivery>,
    /// Events whose attempts have all failed.
    failed: Vec<u8>,
    runs: Vec<Run>,
    bodies: u8,
    tasks: Vec<Task>,
    results: Vec<ShadowResult>,
    removals: Vec<Removal>,
    clock: u64,
    marks: u8,
    faults: u8,
    jumps: u8,
    redrives: u8,
    of_job: bool,
    /// Executions that AWS may still end.
    ends_of_job: u8,
    // The facts, for the checks of the promises.
    /// Requests in the order in which their POSTs reached Coiote.
    posts: Vec<u8>,
    first_post_at: Vec<Millis>,
    /// Requests that the device did.
    done: u8,
    /// Time at which the device last did each content.
    done_at: Vec<Millis>,
    /// Requests whose task has run since their last POST.
    ran: u8,
    /// Requests whose final status a report has decided.
    proven: u8,
    is_draining: bool,
    broken: Option<String>,
}

/// Name of a step, for traces.
#[derive(Clone, Debug)]
struct Action(String);

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn bit(request: u8) -> u8 {
    1 << request
}

impl World {
    fn new(setup: &Setup) -> World {
        World {
            now: START,
            device: Device::default(),
            versions: Vec::new(),
            next_version: 1,
            queue: Vec::new(),
            failed: Vec::new(),
            runs: Vec::new(),
            bodies: 0,
            tasks: Vec::new(),
            results: Vec::new(),
            removals: Vec::new(),
            clock: START / 1_000,
            marks: 0,
            faults: setup.faults,
            jumps: setup.jumps,
            redrives: setup.redrives,
            of_job: setup.of_job,
            ends_of_job: u8::from(setup.of_job),
            posts: Vec::new(),
            first_post_at: vec![0; setup.requests.len()],
            done: 0,
            done_at: vec![0; setup.requests.len()],
            ran: 0,
            proven: 0,
            is_draining: false,
            broken: None,
        }
    }

    fn name(&self, request: u8) -> Name {
        let version = self.versions[usize::from(request)];
        if self.of_job { Name::Job { id: "j".to_owned(), execution: version } } else { Name::Version(version) }
    }

    fn request_of(&self, name: &Name) -> Option<u8> {
        let version = match name {
            Name::Version(version) | Name::Job { execution: version, .. } => version,
            Name::Invocation(_) => return None,
        };
        self.versions.iter().position(|other| other == version).map(|index| index as u8)
    }

    fn break_with(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }
}

/// Outcome of a search.
struct Explored {
    states: usize,
    depth: usize,
    is_whole: bool,
    broken: Option<(String, Vec<String>)>,
}

fn fingerprint_of(world: &World) -> u128 {
    let hash = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        seed.hash(&mut hasher);
        world.hash(&mut hasher);
        hasher.finish()
    };
    (u128::from(hash(1)) << 64) | u128::from(hash(2))
}

/// Visits every reachable world, breadth first, until `max` are seen.
fn explore(setup: &Setup, max: usize) -> Explored {
    let mut seen = HashSet::new();
    let mut parents: Vec<(usize, Action)> = vec![(0, Action("start".to_owned()))];
    let mut level = vec![(0, World::new(setup))];
    seen.insert(fingerprint_of(&level[0].1));
    let trace = |parents: &[(usize, Action)], mut index: usize, last: &str| {
        let mut steps = vec![last.to_owned()];
        while index != 0 {
            steps.push(parents[index].1.to_string());
            index = parents[index].0;
        }
        steps.reverse();
        steps
    };
    let mut depth = 0;
    while !level.is_empty() {
        let mut next = Vec::new();
        for (index, world) in level {
            for awake in [true, false] {
                let mut end = world.clone();
                end.drain(setup, awake);
                if let Some(broken) = end.broken {
                    let last = if awake { "then nothing goes wrong" } else { "then the device sleeps" };
                    let steps = trace(&parents, index, last);
                    return Explored { states: seen.len(), depth, is_whole: false, broken: Some((broken, steps)) };
                }
            }
            for (action, world) in world.steps(setup) {
                if let Some(broken) = world.broken {
                    let steps = trace(&parents, index, &action.0);
                    return Explored { states: seen.len(), depth, is_whole: false, broken: Some((broken, steps)) };
                }
                if seen.insert(fingerprint_of(&world)) {
                    parents.push((index, action));
                    next.push((parents.len() - 1, world));
                }
            }
            if seen.len() >= max {
                return Explored { states: seen.len(), depth, is_whole: false, broken: None };
            }
        }
        level = next;
        depth += 1;
    }
    Explored { states: seen.len(), depth, is_whole: true, broken: None }
}

const X: &[&str] = &["Server.1.Lifetime"];
const XY: &[&str] = &["Server.1.Lifetime", "Server.1.Binding"];

static SINGLE_READ: [Request; 1] = [request("read", X, 0)];
static SINGLE_WRITE: [Request; 1] = [request("write", X, 0)];
static SINGLE_EXECUTE: [Request; 1] = [request("execute", &["Device.0.Reboot"], 0)];
static SINGLE_OBSERVE: [Request; 1] = [request("observe", X, 0)];
static READ_READ: [Request; 2] = [request("read", X, 0), request("read", X, 0)];
static READ_READ_OVERLAP: [Request; 2] = [request("read", X, 0), request("read", XY, 1)];
static WRITE_WRITE: [Request; 2] = [request("write", X, 0), request("write", XY, 1)];
static WRITE_SAME_WRITE: [Request; 2] = [request("write", X, 0), request("write", X, 0)];
static EXECUTE_EXECUTE: [Request; 2] =
    [request("execute", &["Device.0.Reboot"], 0), request("execute", &["Device.0.Reboot"], 0)];
static EXECUTE_SAME_TOKEN: [Request; 2] = [
    Request { operation: "execute", keys: &["Device.0.Reboot"], token: Some("t"), content: 0, with_reported: false },
    Request { operation: "execute", keys: &["Device.0.Reboot"], token: Some("t"), content: 0, with_reported: false },
];
static EXECUTE_RESAVED: [Request; 2] = [
    request("execute", &["Device.0.Reboot"], 0),
    Request { operation: "execute", keys: &["Device.0.Reboot"], token: None, content: 0, with_reported: true },
];
static WRITE_WRITE_OF_ONE_KEY: [Request; 2] = [request("write", X, 0), request("write", X, 1)];
static EXECUTE_READ: [Request; 2] = [request("execute", &["Device.0.Reboot"], 0), request("read", X, 1)];
static OBSERVE_OBSERVE: [Request; 2] = [request("observe", X, 0), request("observe", X, 0)];
static READ_CANCEL: [Request; 2] = [request("read", X, 0), request("cancelRequest", &[], 1)];
static WRITE_CANCEL: [Request; 2] = [request("write", X, 0), request("cancelRequest", &[], 1)];
static EXECUTE_CANCEL: [Request; 2] = [request("execute", &["Device.0.Reboot"], 0), request("cancelRequest", &[], 1)];

const fn setup(name: &'static str, requests: &'static [Request], faults: u8, jumps: u8) -> Setup {
    Setup { name, requests, faults, jumps, redrives: 1, ahead: 7, sabotage: Sabotage::None, of_job: false }
}

fn setups(more: u8) -> Vec<Setup> {
    vec![
        setup("one read", &SINGLE_READ, 2 + more, 2 + more),
        setup("one write", &SINGLE_WRITE, 2 + more, 2 + more),
        setup("one execute", &SINGLE_EXECUTE, 2 + more, 2 + more),
        setup("one observe", &SINGLE_OBSERVE, 2 + more, 2 + more),
        setup("two equal reads", &READ_READ, 1 + more, 1 + more),
        Setup { ahead: -7, ..setup("two reads that overlap", &READ_READ_OVERLAP, 1 + more, 1 + more) },
        setup("two writes of one key", &WRITE_WRITE, 1 + more, 1 + more),
        setup("two equal writes", &WRITE_SAME_WRITE, 1 + more, 1 + more),
        setup("two equal executes", &EXECUTE_EXECUTE, 1 + more, 1 + more),
        setup("two executes of one token", &EXECUTE_SAME_TOKEN, 1 + more, 1 + more),
        setup("an execute that is saved again", &EXECUTE_RESAVED, 1 + more, 1 + more),
        Setup { ahead: -7, ..setup("an execute and a read", &EXECUTE_READ, 1 + more, 1 + more) },
        setup("two equal observes", &OBSERVE_OBSERVE, 1 + more, 1 + more),
        setup("a read that is taken back", &READ_CANCEL, 1 + more, 1 + more),
        setup("a write that is taken back", &WRITE_CANCEL, 1 + more, 1 + more),
        setup("an execute that is taken back", &EXECUTE_CANCEL, 1 + more, 1 + more),
        Setup { of_job: true, ..setup("an execute of a job", &SINGLE_EXECUTE, 2 + more, 2 + more) },
        Setup { of_job: true, ..setup("a read of a job", &SINGLE_READ, 2 + more, 2 + more) },
        Setup { of_job: true, ..setup("an execute of a job and its retry", &EXECUTE_EXECUTE, 1 + more, 1 + more) },
        Setup { of_job: true, ..setup("two writes of jobs", &WRITE_WRITE, 1 + more, 1 + more) },
    ]
}

/// Most worlds of a configuration, so that all configurations take about a minute.
const MAX_STATES: usize = 60_000;

/// Most worlds of a configuration that is explored completely.
const MAX_STATES_OF_COMPLETE: usize = 250_000;

/// Configurations that are explored completely. Of the others, the worlds that need the fewest steps are.
const COMPLETE: [&str; 9] = [
    "one execute",
    "one observe",
    "two equal executes",
    "two executes of one token",
    "an execute that is saved again",
    "two equal observes",
    "a read that is taken back",
    "a write that is taken back",
    "an execute that is taken back",
];

#[test]
fn every_order_of_events_keeps_the_promises() {
    // `EXPLORE_STATES` limits the worlds of each configuration, `EXPLORE_MORE` adds faults and jumps to each, and `EXPLORE_ONLY`
    // selects configurations by name.
    let more: u8 = std::env::var("EXPLORE_MORE").ok().and_then(|more| more.parse().ok()).unwrap_or(0);
    let max = std::env::var("EXPLORE_STATES").ok().and_then(|max| max.parse().ok()).unwrap_or(MAX_STATES);
    let only = std::env::var("EXPLORE_ONLY").unwrap_or_default();
    let (mut states, mut configurations) = (0, 0);
    let (mut broken, mut in_part) = (Vec::new(), Vec::new());
    for setup in setups(more).iter().filter(|setup| setup.name.contains(&only)) {
        let began = Instant::now();
        let is_to_be_whole = more == 0 && max == MAX_STATES && COMPLETE.contains(&setup.name);
        let explored = explore(setup, if is_to_be_whole { MAX_STATES_OF_COMPLETE } else { max });
        states += explored.states;
        configurations += 1;
        println!(
            "{:34} {:9} states, depth {:2}, {} faults, {} moments{}, {:.1} s",
            setup.name,
            explored.states,
            explored.depth,
            setup.faults,
            setup.jumps,
            if explored.is_whole { "" } else { ", not all" },
            began.elapsed().as_secs_f32()
        );
        if is_to_be_whole && !explored.is_whole {
            in_part.push(setup.name);
        }
        if let Some((what, steps)) = explored.broken {
            broken.push(format!("{}: {what}\n    {}", setup.name, steps.join("\n    ")));
        }
    }
    // Past the test runner, which shows what passing tests print only if it is told to.
    writeln!(std::io::stdout(), "explored {states} states in {configurations} configurations").unwrap();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(configurations > 0, "no configuration's name has {only:?} in it");
    assert!(in_part.is_empty(), "not seen as a whole any more: {in_part:?}");
}

#[test]
fn each_promise_is_broken_when_its_guard_is_taken_out() {
    for (sabotage, requests, faults, jumps, expected) in [
        (Sabotage::AnythingMayRunTwice, &SINGLE_EXECUTE[..], 2, 2, "is sent twice"),
        (Sabotage::NoTick, &SINGLE_READ, 2, 1, "never gets a last word"),
        (Sabotage::AnyReportCounts, &EXECUTE_EXECUTE, 0, 0, "a report of a run before its hand-over"),
        (Sabotage::CallsTakeNoTime, &SINGLE_OBSERVE, 0, 2, "is TIMED_OUT, and the device did it"),
        (Sabotage::NothingIsProven, &OBSERVE_OBSERVE, 1, 0, "last word of request 1 changed"),
        (Sabotage::AnyResultCounts, &READ_READ, 1, 1, "which was handed over after it"),
        (Sabotage::ResultsAreNotCounted, &READ_READ, 1, 0, "answers two requests"),
        (Sabotage::WritesAreNotOrdered, &WRITE_WRITE, 1, 0, "is sent after the newer one"),
        (Sabotage::AnyAnswerIsCreated, &WRITE_WRITE_OF_ONE_KEY, 1, 0, "is SUCCEEDED, and the device did not do it"),
        (Sabotage::TokensAreForgotten, &EXECUTE_SAME_TOKEN, 0, 0, "of the same token"),
        (Sabotage::SavedAgainIsNew, &EXECUTE_RESAVED, 0, 0, "saves request 1 again, and is to be sent"),
        (Sabotage::RejectedIsSent, &EXECUTE_SAME_TOKEN, 0, 0, "is REJECTED, and was sent"),
        (Sabotage::CanceledIsFinal, &EXECUTE_CANCEL, 0, 0, "is CANCELED, and the device did it"),
        (Sabotage::WakingIsForgotten, &SINGLE_OBSERVE, 1, 1, "says that its device was not woken, and it was"),
    ] {
        let setup = Setup { sabotage, ..setup("", requests, faults, jumps) };
        let explored = explore(&setup, 300_000);
        let (what, steps) =
            explored.broken.unwrap_or_else(|| panic!("{sabotage:?}: {} states, none broken", explored.states));
        assert!(what.contains(expected), "{sabotage:?}: {what}\n    {}", steps.join("\n    "));
        println!("{sabotage:?}: {what}\n    {}", steps.join("\n    "));
    }
}
