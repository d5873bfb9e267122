//! Metrics in CloudWatch's embedded metric format, in lines of the log.
//!
//! The functions count and time through the `metrics` facade. Its labels become CloudWatch's dimensions, so they may only have
//! a few values: a thing's name is never one, for each would be a metric that is billed by itself.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use metrics::Unit;
use metrics_cloudwatch_embedded::{Builder, Collector};
use serde_json::{Map, Value};

use crate::logging::Invocation;

/// Namespace of the metrics if `METRICS_NAMESPACE` is not set.
const DEFAULT_NAMESPACE: &str = "coiote-aws-iot";

/// Most values of one metric in a line of the log.
///
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>
const MOST_VALUES: usize = 100;

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

/// Metrics in percent.
const PERCENTAGES: [&str; 1] = ["LifetimeUsed"];

/// Metrics that count.
const COUNTS: [&str; 19] = [
    "Requests",
    "Results",
    "Failures",
    "CoioteRetries",
    "CoioteAway",
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

/// Collector of the metrics since they were last written into lines.
static COLLECTOR: OnceLock<&Collector> = OnceLock::new();

/// Values that were recorded since the last line of an invocation.
static RECORDED: Mutex<Recorded> = Mutex::new(Recorded { values: BTreeMap::new(), lines: Vec::new() });

struct Recorded {
    /// Number of values by metric that are in no line yet.
    values: BTreeMap<&'static str, usize>,
    /// Lines of metrics with as many values as fit.
    lines: Vec<u8>,
}

/// Records a value of a metric, for its average and percentiles.
pub fn record(metric: &'static str, value: f64) {
    let mut recorded = RECORDED.lock().unwrap_or_else(PoisonError::into_inner);
    if recorded.values.get(metric).is_some_and(|values| *values >= MOST_VALUES) {
        recorded.write_lines();
    }
    *recorded.values.entry(metric).or_default() += 1;
    metrics::histogram!(metric).record(value);
}

impl Recorded {
    /// Writes what was collected into lines.
    fn write_lines(&mut self) {
        self.values.clear();
        if let Some(collector) = COLLECTOR.get()
            && let Err(error) = collector.flush(&mut self.lines)
        {
            tracing::error!(%error, "metrics could not be collected");
        }
    }
}

/// The metrics of the process.
pub(crate) struct Meter(());

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
        for name in PERCENTAGES {
            metrics::describe_gauge!(name, Unit::Percent, "");
        }
        for name in COUNTS {
            metrics::describe_counter!(name, Unit::Count, "");
        }
        COLLECTOR.get_or_init(|| collector);
        Ok(Meter(()))
    }

    /// Begins an invocation, whose id all lines of its metrics have.
    pub(crate) fn begin(&self, request_id: &str) -> Invocation {
        if let Some(collector) = COLLECTOR.get() {
            collector.set_property("request_id", request_id.to_owned());
        }
        Invocation::begin()
    }

    /// Prints the last line of an invocation with its metrics, and begins anew.
    pub(crate) fn print(&self, invocation: Invocation) {
        let lines = self.take_lines();
        let printed = invocation.end(|held| merged(&held, &lines).unwrap_or_else(|| [held, lines].concat()));
        if let Err(error) = printed {
            tracing::error!(%error, "metrics could not be printed");
        }
    }

    /// Lines with all metrics since they were last taken.
    fn take_lines(&self) -> Vec<u8> {
        let mut recorded = RECORDED.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.write_lines();
        std::mem::take(&mut recorded.lines)
    }
}

/// Merges lines of metrics into the invocation's log line, and into as few others as possible: much is the same in all of them,
/// and log bytes are billed. Lines that have different values of one field, as of two codes of failures, stay apart, as does one
/// with a dimension that the log line does not have: such a line means what it says without it. `None` if a line is of another
/// form.
fn merged(log_line: &[u8], lines: &[u8]) -> Option<Vec<u8>> {
    let mut kept: Vec<Map<String, Value>> = parsed(log_line).collect::<Option<_>>()?;
    let logged = kept.len();
    for line in parsed(lines) {
        let mut line = line?;
        let has_dimensions_of =
            |log: &Map<String, Value>| line.iter().all(|(name, value)| !value.is_string() || log.contains_key(name));
        let agrees = |other: &Map<String, Value>| {
            line.iter().all(|(name, value)| name == "_aws" || other.get(name).is_none_or(|known| known == value))
        };
        let found =
            kept.iter().enumerate().position(|(n, other)| agrees(other) && (n >= logged || has_dimensions_of(other)));
        match found.and_then(|found| kept.get_mut(found)) {
            Some(other) => {
                if let Some(known) = other.get_mut("_aws") {
                    let mut declares = line.shift_remove("_aws")?;
                    directives(known)?.append(directives(&mut declares)?);
                }
                other.extend(line);
            }
            None => kept.push(line),
        }
    }
    let mut merged = Vec::with_capacity(log_line.len() + lines.len());
    for line in kept {
        serde_json::to_writer(&mut merged, &line).ok()?;
        merged.push(b'\n');
    }
    Some(merged)
}

/// The objects in lines of JSON; `None` for a line of another form.
fn parsed(lines: &[u8]) -> impl Iterator<Item = Option<Map<String, Value>>> {
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).ok())
}

/// What the value of `_aws` declares: metrics and their dimensions.
fn directives(aws: &mut Value) -> Option<&mut Vec<Value>> {
    aws.get_mut("CloudWatchMetrics")?.as_array_mut()
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
    fn no_value_is_lost_where_a_line_has_no_room_for_all() {
        let meter = Meter::start().unwrap();
        for _ in 0..2 {
            for value in 0..250 {
                record("TimeToOutcome", f64::from(value));
            }
            metrics::counter!("ReconcileRuns").increment(1);
            let lines: Vec<_> = parsed(&meter.take_lines()).map(Option::unwrap).collect();
            let values: Vec<&Vec<Value>> = lines.iter().filter_map(|line| line["TimeToOutcome"].as_array()).collect();
            assert_eq!(values.iter().map(|values| values.len()).collect::<Vec<_>>(), [100, 100, 50]);
            let all: Vec<f64> = values.into_iter().flatten().filter_map(Value::as_f64).collect();
            assert_eq!(all, (0..250).map(f64::from).collect::<Vec<_>>());
            let runs: u64 = lines.iter().filter_map(|line| line.get("ReconcileRuns")?.as_u64()).sum();
            assert_eq!(runs, 1);
        }
    }

    fn line(dimensions: &str, more: &str) -> String {
        let directive = format!(r#"{{"Dimensions":[[{dimensions}]]}}"#);
        format!(r#"{{"_aws":{{"Timestamp":1,"CloudWatchMetrics":[{directive}]}},"request_id":"r",{more}}}"#) + "\n"
    }

    fn merge(log_line: &str, lines: &[String]) -> Vec<Value> {
        let merged = merged(log_line.as_bytes(), lines.concat().as_bytes()).unwrap();
        parsed(&merged).map(|line| Value::Object(line.unwrap())).collect()
    }

    fn directives_in(line: &Value) -> usize {
        line["_aws"]["CloudWatchMetrics"].as_array().map_or(0, Vec::len)
    }

    #[test]
    fn lines_without_contradiction_become_one_line() {
        let failures = |code: &str| line(r#""code""#, &format!(r#""code":"{code}","Failures":1"#));
        let plain = line("", r#""TimeToSchedule":[1.5]"#);
        let requests = line(r#""status""#, r#""status":"FAILED","Requests":1"#);
        let lines = merge("", &[plain, requests, failures("A"), failures("B")]);
        let [first, second] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!((directives_in(first), directives_in(second)), (3, 1));
        for (name, value) in [("request_id", "r"), ("status", "FAILED"), ("code", "A")] {
            assert_eq!(first[name], value);
        }
        assert_eq!((&first["Requests"], &first["TimeToSchedule"][0]), (&1.into(), &1.5.into()));
        assert_eq!((&second["code"], &second["Failures"]), (&"B".into(), &1.into()));
    }

    #[test]
    fn metrics_stand_in_the_log_line_that_has_their_dimensions() {
        let log_line = r#"{"level":"INFO","message":"m","status":"SCHEDULED","request_id":"r"}"#.to_owned() + "\n";
        let fitting = [line("", r#""Time":[1.5]"#), line(r#""status""#, r#""status":"SCHEDULED","Requests":1"#)];
        let lines = merge(&log_line, &fitting);
        let [only] = &lines[..] else { panic!("{lines:?}") };
        assert!(only.to_string().starts_with(log_line.trim_end().trim_end_matches('}')), "{only}");
        assert_eq!((directives_in(only), &only["Requests"], &only["Time"][0]), (2, &1.into(), &1.5.into()));

        for apart in [
            line(r#""status""#, r#""status":"FAILED","Requests":1"#),
            line(r#""code""#, r#""code":"A","Failures":1"#),
            line("", r#""level":1"#),
        ] {
            let lines = merge(&log_line, &[apart]);
            assert_eq!(lines.iter().map(directives_in).collect::<Vec<_>>(), [0, 1], "{lines:?}");
        }
        assert_eq!(merge(&log_line, &[]).len(), 1, "no metrics");
    }

    #[test]
    fn lines_of_another_form_are_not_merged() {
        let metrics = line("", r#""Time":[1.5]"#);
        for (log_line, lines) in [("", "no JSON\n"), ("no JSON\n", metrics.as_str()), ("", "[1]\n")] {
            assert!(merged(log_line.as_bytes(), lines.as_bytes()).is_none(), "{log_line}{lines}");
        }
    }
}
