//! Refusal of a claimed request: reasons for which it ends before it is handed over.

use crate::device::Device;
use crate::digest::{repeats, request_digest};
use crate::event::Claim;
use crate::record::{Name, Reason, Record, Status, code, may_run_twice};
use crate::transitions::Verdict;
use crate::transitions::cancel::names;
use crate::transitions::order::is_before;
use crate::transitions::reasons::{canceled, lifetime_over, overtaken};

/// Most seconds between the shadow updates of two requests that count as the same for their common client token.
pub const SAME_TOKEN_WINDOW: u64 = 5 * 60;

/// Size of a device's records in bytes beyond which requests are rejected: well below DynamoDB's limit of 400 KB for an item,
/// as the records of open requests still grow.
const MAX_BYTES: usize = 250_000;

/// Estimated bytes of a record beside its keys, reason and properties.
const RECORD_BYTES: usize = 300;

impl Device {
    /// Status and reason with which a request ends at once, although it can be claimed.
    pub(super) fn refusal(&self, claim: &Claim, record: &Record) -> Option<(Status, Reason)> {
        if let Some(reason) = &claim.rejected {
            return Some((Status::Rejected, reason.clone()));
        }
        if self.bytes() > MAX_BYTES && !record.is_cancel() {
            let message =
                "this device has so many open requests that its record is full; wait for them, or take some back";
            return Some((Status::Rejected, Reason::new(code::TOO_MANY_OPEN, message)));
        }
        if claim.expires_at <= claim.at {
            return Some((Status::TimedOut, lifetime_over(record)));
        }
        if !may_run_twice(&claim.operation)
            && let Some(reason) = self.refusal_of_repetition(claim)
        {
            return Some((Status::Rejected, reason));
        }
        if let Some(by) = self.taken_back_by(record) {
            return Some((Status::Canceled, canceled(&format!("request {by}"))));
        }
        self.overtaking(record)
            .or_else(|| claim.history.as_ref()?.newer_write.clone())
            .map(|newer| (Status::Failed, overtaken(&newer)))
    }

    /// Reason for which an execute, create or delete is rejected: it may repeat an earlier one.
    fn refusal_of_repetition(&self, claim: &Claim) -> Option<Reason> {
        let Claim { operation, .. } = claim;
        if matches!(claim.name, Name::Invocation(_)) {
            let message = format!(
                "version: missing; the rule has to pass version AS version, for only by it a second delivery of {operation} \
                 is told from the first"
            );
            return Some(Reason::new(code::VERSION_MISSING, message));
        }
        if let Some(latest) = self.latest_before(claim).filter(|_| claim.with_reported) {
            let message = format!(
                "the update carries reported as well and repeats request {latest}, as saving a whole document does; to \
                 {operation} again, send desired alone"
            );
            return Some(Reason::new(code::RESAVED, message));
        }
        if let Some(newer) = self.saved_again_before(claim) {
            let message = format!(
                "request {newer} repeats it, as saving a whole document does, and came first; to {operation} again, send \
                 desired alone"
            );
            return Some(Reason::new(code::RESAVED, message));
        }
        let in_history = || claim.history.as_ref()?.same_token.as_ref();
        let first = self.same_token(claim).or_else(in_history)?;
        let message = format!(
            "clientToken: request {first} has the same token and content and came within five minutes; use another token \
             to {operation} again"
        );
        Some(Reason::new(code::SAME_TOKEN, message))
    }

    /// The latest request no longer stands in the shadow: whoever saves it again has made it anew.
    pub(super) fn desired_cleared(&mut self, version: u64) -> Verdict {
        if version <= self.newest || self.newest_digest.is_empty() {
            return Verdict::Unchanged;
        }
        self.newest_digest.clear();
        Verdict::Changed
    }

    /// A later cancelRequest that came before this request and takes it back.
    fn taken_back_by(&self, record: &Record) -> Option<&Name> {
        let takes_it_back = |other: &&Record| {
            other.is_cancel()
                && other.status() != Status::Rejected
                && is_before(record, other)
                && other.keys.iter().any(|key| names(key, record))
        };
        self.records().find(takes_it_back).map(|other| &other.name)
    }

    /// Version of the latest request before this one, if it has the same content.
    fn latest_before(&self, claim: &Claim) -> Option<u64> {
        let version = claim.name.version()?;
        if version > self.newest {
            let is_repetition =
                !self.newest_digest.is_empty() && repeats(&self.newest_digest, &claim.digest, &claim.operation);
            return is_repetition.then_some(self.newest);
        }
        let is_earlier = |record: &&Record| record.name.version().is_some_and(|other| other < version);
        let latest = self.records().filter(is_earlier).max_by_key(|record| record.name.version())?;
        latest
            .name
            .version()
            .filter(|_| latest.digest.as_ref().is_some_and(|latest| repeats(latest, &claim.digest, &claim.operation)))
    }

    /// Version of the next request after this one, if its update carried `reported` as well and it has the same content: it was
    /// claimed before this one, of which it is the repetition.
    fn saved_again_before(&self, claim: &Claim) -> Option<u64> {
        let version = claim.name.version()?;
        let is_newer = |record: &&Record| record.name.version().is_some_and(|other| other > version);
        let next = self.records().filter(is_newer).min_by_key(|record| record.name.version())?;
        let has_same =
            next.digest.as_ref().is_some_and(|next| repeats(&request_digest(&claim.digest), next, &claim.operation));
        let is_repetition = has_same && next.status() != Status::Rejected;
        next.name.version().filter(|next| is_repetition && *next == self.resaved)
    }

    /// A request with the same client token and content, made within the window.
    fn same_token(&self, claim: &Claim) -> Option<&Name> {
        let token = claim.client_token.as_ref()?;
        let digest = request_digest(&claim.digest);
        let is_same = |record: &&Record| {
            let is_unsent_failure = record.status() == Status::Failed && !record.may_have_been_sent();
            record.client_token.as_ref() == Some(token)
                && record.digest.as_ref() == Some(&digest)
                && record.requested_at.abs_diff(claim.requested_at) <= SAME_TOKEN_WINDOW
                && record.status() != Status::Rejected
                && !is_unsent_failure
        };
        self.records().find(is_same).map(|record| &record.name)
    }

    /// Estimated size of the records in bytes.
    fn bytes(&self) -> usize {
        let of = |record: &Record| {
            let keys: usize = record.keys.iter().map(String::len).sum();
            let reason = record.reason.as_ref().map_or(0, |reason| reason.message.len());
            RECORD_BYTES + keys + reason + record.properties.as_ref().map_or(0, String::len)
        };
        self.records().map(of).sum()
    }
}
