//! Tasks: what was asked of a device, what came of it, and what AWS said to its report.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Number, Value, json};

use crate::clock;
use crate::device::{Catalogue, Failure, Outcome};
use crate::operation::Operation;
use crate::template::{self, Parameter};

#[derive(Debug, Serialize)]
pub(crate) struct Task {
    pub(crate) id: String,
    /// Endpoint name.
    pub(crate) device: String,
    pub(crate) template: String,
    /// As they were received.
    pub(crate) parameters: Vec<Parameter>,
    /// What was understood.
    pub(crate) decoded: Operation,
    pub(crate) status: Status,
    pub(crate) report: Option<Report>,
    #[serde(rename = "shadowUpdate")]
    pub(crate) shadow_update: ShadowUpdate,
    /// Another device may have come under its endpoint name, on which the task did nothing.
    #[serde(skip)]
    pub(crate) of_removed_device: bool,
}

/// A task as it outlives a restart: its parameters are understood anew.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SavedTask {
    pub(crate) id: String,
    device: String,
    template: String,
    parameters: Vec<Parameter>,
    status: Status,
    report: Option<Report>,
    shadow_update: ShadowUpdate,
    of_removed_device: bool,
}

impl From<&Task> for SavedTask {
    fn from(task: &Task) -> Self {
        Self {
            id: task.id.clone(),
            device: task.device.clone(),
            template: task.template.clone(),
            parameters: task.parameters.clone(),
            status: task.status,
            report: task.report.clone(),
            shadow_update: task.shadow_update.clone(),
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
            status: self.status,
            report: self.report,
            shadow_update: self.shadow_update,
            of_removed_device: self.of_removed_device,
        })
    }
}

/// A task runs in one step as far as anyone can see, so nothing stands between these two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Scheduled,
    Done,
}

/// How the report of a result into the operation shadow went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "camelCase")]
pub(crate) enum ShadowUpdate {
    /// Not run yet, or an operation whose result Coiote does not report.
    None,
    /// There is no connection to AWS: kept here only.
    Kept { payload: Value },
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
    device_id: String,
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
    name: Cow<'static, str>,
    value: String,
}

impl Report {
    pub(crate) fn new(task_id: &str, device_id: &str, start_time: String, outcome: &Outcome) -> Self {
        let verdict = match outcome.failures.len() {
            0 => Verdict::Success,
            failed if failed < outcome.attempted => Verdict::Warning,
            _ => Verdict::Error,
        };
        let mut properties = vec![
            Property { name: "failedKeys".into(), value: failed_keys(&outcome.failures) },
            Property { name: "result".into(), value: Value::Object(outcome.result.clone()).to_string() },
        ];
        properties.extend(
            (!outcome.failures.is_empty())
                .then(|| Property { name: "failures".into(), value: reasons(&outcome.failures) }),
        );
        let finish_time = clock::now();
        Self {
            task_id: task_id.to_owned(),
            device_id: device_id.to_owned(),
            status: verdict,
            start_time,
            last_update_time: finish_time.clone(),
            finish_time,
            summary: summary(outcome),
            blocking: true,
            properties,
        }
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
            let report = Report::new("t", "d", String::new(), &outcome(&failed, attempted));
            assert_eq!(report.status, verdict, "{failed:?} of {attempted}");
        }
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
