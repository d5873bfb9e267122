//! What every function of the stack needs of Lambda, in one place, so that all start, log and count alike.

pub mod aws;
pub mod deadline;
mod https;
mod logging;
mod metering;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lambda_runtime::{Context, Diagnostic, Error, LambdaEvent, service_fn};
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub use deadline::Deadline;
pub use metering::elapsed_ms;

use crate::metering::Meter;

/// Error type of each invocation while the function has not what it needs to call AWS.
const NOT_SET_UP: &str = "NOT_SET_UP";

/// A function that logs and counts.
pub struct Function {
    meter: Meter,
}

impl Function {
    /// Comes first, so that nothing is left unsaid.
    pub fn start() -> Result<Function, Error> {
        logging::start();
        Ok(Function { meter: Meter::start()? })
    }

    /// Answers events, one after the other, for as long as Lambda keeps the execution environment.
    pub async fn run<E, A>(self, answer: impl AsyncFn(LambdaEvent<E>) -> Result<A, Diagnostic>) -> Result<(), Error>
    where
        E: for<'de> Deserialize<'de>,
        A: Serialize,
    {
        let (answer, meter) = (&answer, &self.meter);
        let missing = aws::missing();
        let missing = missing.as_deref();
        let answer_and_print = async |event: LambdaEvent<E>| {
            if let Some(what) = missing {
                tracing::error!(status = "FAILED", code = NOT_SET_UP, reason = what, "the function cannot call AWS");
                return Err(diagnostic(NOT_SET_UP, what));
            }
            let request_id = event.context.request_id.clone();
            let answered = answer(event).await;
            meter.print(&request_id);
            answered
        };
        lambda_runtime::run(service_fn(answer_and_print)).await
    }
}

/// Tells of records that are of no form that is known, a line each; the others go on.
pub fn log_unreadable_records(records: &[String]) {
    for reason in records {
        metrics::counter!("Failures", "code" => "EVENT_INVALID").increment(1);
        tracing::error!(code = "EVENT_INVALID", reason, "record left out");
    }
}

/// The present time, in milliseconds since 1970.
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Time since `seconds`, which is given in seconds since 1970; zero where that lies ahead.
pub fn time_since(seconds: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_secs(seconds))
}

/// The whole number that a variable of the function holds.
pub fn number_from_env(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.trim().parse().ok()).unwrap_or(default)
}

/// An error of the function. Its type is a code that docs/errors.md explains, so that alarms can count it.
pub fn diagnostic(code: &str, message: impl Into<String>) -> Diagnostic {
    Diagnostic { error_type: code.to_owned(), error_message: message.into() }
}

/// The id of the trace that the invocation belongs to: what X-Ray shows, and what `Root` is in the header
/// `Root=1-…;Parent=…;Sampled=0`.
pub fn trace_id(context: &Context) -> Option<&str> {
    context.xray_trace_id.as_deref()?.split(';').find_map(|part| part.strip_prefix("Root="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_is_told_by_its_root() {
        let id = |header: Option<&str>| {
            let mut context = Context::default();
            context.xray_trace_id = header.map(str::to_owned);
            trace_id(&context).map(str::to_owned)
        };
        let root = "1-5bef4de7-ad49b0e87f6ef6c87fc2e700";
        assert_eq!(id(Some(&format!("Root={root};Parent=9a9197af755a6419;Sampled=1"))).as_deref(), Some(root));
        assert_eq!(id(Some("nonsense")), None);
        assert_eq!(id(None), None);
    }
}
