//! Coiote's reports about tasks.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value as Json};
use time::OffsetDateTime;
use time::format_description::well_known::{Iso8601, Rfc3339};

/// Reports that one call returned.
#[derive(Debug, Clone, PartialEq)]
pub struct Reports {
    /// Reports in the order in which Coiote returned them.
    pub reports: Vec<TaskReport>,
    /// Number of entries that could not be read as reports.
    pub unreadable: usize,
    /// Whether the call returned as many as it can, so that there may be more.
    pub is_full: bool,
}

/// Coiote's report about a task that a device has run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskReport {
    /// Id of the task.
    pub task_id: String,
    /// Id of the device at Coiote.
    pub device_id: String,
    /// Result of the run.
    pub status: TaskStatus,
    /// Time at which the device began to run it, in seconds since 1970, by Coiote's clock.
    #[serde(rename = "startTime", default, deserialize_with = "seconds")]
    pub started_at: Option<u64>,
    /// Time of the report's last change, in Coiote's form (ISO 8601).
    #[serde(default, deserialize_with = "text")]
    pub last_update_time: Option<String>,
    /// Summary of the run, such as the device's error.
    #[serde(default, deserialize_with = "text")]
    pub summary: Option<String>,
    /// List of objects with `name` and `value`; see [`TaskReport::properties()`].
    #[serde(default)]
    pub properties: Json,
}

/// Result of a task's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub enum TaskStatus {
    /// The device did all of it.
    Success,
    /// The device did a part of it.
    Warning,
    /// The device did not do it.
    Error,
}

impl TaskReport {
    /// Properties by their names, in the order of the report; `None` if there are none.
    pub fn properties(&self) -> Option<Map<String, Json>> {
        let properties = self.properties.as_array()?;
        let named: Map<String, Json> = properties
            .iter()
            .filter_map(|property| {
                let name = property.get("name")?.as_str()?;
                Some((name.to_owned(), property.get("value").cloned().unwrap_or_default()))
            })
            .collect();
        (!named.is_empty()).then_some(named)
    }
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Json::deserialize(deserializer)?.as_str().map(str::to_owned))
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Json::deserialize(deserializer)?.as_str().and_then(seconds_from_iso8601))
}

/// Seconds since 1970 of a time in Coiote's form (ISO 8601).
fn seconds_from_iso8601(text: &str) -> Option<u64> {
    u64::try_from(parse(text)?.unix_timestamp()).ok()
}

/// Milliseconds since 1970 of a time in Coiote's form (ISO 8601).
pub fn millis_from_iso8601(text: &str) -> Option<u64> {
    u64::try_from(parse(text)?.unix_timestamp_nanos() / 1_000_000).ok()
}

fn parse(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).or_else(|_| OffsetDateTime::parse(text, &Iso8601::PARSING)).ok()
}

/// Coiote's form (ISO 8601) of a time in milliseconds since 1970.
pub fn iso8601_from_millis(milliseconds: u64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000);
    time.unwrap_or(OffsetDateTime::UNIX_EPOCH).format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_is_read_leniently() {
        let report: TaskReport = serde_json::from_value(json!({
            "taskId": "t", "deviceId": "d", "status": "Warning", "startTime": "2026-11-22T18:00:00.123Z", "finishTime": null,
            "summary": null, "blocking": false, "properties": [{"name": "a", "value": "b"}, {"value": "no name"}, 5],
        }))
        .unwrap();
        assert_eq!((report.status, report.started_at), (TaskStatus::Warning, Some(1_795_370_400)));
        assert_eq!(Json::from(report.properties()), json!({"a": "b"}));
        for no_report in [json!({}), json!("x"), json!({"taskId": "t", "deviceId": "d", "status": "Perhaps"})] {
            assert!(serde_json::from_value::<TaskReport>(no_report.clone()).is_err(), "{no_report}");
        }
    }

    #[test]
    fn times_of_coiote() {
        for text in ["2026-11-22T18:00:00Z", "2026-11-22T18:00:00.5Z", "2026-11-22T19:00:00+01:00"] {
            assert_eq!(seconds_from_iso8601(text), Some(1_795_370_400), "{text}");
        }
        assert_eq!(seconds_from_iso8601("yesterday"), None);
        assert_eq!(millis_from_iso8601("2026-11-22T19:00:00.5+01:00"), Some(1_795_370_400_500));
        assert_eq!(iso8601_from_millis(1_795_370_400_500), "2026-11-22T18:00:00.5Z");
    }
}
