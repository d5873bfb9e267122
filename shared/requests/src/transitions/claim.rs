//! Claim of a request: by the run that its event started, or when a waiting request is due.

use crate::canceled_by::CanceledBy;
use crate::device::{CLAIMED_WITHIN, Device};
use crate::digest::{merged, request_digest};
use crate::event::{Claim, ClaimDue};
use crate::record::{Reason, Record, State, Status, code, is_write, may_run_twice};
use crate::transitions::Verdict;
use crate::transitions::reasons::{lifetime_over, overtaken};
use crate::transitions::state_change::{Holder, end, hold, wait};

/// Whether a request can be claimed.
enum Standing {
    /// It cannot, for this verdict.
    Decided(Verdict),
    /// It is at this place among the open ones, held by a run that has ended without recording an outcome.
    Void(usize),
    /// It is not among the open ones.
    Free {
        /// Whether an earlier attempt may have reached Coiote.
        may_have_reached_coiote: bool,
    },
}

impl Device {
    /// Claims a request for a run, if it is new or may be sent again.
    pub(super) fn claim(&mut self, claim: &Claim) -> Verdict {
        if let Some(version) = claim.name.version() {
            self.note_new_shadow(version, claim.requested_at);
        }
        let may_have_reached_coiote = match self.standing(claim) {
            Standing::Decided(verdict) => return verdict,
            Standing::Void(index) => return self.take_over(index, claim),
            Standing::Free { may_have_reached_coiote } => may_have_reached_coiote,
        };
        let mut record = new_record(claim, self.newest, may_have_reached_coiote);
        let refusal = self.refusal(claim, &record);
        if claim.with_reported {
            self.resaved = self.resaved.max(claim.name.version().unwrap_or(0));
        }
        if let Some(version) = claim.name.version().filter(|version| *version > self.newest) {
            self.newest = version;
            self.newest_at = 0;
            self.newest_digest = merged(&self.newest_digest, &claim.digest);
        }
        if let Some((status, reason)) = refusal {
            end(&mut record, status, Some(reason), claim.at);
            self.ended.push(record);
            return Verdict::Ended(status);
        }
        if record.is_cancel() {
            return self.claim_cancel_request(record, claim.at);
        }
        let waits_for = self.older_write(&record).map(|older| {
            let message = format!("it waits for request {older}, which writes one of its keys");
            Reason::new(code::WAITS_FOR_OLDER_WRITE, message)
        });
        let verdict = match waits_for.as_ref().or(claim.waits.as_ref()) {
            Some(reason) => {
                wait(&mut record, reason, claim.at, claim.at);
                Verdict::Wait
            }
            None => Verdict::Send,
        };
        self.insert(record);
        verdict
    }

    /// Whether the request can be claimed. A redrive of one that waits makes it due.
    fn standing(&mut self, claim: &Claim) -> Standing {
        if let Some(index) = self.open_index(&claim.name) {
            return self.standing_of_open(index, claim);
        }
        if let Some(index) = self.ended.iter().position(|record| record.name == claim.name) {
            return self.standing_of_ended(index, claim);
        }
        let is_new = claim.name.version().is_some_and(|version| version > self.newest) && !claim.redriven;
        // A request that is delivered late may repeat one that has left the device's item.
        let is_late = claim.at / 1_000 > claim.requested_at.saturating_add(CLAIMED_WITHIN);
        let needs_tokens = is_late && claim.client_token.is_some() && !may_run_twice(&claim.operation);
        match &claim.history {
            _ if is_new && !needs_tokens => Standing::Free { may_have_reached_coiote: false },
            None => Standing::Decided(Verdict::NeedsHistory),
            Some(history) => match &history.same {
                Some(past) if !is_another(claim, past.requested_at) => {
                    if !past.had_task && may_be_sent_again(claim, past.may_have_been_sent, past.status) {
                        Standing::Free { may_have_reached_coiote: past.may_have_been_sent }
                    } else {
                        Standing::Decided(Verdict::Duplicate(past.status))
                    }
                }
                _ => Standing::Free { may_have_reached_coiote: false },
            },
        }
    }

    /// Standing of a request that is open.
    fn standing_of_open(&mut self, index: usize, claim: &Claim) -> Standing {
        let Some(record) = self.open.get_mut(index) else { return Standing::Decided(Verdict::Unchanged) };
        if claim.name.is_reused(record.requested_at, claim.requested_at) {
            return self.standing_beside_namesake(index, claim);
        }
        match record.state {
            State::Held if record.mark == claim.mark => Standing::Decided(Verdict::Send),
            State::Waiting if record.is_cancel() && record.updated_at == claim.at => {
                Standing::Decided(Verdict::Changed)
            }
            State::Held if record.is_void(claim.at) => Standing::Void(index),
            State::Held if record.run == claim.run => Standing::Decided(Verdict::Busy),
            State::Waiting if !record.is_cancel() => {
                if claim.redriven {
                    record.due_at = record.due_at.min(claim.at);
                }
                Standing::Decided(Verdict::Wait)
            }
            _ => Standing::Decided(Verdict::Duplicate(record.status())),
        }
    }

    /// Standing of a request whose name an older one has that is still open: that one is taken back first, as its shadow or its
    /// job was deleted.
    fn standing_beside_namesake(&mut self, index: usize, claim: &Claim) -> Standing {
        let Some(record) = self.open.get_mut(index) else { return Standing::Decided(Verdict::Unchanged) };
        if record.requested_at > claim.requested_at {
            return Standing::Decided(Verdict::Duplicate(record.status()));
        }
        match &mut record.canceled_by {
            // Whoever took it back before, its name is another request's now.
            Some(by) => *by = CanceledBy::Newer,
            None => drop(self.cancel(&claim.name, &CanceledBy::Newer, claim.at)),
        }
        match self.open_index(&claim.name) {
            None => self.standing(claim),
            // A later delivery finds it ended.
            Some(_) => Standing::Decided(Verdict::Busy),
        }
    }

    /// Standing of a request that has ended. Its record is removed if it can be claimed again.
    fn standing_of_ended(&mut self, index: usize, claim: &Claim) -> Standing {
        let Some(record) = self.ended.get(index) else { return Standing::Decided(Verdict::Unchanged) };
        let is_other = is_another(claim, record.requested_at);
        let may_have_been_sent = record.may_have_been_sent();
        if !is_other && record.updated_at == claim.at {
            // The same event was appended twice.
            return Standing::Decided(Verdict::Ended(record.status()));
        }
        let is_repeatable = record.task_id.is_none() && may_be_sent_again(claim, may_have_been_sent, record.status());
        if !is_other && !is_repeatable {
            return Standing::Decided(Verdict::Duplicate(record.status()));
        }
        if is_write(&claim.operation) && claim.history.is_none() {
            // A newer write of its keys may have left the device's item.
            return Standing::Decided(Verdict::NeedsHistory);
        }
        self.ended.remove(index);
        Standing::Free { may_have_reached_coiote: may_have_been_sent && !is_other }
    }

    /// Claims a request whose run has ended without recording an outcome.
    fn take_over(&mut self, index: usize, claim: &Claim) -> Verdict {
        if let Some(verdict) = self.end_if_not_repeatable(index, claim.at) {
            return verdict;
        }
        let Some(record) = self.open.get_mut(index) else { return Verdict::Unchanged };
        if let Some(by) = record.canceled_by.clone() {
            return self.end_unsent(index, &by, claim.at);
        }
        if record.expires_at <= claim.at {
            let reason = lifetime_over(record);
            return self.end_at(index, Status::TimedOut, Some(reason), claim.at);
        }
        hold(record, &Holder { mark: &claim.mark, run: &claim.run, void_at: claim.void_at }, claim.at);
        self.drop_candidate(&claim.name, claim.at);
        Verdict::Send
    }

    /// Claims a waiting request that is due.
    pub(super) fn claim_due(&mut self, claim: &ClaimDue) -> Verdict {
        let Some(index) = self.open_index(&claim.name) else {
            return match self.find(&claim.name) {
                // The same event was appended twice.
                Some(record) if record.updated_at == claim.at => Verdict::Ended(record.status()),
                Some(record) => Verdict::Duplicate(record.status()),
                None => Verdict::Unchanged,
            };
        };
        let Some(record) = self.open.get(index) else { return Verdict::Unchanged };
        if record.state == State::Held && record.mark == claim.mark {
            return Verdict::Send;
        }
        if record.state != State::Waiting || record.is_cancel() {
            return Verdict::Duplicate(record.status());
        }
        if record.expires_at <= claim.at {
            return self.end_at(index, Status::TimedOut, Some(lifetime_over(record)), claim.at);
        }
        if let Some(newer) = self.overtaking(record) {
            return self.end_at(index, Status::Failed, Some(overtaken(&newer)), claim.at);
        }
        if self.older_write(record).is_some() {
            return Verdict::Wait;
        }
        if let Some(record) = self.open.get_mut(index) {
            hold(record, &Holder { mark: &claim.mark, run: &claim.run, void_at: claim.void_at }, claim.at);
        }
        self.drop_candidate(&claim.name, claim.at);
        Verdict::Send
    }
}

/// Record of a claimed request. `newest` is the newest version before it.
fn new_record(claim: &Claim, newest: u64, may_have_reached_coiote: bool) -> Record {
    let mut record = Record {
        name: claim.name.clone(),
        operation: claim.operation.clone(),
        keys: claim.keys.clone(),
        client_token: claim.client_token.clone(),
        digest: (!may_run_twice(&claim.operation)).then(|| request_digest(&claim.digest)),
        requested_at: claim.requested_at,
        after: if claim.name.version().is_some() { 0 } else { newest },
        waited: 0,
        state: State::Held,
        mark: claim.mark.clone(),
        void_at: claim.void_at,
        run: claim.run.clone(),
        may_have_reached_coiote,
        task_id: None,
        handed_over_at: 0,
        call_took: 1,
        ran_after: None,
        is_to_be_woken: false,
        due_at: 0,
        tries: 0,
        reason: None,
        result_version: None,
        has_doubtful_result: false,
        reported_at: 0,
        proven: false,
        canceled_by: None,
        properties: None,
        updated_at: claim.at,
        expires_at: claim.expires_at,
        is_filed: false,
    };
    record.note_hold(claim.at);
    record
}

/// Whether a claim is of another request than one of its name that has ended. An older one may have run before its job was
/// deleted or, if it must not run twice, before its shadow was.
fn is_another(claim: &Claim, requested_at: u64) -> bool {
    let may_be_older = !claim.name.is_of_job() && may_run_twice(&claim.operation);
    claim.name.is_reused(requested_at, claim.requested_at) && (may_be_older || requested_at < claim.requested_at)
}

/// Whether a redrive may send a request again that has ended with this status.
fn may_be_sent_again(claim: &Claim, may_have_been_sent: bool, status: Status) -> bool {
    let is_repeatable = !may_have_been_sent || may_run_twice(&claim.operation);
    claim.redriven && status == Status::Failed && is_repeatable
}
