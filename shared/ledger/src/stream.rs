//! Changes of devices' requests, from records of the table's stream.

use requests::Device;
use serde_json::Value as Json;

use crate::device::ENTRY;
use crate::{Error, Item};

/// Change of a device's requests.
#[derive(Debug)]
pub struct Change {
    /// Name of the thing.
    pub thing: String,
    /// Requests before the first record.
    pub before: Device,
    /// Requests after the last record.
    pub after: Device,
}

/// Record that cannot be read.
#[derive(Debug)]
pub struct UnreadableRecord {
    /// Name of the thing whose item it is about, if that can be read.
    pub thing: Option<String>,
    /// Error message.
    pub reason: String,
}

/// Changes in records of the stream, one for each thing; and the records that cannot be read.
pub fn changes<'a>(records: impl IntoIterator<Item = &'a Json>) -> (Vec<Change>, Vec<UnreadableRecord>) {
    let (mut changes, mut unreadable): (Vec<Change>, Vec<UnreadableRecord>) = (Vec::new(), Vec::new());
    for record in records {
        match change(record) {
            Ok(None) => {}
            Ok(Some(change)) => match changes.iter_mut().find(|known| known.thing == change.thing) {
                Some(known) => known.after = change.after,
                None => changes.push(change),
            },
            Err(error) => unreadable.push(error),
        }
    }
    (changes, unreadable)
}

/// Change in a record; `None` if the record is not about a device's item.
fn change(record: &Json) -> Result<Option<Change>, UnreadableRecord> {
    let unreadable = |thing, reason: String| UnreadableRecord { thing, reason };
    let change = record.get("dynamodb").ok_or_else(|| unreadable(None, "a record without dynamodb".to_owned()))?;
    let key = |name: &str| change.pointer(&format!("/Keys/{name}/S")).and_then(Json::as_str).unwrap_or_default();
    if key("entry") != ENTRY {
        return Ok(None);
    }
    let thing = key("thing").to_owned();
    let image = |name: &str| match change.get(name) {
        Some(image) => Item::read_stream_image(image)
            .map(|item| item.device)
            .map_err(|error: Error| unreadable(Some(thing.clone()), error.to_string())),
        None => Ok(Device::default()),
    };
    let (before, after) = (image("OldImage")?, image("NewImage")?);
    Ok(Some(Change { thing, before, after }))
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
        let other = json!({"dynamodb": {"Keys": {"thing": {"S": "a"}, "entry": {"S": "body#17"}}}});
        let mut broken = record("c", Some(1), 2);
        broken["dynamodb"]["OldImage"]["state"]["S"] = json!("{");
        let records =
            [record("a", None, 1), other, record("b", Some(5), 6), record("a", Some(1), 2), json!({}), broken];
        let (found, unreadable) = changes(&records);
        let versions: Vec<_> =
            found.iter().map(|c| (c.thing.as_str(), c.before.newest_version(), c.after.newest_version())).collect();
        assert_eq!(versions, [("a", 0, 2), ("b", 5, 6)]);
        let of: Vec<_> = unreadable.iter().map(|record| record.thing.as_deref()).collect();
        assert_eq!(of, [None, Some("c")]);
    }
}
