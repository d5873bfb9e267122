//! Metrics in CloudWatch's embedded metric format, as lines of the log.
//!
//! The functions count and time through the `metrics` facade. Its labels become CloudWatch's dimensions, so they may only have
//! a few values: a thing's name is never one, for each would be a metric that is billed by itself.

use std::io::Write;
use std::time::{Duration, Instant};

use metrics::Unit;
use metrics_cloudwatch_embedded::{Builder, Collector};
use serde_json::{Map, Value};

/// Namespace of the metrics if `METRICS_NAMESPACE` is not set.
const DEFAULT_NAMESPACE: &str = "coiote-aws-iot";

/// Metrics in milliseconds.
const TIMES: [&str; 10] = [
    "TimeToSchedule",
    "TimeToResult",
    "TimeToOutcome",
    "FindDeviceTime",
    "CreateTaskTime",
    "StartSessionTime",
    "ReadReportTime",
    "FindReportsTime",
    "RemoveTaskTime",
    "AnswerLag",
];

/// Metrics in seconds.
const SECONDS: [&str; 2] = ["OldestOpenRequestAge", "ReportLag"];

/// Metrics that count.
const COUNTS: [&str; 18] = [
    "Requests",
    "Results",
    "Failures",
    "CoioteRetries",
    "FoldingConflicts",
    "DuplicatesDropped",
    "ThingsCreated",
    "ThingTypeDeprecated",
    "ClientCertificateDaysLeft",
    "ReconcileRuns",
    "Reports",
    "ReportsUnread",
    "ThingsWithOpenRequests",
    "WaitingRequests",
    "JobExecutionsTold",
    "JobExecutionsFound",
    "AnswersWritten",
    "AnswerConflicts",
];

/// Collector of the metrics since they were last printed.
pub(crate) struct Meter(&'static Collector);

impl Meter {
    /// Installs the collector as recorder of the `metrics` facade.
    pub(crate) fn start() -> Result<Meter, lambda_runtime::Error> {
        let namespace = std::env::var("METRICS_NAMESPACE").ok().filter(|name| !name.is_empty());
        let collector =
            Builder::new().cloudwatch_namespace(namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())).init()?;
        for name in TIMES {
            metrics::describe_histogram!(name, Unit::Milliseconds, "");
        }
        for name in SECONDS {
            metrics::describe_histogram!(name, Unit::Seconds, "");
        }
        for name in COUNTS {
            metrics::describe_counter!(name, Unit::Count, "");
        }
        Ok(Meter(collector))
    }

    /// Prints the metrics of an invocation, and begins anew.
    pub(crate) fn print(&self, request_id: &str) {
        // Written in one piece, so that no other line gets between.
        let mut lines = Vec::new();
        let printed = self.0.set_property("request_id", request_id.to_owned()).flush(&mut lines);
        let lines = merged(&lines).unwrap_or(lines);
        if let Err(error) = printed.and_then(|()| std::io::stdout().lock().write_all(&lines)) {
            tracing::error!(%error, "metrics could not be printed");
        }
    }
}

/// Merges lines of metrics into as few as possible: a third of each line is the same in all of them, and log bytes are billed.
/// Lines that have different values of one field, as of two codes of failures, stay apart. `None` if a line is of another form.
fn merged(lines: &[u8]) -> Option<Vec<u8>> {
    let mut kept: Vec<Map<String, Value>> = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Ok(Value::Object(mut line)) = serde_json::from_slice(line) else { return None };
        let declared = line.get_mut("_aws")?.get_mut("CloudWatchMetrics")?.as_array_mut()?.split_off(0);
        let agrees = |other: &&mut Map<String, Value>| {
            line.iter().all(|(name, value)| name == "_aws" || other.get(name).is_none_or(|known| known == value))
        };
        if let Some(other) = kept.iter_mut().find(agrees) {
            other.get_mut("_aws")?.get_mut("CloudWatchMetrics")?.as_array_mut()?.extend(declared);
            line.remove("_aws");
            other.extend(line);
        } else {
            *line.get_mut("_aws")?.get_mut("CloudWatchMetrics")? = Value::Array(declared);
            kept.push(line);
        }
    }
    let mut merged = Vec::with_capacity(lines.len());
    for line in kept {
        serde_json::to_writer(&mut merged, &line).ok()?;
        merged.push(b'\n');
    }
    Some(merged)
}

/// Time since `begun` in milliseconds, with one decimal.
pub fn elapsed_ms(begun: Instant) -> f64 {
    rounded_ms(begun.elapsed())
}

fn rounded_ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_decimal() {
        assert_eq!(rounded_ms(Duration::from_micros(12_345)), 12.3);
        assert_eq!(rounded_ms(Duration::from_secs(3)), 3_000.0);
    }

    #[test]
    fn lines_without_contradiction_become_one_line() {
        let line = |dimensions: &str, more: &str| {
            format!(r#"{{"_aws":{{"Timestamp":1,"CloudWatchMetrics":[{dimensions}]}},"request_id":"r",{more}}}"#)
        };
        let plain = line(r#"{"Dimensions":[[]]}"#, r#""TimeToSchedule":[1.5]"#);
        let requests = line(r#"{"Dimensions":[["status"]]}"#, r#""status":"FAILED","Requests":1"#);
        let failures = |code: &str| line(r#"{"Dimensions":[["code"]]}"#, &format!(r#""code":"{code}","Failures":1"#));
        let lines = [plain, requests, failures("A"), failures("B")].join("\n") + "\n";
        let merged_lines = merged(lines.as_bytes()).unwrap();
        let merged_lines: Vec<Value> = merged_lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        let [first, second] = &merged_lines[..] else { panic!("{merged_lines:?}") };
        assert_eq!(first["_aws"]["CloudWatchMetrics"].as_array().unwrap().len(), 3);
        for (name, value) in [("request_id", "r"), ("status", "FAILED"), ("code", "A")] {
            assert_eq!(first[name], value);
        }
        assert_eq!((&first["Requests"], &first["TimeToSchedule"][0]), (&1.into(), &1.5.into()));
        assert_eq!((&second["code"], &second["Failures"]), (&"B".into(), &1.into()));
        assert!(merged(b"no JSON\n").is_none());
    }
}
