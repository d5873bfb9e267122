//! Changes of a record's state, with all fields that go with it.

use crate::Millis;
use crate::device::REPORT_REQUESTS;
use crate::event::Created;
use crate::record::{Reason, Record, State, Status};

/// Run of operation-request that holds a request.
pub(super) struct Holder<'a> {
    pub(super) mark: &'a str,
    pub(super) run: &'a str,
    pub(super) void_at: Millis,
}

/// Lets a run hold the request.
pub(super) fn hold(record: &mut Record, holder: &Holder<'_>, at: Millis) {
    record.state = State::Held;
    record.note_hold(at);
    holder.mark.clone_into(&mut record.mark);
    holder.run.clone_into(&mut record.run);
    record.void_at = holder.void_at;
    record.updated_at = at;
    record.reason = None;
}

/// Lets the request wait until `due_at`.
pub(super) fn wait(record: &mut Record, reason: &Reason, due_at: Millis, at: Millis) {
    record.state = State::Waiting;
    record.mark.clear();
    record.void_at = 0;
    record.due_at = due_at;
    record.reason = Some(reason.shortened());
    record.updated_at = at;
}

/// Schedules the request, as Coiote has its task.
pub(super) fn schedule(record: &mut Record, created: &Created) {
    // An earlier attempt than the one that this response is of may have had the task run as well.
    record.may_have_reached_coiote &= record.state == State::Held;
    record.state = State::Scheduled;
    record.task_id = Some(created.task_id.clone());
    record.handed_over_at = created.handed_over_at;
    record.call_took = created.call_took.max(1);
    record.ran_after = None;
    record.mark.clear();
    record.void_at = 0;
    record.run.clear();
    record.tries = 0;
    record.updated_at = created.at;
    if created.sent_at > 0 {
        record.note_hold(created.sent_at);
    }
    let is_over = record.canceled_by.is_some() || record.expires_at <= created.at;
    let first_request = created.at.saturating_add(REPORT_REQUESTS[0]);
    record.due_at = if is_over { created.at } else { first_request.min(record.expires_at) };
    record.is_to_be_woken = false;
    record.reason = created.notice.as_ref().map(Reason::shortened);
}

/// Ends the request, or replaces its final status.
pub(super) fn end(record: &mut Record, status: Status, reason: Option<Reason>, at: Millis) {
    record.state = State::Ended(status);
    record.reason = reason.as_ref().map(Reason::shortened);
    record.mark.clear();
    record.void_at = 0;
    record.is_to_be_woken = false;
    record.due_at = 0;
    record.tries = 0;
    if !record.may_be_reopened() {
        record.expires_at = 0;
    }
    if record.task_id.is_none() {
        record.waited = 0;
    }
    record.updated_at = at;
    record.is_filed = false;
    if status != Status::Failed {
        record.run.clear();
    }
}
