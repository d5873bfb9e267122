//! Parses an event: a result from its rule, or the keys that a device has deleted.

use requests::{DELETE, Millis, Name, NamedPaths, ResultReceived, has_result};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};
use shadow::Envelope;
use shadow::folding::Change;

/// A result of an operation, or the deletion of object instances.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) envelope: Envelope,
    pub(crate) operation: String,
    pub(crate) change: Change,
    /// Parts of the result that are of no known form, a line each.
    pub(crate) unreadable: Vec<String>,
    /// Failed keys as Coiote wrote them: a text that was split at commas, `[""]` where no key failed.
    pub(crate) failed_keys: Vec<String>,
    /// Request by which the device has deleted them.
    pub(crate) deleted_by: Option<Name>,
    paths: NamedPaths,
    /// Whether the event has neither a result nor failed keys: they were removed from the shadow.
    is_empty: bool,
}

impl Response {
    /// Parses an event. The error is one line for the event's author.
    pub(crate) fn parse(event: &RawValue) -> Result<Response, String> {
        let (envelope, mut fields) = Envelope::open(event)?;
        if let Some(deleted) = fields.remove("deleted") {
            let paths: Vec<String> =
                serde_json::from_value(deleted).map_err(|_| "deleted: expected an array of paths")?;
            return Ok(Response {
                envelope,
                operation: DELETE.to_owned(),
                change: Change::removal(paths),
                unreadable: Vec::new(),
                failed_keys: Vec::new(),
                deleted_by: fields.get("request").and_then(Json::as_str).map(Name::parse),
                paths: NamedPaths::default(),
                is_empty: false,
            });
        }
        let operation =
            fields.remove("operation").and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
        let failed_keys = failed_keys(&mut fields);
        let result = fields.remove("result").filter(|result| !result.is_null());
        let is_empty = result.is_none() && failed_keys.is_none();
        let failed_keys = failed_keys.unwrap_or_default();
        let result = result.unwrap_or_else(|| Json::Object(Map::new()));
        let paths = NamedPaths::of(&result);
        let (change, unreadable) = Change::from_result(result);
        Ok(Response { envelope, operation, change, unreadable, failed_keys, deleted_by: None, paths, is_empty })
    }

    /// Whether it belongs into the datamodel shadow: other operations have no values.
    pub(crate) fn is_to_be_folded(&self) -> bool {
        !self.is_empty && (has_result(&self.operation) || self.is_deletion())
    }

    /// Whether it is the deletion of object instances.
    pub(crate) fn is_deletion(&self) -> bool {
        self.operation == DELETE
    }

    /// The keys that failed.
    pub(crate) fn failed(&self) -> impl Iterator<Item = &str> {
        self.failed_keys.iter().map(String::as_str).filter(|key| !key.is_empty())
    }

    /// The result for the ledger; none where the shadow version that carried it is not known.
    pub(crate) fn received(&self, mark: String, at: Millis) -> Option<ResultReceived> {
        Some(ResultReceived {
            version: self.envelope.version?,
            mark,
            reported_at: self.envelope.timestamp.unwrap_or(0),
            operation: self.operation.clone(),
            paths: self.paths.clone(),
            touched: self.change.fingerprint(),
            failed_keys: self.failed().map(str::to_owned).collect(),
            at,
        })
    }
}

fn failed_keys(fields: &mut Map<String, Json>) -> Option<Vec<String>> {
    let Some(Json::Array(keys)) = fields.remove("failedKeys") else { return None };
    Some(keys.into_iter().filter_map(|key| key.as_str().map(str::to_owned)).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_ledger_gets_paths_and_failed_keys() {
        let event = json!({
            "thingName": "a", "version": 9, "timestamp": 100, "operation": "read", "failedKeys": ["Location", ""],
            "result": {"Device": {"0": {"UTC Offset": "+02:00", "Timezone": null, "Odd": [1]}}},
        });
        let response = Response::parse(&RawValue::from_string(event.to_string()).unwrap()).unwrap();
        let received = response.received("m".to_owned(), 5).unwrap();
        assert_eq!(
            (received.version, received.reported_at, received.failed_keys),
            (9, 100, vec!["Location".to_owned()])
        );
        assert!(received.paths.contains(requests::path_hash("Device.0.UTC Offset")));
        assert_eq!(response.unreadable.len(), 1);
    }

    #[test]
    fn a_deletion_is_a_change_without_a_version() {
        let event = json!({"thingName": "a", "deleted": ["Portfolio.5"], "timestamp": 100});
        let response = Response::parse(&RawValue::from_string(event.to_string()).unwrap()).unwrap();
        assert!(response.is_to_be_folded() && response.received(String::new(), 0).is_none());
        assert!(!response.change.is_empty());
    }
}
