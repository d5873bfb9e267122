//! The failure queue, and where its messages go.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::sync::Mutex;

use aws_sdk_lambda::types::InvocationType;
use aws_sdk_sqs::types::{ChangeMessageVisibilityBatchRequestEntry, MessageSystemAttributeName};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use requests::Millis;
use serde_json::{Map, Value as Json};
use shadow::ThingName;

use crate::connection::Aws;
use crate::exit::{Failure, could_not};

/// What comes into the queue after this began has failed again, and would do so for ever. Clocks differ by so much.
const CLOCKS_DIFFER: Millis = 2_000;

/// Seconds, if this ends without `release`.
const HIDDEN_FOR: i32 = 900;

/// What an asynchronous invocation takes, in bytes.
const LARGEST_EVENT: usize = 1024 * 1024;

/// Messages of one call.
const BATCH: i32 = 10;

/// The queue is empty when it is found so twice: it is many machines, of which a call asks some.
const EMPTY_LOOKS: u32 = 2;

pub(super) struct Queue {
    sqs: aws_sdk_sqs::Client,
    lambda: aws_sdk_lambda::Client,
    url: String,
    answers_url: String,
    functions: HashSet<String>,
    began: Millis,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Ids of the messages that were received.
    seen: HashSet<String>,
    /// Receipts of those that are left, by id.
    hidden: HashMap<String, String>,
}

pub(super) struct Received {
    id: String,
    receipt: String,
    pub(super) body: String,
}

/// Why nothing was done with a message.
pub(super) enum Undone {
    /// It stays in the queue.
    Left { short: String, told: String },
    /// AWS was not reached: neither would it be for the others.
    Failed(Failure),
}

impl Undone {
    pub(super) fn left(why: impl Into<String>) -> Undone {
        let why = why.into();
        Undone::Left { short: why.clone(), told: why }
    }

    /// AWS's own no is of this message; the others may go.
    fn of<E, R>(what: &'static str) -> impl Fn(SdkError<E, R>) -> Undone
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        move |error| match &error {
            SdkError::ServiceError(service) => Undone::Left {
                short: service.err().code().unwrap_or(what).to_owned(),
                told: runtime::aws::told(service.err()),
            },
            _ => Undone::Failed(Failure::new(format!("could not {what}: {}", runtime::aws::with_causes(&error)))),
        }
    }
}

impl Queue {
    pub(super) async fn of(aws: &Aws) -> Result<Queue, Failure> {
        let stack = aws.stack().await?;
        Ok(Queue {
            sqs: aws.sqs(),
            lambda: aws.lambda(),
            url: stack.output("FailureQueueUrl")?.to_owned(),
            answers_url: stack.output("AnswersQueueUrl")?.to_owned(),
            functions: stack.functions().map(str::to_owned).collect(),
            began: runtime::now(),
            state: Mutex::default(),
        })
    }

    /// Messages that were there at the beginning, each once. What is left stays hidden until `release`.
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
            let mut fresh = Vec::new();
            for message in messages {
                let sent =
                    message.attributes.as_ref().and_then(|known| known.get(&MessageSystemAttributeName::SentTimestamp));
                let sent = sent.and_then(|sent| sent.parse::<Millis>().ok()).unwrap_or(0);
                let received = Received {
                    id: message.message_id.unwrap_or_default(),
                    receipt: message.receipt_handle.unwrap_or_default(),
                    body: message.body.unwrap_or_default(),
                };
                let came_back = sent > self.began.saturating_add(CLOCKS_DIFFER);
                if came_back || !self.state().seen.insert(received.id.clone()) {
                    self.leave(&received).await?;
                } else {
                    fresh.push(received);
                }
            }
            if !fresh.is_empty() {
                return Ok(Some(fresh));
            }
        }
        Ok(None)
    }

    /// Keeps a message out of the way of those behind it.
    pub(super) async fn leave(&self, received: &Received) -> Result<(), Failure> {
        self.state().hidden.insert(received.id.clone(), received.receipt.clone());
        let hide = self.sqs.change_message_visibility().queue_url(&self.url).receipt_handle(&received.receipt);
        match hide.visibility_timeout(HIDDEN_FOR).send().await {
            // One that is not hidden any more comes again, and is left again.
            Ok(_) | Err(SdkError::ServiceError(_)) => Ok(()),
            Err(error) => Err(could_not("hide a message of the failure queue")(error)),
        }
    }

    pub(super) async fn delete(&self, received: &Received) -> Result<(), Undone> {
        let delete = self.sqs.delete_message().queue_url(&self.url).receipt_handle(&received.receipt);
        delete.send().await.map(drop).map_err(Undone::of("delete a message of the failure queue"))
    }

    /// Gives an event to its function's own queue.
    pub(super) async fn send_again(&self, function: &str, event: &Map<String, Json>) -> Result<(), Undone> {
        // arn:aws:lambda:<region>:<account>:function:<name>[:<qualifier>]
        let name = function.split(':').nth(6).unwrap_or_default();
        if !self.functions.contains(name) {
            return Err(Undone::left(format!("{function} is no function of this stack")));
        }
        let mut event = event.clone();
        event.insert("redriven".to_owned(), Json::Bool(true));
        let payload = Json::Object(event).to_string();
        if payload.len() > LARGEST_EVENT {
            return Err(Undone::left("it is too large for an asynchronous invocation"));
        }
        let invoke = self.lambda.invoke().function_name(function).invocation_type(InvocationType::Event);
        let payload = aws_sdk_lambda::primitives::Blob::new(payload);
        invoke.payload(payload).send().await.map(drop).map_err(Undone::of("invoke a function"))
    }

    /// Has the answers of a thing written anew.
    pub(super) async fn write_anew(&self, thing: &ThingName) -> Result<(), Undone> {
        let send = self.sqs.send_message().queue_url(&self.answers_url).message_body(thing.as_str());
        send.send().await.map(drop).map_err(Undone::of("write into the answers queue"))
    }

    /// Lets others see at once what was left. One that nobody can hide any more is to be seen anyway.
    pub(super) async fn release(&self) {
        let hidden: Vec<String> = std::mem::take(&mut self.state().hidden).into_values().collect();
        for receipts in hidden.chunks(usize::try_from(BATCH).unwrap_or(1)) {
            let entries = receipts.iter().enumerate().filter_map(|(id, receipt)| {
                let entry =
                    ChangeMessageVisibilityBatchRequestEntry::builder().id(id.to_string()).receipt_handle(receipt);
                entry.visibility_timeout(0).build().ok()
            });
            let show = self.sqs.change_message_visibility_batch().queue_url(&self.url);
            let _ = show.set_entries(Some(entries.collect())).send().await;
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
