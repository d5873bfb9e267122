//! What invokes the function: records of the table's stream, or names of things in the queue.

use requests::Device;
use serde_json::Value as Json;
use shadow::ThingName;

/// What happened to a device's requests, as far as this invocation is told.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) thing: ThingName,
    /// As they were before the first record.
    pub(crate) before: Device,
    /// As they are after the last one.
    pub(crate) after: Device,
}

/// An event, taken apart.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) changed: Vec<Changed>,
    /// Things whose copies are to be written anew, each with the id of its message.
    pub(crate) anew: Vec<(ThingName, String)>,
    /// Records that are of no form that is known here, a line each.
    pub(crate) not_understood: Vec<String>,
}

impl Told {
    pub(crate) fn read(event: &Json) -> Told {
        let mut told = Told::default();
        let records = event.get("Records").and_then(Json::as_array).into_iter().flatten();
        let is_queued = |record: &&Json| record.get("eventSource").and_then(Json::as_str) == Some("aws:sqs");
        let (queued, streamed): (Vec<&Json>, Vec<&Json>) = records.partition(is_queued);
        for record in queued {
            told.queued(record);
        }
        let (changes, not_understood) = ledger::changes(streamed);
        told.not_understood.extend(not_understood);
        for ledger::Change { thing, before, after } in changes {
            match ThingName::parse(&thing) {
                Some(thing) => told.changed.push(Changed { thing, before, after }),
                None => told.not_understood.push("a record of no thing".to_owned()),
            }
        }
        told
    }

    fn queued(&mut self, record: &Json) {
        let text = |name: &str| record.get(name).and_then(Json::as_str).unwrap_or_default();
        match ThingName::parse(text("body")) {
            Some(thing) => self.anew.push((thing, text("messageId").to_owned())),
            None => self.not_understood.push("a message that is no thing's name".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn things_in_the_queue_are_written_anew() {
        let message = |body: &str| json!({"eventSource": "aws:sqs", "messageId": "m", "body": body});
        let told = Told::read(&json!({"Records": [message("urn:a"), message("no thing")]}));
        assert_eq!(told.anew, [(ThingName::parse("urn:a").unwrap(), "m".to_owned())]);
        assert_eq!(told.not_understood.len(), 1);
    }
}
