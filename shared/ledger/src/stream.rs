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

/// Changes in records of the stream, one for each thing; and an error message for each record that cannot be read.
pub fn changes<'a>(records: impl IntoIterator<Item = &'a Json>) -> (Vec<Change>, Vec<String>) {
    let (mut changes, mut unreadable): (Vec<Change>, Vec<String>) = (Vec::new(), Vec::new());
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
fn change(record: &Json) -> Result<Option<Change>, String> {
    let change = record.get("dynamodb").ok_or("a record without dynamodb")?;
    let key = |name: &str| change.pointer(&format!("/Keys/{name}/S")).and_then(Json::as_str).unwrap_or_default();
    if key("entry") != ENTRY {
        return Ok(None);
    }
    let image = |name: &str| match change.get(name) {
        Some(image) => Item::read_stream_image(image).map(|item| item.device).map_err(|error: Error| error.to_string()),
        None => Ok(Device::default()),
    };
    Ok(Some(Change { thing: key("thing").to_owned(), before: image("OldImage")?, after: image("NewImage")? }))
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
        let records = [record("a", None, 1), other, record("b", Some(5), 6), record("a", Some(1), 2), json!({})];
        let (found, unreadable) = changes(&records);
        let versions: Vec<_> =
            found.iter().map(|c| (c.thing.as_str(), c.before.newest_version(), c.after.newest_version())).collect();
        assert_eq!(versions, [("a", 0, 2), ("b", 5, 6)]);
        assert_eq!(unreadable.len(), 1);
    }
}
