//! Metrics, which are lines of the log as well: CloudWatch makes metrics of those in its embedded metric format.
//!
//! The functions count and time through the `metrics` facade. Its labels are CloudWatch's dimensions: what has few values.
//! A thing's name is never one: each would be a metric of its own, with a bill of its own.

use std::io::Write;
use std::time::{Duration, Instant};

use metrics::Unit;
use metrics_cloudwatch_embedded::{Builder, Collector};

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

const COUNTS: [&str; 15] = [
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
    "WaitingRequests",
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
        if let Err(error) = printed.and_then(|()| std::io::stdout().lock().write_all(&lines)) {
            tracing::error!(%error, "metrics could not be printed");
        }
    }
}

/// How long it took, in milliseconds with one decimal.
pub fn milliseconds(since: Instant) -> f64 {
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
}
