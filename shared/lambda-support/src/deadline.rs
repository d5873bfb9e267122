//! Time that is left in an invocation.
//!
//! Lambda kills a function at its timeout, without a log line or an answer. So calls end before that, early enough to record
//! and log their outcome.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lambda_runtime::Context;

/// Time reserved for writing the outcome; a fifth of the whole time if that is less.
const RESERVE: Duration = Duration::from_secs(3);

/// Part of the reserve in which no call is made, so that the function returns in time.
const LAST_MOMENT: Duration = Duration::from_millis(200);

/// Point in time at which an invocation has to be done with its calls.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    work_until: Instant,
    outcome_until: Instant,
}

impl Deadline {
    /// Deadline that Lambda gives to an invocation.
    pub fn of(context: &Context) -> Deadline {
        let at = UNIX_EPOCH + Duration::from_millis(context.deadline);
        Deadline::within(at.duration_since(SystemTime::now()).unwrap_or_default())
    }

    /// Deadline of an invocation that Lambda ends after `left`.
    pub fn within(left: Duration) -> Deadline {
        let now = Instant::now();
        let after = |time: Duration| now.checked_add(time).unwrap_or(now);
        let reserve = RESERVE.min(left / 5).max(LAST_MOMENT);
        Deadline {
            work_until: after(left.saturating_sub(reserve)),
            outcome_until: after(left.saturating_sub(LAST_MOMENT)),
        }
    }

    /// Time that is left for work.
    pub fn left(&self) -> Duration {
        self.work_until.saturating_duration_since(Instant::now())
    }

    /// Time that is left for recording the outcome.
    pub fn left_for_outcome(&self) -> Duration {
        self.outcome_until.saturating_duration_since(Instant::now())
    }

    /// Time limit for a call that may take up to `limit`; `None` if no time is left.
    pub fn time_for(&self, limit: Duration) -> Option<Duration> {
        let left = self.left();
        (!left.is_zero()).then_some(left.min(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_gets_at_most_the_time_that_is_left() {
        let second = Duration::from_secs(1);
        assert_eq!(Deadline::within(60 * second).time_for(second), Some(second));
        assert!(Deadline::within(second).time_for(60 * second).is_some_and(|time| time <= second));
        assert_eq!(Deadline::within(Duration::ZERO).time_for(second), None);
    }

    #[test]
    fn time_is_reserved_for_the_outcome() {
        for seconds in [1, 3, 30, 900] {
            let deadline = Deadline::within(Duration::from_secs(seconds));
            assert!(deadline.left_for_outcome() > deadline.left(), "{seconds}");
            assert!(deadline.left() >= Duration::from_secs(seconds) * 79 / 100 - LAST_MOMENT, "{seconds}");
        }
    }
}
