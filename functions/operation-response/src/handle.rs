//! From the event to the datamodel shadow, and to the last word of the request in the ledger.

use std::time::Instant;

use lambda_runtime::{Diagnostic, LambdaEvent};
use lambda_support::{Deadline, diagnostic, elapsed_ms, now, time_since};
use ledger::{Item, Ledger};
use requests::{Answer, DatamodelWrite, Event, Folded, Name, Reason, Status, Verdict, code};
use serde_json::value::RawValue;
use shadow::folding::{EarlierResult, FoldOutcome, OtherResults, Revision, Scope};
use shadow::{DatamodelShadows, Error, Shadows};
use tracing::Instrument;

use crate::response::Response;

/// Everything that outlives an invocation.
pub(crate) struct Service {
    ledger: Ledger,
    datamodel: DatamodelShadows,
}

/// What folding a result came to.
type Outcome = (Status, Option<Reason>);

impl Service {
    pub(crate) fn new(ledger: Ledger, shadows: Shadows) -> Service {
        Service { ledger, datamodel: DatamodelShadows::new(shadows) }
    }

    /// Folds the result in and ends its request. What can get better by itself is an error of the function, so that Lambda
    /// tries again.
    pub(crate) async fn event(&self, event: LambdaEvent<Box<RawValue>>) -> Result<Answer, Diagnostic> {
        let LambdaEvent { payload, context } = event;
        let (request_id, begun, deadline) = (context.request_id.as_str(), Instant::now(), Deadline::of(&context));
        let opened = Response::open(&payload);
        let response = opened.as_ref().ok();
        // Which request it answers is known later.
        // In lines of every level, hence its own.
        let span = tracing::error_span!(
            "response",
            request_id,
            trace_id = lambda_support::trace_id(&context),
            thing = response.map(|response| response.envelope.thing.as_str()),
            operation = response.map(|response| response.operation.as_str()),
            result_version = response.and_then(|response| response.envelope.version),
            version = tracing::field::Empty,
            client_token = tracing::field::Empty,
            task_id = tracing::field::Empty,
            resources = tracing::field::Empty,
            fold_ms = tracing::field::Empty,
        );
        let answered = async {
            let response = opened.map_err(|why| diagnostic("EVENT_INVALID", why))?;
            let timed = tokio::time::timeout(deadline.left(), self.response(&response, request_id)).await;
            timed.unwrap_or_else(|_| {
                Err(diagnostic(code::DATAMODEL_NOT_UPDATED, "no answer within the time that was left"))
            })
        };
        let answered = answered.instrument(span.clone()).await;
        span.in_scope(|| log(&answered, elapsed_ms(begun)));
        count(&answered);
        answered
    }

    async fn response(&self, response: &Response, request_id: &str) -> Result<Answer, Diagnostic> {
        let thing = &response.envelope.thing;
        let ignored = |code, why: String| {
            Ok(Answer::new(thing.as_str(), Status::Ignored, request_id).with_reason(Reason::new(code, why)))
        };
        if !response.is_to_be_folded() {
            let operation = &response.operation;
            let why =
                format!("operation: {operation:?} has no result to fold; only read, write and readComposite have");
            return ignored("NOTHING_TO_FOLD", why);
        }
        let Some(returned) = response.returned(format!("{:08x}", fastrand::u32(..)), now()) else {
            // Nothing is known of its order: what was written later stays.
            let (outcome, _) = self.fold(response, &Item::default(), None).await?;
            let answer = Answer::new(thing.as_str(), outcome.0, request_id).with_reason(outcome.1);
            return Ok(Answer { operation: Some(response.operation.clone()), ..answer });
        };
        let version = returned.version;
        let registered = self.ledger.append(thing.as_str(), &Event::Result(returned), None).await;
        let (item, verdict) = registered.map_err(refused)?;
        let Verdict::Fold(name) = verdict else {
            return ignored(code::DUPLICATE, "this result came before and was folded in".to_owned());
        };
        name.as_ref().inspect(|name| tell_the_request(&item, name));
        let (outcome, folded) = self.fold(response, &item, name.as_ref()).await?;
        let (status, reason) = outcome.clone();
        let event = Event::Folded(Folded {
            version,
            status,
            reason,
            datamodel: folded
                .and_then(|folded| folded.revision)
                .map(|revision| (revision.version, revision.written_at)),
            wrote: folded.map_or(DatamodelWrite::Nothing, |folded| folded.wrote),
            at: now(),
        });
        let (item, _) = self.ledger.apply(thing.as_str(), item, &[event], now()).await.map_err(refused)?;
        let answers = item.device.result(version).and_then(|result| result.answers.clone());
        let record = answers.as_ref().and_then(|name| item.device.find(name));
        if let Some(requested_at) = record.map(|record| record.requested_at).filter(|seconds| *seconds > 0) {
            metrics::histogram!("TimeToResult").record(time_since(requested_at).as_secs_f64() * 1_000.0);
        }
        Ok(Answer {
            request: answers,
            operation: Some(response.operation.clone()),
            task_id: record.and_then(|record| record.task_id.clone()),
            client_token: record.and_then(|record| record.client_token.clone()),
            ..Answer::new(thing.as_str(), outcome.0, request_id).with_reason(outcome.1)
        })
    }

    async fn fold(
        &self,
        response: &Response,
        item: &Item,
        name: Option<&Name>,
    ) -> Result<(Outcome, Option<FoldOutcome>), Diagnostic> {
        let (envelope, begun) = (&response.envelope, Instant::now());
        let version = envelope.version.unwrap_or(u64::MAX);
        // What is written names what it wrote, and says nothing of others.
        let read = name.and_then(|name| item.device.find(name)).filter(|_| response.operation != "write");
        let scope = Scope::new(read.map(|record| record.keys.clone()), response.failed_keys.clone());
        let known = item.device.datamodel(version).map(|(version, written_at)| Revision { version, written_at });
        let others = async || {
            if envelope.version.is_none() {
                return Ok(OtherResults::default());
            }
            let item = self.ledger.load(envelope.thing.as_str()).await;
            item.map(|item| others(&item, version)).map_err(|error| Error::Unavailable(error.to_string()))
        };
        let folded =
            self.datamodel.fold(&envelope.thing, &response.change, &scope, envelope.timestamp, known, others).await;
        let span = tracing::Span::current();
        span.record("resources", response.change.resources()).record("fold_ms", elapsed_ms(begun));
        let folded = match folded {
            Ok(folded) => folded,
            Err(error @ Error::TooLarge) => return Ok((failed("DATAMODEL_TOO_LARGE", error.to_string()), None)),
            Err(error @ Error::Refused(_)) => return Ok((failed("DATAMODEL_REFUSED", error.to_string()), None)),
            Err(error) => return Err(diagnostic(code::DATAMODEL_NOT_UPDATED, error.to_string())),
        };
        metrics::counter!("FoldingConflicts").increment(folded.conflicts.into());
        tracing::debug!(relieved = folded.dropped_valueless, "datamodel shadow updated");
        Ok((outcome(response, folded.dropped_valueless), Some(folded)))
    }
}

fn outcome(response: &Response, relieved: bool) -> Outcome {
    let failed_keys: Vec<&str> = response.failed().collect();
    let left_out = (!response.not_understood.is_empty())
        .then(|| Reason::new(code::RESULT_IN_PART, response.not_understood.join("; ")));
    if !failed_keys.is_empty() {
        let keys = failed_keys.join(", ");
        let why = format!("the device answered {} with failed keys: {keys}", response.operation);
        let refused = Reason::new("DEVICE_FAILED_KEYS", why);
        return (Status::Failed, Reason::join(std::iter::once(refused).chain(left_out)));
    }
    if response.change.is_empty() && !response.not_understood.is_empty() {
        return failed("RESULT_INVALID", response.not_understood.join("; "));
    }
    let relief = relieved.then(|| {
        let why =
            "resources without a value were left out of the datamodel shadow, which would exceed its size with them";
        Reason::new("DATAMODEL_RELIEVED", why)
    });
    (Status::Succeeded, Reason::join(left_out.into_iter().chain(relief)))
}

fn failed(code: &'static str, why: String) -> Outcome {
    (Status::Failed, Some(Reason::new(code, why)))
}

/// The other results of the device.
fn others(item: &Item, version: u64) -> OtherResults {
    let earlier = item
        .device
        .earlier_results(version)
        .map(|result| EarlierResult { fingerprint: result.touched.clone(), wrote: result.wrote });
    OtherResults::new(item.device.newer_results(version).map(|result| result.touched.clone()), earlier)
}

#[expect(clippy::needless_pass_by_value, reason = "map_err gives it away")]
fn refused(error: ledger::Error) -> Diagnostic {
    diagnostic(error.code(), error.to_string())
}

/// From here on the lines say which request it is that the result answers.
fn tell_the_request(item: &Item, name: &Name) {
    let span = tracing::Span::current();
    if let Name::Version(version) = name {
        span.record("version", version);
    }
    if let Some(record) = item.device.find(name) {
        span.record("client_token", record.client_token.as_deref());
        span.record("task_id", record.task_id.as_deref());
    }
}

fn log(answered: &Result<Answer, Diagnostic>, duration_ms: f64) {
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

fn count(answered: &Result<Answer, Diagnostic>) {
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
