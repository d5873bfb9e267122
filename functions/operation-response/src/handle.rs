//! Handles a result: registers it in the ledger, folds it into the datamodel shadow, and ends the request that it answers.

use std::time::Instant;

use lambda_runtime::{Diagnostic, LambdaEvent};
use lambda_support::{Deadline, diagnostic, elapsed_ms, ms_since, now};
use ledger::{Item, Ledger};
use requests::{
    Answer, DatamodelWrite, Event, Folded, Name, Reason, ResultEntry, Status, Verdict, code, covered_hashes, path_hash,
};
use serde_json::value::RawValue;
use shadow::folding::{EarlierResult, FoldOutcome, OtherResults, Revision, Scope};
use shadow::{DatamodelShadows, Error, Shadows};
use tracing::Instrument;

use crate::logging::{count_outcome, log_outcome, record_request, result_span};
use crate::response::Response;

/// State of the execution environment, across invocations.
pub(crate) struct Service {
    ledger: Ledger,
    datamodel: DatamodelShadows,
}

/// Outcome of folding a result.
type Outcome = (Status, Option<Reason>);

impl Service {
    pub(crate) fn new(ledger: Ledger, shadows: Shadows) -> Service {
        Service { ledger, datamodel: DatamodelShadows::new(shadows) }
    }

    /// Folds a result and ends its request. A failure that may get better is an error of the function, so that Lambda tries again.
    pub(crate) async fn event(&self, event: LambdaEvent<Box<RawValue>>) -> Result<Answer, Diagnostic> {
        let LambdaEvent { payload, context } = event;
        let (request_id, begun, deadline) = (context.request_id.as_str(), Instant::now(), Deadline::of(&context));
        let parsed = Response::parse(&payload);
        let span = result_span(&context, parsed.as_ref().ok());
        let answered = async {
            let response = parsed.map_err(|why| diagnostic("EVENT_INVALID", why))?;
            let timed = tokio::time::timeout(deadline.left(), self.response(&response, request_id)).await;
            timed.unwrap_or_else(|_| {
                Err(diagnostic(code::DATAMODEL_NOT_UPDATED, "no answer within the time that was left"))
            })
        };
        let answered = answered.instrument(span.clone()).await;
        span.in_scope(|| log_outcome(&answered, elapsed_ms(begun)));
        count_outcome(&answered);
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
        let Some(received) = response.received(format!("{:08x}", fastrand::u32(..)), now()) else {
            // Its place in the order of results is not known: later values stay.
            let (outcome, _) = self.fold(response, &Item::default(), None).await?;
            let answer = Answer::new(thing.as_str(), outcome.0, request_id).with_reason(outcome.1);
            return Ok(Answer { operation: Some(response.operation.clone()), ..answer });
        };
        let version = received.version;
        let registered = self.ledger.append(thing.as_str(), &Event::Result(received), None).await;
        let (item, verdict) = registered.map_err(ledger_error)?;
        let Verdict::Fold(name) = verdict else {
            return ignored(code::DUPLICATE, "this result came before and was folded in".to_owned());
        };
        name.as_ref().inspect(|name| record_request(&item, name));
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
        let (item, _) = self.ledger.apply(thing.as_str(), item, &[event], now()).await.map_err(ledger_error)?;
        let answers = item.device.result(version).and_then(|result| result.answers.clone());
        let record = answers.as_ref().and_then(|name| item.device.find(name));
        if let Some(requested_at) = record.map(|record| record.requested_at).filter(|seconds| *seconds > 0) {
            lambda_support::record("TimeToResult", ms_since(requested_at));
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
        // The result of a write names the written keys only: it does not show that others are gone.
        let read = name.and_then(|name| item.device.find(name)).filter(|_| response.operation != "write");
        // Nor does one that may be of a request that it fits more closely.
        let is_covered = |path: &u32| item.device.result(version).is_none_or(|result| result.names(*path));
        let failed_keys: Vec<String> = response.failed().map(str::to_owned).collect();
        let read = read.filter(|record| covered_hashes(&record.keys, &failed_keys).iter().all(is_covered));
        let scope = Scope::new(read.map(|record| record.keys.clone()), failed_keys);
        let known = item.device.datamodel(version).filter(|_| item.device.deletions_since(version).next().is_none());
        let known = known.map(|(version, written_at)| Revision { version, written_at });
        let others = async || {
            if envelope.version.is_none() && !response.is_deletion() {
                return Ok(OtherResults::default());
            }
            let item = self.ledger.load(envelope.thing.as_str()).await;
            item.map(|item| others(&item, response)).map_err(|error| Error::Unavailable(error.to_string()))
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
    let left_out =
        (!response.unreadable.is_empty()).then(|| Reason::new(code::RESULT_IN_PART, response.unreadable.join("; ")));
    if !failed_keys.is_empty() {
        let keys = failed_keys.join(", ");
        let why = format!("the device answered {} with failed keys: {keys}", response.operation);
        let refused = Reason::new("DEVICE_FAILED_KEYS", why);
        return (Status::Failed, Reason::join(std::iter::once(refused).chain(left_out)));
    }
    if response.change.is_empty() && !response.unreadable.is_empty() {
        return failed("RESULT_INVALID", response.unreadable.join("; "));
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

/// The device's other results beside the one in the response, and what it has deleted.
fn others(item: &Item, response: &Response) -> OtherResults {
    let (device, envelope) = (&item.device, &response.envelope);
    let is_other = |result: &&ResultEntry| envelope.version != Some(result.version);
    let is_newer = |result: &&ResultEntry| match envelope.version {
        Some(version) => result.version > version,
        None => {
            let deletion = response.deleted_by.as_ref().and_then(|name| device.find(name));
            !device.is_deleted_since(result, deletion, envelope.timestamp)
        }
    };
    let (newer, earlier): (Vec<&ResultEntry>, Vec<_>) = device.results().filter(is_other).partition(is_newer);
    let deletions = envelope.version.into_iter().flat_map(|version| device.deletions_since(version));
    let deleted = deletions.map(|record| record.keys.iter().map(|key| path_hash(key)).collect());
    let earlier =
        earlier.into_iter().map(|result| EarlierResult { fingerprint: result.touched.clone(), wrote: result.wrote });
    OtherResults::new(newer.into_iter().map(|result| result.touched.clone()).chain(deleted), earlier)
}

#[expect(clippy::needless_pass_by_value, reason = "map_err gives it away")]
fn ledger_error(error: ledger::Error) -> Diagnostic {
    diagnostic(error.code(), error.to_string())
}
