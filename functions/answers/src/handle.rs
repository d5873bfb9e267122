//! Handles an event: writes the copies of each thing that it names.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lambda_runtime::{Diagnostic, LambdaEvent};
use lambda_support::{Deadline, elapsed_ms, now};
use ledger::Ledger;
use requests::Device;
use serde::Serialize;
use serde_json::Value as Json;
use shadow::operation_shadow::{CopiesUpdate, OperationShadows};
use shadow::{Error, ThingName};
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::copies;
use crate::event::{Batch, DeviceChange};

/// Time limit for the copies of one thing: others wait behind it.
const THING_LIMIT: Duration = Duration::from_secs(5);

/// Tries of a write while others write into the shadow first.
const MOST_CONFLICTS: u32 = 20;

/// State of the execution environment, across invocations.
pub(crate) struct Service {
    writer: Arc<Writer>,
    sqs: aws_sdk_sqs::Client,
    /// Queue with the names of things whose copies could not be written.
    queue_url: String,
}

/// Writes the copies.
struct Writer {
    ledger: Ledger,
    shadows: OperationShadows,
}

/// Response to the queue, which keeps the messages that it names (`ReportBatchItemFailures`).
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BatchResponse {
    batch_item_failures: Vec<BatchItemFailure>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchItemFailure {
    item_identifier: String,
}

/// Result of writing the copies of one thing.
struct Written {
    thing: ThingName,
    /// Id of the queue's message that names the thing.
    message: Option<String>,
    /// Whether an update was necessary.
    result: Result<bool, Error>,
}

impl Service {
    pub(crate) fn new(
        ledger: Ledger,
        shadows: OperationShadows,
        sqs: aws_sdk_sqs::Client,
        queue_url: String,
    ) -> Service {
        Service { writer: Arc::new(Writer { ledger, shadows }), sqs, queue_url }
    }

    /// Writes the copies of all things that the event names. A thing whose copies cannot be written is put into the queue, so
    /// that no other waits for it. The function fails only where that fails, too.
    pub(crate) async fn event(&self, event: LambdaEvent<Json>) -> Result<BatchResponse, Diagnostic> {
        let LambdaEvent { payload, context } = event;
        // Of the level `error`, so that lines of every level have its fields.
        let (request_id, trace_id) = (context.request_id.as_str(), lambda_support::trace_id(&context));
        let span = tracing::error_span!("answers", request_id, trace_id);
        self.process(&payload, Deadline::of(&context)).instrument(span).await
    }

    async fn process(&self, payload: &Json, deadline: Deadline) -> Result<BatchResponse, Diagnostic> {
        let begun = Instant::now();
        let batch = Batch::parse(payload);
        lambda_support::log_unreadable_records(&batch.unreadable);
        let things = batch.changes.len() + batch.incomplete.len() + batch.queued.len();
        let names = batch.changes.iter().map(|change| &change.thing).chain(&batch.incomplete);
        let names = names.chain(batch.queued.iter().map(|(thing, _)| thing));
        // Mostly it is one: then the lines about that thing include the last one here.
        let thing = names.last().map(|thing| thing.as_str().to_owned()).filter(|_| things == 1);
        let mut writes = self.start_writes(batch, THING_LIMIT.min(deadline.left()));
        let (mut response, mut updated, mut delayed) = (BatchResponse::default(), 0_u32, 0_u32);
        let mut lost = Ok(());
        while let Some(joined) = writes.join_next().await {
            let Ok(Written { thing, message, result }) = joined else { continue };
            match result {
                Ok(is_updated) => {
                    updated += u32::from(is_updated);
                    tracing::debug!(thing = thing.as_str(), is_updated, "thing done");
                }
                Err(error) => {
                    delayed += 1;
                    let (code, reason) = (code(&error), error.to_string());
                    metrics::counter!("Failures", "code" => code).increment(1);
                    tracing::warn!(thing = thing.as_str(), code, reason, "copies not written; they are tried again");
                    match message {
                        Some(item_identifier) => {
                            response.batch_item_failures.push(BatchItemFailure { item_identifier })
                        }
                        // The other things go on all the same.
                        None => lost = lost.and(self.put_off(&thing).await),
                    }
                }
            }
        }
        if updated > 0 {
            metrics::counter!("AnswersWritten").increment(updated.into());
        }
        if let Err(Diagnostic { error_type: code, error_message: reason }) = &lost {
            metrics::counter!("Failures", "code" => code.clone()).increment(1);
            tracing::error!(thing, code, reason, "copies not written, and not put off");
        }
        tracing::info!(thing, things, updated, delayed, duration_ms = elapsed_ms(begun), "copies written");
        lost.map(|()| response)
    }

    /// Starts to write the copies of all things at once, each within that time.
    fn start_writes(&self, batch: Batch, limit: Duration) -> JoinSet<Written> {
        let mut writes = JoinSet::new();
        for change in batch.changes {
            let writer = Arc::clone(&self.writer);
            writes.spawn(async move {
                let result = in_time(limit, writer.write_change(&change)).await;
                Written { thing: change.thing, message: None, result }
            });
        }
        let incomplete = batch.incomplete.into_iter().map(|thing| (thing, None));
        for (thing, message) in incomplete.chain(batch.queued.into_iter().map(|(thing, id)| (thing, Some(id)))) {
            let writer = Arc::clone(&self.writer);
            writes.spawn(async move {
                let result = in_time(limit, writer.write_all(&thing, None)).await;
                Written { thing, message, result }
            });
        }
        writes
    }

    /// Puts a thing into the queue.
    async fn put_off(&self, thing: &ThingName) -> Result<(), Diagnostic> {
        let sent = self.sqs.send_message().queue_url(&self.queue_url).message_body(thing.as_str()).send().await;
        sent.map(drop).map_err(|error| {
            lambda_support::diagnostic("ANSWER_NOT_WRITTEN", lambda_support::aws::error_summary(&error))
        })
    }
}

impl Writer {
    /// Writes the copies that a change concerns. Returns whether there are any.
    async fn write_change(&self, DeviceChange { thing, before, after }: &DeviceChange) -> Result<bool, Error> {
        if before.copies_overwrite_marker() != after.copies_overwrite_marker() {
            return self.write_all(thing, Some(after)).await;
        }
        let Some(copies) = copies::update_after_change(before, after, now()) else { return Ok(false) };
        self.write(thing, copies, None).await?;
        if let Some(at) = copies::updated_at(after) {
            lambda_support::record("AnswerLag", now().saturating_sub(at) as f64);
        }
        Ok(true)
    }

    /// Writes all copies. It reads the shadow before the records, so that copies of older records meet a conflict.
    ///
    /// `after`: the requests after the stream's records, if those follow that are newer; otherwise the copies would fall back
    /// with these.
    async fn write_all(&self, thing: &ThingName, after: Option<&Device>) -> Result<bool, Error> {
        for _ in 0..MOST_CONFLICTS {
            let shadow = self.shadows.read(thing).await?;
            let version = shadow.as_ref().map(|shadow| shadow.version);
            let item = self.ledger.load(thing.as_str()).await;
            let item = item.map_err(|error| Error::Unavailable(error.to_string()))?;
            let copied = after.unwrap_or(&item.device);
            let copies = copies::full_update(copied, &item.device, &shadow.unwrap_or_default(), now());
            match self.write(thing, copies, version).await {
                Err(Error::Conflict) => metrics::counter!("AnswerConflicts").increment(1),
                written => return written.map(|()| true),
            }
        }
        Err(Error::Conflict)
    }

    async fn write(&self, thing: &ThingName, copies: CopiesUpdate, version: Option<u64>) -> Result<(), Error> {
        match self.shadows.write(thing, copies.clone(), version).await {
            Err(Error::TooLarge) => self.shadows.write(thing, copies::shortened(&copies), version).await,
            written => written,
        }
    }
}

async fn in_time<T>(limit: Duration, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let too_late = |_| Error::Unavailable("no answer within the time that was left".to_owned());
    tokio::time::timeout(limit, call).await.map_err(too_late)?
}

/// Stable; the documentation says what to do about each.
fn code(error: &Error) -> &'static str {
    match error {
        Error::TooLarge => "OPERATION_SHADOW_FULL",
        _ => "ANSWER_NOT_WRITTEN",
    }
}
