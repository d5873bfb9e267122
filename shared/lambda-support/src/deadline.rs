//! The time that Lambda leaves for an invocation.
//!
//! A function that runs into its timeout is killed in mid-sentence: no log line, no answer. So every call that leaves
//! the function is given less time than that, and what is left at the end is enough to say what happened.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lambda_runtime::Context;

/// Kept back to write the outcome, or a fifth of the time where that is less.
const RESERVE: Duration = Duration::from_secs(3);

/// Kept back even from that, to end in order.
const LAST_MOMENT: Duration = Duration::from_millis(200);

/// When the function has to be done with its calls.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    work: Instant,
    outcome: Instant,
}

impl Deadline {
    pub fn of(context: &Context) -> Deadline {
        let at = UNIX_EPOCH + Duration::from_millis(context.deadline);
        Deadline::within(at.duration_since(SystemTime::now()).unwrap_or_default())
    }

    pub fn within(left: Duration) -> Deadline {
        let now = Instant::now();
        let after = |time: Duration| now.checked_add(time).unwrap_or(now);
        let reserve = RESERVE.min(left / 5).max(LAST_MOMENT);
        Deadline { work: after(left.saturating_sub(reserve)), outcome: after(left.saturating_sub(LAST_MOMENT)) }
    }

    /// What is left for work.
    pub fn left(&self) -> Duration {
        self.work.saturating_duration_since(Instant::now())
    }

    /// What is left for saying what came of it.
    pub fn left_for_outcome(&self) -> Duration {
        self.outcome.saturating_duration_since(Instant::now())
    }

    /// The time for a call that may take `at_most` so long; nothing when there is no time left for it.
    pub fn time_for(&self, at_most: Duration) -> Option<Duration> {
        let left = self.left();
        (!left.is_zero()).then_some(left.min(at_most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_gets_no_more_than_is_left() {
        let second = Duration::from_secs(1);
        assert_eq!(Deadline::within(60 * second).time_for(second), Some(second));
        assert!(Deadline::within(second).time_for(60 * second).is_some_and(|time| time <= second));
        assert_eq!(Deadline::within(Duration::ZERO).time_for(second), None);
    }

    #[test]
    fn something_is_kept_back_for_the_outcome() {
        for seconds in [1, 3, 30, 900] {
            let deadline = Deadline::within(Duration::from_secs(seconds));
            assert!(deadline.left_for_outcome() > deadline.left(), "{seconds}");
            assert!(deadline.left() >= Duration::from_secs(seconds) * 79 / 100 - LAST_MOMENT, "{seconds}");
        }
    }
}
