//! Retries within one invocation. What they cannot outlast waits in the ledger.

use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use lambda_support::{Deadline, elapsed_ms};

use crate::{CALL_LIMIT, Error};

/// Tries after the first one, of each call: what lasts longer than a blink is waited for elsewhere.
const RETRIES: usize = 2;

const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Shortest time that a call is begun with.
const SHORTEST_CALL: Duration = Duration::from_millis(500);

/// Longest pause that Coiote may ask for and be given within an invocation.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A call to Coiote: its name in the log, and the metric of its time.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub name: &'static str,
    pub time_metric: &'static str,
}

/// Makes a call until it succeeds, until trying again is of no use, or until there is no time for it. `call` is given the time
/// that it may take. The milliseconds that the last try took come with its result.
pub async fn call_with_retries<T, F: Future<Output = Result<T, coiote::Error>>>(
    Call { name, time_metric }: Call,
    deadline: Deadline,
    is_retryable: impl Fn(&coiote::Error) -> bool,
    call: impl Fn(Duration) -> F,
) -> Result<(T, f64), Error> {
    let pauses = ExponentialBuilder::default().with_min_delay(FIRST_PAUSE).with_max_times(RETRIES).with_jitter();
    let attempt = || async {
        let time = deadline.time_for(CALL_LIMIT).filter(|time| *time >= SHORTEST_CALL);
        let time = time.ok_or((Error::OutOfTime, 0.0))?;
        let begun = Instant::now();
        let result = call(time).await;
        let duration_ms = elapsed_ms(begun);
        metrics::histogram!(time_metric).record(duration_ms);
        // For the last line of the invocation, where its span has a field for it.
        tracing::Span::current().record(format!("{name}_ms").as_str(), duration_ms);
        result.map(|done| (done, duration_ms)).map_err(|error| (Error::from(error), duration_ms))
    };
    let tried = attempt
        .retry(pauses)
        .when(|(error, _)| {
            // One that was silent for the whole of its time would be so again.
            matches!(error, Error::Coiote(error) if is_retryable(error) && *error != coiote::Error::TimedOut)
        })
        .adjust(|(error, _), pause| {
            let pause = pause?.max(error.retry_after().unwrap_or_default());
            let is_worth_it = pause <= LONGEST_PAUSE && deadline.left() > pause.saturating_add(SHORTEST_CALL);
            is_worth_it.then_some(pause)
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
