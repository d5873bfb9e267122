//! Cancelling: of a request, and by a cancelRequest.

use std::collections::HashSet;

use crate::Millis;
use crate::canceled_by::CanceledBy;
use crate::device::Device;
use crate::record::{Name, Reason, Record, State, Status, code};
use crate::transitions::Verdict;
use crate::transitions::order::is_before;
use crate::transitions::reasons::canceled;

/// Entry of a cancelRequest's keys that names requests by their client token, in quotes where it would be read as a version.
pub fn token_key(token: &str) -> String {
    let is_ambiguous = token.starts_with('"') || Name::parse(token).version().is_some();
    if is_ambiguous { format!("\"{token}\"") } else { token.to_owned() }
}

/// Whether an entry of a cancelRequest's keys names this request: a number by its version, anything else by its client token
/// or its name.
pub(super) fn names(key: &str, record: &Record) -> bool {
    let has_token = |token: &str| record.client_token.as_deref() == Some(token);
    if let Some(token) = key.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return has_token(token);
    }
    record.name.to_string() == key || (Name::parse(key).version().is_none() && has_token(key))
}

impl Device {
    /// Takes a request back: ends it, or lets its task be removed first.
    pub(super) fn cancel(&mut self, name: &Name, by: &CanceledBy, at: Millis) -> Verdict {
        let Some(index) = self.open.iter().position(|record| record.name == *name && !record.is_cancel()) else {
            let status = self.find(name).map(Record::status);
            return status.map_or(Verdict::Unchanged, Verdict::Duplicate);
        };
        let Some(record) = self.open.get_mut(index) else { return Verdict::Unchanged };
        if record.canceled_by.is_some() || record.reported_at > 0 {
            // With a report of success, the device has done it already, and only its result is awaited.
            return Verdict::Unchanged;
        }
        record.canceled_by = Some(by.clone());
        match record.state {
            State::Waiting => self.end_unsent(index, by, at),
            _ => {
                record.due_at = at;
                Verdict::Changed
            }
        }
    }

    /// Ends a request that is taken back and has no task at Coiote, as far as is known.
    pub(super) fn end_unsent(&mut self, index: usize, by: &CanceledBy, at: Millis) -> Verdict {
        let may_have_reached_coiote = self.open.get(index).is_some_and(|record| record.may_have_reached_coiote);
        if may_have_reached_coiote {
            let message = format!("taken back by {by}, but an earlier try may have reached Coiote");
            return self.end_at(index, Status::Failed, Some(Reason::new(code::OUTCOME_UNKNOWN, message)), at);
        }
        self.end_at(index, Status::Canceled, Some(canceled(by)), at)
    }

    /// Takes back the requests that a cancelRequest names, and opens it until they have ended.
    pub(super) fn claim_cancel_request(&mut self, mut record: Record, at: Millis) -> Verdict {
        let by = CanceledBy::Request(record.name.clone());
        let mut targets = Vec::new();
        for wanted in &record.keys {
            let is_wanted = |other: &Record| names(wanted, other) && !other.is_cancel() && is_before(other, &record);
            let found: Vec<String> =
                self.records().filter(|other| is_wanted(other)).map(|other| other.name.to_string()).collect();
            if found.is_empty() { targets.push(wanted.clone()) } else { targets.extend(found) }
        }
        let mut seen = HashSet::new();
        targets.retain(|target| seen.insert(target.clone()));
        record.keys = targets;
        record.state = State::Waiting;
        record.due_at = record.expires_at;
        let name = record.name.clone();
        for target in record.keys.clone() {
            self.cancel(&Name::parse(&target), &by, at);
        }
        self.insert(record);
        self.settle_cancel_requests(at);
        match self.find(&name).map(Record::status) {
            Some(Status::InProgress) | None => Verdict::Changed,
            Some(status) => Verdict::Ended(status),
        }
    }

    /// Ends each cancelRequest whose requests have all ended.
    pub(super) fn settle_cancel_requests(&mut self, at: Millis) {
        while let Some((index, outcome)) = self.open.iter().enumerate().find_map(|(index, record)| {
            let is_settled =
                record.is_cancel() && record.keys.iter().all(|key| self.open_index(&Name::parse(key)).is_none());
            is_settled.then(|| (index, self.cancel_outcome(record)))
        }) {
            self.end_at(index, outcome.0, Some(outcome.1), at);
        }
    }

    /// Status and reason of a cancelRequest, with the status of each of its requests.
    fn cancel_outcome(&self, record: &Record) -> (Status, Reason) {
        let by = CanceledBy::Request(record.name.clone());
        let outcomes: Vec<(bool, String)> = record
            .keys
            .iter()
            .map(|key| match self.ended.iter().find(|other| other.name.to_string() == *key) {
                Some(other) if other.canceled_by.as_ref() == Some(&by) && other.status() == Status::Canceled => {
                    (true, format!("{key}: CANCELED"))
                }
                Some(other) => (true, format!("{key}: keeps its word, {}", other.status().as_str())),
                None => (false, format!("{key}: not among this device's open requests")),
            })
            .collect();
        let message = outcomes.iter().map(|(_, outcome)| outcome.as_str()).collect::<Vec<_>>().join("; ");
        if outcomes.iter().any(|(is_known, _)| *is_known) {
            (Status::Succeeded, Reason::new(code::CANCEL_DONE, message))
        } else {
            (Status::Failed, Reason::new(code::NOTHING_TO_CANCEL, message))
        }
    }
}
