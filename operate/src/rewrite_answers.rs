//! `lwm2m rewrite-answers`: has the answers of all devices written anew, from the ledger.
//!
//! This is for a function `answers` that was away for longer than its stream keeps records (a day), for a part of the stream that
//! Lambda gave up, and for answers that were overwritten in many shadows. It sends the name of each thing that has requests in the
//! ledger to `answers`, which makes the shadow agree with the ledger. It changes no request, and may be run at any time.

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use indicatif::ProgressBar;
use serde_json::json;

use crate::connection::Aws;
use crate::exit::{Exit, Failure, could_not, ledger_failure};
use crate::output;

/// Most messages that SQS takes in one call.
const BATCH: usize = 10;

pub(crate) async fn run(aws: &Aws) -> Result<Exit, Failure> {
    let stack = aws.stack().await?;
    let ledger = aws.ledger(&stack)?;
    let queue = AnswersQueue { sqs: aws.sqs(), url: stack.output("AnswersQueueUrl")?.to_owned() };
    let progress = ProgressBar::new_spinner();
    let (mut count, mut batch) = (0_usize, Vec::new());
    let mut things = ledger.things();
    while let Some(page) = things.next().await.map_err(ledger_failure)? {
        for thing in page {
            count = count.saturating_add(1);
            batch.push(thing);
            if batch.len() == BATCH {
                // Those that the queue did not take are sent with the next ones.
                batch = queue.send(batch).await?;
            }
        }
        progress.set_message(format!("{count} things so far"));
        progress.tick();
    }
    while !batch.is_empty() {
        batch = queue.send(batch).await?;
    }
    progress.finish_and_clear();
    if aws.json {
        output::json(&json!({"things": count}));
    } else {
        output::line(&format!("The answers of {count} things are written anew; the last ones within minutes."));
    }
    Ok(Exit::Done)
}

/// Queue of things whose answers the function `answers` is to write.
struct AnswersQueue {
    sqs: aws_sdk_sqs::Client,
    url: String,
}

impl AnswersQueue {
    /// Sends the names of things, ten at most; returns those that the queue did not take. Fails if it took none.
    async fn send(&self, things: Vec<String>) -> Result<Vec<String>, Failure> {
        let entry = |(id, thing): (usize, &String)| {
            SendMessageBatchRequestEntry::builder().id(id.to_string()).message_body(thing).build().ok()
        };
        let entries = things.iter().enumerate().filter_map(entry).collect();
        let sent = self.sqs.send_message_batch().queue_url(&self.url).set_entries(Some(entries)).send().await;
        let failed = sent.map_err(could_not("write into the answers queue"))?.failed;
        let left: Vec<String> =
            failed.iter().filter_map(|failure| things.get(failure.id.parse::<usize>().ok()?).cloned()).collect();
        if left.len() == things.len() {
            return Err(Failure::new(format!("the queue took none of {}; run this again later", things.join(", "))));
        }
        Ok(left)
    }
}
