//! Passes over the list of Coiote's reports: where one begins, how it goes on after a page, and where the next one resumes.

use requests::Millis;

/// Time by which a pass goes back behind the last one. Coiote's documentation does not say how late a report may appear among
/// the others.
const LOOK_BACK: Millis = 120_000;

/// Smallest step of the position in the ledger, where each write is billed. A pass goes back behind the position in any case.
const STEP: Millis = 30_000;

/// Largest difference to Coiote's clock: a report from further ahead has no valid time.
const MAX_CLOCK_SKEW: Millis = 5 * 60_000;

/// Pass over the list of reports, from behind the position in the ledger to the end of the list. It may take several reads.
///
/// All reports from more than [`LOOK_BACK`] before the position have been seen, provided that none appears later than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pass {
    begun_at: Millis,
    /// Time from which it asks for reports: it has seen those before, as far as they were there.
    since: Millis,
    /// Latest time among the reports that it has seen.
    latest: Option<Millis>,
}

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

impl Pass {
    /// A pass from behind the position; or the unfinished one of an earlier read, if that has come further. When an unfinished
    /// one is old, the next one would go back far behind its beginning, so a new one costs less.
    pub(crate) fn begin(position: Option<Millis>, unfinished: Option<Pass>, now: Millis) -> Pass {
        let since = position.unwrap_or(first_position(now)).saturating_sub(LOOK_BACK);
        unfinished.filter(|pass| pass.since > since && now.saturating_sub(pass.begun_at) < LOOK_BACK).unwrap_or(Pass {
            begun_at: now,
            since,
            latest: None,
        })
    }

    /// Time from which it asks for reports.
    pub(crate) fn since(&self) -> Millis {
        self.since
    }

    /// Goes on after a page of reports with these times.
    pub(crate) fn go_on(&mut self, times: impl IntoIterator<Item = Millis>, is_full: bool, now: Millis) -> Next {
        let latest = latest(times, now);
        self.latest = self.latest.max(latest);
        let next = next(self.since, latest, is_full);
        if let Next::From(since) | Next::Beyond(since) = next {
            self.since = since;
        }
        next
    }

    /// New position for the ledger after it came to the end of the list, unless that has hardly moved.
    pub(crate) fn position_at_end(&self, position: Option<Millis>) -> Option<Millis> {
        self.advanced(position, self.latest.unwrap_or(0), STEP)
    }

    /// New position for the ledger before it came to the end of the list: another execution environment goes on there.
    pub(crate) fn position_so_far(&self, position: Option<Millis>) -> Option<Millis> {
        self.advanced(position, self.since.saturating_add(LOOK_BACK), 1)
    }

    /// The position, moved to that time. It is never later than the beginning of the pass: since then, earlier reports may have
    /// appeared behind the place where it was; and a clock that is ahead may be put back.
    fn advanced(&self, position: Option<Millis>, to: Millis, step: Millis) -> Option<Millis> {
        let known = position.unwrap_or(first_position(self.begun_at));
        let advanced = to.min(self.begun_at).max(known);
        let is_far = position.is_none_or(|position| advanced.saturating_sub(position) >= step);
        is_far.then_some(advanced)
    }
}

/// Position before the first pass.
fn first_position(now: Millis) -> Millis {
    now.saturating_sub(LOOK_BACK)
}

/// The step after a page of reports since that time; `latest` is the latest time among them.
fn next(since: Millis, latest: Option<Millis>, is_full: bool) -> Next {
    match latest {
        _ if !is_full => Next::Done,
        Some(latest) if latest > since => Next::From(latest),
        Some(latest) if latest == since => Next::Beyond(since.saturating_add(1)),
        _ => Next::Stuck,
    }
}

/// The latest of the valid times.
fn latest(times: impl IntoIterator<Item = Millis>, now: Millis) -> Option<Millis> {
    times.into_iter().filter(|time| *time <= now.saturating_add(MAX_CLOCK_SKEW)).max()
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

    /// A pass that begins now and comes to the end of the list with a report of that time.
    fn at_end(position: Option<Millis>, latest: Option<Millis>) -> Option<Millis> {
        let mut pass = Pass::begin(position, None, NOW);
        assert_eq!(pass.go_on(latest, false, NOW), Next::Done);
        pass.position_at_end(position)
    }

    #[test]
    fn every_pass_goes_back_behind_the_last_one() {
        assert_eq!(Pass::begin(Some(NOW - 5_000), None, NOW).since(), NOW - 125_000);
        assert_eq!(Pass::begin(None, None, NOW).since(), NOW - 240_000);
        assert_eq!(Pass::begin(Some(5), None, NOW).since(), 0);
    }

    #[test]
    fn the_position_only_moves_forward() {
        assert_eq!(at_end(None, None), Some(NOW - LOOK_BACK), "the first pass");
        let position = Some(NOW - 50_000);
        assert_eq!(at_end(position, None), None, "nothing came");
        assert_eq!(at_end(position, Some(NOW - 60_000)), None, "nothing new came");
        assert_eq!(at_end(position, Some(NOW - 20_001)), None, "the step is too small");
        assert_eq!(at_end(position, Some(NOW - 20_000)), Some(NOW - 20_000));
        assert_eq!(at_end(position, Some(NOW + 20)), Some(NOW), "Coiote's clock is ahead");
        assert_eq!(at_end(Some(NOW + 50_000), Some(NOW - 20)), None, "ours was ahead");
    }

    #[test]
    fn an_unfinished_pass_goes_on_where_it_stopped() {
        let position = Some(NOW - 5_000);
        let mut pass = Pass::begin(position, None, NOW);
        assert_eq!(pass.position_so_far(position), None, "it has read nothing");
        assert_eq!(pass.go_on([NOW - 60_000], true, NOW), Next::From(NOW - 60_000));
        assert_eq!(Pass::begin(position, Some(pass), NOW + 60_000), pass);
        assert_eq!(pass.position_so_far(position), Some(NOW), "another environment goes back behind its beginning");
        let later = NOW + LOOK_BACK;
        assert_eq!(Pass::begin(Some(NOW), Some(pass), later).since(), NOW - LOOK_BACK, "it is old");
        let position = Some(NOW + 61_000);
        assert_eq!(
            Pass::begin(position, Some(pass), NOW + 70_000).since(),
            NOW - 59_000,
            "another one has come further"
        );
        // Reports so old appear no more.
        let position = Some(NOW - 3_600_000);
        let mut pass = Pass::begin(position, None, NOW);
        assert_eq!(pass.go_on([NOW - 3_700_000], true, NOW), Next::From(NOW - 3_700_000));
        let so_far = pass.position_so_far(position);
        assert_eq!(Pass::begin(so_far, None, NOW).since(), NOW - 3_700_000, "another environment goes on there, too");
    }

    /// Pages of a read, and reports of a page, in the test below.
    const PAGES: usize = 5;
    const PAGE: usize = 4;

    /// Reads a list of reports, one of each second, until nothing is left, and returns how many were seen. Reports appear up to
    /// [`LOOK_BACK`] late. Environments live for so many reads.
    fn read_all(seconds: Millis, interval: Millis, reads_of_an_environment: usize) -> usize {
        // Time of each report, and when it appears.
        let reports: Vec<(Millis, Millis)> =
            (0..seconds).map(|i| (NOW + i * 1_000, NOW + i * 1_000 + i * 7_919 % 121 * 1_000)).collect();
        let (mut position, mut unfinished) = (Some(NOW), None);
        let mut seen = std::collections::HashSet::new();
        let time_for_all = 20 * seconds * 1_000;
        for (read, at) in (NOW..NOW + time_for_all).step_by(usize::try_from(interval).unwrap()).enumerate() {
            if read % reads_of_an_environment == 0 {
                unfinished = None;
            }
            let mut pass = Pass::begin(position, unfinished.take(), at);
            let mut is_done = false;
            for _ in 0..PAGES {
                let is_listed = |(time, appears): &&(Millis, Millis)| *time >= pass.since() && *appears <= at;
                let page: Vec<Millis> = reports.iter().filter(is_listed).take(PAGE).map(|(time, _)| *time).collect();
                seen.extend(page.iter().copied());
                is_done = pass.go_on(page.iter().copied(), page.len() == PAGE, at) == Next::Done;
                if is_done {
                    break;
                }
            }
            let moved = if is_done { pass.position_at_end(position) } else { pass.position_so_far(position) };
            position = moved.or(position);
            unfinished = (!is_done).then_some(pass);
        }
        seen.len()
    }

    #[test]
    fn every_report_is_seen_although_the_look_back_has_more_than_a_read() {
        for (interval, reads_of_an_environment) in
            [(5_000, 1), (5_000, 7), (5_000, 10_000), (60_000, 1), (60_000, 10_000)]
        {
            assert_eq!(
                read_all(600, interval, reads_of_an_environment),
                600,
                "{interval} ms, {reads_of_an_environment}"
            );
        }
    }

    #[test]
    fn an_invalid_time_moves_nothing() {
        assert_eq!(latest([NOW - 5, NOW + 86_400_000, NOW - 9], NOW), Some(NOW - 5));
        assert_eq!(latest([], NOW), None);
    }
}
