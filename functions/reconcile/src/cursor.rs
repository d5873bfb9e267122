//! Cursor over Coiote's reports: where a read begins, how it goes on after a page, and where the next one resumes.

use requests::Millis;

/// Time by which a read goes back behind the last one. Coiote's documentation does not say how late a report may appear among
/// the others.
pub(crate) const LOOK_BACK: Millis = 120_000;

/// Smallest step of the cursor in the ledger, where each write is billed. A read goes back behind the cursor in any case.
const STEP: Millis = 30_000;

/// Largest difference to Coiote's clock: a report from further ahead has no valid time.
const MAX_CLOCK_SKEW: Millis = 5 * 60_000;

/// Step after a page of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// All reports are read.
    Done,
    /// Ask for the reports since that time.
    From(Millis),
    /// Ask for the reports since that time: one instant has more than a page holds, and the rest of them cannot be asked for.
    Beyond(Millis),
    /// Stop: Coiote returns reports that were not asked for.
    Stuck,
}

/// The step after a page of reports since that time; `latest` is the latest time among them.
pub(crate) fn next(since: Millis, latest: Option<Millis>, is_full: bool) -> Next {
    match latest {
        _ if !is_full => Next::Done,
        Some(latest) if latest > since => Next::From(latest),
        Some(latest) if latest == since => Next::Beyond(since.saturating_add(1)),
        _ => Next::Stuck,
    }
}

/// Time from which a read asks for reports.
pub(crate) fn begin(cursor: Option<Millis>, now: Millis) -> Millis {
    cursor.unwrap_or(now.saturating_sub(LOOK_BACK)).saturating_sub(LOOK_BACK)
}

/// The latest of the valid times.
pub(crate) fn latest(times: impl IntoIterator<Item = Millis>, now: Millis) -> Option<Millis> {
    times.into_iter().filter(|time| *time <= now.saturating_add(MAX_CLOCK_SKEW)).max()
}

/// New cursor for the ledger, unless it has hardly moved. It is never later than now: a clock that is ahead may be put back.
pub(crate) fn advanced(cursor: Option<Millis>, latest: Option<Millis>, now: Millis) -> Option<Millis> {
    let known = cursor.unwrap_or(now.saturating_sub(LOOK_BACK));
    let reached = latest.unwrap_or(0).min(now).max(known);
    let is_far = cursor.is_none_or(|cursor| reached.saturating_sub(cursor) >= STEP);
    is_far.then_some(reached)
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
    fn more_reports_of_one_instant_than_a_page_holds_do_not_end_the_read() {
        assert_eq!(next(20, Some(20), true), Next::Beyond(21));
    }

    #[test]
    fn a_page_from_before_the_time_asked_for_ends_the_read() {
        assert_eq!(next(21, Some(20), true), Next::Stuck);
        assert_eq!(next(21, None, true), Next::Stuck);
    }

    #[test]
    fn every_read_goes_back_behind_the_last_one() {
        assert_eq!(begin(Some(NOW - 5_000), NOW), NOW - 125_000);
        assert_eq!(begin(None, NOW), NOW - 240_000);
        assert_eq!(begin(Some(5), NOW), 0);
    }

    #[test]
    fn the_cursor_only_moves_forward() {
        assert_eq!(advanced(None, None, NOW), Some(NOW - LOOK_BACK), "the first read");
        let cursor = Some(NOW - 50_000);
        assert_eq!(advanced(cursor, None, NOW), None, "nothing came");
        assert_eq!(advanced(cursor, Some(NOW - 60_000), NOW), None, "nothing new came");
        assert_eq!(advanced(cursor, Some(NOW - 20_001), NOW), None, "the step is too small");
        assert_eq!(advanced(cursor, Some(NOW - 20_000), NOW), Some(NOW - 20_000));
        assert_eq!(advanced(cursor, Some(NOW + 20), NOW), Some(NOW), "Coiote's clock is ahead");
        assert_eq!(advanced(Some(NOW + 50_000), Some(NOW - 20), NOW), None, "ours was ahead");
    }

    #[test]
    fn an_invalid_time_moves_nothing() {
        assert_eq!(latest([NOW - 5, NOW + 86_400_000, NOW - 9], NOW), Some(NOW - 5));
        assert_eq!(latest([], NOW), None);
    }
}
