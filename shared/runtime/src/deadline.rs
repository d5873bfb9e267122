//! The time that Lambda leaves for an invocation.
//!
//! A function that runs into its timeout is killed in mid-sentence: no log line, no answer. So every call that leaves
//! the function is given less time than that, and what is left at the end is enough to say what happened.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lambda_runtime::Context;

/// Kept back to write the outcome.
const RESERVE: Duration = Duration::from_secs(1);

/// When the function has to be done with its calls.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    pub fn of(context: &Context) -> Deadline {
        let at = UNIX_EPOCH + Duration::from_millis(context.deadline);
        let left = at.duration_since(SystemTime::now()).unwrap_or_default();
        Deadline::within(left.saturating_sub(RESERVE))
    }

    pub fn within(left: Duration) -> Deadline {
        let now = Instant::now();
        Deadline(now.checked_add(left).unwrap_or(now))
    }

    /// The time for a call that may take `at_most` so long; nothing when there is no time left for it.
    pub fn allows(&self, at_most: Duration) -> Option<Duration> {
        let left = self.0.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left.min(at_most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_gets_no_more_than_is_left() {
        let second = Duration::from_secs(1);
        assert_eq!(Deadline::within(60 * second).allows(second), Some(second));
        assert!(Deadline::within(second).allows(60 * second).is_some_and(|time| time <= second));
        assert_eq!(Deadline::within(Duration::ZERO).allows(second), None);
    }
}
