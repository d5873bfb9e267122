//! Sends what waits in the failure queue through again.
//!
//! Every event there has failed three times, or has expired in Lambda's own queue. It is given to its own function once more,
//! marked as redriven: what ended without a word goes on where it stopped, and what has been dealt with meanwhile is not sent
//! twice. An event leaves the queue when its function's queue has it; if it fails again, it comes back.
//!
//! The queue may also hold names of things whose answers could not be written for hours, and notes that Lambda gave up a part
//! of the ledger's stream. A thing's name goes back to where it came from, so that its answers are written anew. The stream's
//! records are not in such a note: `lwm2m rewrite-answers` writes all answers anew.
//!
//! What is left in the queue, and why, is said at the end. A message that is none of these stays there.

mod message;
mod queue;

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

use crate::connection::Aws;
use crate::exit::{Exit, Failure};
use crate::output;
use message::{Content, Message};
use queue::{Queue, Undone};

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

/// What became of a message.
struct Done {
    what: &'static str,
    message: String,
    /// Why it is left: in short, for the sum, and as it is told.
    why: Option<(String, String)>,
}

impl Done {
    fn left(message: String, short: String, told: String) -> Done {
        Done { what: "left", message, why: Some((short, told)) }
    }
}

pub(crate) async fn run(aws: &Aws, options: Options) -> Result<Exit, Failure> {
    let queue = Arc::new(Queue::of(aws).await?);
    let mut told = Told::new(aws.json);
    let ended = tokio::select! {
        ended = empty(&queue, options, &mut told) => ended.map(|()| Exit::Done),
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    };
    // Others can see at once what was left, however this ended.
    queue.release().await;
    told.sum_up();
    ended
}

/// Deals with each message that was there at the beginning, those of one receipt side by side.
async fn empty(queue: &Arc<Queue>, options: Options, told: &mut Told) -> Result<(), Failure> {
    while let Some(batch) = queue.receive().await? {
        let mut dealing = JoinSet::new();
        for received in batch {
            let queue = Arc::clone(queue);
            dealing.spawn(async move {
                let message = Message::read(&received.body);
                let done = if options.dry_run { Ok(None) } else { act(&queue, &message, options).await.map(Some) };
                (received, message.to_string(), done)
            });
        }
        let (mut finished, mut left, mut failed) = (Vec::new(), Vec::new(), None);
        while let Some(joined) = dealing.join_next().await {
            let (received, message, done) = joined.map_err(|error| Failure::new(error.to_string()))?;
            match done {
                Ok(Some(what)) => finished.push((received, Done { what, message, why: None })),
                Ok(None) => left.push((received, Done { what: "waits", message, why: None })),
                Err(Undone::Left { short, told }) => left.push((received, Done::left(message, short, told))),
                Err(Undone::Failed(failure)) => failed = Some(failure),
            }
        }
        let mut not_deleted = queue.delete(finished.iter().map(|(received, _)| received)).await?;
        for (received, done) in finished {
            match not_deleted.remove(received.id()) {
                None => told.tell(done),
                Some(why) => left.push((received, Done::left(done.message, why.clone(), why))),
            }
        }
        queue.leave(left.iter().map(|(received, _)| received)).await?;
        left.into_iter().for_each(|(_, done)| told.tell(done));
        if let Some(failure) = failed {
            return Err(failure);
        }
    }
    Ok(())
}

/// Does with a message what it is there for; afterwards it can be deleted.
async fn act(queue: &Queue, message: &Message, options: Options) -> Result<&'static str, Undone> {
    match message.content() {
        Content::Thing(thing) => queue.write_anew(thing).await.map(|()| "written anew"),
        Content::StreamNote { .. } if options.discard_stream_notes => Ok("discarded"),
        Content::StreamNote { function } if queue.is_of_jobs(function) => {
            Err(Undone::left("its executions of jobs stay IN_PROGRESS until their jobs' timeouts"))
        }
        Content::StreamNote { .. } => Err(Undone::left("lwm2m rewrite-answers writes all answers anew")),
        Content::Nothing => Err(Undone::left("neither an event nor a thing's name")),
        Content::Invalid if options.discard_invalid => Ok("discarded"),
        Content::Invalid => Err(Undone::left("it is no operation at all, and would fail again")),
        Content::Event { function, event } => queue.send_again(function, event).await.map(|()| "sent again"),
    }
}

/// What is printed: a line for each message, and sums at the end; or all of it as JSON.
struct Told {
    json: bool,
    messages: Vec<Json>,
    counts: BTreeMap<&'static str, usize>,
    reasons: BTreeMap<String, usize>,
}

impl Told {
    fn new(json: bool) -> Told {
        Told { json, messages: Vec::new(), counts: BTreeMap::new(), reasons: BTreeMap::new() }
    }

    fn tell(&mut self, Done { what, message, why }: Done) {
        *self.counts.entry(what).or_default() += 1;
        let told = why.as_ref().map(|(_, told)| told.clone());
        if self.json {
            self.messages.push(json!({"message": message, "done": what, "why": told}));
        } else {
            output::line(&format!("{what}: {message}{}", told.map(|told| format!(" ({told})")).unwrap_or_default()));
        }
        if let Some((short, _)) = why {
            *self.reasons.entry(short).or_default() += 1;
        }
    }

    fn sum_up(self) {
        if self.json {
            return output::json(&json!({"messages": self.messages, "counts": self.counts, "left": self.reasons}));
        }
        if self.counts.is_empty() {
            return output::line("The failure queue is empty.");
        }
        let counts: Vec<String> = self.counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
        output::line(&counts.join(", "));
        for (why, count) in &self.reasons {
            output::line(&format!("  {count} left: {why}"));
        }
    }
}
