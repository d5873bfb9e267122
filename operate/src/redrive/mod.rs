//! `lwm2m redrive`: sends the events in the failure queue through again.
//!
//! Every event there has failed three times, or has expired in Lambda's own queue. It is given to its own function once more,
//! marked as redriven: a request whose run ended without an answer goes on where it stopped, and one that has been dealt with
//! meanwhile is not sent twice. An event leaves the queue when its function's queue has it; if it fails again, it comes back.
//!
//! The queue may also hold names of things whose answers could not be written for hours, and notes that Lambda gave up a part
//! of the ledger's stream. A thing's name goes back to where it came from, so that its answers are written anew. The stream's
//! records are not in such a note: `lwm2m rewrite-answers` writes all answers anew. A scheduled search for executions of jobs is
//! deleted: the next one has made up for it.
//!
//! The output ends with the messages that are left in the queue, and why. A message of another kind stays there. If AWS refused to
//! send a message on, or to delete it, the exit status is that of a failure.

mod message;
mod queue;

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use serde_json::{Map, Value as Json, json};
use tokio::task::JoinSet;

use crate::connection::Aws;
use crate::exit::{Exit, Failure};
use crate::output;
use message::{Content, Message};
use queue::{FailureQueue, HIDDEN_FOR, NotDone, Reason};

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Options {
    /// Only show what is in the queue
    #[arg(long)]
    dry_run: bool,
    /// Delete events that are no operation at all
    #[arg(long)]
    discard_invalid: bool,
    /// Delete notes of parts of the ledger's stream that were given up
    #[arg(long)]
    discard_stream_notes: bool,
}

/// Outcome of a message.
struct Outcome {
    /// Word for the outcome, such as `sent again`.
    word: &'static str,
    message: String,
    /// Reason why it is left.
    reason: Option<Reason>,
}

impl Outcome {
    fn done(message: String, word: &'static str) -> Outcome {
        Outcome { word, message, reason: None }
    }

    fn left(message: String, reason: Reason) -> Outcome {
        Outcome { word: "left", message, reason: Some(reason) }
    }
}

pub(crate) async fn run(aws: &Aws, options: Options) -> Result<Exit, Failure> {
    let queue = Arc::new(FailureQueue::open(aws).await?);
    let mut report = Report::new(aws.json);
    let ended = tokio::select! {
        ended = drain(&queue, options, &mut report) => ended.map(|()| Exit::Done),
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    };
    // However this ended: others can see at once what was left.
    queue.release().await;
    Ok(report.sum_up(ended))
}

/// Handles each message that was there at the beginning, those of one call concurrently. If there was none, counts those in flight.
async fn drain(queue: &Arc<FailureQueue>, options: Options, report: &mut Report) -> Result<(), Failure> {
    while let Some(batch) = queue.receive().await? {
        let mut handling = JoinSet::new();
        for received in batch {
            let queue = Arc::clone(queue);
            handling.spawn(async move {
                let message = Message::read(&received.body);
                let done = if options.dry_run { Ok(None) } else { handle(&queue, &message, options).await.map(Some) };
                (received, message.to_string(), done)
            });
        }
        let (mut finished, mut left, mut failed) = (Vec::new(), Vec::new(), None);
        while let Some(joined) = handling.join_next().await {
            let (received, message, done) = joined.map_err(|error| Failure::new(error.to_string()))?;
            match done {
                Ok(Some(word)) => finished.push((received, Outcome::done(message, word))),
                Ok(None) => left.push((received, Outcome::done(message, "waits"))),
                Err(NotDone::Left(reason)) => left.push((received, Outcome::left(message, reason))),
                Err(NotDone::Failed(failure)) => failed = Some(failure),
            }
        }
        let mut not_deleted = queue.delete(finished.iter().map(|(received, _)| received)).await?;
        for (received, outcome) in finished {
            match not_deleted.remove(received.id()) {
                None => report.add(outcome),
                Some(reason) => left.push((received, Outcome::left(outcome.message, reason))),
            }
        }
        queue.leave(left.iter().map(|(received, _)| received)).await?;
        left.into_iter().for_each(|(_, outcome)| report.add(outcome));
        if let Some(failure) = failed {
            return Err(failure);
        }
    }
    if report.counts.is_empty() {
        report.in_flight = Some(queue.in_flight().await?);
    }
    Ok(())
}

/// Sends a message where it belongs; afterwards it can be deleted. Returns the word for that.
async fn handle(queue: &FailureQueue, message: &Message, options: Options) -> Result<&'static str, NotDone> {
    match message.content() {
        Content::Thing(thing) => queue.rewrite_answers(thing).await.map(|()| "written anew"),
        Content::StreamNote { .. } if options.discard_stream_notes => Ok("discarded"),
        Content::StreamNote { function } if queue.is_job_executions(function) => Err(NotDone::left(
            "job-executions reports its executions within minutes; --discard-stream-notes deletes it",
        )),
        Content::StreamNote { .. } => Err(NotDone::left("lwm2m rewrite-answers writes all answers anew")),
        Content::Unknown => Err(NotDone::left("neither an event nor a thing's name")),
        Content::Search => Ok("discarded"),
        Content::InvalidEvent if options.discard_invalid => Ok("discarded"),
        Content::InvalidEvent => Err(NotDone::left("it is no operation at all, and would fail again")),
        Content::Event { function, event } => queue.send_again(function, event).await.map(|()| "sent again"),
    }
}

/// Output: a line for each message, and sums at the end; or all of it as JSON.
struct Report {
    json: bool,
    messages: Vec<Json>,
    counts: BTreeMap<&'static str, usize>,
    reasons: BTreeMap<String, usize>,
    was_refused: bool,
    /// Messages in flight, where no other one was found.
    in_flight: Option<u64>,
}

impl Report {
    fn new(json: bool) -> Report {
        Report {
            json,
            messages: Vec::new(),
            counts: BTreeMap::new(),
            reasons: BTreeMap::new(),
            was_refused: false,
            in_flight: None,
        }
    }

    fn add(&mut self, Outcome { word, message, reason }: Outcome) {
        *self.counts.entry(word).or_default() += 1;
        let detail = reason.as_ref().map(|reason| reason.detail.clone());
        if self.json {
            self.messages.push(json!({"message": message, "done": word, "why": detail}));
        } else {
            let detail = detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
            output::line(&format!("{word}: {message}{detail}"));
        }
        if let Some(Reason { short, is_refusal, .. }) = reason {
            *self.reasons.entry(short).or_default() += 1;
            self.was_refused |= is_refusal;
        }
    }

    /// Prints the sums, and the failure if one ended it; returns the exit status.
    fn sum_up(self, ended: Result<Exit, Failure>) -> Exit {
        if self.json {
            let mut fields = Map::from_iter([
                ("messages".to_owned(), json!(self.messages)),
                ("counts".to_owned(), json!(self.counts)),
                ("left".to_owned(), json!(self.reasons)),
                ("inFlight".to_owned(), json!(self.in_flight)),
            ]);
            fields.extend(ended.as_ref().err().map(Failure::as_fields).unwrap_or_default());
            output::json(&Json::Object(fields));
        } else {
            self.print_sums();
            if let Err(failure) = &ended {
                failure.print(self.json);
            }
        }
        match ended {
            Ok(Exit::Done) if self.was_refused => Exit::Failed,
            Ok(exit) => exit,
            Err(failure) => failure.exit,
        }
    }

    fn print_sums(&self) {
        match self.in_flight {
            Some(0) => output::line("The failure queue is empty."),
            Some(count) => output::line(&format!(
                "No message can be received; {count} in flight: another redrive has them, or had them when it was killed. \
                 They come back within {} minutes.",
                HIDDEN_FOR / 60
            )),
            // It was ended before the first message.
            None if self.counts.is_empty() => {}
            None => {
                let counts: Vec<String> = self.counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
                output::line(&counts.join(", "));
                for (why, count) in &self.reasons {
                    output::line(&format!("  {count} left: {why}"));
                }
            }
        }
    }
}
