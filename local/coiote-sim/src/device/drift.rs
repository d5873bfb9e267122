//! Values that change by themselves: the temperature of a room, and the level of a battery.

use std::time::{Duration, Instant};

/// Shortest interval: more drift would only heat the machine.
const SHORTEST: Duration = Duration::from_millis(10);
const COLDEST: f64 = -40.0;
const WARMEST: f64 = 85.0;

/// Interval of drift, and when it is next due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drift {
    every: Duration,
    next: Instant,
}

impl Drift {
    /// Drift every `seconds` from now on; `None` for 0, which is no drift.
    pub(crate) fn new(seconds: f64, now: Instant) -> Result<Option<Self>, String> {
        let every = Duration::try_from_secs_f64(seconds).map_err(|_| format!("seconds: {seconds} is not a time"))?;
        if every.is_zero() {
            return Ok(None);
        }
        let next = now.checked_add(every).filter(|_| every >= SHORTEST);
        next.map(|next| Some(Self { every, next }))
            .ok_or_else(|| format!("seconds: {seconds} is neither 0 nor a time from 0.01 on"))
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Whether drift is due. If so, sets the next time; missed drift is not made up for.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now.checked_add(self.every).unwrap_or(now);
        true
    }
}

/// Next level of a battery: one less, or full again after 0.
pub(super) fn battery(level: &str) -> String {
    let level: u8 = level.parse().unwrap_or_default();
    level.checked_sub(1).unwrap_or(100).to_string()
}

/// Next temperature: `tenths` of a degree more, or less where the sensor's range ends.
pub(super) fn temperature(value: &str, tenths: i8) -> String {
    let value: f64 = value.parse().unwrap_or_default();
    let step = f64::from(tenths) / 10.0;
    let there = value + step;
    let moved = if (COLDEST..=WARMEST).contains(&there) { there } else { value - step };
    format!("{moved:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batteries_run_down_and_are_charged() {
        for (level, next) in [("87", "86"), ("1", "0"), ("0", "100"), ("100", "99")] {
            assert_eq!(battery(level), next);
        }
    }

    #[test]
    fn temperatures_stay_within_the_sensor() {
        for (value, tenths, next) in
            [("21.5", 3, "21.8"), ("21.5", -1, "21.4"), ("84.9", 3, "84.6"), ("-40.0", -2, "-39.8"), ("4.75", 1, "4.8")]
        {
            assert_eq!(temperature(value, tenths), next, "{value} {tenths}");
        }
    }

    #[test]
    fn drift_is_due_at_each_interval() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut drift = Drift::new(0.5, start).unwrap().unwrap();
        for (millis, due, next) in [(0, false, 500), (499, false, 500), (500, true, 1000), (2100, true, 2600)] {
            assert_eq!(drift.is_due(after(millis)), due, "{millis}");
            assert_eq!(drift.next(), after(next), "{millis}");
        }
        assert_eq!(Drift::new(0.0, start), Ok(None));
        for seconds in [-1.0, 0.001, f64::NAN, f64::INFINITY, 1e20] {
            assert!(Drift::new(seconds, start).is_err(), "{seconds}");
        }
    }
}
