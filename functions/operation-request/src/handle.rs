//! From the event to the answer.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lambda_runtime::{Diagnostic, LambdaEvent};
use lwm2m::finding::Finding;
use lwm2m::{Accepted, Operation, OperationName, Request, Strictness, Task};
use memory::Memory;
use runtime::{Attempt, Attempts, Deadline, diagnostic, milliseconds};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};
use shadow::datamodel::Scope;
use shadow::operation::{Claim, Claimant, Delivery, Held, Key, OUTCOME_UNKNOWN, OperationShadows, Recorded};
use shadow::{Answer, Envelope, Reason, Status};
use tracing::Instrument;

use crate::forward::{Created, Device, ForwardError, Forwarder, may_get_better};

/// Longer lists are not written into the shadow: they would take the room of answers.
const LONGEST_INSTANCES_OF: usize = 256;

/// Everything that outlives an invocation.
pub(crate) struct Service {
    forwarder: Arc<Forwarder>,
    shadows: OperationShadows,
    attempts: Attempts,
    strictness: Strictness,
    /// Tasks whose answer could not be written, by request id: the next attempt writes it, and sends nothing.
    unanswered: Memory<String, Created>,
}

/// One invocation.
struct Invocation<'a> {
    request_id: &'a str,
    begun: Instant,
    attempt: Attempt,
    deadline: Deadline,
    envelope: Envelope,
}

/// What an invocation comes to: an answer, or one that a later attempt may better.
type Ended = Result<Answer, Unsettled>;

/// Its reason becomes the error of the function, so that Lambda tries again and keeps the event in the end.
struct Unsettled(Box<Answer>);

impl Invocation<'_> {
    fn answer(&self, status: Status, operation: Option<&str>) -> Answer {
        Answer::new(status, self.request_id).about(&self.envelope, operation)
    }

    /// `attempt`: which one it is, as far as is known.
    fn unsettled(&self, operation: Option<&str>, attempt: u32, reason: Reason) -> Unsettled {
        let status = if self.attempt.is_last(attempt) { Status::Failed } else { Status::InProgress };
        Unsettled(Box::new(Answer { attempt: Some(attempt), ..self.answer(status, operation).because(reason) }))
    }

    /// The last line of the invocation, and its metrics.
    fn ended(&self, ended: Ended) -> Result<Answer, Diagnostic> {
        let (answer, error) = match ended {
            Ok(answer) => (answer, None),
            Err(Unsettled(answer)) => {
                let error = answer.reason.as_ref().map(|reason| diagnostic(&reason.code, &reason.message));
                (*answer, error)
            }
        };
        let Answer { task_id, attempt, .. } = &answer;
        let status = answer.status.as_str();
        let (code, reason) =
            answer.reason.as_ref().map(|reason| (reason.code.as_ref(), reason.message.as_str())).unzip();
        let duration_ms = milliseconds(self.begun);
        match answer.status {
            Status::Rejected => tracing::warn!(status, code, reason, duration_ms, "request rejected"),
            Status::InProgress => tracing::warn!(status, code, reason, attempt, duration_ms, "request waits"),
            Status::Failed => tracing::error!(status, code, reason, attempt, duration_ms, "request failed"),
            Status::Scheduled | Status::Succeeded => {
                tracing::info!(status, task_id, code, reason, duration_ms, "request scheduled");
            }
            Status::Ignored => tracing::info!(status, code, reason, duration_ms, "nothing to do"),
        }
        self.count(&answer);
        error.map_or(Ok(answer), Err)
    }

    fn count(&self, answer: &Answer) {
        let code = answer.reason.as_ref().map(|reason| reason.code.to_string()).unwrap_or_default();
        if answer.status == Status::Ignored {
            if code == DUPLICATE {
                metrics::counter!("DuplicatesDropped").increment(1);
            }
            return;
        }
        // What a request calls its operation may be anything.
        let operation: Option<OperationName> = answer.operation.as_deref().and_then(|name| name.parse().ok());
        let operation = operation.map_or("unknown", OperationName::as_str);
        metrics::counter!("Requests", "operation" => operation, "status" => answer.status.as_str()).increment(1);
        if answer.status == Status::Scheduled {
            if let Some(time) = self.envelope.timestamp.map(milliseconds_since) {
                metrics::histogram!("TimeToSchedule").record(time);
            }
        } else {
            metrics::counter!("Failures", "code" => code).increment(1);
        }
    }
}

impl Service {
    pub(crate) fn new(forwarder: Forwarder, shadows: OperationShadows, strictness: Strictness) -> Service {
        let forwarder = Arc::new(forwarder);
        Service { forwarder, shadows, attempts: Attempts::default(), strictness, unanswered: Memory::default() }
    }

    /// What can be done before the first event is there.
    pub(crate) fn warm_up(&self) {
        self.forwarder.warm_up();
    }

    /// Answers an event of the rule. What is wrong with a request is its answer; what can get better by itself, or cannot
    /// be answered, is an error of the function, so that Lambda tries again and keeps the event in the end.
    pub(crate) async fn event(&self, event: LambdaEvent<Box<RawValue>>) -> Result<Answer, Diagnostic> {
        let LambdaEvent { payload, context } = event;
        let (request_id, begun, deadline) = (context.request_id.as_str(), Instant::now(), Deadline::of(&context));
        let opened = Envelope::open(&payload);
        let envelope = opened.as_ref().ok().map(|(envelope, _)| envelope);
        let span = tracing::info_span!(
            "request",
            request_id,
            trace_id = runtime::trace_id(&context),
            thing = envelope.map(|envelope| envelope.thing.as_str()),
            version = envelope.and_then(|envelope| envelope.version),
            client_token = envelope.and_then(|envelope| envelope.client_token.as_deref()),
            operation = tracing::field::Empty,
        );
        let answered = async {
            let (envelope, fields) = opened.map_err(|reason| {
                let (status, code) = (Status::Rejected.as_str(), "EVENT_INVALID");
                tracing::error!(status, code, reason, duration_ms = milliseconds(begun), "event refused");
                metrics::counter!("Failures", "code" => code).increment(1);
                diagnostic(code, reason)
            })?;
            let attempt = self.attempts.begin(request_id);
            let invocation = Invocation { request_id, begun, attempt, deadline, envelope };
            let ended = self.request(&invocation, fields).await;
            invocation.ended(ended)
        };
        let answered = answered.instrument(span).await;
        self.forwarder.rest(deadline).await;
        answered
    }

    async fn request(&self, invocation: &Invocation<'_>, mut fields: Map<String, Json>) -> Ended {
        // What is left of a request that was removed from the shadow (`"operation": null`) asks for nothing.
        let removes = fields.get("operation").is_some_and(Json::is_null);
        let request = Request::take(|field| fields.remove(field));
        if removes && request.is_empty() {
            return Ok(invocation.answer(Status::Ignored, None));
        }
        let named = request.operation.as_ref().and_then(Json::as_str).map(str::to_owned);
        match request.parse(self.strictness) {
            Ok(accepted) => {
                tracing::Span::current().record("operation", accepted.operation.name().as_str());
                tracing::info!("request is valid");
                self.valid(invocation, accepted).await
            }
            Err(findings) => {
                let reason = Reason::joined(findings.into_iter().map(reason));
                let answer = invocation.answer(Status::Rejected, named.as_deref()).because(reason);
                match self.claim(invocation, Delivery::AtLeastOnce, answer.clone()).await? {
                    Claim::Taken(_) | Claim::Interrupted(_) | Claim::Forgotten(_) => Ok(answer),
                    Claim::Recorded(recorded) => recorded_already(invocation, &recorded, named.as_deref()),
                }
            }
        }
    }

    async fn valid(&self, invocation: &Invocation<'_>, accepted: Accepted) -> Ended {
        let Accepted { operation, notices } = accepted;
        let name = operation.name().as_str();
        let delivery = if operation.name().may_run_twice() { Delivery::AtLeastOnce } else { Delivery::AtMostOnce };
        let claim = Answer {
            instances_of: resources_read_in_part(&operation),
            ..invocation.answer(Status::InProgress, Some(name))
        };
        let (claim, found) = self.claim_and_find(invocation, delivery, claim).await?;
        let mut held = match claim {
            Claim::Taken(held) => held,
            Claim::Recorded(recorded) => return recorded_already(invocation, &recorded, Some(name)),
            Claim::Interrupted(held) if self.unanswered_task(invocation).is_some() => held,
            Claim::Interrupted(mut held) => {
                let why = "an earlier attempt ended without a word; it may have reached Coiote and is not sent twice";
                let answer = invocation.answer(Status::Failed, Some(name)).because(Reason::new(OUTCOME_UNKNOWN, why));
                return self.last_word(invocation, &mut held, answer).await;
            }
            Claim::Forgotten(mut held) => {
                let why = "eight newer requests of this device were answered before it came; whether it came before, and was \
                           sent, is not known any more, and it is not sent twice";
                let answer = invocation.answer(Status::Failed, Some(name)).because(Reason::new(OUTCOME_UNKNOWN, why));
                return self.last_word(invocation, &mut held, answer).await;
            }
        };

        let task = Task::from(&operation);
        tracing::debug!(?task, "task");
        let (thing, deadline) = (&invocation.envelope.thing, invocation.deadline);
        let created = match (self.unanswered_task(invocation), found) {
            (Some(created), _) => Ok(created),
            (None, Some(Err(error))) => Err(error),
            (None, Some(Ok(device))) => self.forwarder.create(&device, thing, &task, delivery, deadline).await,
            (None, None) => Err(ForwardError::OutOfTime),
        };
        let created = match created {
            Ok(created) => created,
            Err(error) => return self.not_handed_over(invocation, &mut held, name, &error).await,
        };
        let notices: Vec<Reason> = notices.into_iter().map(reason).collect();
        let mut answer = invocation.answer(Status::Scheduled, Some(name)).because(Reason::joined(notices.clone()));
        answer.task_id = Some(created.task_id.clone());
        // Before the device is woken: its result must not find a request that nobody has handed over.
        self.unanswered.put(invocation.request_id.to_owned(), created.clone());
        let written = self.write(invocation, &mut held, answer.clone()).await;
        let not_woken = self.forwarder.wake(&created, invocation.deadline).await;
        written?;
        self.unanswered.forget(invocation.request_id);
        if let Some(not_woken) = not_woken {
            answer.reason = Reason::joined(notices.into_iter().chain([not_woken]));
            // The request has its last word; that its device sleeps on is only said as well.
            if let Err(Unsettled(unwritten)) = self.write(invocation, &mut held, answer.clone()).await {
                let (code, reason) = unwritten.reason.map(|reason| (reason.code.into_owned(), reason.message)).unzip();
                tracing::warn!(code, reason, "the notice is not in the shadow");
            }
        }
        Ok(answer)
    }

    /// Claims the request, and finds its device meanwhile: both take round trips, and finding changes nothing. A device is
    /// found only where there is a task to be sent to it.
    async fn claim_and_find(
        &self,
        invocation: &Invocation<'_>,
        delivery: Delivery,
        answer: Answer,
    ) -> Result<(Claim, Option<Result<Device, ForwardError>>), Unsettled> {
        let mut find = pin!(self.forwarder.find(&invocation.envelope.thing, delivery, invocation.deadline));
        let mut claim = pin!(self.claim(invocation, delivery, answer));
        let is_sent = self.unanswered_task(invocation).is_some();
        let (begun, mut found) = (Instant::now(), None);
        let claim = loop {
            tokio::select! {
                biased;
                claim = &mut claim => break claim?,
                device = &mut find, if found.is_none() && !is_sent => found = Some(device),
            }
        };
        let duration_ms = milliseconds(begun);
        if let Claim::Taken(held) = &claim {
            tracing::info!(call = "claim", attempt = held.attempt, duration_ms, "request claimed");
            if found.is_none() && !is_sent {
                found = Some(find.await);
            }
        }
        Ok((claim, found))
    }

    async fn claim(&self, invocation: &Invocation<'_>, delivery: Delivery, answer: Answer) -> Result<Claim, Unsettled> {
        let envelope = &invocation.envelope;
        let (thing, redriven) = (&envelope.thing, envelope.redriven);
        let claimant = Claimant { thing, key: Key::of(envelope), delivery, redriven };
        let operation = answer.operation.clone();
        let claimed = within(invocation.deadline.left(), self.shadows.claim(&claimant, answer)).await;
        claimed.map_err(|error| invocation.unsettled(operation.as_deref(), 1, not_written(&error)))
    }

    async fn write(&self, invocation: &Invocation<'_>, held: &mut Held, answer: Answer) -> Result<(), Unsettled> {
        let (operation, attempt) = (answer.operation.clone(), held.attempt);
        let write = self.shadows.answer(&invocation.envelope.thing, held, answer);
        let written = within(invocation.deadline.left_for_the_outcome(), write).await;
        written.map_err(|error| invocation.unsettled(operation.as_deref(), attempt, not_written(&error)))
    }

    async fn last_word(&self, invocation: &Invocation<'_>, held: &mut Held, answer: Answer) -> Ended {
        self.write(invocation, held, answer.clone()).await.map(|()| answer)
    }

    async fn not_handed_over(
        &self,
        invocation: &Invocation<'_>,
        held: &mut Held,
        operation: &str,
        error: &ForwardError,
    ) -> Ended {
        let reason = Reason::new(error.code(), error.to_string());
        if !error.may_get_better() {
            let answer = invocation.answer(Status::Failed, Some(operation)).because(reason);
            return self.last_word(invocation, held, answer).await;
        }
        let Unsettled(answer) = invocation.unsettled(Some(operation), held.attempt, reason);
        // Whether it could be written or not, this is the error to be told.
        let _ = self.write(invocation, held, (*answer).clone()).await;
        Err(Unsettled(answer))
    }

    /// The task that an earlier attempt at this event created here.
    fn unanswered_task(&self, invocation: &Invocation<'_>) -> Option<Created> {
        self.unanswered.get(invocation.request_id)
    }
}

/// Said of a request that came before.
const DUPLICATE: &str = "DUPLICATE";

/// The request was dealt with before, or somebody else is at it.
fn recorded_already(invocation: &Invocation<'_>, recorded: &Recorded, operation: Option<&str>) -> Ended {
    let is_ours = recorded.request_id.as_deref() == Some(invocation.request_id);
    let reason = recorded.reason.as_ref().filter(|reason| is_ours && may_get_better(&reason.code));
    if let (Some(Status::Failed), Some(reason)) = (recorded.status, reason) {
        // The attempts are used up, and the shadow says so. The error takes the event on into the failure queue.
        let attempt = recorded.attempt.unwrap_or(1);
        let answer = invocation.answer(Status::Failed, operation).because(reason.clone());
        return Err(Unsettled(Box::new(Answer { attempt: Some(attempt), ..answer })));
    }
    let status = recorded.status.map_or("IN_PROGRESS", Status::as_str);
    let why = format!("this request came before and is {status}; it is not sent twice");
    Ok(invocation.answer(Status::Ignored, operation).because(Reason::new(DUPLICATE, why)))
}

/// What a shadow can say of it in little room.
fn resources_read_in_part(operation: &Operation) -> Vec<String> {
    let resources: Vec<String> = operation.resources_read_in_part().iter().map(ToString::to_string).collect();
    let length: usize = resources.iter().map(String::len).sum();
    if length > LONGEST_INSTANCES_OF { vec![Scope::ANY.to_owned()] } else { resources }
}

async fn within<T>(time: Duration, call: impl Future<Output = Result<T, shadow::Error>>) -> Result<T, shadow::Error> {
    let too_late = |_| shadow::Error::Unavailable("no answer within the time that was left".to_owned());
    tokio::time::timeout(time, call).await.map_err(too_late)?
}

fn not_written(error: &shadow::Error) -> Reason {
    let code = match error {
        shadow::Error::TooLarge => "OPERATION_SHADOW_FULL",
        _ => "ANSWER_NOT_WRITTEN",
    };
    Reason::new(code, error.to_string())
}

/// Since a time that is known to the second.
fn milliseconds_since(seconds: u64) -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.saturating_sub(Duration::from_secs(seconds)).as_secs_f64() * 1_000.0
}

fn reason(finding: Finding) -> Reason {
    Reason::new(finding.code.as_str(), finding.message)
}
