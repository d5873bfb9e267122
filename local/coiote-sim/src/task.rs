//! Tasks: operation, run, report, and the update of the operation shadow.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Number, Value, json};

use crate::clock;
use crate::decoded_operation::{DecodedOperation, OperationKey};
use crate::device::{Catalogue, KeyFailure, Outcome};
use crate::template::{self, Parameter};

/// A task. One that is run again is kept once for each run, under the same id.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Task {
    pub(crate) id: String,
    /// Endpoint name.
    pub(crate) device: String,
    pub(crate) template: String,
    /// Parameters as they were received.
    pub(crate) parameters: Vec<Parameter>,
    #[serde(flatten)]
    pub(crate) settings: TaskSettings,
    /// Operation that the parameters ask for.
    pub(crate) decoded: DecodedOperation,
    pub(crate) status: TaskStatus,
    pub(crate) report: Option<TaskReport>,
    /// Run on the device; `None` before it.
    pub(crate) run: Option<TaskRun>,
    pub(crate) shadow_update: ShadowUpdateStatus,
    /// Removed by a call: the REST API shows it no more.
    pub(crate) removed: bool,
    /// Its device was removed. Another device with the endpoint name has not run it.
    #[serde(skip)]
    pub(crate) of_removed_device: bool,
}

/// Further fields of a new task. They matter only for `GET /tasks/{taskId}` and for which tasks are equal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TaskSettings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) task_name: Option<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) properties: Map<String, Value>,
}

/// Run of a task on a device.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TaskRun {
    /// Position among the runs of all devices.
    pub(crate) number: u64,
    /// Keys that did not fail, with their values or arguments.
    pub(crate) done: Vec<OperationKey>,
    pub(crate) failed: Vec<KeyFailure>,
    /// Keys that the control API had the device refuse, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) refused: BTreeMap<String, String>,
    /// Milliseconds since 1970.
    pub(crate) finished: u64,
    pub(crate) shown: ReportVisibility,
}

/// Where and when the REST API shows a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReportVisibility {
    /// Milliseconds since 1970.
    pub(crate) from: u64,
    /// Shown when asked for singly.
    pub(crate) alone: bool,
    /// Shown by `findSince`.
    pub(crate) listed: bool,
}

impl TaskRun {
    pub(crate) fn new(
        number: u64,
        operation: &DecodedOperation,
        outcome: &Outcome,
        finished: u64,
        shown: ReportVisibility,
    ) -> Self {
        let failed = |part: &OperationKey| outcome.failures.iter().any(|failure| failure.key == part.key);
        let done = operation.operation_keys().into_iter().filter(|part| !failed(part)).collect();
        Self { number, done, failed: outcome.failures.clone(), refused: BTreeMap::new(), finished, shown }
    }
}

/// A task in the state file. Its parameters are decoded again after the restart.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SavedTask {
    pub(crate) id: String,
    device: String,
    template: String,
    parameters: Vec<Parameter>,
    #[serde(default)]
    settings: TaskSettings,
    status: TaskStatus,
    report: Option<TaskReport>,
    #[serde(default)]
    run: Option<TaskRun>,
    shadow_update: ShadowUpdateStatus,
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
    /// Decodes the task. The error names the parameter that cannot be read.
    pub(crate) fn into_task(self, catalogue: &Catalogue) -> Result<Task, String> {
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

/// State of a task. It runs in one step, so there is no state between the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TaskStatus {
    Scheduled,
    Done,
    /// Removed before its run, so it never runs.
    Removed,
}

/// State of writing a result into the operation shadow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "camelCase")]
pub(crate) enum ShadowUpdateStatus {
    /// The task has not run yet, or Coiote does not write results of its operation.
    None,
    /// Kept here only: there is no connection to AWS, or no such thing.
    Kept { payload: Value },
    /// Lost by the fault `results`.
    Lost { payload: Value },
    /// Sent or delayed, and kept until AWS has answered.
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

/// Reads a number in a tagged enum. serde buffers the fields of those, and with serde_json's `arbitrary_precision` only
/// `Number` reads a buffered number.
fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<Number>::deserialize(deserializer)?.and_then(|number| number.as_u64()))
}

impl ShadowUpdateStatus {
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

/// Status of a task report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ReportStatus {
    Success,
    /// Some keys failed.
    Warning,
    /// All keys failed.
    Error,
}

/// Task report, in the form of `GET /taskReports/{taskId}/{deviceId}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TaskReport {
    task_id: String,
    pub(crate) device_id: String,
    pub(crate) status: ReportStatus,
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

impl TaskReport {
    /// Makes the report of a run. Times are milliseconds since 1970.
    pub(crate) fn new(task_id: &str, device_id: &str, (started, finished): (u64, u64), outcome: &Outcome) -> Self {
        let verdict = match outcome.failures.len() {
            0 => ReportStatus::Success,
            failed if failed < outcome.attempted => ReportStatus::Warning,
            _ => ReportStatus::Error,
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

/// Adds a property for each value: by path for a read, by key for the links of a discover. A resource without a value
/// has no property.
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

/// Update of the operation shadow with a result.
///
/// Coiote splits `failedKeys` from a joined string, so that it is `[""]` if no key failed.
pub(crate) fn shadow_update(operation: &str, outcome: &Outcome, client_token: &str) -> Value {
    let failed_keys = failed_keys(&outcome.failures);
    let failed_keys: Vec<_> = failed_keys.split(',').collect();
    json!({
        "state": {"reported": {"operation": operation, "failedKeys": failed_keys, "result": outcome.result}},
        "clientToken": client_token,
    })
}

fn failed_keys(failures: &[KeyFailure]) -> String {
    failures.iter().map(|failure| failure.key.as_str()).collect::<Vec<_>>().join(",")
}

fn reasons(failures: &[KeyFailure]) -> String {
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
        let failures =
            failed.iter().map(|key| KeyFailure { key: (*key).to_owned(), reason: "no".to_owned() }).collect();
        Outcome { failures, attempted, ..Outcome::default() }
    }

    #[test]
    fn the_status_depends_on_the_number_of_failed_keys() {
        for (failed, attempted, verdict) in [
            (vec![], 2, ReportStatus::Success),
            (vec!["a"], 2, ReportStatus::Warning),
            (vec!["a", "b"], 2, ReportStatus::Error),
            (vec!["a"], 1, ReportStatus::Error),
        ] {
            let report = TaskReport::new("t", "d", (0, 1), &outcome(&failed, attempted));
            assert_eq!(report.status, verdict, "{failed:?} of {attempted}");
        }
    }

    #[test]
    fn a_report_has_a_property_for_each_value_and_each_failure() {
        let result = json!({"Device": {"0": {"Timezone": "", "Memory": {"noValue": true}, "Error": {"0": "6"}}},
            "Location.0": "</6/0>,</6/0/0>"});
        let report = TaskReport::new(
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
