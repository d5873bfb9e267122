//! Tasks: what was asked of a device, what came of it, and what AWS said to its report.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Number, Value, json};

use crate::clock;
use crate::device::{Catalogue, Failure, Outcome};
use crate::operation::{Operation, Part};
use crate::template::{self, Parameter};

/// One that is run again is there once for each time, under the same id.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Task {
    pub(crate) id: String,
    /// Endpoint name.
    pub(crate) device: String,
    pub(crate) template: String,
    /// As they were received.
    pub(crate) parameters: Vec<Parameter>,
    #[serde(flatten)]
    pub(crate) settings: Settings,
    /// What was understood.
    pub(crate) decoded: Operation,
    pub(crate) status: Status,
    pub(crate) report: Option<Report>,
    /// What the device did.
    pub(crate) run: Option<Run>,
    pub(crate) shadow_update: ShadowUpdate,
    /// Taken away by a call; the REST API does not know it any more.
    pub(crate) removed: bool,
    /// Another device may have come under its endpoint name, on which the task did nothing.
    #[serde(skip)]
    pub(crate) of_removed_device: bool,
}

/// What a task is given beside template and parameters, and what makes no difference here but to `GET /tasks/{taskId}`
/// and to what equals it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Settings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) task_name: Option<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) properties: Map<String, Value>,
}

/// What a device did when it ran a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Run {
    /// In which order all devices ran their tasks.
    pub(crate) number: u64,
    /// What was done, and with which value: the keys that did not fail.
    pub(crate) done: Vec<Part>,
    pub(crate) failed: Vec<Failure>,
    /// What the device refused, of what it would have done.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) refused: BTreeMap<String, String>,
    /// Milliseconds since 1970.
    pub(crate) finished: u64,
    pub(crate) shown: Shown,
}

/// Where and when the REST API shows a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shown {
    /// Milliseconds since 1970.
    pub(crate) from: u64,
    /// To who asks for this one.
    pub(crate) alone: bool,
    /// Among those of all devices.
    pub(crate) listed: bool,
}

impl Run {
    pub(crate) fn new(number: u64, operation: &Operation, outcome: &Outcome, finished: u64, shown: Shown) -> Self {
        let failed = |part: &Part| outcome.failures.iter().any(|failure| failure.key == part.key);
        let done = operation.parts().into_iter().filter(|part| !failed(part)).collect();
        Self { number, done, failed: outcome.failures.clone(), refused: BTreeMap::new(), finished, shown }
    }
}

/// A task as it outlives a restart: its parameters are understood anew.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SavedTask {
    pub(crate) id: String,
    device: String,
    template: String,
    parameters: Vec<Parameter>,
    #[serde(default)]
    settings: Settings,
    status: Status,
    report: Option<Report>,
    #[serde(default)]
    run: Option<Run>,
    shadow_update: ShadowUpdate,
    #[serde(default)]
    removed: bool,
    of_removed_device: bool,
}

impl From<&Task> for SavedTask {
    fn from(task: &Task) -> Self {
        Self {
            id: task.id.clone(),
            device: task.device.clone(),
            template: task.template.clone(),
            parameters: task.parameters.clone(),
            settings: task.settings.clone(),
            status: task.status,
            report: task.report.clone(),
            run: task.run.clone(),
            shadow_update: task.shadow_update.clone(),
            removed: task.removed,
            of_removed_device: task.of_removed_device,
        }
    }
}

impl SavedTask {
    /// The error names the parameter that cannot be understood.
    pub(crate) fn understood(self, catalogue: &Catalogue) -> Result<Task, String> {
        Ok(Task {
            decoded: template::decode(&self.template, &self.parameters, catalogue)?,
            id: self.id,
            device: self.device,
            template: self.template,
            parameters: self.parameters,
            settings: self.settings,
            status: self.status,
            report: self.report,
            run: self.run,
            shadow_update: self.shadow_update,
            removed: self.removed,
            of_removed_device: self.of_removed_device,
        })
    }
}

/// A task runs in one step as far as anyone can see, so nothing stands between the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Scheduled,
    Done,
    /// Taken away before it was run: it never will be.
    Removed,
}

/// How the report of a result into the operation shadow went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "camelCase")]
pub(crate) enum ShadowUpdate {
    /// Not run yet, or an operation whose result Coiote does not report.
    None,
    /// There is no connection to AWS: kept here only.
    Kept { payload: Value },
    /// The fault "results" has lost it.
    Lost { payload: Value },
    /// On its way, and kept until AWS has answered.
    Sent { payload: Value },
    Accepted {
        #[serde(deserialize_with = "whole_number")]
        version: Option<u64>,
        payload: Value,
    },
    Rejected {
        #[serde(deserialize_with = "whole_number")]
        code: Option<u64>,
        message: String,
        payload: Value,
    },
}

/// serde sets the fields of a tagged enum aside before it reads them, and with serde_json's `arbitrary_precision` only
/// `Number` knows what a number looks like then.
fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<Number>::deserialize(deserializer)?.and_then(|number| number.as_u64()))
}

impl ShadowUpdate {
    pub(crate) fn into_payload(self) -> Value {
        match self {
            Self::None => Value::Null,
            Self::Kept { payload }
            | Self::Lost { payload }
            | Self::Sent { payload }
            | Self::Accepted { payload, .. }
            | Self::Rejected { payload, .. } => payload,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    Success,
    /// Some keys failed.
    Warning,
    /// All keys failed.
    Error,
}

/// A task report, as `GET /taskReports/{taskId}/{deviceId}` gives it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    task_id: String,
    pub(crate) device_id: String,
    pub(crate) status: Verdict,
    start_time: String,
    finish_time: String,
    last_update_time: String,
    pub(crate) summary: String,
    blocking: bool,
    properties: Vec<Property>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Property {
    name: String,
    value: String,
}

impl Report {
    /// Times are milliseconds since 1970.
    pub(crate) fn new(task_id: &str, device_id: &str, (started, finished): (u64, u64), outcome: &Outcome) -> Self {
        let verdict = match outcome.failures.len() {
            0 => Verdict::Success,
            failed if failed < outcome.attempted => Verdict::Warning,
            _ => Verdict::Error,
        };
        let mut properties = Vec::new();
        for (name, value) in &outcome.result {
            add_values(name, value, &mut properties);
        }
        let failed = outcome.failures.iter();
        properties.extend(failed.map(|failure| Property { name: failure.key.clone(), value: failure.reason.clone() }));
        let finish_time = clock::iso_of_millis(finished);
        Self {
            task_id: task_id.to_owned(),
            device_id: device_id.to_owned(),
            status: verdict,
            start_time: clock::iso_of_millis(started),
            last_update_time: finish_time.clone(),
            finish_time,
            summary: summary(outcome),
            blocking: true,
            properties,
        }
    }
}

/// A read has a property for each value, by its path; a discover one for each key, with its links. What has no value has
/// no property.
fn add_values(path: &str, value: &Value, properties: &mut Vec<Property>) {
    match value {
        Value::String(text) => properties.push(Property { name: path.to_owned(), value: text.clone() }),
        Value::Object(parts) => {
            for (name, part) in parts {
                add_values(&format!("{path}.{name}"), part, properties);
            }
        }
        _ => {}
    }
}

/// The report into the operation shadow (contract, section 3). `failedKeys` is split from a joined string as Coiote
/// does it: none failed is `[""]`.
pub(crate) fn shadow_update(operation: &str, outcome: &Outcome, client_token: &str) -> Value {
    let failed_keys = failed_keys(&outcome.failures);
    let failed_keys: Vec<_> = failed_keys.split(',').collect();
    json!({
        "state": {"reported": {"operation": operation, "failedKeys": failed_keys, "result": outcome.result}},
        "clientToken": client_token,
    })
}

fn failed_keys(failures: &[Failure]) -> String {
    failures.iter().map(|failure| failure.key.as_str()).collect::<Vec<_>>().join(",")
}

fn reasons(failures: &[Failure]) -> String {
    failures.iter().map(|failure| format!("{}: {}", failure.key, failure.reason)).collect::<Vec<_>>().join("; ")
}

fn summary(outcome: &Outcome) -> String {
    match outcome.failures.len() {
        0 => format!("{} of {} keys done", outcome.attempted, outcome.attempted),
        failed => format!("{failed} of {} keys failed: {}", outcome.attempted, reasons(&outcome.failures)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(failed: &[&str], attempted: usize) -> Outcome {
        let failures = failed.iter().map(|key| Failure { key: (*key).to_owned(), reason: "no".to_owned() }).collect();
        Outcome { failures, attempted, ..Outcome::default() }
    }

    #[test]
    fn the_verdict_counts_failed_keys() {
        for (failed, attempted, verdict) in [
            (vec![], 2, Verdict::Success),
            (vec!["a"], 2, Verdict::Warning),
            (vec!["a", "b"], 2, Verdict::Error),
            (vec!["a"], 1, Verdict::Error),
        ] {
            let report = Report::new("t", "d", (0, 1), &outcome(&failed, attempted));
            assert_eq!(report.status, verdict, "{failed:?} of {attempted}");
        }
    }

    #[test]
    fn a_report_has_a_property_for_each_value_and_each_failure() {
        let result = json!({"Device": {"0": {"Timezone": "", "Memory": {"noValue": true}, "Error": {"0": "6"}}},
            "Location.0": "</6/0>,</6/0/0>"});
        let report = Report::new(
            "t",
            "d",
            (0, 1_001),
            &Outcome { result: result.as_object().unwrap().clone(), ..outcome(&["a"], 2) },
        );
        let report = serde_json::to_value(report).unwrap();
        let pair = |name: &str, value: &str| json!({"name": name, "value": value});
        let properties = [
            pair("Device.0.Timezone", ""),
            pair("Device.0.Error.0", "6"),
            pair("Location.0", "</6/0>,</6/0/0>"),
            pair("a", "no"),
        ];
        let mut found = report["properties"].as_array().unwrap().clone();
        found.sort_by_key(|property| properties.iter().position(|wanted| wanted == property));
        assert_eq!(found, properties);
        assert_eq!(report["startTime"], "1970-01-01T00:00:00.000Z");
        assert_eq!(
            (&report["finishTime"], &report["lastUpdateTime"]),
            (&json!("1970-01-01T00:00:01.001Z"), &report["finishTime"])
        );
    }

    #[test]
    fn failed_keys_are_an_empty_string_when_none_failed() {
        for (failed, expected) in
            [(vec![], json!([""])), (vec!["a"], json!(["a"])), (vec!["a", "b"], json!(["a", "b"]))]
        {
            let update = shadow_update("read", &outcome(&failed, 2), "token");
            assert_eq!(update["state"]["reported"]["failedKeys"], expected);
            assert_eq!(update["clientToken"], "token");
        }
    }
}
