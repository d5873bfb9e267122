//! A result, as the rule passes it on.

use requests::{Millis, ResultReceived, has_result, named_paths};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};
use shadow::Envelope;
use shadow::folding::Change;

/// A result, or what a device has deleted.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) envelope: Envelope,
    pub(crate) operation: String,
    pub(crate) change: Change,
    /// What could not be understood, a line each.
    pub(crate) not_understood: Vec<String>,
    /// As Coiote wrote them: one text that was split at commas, `[""]` where none failed.
    pub(crate) failed_keys: Vec<String>,
    /// Hashes of the paths that the result names.
    paths: Vec<u32>,
    /// Neither a result nor failed keys: somebody took Coiote's words away.
    is_empty: bool,
}

impl Response {
    /// Opens an event. The error is one line for whoever wrote it.
    pub(crate) fn open(event: &RawValue) -> Result<Response, String> {
        let (envelope, mut fields) = Envelope::open(event)?;
        if let Some(deleted) = fields.remove("deleted") {
            let paths: Vec<String> =
                serde_json::from_value(deleted).map_err(|_| "deleted: expected an array of paths")?;
            return Ok(Response {
                envelope,
                operation: "delete".to_owned(),
                change: Change::removal(paths),
                not_understood: Vec::new(),
                failed_keys: Vec::new(),
                paths: Vec::new(),
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
        let paths = named_paths(&result);
        let (change, not_understood) = Change::from_result(result);
        Ok(Response { envelope, operation, change, not_understood, failed_keys, paths, is_empty })
    }

    /// Whether it belongs into the data model: the other operations report nothing that does.
    pub(crate) fn is_to_be_folded(&self) -> bool {
        !self.is_empty && (has_result(&self.operation) || self.operation == "delete")
    }

    pub(crate) fn failed(&self) -> impl Iterator<Item = &str> {
        self.failed_keys.iter().map(String::as_str).filter(|key| !key.is_empty())
    }

    /// What the ledger is told of it. Nothing where it is not known which shadow version carried it.
    pub(crate) fn returned(&self, mark: String, at: Millis) -> Option<ResultReceived> {
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
    fn what_the_ledger_is_told() {
        let event = json!({
            "thingName": "a", "version": 9, "timestamp": 100, "operation": "read", "failedKeys": ["Location", ""],
            "result": {"Device": {"0": {"UTC Offset": "+02:00", "Timezone": null, "Odd": [1]}}},
        });
        let response = Response::open(&RawValue::from_string(event.to_string()).unwrap()).unwrap();
        let returned = response.returned("m".to_owned(), 5).unwrap();
        assert_eq!(
            (returned.version, returned.reported_at, returned.failed_keys),
            (9, 100, vec!["Location".to_owned()])
        );
        assert!(returned.paths.contains(&requests::path_hash("Device.0.UTC Offset")));
        assert_eq!(response.not_understood.len(), 1);
    }

    #[test]
    fn what_a_device_has_deleted_is_a_change_without_a_version() {
        let event = json!({"thingName": "a", "deleted": ["Portfolio.5"], "timestamp": 100});
        let response = Response::open(&RawValue::from_string(event.to_string()).unwrap()).unwrap();
        assert!(response.is_to_be_folded() && response.returned(String::new(), 0).is_none());
        assert!(!response.change.is_empty());
    }
}
