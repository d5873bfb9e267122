//! Log lines and metrics of a result.

use lambda_runtime::{Context, Diagnostic};
use ledger::Item;
use requests::{Answer, Name, Status, code};

use crate::response::Response;

/// Span of a result: the fields that all its lines have. The empty ones are recorded later. Of the level `error`, so that lines
/// of every level have it.
pub(crate) fn result_span(context: &Context, response: Option<&Response>) -> tracing::Span {
    tracing::error_span!(
        "response",
        request_id = context.request_id.as_str(),
        trace_id = lambda_support::trace_id(context),
        thing = response.map(|response| response.envelope.thing.as_str()),
        operation = response.map(|response| response.operation.as_str()),
        result_version = response.and_then(|response| response.envelope.version),
        version = tracing::field::Empty,
        client_token = tracing::field::Empty,
        task_id = tracing::field::Empty,
        resources = tracing::field::Empty,
        fold_ms = tracing::field::Empty,
    )
}

/// Records the request that the result answers, for the lines that follow.
pub(crate) fn record_request(item: &Item, name: &Name) {
    let span = tracing::Span::current();
    if let Name::Version(version) = name {
        span.record("version", version);
    }
    if let Some(record) = item.device.find(name) {
        span.record("client_token", record.client_token.as_deref());
        span.record("task_id", record.task_id.as_deref());
    }
}

/// Writes the last line about a result.
pub(crate) fn log_outcome(answered: &Result<Answer, Diagnostic>, duration_ms: f64) {
    match answered {
        Ok(answer) => {
            let status = answer.status.as_str();
            let (code, reason) = answer.reason.as_ref().map(|r| (r.code.as_ref(), r.message.as_str())).unzip();
            match answer.status {
                Status::Succeeded => tracing::info!(status, code, reason, duration_ms, "result folded"),
                Status::Ignored => tracing::info!(status, code, reason, duration_ms, "result left alone"),
                _ => tracing::warn!(status, code, reason, duration_ms, "result not, or not fully, folded"),
            }
        }
        Err(Diagnostic { error_type: code, error_message: reason }) => {
            let status = Status::InProgress.as_str();
            tracing::error!(status, code, reason, duration_ms, "result not folded");
        }
    }
}

pub(crate) fn count_outcome(answered: &Result<Answer, Diagnostic>) {
    let code = match answered {
        Ok(answer) if answer.status == Status::Ignored => {
            if answer.reason.as_ref().is_some_and(|reason| reason.code == code::DUPLICATE) {
                metrics::counter!("DuplicatesDropped").increment(1);
            }
            return;
        }
        Ok(answer) => {
            let operation = match answer.operation.as_deref() {
                Some(name @ ("read" | "write" | "readComposite" | "delete")) => name.to_owned(),
                _ => "unknown".to_owned(),
            };
            metrics::counter!("Results", "operation" => operation, "status" => answer.status.as_str()).increment(1);
            if answer.status == Status::Succeeded {
                return;
            }
            answer.reason.as_ref().map(|reason| reason.code.to_string()).unwrap_or_default()
        }
        Err(error) => error.error_type.clone(),
    };
    metrics::counter!("Failures", "code" => code).increment(1);
}
