//! Hands over the requests that wait, oldest first, at a pace that Coiote bears.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bounded_cache::BoundedCache;
use lambda_support::now;
use ledger::{DueIndex, Ledger};
use requests::{DueAction, Millis, Name, Status, code};
use tokio::task::JoinSet;

use crate::contact::Contact;
use crate::counts::HandOverCounts;
use crate::due::DuePages;
use crate::operation_request::{Invoked, OperationRequest};
use crate::pace::{Pace, Stop};
use crate::persistent_failures::PersistentFailures;
use crate::run::{LedgerErrors, Run};

/// Things of a page of those with a request that waits.
const PAGE: i32 = 500;

/// Most requests that a probe tries until one calls Coiote.
const PROBES: usize = 10;

/// Things whose requests have to fail until a probe counts Coiote as away: one request may fail while Coiote is there.
const PROBED_THINGS: usize = 3;

/// Time for which a failure of a request although Coiote was back is remembered. A pause that Coiote has asked for may be longer.
const FAILURE_REMEMBERED: Millis = 20 * 60_000;

/// End of the index of waiting requests.
const END: Millis = Millis::MAX >> 1;

/// Pause before a request without a body is tried again.
const WITHOUT_BODY_PAUSE: Millis = 10 * 60_000;

/// Hands over requests that wait.
pub(crate) struct HandOver {
    ledger: Ledger,
    operation_request: OperationRequest,
    most_at_once: usize,
    /// End of the pause of requests without a body, and of things without a request that is due.
    paused: BoundedCache<String, Millis>,
    /// Requests that failed when Coiote was back, and until when that is remembered: also in an outage they wait so long for the end
    /// of their pause, so that several that always fail keep no other from Coiote.
    failed: BoundedCache<String, Millis>,
    /// Things whose requests always fail although others are answered. They come last on their page, so that many of them keep no
    /// other on it up.
    failing: PersistentFailures,
    /// Number of requests that Coiote has answered.
    answered: AtomicU64,
    /// Number of things whose turn in a probe has come.
    probed: AtomicUsize,
}

/// Things with requests that wait, and the time by which these have to be due.
struct Queue {
    horizon: Millis,
    pages: DuePages,
    /// In their order.
    things: VecDeque<DueThing>,
}

/// A thing, and its requests that this pass has tried.
struct DueThing {
    /// Whether its requests always fail.
    is_failing: bool,
    /// Place of its next request among those of all things.
    order: Millis,
    thing: String,
    tried: Vec<Name>,
}

impl DueThing {
    /// Order of the things of a page: the oldest request first, and those that always fail last.
    fn place(&self) -> (bool, Millis) {
        (self.is_failing, self.order)
    }
}

impl Queue {
    /// Inserts a thing at its place.
    fn insert(&mut self, thing: DueThing) {
        let place = self.things.partition_point(|other| other.place() <= thing.place());
        self.things.insert(place, thing);
    }

    /// Puts things back, and all in their order again.
    fn restore(&mut self, things: impl DoubleEndedIterator<Item = DueThing>) {
        things.rev().for_each(|thing| self.things.push_front(thing));
        self.things.make_contiguous().sort_by_key(DueThing::place);
    }
}

/// Result of trying a thing's next request.
enum Step {
    /// No request is due that was not tried.
    NoneLeft,
    Tried(Invoked),
    /// The thing's item could not be read.
    Failed(ledger::Error),
}

impl HandOver {
    /// `most_at_once`: most invocations at the same time.
    pub(crate) fn new(ledger: Ledger, operation_request: OperationRequest, most_at_once: usize) -> HandOver {
        let (paused, failed) = (BoundedCache::default(), BoundedCache::default());
        HandOver {
            ledger,
            operation_request,
            most_at_once,
            paused,
            failed,
            failing: PersistentFailures::default(),
            answered: AtomicU64::new(0),
            probed: AtomicUsize::new(0),
        }
    }

    /// Whether a waiting request is due by that time.
    pub(crate) async fn is_any_due(&self, by: Millis) -> Result<bool, ledger::Error> {
        let waiting = self.ledger.due(DueIndex::HandOver, 0, END, 100).await?;
        Ok(waiting.iter().any(|(_, thing)| self.paused.get(thing).is_none_or(|until| until <= by)))
    }

    /// Hands over all requests that are due, as far as Coiote takes them. Returns the reason to stop before the end, if any.
    ///
    /// While the circuit is open, a probe comes first. This is the one place that closes the circuit for a run.
    pub(crate) async fn pass(
        self: &Arc<Self>,
        run: &Run,
        counts: &mut HandOverCounts,
    ) -> Result<Option<Stop>, ledger::Error> {
        let circuit = self.ledger.circuit().await?;
        // While Coiote is away every request counts as due: none waits for the end of its pause when Coiote is back.
        let horizon = if circuit.is_open() { END } else { now() };
        let mut queue = Queue { horizon, pages: DuePages::until(END, PAGE), things: VecDeque::new() };
        self.refill(&mut queue).await?;
        counts.waiting = counts.waiting.max(queue.things.len());
        if circuit.is_open() {
            counts.is_coiote_away = true;
            if !self.probe(run, &mut queue, counts).await? {
                return Ok(Some(Stop::Outage));
            }
            self.ledger.record_coiote_answer().await?;
            counts.is_coiote_away = false;
            let away_ms = now().saturating_sub(circuit.open_since);
            tracing::info!(away_ms, "Coiote answers again; what waits is handed over");
        }
        self.work_off(run, queue, counts, circuit.is_open()).await
    }

    /// Hands over the requests of the queue. `is_back`: whether Coiote has just come back from an outage.
    async fn work_off(
        self: &Arc<Self>,
        run: &Run,
        mut queue: Queue,
        counts: &mut HandOverCounts,
        is_back: bool,
    ) -> Result<Option<Stop>, ledger::Error> {
        let mut pace = Pace::new(self.most_at_once);
        let mut errors = LedgerErrors::default();
        let mut under_way: JoinSet<(DueThing, Step)> = JoinSet::new();
        loop {
            while pace.stops().is_none() && !run.is_over() && under_way.len() < pace.now() {
                if queue.things.is_empty() {
                    self.refill(&mut queue).await?;
                }
                let Some(thing) = queue.things.pop_front() else { break };
                let (this, horizon, time) = (Arc::clone(self), queue.horizon, run.deadline.left());
                under_way.spawn(async move { this.step(thing, horizon, time).await });
            }
            counts.most_at_once = counts.most_at_once.max(under_way.len());
            let Some(joined) = under_way.join_next().await else { break };
            let Ok((thing, step)) = joined else { continue };
            match step {
                Step::NoneLeft => errors.reset(),
                Step::Failed(error) => errors.add(run, &thing.thing, error)?,
                Step::Tried(invoked) => {
                    errors.reset();
                    count(counts, run, &thing, &invoked);
                    pace.note(invoked.contact);
                    self.note(&thing, invoked.contact);
                    match invoked.contact {
                        Contact::Answered | Contact::NotMade => queue.insert(thing),
                        Contact::Away if is_back => self.note_failed(&thing),
                        Contact::Away | Contact::Throttled => {}
                    }
                }
            }
        }
        Ok(pace.stops())
    }

    /// Tries requests until one shows whether Coiote answers: the oldest one, and if it fails, those of other things in turn, as
    /// one request may fail while Coiote is there. Where none is left that could show it, Coiote counts as back, and the next
    /// request shows it.
    async fn probe(&self, run: &Run, queue: &mut Queue, counts: &mut HandOverCounts) -> Result<bool, ledger::Error> {
        let (mut errors, mut tried, mut unread, mut away) = (LedgerErrors::default(), 0, 0, Vec::new());
        while tried < PROBES && !run.is_over() {
            if queue.things.is_empty() {
                self.refill(queue).await?;
            }
            let Some(thing) = queue.things.pop_front() else { return Ok(away.is_empty() && unread == 0) };
            let (thing, step) = self.step(thing, queue.horizon, run.deadline.left()).await;
            match step {
                Step::NoneLeft => errors.reset(),
                Step::Failed(error) => {
                    unread += 1;
                    errors.add(run, &thing.thing, error)?;
                }
                Step::Tried(invoked) => {
                    errors.reset();
                    tried += 1;
                    count(counts, run, &thing, &invoked);
                    self.note(&thing, invoked.contact);
                    match invoked.contact {
                        Contact::Answered => {
                            queue.restore(away.into_iter().chain([thing]));
                            return Ok(true);
                        }
                        Contact::NotMade => queue.things.push_front(thing),
                        Contact::Throttled => return Ok(false),
                        Contact::Away => {
                            // It is tried again when another one has shown that Coiote is back.
                            away.push(DueThing { tried: Vec::new(), ..thing });
                            if away.len() == PROBED_THINGS {
                                return Ok(false);
                            }
                            if away.len() == 1 {
                                self.take_turns(queue);
                            }
                        }
                    }
                }
            }
        }
        Ok(false)
    }

    /// Begins the queue with the things whose turn it is.
    fn take_turns(&self, queue: &mut Queue) {
        let turn = self.probed.fetch_add(PROBED_THINGS - 1, Ordering::Relaxed);
        if let Some(turn) = turn.checked_rem(queue.things.len()) {
            queue.things.rotate_left(turn);
        }
    }

    /// Reads the next page of things into an empty queue.
    async fn refill(&self, queue: &mut Queue) -> Result<(), ledger::Error> {
        while queue.things.is_empty()
            && let Some(from) = queue.pages.next_from()
        {
            let page = self.ledger.due(DueIndex::HandOver, from, END, PAGE).await?;
            let things = queue.pages.take(page).into_iter();
            queue.things.extend(things.map(|(order, thing)| {
                let is_failing = self.failing.has_many(&thing);
                DueThing { is_failing, order, thing, tried: Vec::new() }
            }));
            queue.things.make_contiguous().sort_by_key(DueThing::place);
        }
        Ok(())
    }

    /// Hands over the next request of a thing.
    async fn step(&self, mut due: DueThing, horizon: Millis, time: Duration) -> (DueThing, Step) {
        let item = match self.ledger.load(&due.thing).await {
            Ok(item) => item,
            Err(error) => return (due, Step::Failed(error)),
        };
        let at = now();
        let mut to_be_tried = item.device.due_actions(horizon.max(at)).into_iter().filter_map(|action| {
            let DueAction::HandOver { name } = action else { return None };
            let (record, key) = (item.device.find(&name)?, key(&due.thing, &name));
            let is_due = record.due_at <= at || !is_after(&self.failed, &key, at);
            (is_due && !due.tried.contains(&name) && !is_after(&self.paused, &key, at))
                .then_some((name, record.expires_at))
        });
        let Some((name, _)) = to_be_tried.next() else {
            if let Some(until) = item.device.next_hand_over_at().filter(|until| *until > at) {
                self.paused.insert(due.thing.clone(), until);
            }
            return (due, Step::NoneLeft);
        };
        due.order = to_be_tried.next().map_or(due.order, |(_, order)| order);
        let invoked = self.operation_request.hand_over(&due.thing, &name, time).await;
        if invoked.is_without_body() {
            self.pause_without_body(&due.thing, &name);
        }
        due.tried.push(name);
        (due, Step::Tried(invoked))
    }

    /// Leaves a request without a body alone for a while: the body may still be on its way into the ledger. If it never comes, the
    /// request ends with its lifetime.
    fn pause_without_body(&self, thing: &str, name: &Name) {
        let key = key(thing, name);
        if self.paused.get(&key).is_none() {
            let (request, code) = (name.to_string(), code::BODY_MISSING);
            tracing::warn!(thing, request, code, "the body of a request that waits is missing; it is left alone");
            metrics::counter!("Failures", "code" => code).increment(1);
        }
        let until = now().saturating_add(WITHOUT_BODY_PAUSE);
        self.paused.insert(key, until);
        self.paused.insert(thing.to_owned(), until);
    }

    /// Notes whether Coiote has answered a request of the thing.
    fn note(&self, due: &DueThing, contact: Contact) {
        match contact {
            Contact::Answered => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                self.failing.forget(&due.thing);
            }
            Contact::Away => {
                self.failing.add(&due.thing, self.answered.load(Ordering::Relaxed));
            }
            Contact::Throttled | Contact::NotMade => {}
        }
    }

    /// Notes that the request that was tried last has failed although Coiote is back.
    fn note_failed(&self, due: &DueThing) {
        if let Some(name) = due.tried.last() {
            self.failed.insert(key(&due.thing, name), now().saturating_add(FAILURE_REMEMBERED));
        }
    }
}

fn is_after(times: &BoundedCache<String, Millis>, key: &str, at: Millis) -> bool {
    times.get(key).is_some_and(|time| time > at)
}

fn count(counts: &mut HandOverCounts, run: &Run, due: &DueThing, Invoked { status, code, .. }: &Invoked) {
    counts.invoked += 1;
    counts.scheduled += usize::from(*status == Some(Status::Scheduled));
    if status.is_none() {
        run.trouble(&due.thing, code.as_deref().unwrap_or_default(), "operation-request gave no answer");
    }
}

/// Key of a request of any thing: a thing's name holds no space.
fn key(thing: &str, name: &Name) -> String {
    format!("{thing} {name}")
}
