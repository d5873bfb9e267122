//! What invokes the function: records of the table's stream, or names of things in the queue.

use ledger::Item;
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
        for record in event.get("Records").and_then(Json::as_array).into_iter().flatten() {
            let read = match record.get("eventSource").and_then(Json::as_str) {
                Some("aws:sqs") => told.queued(record),
                _ => told.streamed(record),
            };
            if let Err(why) = read {
                told.not_understood.push(why);
            }
        }
        told
    }

    fn queued(&mut self, record: &Json) -> Result<(), String> {
        let text = |name: &str| record.get(name).and_then(Json::as_str).unwrap_or_default();
        let thing = ThingName::parse(text("body")).ok_or("a message that is no thing's name")?;
        self.anew.push((thing, text("messageId").to_owned()));
        Ok(())
    }

    fn streamed(&mut self, record: &Json) -> Result<(), String> {
        let change = record.get("dynamodb").ok_or("a record without dynamodb")?;
        let key = |name: &str| change.pointer(&format!("/Keys/{name}/S")).and_then(Json::as_str).unwrap_or_default();
        if key("entry") != "device" {
            return Ok(());
        }
        let thing = ThingName::parse(key("thing")).ok_or("a record of no thing")?;
        let image = |name: &str| match change.get(name) {
            Some(image) => Item::read_stream_image(image).map(|item| item.device).map_err(|error| error.to_string()),
            None => Ok(Device::default()),
        };
        let (before, after) = (image("OldImage")?, image("NewImage")?);
        match self.changed.iter_mut().find(|changed| changed.thing == thing) {
            Some(changed) => changed.after = after,
            None => self.changed.push(Changed { thing, before, after }),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn records_of_one_thing_are_taken_together() {
        let record = |thing: &str, old: Option<u64>, new: u64| {
            let image = |newest: u64| json!({"thing": {"S": thing}, "state": {"S": json!({"h": newest}).to_string()}});
            let mut change = json!({"Keys": {"thing": {"S": thing}, "entry": {"S": "device"}}, "NewImage": image(new)});
            if let Some(old) = old {
                change["OldImage"] = image(old);
            }
            json!({"eventSource": "aws:dynamodb", "dynamodb": change})
        };
        let told =
            Told::read(&json!({"Records": [record("a", None, 1), record("b", Some(5), 6), record("a", Some(1), 2)]}));
        let versions: Vec<_> =
            told.changed.iter().map(|c| (c.thing.as_str(), c.before.newest(), c.after.newest())).collect();
        assert_eq!(versions, [("a", 0, 2), ("b", 5, 6)]);
        assert!(told.anew.is_empty() && told.not_understood.is_empty());
    }

    #[test]
    fn things_in_the_queue_are_written_anew() {
        let message = |body: &str| json!({"eventSource": "aws:sqs", "messageId": "m", "body": body});
        let told = Told::read(&json!({"Records": [message("urn:a"), message("no thing")]}));
        assert_eq!(told.anew, [(ThingName::parse("urn:a").unwrap(), "m".to_owned())]);
        assert_eq!(told.not_understood.len(), 1);
    }
}
