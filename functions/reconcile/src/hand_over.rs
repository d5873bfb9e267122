//! Hands over what waits: operation-request is invoked for each request that is due, oldest first, at a pace that Coiote bears.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::error::ProvideErrorMetadata;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use bounded_cache::BoundedCache;
use ledger::{DueIndex, Ledger};
use requests::{DueAction, Millis, Name, code};
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinSet;

use lambda_support::now;

use crate::due::Pages;
use crate::handle::Run;
use crate::pace::{Met, Pace, Stop};

/// Things of a page of those that are due.
const PAGE: i32 = 500;

/// While Coiote counts as away, so many requests are tried that end without asking it, until one has asked.
const PROBES: usize = 10;

/// Longest pause before a request is tried again, and more: when Coiote is back, nothing waits for its pause to end.
const BEYOND_PAUSES: Millis = 20 * 60_000;

/// A request whose body is missing is not tried again for so long.
const WITHOUT_BODY: Millis = 10 * 60_000;

/// So much longer than operation-request runs an answer of it may take.
const INVOCATION_LIMIT: Duration = Duration::from_secs(60);

/// The way to operation-request.
pub(crate) struct HandOver {
    ledger: Ledger,
    lambda: Client,
    function: String,
    most_at_once: usize,
    /// Until when requests, and their things, are left alone because a body is missing.
    without_body: BoundedCache<String, Millis>,
}

/// What handing over came to, of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct HandedOver {
    /// Things that were due when the run began, up to a page.
    pub(crate) waiting: usize,
    pub(crate) invoked: usize,
    pub(crate) scheduled: usize,
    /// Most at once.
    pub(crate) most_at_once: usize,
    pub(crate) is_coiote_away: bool,
}

/// A thing, and which of its requests were tried in this pass.
struct Unit {
    thing: String,
    tried: Vec<Name>,
}

/// What became of a thing's next request.
enum Step {
    /// None is due that was not tried.
    NoneLeft,
    Tried {
        met: Met,
        status: String,
        code: Option<String>,
    },
    /// The ledger could not be asked about it.
    Failed(ledger::Error),
}

/// The part of operation-request's answer that matters here.
#[derive(Debug, Deserialize)]
struct Answer {
    status: String,
    reason: Option<AnswerReason>,
}

#[derive(Debug, Deserialize)]
struct AnswerReason {
    code: String,
}

impl HandOver {
    /// `aws`: the configuration of the function's other clients. `function`: name or ARN of operation-request.
    pub(crate) fn new(
        ledger: Ledger,
        aws: &aws_sdk_lambda::config::Builder,
        function: String,
        most: usize,
    ) -> HandOver {
        // An answer takes as long as Coiote does; and one that did not come may have been a hand-over.
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(INVOCATION_LIMIT)
            .operation_timeout(INVOCATION_LIMIT)
            .build();
        let config = aws.clone().timeout_config(timeouts).retry_config(RetryConfig::disabled()).build();
        let lambda = Client::from_conf(config);
        HandOver { ledger, lambda, function, most_at_once: most, without_body: BoundedCache::default() }
    }

    /// Whether any request waits that is due by then.
    pub(crate) async fn is_any_due(&self, by: Millis) -> Result<bool, ledger::Error> {
        let due = self.ledger.due(DueIndex::HandOver, 0, by, 100).await?;
        Ok(due.iter().any(|(_, thing)| !self.is_without_body(thing)))
    }

    /// Hands over all that is due, as far as Coiote takes it. The word is why not all was.
    pub(crate) async fn pass(self: &Arc<Self>, run: &Run, sum: &mut HandedOver) -> Result<Option<Stop>, ledger::Error> {
        let circuit = self.ledger.circuit().await?;
        let horizon = if circuit.is_open() { now().saturating_add(BEYOND_PAUSES) } else { now() };
        let mut pages = Pages::until(horizon, PAGE);
        let mut queue = VecDeque::new();
        self.refill(&mut pages, &mut queue, horizon).await?;
        sum.waiting = sum.waiting.max(queue.len());
        if circuit.is_open() {
            sum.is_coiote_away = true;
            if !self.probe(run, &mut queue, horizon, sum).await? {
                return Ok(Some(Stop::Outage));
            }
            self.ledger.record_coiote_answer().await?;
            sum.is_coiote_away = false;
            let away_ms = now().saturating_sub(circuit.open_since);
            tracing::info!(away_ms, "Coiote answers again; what waits is handed over");
        }
        let mut pace = Pace::new(self.most_at_once);
        let mut failures = 0;
        let mut under_way: JoinSet<(Unit, Step)> = JoinSet::new();
        loop {
            while pace.stops().is_none() && !run.is_over() && under_way.len() < pace.now() {
                if queue.is_empty() {
                    self.refill(&mut pages, &mut queue, horizon).await?;
                }
                let Some(unit) = queue.pop_front() else { break };
                let (this, time) = (Arc::clone(self), run.deadline.left());
                under_way.spawn(async move { this.step(unit, horizon, time).await });
            }
            sum.most_at_once = sum.most_at_once.max(under_way.len());
            let Some(joined) = under_way.join_next().await else { break };
            let Ok((unit, step)) = joined else { continue };
            match step {
                Step::NoneLeft => failures = 0,
                Step::Failed(error) => {
                    failures += 1;
                    run.trouble(&unit.thing, error.code(), &error.to_string());
                    if run.is_of_the_ledger(&error, failures) {
                        return Err(error);
                    }
                }
                Step::Tried { met, status, code } => {
                    failures = 0;
                    sum.count(run, &unit, &status, code.as_deref());
                    pace.met(met);
                    if matches!(met, Met::Answer | Met::Nothing) {
                        queue.push_back(unit);
                    }
                }
            }
        }
        Ok(pace.stops())
    }

    /// Tries the oldest requests until one shows whether Coiote answers.
    async fn probe(
        &self,
        run: &Run,
        queue: &mut VecDeque<Unit>,
        horizon: Millis,
        sum: &mut HandedOver,
    ) -> Result<bool, ledger::Error> {
        for _ in 0..PROBES {
            let Some(unit) = queue.pop_front() else {
                // Nothing waits that could show it: the next request does.
                self.ledger.record_coiote_answer().await?;
                return Ok(true);
            };
            let (unit, step) = self.step(unit, horizon, run.deadline.left()).await;
            match step {
                Step::NoneLeft => {}
                Step::Failed(error) => return Err(error),
                Step::Tried { met, status, code } => {
                    sum.count(run, &unit, &status, code.as_deref());
                    match met {
                        Met::Answer => {
                            queue.push_front(unit);
                            return Ok(true);
                        }
                        Met::Nothing => queue.push_front(unit),
                        Met::Throttling | Met::Outage => return Ok(false),
                    }
                }
            }
        }
        Ok(false)
    }

    async fn refill(
        &self,
        pages: &mut Pages,
        queue: &mut VecDeque<Unit>,
        horizon: Millis,
    ) -> Result<(), ledger::Error> {
        while queue.is_empty()
            && let Some(from) = pages.next_from()
        {
            let page = self.ledger.due(DueIndex::HandOver, from, horizon, PAGE).await?;
            queue.extend(pages.take(page).into_iter().map(|thing| Unit { thing, tried: Vec::new() }));
        }
        Ok(())
    }

    /// Hands over the next request of a thing.
    async fn step(&self, mut unit: Unit, horizon: Millis, time: Duration) -> (Unit, Step) {
        let item = match self.ledger.load(&unit.thing).await {
            Ok(item) => item,
            Err(error) => return (unit, Step::Failed(error)),
        };
        let next = item.device.due_actions(horizon.max(now())).into_iter().find_map(|wanted| match wanted {
            DueAction::HandOver { name }
                if !unit.tried.contains(&name) && !self.is_without_body(&key(&unit.thing, &name)) =>
            {
                Some(name)
            }
            _ => None,
        });
        let Some(name) = next else { return (unit, Step::NoneLeft) };
        let step = self.invoke(&unit.thing, &name, time).await;
        unit.tried.push(name);
        (unit, step)
    }

    async fn invoke(&self, thing: &str, name: &Name, time: Duration) -> Step {
        let payload = json!({"thingName": thing, "due": name.to_string()});
        let call = self
            .lambda
            .invoke()
            .function_name(&self.function)
            .invocation_type(InvocationType::RequestResponse)
            .payload(Blob::new(payload.to_string()))
            .send();
        let failed = |met, code: &str| Step::Tried { met, status: String::new(), code: Some(code.to_owned()) };
        let output = match tokio::time::timeout(time, call).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => {
                let is_busy = error.code() == Some("TooManyRequestsException");
                let (request, reason) = (name.to_string(), lambda_support::aws::error_summary(&error));
                tracing::warn!(thing, request, reason, "operation-request could not be invoked");
                return failed(if is_busy { Met::Throttling } else { Met::Outage }, "INVOCATION_FAILED");
            }
            // It goes on without us.
            Err(_) => return failed(Met::Outage, "OUT_OF_TIME"),
        };
        let payload = output.payload().map(Blob::as_ref).unwrap_or_default();
        if output.function_error().is_some() {
            let error: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
            let code = error.get("errorType").and_then(|code| code.as_str()).unwrap_or("INVOCATION_FAILED");
            return failed(Met::Outage, code);
        }
        let Ok(Answer { status, reason }) = serde_json::from_slice(payload) else {
            return failed(Met::Outage, "INVOCATION_FAILED");
        };
        let code = reason.map(|reason| reason.code);
        if code.as_deref() == Some(code::BODY_MISSING) {
            self.leave_alone(thing, name);
        }
        Step::Tried { met: Met::of(&status, code.as_deref()), status, code }
    }

    /// The body may be on its way into the ledger; or it never comes, and the request ends with its lifetime.
    fn leave_alone(&self, thing: &str, name: &Name) {
        let key = key(thing, name);
        if self.without_body.get(&key).is_none() {
            let (request, code) = (name.to_string(), code::BODY_MISSING);
            tracing::warn!(thing, request, code, "the body of a request that waits is missing; it is left alone");
            metrics::counter!("Failures", "code" => code).increment(1);
        }
        let until = now().saturating_add(WITHOUT_BODY);
        self.without_body.insert(key, until);
        self.without_body.insert(thing.to_owned(), until);
    }

    fn is_without_body(&self, key: &str) -> bool {
        self.without_body.get(key).is_some_and(|until| until > now())
    }
}

impl HandedOver {
    fn count(&mut self, run: &Run, unit: &Unit, status: &str, code: Option<&str>) {
        self.invoked += 1;
        self.scheduled += usize::from(status == "SCHEDULED");
        if status.is_empty() {
            run.trouble(&unit.thing, code.unwrap_or_default(), "operation-request gave no answer");
        }
    }
}

/// A thing's name holds no space.
fn key(thing: &str, name: &Name) -> String {
    format!("{thing} {name}")
}
