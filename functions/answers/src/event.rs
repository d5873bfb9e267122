//! Parses an event: records of the table's stream, or messages of the queue with names of things.

use requests::Device;
use serde_json::Value as Json;
use shadow::ThingName;

/// Change of a device's requests by all records of a batch.
#[derive(Debug)]
pub(crate) struct DeviceChange {
    pub(crate) thing: ThingName,
    /// The requests before the first record.
    pub(crate) before: Device,
    /// The requests after the last record.
    pub(crate) after: Device,
}

/// A batch of records and messages.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) changes: Vec<DeviceChange>,
    /// Things whose copies are all to be written, each with the id of its message.
    pub(crate) queued: Vec<(ThingName, String)>,
    /// Things whose copies are all to be written, because a record about them cannot be read.
    pub(crate) incomplete: Vec<ThingName>,
    /// Records of unknown form, a line each.
    pub(crate) unreadable: Vec<String>,
}

impl Batch {
    pub(crate) fn parse(event: &Json) -> Batch {
        let mut batch = Batch::default();
        let records = event.get("Records").and_then(Json::as_array).into_iter().flatten();
        let is_queued = |record: &&Json| record.get("eventSource").and_then(Json::as_str) == Some("aws:sqs");
        let (queued, streamed): (Vec<&Json>, Vec<&Json>) = records.partition(is_queued);
        for record in queued {
            batch.add_message(record);
        }
        let (changes, unreadable) = ledger::changes(streamed);
        for ledger::UnreadableRecord { thing, reason } in unreadable {
            let known = thing.and_then(|thing| ThingName::parse(&thing));
            batch.incomplete.extend(known.filter(|thing| !batch.incomplete.contains(thing)));
            batch.unreadable.push(reason);
        }
        for ledger::Change { thing, before, after } in changes {
            match ThingName::parse(&thing) {
                Some(thing) if batch.incomplete.contains(&thing) => {}
                Some(thing) => batch.changes.push(DeviceChange { thing, before, after }),
                None => batch.unreadable.push("a record of no thing".to_owned()),
            }
        }
        batch
    }

    fn add_message(&mut self, record: &Json) {
        let text = |name: &str| record.get(name).and_then(Json::as_str).unwrap_or_default();
        match ThingName::parse(text("body")) {
            Some(thing) => self.queued.push((thing, text("messageId").to_owned())),
            None => self.unreadable.push("a message that is no thing's name".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_of_the_queue_name_things() {
        let message = |body: &str| json!({"eventSource": "aws:sqs", "messageId": "m", "body": body});
        let batch = Batch::parse(&json!({"Records": [message("urn:a"), message("no thing")]}));
        assert_eq!(batch.queued, [(ThingName::parse("urn:a").unwrap(), "m".to_owned())]);
        assert_eq!(batch.unreadable.len(), 1);
    }
}
