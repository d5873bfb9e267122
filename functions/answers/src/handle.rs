//! From the event to the copies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lambda_runtime::{Diagnostic, LambdaEvent};
use lambda_support::{Deadline, elapsed_ms, now};
use ledger::Ledger;
use serde::Serialize;
use serde_json::Value as Json;
use shadow::operation_shadow::{CopiesUpdate, OperationShadows};
use shadow::{Error, ThingName};
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::copies;
use crate::event::{Changed, Told};

/// Time limit for the copies of one thing: others wait behind it.
const THING_LIMIT: Duration = Duration::from_secs(5);

/// Somebody else wrote into the shadow first so many times in a row.
const MOST_CONFLICTS: u32 = 20;

/// Everything that outlives an invocation.
pub(crate) struct Service {
    writer: Arc<Writer>,
    sqs: aws_sdk_sqs::Client,
    /// Queue with the names of things whose copies could not be written.
    queue_url: String,
}

/// Who writes the copies.
struct Writer {
    ledger: Ledger,
    shadows: OperationShadows,
}

/// What the function returns: which messages of the queue stay there (`ReportBatchItemFailures`).
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    batch_item_failures: Vec<Failed>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Failed {
    item_identifier: String,
}

/// What came of the copies of one thing.
type Written = (ThingName, Option<String>, Result<bool, Error>);

impl Service {
    pub(crate) fn new(
        ledger: Ledger,
        shadows: OperationShadows,
        sqs: aws_sdk_sqs::Client,
        queue_url: String,
    ) -> Service {
        Service { writer: Arc::new(Writer { ledger, shadows }), sqs, queue_url }
    }

    /// Writes the copies of all things that the event names. What could not be written for one thing is put into the queue, so
    /// that no other waits for it; it is an error of the function only where that is not possible either.
    pub(crate) async fn event(&self, event: LambdaEvent<Json>) -> Result<Answer, Diagnostic> {
        let LambdaEvent { payload, context } = event;
        // In lines of every level, hence its own.
        let (request_id, trace_id) = (context.request_id.as_str(), lambda_support::trace_id(&context));
        let span = tracing::error_span!("answers", request_id, trace_id);
        self.write_all(&payload, Deadline::of(&context)).instrument(span).await
    }

    async fn write_all(&self, payload: &Json, deadline: Deadline) -> Result<Answer, Diagnostic> {
        let begun = Instant::now();
        let told = Told::read(payload);
        lambda_support::log_unreadable_records(&told.not_understood);
        let things = told.changed.len() + told.anew.len();
        let names = told.changed.iter().map(|changed| &changed.thing).chain(told.anew.iter().map(|(thing, _)| thing));
        // Mostly it is one, and then its story has this line.
        let thing = names.last().map(|thing| thing.as_str().to_owned()).filter(|_| things == 1);
        let mut tasks: JoinSet<Written> = JoinSet::new();
        let limit = THING_LIMIT.min(deadline.left());
        for changed in told.changed {
            let writer = Arc::clone(&self.writer);
            tasks.spawn(async move {
                let written = in_time(limit, writer.change(&changed)).await;
                (changed.thing, None, written)
            });
        }
        for (thing, message) in told.anew {
            let writer = Arc::clone(&self.writer);
            tasks.spawn(async move {
                let written = in_time(limit, writer.anew(&thing)).await;
                (thing, Some(message), written)
            });
        }
        let (mut answer, mut updated, mut delayed) = (Answer::default(), 0_u32, 0_u32);
        let mut lost = Ok(());
        while let Some(joined) = tasks.join_next().await {
            let Ok((thing, message, written)) = joined else { continue };
            match written {
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
                        Some(item_identifier) => answer.batch_item_failures.push(Failed { item_identifier }),
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
        lost.map(|()| answer)
    }

    async fn put_off(&self, thing: &ThingName) -> Result<(), Diagnostic> {
        let sent = self.sqs.send_message().queue_url(&self.queue_url).message_body(thing.as_str()).send().await;
        sent.map(drop).map_err(|error| {
            lambda_support::diagnostic("ANSWER_NOT_WRITTEN", lambda_support::aws::error_summary(&error))
        })
    }
}

impl Writer {
    /// Whether anything had to be written.
    async fn change(&self, Changed { thing, before, after }: &Changed) -> Result<bool, Error> {
        if before.copies_overwrite_marker() != after.copies_overwrite_marker() {
            return self.anew(thing).await;
        }
        let Some(copies) = copies::of_change(before, after, now()) else { return Ok(false) };
        self.write(thing, copies, None).await?;
        if let Some(at) = copies::newest_word(after) {
            metrics::histogram!("AnswerLag").record(now().saturating_sub(at) as f64);
        }
        Ok(true)
    }

    /// Reads what stands there, and then the records, so that a write of what was there before fails.
    async fn anew(&self, thing: &ThingName) -> Result<bool, Error> {
        for _ in 0..MOST_CONFLICTS {
            let shadow = self.shadows.read(thing).await?;
            let version = shadow.as_ref().map(|shadow| shadow.version);
            let item = self.ledger.load(thing.as_str()).await;
            let item = item.map_err(|error| Error::Unavailable(error.to_string()))?;
            let copies = copies::anew(&item.device, &shadow.unwrap_or_default(), now());
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
