//! Retries within one invocation. Requests wait in the ledger for the end of longer failures.

use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use lambda_support::{Deadline, elapsed_ms};

use crate::{CALL_LIMIT, Error};

/// Retries of a call after its first attempt. They bridge short failures only.
const RETRIES: usize = 2;

/// Pause before the first retry; it grows with each.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Least time that has to be left for a call to be begun.
const SHORTEST_CALL: Duration = Duration::from_millis(500);

/// Longest pause before a retry; if Coiote asks for a longer one, the call fails.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Kind of a call to Coiote, for logs and metrics.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// Name in the log.
    pub name: &'static str,
    /// Metric of the call's duration.
    pub time_metric: &'static str,
}

/// Search for the device of a thing.
pub const FIND_DEVICE: Call = Call { name: "find_device", time_metric: "FindDeviceTime" };

/// Start of a session, which wakes a device.
pub const START_SESSION: Call = Call { name: "start_session", time_metric: "StartSessionTime" };

/// Makes a call, and retries it until it succeeds, fails for good, or no time is left. `call` is given its time limit. Returns
/// the duration of the last attempt in milliseconds with the result.
pub async fn call_with_retries<T, F: Future<Output = Result<T, coiote::Error>>>(
    Call { name, time_metric }: Call,
    deadline: Deadline,
    is_retryable: impl Fn(&coiote::Error) -> bool,
    call: impl Fn(Duration) -> F,
) -> Result<(T, f64), Error> {
    let pauses = ExponentialBuilder::default().with_min_delay(FIRST_PAUSE).with_max_times(RETRIES).with_jitter();
    let attempt = || async {
        let limit = deadline.time_for(CALL_LIMIT).filter(|limit| *limit >= SHORTEST_CALL);
        let limit = limit.ok_or((Error::OutOfTime, 0.0))?;
        let begun = Instant::now();
        let result = call(limit).await;
        let duration_ms = elapsed_ms(begun);
        lambda_support::record(time_metric, duration_ms);
        // Shown in the last line of the invocation, if its span has the field.
        tracing::Span::current().record(format!("{name}_ms").as_str(), duration_ms);
        result.map(|done| (done, duration_ms)).map_err(|error| (Error::from(error), duration_ms))
    };
    let tried = attempt
        .retry(pauses)
        .when(|(error, _)| {
            // A call that got no answer within its whole limit would hardly get one when repeated.
            matches!(error, Error::Coiote(error) if is_retryable(error) && *error != coiote::Error::TimedOut)
        })
        .adjust(|(error, _), pause| {
            let pause = pause?.max(error.retry_after().unwrap_or_default());
            let fits = pause <= LONGEST_PAUSE && deadline.left() > pause.saturating_add(SHORTEST_CALL);
            fits.then_some(pause)
        })
        .notify(|(error, duration_ms), pause| {
            let (code, pause_ms) = (error.code(), u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
            metrics::counter!("CoioteRetries").increment(1);
            tracing::warn!(call = name, code, reason = %error, duration_ms, pause_ms, "trying again");
        });
    tried.await.map_err(|(error, duration_ms)| {
        tracing::warn!(call = name, code = error.code(), reason = %error, duration_ms, "call failed");
        error
    })
}
