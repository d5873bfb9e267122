//! From the event to the datamodel shadow, and to the answer in the operation shadow.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lambda_runtime::{Diagnostic, LambdaEvent};
use lwm2m::path::{Level, Target};
use runtime::{Attempt, Attempts, Deadline, diagnostic, milliseconds};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};
use shadow::datamodel::{Change, DatamodelShadows, Scope, Source};
use shadow::operation::{DATAMODEL_NOT_UPDATED, Key, OperationShadow, OperationShadows, Recorded};
use shadow::{Answer, Envelope, Error, Reason, Shadows, Status};
use tracing::Instrument;

/// Shadows tell the time in seconds.
const FRESH: Duration = Duration::from_secs(1);

/// The operation shadow changed so many times while its result was folded: more than any number of writers explains.
const MOST_CONFLICTS: u32 = 20;

/// Said of a result that came before.
const DUPLICATE: &str = "DUPLICATE";

/// Everything that outlives an invocation.
pub(crate) struct Service {
    operation: OperationShadows,
    datamodel: DatamodelShadows,
    attempts: Attempts,
}

/// A result, as the rule passes it on.
struct Response {
    envelope: Envelope,
    operation: String,
    result: Result<Change, String>,
    failed_keys: Vec<String>,
}

/// What a result comes to.
type Outcome = (Status, Option<Reason>);

impl Service {
    pub(crate) fn new(shadows: Shadows) -> Service {
        Service {
            operation: OperationShadows::new(shadows.clone()),
            datamodel: DatamodelShadows::new(shadows),
            attempts: Attempts::default(),
        }
    }

    /// Folds the result in and answers its request. What can get better by itself is an error of the function, so that
    /// Lambda tries again.
    pub(crate) async fn event(&self, event: LambdaEvent<Box<RawValue>>) -> Result<Answer, Diagnostic> {
        let LambdaEvent { payload, context } = event;
        let (request_id, begun, deadline) = (context.request_id.as_str(), Instant::now(), Deadline::of(&context));
        let opened = Envelope::open(&payload).map(|(envelope, fields)| Response::take(envelope, fields));
        let response = opened.as_ref().ok();
        // Which request it answers is known later.
        let span = tracing::info_span!(
            "response",
            request_id,
            trace_id = runtime::trace_id(&context),
            thing = response.map(|response| response.envelope.thing.as_str()),
            operation = response.map(|response| response.operation.as_str()),
            result_version = response.and_then(|response| response.envelope.version),
            version = tracing::field::Empty,
            client_token = tracing::field::Empty,
            task_id = tracing::field::Empty,
        );
        let answered = async {
            let response = opened.map_err(|why| diagnostic("EVENT_INVALID", why))?;
            let attempt = self.attempts.begin(request_id);
            let (status, reason) = self.response(&response, attempt, deadline).await?;
            Ok(Answer::new(status, request_id).about(&response.envelope, Some(&response.operation)).because(reason))
        };
        let answered = answered.instrument(span.clone()).await;
        span.in_scope(|| log(&answered, milliseconds(begun)));
        count(&answered);
        answered
    }

    async fn response(&self, response: &Response, attempt: Attempt, deadline: Deadline) -> Result<Outcome, Diagnostic> {
        // The other operations report nothing that belongs into the data model.
        if !matches!(response.operation.as_str(), "read" | "write" | "readComposite") {
            let operation = &response.operation;
            let why =
                format!("operation: {operation:?} has no result to fold; only read, write and readComposite have");
            return Ok((Status::Ignored, Some(Reason::new("NOTHING_TO_FOLD", why))));
        }
        match tokio::time::timeout(deadline.left(), self.fold_and_answer(response)).await {
            Ok(Ok(outcome)) => Ok(outcome),
            failed => {
                let error = match failed {
                    Ok(Err(error)) => error,
                    _ => Error::Unavailable("no answer within the time that was left".to_owned()),
                };
                let code = match error {
                    Error::TooLarge => "OPERATION_SHADOW_FULL",
                    _ => DATAMODEL_NOT_UPDATED,
                };
                let reason = Reason::new(code, error.to_string());
                if attempt.is_last(1) {
                    let last = self.answer(response, (Status::Failed, Some(reason.clone())));
                    let written = tokio::time::timeout(deadline.left_for_the_outcome(), last).await;
                    let written = matches!(written, Ok(Ok(())));
                    tracing::warn!(code, written, "the attempts are used up");
                    result_ended(&response.operation, Status::Failed);
                }
                Err(diagnostic(&reason.code, reason.message))
            }
        }
    }

    /// The result is folded as the operation shadow reports it when the request is answered: if it has changed meanwhile,
    /// another result may have been folded before this one, and it is looked at again.
    async fn fold_and_answer(&self, response: &Response) -> Result<Outcome, Error> {
        let Envelope { thing, version, timestamp, .. } = &response.envelope;
        let is_fresh = timestamp.is_none_or(|time| age(time) <= FRESH);
        let source = Source { version: *version, reported_at: *timestamp, is_fresh };
        let mut folded: Option<(Change, Outcome)> = None;
        for _ in 0..MOST_CONFLICTS {
            let shadow = self.operation.read(thing).await?.unwrap_or_default();
            if shadow.answered_by(*version).is_some() {
                let why = "this result came before and was folded in".to_owned();
                return Ok((Status::Ignored, Some(Reason::new(DUPLICATE, why))));
            }
            let request = shadow.waiting_for_result(&response.operation, *version);
            if let Some((key, recorded)) = request {
                tell_the_request(key, recorded);
            }
            let outcome = match &response.result {
                Err(why) => failed("RESULT_INVALID", why.clone()),
                Ok(change) => {
                    let change = change.brought_up_to(&shadow, *version, *timestamp);
                    let scope = response.scope(&shadow, request.map(|(_, recorded)| recorded.instances_of.as_slice()));
                    self.fold(response, change, source, &scope, &mut folded).await?
                }
            };
            match self.conclude(response, &shadow, request.map(|(key, _)| key), outcome.clone()).await {
                Err(Error::Conflict) => metrics::counter!("FoldingConflicts").increment(1),
                Err(error) => return Err(error),
                Ok(()) => {
                    if let Some(time) = request.and_then(|(_, recorded)| recorded.requested_at()).map(age) {
                        metrics::histogram!("TimeToResult").record(time.as_secs_f64() * 1_000.0);
                    }
                    return Ok(outcome);
                }
            }
        }
        Err(Error::Conflict)
    }

    /// Folds the change in, unless it is what this invocation has `folded` before.
    async fn fold(
        &self,
        response: &Response,
        change: Change,
        source: Source,
        scope: &Scope,
        folded: &mut Option<(Change, Outcome)>,
    ) -> Result<Outcome, Error> {
        let earlier = folded.take();
        let outcome = match &earlier {
            Some((already, outcome)) if *already == change => outcome.clone(),
            _ => self.fold_anew(response, &change, source, scope, earlier.as_ref().map(|(change, _)| change)).await?,
        };
        *folded = Some((change, outcome.clone()));
        Ok(outcome)
    }

    async fn fold_anew(
        &self,
        response: &Response,
        change: &Change,
        source: Source,
        scope: &Scope,
        undoing: Option<&Change>,
    ) -> Result<Outcome, Error> {
        let (resources, begun) = (change.resources(), Instant::now());
        let relieved = match self.datamodel.fold(&response.envelope.thing, change, source, scope, undoing).await {
            Ok(folded) => {
                metrics::counter!("FoldingConflicts").increment(folded.conflicts.into());
                folded.relieved
            }
            Err(error @ Error::TooLarge) => return Ok(failed("DATAMODEL_TOO_LARGE", error.to_string())),
            Err(error @ Error::Refused(_)) => return Ok(failed("DATAMODEL_REFUSED", error.to_string())),
            Err(error) => return Err(error),
        };
        if resources > 0 {
            let duration_ms = milliseconds(begun);
            tracing::info!(call = "fold", resources, relieved, duration_ms, "datamodel shadow updated");
        }
        Ok(if !response.failed_keys.is_empty() {
            let keys = response.failed_keys.join(", ");
            failed("DEVICE_FAILED_KEYS", format!("the device answered {} with failed keys: {keys}", response.operation))
        } else if relieved {
            let why = "resources without a value were left out of the datamodel shadow, which would exceed its size with them";
            (Status::Succeeded, Some(Reason::new("DATAMODEL_RELIEVED", why)))
        } else {
            (Status::Succeeded, None)
        })
    }

    /// Where no request waits for the result, nothing is written; but the shadow has to be as it was read all the same.
    async fn conclude(
        &self,
        response: &Response,
        shadow: &OperationShadow,
        request: Option<Key>,
        outcome: Outcome,
    ) -> Result<(), Error> {
        let Envelope { thing, version, .. } = &response.envelope;
        if let Some(key) = request {
            let begun = Instant::now();
            self.operation.conclude(thing, shadow, key, outcome, *version).await?;
            tracing::info!(call = "answer", duration_ms = milliseconds(begun), "request answered");
            return Ok(());
        }
        let now = self.operation.read(thing).await?.unwrap_or_default();
        if now.version == shadow.version { Ok(()) } else { Err(Error::Conflict) }
    }

    /// Answers the request without having folded anything.
    async fn answer(&self, response: &Response, outcome: Outcome) -> Result<(), Error> {
        let Envelope { thing, version, .. } = &response.envelope;
        for _ in 0..MOST_CONFLICTS {
            let Some(shadow) = self.operation.read(thing).await? else { return Ok(()) };
            let Some((key, _)) = shadow.waiting_for_result(&response.operation, *version) else { return Ok(()) };
            match self.operation.conclude(thing, &shadow, key, outcome.clone(), *version).await {
                Err(Error::Conflict) => {}
                concluded => return concluded,
            }
        }
        Err(Error::Conflict)
    }
}

impl Response {
    fn take(envelope: Envelope, mut fields: Map<String, Json>) -> Response {
        let operation = fields.remove("operation").and_then(|name| name.as_str().map(str::to_owned));
        Response {
            envelope,
            operation: operation.unwrap_or_default(),
            result: Change::from_result(fields.remove("result").unwrap_or_default()),
            failed_keys: failed_keys(&mut fields),
        }
    }

    /// What was asked for, as far as the operation shadow still knows.
    fn scope(&self, shadow: &OperationShadow, of_request: Option<&[String]>) -> Scope {
        // What is written names resource instances, and says nothing of others.
        if self.operation == "write" {
            return Scope::default();
        }
        let desired = shadow.desired.get("operation").and_then(Json::as_str) == Some(&self.operation);
        let keys = shadow.desired.get("keys").and_then(Json::as_array).filter(|_| desired);
        let of_desired = keys.into_iter().flatten().filter_map(|key| resource_read_in_part(key.as_str()?));
        Scope {
            is_known: keys.is_some() || of_request.is_some(),
            instances_of: of_request.into_iter().flatten().cloned().chain(of_desired).collect(),
            failed_keys: self.failed_keys.clone(),
        }
    }
}

/// The resource of which the key names a single resource instance.
fn resource_read_in_part(key: &str) -> Option<String> {
    match Target::parse(key) {
        Ok(Target::Path(path)) if path.level() == Level::ResourceInstance => Some(path.parent()?.to_string()),
        _ => None,
    }
}

/// Coiote writes `[""]` where none failed: an empty text, split at commas.
fn failed_keys(fields: &mut Map<String, Json>) -> Vec<String> {
    let Some(Json::Array(keys)) = fields.remove("failedKeys") else { return Vec::new() };
    keys.into_iter().filter_map(|key| key.as_str().map(str::to_owned)).filter(|key| !key.is_empty()).collect()
}

/// How long ago that was.
fn age(seconds: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_secs(seconds))
}

fn failed(code: &'static str, why: String) -> Outcome {
    (Status::Failed, Some(Reason::new(code, why)))
}

/// From here on the lines say which request it is that the result answers.
fn tell_the_request(key: Key, recorded: &Recorded) {
    let span = tracing::Span::current();
    if let Key::Version(version) = key {
        span.record("version", version);
    }
    span.record("client_token", recorded.client_token.as_deref());
    span.record("task_id", recorded.task_id.as_deref());
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
            let status = Status::Failed.as_str();
            tracing::error!(status, code, reason, duration_ms, "result not folded");
        }
    }
}

fn count(answered: &Result<Answer, Diagnostic>) {
    let code = match answered {
        Ok(answer) if answer.status == Status::Ignored => {
            if answer.reason.as_ref().is_some_and(|reason| reason.code == DUPLICATE) {
                metrics::counter!("DuplicatesDropped").increment(1);
            }
            return;
        }
        Ok(answer) => {
            result_ended(answer.operation.as_deref().unwrap_or_default(), answer.status);
            answer.reason.as_ref().filter(|_| answer.status == Status::Failed).map(|reason| reason.code.to_string())
        }
        Err(error) => Some(error.error_type.clone()),
    };
    if let Some(code) = code {
        metrics::counter!("Failures", "code" => code).increment(1);
    }
}

/// `operation` is one of the three whose results are folded.
fn result_ended(operation: &str, status: Status) {
    metrics::counter!("Results", "operation" => operation.to_owned(), "status" => status.as_str()).increment(1);
}
