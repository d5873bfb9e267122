//! Start-up, logs, metrics, deadlines and AWS configuration that all functions of the stack share.

#![warn(missing_docs)]

pub mod aws;
mod deadline;
mod https;
mod logging;
mod metering;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lambda_runtime::{Context, Diagnostic, Error, LambdaEvent, service_fn};
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub use deadline::Deadline;
pub use metering::{elapsed_ms, record};

use crate::metering::Meter;

/// Error type of every invocation while the configuration that AWS calls need is missing.
const NOT_SET_UP: &str = "NOT_SET_UP";

/// Lambda function with logging and metrics set up.
pub struct Function {
    meter: Meter,
}

impl Function {
    /// Sets up logging and metrics. Call it first, so that every later failure is logged.
    pub fn start() -> Result<Function, Error> {
        logging::start();
        Ok(Function { meter: Meter::start()? })
    }

    /// Answers events with `answer`, one after the other, and prints the metrics of each invocation, in its last log line where they fit. Returns only when Lambda's
    /// runtime API fails.
    pub async fn run<E, A>(self, answer: impl AsyncFn(LambdaEvent<E>) -> Result<A, Diagnostic>) -> Result<(), Error>
    where
        E: for<'de> Deserialize<'de>,
        A: Serialize,
    {
        let (answer, meter) = (&answer, &self.meter);
        let missing = aws::missing_configuration();
        let missing = missing.as_deref();
        let answer_and_print = async |event: LambdaEvent<E>| {
            if let Some(reason) = missing {
                tracing::error!(status = "FAILED", code = NOT_SET_UP, reason, "the function cannot call AWS");
                return Err(diagnostic(NOT_SET_UP, reason));
            }
            let invocation = meter.begin(&event.context.request_id);
            let answered = answer(event).await;
            meter.print(invocation);
            answered
        };
        lambda_runtime::run(service_fn(answer_and_print)).await
    }
}

/// Logs and counts records that cannot be read, one line each. `reasons` has a message for each.
pub fn log_unreadable_records(reasons: &[String]) {
    for reason in reasons {
        metrics::counter!("Failures", "code" => "EVENT_INVALID").increment(1);
        tracing::error!(code = "EVENT_INVALID", reason, "record left out");
    }
}

/// Current time in milliseconds since 1970.
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Whole milliseconds since a time in seconds since 1970; zero if that lies in the future.
pub fn ms_since(seconds: u64) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.saturating_sub(Duration::from_secs(seconds)).as_secs_f64() * 1_000.0).round()
}

/// Whole number in an environment variable; `default` if it is absent or not a number.
pub fn number_from_env(variable: &str, default: u64) -> u64 {
    number_or(std::env::var(variable).ok().as_deref(), default)
}

fn number_or(value: Option<&str>, default: u64) -> u64 {
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(default)
}

/// Error of an invocation. `code` becomes its type, which alarms can count and docs/errors.md explains.
pub fn diagnostic(code: &str, message: impl Into<String>) -> Diagnostic {
    Diagnostic { error_type: code.to_owned(), error_message: message.into() }
}

/// Id of the X-Ray trace that records the invocation, if one does: `Root` in the trace header `Root=1-…;Parent=…;Sampled=1`.
/// Every header has an id, but X-Ray knows only those that are sampled.
pub fn trace_id(context: &Context) -> Option<&str> {
    let header = context.xray_trace_id.as_deref()?;
    let is_sampled = header.split(';').any(|part| part == "Sampled=1");
    header.split(';').find_map(|part| part.strip_prefix("Root=")).filter(|_| is_sampled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_without_a_whole_number_means_the_default() {
        for value in [None, Some(""), Some("-1"), Some("x"), Some("1.5")] {
            assert_eq!(number_or(value, 7), 7, "{value:?}");
        }
        assert_eq!(number_or(Some(" 20 "), 7), 20);
    }

    #[test]
    fn the_trace_id_is_the_root_of_a_sampled_trace() {
        let id = |header: Option<&str>| {
            let mut context = Context::default();
            context.xray_trace_id = header.map(str::to_owned);
            trace_id(&context).map(str::to_owned)
        };
        let root = "1-5bef4de7-ad49b0e87f6ef6c87fc2e700";
        assert_eq!(id(Some(&format!("Root={root};Parent=9a9197af755a6419;Sampled=1"))).as_deref(), Some(root));
        assert_eq!(id(Some(&format!("Root={root};Parent=9a9197af755a6419;Sampled=0"))), None);
        assert_eq!(id(Some("nonsense")), None);
        assert_eq!(id(None), None);
    }
}
