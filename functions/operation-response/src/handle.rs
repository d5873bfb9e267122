//! From the event to the datamodel shadow.

use aws_sdk_iotdataplane::Client;
use lambda_runtime::{Diagnostic, LambdaEvent};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};
use shadow::datamodel::{self, Change};
use shadow::{Answer, Envelope, Reason, Status};
use tracing::Instrument;

/// Folds the result in. What can get better by itself is an error of the function, so that Lambda tries again.
pub(crate) async fn event(iot: &Client, event: LambdaEvent<Box<RawValue>>) -> Result<Answer, Diagnostic> {
    let request_id = event.context.request_id.clone();
    let span = tracing::info_span!(
        "response",
        request_id,
        thing = tracing::field::Empty,
        version = tracing::field::Empty,
        operation = tracing::field::Empty,
    );
    let answer = answer(iot, &event.payload, &request_id).instrument(span.clone()).await;
    span.in_scope(|| log(&answer));
    answer
}

async fn answer(iot: &Client, event: &RawValue, request_id: &str) -> Result<Answer, Diagnostic> {
    let span = tracing::Span::current();
    let (envelope, mut event) = match Envelope::open(event) {
        Ok(opened) => opened,
        Err(why) => {
            return Ok(Answer::new(Status::Rejected, request_id).because(Reason::new("EVENT_INVALID", why)));
        }
    };
    span.record("thing", envelope.thing.as_str());
    span.record("version", envelope.version);
    let operation = event.remove("operation").and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
    span.record("operation", &operation);
    let thing = envelope.thing.clone();
    let answer = |status| Answer::new(status, request_id).about(envelope, Some(&operation));

    // The other operations report nothing that belongs into the data model.
    if !matches!(operation.as_str(), "read" | "write" | "readComposite") {
        let why = format!("operation: {operation:?} has no result to fold; only read, write and readComposite have");
        return Ok(answer(Status::Ignored).because(Reason::new("NOTHING_TO_FOLD", why)));
    }
    let change = match Change::from_result(event.remove("result").unwrap_or_default()) {
        Ok(change) => change,
        Err(why) => return Ok(answer(Status::Failed).because(Reason::new("RESULT_INVALID", why))),
    };
    let resources = change.resources();
    if resources > 0 {
        match datamodel::fold(iot, &thing, change).await {
            Ok(()) => tracing::info!(resources, "datamodel shadow updated"),
            Err(error @ datamodel::Error::TooLarge) => {
                return Ok(answer(Status::Failed).because(Reason::new("DATAMODEL_TOO_LARGE", error.to_string())));
            }
            Err(error @ datamodel::Error::Refused(_)) => {
                return Ok(answer(Status::Failed).because(Reason::new("DATAMODEL_REFUSED", error.to_string())));
            }
            Err(error) => {
                return Err(Diagnostic {
                    error_type: "DATAMODEL_NOT_UPDATED".to_owned(),
                    error_message: error.to_string(),
                });
            }
        }
    }

    let failed_keys = failed_keys(&mut event);
    Ok(if failed_keys.is_empty() {
        answer(Status::Succeeded)
    } else {
        let why = format!("the device answered {} with failed keys: {}", operation, failed_keys.join(", "));
        answer(Status::Failed).because(Reason::new("DEVICE_FAILED_KEYS", why))
    })
}

/// Coiote writes `[""]` where none failed: an empty text, split at commas.
fn failed_keys(event: &mut Map<String, Json>) -> Vec<String> {
    let Some(Json::Array(keys)) = event.remove("failedKeys") else { return Vec::new() };
    keys.into_iter().filter_map(|key| key.as_str().map(str::to_owned)).filter(|key| !key.is_empty()).collect()
}

fn log(answer: &Result<Answer, Diagnostic>) {
    match answer {
        Ok(answer) => {
            let status = answer.status.as_str();
            let (code, reason) = answer.reason.as_ref().map(|reason| (reason.code, reason.message.as_str())).unzip();
            match answer.status {
                Status::Succeeded => tracing::info!(status, "result folded"),
                Status::Ignored => tracing::info!(status, code, reason, "result left alone"),
                _ => tracing::warn!(status, code, reason, "result not, or not fully, folded"),
            }
        }
        Err(error) => tracing::error!(
            status = Status::Failed.as_str(),
            code = error.error_type,
            reason = error.error_message,
            "result not folded"
        ),
    }
}
