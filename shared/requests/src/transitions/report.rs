//! Reports about tasks, and tasks that were removed.

use crate::Millis;
use crate::device::{Device, ENDED_STAYS, PROOF_LIMIT, REPORT_REQUESTS, is_to_be_removed};
use crate::event::{ReportStatus, Reported};
use crate::record::{Name, Reason, Record, State, Status, code, has_result};
use crate::transitions::Verdict;
use crate::transitions::reasons::{canceled, lifetime_over};
use crate::transitions::state_change::end;

impl Device {
    /// Applies a report to all requests that the run of its task answers.
    pub(super) fn reported(&mut self, report: &Reported) -> Verdict {
        let is_of = |record: &Record| {
            record.task_id.as_ref() == Some(&report.task_id)
                && !record.proven
                && (report.started_at >= record.handed_over_at || self.ran_during_its_call(record, report))
                && !(record.state == State::Ended(Status::Succeeded) && self.answers_later_request_only(record, report))
        };
        let names: Vec<Name> = self.records().filter(|record| is_of(record)).map(|r| r.name.clone()).collect();
        let mut verdict = Verdict::Unchanged;
        for name in names {
            if self.apply_report(&name, report) {
                verdict = Verdict::Changed;
            }
        }
        verdict
    }

    /// Whether the device ran the task before Coiote's response to the call that handed it over was sent, and no other request
    /// is more likely to have had it run then: a device that is awake may be quicker than the response.
    fn ran_during_its_call(&self, record: &Record, report: &Reported) -> bool {
        // Earlier attempts of a request may have had it run before its call.
        let order = |of: &Record| (!of.may_have_reached_coiote, of.handed_over_at, of.order());
        let is_likelier = |other: &Record| match other.ran_after {
            Some(_) => other.ran_after == ran_after(other, report),
            None => (other.may_have_reached_coiote || may_have_caused(other, report)) && order(other) < order(record),
        };
        let was_sent_before = |other: &Record| {
            let is_recent = other.updated_at.saturating_add(ENDED_STAYS) > record.held_at().saturating_mul(1_000);
            may_have_same_task(other, record) && (other.is_open() || is_recent)
        };
        let is_anothers = |other: &Record| {
            other.name != record.name
                && (was_sent_before(other) || (other.task_id == record.task_id && is_likelier(other)))
        };
        may_have_caused(record, report) && !self.records().any(is_anothers)
    }

    /// Whether a later request had the task run again, so that the report of that run says nothing about this request.
    fn answers_later_request_only(&self, record: &Record, report: &Reported) -> bool {
        self.records().any(|other| {
            if may_have_same_task(other, record) {
                return true;
            }
            other.name != record.name
                && other.task_id == record.task_id
                && may_be_handed_over_after(other, record)
                && may_have_caused(other, report)
        })
    }

    /// Applies a report to a request. Returns whether it changed the request.
    fn apply_report(&mut self, name: &Name, report: &Reported) -> bool {
        match self.open_index(name) {
            Some(index) => self.apply_report_to_open(index, report),
            None => self.apply_report_to_ended(name, report),
        }
    }

    /// Applies a report to an open request.
    fn apply_report_to_open(&mut self, index: usize, report: &Reported) -> bool {
        let Some(record) = self.open.get_mut(index) else { return false };
        record.properties.clone_from(&report.properties);
        record.ran_after = ran_after(record, report);
        match report.status {
            // Its result is awaited as well.
            ReportStatus::Success if has_result(&record.operation) => {
                if record.reported_at > 0 {
                    return false;
                }
                record.reported_at = report.at;
                record.updated_at = report.at;
            }
            ReportStatus::Success => {
                record.proven = true;
                let notice = record.notice_about_operation();
                self.end_at(index, Status::Succeeded, notice, report.at);
            }
            ReportStatus::Refused => {
                record.proven = true;
                self.end_at(index, Status::Failed, Some(refused(report)), report.at);
            }
        }
        true
    }

    /// Replaces the final status of a request if the report proves another one.
    fn apply_report_to_ended(&mut self, name: &Name, report: &Reported) -> bool {
        let Some(record) = self.ended.iter_mut().find(|record| record.name == *name) else { return false };
        let may_be_its_run = report.started_at.saturating_mul(1_000) < record.updated_at.saturating_add(PROOF_LIMIT);
        let rests_on_result = record.status() == Status::Succeeded && may_be_its_run;
        let (status, reason) = match report.status {
            ReportStatus::Refused if rests_on_result || record.yields() => (Status::Failed, Some(refused(report))),
            ReportStatus::Success if record.yields() && !has_result(&record.operation) => (Status::Succeeded, None),
            ReportStatus::Success if record.yields() && record.code() != code::RESULT_NOT_STORED => {
                let message = "the device did it, but its result did not come into the operation shadow; AWS IoT may have \
                               refused it for its size";
                (Status::Failed, Some(Reason::new(code::RESULT_NOT_STORED, message)))
            }
            _ => return false,
        };
        record.proven = status == Status::Succeeded || report.status == ReportStatus::Refused;
        record.properties.clone_from(&report.properties);
        record.ran_after = ran_after(record, report);
        end(record, status, reason, report.at);
        true
    }

    /// Sets the time of the next request for the report, after one in vain.
    pub(super) fn report_requested(&mut self, name: &Name, at: Millis) -> Verdict {
        let Some(record) = self.due_task(name, at).filter(|record| !is_to_be_removed(record, at)) else {
            return Verdict::Unchanged;
        };
        record.tries = record.tries.saturating_add(1);
        let passed = REPORT_REQUESTS.get(record.tries.saturating_sub(1) as usize).copied().unwrap_or_default();
        let next =
            REPORT_REQUESTS.get(record.tries as usize).map(|after| at.saturating_add(after.saturating_sub(passed)));
        record.due_at = next.map_or(record.expires_at, |next| next.min(record.expires_at));
        Verdict::Changed
    }

    /// Sets the time of the next try to remove a task that Coiote refuses to remove, or ends its request with its lifetime: after
    /// some tries, each pause is twice as long, up to an hour.
    pub(super) fn removal_refused(&mut self, name: &Name, at: Millis) -> Verdict {
        let Some(record) = self.due_task(name, at).filter(|record| is_to_be_removed(record, at)) else {
            return Verdict::Unchanged;
        };
        if record.expires_at <= at {
            return self.task_removed(name, at);
        }
        record.tries = record.tries.saturating_add(1);
        let doubled = record.tries.saturating_sub(REPORT_REQUESTS.len() as u32 + 1).min(6);
        record.due_at = at.saturating_add(REPORT_REQUESTS[0] << doubled);
        Verdict::Changed
    }

    /// The request if it has a task and its time has come.
    fn due_task(&mut self, name: &Name, at: Millis) -> Option<&mut Record> {
        let is_due =
            |record: &&mut Record| record.name == *name && record.state == State::Scheduled && record.due_at <= at;
        self.open.iter_mut().find(is_due)
    }

    /// Ends a request whose task was removed.
    pub(super) fn task_removed(&mut self, name: &Name, at: Millis) -> Verdict {
        let is_removed =
            |record: &Record| record.name == *name && record.state == State::Scheduled && record.reported_at == 0;
        let Some(index) = self.open.iter().position(is_removed) else { return Verdict::Unchanged };
        let Some(record) = self.open.get(index) else { return Verdict::Unchanged };
        match record.canceled_by.clone() {
            Some(by) => self.end_at(index, Status::Canceled, Some(canceled(&by)), at),
            None if record.expires_at <= at => self.end_at(index, Status::TimedOut, Some(lifetime_over(record)), at),
            None => Verdict::Unchanged,
        }
    }
}

/// Whether a request without a task id may have been handed over as the task of another one.
fn may_have_same_task(other: &Record, record: &Record) -> bool {
    other.task_id.is_none()
        && other.may_have_been_sent()
        && other.operation == record.operation
        && other.keys == record.keys
}

/// Whether a request may have been handed over after another one: their calls may have overlapped.
fn may_be_handed_over_after(later: &Record, record: &Record) -> bool {
    later.handed_over_at.saturating_add(record.call_took) > record.handed_over_at
}

/// Whether the run began after the begin of the call that handed the request over.
fn may_have_caused(record: &Record, report: &Reported) -> bool {
    report.started_at.saturating_add(record.call_took) >= record.handed_over_at
}

/// Seconds from the request's hand-over to the start of the run.
fn ran_after(record: &Record, report: &Reported) -> Option<i64> {
    report.started_at.checked_signed_diff(record.handed_over_at)
}

/// Reason of a request that the device did not do, or only a part.
fn refused(report: &Reported) -> Reason {
    let message = if report.summary.is_empty() {
        "the device did not do it; Coiote gives no reason".to_owned()
    } else {
        format!("the device did not do it, or not all of it: {}", report.summary)
    };
    Reason::new(code::DEVICE_REFUSED, message)
}
