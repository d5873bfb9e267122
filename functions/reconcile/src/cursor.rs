//! From when on Coiote's reports are read: what is next after a page, and what the ledger remembers.

use requests::Millis;

/// How late a report may appear among the others is not documented.
pub(crate) const LOOK_BACK: Millis = 120_000;

/// A report is from no later than this after our own time: clocks differ, and what lies further ahead is no time.
const CLOCKS_DIFFER: Millis = 5 * 60_000;

/// What to do after a page of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// All was read.
    Done,
    /// There may be more, updated since then.
    From(Millis),
    /// There may be more of this one instant, which cannot be asked for; what is later, can.
    Beyond(Millis),
    /// Coiote answers what it was not asked for: there is no way on.
    Stuck,
}

/// `latest`: the latest time among the page's reports.
pub(crate) fn next(since: Millis, latest: Option<Millis>, is_full: bool) -> Next {
    match latest {
        _ if !is_full => Next::Done,
        Some(latest) if latest > since => Next::From(latest),
        Some(latest) if latest == since => Next::Beyond(since.saturating_add(1)),
        _ => Next::Stuck,
    }
}

/// From when on a look reads.
pub(crate) fn begin(cursor: Option<Millis>, now: Millis) -> Millis {
    cursor.unwrap_or(now.saturating_sub(LOOK_BACK)).saturating_sub(LOOK_BACK)
}

/// The latest of these times that can be one.
pub(crate) fn latest(times: impl IntoIterator<Item = Millis>, now: Millis) -> Option<Millis> {
    times.into_iter().filter(|time| *time <= now.saturating_add(CLOCKS_DIFFER)).max()
}

/// What the ledger is to remember, where that is news. Never later than now: a clock that is ahead may be put back.
pub(crate) fn advanced(cursor: Option<Millis>, latest: Option<Millis>, now: Millis) -> Option<Millis> {
    let known = cursor.unwrap_or(now.saturating_sub(LOOK_BACK));
    let reached = latest.unwrap_or(0).min(now).max(known);
    (cursor != Some(reached)).then_some(reached)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_000_000_000;

    #[test]
    fn a_full_page_is_followed_by_what_came_after_it() {
        assert_eq!(next(10, Some(20), false), Next::Done);
        assert_eq!(next(10, None, false), Next::Done);
        assert_eq!(next(10, Some(20), true), Next::From(20));
    }

    #[test]
    fn more_reports_of_one_instant_than_a_page_holds_do_not_end_the_look() {
        assert_eq!(next(20, Some(20), true), Next::Beyond(21));
    }

    #[test]
    fn the_same_page_whatever_is_asked_for_is_read_once() {
        assert_eq!(next(21, Some(20), true), Next::Stuck);
        assert_eq!(next(21, None, true), Next::Stuck);
    }

    #[test]
    fn every_look_goes_back_further_than_the_last_one_came() {
        assert_eq!(begin(Some(NOW - 5_000), NOW), NOW - 125_000);
        assert_eq!(begin(None, NOW), NOW - 240_000);
        assert_eq!(begin(Some(5), NOW), 0);
    }

    #[test]
    fn the_ledger_is_told_only_of_news() {
        assert_eq!(advanced(None, None, NOW), Some(NOW - LOOK_BACK), "the first look");
        assert_eq!(advanced(Some(NOW - 50), None, NOW), None, "nothing came");
        assert_eq!(advanced(Some(NOW - 50), Some(NOW - 60), NOW), None, "nothing new came");
        assert_eq!(advanced(Some(NOW - 50), Some(NOW - 20), NOW), Some(NOW - 20));
        assert_eq!(advanced(Some(NOW - 50), Some(NOW + 20), NOW), Some(NOW), "Coiote's clock is ahead");
        assert_eq!(advanced(Some(NOW + 50), Some(NOW - 20), NOW), None, "ours was ahead");
    }

    #[test]
    fn a_time_that_can_be_none_moves_nothing() {
        assert_eq!(latest([NOW - 5, NOW + 86_400_000, NOW - 9], NOW), Some(NOW - 5));
        assert_eq!(latest([], NOW), None);
    }
}
