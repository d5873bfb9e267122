//! From the event to the answer.

use std::time::Duration;

use lambda_runtime::{Diagnostic, LambdaEvent};
use lwm2m::finding::Finding;
use lwm2m::{Accepted, Operation, Request, Strictness, Task};
use memory::Memory;
use runtime::{Attempt, Attempts, Deadline, diagnostic};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};
use shadow::datamodel::Scope;
use shadow::operation::{Claim, Claimant, Delivery, Held, Key, OUTCOME_UNKNOWN, OperationShadows, Recorded};
use shadow::{Answer, Envelope, Reason, Status};
use tracing::Instrument;

use crate::forward::{Created, ForwardError, Forwarder, may_get_better};

/// Longer lists are not written into the shadow: they would take the room of answers.
const LONGEST_INSTANCES_OF: usize = 256;

/// Everything that outlives an invocation.
pub(crate) struct Service {
    forwarder: Forwarder,
    shadows: OperationShadows,
    attempts: Attempts,
    strictness: Strictness,
    /// Tasks whose answer could not be written, by request id: the next attempt writes it, and sends nothing.
    unanswered: Memory<String, Created>,
}

/// One invocation.
struct Invocation<'a> {
    request_id: &'a str,
    attempt: Attempt,
    deadline: Deadline,
    envelope: Envelope,
}

impl Invocation<'_> {
    fn answer(&self, status: Status, operation: Option<&str>) -> Answer {
        Answer::new(status, self.request_id).about(&self.envelope, operation)
    }
}

impl Service {
    pub(crate) fn new(forwarder: Forwarder, shadows: OperationShadows, strictness: Strictness) -> Service {
        Service { forwarder, shadows, attempts: Attempts::default(), strictness, unanswered: Memory::default() }
    }

    /// Answers an event of the rule. What is wrong with a request is its answer; what can get better by itself, or cannot
    /// be answered, is an error of the function, so that Lambda tries again and keeps the event in the end.
    pub(crate) async fn event(&self, event: LambdaEvent<Box<RawValue>>) -> Result<Answer, Diagnostic> {
        let request_id = event.context.request_id.clone();
        let deadline = Deadline::of(&event.context);
        let span = tracing::info_span!(
            "request",
            request_id,
            thing = tracing::field::Empty,
            version = tracing::field::Empty,
            client_token = tracing::field::Empty,
            operation = tracing::field::Empty,
        );
        async {
            let (envelope, fields) = Envelope::open(&event.payload).map_err(|why| {
                tracing::error!(
                    status = Status::Rejected.as_str(),
                    code = "EVENT_INVALID",
                    reason = why,
                    "event refused"
                );
                diagnostic("EVENT_INVALID", why)
            })?;
            let span = tracing::Span::current();
            span.record("thing", envelope.thing.as_str());
            span.record("version", envelope.version);
            span.record("client_token", envelope.client_token.as_deref());
            let attempt = self.attempts.begin(&request_id);
            let invocation = Invocation { request_id: &request_id, attempt, deadline, envelope };
            self.request(&invocation, fields).await
        }
        .instrument(span)
        .await
    }

    async fn request(&self, invocation: &Invocation<'_>, mut fields: Map<String, Json>) -> Result<Answer, Diagnostic> {
        // What is left of a request that was removed from the shadow (`"operation": null`) asks for nothing.
        let removes = fields.get("operation").is_some_and(Json::is_null);
        let request = Request::take(|field| fields.remove(field));
        if removes && request.is_empty() {
            return Ok(logged(invocation.answer(Status::Ignored, None)));
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
                    Claim::Taken(_) | Claim::Interrupted(_) | Claim::Forgotten(_) => Ok(logged(answer)),
                    Claim::Recorded(recorded) => recorded_already(invocation, &recorded, named.as_deref()),
                }
            }
        }
    }

    async fn valid(&self, invocation: &Invocation<'_>, accepted: Accepted) -> Result<Answer, Diagnostic> {
        let Accepted { operation, notices } = accepted;
        let name = operation.name().as_str();
        let delivery = if operation.name().may_run_twice() { Delivery::AtLeastOnce } else { Delivery::AtMostOnce };
        let claim = Answer {
            instances_of: resources_read_in_part(&operation),
            ..invocation.answer(Status::InProgress, Some(name))
        };
        let mut held = match self.claim(invocation, delivery, claim).await? {
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
        tracing::info!(attempt = held.attempt, "request claimed");

        let task = Task::from(&operation);
        tracing::debug!(?task, "task");
        let created = match self.unanswered_task(invocation) {
            Some(created) => Ok(created),
            None => self.forwarder.create(&invocation.envelope.thing, &task, delivery, invocation.deadline).await,
        };
        let created = match created {
            Ok(created) => created,
            Err(error) => return self.not_handed_over(invocation, &mut held, name, error).await,
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
            if let Err(error) = self.write(invocation, &mut held, answer.clone()).await {
                tracing::warn!(code = error.error_type, "the notice is not in the shadow");
            }
        }
        Ok(logged(answer))
    }

    async fn claim(
        &self,
        invocation: &Invocation<'_>,
        delivery: Delivery,
        answer: Answer,
    ) -> Result<Claim, Diagnostic> {
        let envelope = &invocation.envelope;
        let (thing, redriven) = (&envelope.thing, envelope.redriven);
        let claimant = Claimant { thing, key: Key::of(envelope), delivery, redriven };
        let claimed = within(invocation.deadline.left(), self.shadows.claim(&claimant, answer)).await;
        claimed.map_err(|error| not_written(&error))
    }

    async fn write(&self, invocation: &Invocation<'_>, held: &mut Held, answer: Answer) -> Result<(), Diagnostic> {
        let write = self.shadows.answer(&invocation.envelope.thing, held, answer);
        within(invocation.deadline.left_for_the_outcome(), write).await.map_err(|error| not_written(&error))
    }

    async fn last_word(
        &self,
        invocation: &Invocation<'_>,
        held: &mut Held,
        answer: Answer,
    ) -> Result<Answer, Diagnostic> {
        self.write(invocation, held, answer.clone()).await?;
        Ok(logged(answer))
    }

    async fn not_handed_over(
        &self,
        invocation: &Invocation<'_>,
        held: &mut Held,
        operation: &str,
        error: ForwardError,
    ) -> Result<Answer, Diagnostic> {
        let is_last = invocation.attempt.is_last(held.attempt);
        let status = if error.may_get_better() && !is_last { Status::InProgress } else { Status::Failed };
        let reason = Reason::new(error.code(), error.to_string());
        let answer = invocation.answer(status, Some(operation)).because(reason.clone());
        let written = self.write(invocation, held, answer.clone()).await;
        if error.may_get_better() {
            let attempt = held.attempt;
            let (code, reason) = (error.code(), &reason.message);
            tracing::error!(status = status.as_str(), code, reason, attempt, "request not handed to Coiote");
            return Err(diagnostic(code, reason.clone()));
        }
        written.map(|()| logged(answer))
    }

    /// The task that an earlier attempt at this event created here.
    fn unanswered_task(&self, invocation: &Invocation<'_>) -> Option<Created> {
        self.unanswered.get(invocation.request_id)
    }
}

/// The request was dealt with before, or somebody else is at it.
fn recorded_already(
    invocation: &Invocation<'_>,
    recorded: &Recorded,
    operation: Option<&str>,
) -> Result<Answer, Diagnostic> {
    let is_ours = recorded.request_id.as_deref() == Some(invocation.request_id);
    let reason = recorded.reason.as_ref().filter(|reason| is_ours && may_get_better(&reason.code));
    if let (Some(Status::Failed), Some(reason)) = (recorded.status, reason) {
        // The attempts are used up, and the shadow says so. The error takes the event on into the failure queue.
        tracing::error!(status = Status::Failed.as_str(), code = %reason.code, "the attempts are used up");
        return Err(diagnostic(&reason.code, reason.message.clone()));
    }
    let status = recorded.status.map_or("IN_PROGRESS", Status::as_str);
    let why = format!("this request came before and is {status}; it is not sent twice");
    Ok(logged(invocation.answer(Status::Ignored, operation).because(Reason::new("DUPLICATE", why))))
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

fn not_written(error: &shadow::Error) -> Diagnostic {
    let code = match error {
        shadow::Error::TooLarge => "OPERATION_SHADOW_FULL",
        _ => "ANSWER_NOT_WRITTEN",
    };
    tracing::error!(code, reason = %error, "the operation shadow could not be updated");
    diagnostic(code, error.to_string())
}

fn reason(finding: Finding) -> Reason {
    Reason::new(finding.code.as_str(), finding.message)
}

fn logged(answer: Answer) -> Answer {
    let Answer { task_id, reason, .. } = &answer;
    let status = answer.status.as_str();
    let (code, reason) = reason.as_ref().map(|reason| (reason.code.as_ref(), reason.message.as_str())).unzip();
    match answer.status {
        Status::Rejected => tracing::warn!(status, code, reason, "request rejected"),
        Status::Failed | Status::InProgress => tracing::error!(status, code, reason, "request failed"),
        Status::Scheduled | Status::Succeeded => tracing::info!(status, task_id, code, reason, "request scheduled"),
        Status::Ignored => tracing::info!(status, code, reason, "nothing to do"),
    }
    answer
}
