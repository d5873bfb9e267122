//! From the event to the answer.

use lambda_runtime::{Error, LambdaEvent};
use lwm2m::finding::Finding;
use lwm2m::{Accepted, Request, Strictness, Task};
use runtime::Deadline;
use serde_json::Value as Json;
use serde_json::value::RawValue;
use shadow::{Answer, Envelope, Reason, Status};
use tracing::Instrument;

use crate::forward::Forwarder;

/// Answers an event of the rule. Whatever is wrong with a request is its answer, not an error of the function.
pub(crate) async fn event(
    forwarder: &Forwarder,
    strictness: Strictness,
    event: LambdaEvent<Box<RawValue>>,
) -> Result<Answer, Error> {
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
    let answer = answer(forwarder, strictness, &event.payload, &request_id, deadline).instrument(span.clone()).await;
    span.in_scope(|| log(&answer));
    Ok(answer)
}

async fn answer(
    forwarder: &Forwarder,
    strictness: Strictness,
    event: &RawValue,
    request_id: &str,
    deadline: Deadline,
) -> Answer {
    let span = tracing::Span::current();
    let answer = |status| Answer::new(status, request_id);

    let (envelope, mut event) = match Envelope::open(event) {
        Ok(opened) => opened,
        Err(why) => return answer(Status::Rejected).because(Reason::new("EVENT_INVALID", why)),
    };
    span.record("thing", envelope.thing.as_str());
    span.record("version", envelope.version);
    span.record("client_token", envelope.client_token.as_deref());

    // What is left of a request that was removed from the shadow (`"operation": null`) asks for nothing.
    let removes = event.get("operation").is_some_and(Json::is_null);
    let request = Request::take(|field| event.remove(field));
    if removes && request.is_empty() {
        return answer(Status::Ignored).about(envelope, None);
    }
    let named = request.operation.as_ref().and_then(Json::as_str).map(str::to_owned);
    let Accepted { operation, notices } = match request.parse(strictness) {
        Ok(accepted) => accepted,
        Err(findings) => {
            let reason = Reason::joined(findings.into_iter().map(reason));
            return answer(Status::Rejected).about(envelope, named.as_deref()).because(reason);
        }
    };
    let operation_name = operation.name().as_str();
    span.record("operation", operation_name);
    tracing::info!("request is valid");

    let task = Task::from(&operation);
    tracing::debug!(?task, "task");
    match forwarder.forward(&envelope.thing, &task, deadline).await {
        Ok(forwarded) => {
            let notices = notices.into_iter().map(reason).chain(forwarded.notice);
            let mut answer = answer(Status::Scheduled).about(envelope, Some(operation_name));
            answer.task_id = Some(forwarded.task_id);
            answer.because(Reason::joined(notices))
        }
        Err(error) => answer(Status::Failed)
            .about(envelope, Some(operation_name))
            .because(Reason::new(error.code(), error.to_string())),
    }
}

fn reason(finding: Finding) -> Reason {
    Reason::new(finding.code.as_str(), finding.message)
}

fn log(answer: &Answer) {
    let Answer { task_id, reason, .. } = answer;
    let status = answer.status.as_str();
    let (code, reason) = reason.as_ref().map(|reason| (reason.code, reason.message.as_str())).unzip();
    match answer.status {
        Status::Rejected => tracing::warn!(status, code, reason, "request rejected"),
        Status::Failed => tracing::error!(status, code, reason, "request failed"),
        Status::Scheduled | Status::Succeeded => tracing::info!(status, task_id, code, reason, "request scheduled"),
        Status::Ignored => tracing::info!(status, code, reason, "the request was removed; nothing to do"),
    }
}
