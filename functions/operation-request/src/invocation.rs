//! An invocation for one request: the events and answers that it makes, and its calls on the ledger within the time limit.

use std::time::{Duration, Instant};

use lambda_runtime::{Diagnostic, LambdaEvent};
use lambda_support::{Deadline, diagnostic, now};
use ledger::{Item, Ledger};
use requests::{Answer, ClaimDue, Event, Millis, Name, NotHandedOver, Reason, Status, Verdict};
use shadow::{Envelope, ThingName};

use crate::forward::Delivery;
use crate::handle::Service;

/// Time after its deadline at which a run surely has ended: clocks differ.
const VOID_AFTER: Millis = 30_000;

/// Result of an invocation. An error makes Lambda try again, and keep the event in the end.
pub(crate) type Outcome = Result<Answer, Diagnostic>;

/// A run of the function: what all requests that it hands over share.
pub(crate) struct Run {
    pub(crate) request_id: String,
    pub(crate) trace_id: Option<String>,
    pub(crate) deadline: Deadline,
    /// When this run surely has ended.
    pub(crate) void_at: Millis,
    /// Tells this run from every other, also of the same invocation.
    pub(crate) mark: String,
}

/// A run and the event of one request.
pub(crate) struct Invocation<'a> {
    pub(crate) service: &'a Service,
    pub(crate) run: &'a Run,
    pub(crate) begun: Instant,
    pub(crate) envelope: Envelope,
    /// The event, as JSON.
    pub(crate) body: &'a str,
}

impl Run {
    pub(crate) fn of<T>(event: &LambdaEvent<T>) -> Run {
        let context = &event.context;
        Run {
            request_id: context.request_id.clone(),
            trace_id: lambda_support::trace_id(context).map(str::to_owned),
            deadline: Deadline::of(context),
            void_at: context.deadline.max(now()).saturating_add(VOID_AFTER),
            mark: format!("{:08x}", fastrand::u32(..)),
        }
    }
}

impl Invocation<'_> {
    pub(crate) fn thing(&self) -> &ThingName {
        &self.envelope.thing
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.service.ledger
    }

    /// Terms for handing over a request with that operation.
    pub(crate) fn delivery(&self, operation: &str) -> Delivery<'_> {
        let may_run_twice = requests::may_run_twice(operation);
        Delivery { thing: self.thing(), may_run_twice, deadline: self.run.deadline }
    }

    /// Answer about the event as a whole.
    pub(crate) fn answer(&self, status: Status) -> Answer {
        let thing = self.thing().as_str();
        Answer { client_token: self.envelope.client_token.clone(), ..Answer::new(thing, status, &self.run.request_id) }
    }

    /// Answer from the request's record.
    pub(crate) fn recorded(&self, item: &Item, name: &Name) -> Answer {
        let record = item.device.find(name);
        record.map_or_else(
            || self.answer(Status::Ignored),
            |record| Answer::from_record(self.thing().as_str(), record, &self.run.request_id),
        )
    }

    /// Answer about a request that came before.
    pub(crate) fn duplicate(&self, name: &Name, status: Status) -> Answer {
        let why = format!("this request came before and is {}; it is not sent twice", status.as_str());
        let answer = Answer { request: Some(name.clone()), ..self.answer(Status::Ignored) };
        answer.with_reason(Reason::new(requests::code::DUPLICATE, why))
    }

    /// Event of this run that takes a waiting request.
    pub(crate) fn take(&self, name: &Name) -> Event {
        Event::ClaimDue(ClaimDue {
            name: name.clone(),
            mark: self.run.mark.clone(),
            run: self.run.request_id.clone(),
            at: now(),
            void_at: self.run.void_at,
        })
    }

    /// Event of a request that this run cannot hand over, neither now nor later.
    pub(crate) fn not_done(&self, name: &Name, reason: Reason) -> NotHandedOver {
        NotHandedOver {
            name: name.clone(),
            mark: self.run.mark.clone(),
            reason,
            may_have_reached_coiote: false,
            retry_at: None,
            at: now(),
        }
    }

    /// The device's item.
    pub(crate) async fn load(&self) -> Result<Item, Diagnostic> {
        self.within(self.ledger().load(self.thing().as_str())).await
    }

    /// Applies events to the device's item. The verdict is that of the first one.
    pub(crate) async fn apply(&self, item: Item, events: &[Event]) -> Result<(Item, Verdict), Diagnostic> {
        let applied = self.ledger().apply(self.thing().as_str(), item, events, now());
        let (item, verdicts) = self.within_reserve(applied).await?;
        Ok((item, verdicts.into_iter().next().unwrap_or(Verdict::Unchanged)))
    }

    /// Result of a call on the ledger, within the time for work.
    pub(crate) async fn within<T>(
        &self,
        call: impl Future<Output = Result<T, ledger::Error>>,
    ) -> Result<T, Diagnostic> {
        in_time(self.run.deadline.left(), call).await
    }

    /// Result of a call on the ledger, within the time that is kept back for the outcome.
    pub(crate) async fn within_reserve<T>(
        &self,
        call: impl Future<Output = Result<T, ledger::Error>>,
    ) -> Result<T, Diagnostic> {
        in_time(self.run.deadline.left_for_outcome(), call).await
    }

    /// Makes a call that may be given up, within the time that is kept back for the outcome.
    pub(crate) async fn try_within_reserve(&self, call: impl Future<Output = ()>) {
        let _ = tokio::time::timeout(self.run.deadline.left_for_outcome(), call).await;
    }
}

async fn in_time<T>(time: Duration, call: impl Future<Output = Result<T, ledger::Error>>) -> Result<T, Diagnostic> {
    let too_late = |_| ledger::Error::Unavailable("no answer within the time that was left".to_owned());
    let result = tokio::time::timeout(time, call).await.unwrap_or_else(|elapsed| Err(too_late(elapsed)));
    result.map_err(|error| diagnostic(error.code(), error.to_string()))
}
