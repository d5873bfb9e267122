//! All that is known of a device's requests, and what time asks for.

use serde::{Deserialize, Serialize};

use crate::Millis;
use crate::event::DatamodelWrite;
use crate::record::{Name, Reason, Record, State, Status};

/// A request that ended stays with its device for so long, so that what comes late finds it.
pub(crate) const ENDED_STAYS: Millis = 5 * 60 * 1_000;

/// So long stays an execute, create or delete with a client token: one that is claimed five minutes after it was made may
/// repeat one that was made five minutes before it.
pub(crate) const TOKEN_STAYS: Millis = 2 * ENDED_STAYS;

/// Of more than so many, those that are filed go sooner: an item of the ledger has 400 KB.
pub(crate) const ENDED_MOST: usize = 200;

/// So many that ended last stay for as long as nothing newer ends.
pub(crate) const ENDED_KEPT: usize = 3;

/// A result stays known for so long after it was folded: shadows tell the time in seconds, so one that is handled later may
/// be as old.
pub(crate) const RESULT_STAYS: Millis = 60 * 1_000;

/// Versions of results that were counted, newest first; older ones count as seen.
pub(crate) const RESULTS_COUNTED: usize = 16;

/// After a report of success the result has so long to come.
pub(crate) const RESULT_MAY_TAKE: Millis = 60 * 1_000;

/// After a report of success a result that came has so long to be folded: longer than Lambda tries.
pub(crate) const FOLD_MAY_TAKE: Millis = 15 * 60 * 1_000;

/// When the report of a task is asked for on its own, after the task was made.
pub(crate) const ASK_AFTER: [Millis; 3] = [60 * 1_000, 10 * 60 * 1_000, 60 * 60 * 1_000];

/// The requests of a device: those that are open, and those that ended last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Device {
    /// In the order in which they were made.
    #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) open: Vec<Record>,
    /// In the order in which they ended.
    #[serde(rename = "e", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ended: Vec<Record>,
    /// Newest version that was claimed.
    #[serde(rename = "h", default)]
    pub(crate) newest: u64,
    /// Digest of the content of the request with that version.
    #[serde(rename = "d", default, skip_serializing_if = "String::is_empty")]
    pub(crate) newest_digest: String,
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) results: Vec<ResultEntry>,
    /// Versions of the results that were counted, newest first.
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty", with = "gaps")]
    pub(crate) counted: Vec<u64>,
    /// Version of the datamodel shadow after the last result was folded, and when that was written.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub(crate) datamodel: Option<(u64, u64)>,
    /// Version of the last update that carried `reported` beside a request: somebody may have written over the copies.
    #[serde(rename = "y", default, skip_serializing_if = "crate::record::is_zero")]
    pub(crate) resaved: u64,
    /// Version of the last result that came while parts of an earlier one may stand beside it.
    #[serde(rename = "p", default, skip_serializing_if = "crate::record::is_zero")]
    pub(crate) beside_earlier: u64,
}

/// A result that Coiote wrote into the operation shadow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ResultEntry {
    /// Version of the operation shadow that carried it.
    #[serde(rename = "n")]
    pub version: u64,
    /// Hashes of what folding it touches.
    #[serde(rename = "t", default, skip_serializing_if = "Vec::is_empty", with = "crate::matching::hashes")]
    pub touched: Vec<u32>,
    /// The request that it answers.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Name>,
    /// The request that it answers if that one turns out to have been handed over.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub(crate) candidate: Option<Name>,
    /// The run that registered it.
    #[serde(rename = "m", default, skip_serializing_if = "String::is_empty")]
    pub(crate) mark: String,
    /// More than one run has begun to fold it.
    #[serde(rename = "b", default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_repeated: bool,
    /// When it was written; nothing while its fold is not concluded.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub wrote: Option<DatamodelWrite>,
    /// What folding it came to.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub(crate) word: Option<(Status, Option<Reason>)>,
    #[serde(rename = "z")]
    pub(crate) at: Millis,
    /// When it came into the shadow, in seconds since 1970, where it has a candidate.
    #[serde(rename = "q", default, skip_serializing_if = "crate::record::is_zero")]
    pub(crate) reported_at: u64,
}

/// Falling numbers as the ledger keeps them: the first, and what each next one is less.
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

/// Something that time asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DueAction {
    /// Coiote's report about the task.
    Report { name: Name, task_id: String },
    /// The task's report; and where there is none, the task's removal, after which the request has ended. The task stays
    /// where another open request shares it.
    Removal { name: Name, task_id: String, is_shared: bool },
    /// A run of operation-request that hands the request over.
    HandOver { name: Name },
}

impl ResultEntry {
    /// Whether the result names the path with that hash, or something within it was read.
    pub fn names(&self, path: u32) -> bool {
        self.touched.contains(&path)
    }
}

impl Device {
    /// The open requests, in the order in which they were made.
    pub fn open(&self) -> &[Record] {
        &self.open
    }

    /// The requests that ended last, the latest one last.
    pub fn ended(&self) -> &[Record] {
        &self.ended
    }

    pub fn find(&self, name: &Name) -> Option<&Record> {
        self.open.iter().chain(&self.ended).find(|record| record.name == *name)
    }

    /// Newest version of the operation shadow whose request was claimed.
    pub fn newest_version(&self) -> u64 {
        self.newest
    }

    pub fn result(&self, version: u64) -> Option<&ResultEntry> {
        self.results.iter().find(|result| result.version == version)
    }

    /// The results with a higher version.
    pub fn newer_results(&self, version: u64) -> impl Iterator<Item = &ResultEntry> {
        self.results.iter().filter(move |result| result.version > version)
    }

    /// The results with a lower version.
    pub fn earlier_results(&self, version: u64) -> impl Iterator<Item = &ResultEntry> {
        self.results.iter().filter(move |result| result.version < version)
    }

    /// Version of the datamodel shadow in which nothing is newer than the result of that version, and when that was written.
    /// Nothing where it is not known.
    pub fn datamodel(&self, result_version: u64) -> Option<(u64, u64)> {
        let is_newest = self.results.iter().all(|result| result.version <= result_version)
            && self.counted.iter().all(|version| *version <= result_version);
        self.datamodel.filter(|_| is_newest)
    }

    /// Mark of the last change by which somebody may have written over the copies; another value asks for a look.
    pub fn copies_overwrite_marker(&self) -> (u64, u64) {
        (self.resaved, self.beside_earlier)
    }

    /// Version and touched paths of the newest result.
    pub fn newest_result(&self) -> Option<&ResultEntry> {
        self.results.iter().max_by_key(|result| result.version)
    }

    /// When time has to look at the device next.
    pub fn next_look_at(&self) -> Option<Millis> {
        let open = self.open.iter().filter_map(|record| match record.state {
            State::Held => Some(record.void_at),
            State::Waiting => Some(record.expires_at),
            State::Scheduled if record.reported_at > 0 && record.result_version.is_some() => {
                Some(record.reported_at.saturating_add(FOLD_MAY_TAKE))
            }
            State::Scheduled if record.reported_at > 0 => Some(record.reported_at.saturating_add(RESULT_MAY_TAKE)),
            // Never after its lifetime but where its task could not be removed.
            State::Scheduled => Some(record.due_at),
            State::Ended(_) => None,
        });
        let ended = self.ended.len().checked_sub(ENDED_KEPT + 1).and_then(|oldest| {
            let stays = self.ended.get(..=oldest)?.iter().map(|record| record.updated_at).min()?;
            Some(stays.saturating_add(ENDED_STAYS))
        });
        open.chain(ended).min()
    }

    /// When a request has to be handed over next. Nothing where none waits, or each waits for another one.
    pub fn next_hand_over_at(&self) -> Option<Millis> {
        self.open.iter().filter(|record| self.may_be_handed_over(record)).map(|record| record.due_at).min()
    }

    /// Whether it waits for nothing but its time.
    pub(crate) fn may_be_handed_over(&self, record: &Record) -> bool {
        record.state == State::Waiting && !record.is_cancel() && self.older_write(record).is_none()
    }

    /// What time asks for by now.
    pub fn due_actions(&self, at: Millis) -> Vec<DueAction> {
        let mut wanted = Vec::new();
        for record in &self.open {
            let name = record.name.clone();
            match (record.state, &record.task_id) {
                (State::Scheduled, Some(task_id)) if record.due_at <= at && record.reported_at == 0 => {
                    let task_id = task_id.clone();
                    if !is_to_be_removed(record, at) {
                        wanted.push(DueAction::Report { name, task_id });
                    } else if !self.open.iter().any(|other| may_get_its_task(other, record)) {
                        let needs_it = |other: &Record| {
                            other.task_id.as_ref() == Some(&task_id)
                                && other.name != name
                                && !is_to_be_removed(other, at)
                        };
                        let is_shared = self.open.iter().any(needs_it);
                        wanted.push(DueAction::Removal { name, task_id, is_shared });
                    }
                }
                (State::Waiting, _) if record.due_at <= at && self.may_be_handed_over(record) => {
                    wanted.push(DueAction::HandOver { name });
                }
                _ => {}
            }
        }
        wanted
    }

    /// Whether anything is recorded at all.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.ended.is_empty() && self.results.is_empty()
    }

    /// Requests that have ended and whose last word has no item of its own yet.
    pub fn unfiled(&self) -> impl Iterator<Item = &Record> {
        self.ended.iter().filter(|record| !record.is_filed)
    }

    /// Notes that the last words of all requests that have ended stand in items of their own.
    pub fn mark_filed(&mut self) {
        for record in &mut self.ended {
            record.is_filed = true;
        }
    }
}

fn is_to_be_removed(record: &Record, at: Millis) -> bool {
    record.expires_at <= at || record.canceled_by.is_some()
}

/// Whether Coiote may be answering it with the task of the other one, because they are equal.
fn may_get_its_task(held: &Record, other: &Record) -> bool {
    held.state == State::Held && held.operation == other.operation && held.keys == other.keys
}
