//! The failure queue, and the calls that send its messages on.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::sync::Mutex;

use aws_sdk_lambda::types::InvocationType;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, MessageSystemAttributeName,
    QueueAttributeName,
};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use requests::Millis;
use serde_json::{Map, Value as Json};
use shadow::ThingName;

use crate::connection::{Aws, function_in_arn};
use crate::exit::{Failure, could_not};

/// Tolerance between clocks. A message that came into the queue after the start has failed again, and is left alone.
const CLOCKS_DIFFER: Millis = 2_000;

/// Seconds for which messages stay hidden, if this ends without `release`.
pub(super) const HIDDEN_FOR: i32 = 900;

/// Most bytes of an event that an asynchronous invocation takes.
const LARGEST_EVENT: usize = 1024 * 1024;

/// Most messages of one call.
const BATCH: i32 = 10;

/// Looks that have to find nothing before the queue is empty: it is many machines, of which a call asks some.
const EMPTY_LOOKS: u32 = 2;

pub(super) struct FailureQueue {
    sqs: aws_sdk_sqs::Client,
    lambda: aws_sdk_lambda::Client,
    url: String,
    answers_url: String,
    functions: HashSet<String>,
    /// Name of the function that speaks to AWS IoT Jobs; `None` where jobs are switched off.
    job_executions: Option<String>,
    began: Millis,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Ids of all messages that were received.
    seen: HashSet<String>,
    /// Receipts of the messages that were received and not deleted, by id.
    held: HashMap<String, String>,
}

pub(super) struct Received {
    id: String,
    receipt: String,
    pub(super) body: String,
}

impl Received {
    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

/// Reason why a message stays in the queue.
pub(super) struct Reason {
    /// In short, for the sums.
    pub(super) short: String,
    pub(super) detail: String,
    /// Whether AWS refused a call, so that the message can be handled once that is mended.
    pub(super) is_refusal: bool,
}

impl Reason {
    fn refused(short: impl Into<String>, detail: impl Into<String>) -> Reason {
        Reason { short: short.into(), detail: detail.into(), is_refusal: true }
    }
}

/// Reason why nothing was done with a message.
pub(super) enum NotDone {
    Left(Reason),
    /// AWS was not reached, so it would not be for the others either.
    Failed(Failure),
}

impl NotDone {
    /// Makes the reason of a message that is left for what it is.
    pub(super) fn left(why: impl Into<String>) -> NotDone {
        let why = why.into();
        NotDone::Left(Reason { short: why.clone(), detail: why, is_refusal: false })
    }

    /// Makes reasons of failed calls. A refusal by AWS concerns only this message; the others may go.
    fn from_call<E, R>(what: &'static str) -> impl Fn(SdkError<E, R>) -> NotDone
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        move |error| match &error {
            SdkError::ServiceError(service) => NotDone::Left(Reason::refused(
                service.err().code().unwrap_or(what),
                lambda_support::aws::error_summary(service.err()),
            )),
            _ => {
                NotDone::Failed(Failure::new(format!("could not {what}: {}", lambda_support::aws::error_chain(&error))))
            }
        }
    }
}

impl FailureQueue {
    pub(super) async fn open(aws: &Aws) -> Result<FailureQueue, Failure> {
        let stack = aws.stack().await?;
        Ok(FailureQueue {
            sqs: aws.sqs(),
            lambda: aws.lambda(),
            url: stack.output("FailureQueueUrl")?.to_owned(),
            answers_url: stack.output("AnswersQueueUrl")?.to_owned(),
            functions: stack.functions().into_iter().map(str::to_owned).collect(),
            job_executions: stack.output("JobExecutionsFunction").ok().map(str::to_owned),
            began: lambda_support::now(),
            state: Mutex::default(),
        })
    }

    /// Receives messages that were there at the beginning, each once. Those that are not deleted are held until `release`.
    pub(super) async fn receive(&self) -> Result<Option<Vec<Received>>, Failure> {
        let mut empty = 0;
        while empty < EMPTY_LOOKS {
            let answer = self
                .sqs
                .receive_message()
                .queue_url(&self.url)
                .max_number_of_messages(BATCH)
                .wait_time_seconds(1)
                .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
                .send()
                .await
                .map_err(could_not("read the failure queue"))?;
            let messages = answer.messages.unwrap_or_default();
            empty = if messages.is_empty() { empty.saturating_add(1) } else { 0 };
            let (mut fresh, mut known) = (Vec::new(), Vec::new());
            for message in messages {
                let sent =
                    message.attributes.as_ref().and_then(|known| known.get(&MessageSystemAttributeName::SentTimestamp));
                let sent = sent.and_then(|sent| sent.parse::<Millis>().ok()).unwrap_or(0);
                let received = Received {
                    id: message.message_id.unwrap_or_default(),
                    receipt: message.receipt_handle.unwrap_or_default(),
                    body: message.body.unwrap_or_default(),
                };
                self.state().held.insert(received.id.clone(), received.receipt.clone());
                let came_back = sent > self.began.saturating_add(CLOCKS_DIFFER);
                if came_back || !self.state().seen.insert(received.id.clone()) {
                    known.push(received);
                } else {
                    fresh.push(received);
                }
            }
            self.leave(known.iter()).await?;
            if !fresh.is_empty() {
                return Ok(Some(fresh));
            }
        }
        Ok(None)
    }

    /// Leaves messages in the queue, and hides them: those behind them come. One that is not hidden is received and left again.
    pub(super) async fn leave(&self, messages: impl Iterator<Item = &Received>) -> Result<(), Failure> {
        let receipts: Vec<String> = messages.map(|received| received.receipt.clone()).collect();
        self.hide(&receipts, HIDDEN_FOR).await
    }

    /// Deletes messages; returns by id why some could not be deleted.
    pub(super) async fn delete(
        &self,
        messages: impl Iterator<Item = &Received>,
    ) -> Result<HashMap<String, Reason>, Failure> {
        let messages: Vec<&Received> = messages.collect();
        let entries = messages.iter().enumerate().filter_map(|(id, received)| {
            let entry = DeleteMessageBatchRequestEntry::builder().id(id.to_string()).receipt_handle(&received.receipt);
            entry.build().ok()
        });
        let entries: Vec<_> = entries.collect();
        if entries.is_empty() {
            return Ok(HashMap::new());
        }
        let deleted = self.sqs.delete_message_batch().queue_url(&self.url).set_entries(Some(entries)).send().await;
        let deleted = deleted.map_err(could_not("delete messages of the failure queue"))?;
        let named = |id: &str| messages.get(id.parse::<usize>().ok()?).map(|received| &received.id);
        for id in deleted.successful.iter().filter_map(|entry| named(&entry.id)) {
            self.state().held.remove(id);
        }
        let reasons = deleted.failed.into_iter().filter_map(|failure| {
            let id = named(&failure.id)?.clone();
            let detail = failure.message.unwrap_or_else(|| failure.code.clone());
            Some((id, Reason::refused(failure.code, detail)))
        });
        Ok(reasons.collect())
    }

    /// Gives an event to its function's own queue.
    pub(super) async fn send_again(&self, function: &str, event: &Map<String, Json>) -> Result<(), NotDone> {
        if !self.functions.contains(function_in_arn(function)) {
            return Err(NotDone::left(format!("{function} is no function of this stack")));
        }
        let mut event = event.clone();
        event.insert("redriven".to_owned(), Json::Bool(true));
        let payload = Json::Object(event).to_string();
        if payload.len() > LARGEST_EVENT {
            return Err(NotDone::left("it is too large for an asynchronous invocation"));
        }
        let invoke = self.lambda.invoke().function_name(function).invocation_type(InvocationType::Event);
        let payload = aws_sdk_lambda::primitives::Blob::new(payload);
        invoke.payload(payload).send().await.map(drop).map_err(NotDone::from_call("invoke a function"))
    }

    /// Says whether the function is the one that speaks to AWS IoT Jobs.
    pub(super) fn is_job_executions(&self, function: &str) -> bool {
        self.job_executions.as_deref() == Some(function_in_arn(function))
    }

    /// Has the answers of a thing written anew.
    pub(super) async fn rewrite_answers(&self, thing: &ThingName) -> Result<(), NotDone> {
        let send = self.sqs.send_message().queue_url(&self.answers_url).message_body(thing.as_str());
        send.send().await.map(drop).map_err(NotDone::from_call("write into the answers queue"))
    }

    /// Counts the messages that were received and not deleted, by whomever: nobody else gets them for a while.
    pub(super) async fn in_flight(&self) -> Result<u64, Failure> {
        let name = QueueAttributeName::ApproximateNumberOfMessagesNotVisible;
        let answer = self.sqs.get_queue_attributes().queue_url(&self.url).attribute_names(name.clone()).send().await;
        let counts = answer.map_err(could_not("count the messages in the failure queue"))?.attributes;
        Ok(counts.and_then(|counts| counts.get(&name)?.parse().ok()).unwrap_or_default())
    }

    /// Makes the messages visible that were not deleted. Failure is ignored: they become visible by themselves later.
    pub(super) async fn release(&self) {
        let held: Vec<String> = std::mem::take(&mut self.state().held).into_values().collect();
        let _ = self.hide(&held, 0).await;
    }

    /// Hides messages for so many seconds. Those that AWS refuses to hide are visible, or gone. Returns the first failure of a call,
    /// after all calls.
    async fn hide(&self, receipts: &[String], seconds: i32) -> Result<(), Failure> {
        let mut hidden = Ok(());
        for receipts in receipts.chunks(usize::try_from(BATCH).unwrap_or(1)) {
            let entries = receipts.iter().enumerate().filter_map(|(id, receipt)| {
                let entry =
                    ChangeMessageVisibilityBatchRequestEntry::builder().id(id.to_string()).receipt_handle(receipt);
                entry.visibility_timeout(seconds).build().ok()
            });
            let hide =
                self.sqs.change_message_visibility_batch().queue_url(&self.url).set_entries(Some(entries.collect()));
            let called = hide.send().await.map(drop);
            hidden = hidden.and(called.map_err(could_not("hide messages of the failure queue")));
        }
        hidden
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
