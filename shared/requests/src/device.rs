//! Requests of a device, and the actions that are due for them.

use serde::{Deserialize, Serialize};

use crate::Millis;
use crate::event::DatamodelWrite;
use crate::record::{Name, Reason, Record, State, Status};

/// Time that a request stays in its device's item after it has ended, for events that come late.
pub(crate) const ENDED_STAYS: Millis = 5 * 60 * 1_000;

/// Seconds from the update that makes a request to its claim; beyond, the claim looks for its client token in the history.
pub(crate) const CLAIMED_WITHIN: u64 = 30;

/// Time that an execute, create or delete with a client token stays: one that is claimed in time may repeat it, if it was made
/// within [`SAME_TOKEN_WINDOW`](crate::SAME_TOKEN_WINDOW).
pub(crate) const TOKEN_STAYS: Millis = (crate::SAME_TOKEN_WINDOW + CLAIMED_WITHIN) * 1_000;

/// Number of ended requests beyond which those that are filed leave the item early: DynamoDB limits it to 400 KB.
pub(crate) const ENDED_MAX: usize = 200;

/// Number of requests that stay as the last ones that ended, however long ago.
pub(crate) const ENDED_KEPT: usize = 3;

/// Time that a result stays in the item after it was folded. Shadows have times in seconds, so one that is handled later may be
/// of the same second.
pub(crate) const RESULT_STAYS: Millis = 60 * 1_000;

/// Time after a result in which a run may have begun whose report proves that the device did not do its request, although Coiote's
/// clock differs. Later runs were not made through here.
pub(crate) const PROOF_LIMIT: Millis = 3_600 * 1_000;

/// Time for which a result whose fold is not concluded stays in the device's item: as long as its event may be sent again from
/// the failure queue.
pub(crate) const UNFOLDED_STAYS: Millis = 14 * 24 * 3_600 * 1_000;

/// Number of results with folds that are not concluded beyond which the oldest leave: the device's item is limited.
pub(crate) const UNFOLDED_MAX: usize = 32;

/// Number of versions of results that are remembered as seen; older ones count as seen.
pub(crate) const SEEN_MAX: usize = 16;

/// Time that a result may take to come after the report of success.
pub(crate) const RESULT_LIMIT: Millis = 60 * 1_000;

/// Time that the fold of a result may take after the report of success: longer than Lambda's retries. For as long, events that come
/// late have to find what came after them.
pub(crate) const FOLD_LIMIT: Millis = 15 * 60 * 1_000;

/// Times after the creation of a task at which its report is requested by itself.
pub const REPORT_REQUESTS: [Millis; 3] = [60 * 1_000, 10 * 60 * 1_000, 60 * 60 * 1_000];

/// Requests of a device: the open ones, and those that ended last.
///
/// In the ledger its fields have names of one letter (given at each field); see [`Record`] for why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Device {
    /// Open requests, in the order in which they were made. Stored as `o`.
    #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) open: Vec<Record>,
    /// Requests that have ended, in the order in which they did. Stored as `e`.
    #[serde(rename = "e", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ended: Vec<Record>,
    /// Newest version that was claimed. Stored as `h`.
    #[serde(rename = "h", default)]
    pub(crate) newest: u64,
    /// Time at which the request with that version was made, in seconds since 1970; only kept when its record has left.
    /// Stored as `g`.
    #[serde(rename = "g", default, skip_serializing_if = "crate::record::is_zero")]
    pub(crate) newest_at: u64,
    /// Digest of what stands in `desired` since the request with that version; empty if it has no request. Stored as `d`.
    #[serde(rename = "d", default, skip_serializing_if = "String::is_empty")]
    pub(crate) newest_digest: String,
    /// Results that are not forgotten yet. Stored as `r`.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) results: Vec<ResultEntry>,
    /// Versions of the last results, newest first; so that none counts twice. Stored as `c`.
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty", with = "gaps")]
    pub(crate) seen_results: Vec<u64>,
    /// Version of the datamodel shadow after the last fold, and the time at which it was written. Stored as `m`.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub(crate) datamodel: Option<(u64, u64)>,
    /// Version of the last update that carried `reported` beside a request, and so may have overwritten the copies. Stored as
    /// `y`.
    #[serde(rename = "y", default, skip_serializing_if = "crate::record::is_zero")]
    pub(crate) resaved: u64,
    /// Version of the last result beside which the shadow may still hold parts of an earlier one. Stored as `p`.
    #[serde(rename = "p", default, skip_serializing_if = "crate::record::is_zero")]
    pub(crate) beside_earlier: u64,
}

/// Result that Coiote wrote into the operation shadow. In the ledger its fields have names of one letter, as those of
/// [`Record`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ResultEntry {
    /// Version of the operation shadow that carried it. Stored as `n`.
    #[serde(rename = "n")]
    pub version: u64,
    /// Hashes of the paths that folding it touches. Stored as `t`.
    #[serde(rename = "t", default, skip_serializing_if = "Vec::is_empty", with = "crate::matching::hashes")]
    pub touched: Vec<u32>,
    /// Request that it answers. Stored as `a`.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Name>,
    /// Request that it answers if that turns out to have been handed over. Stored as `c`.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub(crate) candidate: Option<Name>,
    /// Request that it answers if it does not answer the candidate. Stored as `f`.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub(crate) withheld_from: Option<Name>,
    /// Those of them to which it may give the result of another request. Stored as `d`.
    #[serde(rename = "d", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) doubtful_for: Vec<Name>,
    /// Mark of the run that registered it. Stored as `m`.
    #[serde(rename = "m", default, skip_serializing_if = "String::is_empty")]
    pub(crate) mark: String,
    /// Whether more than one run has begun to fold it. Stored as `b`.
    #[serde(rename = "b", default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_repeated: bool,
    /// Write of its fold into the datamodel shadow; `None` while the fold is not concluded. Stored as `o`.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub wrote: Option<DatamodelWrite>,
    /// Status and reason that its fold gives to the request. Stored as `w`.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub(crate) word: Option<(Status, Option<Reason>)>,
    /// Time of its last change. Stored as `z`.
    #[serde(rename = "z")]
    pub(crate) at: Millis,
    /// Time at which it came into the shadow, in seconds since 1970; 0 if unknown. Stored as `q`.
    #[serde(rename = "q", default, skip_serializing_if = "crate::record::is_zero")]
    pub reported_at: u64,
}

/// Stored form of falling numbers: the first one, then the difference to each next one.
mod gaps {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(numbers: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
        let mut before = None;
        let gaps: Vec<u64> = numbers
            .iter()
            .map(|number| before.replace(*number).map_or(*number, |before: u64| before.saturating_sub(*number)))
            .collect();
        gaps.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
        let gaps = Vec::<u64>::deserialize(deserializer)?;
        let mut before = None;
        Ok(gaps
            .into_iter()
            .map(|gap| {
                let number = before.map_or(gap, |before: u64| before.saturating_sub(gap));
                before = Some(number);
                number
            })
            .collect())
    }
}

/// Action that is due for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DueAction {
    /// Request Coiote's report about the task.
    Report {
        /// Name of the request.
        name: Name,
        /// Id of its task.
        task_id: String,
    },
    /// Request the report about the task; if there is none, remove the task and end the request.
    Removal {
        /// Name of the request.
        name: Name,
        /// Id of its task.
        task_id: String,
        /// Whether another open request has the same task, which therefore stays.
        is_shared: bool,
    },
    /// Have operation-request hand the request over.
    HandOver {
        /// Name of the request.
        name: Name,
    },
}

impl ResultEntry {
    /// Whether its fold is concluded, and the request that it answers is known.
    pub(crate) fn is_done(&self) -> bool {
        self.word.is_some() && self.candidate.is_none()
    }

    /// Whether folding the result touches the path with that hash.
    pub fn names(&self, path: u32) -> bool {
        self.touched.contains(&path)
    }
}

impl Device {
    /// Open requests, in the order in which they were made.
    pub fn open(&self) -> &[Record] {
        &self.open
    }

    /// Requests that have ended, in the order in which they did.
    pub fn ended(&self) -> &[Record] {
        &self.ended
    }

    /// All requests, the open ones first.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.open.iter().chain(&self.ended)
    }

    /// Finds a request by its name, among the open ones and those that have ended.
    pub fn find(&self, name: &Name) -> Option<&Record> {
        self.records().find(|record| record.name == *name)
    }

    /// Newest version of the operation shadow whose request was claimed.
    pub fn newest_version(&self) -> u64 {
        self.newest
    }

    /// Finds a result by the version of the shadow that carried it.
    pub fn result(&self, version: u64) -> Option<&ResultEntry> {
        self.results.iter().find(|result| result.version == version)
    }

    /// Results that are not forgotten yet.
    pub fn results(&self) -> impl Iterator<Item = &ResultEntry> {
        self.results.iter()
    }

    /// Results with a lower version.
    pub fn earlier_results(&self, version: u64) -> impl Iterator<Item = &ResultEntry> {
        self.results.iter().filter(move |result| result.version < version)
    }

    /// Version of the datamodel shadow that the last fold left, and the time at which it was written; `None` if unknown, or if
    /// a result is newer than `result_version`.
    pub fn datamodel(&self, result_version: u64) -> Option<(u64, u64)> {
        let is_newest = self.results.iter().all(|result| result.version <= result_version)
            && self.seen_results.iter().all(|version| *version <= result_version);
        self.datamodel.filter(|_| is_newest)
    }

    /// Marker that changes whenever the copies in the shadow may have been overwritten, or parts of an earlier result remain.
    pub fn copies_overwrite_marker(&self) -> (u64, u64) {
        (self.resaved, self.beside_earlier)
    }

    /// Result with the highest version.
    pub fn newest_result(&self) -> Option<&ResultEntry> {
        self.results.iter().max_by_key(|result| result.version)
    }

    /// Time at which `reconcile` has to look at the device next; `None` if never.
    pub fn next_look_at(&self) -> Option<Millis> {
        let open = self.open.iter().filter_map(|record| match record.state {
            State::Held => Some(record.void_at),
            State::Waiting => Some(record.expires_at),
            State::Scheduled if record.reported_at > 0 && record.result_version.is_some() => {
                Some(record.reported_at.saturating_add(FOLD_LIMIT))
            }
            State::Scheduled if record.reported_at > 0 => Some(record.reported_at.saturating_add(RESULT_LIMIT)),
            // Beyond its lifetime only if its task could not be removed.
            State::Scheduled => Some(record.due_at),
            State::Ended(_) => None,
        });
        let ended = self
            .ended
            .len()
            .checked_sub(ENDED_KEPT + 1)
            .and_then(|oldest| self.ended.get(..=oldest)?.iter().map(Record::stays_until).min());
        open.chain(ended).min()
    }

    /// Time at which a request has to be handed over next; `None` if none waits, or all wait for others.
    pub fn next_hand_over_at(&self) -> Option<Millis> {
        self.to_hand_over().map(|record| record.due_at).min()
    }

    /// Place of the device among those with requests to hand over, the oldest request first; `None` if none waits, or all wait for
    /// others. It is the end of a lifetime, because all requests have the same.
    pub fn hand_over_order(&self) -> Option<Millis> {
        self.to_hand_over().map(|record| record.expires_at).min()
    }

    fn to_hand_over(&self) -> impl Iterator<Item = &Record> {
        self.open.iter().filter(|record| self.may_be_handed_over(record))
    }

    /// Whether the request only waits for its time, and not for another request.
    pub(crate) fn may_be_handed_over(&self, record: &Record) -> bool {
        record.state == State::Waiting && !record.is_cancel() && self.older_write(record).is_none()
    }

    /// Actions that are due at a time.
    pub fn due_actions(&self, at: Millis) -> Vec<DueAction> {
        let mut actions = Vec::new();
        for record in &self.open {
            let name = record.name.clone();
            match (record.state, &record.task_id) {
                (State::Scheduled, Some(task_id)) if record.due_at <= at && record.reported_at == 0 => {
                    let task_id = task_id.clone();
                    if !is_to_be_removed(record, at) {
                        actions.push(DueAction::Report { name, task_id });
                    } else if !self.open.iter().any(|other| may_get_its_task(other, record)) {
                        let needs_it = |other: &Record| {
                            other.task_id.as_ref() == Some(&task_id)
                                && other.name != name
                                && !is_to_be_removed(other, at)
                        };
                        let is_shared = self.open.iter().any(needs_it);
                        actions.push(DueAction::Removal { name, task_id, is_shared });
                    }
                }
                (State::Waiting, _) if record.due_at <= at && self.may_be_handed_over(record) => {
                    actions.push(DueAction::HandOver { name });
                }
                _ => {}
            }
        }
        actions
    }

    /// Whether there are no requests and no results.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.ended.is_empty() && self.results.is_empty()
    }

    /// Requests that have ended and whose final statuses have no items of their own yet.
    pub fn unfiled(&self) -> impl Iterator<Item = &Record> {
        self.ended.iter().filter(|record| !record.is_filed)
    }

    /// Marks the final statuses of all ended requests as having items of their own, and drops the keys of those that were rejected.
    pub fn mark_filed(&mut self) {
        for record in &mut self.ended {
            record.is_filed = true;
            // No rule needs the keys of a request that was never to be sent, and many could fill the item.
            if record.status() == Status::Rejected {
                record.keys.clear();
            }
        }
    }
}

/// Whether the request's task has to be removed, because its lifetime is over or it is taken back.
pub(crate) fn is_to_be_removed(record: &Record, at: Millis) -> bool {
    record.expires_at <= at || record.canceled_by.is_some()
}

/// Whether the request that is being handed over may get the task of the other one, because their tasks are equal.
fn may_get_its_task(held: &Record, other: &Record) -> bool {
    held.state == State::Held && held.operation == other.operation && held.keys == other.keys
}
