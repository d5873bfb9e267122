//! Hands over the requests that are due, oldest first, at a pace that Coiote bears.

use std::collections::VecDeque;
use std::sync::Arc;
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
use crate::run::{LedgerErrors, Run};

/// Things of a page of those that are due.
const PAGE: i32 = 500;

/// Most requests that a probe tries until one calls Coiote.
const PROBES: usize = 10;

/// Things whose requests have to fail until a probe counts Coiote as away: one request may fail while Coiote is there.
const PROBED_THINGS: usize = 3;

/// Time ahead in which a request counts as due while Coiote is away: more than its longest pause, so that none waits for the end
/// of its pause when Coiote is back.
const BEYOND_PAUSES: Millis = 20 * 60_000;

/// Pause before a request without a body is tried again.
const WITHOUT_BODY_PAUSE: Millis = 10 * 60_000;

/// Hands over requests that wait.
pub(crate) struct HandOver {
    ledger: Ledger,
    operation_request: OperationRequest,
    most_at_once: usize,
    /// End of the pause of requests without a body, and of their things.
    without_body: BoundedCache<String, Millis>,
}

/// Things with requests to hand over by the horizon.
struct Queue {
    horizon: Millis,
    pages: DuePages,
    things: VecDeque<DueThing>,
}

/// A thing, and its requests that this pass has tried.
struct DueThing {
    thing: String,
    tried: Vec<Name>,
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
        HandOver { ledger, operation_request, most_at_once, without_body: BoundedCache::default() }
    }

    /// Whether a waiting request is due by that time.
    pub(crate) async fn is_any_due(&self, by: Millis) -> Result<bool, ledger::Error> {
        let due = self.ledger.due(DueIndex::HandOver, 0, by, 100).await?;
        Ok(due.iter().any(|(_, thing)| !self.is_without_body(thing)))
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
        let horizon = if circuit.is_open() { now().saturating_add(BEYOND_PAUSES) } else { now() };
        let mut queue = Queue { horizon, pages: DuePages::until(horizon, PAGE), things: VecDeque::new() };
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
        self.work_off(run, queue, counts).await
    }

    /// Hands over the requests of the queue.
    async fn work_off(
        self: &Arc<Self>,
        run: &Run,
        mut queue: Queue,
        counts: &mut HandOverCounts,
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
                    if matches!(invoked.contact, Contact::Answered | Contact::NotMade) {
                        queue.things.push_back(thing);
                    }
                }
            }
        }
        Ok(pace.stops())
    }

    /// Tries the oldest requests until one shows whether Coiote answers. Where none is left that could show it, Coiote counts as
    /// back, and the next request shows it.
    async fn probe(&self, run: &Run, queue: &mut Queue, counts: &mut HandOverCounts) -> Result<bool, ledger::Error> {
        let (mut errors, mut tried, mut away, mut unread) = (LedgerErrors::default(), 0, 0, 0);
        while tried < PROBES && !run.is_over() {
            if queue.things.is_empty() {
                self.refill(queue).await?;
            }
            let Some(thing) = queue.things.pop_front() else { return Ok(away + unread == 0) };
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
                    match invoked.contact {
                        Contact::Answered => {
                            queue.things.push_front(thing);
                            return Ok(true);
                        }
                        Contact::NotMade => queue.things.push_front(thing),
                        Contact::Throttled => return Ok(false),
                        Contact::Away => {
                            away += 1;
                            if away == PROBED_THINGS {
                                return Ok(false);
                            }
                        }
                    }
                }
            }
        }
        Ok(false)
    }

    /// Reads the next page of things into an empty queue.
    async fn refill(&self, queue: &mut Queue) -> Result<(), ledger::Error> {
        while queue.things.is_empty()
            && let Some(from) = queue.pages.next_from()
        {
            let page = self.ledger.due(DueIndex::HandOver, from, queue.horizon, PAGE).await?;
            let things = queue.pages.take(page).into_iter();
            queue.things.extend(things.map(|thing| DueThing { thing, tried: Vec::new() }));
        }
        Ok(())
    }

    /// Hands over the next request of a thing.
    async fn step(&self, mut due: DueThing, horizon: Millis, time: Duration) -> (DueThing, Step) {
        let item = match self.ledger.load(&due.thing).await {
            Ok(item) => item,
            Err(error) => return (due, Step::Failed(error)),
        };
        let is_to_be_tried = |name: &Name| !due.tried.contains(name) && !self.is_without_body(&key(&due.thing, name));
        let next = item.device.due_actions(horizon.max(now())).into_iter().find_map(|action| match action {
            DueAction::HandOver { name } if is_to_be_tried(&name) => Some(name),
            _ => None,
        });
        let Some(name) = next else { return (due, Step::NoneLeft) };
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
        if self.without_body.get(&key).is_none() {
            let (request, code) = (name.to_string(), code::BODY_MISSING);
            tracing::warn!(thing, request, code, "the body of a request that waits is missing; it is left alone");
            metrics::counter!("Failures", "code" => code).increment(1);
        }
        let until = now().saturating_add(WITHOUT_BODY_PAUSE);
        self.without_body.insert(key, until);
        self.without_body.insert(thing.to_owned(), until);
    }

    fn is_without_body(&self, key: &str) -> bool {
        self.without_body.get(key).is_some_and(|until| until > now())
    }
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
