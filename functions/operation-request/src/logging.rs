//! Log lines and metrics of a request.

use lambda_runtime::Diagnostic;
use lambda_support::{elapsed_ms, ms_since};
use requests::{Name, Reason, Status, code};
use shadow::Envelope;

use crate::handle::BUSY;
use crate::incoming::{Purpose, known_operation};
use crate::invocation::{Invocation, Outcome, Run};

/// Codes of failures that only the request's author can do something about.
const AUTHORS: [&str; 2] = [code::OVERTAKEN, code::NOTHING_TO_CANCEL];

/// Span of a request: the fields that all its lines have. The empty ones are recorded later. Of the level `error`, so that
/// lines of every level have it.
pub(crate) fn request_span(run: &Run, envelope: Option<&Envelope>) -> tracing::Span {
    use tracing::field::Empty;
    tracing::error_span!(
        "request",
        request_id = run.request_id.as_str(),
        trace_id = run.trace_id.as_deref(),
        thing = envelope.map(|envelope| envelope.thing.as_str()),
        version = envelope.and_then(|envelope| envelope.version),
        job = Empty,
        client_token = envelope.and_then(|envelope| envelope.client_token.as_deref()),
        operation = Empty,
        device_id = Empty,
        template = Empty,
        task_id = Empty,
        claim_ms = Empty,
        find_device_ms = Empty,
        create_task_ms = Empty,
        start_session_ms = Empty,
    )
}

/// Records the name of the request, or the job, that an event is about.
pub(crate) fn record_purpose(span: &tracing::Span, purpose: &Purpose) {
    match purpose {
        Purpose::HandOver(name) => record_name(span, name),
        Purpose::Request(content) => content.job.iter().for_each(|name| record_name(span, name)),
        Purpose::JobOver(over) => {
            span.record("job", over.job_id.as_str());
        }
        Purpose::DesiredCleared => {}
    }
}

pub(crate) fn record_name(span: &tracing::Span, name: &Name) {
    match name {
        Name::Version(version) => span.record("version", version),
        Name::Job { .. } => span.record("job", tracing::field::display(name)),
        Name::Invocation(_) => span,
    };
}

/// Writes the last line about a request in this invocation, which is the only one where nothing is wrong, and counts it.
/// `findings`: all that is wrong with a request that is not valid, whose record keeps only the beginning of a long message.
pub(crate) fn log_outcome(invocation: &Invocation<'_>, outcome: &Outcome, findings: Option<&Reason>) {
    let duration_ms = elapsed_ms(invocation.begun);
    let answer = match outcome {
        Ok(answer) => answer,
        Err(Diagnostic { error_type: code, error_message: reason }) => {
            let status = Status::InProgress.as_str();
            if code == BUSY {
                // Lambda tries again.
                tracing::warn!(status, code, reason, duration_ms, "request may be under way");
            } else {
                tracing::error!(status, code, reason, duration_ms, "request not recorded");
            }
            metrics::counter!("Failures", "code" => code.clone()).increment(1);
            return;
        }
    };
    let status = answer.status.as_str();
    if let Some(task_id) = answer.task_id.as_deref() {
        tracing::Span::current().record("task_id", task_id);
    }
    let is_of_record = |findings: &&Reason| answer.reason.as_ref().is_some_and(|reason| reason.code == findings.code);
    let reason = findings.filter(is_of_record).or(answer.reason.as_ref());
    let (code, reason) = reason.map(|reason| (reason.code.as_ref(), reason.message.as_str())).unzip();
    // A write that waits for an older one is handed over when that one has ended; a cancelRequest waits for Coiote.
    let waits_its_turn =
        answer.status == Status::InProgress && code.is_none_or(|code| code == code::WAITS_FOR_OLDER_WRITE);
    match answer.status {
        Status::Rejected => tracing::warn!(status, code, reason, duration_ms, "request rejected"),
        Status::InProgress if waits_its_turn => tracing::info!(status, code, reason, duration_ms, "request waits"),
        Status::InProgress => tracing::warn!(status, code, reason, duration_ms, "request waits"),
        Status::Failed if code.is_some_and(|code| AUTHORS.contains(&code)) => {
            tracing::warn!(status, code, reason, duration_ms, "request failed")
        }
        Status::Failed | Status::TimedOut => tracing::error!(status, code, reason, duration_ms, "request failed"),
        Status::Scheduled => tracing::info!(status, code, reason, duration_ms, "request scheduled"),
        Status::Succeeded | Status::Canceled => tracing::info!(status, code, reason, duration_ms, "request ended"),
        Status::Ignored => tracing::info!(status, code, reason, duration_ms, "nothing to do"),
    }
    if answer.status == Status::Ignored {
        if code == Some(code::DUPLICATE) {
            metrics::counter!("DuplicatesDropped").increment(1);
        }
        return;
    }
    let operation = answer.operation.as_deref().map_or("unknown", known_operation);
    metrics::counter!("Requests", "operation" => operation, "status" => status).increment(1);
    if answer.status == Status::Scheduled {
        // AWS may have queued a job's request long before it came here.
        let is_of_job = answer.request.as_ref().is_some_and(Name::is_of_job);
        if let Some(requested_at) = invocation.envelope.timestamp.filter(|_| !is_of_job) {
            lambda_support::record("TimeToSchedule", ms_since(requested_at));
        }
    } else if !matches!(answer.status, Status::Succeeded | Status::Canceled) && !waits_its_turn {
        metrics::counter!("Failures", "code" => code.unwrap_or_default().to_owned()).increment(1);
    }
}
