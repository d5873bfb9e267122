//! Passing of time: runs that are interrupted, lifetimes, results that do not come, and records that are no longer needed.

use crate::Millis;
use crate::device::{
    Device, ENDED_KEPT, ENDED_MAX, FOLD_LIMIT, RESULT_LIMIT, RESULT_STAYS, ResultEntry, SEEN_MAX, UNFOLDED_MAX,
    UNFOLDED_STAYS,
};
use crate::record::{Name, Reason, Record, State, Status, code, may_run_twice};
use crate::transitions::Verdict;
use crate::transitions::reasons::{interrupted, lifetime_over, overtaken};
use crate::transitions::state_change::wait;

impl Device {
    /// Ends or changes the requests that are overdue.
    pub(super) fn tick(&mut self, at: Millis) -> Verdict {
        let mut verdict = Verdict::Unchanged;
        let mut index = 0;
        while index < self.open.len() {
            if self.pass_time(index, at) {
                // Others may have changed with it.
                verdict = Verdict::Changed;
                index = 0;
            } else {
                index += 1;
            }
        }
        let before = self.ended.len();
        self.forget(at);
        if self.ended.len() != before { Verdict::Changed } else { verdict }
    }

    /// Ends or changes an open request if it is overdue. Returns whether it did.
    fn pass_time(&mut self, index: usize, at: Millis) -> bool {
        let Some(record) = self.open.get(index) else { return false };
        if record.is_void(at) {
            self.give_back(index, at);
            return true;
        }
        let overdue = self.overdue(record, at);
        let is_overdue = overdue.is_some();
        if let Some((status, reason)) = overdue {
            self.end_at(index, status, Some(reason), at);
        }
        is_overdue
    }

    /// Lets a request wait whose run has ended without recording an outcome, or ends it.
    fn give_back(&mut self, index: usize, at: Millis) {
        if self.end_if_not_repeatable(index, at).is_some() {
            return;
        }
        let Some(record) = self.open.get_mut(index) else { return };
        if record.expires_at <= at {
            let reason = lifetime_over(record);
            self.end_at(index, Status::TimedOut, Some(reason), at);
        } else if let Some(by) = record.canceled_by.clone() {
            self.end_unsent(index, &by, at);
        } else {
            let message = "the run that was handing it over ended without a word; it is handed over again";
            wait(record, &Reason::new(code::INTERRUPTED, message), at, at);
            let name = record.name.clone();
            self.release_withheld(&name, at);
        }
    }

    /// Notes that a request whose run has ended without recording an outcome may have reached Coiote, and ends it if it must
    /// not be sent twice.
    pub(super) fn end_if_not_repeatable(&mut self, index: usize, at: Millis) -> Option<Verdict> {
        let record = self.open.get_mut(index)?;
        record.may_have_reached_coiote = true;
        (!may_run_twice(&record.operation)).then(|| self.end_at(index, Status::Failed, Some(interrupted()), at))
    }

    /// Status and reason with which an open request ends by now, if it is overdue.
    fn overdue(&self, record: &Record, at: Millis) -> Option<(Status, Reason)> {
        match record.state {
            State::Waiting if record.expires_at <= at => Some((Status::TimedOut, lifetime_over(record))),
            State::Waiting => self.overtaking(record).map(|newer| (Status::Failed, overtaken(&newer))),
            State::Scheduled if self.is_result_overdue(record, at) => {
                let message = "the device did it, but its result did not come into the operation shadow within a minute; AWS \
                               IoT may have refused it for its size";
                Some((Status::Failed, Reason::new(code::RESULT_NOT_STORED, message)))
            }
            State::Scheduled if self.is_fold_overdue(record, at) => {
                let message = "the device did it, but its result could not be folded into the datamodel shadow; its event is \
                               in the failure queue";
                Some((Status::Failed, Reason::new(code::RESULT_NOT_STORED, message)))
            }
            _ => None,
        }
    }

    /// Whether the device has done the request, but its result has not come in time, nor one that is withheld from it.
    fn is_result_overdue(&self, record: &Record, at: Millis) -> bool {
        let may_have_come = || self.results.iter().any(|result| result.withheld_from.as_ref() == Some(&record.name));
        let is_late = record.reported_at.saturating_add(RESULT_LIMIT) <= at;
        let is_missing = record.result_version.is_none() && is_late && !may_have_come();
        record.reported_at > 0 && (is_missing || record.expires_at <= at)
    }

    /// Whether the request's result has come, but its fold takes too long. Its report may have come or not.
    fn is_fold_overdue(&self, record: &Record, at: Millis) -> bool {
        record.result_version.is_some_and(|version| {
            let came_at = self.result(version).map_or(record.reported_at, |result| result.at);
            came_at > 0 && came_at.max(record.reported_at).saturating_add(FOLD_LIMIT) <= at
        })
    }

    /// Removes ended requests and results that are no longer needed.
    pub(super) fn forget(&mut self, at: Millis) {
        let mut surplus = self.ended.len().saturating_sub(ENDED_KEPT);
        let mut excess = self.ended.len().saturating_sub(ENDED_MAX);
        let newest = Name::Version(self.newest);
        let newest_at = self.find(&newest).map(|record| record.requested_at);
        let open = &self.open;
        self.ended.retain(|record| {
            let is_named_by = |cancel: &Record| cancel.is_cancel() && cancel.keys.contains(&record.name.to_string());
            let is_old = record.stays_until() <= at || (excess > 0 && !record.keeps_token());
            let goes = surplus > 0 && is_old && record.is_filed && !open.iter().any(is_named_by);
            excess = excess.saturating_sub(usize::from(goes));
            surplus = surplus.saturating_sub(usize::from(goes));
            !goes
        });
        if let Some(newest_at) = newest_at.filter(|_| self.find(&newest).is_none()) {
            self.newest_at = newest_at;
        }
        let newest = self.newest_result().map(|result| result.version);
        // Folds of results that come late have to know which values are newer than theirs.
        let done_stays = if self.awaits_results(at) { FOLD_LIMIT } else { RESULT_STAYS };
        let done = self.results.iter().filter(|result| result.is_done()).count();
        let mut surplus_done = done.saturating_sub(SEEN_MAX);
        let mut surplus_unfolded = (self.results.len() - done).saturating_sub(UNFOLDED_MAX);
        self.results.retain(|result| {
            let (surplus, stays) = match result.is_done() {
                true if surplus_done > 0 => (&mut surplus_done, RESULT_STAYS),
                true => (&mut surplus_done, done_stays),
                false if surplus_unfolded > 0 => (&mut surplus_unfolded, FOLD_LIMIT),
                false => (&mut surplus_unfolded, UNFOLDED_STAYS),
            };
            *surplus = surplus.saturating_sub(1);
            Some(result.version) == newest || result.at.saturating_add(stays) > at
        });
    }

    /// Whether a result of a request may still come, or be folded by one of Lambda's retries.
    fn awaits_results(&self, at: Millis) -> bool {
        let is_tried_again = |result: &ResultEntry| !result.is_done() && result.at.saturating_add(FOLD_LIMIT) > at;
        self.results.iter().any(is_tried_again) || self.records().any(|record| record.may_await_result(at))
    }
}
