//! Transitions: the effect of each event on the requests of a device. Records change nowhere else.
//!
//! [`Device::apply`] names the transition of each event; the modules hold them by subject.

mod cancel;
mod claim;
mod hand_over;
mod order;
mod reasons;
mod refusal;
mod report;
mod result;
mod state_change;
mod time;

pub use cancel::token_key;
pub use order::{VERSION_KEPT, is_long_after};
pub use refusal::SAME_TOKEN_WINDOW;

use crate::Millis;
use crate::device::Device;
use crate::event::Event;
use crate::record::{Name, Reason, Status};
use crate::transitions::state_change::end;

/// Outcome of an event, for the run that brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This run holds the request, and has to hand it over.
    Send,
    /// The request is handed over later; its body has to be kept.
    Wait,
    /// The request or result came before and has this status; nothing has to be done.
    Duplicate(Status),
    /// An earlier attempt of the same invocation holds the request, and may still run.
    Busy,
    /// The device's item does not show whether the request came before; it has to be claimed again, with its history.
    NeedsHistory,
    /// The request has ended with this status.
    Ended(Status),
    /// The result has to be folded. It answers the named request, if any.
    Fold(Option<Name>),
    /// The event has changed the requests.
    Changed,
    /// The event has changed nothing.
    Unchanged,
}

impl Device {
    /// Applies an event. Applied twice, it leaves the same state as applied once.
    pub fn apply(&mut self, event: &Event) -> Verdict {
        let verdict = match event {
            Event::Claim(claim) => self.claim(claim),
            Event::ClaimDue(claim) => self.claim_due(claim),
            Event::Created(created) => self.created(created),
            Event::NotWoken(failure) => self.not_woken(failure),
            Event::Woken { name, at } => self.woken(name, *at),
            Event::NotHandedOver(failure) => self.not_handed_over(failure),
            Event::Result(result) => self.result_received(result),
            Event::Folded(folded) => self.folded(folded),
            Event::Report(report) => self.reported(report),
            Event::ReportRequested { name, at } => self.report_requested(name, *at),
            Event::RemovalRefused { name, at } => self.removal_refused(name, *at),
            Event::TaskRemoved { name, at } => self.task_removed(name, *at),
            Event::Cancel(cancel) => self.cancel(&cancel.name, &cancel.by, cancel.at),
            Event::DesiredCleared { version, .. } => self.desired_cleared(*version),
            Event::Tick { at } => self.tick(*at),
        };
        let at = event.at();
        self.settle_cancel_requests(at);
        self.forget(at);
        verdict
    }

    /// Place of an open request.
    fn open_index(&self, name: &Name) -> Option<usize> {
        self.open.iter().position(|record| record.name == *name)
    }

    /// Ends the open request at this place.
    fn end_at(&mut self, index: usize, status: Status, reason: Option<Reason>, at: Millis) -> Verdict {
        if index >= self.open.len() {
            return Verdict::Unchanged;
        }
        let mut record = self.open.remove(index);
        self.drop_candidate(&record.name, at);
        end(&mut record, status, reason, at);
        self.ended.push(record);
        Verdict::Ended(status)
    }
}
