//! When an observation notifies (LwM2M Core 1.1, section 5.1.2). No clock is read here: the caller gives the time.

use std::time::{Duration, Instant};

use super::content::Content;

/// Minimum and maximum period of an observation's notifications.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct NotificationPeriods {
    pub(super) pmin: Duration,
    pub(super) pmax: Option<Duration>,
}

/// Next notification of an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextNotification {
    /// Due: the changed resources.
    Changes,
    /// Due: all resources, since the maximum period is over.
    Everything,
    At(Instant),
    Never,
}

impl NotificationPeriods {
    /// Next notification after the one at `last`; `pending` if a change is not notified yet. A pmax of 0 or below pmin is
    /// ignored.
    pub(super) fn next(self, last: Instant, pending: bool, now: Instant) -> NextNotification {
        let pmax = self.pmax.filter(|pmax| *pmax >= self.pmin && !pmax.is_zero());
        // A time beyond what `Instant` holds does not come.
        let latest = pmax.and_then(|pmax| last.checked_add(pmax));
        let earliest = if pending { last.checked_add(self.pmin) } else { None };
        if latest.is_some_and(|at| at <= now) {
            return NextNotification::Everything;
        }
        if earliest.is_some_and(|at| at <= now) {
            return NextNotification::Changes;
        }
        earliest.into_iter().chain(latest).min().map_or(NextNotification::Never, NextNotification::At)
    }
}

/// Thresholds for changes of a number. Without any, every change is notified.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Thresholds {
    pub(super) gt: Option<f64>,
    pub(super) lt: Option<f64>,
    pub(super) st: Option<f64>,
}

impl Thresholds {
    /// Whether the value differs enough from the last one that was notified.
    fn passes(self, last: &str, present: &str) -> bool {
        if last == present {
            return false;
        }
        let Self { gt, lt, st } = self;
        let (Ok(last), Ok(present)) = (last.parse::<f64>(), present.parse::<f64>()) else { return true };
        if gt.or(lt).or(st).is_none() {
            return true;
        }
        // A step of 0.1 in the text may be slightly less as a number.
        let step = |st: f64| (present - last).abs() >= st - st.abs() * 1e-9;
        gt.is_some_and(|gt| (last > gt) != (present > gt))
            || lt.is_some_and(|lt| (last < lt) != (present < lt))
            || st.is_some_and(step)
    }
}

/// Whether a resource has changed enough since its last notification. `thresholds` returns those of the resource
/// (`None`) or of one of its resource instances.
pub(super) fn is_worth_notifying(
    last: Option<&Content>,
    present: &Content,
    thresholds: impl Fn(Option<u16>) -> Thresholds,
) -> bool {
    let has_changed_enough = |id, last: &Option<String>, present: &Option<String>| match (last, present) {
        (Some(last), Some(present)) => thresholds(id).passes(last, present),
        (last, present) => last != present,
    };
    match (last, present) {
        (Some(Content::Single(last)), Content::Single(present)) => has_changed_enough(None, last, present),
        (Some(Content::Multiple(last)), Content::Multiple(present)) => {
            let mut pairs = present.iter().filter_map(|(id, present)| Some((*id, last.get(id)?, present)));
            !present.keys().eq(last.keys())
                || pairs.any(|(id, last, present)| has_changed_enough(Some(id), last, present))
        }
        (last, present) => last != Some(present),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn notifies_not_before_pmin_and_not_after_pmax() {
        let last = Instant::now();
        let after = |seconds: u64| last + Duration::from_secs(seconds);
        for (pmin, pmax, pending, seconds, next) in [
            (0, None, false, 0, NextNotification::Never),
            (0, None, true, 0, NextNotification::Changes),
            (5, None, false, 9, NextNotification::Never),
            (5, None, true, 4, NextNotification::At(after(5))),
            (5, None, true, 5, NextNotification::Changes),
            (0, Some(9), false, 0, NextNotification::At(after(9))),
            (0, Some(9), false, 9, NextNotification::Everything),
            (0, Some(9), true, 9, NextNotification::Everything),
            (0, Some(9), true, 8, NextNotification::Changes),
            (5, Some(9), true, 4, NextNotification::At(after(5))),
            (5, Some(5), true, 5, NextNotification::Everything),
            (5, Some(4), false, 9, NextNotification::Never),
            (5, Some(4), true, 4, NextNotification::At(after(5))),
            (0, Some(0), false, 9, NextNotification::Never),
            (u64::MAX, None, true, 9, NextNotification::Never),
            (0, Some(u64::MAX), false, 9, NextNotification::Never),
        ] {
            let periods = NotificationPeriods { pmin: Duration::from_secs(pmin), pmax: pmax.map(Duration::from_secs) };
            assert_eq!(periods.next(last, pending, after(seconds)), next, "{pmin} {pmax:?} {pending} {seconds}");
        }
    }

    #[test]
    fn thresholds_are_crossed_in_both_directions_and_steps_are_counted_from_the_last_notification() {
        let none = Thresholds::default();
        let gt = Thresholds { gt: Some(50.0), ..none };
        let lt = Thresholds { lt: Some(-1.5), ..none };
        let st = Thresholds { st: Some(0.1), ..none };
        let all = Thresholds { gt: Some(50.0), lt: Some(10.0), st: Some(5.0) };
        for (thresholds, last, present, expected) in [
            (none, "1", "1", false),
            (none, "1", "2", true),
            (none, "a", "b", true),
            (none, "9007199254740992", "9007199254740993", true),
            (gt, "49", "50", false),
            (gt, "50", "51", true),
            (gt, "51", "50", true),
            (gt, "51", "99", false),
            (lt, "-1", "-1.5", false),
            (lt, "-1.5", "-1.6", true),
            (lt, "-1.6", "-1.5", true),
            (lt, "-1.6", "-9", false),
            (st, "0.2", "0.3", true),
            (st, "21.5", "21.4", true),
            (st, "21.5", "21.41", false),
            (st, "1.0", "1.00", false),
            (all, "20", "24", false),
            (all, "20", "25", true),
            (all, "48", "51", true),
            (all, "11", "9", true),
        ] {
            assert_eq!(thresholds.passes(last, present), expected, "{thresholds:?} {last} {present}");
        }
    }

    #[test]
    fn compares_what_resources_hold() {
        let single = |text: &str| Content::Single(Some(text.to_owned()));
        let empty = Content::Single(None);
        let multiple = |values: &[(u16, &str)]| {
            Content::Multiple(values.iter().map(|(id, text)| (*id, Some((*text).into()))).collect())
        };
        let without_value = Content::Multiple(BTreeMap::from([(0, None)]));
        let far = Thresholds { st: Some(100.0), ..Thresholds::default() };
        for (last, present, expected) in [
            (None, single("1"), true),
            (None, empty.clone(), true),
            (Some(empty.clone()), empty.clone(), false),
            (Some(empty.clone()), single("1"), true),
            (Some(single("1")), empty, true),
            (Some(single("1")), single("2"), false),
            (Some(single("1")), single("101"), true),
            (Some(multiple(&[(0, "1")])), multiple(&[(0, "2")]), false),
            (Some(multiple(&[(0, "1")])), multiple(&[(0, "101")]), true),
            (Some(without_value.clone()), without_value.clone(), false),
            (Some(without_value.clone()), multiple(&[(0, "1")]), true),
            (Some(multiple(&[(0, "1")])), without_value, true),
            (Some(multiple(&[(0, "1")])), multiple(&[(0, "1"), (1, "1")]), true),
            (Some(multiple(&[(0, "1"), (1, "1")])), multiple(&[(0, "1")]), true),
        ] {
            assert_eq!(is_worth_notifying(last.as_ref(), &present, |_| far), expected, "{last:?} {present:?}");
        }
    }
}
