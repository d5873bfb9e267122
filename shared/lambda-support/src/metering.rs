//! Metrics, which are lines of the log as well: CloudWatch makes metrics of those in its embedded metric format.
//!
//! The functions count and time through the `metrics` facade. Its labels are CloudWatch's dimensions: what has few values.
//! A thing's name is never one: each would be a metric of its own, with a bill of its own.

use std::io::Write;
use std::time::{Duration, Instant};

use metrics::Unit;
use metrics_cloudwatch_embedded::{Builder, Collector};
use serde_json::{Map, Value};

/// What the stack calls itself, where the template does not say.
const DEFAULT_NAMESPACE: &str = "coiote-aws-iot";

/// In milliseconds; whatever is listed nowhere is a count.
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

const SECONDS: [&str; 2] = ["OldestOpenRequestAge", "ReportLag"];

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

/// What was counted and timed since it was last printed.
pub(crate) struct Meter(&'static Collector);

impl Meter {
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

    pub(crate) fn print(&self, request_id: &str) {
        // In one piece, so that no line is torn.
        let mut lines = Vec::new();
        let printed = self.0.set_property("request_id", request_id.to_owned()).flush(&mut lines);
        let lines = joined(&lines).unwrap_or(lines);
        if let Err(error) = printed.and_then(|()| std::io::stdout().lock().write_all(&lines)) {
            tracing::error!(%error, "metrics could not be printed");
        }
    }
}

/// The lines in as few as can hold them: what each line says again is a third of it, and is billed. A line joins another one
/// unless they say different things under one name, as two codes of failures do. Nothing where a line is of another form.
fn joined(lines: &[u8]) -> Option<Vec<u8>> {
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
    let mut joined = Vec::with_capacity(lines.len());
    for line in kept {
        serde_json::to_writer(&mut joined, &line).ok()?;
        joined.push(b'\n');
    }
    Some(joined)
}

/// How long it took, in milliseconds with one decimal.
pub fn elapsed_ms(since: Instant) -> f64 {
    rounded(since.elapsed())
}

fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_a_millisecond_is_told() {
        assert_eq!(rounded(Duration::from_micros(12_345)), 12.3);
        assert_eq!(rounded(Duration::from_secs(3)), 3_000.0);
    }

    #[test]
    fn lines_that_agree_are_one_line() {
        let line = |dimensions: &str, more: &str| {
            format!(r#"{{"_aws":{{"Timestamp":1,"CloudWatchMetrics":[{dimensions}]}},"request_id":"r",{more}}}"#)
        };
        let plain = line(r#"{"Dimensions":[[]]}"#, r#""TimeToSchedule":[1.5]"#);
        let requests = line(r#"{"Dimensions":[["status"]]}"#, r#""status":"FAILED","Requests":1"#);
        let failures = |code: &str| line(r#"{"Dimensions":[["code"]]}"#, &format!(r#""code":"{code}","Failures":1"#));
        let lines = [plain, requests, failures("A"), failures("B")].join("\n") + "\n";
        let joined = joined(lines.as_bytes()).unwrap();
        let joined: Vec<Value> = joined
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        let [first, second] = &joined[..] else { panic!("{joined:?}") };
        assert_eq!(first["_aws"]["CloudWatchMetrics"].as_array().unwrap().len(), 3);
        for (name, value) in [("request_id", "r"), ("status", "FAILED"), ("code", "A")] {
            assert_eq!(first[name], value);
        }
        assert_eq!((&first["Requests"], &first["TimeToSchedule"][0]), (&1.into(), &1.5.into()));
        assert_eq!((&second["code"], &second["Failures"]), (&"B".into(), &1.into()));
        assert!(joined_of_another_form().is_none());
    }

    fn joined_of_another_form() -> Option<Vec<u8>> {
        joined(b"no JSON\n")
    }
}
