//! Outcome of an attempt to hand a request over.

use crate::Millis;
use crate::device::{Device, ResultEntry};
use crate::event::{Created, NotHandedOver, NotWoken};
use crate::matching::came_before_hand_over;
use crate::record::{Name, Reason, Record, State, Status, code, may_run_twice};
use crate::transitions::Verdict;
use crate::transitions::reasons::lifetime_over;
use crate::transitions::state_change::{schedule, wait};

impl Device {
    /// Coiote has the task: the request is scheduled.
    pub(super) fn created(&mut self, created: &Created) -> Verdict {
        let Created { name, at, .. } = created;
        if let Some(index) = self.ended.iter().position(|record| record.name == *name) {
            if !self.ended.get(index).is_some_and(Record::may_be_reopened) {
                return Verdict::Unchanged;
            }
            let mut record = self.ended.remove(index);
            record.is_filed = false;
            record.state = State::Waiting;
            self.insert(record);
        }
        let Some(index) = self.open_index(name) else { return Verdict::Unchanged };
        let Some(record) = self.open.get_mut(index) else { return Verdict::Unchanged };
        if record.state == State::Scheduled {
            // If two runs have handed it over, the task of the first one counts.
            return Verdict::Unchanged;
        }
        if record.state == State::Held && record.mark != created.mark {
            // Another run is handing it over. If this event let a newer write pass, that run's write could follow it.
            return Verdict::Unchanged;
        }
        schedule(record, created);
        let scheduled = record.clone();
        if !created.is_followed && record.canceled_by.is_none() {
            let reason = record.reason.take();
            return self.end_at(index, Status::Scheduled, reason, *at);
        }
        self.attach_candidate(&scheduled, *at);
        self.drop_candidate(name, *at);
        Verdict::Changed
    }

    /// The device could not be woken: it is tried again if no report comes, unless the outcome is not followed.
    pub(super) fn not_woken(&mut self, failure: &NotWoken) -> Verdict {
        let is_its = |record: &&mut Record| {
            record.name == failure.name
                && record.status() == Status::Scheduled
                && record.task_id.as_ref() == Some(&failure.task_id)
                && !record.is_to_be_woken
        };
        let Some(record) = self.open.iter_mut().chain(&mut self.ended).find(is_its) else { return Verdict::Unchanged };
        if record.is_open() {
            record.is_to_be_woken = true;
        } else if record.reason.is_some() {
            return Verdict::Unchanged;
        }
        // A notice about the operation stays true, and this one does not.
        record.reason.get_or_insert_with(|| failure.reason.shortened());
        record.is_filed = false;
        record.updated_at = failure.at;
        Verdict::Changed
    }

    /// The device was woken after all.
    pub(super) fn woken(&mut self, name: &Name, at: Millis) -> Verdict {
        let is_its = |record: &&mut Record| record.name == *name && record.is_to_be_woken;
        let Some(record) = self.open.iter_mut().find(is_its) else { return Verdict::Unchanged };
        record.is_to_be_woken = false;
        record.reason = record.notice_about_operation();
        record.updated_at = at;
        Verdict::Changed
    }

    /// Makes a result answer the scheduled request if it came before Coiote's response was recorded.
    fn attach_candidate(&mut self, scheduled: &Record, at: Millis) {
        let is_its = |result: &ResultEntry| {
            result.answers.is_none()
                && result.candidate.as_ref() == Some(&scheduled.name)
                && !came_before_hand_over(scheduled, result.reported_at)
        };
        if let Some(candidate) = self.results.iter().position(is_its) {
            self.attach(candidate, scheduled.name.clone(), at);
        }
    }

    /// The attempt has failed: the request waits, or ends.
    pub(super) fn not_handed_over(&mut self, failure: &NotHandedOver) -> Verdict {
        let NotHandedOver { name, mark, at, .. } = failure;
        let holds = |record: &Record| record.name == *name && record.state == State::Held && record.mark == *mark;
        if !self.open.iter().any(holds) {
            return Verdict::Unchanged;
        }
        if failure.may_have_reached_coiote {
            self.release_withheld(name, *at);
        } else {
            self.drop_candidate(name, *at);
        }
        let Some(index) = self.open.iter().position(holds) else { return Verdict::Unchanged };
        let Some(record) = self.open.get_mut(index) else { return Verdict::Unchanged };
        record.may_have_reached_coiote |= failure.may_have_reached_coiote;
        record.tries = record.tries.saturating_add(1);
        if record.may_have_reached_coiote && !may_run_twice(&record.operation) {
            let reason = Reason::new(
                code::OUTCOME_UNKNOWN,
                format!("it may have reached Coiote and is not sent twice: {}", failure.reason.message),
            );
            return self.end_at(index, Status::Failed, Some(reason), *at);
        }
        if let Some(by) = record.canceled_by.clone() {
            return self.end_unsent(index, &by, *at);
        }
        let Some(retry_at) = failure.retry_at else {
            let reason = if record.may_have_reached_coiote {
                Reason::new(code::OUTCOME_UNKNOWN, format!("it may have reached Coiote: {}", failure.reason.message))
            } else {
                failure.reason.clone()
            };
            return self.end_at(index, Status::Failed, Some(reason), *at);
        };
        if record.expires_at <= *at {
            let reason = lifetime_over(record);
            return self.end_at(index, Status::TimedOut, Some(reason), *at);
        }
        wait(record, &failure.reason, retry_at, *at);
        Verdict::Wait
    }

    /// Releases the result that came while the request was handed over: it answers the request that it was withheld from, if
    /// any.
    pub(super) fn drop_candidate(&mut self, name: &Name, at: Millis) {
        self.release_withheld(name, at);
        for result in self.results.iter_mut().filter(|result| result.candidate.as_ref() == Some(name)) {
            result.candidate = None;
        }
    }

    /// Gives a result that was withheld for this request, which is not being handed over any more, to the one that it was
    /// withheld from.
    pub(super) fn release_withheld(&mut self, name: &Name, at: Millis) {
        for index in 0..self.results.len() {
            let is_withheld = |result: &&mut ResultEntry| result.candidate.as_ref() == Some(name);
            let Some(result) = self.results.get_mut(index).filter(is_withheld) else { continue };
            let Some(other) = result.withheld_from.take() else { continue };
            result.candidate = None;
            let awaits_it = |record: &Record| {
                record.result_version.is_none() && (record.state == State::Scheduled || record.yields())
            };
            if self.find(&other).is_some_and(awaits_it) {
                self.attach(index, other, at);
            }
        }
    }
}
