//! The operation shadow: the requests in it, who deals with each, and what became of them.
//!
//! An answer stands under `reported.requests`, keyed by the version of the shadow that carried the request. Every write
//! there is conditional on the version of the shadow that its author knows, so that of several who want to say something
//! about a request at the same moment one does, and the others look again.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use memory::Memory;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use crate::answer::{self, Answer, Reason, Status};
use crate::shadows::{Document, Error, Shadows};
use crate::thing::{Envelope, ThingName};

const SHADOW_NAME: &str = "operation";

/// Answers to so many requests are kept.
const KEPT: usize = 8;

/// So much of the shadow's 8 KB may be answers: the rest is for the request and for what Coiote reports.
const ROOM: usize = 4 * 1024;

/// What AWS IoT takes by default, without metadata.
const LARGEST: usize = 8 * 1024;

/// Somebody else's write came first so many times in a row: more than any number of writers explains.
const MOST_CONFLICTS: u32 = 30;

/// Under what a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The event did not say which version of the shadow carried it.
    Unversioned,
    Version(u64),
}

impl Key {
    pub fn of(envelope: &Envelope) -> Key {
        envelope.version.map_or(Key::Unversioned, Key::Version)
    }

    fn parse(key: &str) -> Option<Key> {
        if key == "unversioned" { Some(Key::Unversioned) } else { key.parse().ok().map(Key::Version) }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Unversioned => f.write_str("unversioned"),
            Key::Version(version) => write!(f, "{version}"),
        }
    }
}

/// Whether a request may reach the device twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    AtLeastOnce,
    AtMostOnce,
}

/// Who wants to deal with a request.
#[derive(Debug, Clone)]
pub struct Claimant<'a> {
    pub thing: &'a ThingName,
    pub key: Key,
    pub delivery: Delivery,
    /// An operator sends a request that had failed through again.
    pub redriven: bool,
}

/// What came of wanting to.
#[derive(Debug)]
pub enum Claim {
    /// It is ours.
    Taken(Held),
    /// An earlier attempt of ours ended without a word, so it may have reached Coiote, and must not be made again.
    Interrupted(Held),
    /// It has been dealt with, or somebody else is dealing with it.
    Recorded(Recorded),
    /// Eight newer requests have been answered: whether this one was dealt with is not known any more.
    Forgotten(Held),
}

/// A request that is ours to answer.
#[derive(Debug)]
pub struct Held {
    key: Key,
    /// Of the shadow, as far as we know.
    version: u64,
    pub attempt: u32,
    /// Of the answers in the shadow, ours among them; nothing when they are not known.
    sizes: Option<Sizes>,
}

/// The answers in a shadow, and how many bytes each takes.
type Sizes = BTreeMap<Key, usize>;

/// What stands in the shadow about a request. Whatever cannot be read there counts as absent.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Recorded {
    pub operation: Option<String>,
    pub status: Option<Status>,
    pub task_id: Option<String>,
    pub client_token: Option<String>,
    pub request_id: Option<String>,
    requested_at: Option<String>,
    pub attempt: Option<u32>,
    pub reason: Option<Reason>,
    /// The mark of the very run of a function that claimed it, while it has not said anything else.
    claim: Option<String>,
    /// Version of the shadow that carried the result.
    result_version: Option<u64>,
    /// Resources of which it reads single resource instances only.
    pub instances_of: Vec<String>,
}

impl Recorded {
    /// When the request was made, in seconds since 1970.
    pub fn requested_at(&self) -> Option<u64> {
        answer::seconds(self.requested_at.as_deref()?)
    }

    fn is_decided(&self) -> bool {
        matches!(self.status, Some(Status::Rejected | Status::Failed | Status::Succeeded))
    }

    /// Claimed, and the attempt ended with a word: nobody is at it, and nothing has reached Coiote that must not twice.
    fn waits(&self) -> bool {
        self.status == Some(Status::InProgress) && self.reason.is_some() && self.claim.is_none()
    }

    /// Whether Coiote has a task that `answer` does not know of.
    fn has_other_task(&self, answer: &Answer) -> bool {
        self.status == Some(Status::Scheduled) && self.task_id != answer.task_id
    }

    /// Whether it was answered by the result that this version of the shadow brought.
    fn carries(&self, result_version: Option<u64>) -> bool {
        result_version.is_some() && self.result_version == result_version
    }

    fn code(&self) -> Option<&str> {
        self.reason.as_ref().map(|reason| reason.code.as_ref())
    }
}

/// Said of a request that may have reached Coiote and must not be sent twice.
pub const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";

/// Said of a request whose result came but could not be folded in.
pub const DATAMODEL_NOT_UPDATED: &str = "DATAMODEL_NOT_UPDATED";

/// The operation shadow of one thing, as it was read.
#[derive(Debug, Clone, Default)]
pub struct OperationShadow {
    pub version: u64,
    pub desired: Json,
    /// What Coiote reported, and when each part of it.
    pub result: Json,
    pub result_times: Json,
    requests: BTreeMap<Key, (Recorded, usize)>,
    /// Bytes of all that is no answer.
    others: usize,
}

/// When each part of Coiote's result was reported.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Times {
    reported: ResultTimes,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ResultTimes {
    result: Json,
}

impl From<Document<Times>> for OperationShadow {
    fn from(mut document: Document<Times>) -> Self {
        let mut requests = BTreeMap::new();
        if let Some(Json::Object(entries)) = document.state.reported.get_mut("requests").map(Json::take) {
            for (key, entry) in entries {
                if let Some(parsed) = Key::parse(&key) {
                    let size = size(&key, &entry);
                    requests.insert(parsed, (serde_json::from_value(entry).unwrap_or_default(), size));
                }
            }
        }
        let others = document.state.reported.to_string().len() + document.state.desired.to_string().len();
        OperationShadow {
            version: document.version,
            result: document.state.reported.get_mut("result").map(Json::take).unwrap_or_default(),
            result_times: document.metadata.reported.result,
            desired: document.state.desired,
            requests,
            others,
        }
    }
}

/// Bytes that an entry takes in the document.
fn size(key: &str, entry: &Json) -> usize {
    key.len() + entry.to_string().len() + r#""":,"#.len()
}

/// Where a request stands, for one who wants to deal with it.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// It can be taken, as this attempt.
    Free {
        attempt: u32,
    },
    /// It is ours already: our write had arrived though its answer had not.
    Ours {
        attempt: u32,
    },
    Interrupted {
        attempt: u32,
    },
    Recorded,
    Forgotten,
}

impl OperationShadow {
    fn standing(&self, claimant: &Claimant<'_>, request_id: &str, mark: &str) -> Standing {
        let Some((recorded, _)) = self.requests.get(&claimant.key) else {
            return if self.may_have_forgotten(claimant) { Standing::Forgotten } else { Standing::Free { attempt: 1 } };
        };
        let attempt = recorded.attempt.unwrap_or(0);
        let next = attempt.saturating_add(1);
        let is_ours = recorded.request_id.as_deref() == Some(request_id);
        if recorded.claim.as_deref() == Some(mark) {
            Standing::Ours { attempt }
        } else if recorded.waits() {
            Standing::Free { attempt: next }
        } else if recorded.status == Some(Status::InProgress) && is_ours {
            match claimant.delivery {
                Delivery::AtLeastOnce => Standing::Free { attempt: next },
                Delivery::AtMostOnce => Standing::Interrupted { attempt },
            }
        } else if recorded.status == Some(Status::Failed)
            && recorded.task_id.is_none()
            && recorded.code() != Some(OUTCOME_UNKNOWN)
            && claimant.redriven
        {
            Standing::Free { attempt: 1 }
        } else if claimant.key == Key::Unversioned && !is_ours {
            // Which request this was is not known: another one has the same key.
            Standing::Free { attempt: 1 }
        } else {
            Standing::Recorded
        }
    }

    /// Only what must not happen twice is held back by not knowing.
    fn may_have_forgotten(&self, claimant: &Claimant<'_>) -> bool {
        let happened = self.requests.keys().filter(|key| **key <= Key::Version(self.version));
        let Key::Version(version) = claimant.key else { return false };
        claimant.delivery == Delivery::AtMostOnce
            && !claimant.redriven
            && version < self.version
            && happened.clone().count() >= KEPT
            && happened.min().is_some_and(|oldest| claimant.key < *oldest)
    }

    fn sizes(&self) -> Sizes {
        self.requests.iter().map(|(key, (_, size))| (*key, *size)).collect()
    }

    /// The request that a result answers. Coiote's report does not say which: its tasks run in the order in which they
    /// were scheduled, so it is the oldest of this operation that waits for one.
    pub fn waiting_for_result(&self, operation: &str, result_version: Option<u64>) -> Option<(Key, &Recorded)> {
        // It came before, but could not be folded in.
        let failed =
            |recorded: &Recorded| recorded.carries(result_version) && recorded.code() == Some(DATAMODEL_NOT_UPDATED);
        let waits = |recorded: &Recorded| {
            matches!(recorded.status, Some(Status::InProgress | Status::Scheduled))
                && recorded.operation.as_deref() == Some(operation)
        };
        let came_before = |key: &Key| result_version.is_none_or(|version| *key < Key::Version(version));
        let mut requests = self.requests.iter().map(|(key, (recorded, _))| (*key, recorded));
        let again = requests.clone().find(|(_, recorded)| failed(recorded));
        again.or_else(|| requests.find(|(key, recorded)| came_before(key) && waits(recorded)))
    }

    /// The request that this very result has answered already.
    pub fn answered_by(&self, result_version: Option<u64>) -> Option<Key> {
        let answered =
            |recorded: &Recorded| recorded.carries(result_version) && recorded.code() != Some(DATAMODEL_NOT_UPDATED);
        self.requests.iter().find(|(_, (recorded, _))| answered(recorded)).map(|(key, _)| *key)
    }
}

/// Which answers have to go so that this one has its place, oldest first.
fn yielding(sizes: &Sizes, key: Key, size: usize, room: usize) -> Vec<Key> {
    let mut used = size;
    let mut kept = 1;
    let mut full = false;
    let mut yielding = Vec::new();
    for (other, size) in sizes.iter().rev().filter(|(other, _)| **other != key) {
        used = used.saturating_add(*size);
        full = full || kept >= KEPT || used > room;
        if full {
            yielding.push(*other);
        } else {
            kept += 1;
        }
    }
    yielding
}

/// The operation shadows of all things, and what is remembered of those that were written to last.
pub struct OperationShadows {
    shadows: Shadows,
    remembered: Memory<ThingName, Remembered>,
}

#[derive(Clone)]
struct Remembered {
    version: u64,
    sizes: Sizes,
}

/// What is written about a request.
#[derive(Clone)]
struct Entry {
    key: Key,
    fields: Map<String, Json>,
}

impl OperationShadows {
    pub fn new(shadows: Shadows) -> OperationShadows {
        OperationShadows { shadows, remembered: Memory::default() }
    }

    pub async fn read(&self, thing: &ThingName) -> Result<Option<OperationShadow>, Error> {
        Ok(self.shadows.get(thing, SHADOW_NAME).await?.map(OperationShadow::from))
    }

    /// The operation shadow exists afterwards, so that it can be edited; whether it had to be made.
    pub async fn ensure(&self, thing: &ThingName) -> Result<bool, Error> {
        if self.shadows.get::<Times>(thing, SHADOW_NAME).await?.is_some() {
            return Ok(false);
        }
        self.shadows.update(thing, SHADOW_NAME, json!({}), None).await.map(|_| true)
    }

    /// Writes the first word about a request, unless somebody has a word there: `IN_PROGRESS` to deal with it, or the
    /// last word at once.
    pub async fn claim(&self, claimant: &Claimant<'_>, mut answer: Answer) -> Result<Claim, Error> {
        let &Claimant { thing, key, .. } = claimant;
        let mark = format!("{:016x}", fastrand::u64(..));
        let entry = |answer: &Answer| {
            let mut fields = answer.entry();
            if answer.status == Status::InProgress {
                fields.insert("claim".to_owned(), mark.clone().into());
            }
            Entry { key, fields }
        };
        // Usually nothing has happened since the request came, and then nobody has said anything about it.
        if let Key::Version(version) = key {
            let sizes = self.remembered_at(thing, version);
            if answer.status == Status::InProgress || sizes.is_some() {
                answer.attempt = Some(1);
                match self.write(thing, entry(&answer).first(), sizes, version, ROOM).await {
                    Ok((version, sizes)) => return Ok(Claim::Taken(Held { key, version, attempt: 1, sizes })),
                    Err(Error::Conflict | Error::TooLarge) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let mut conflicts = 0;
        loop {
            let shadow = self.existing(thing).await?;
            let held = |attempt| Held { key, version: shadow.version, attempt, sizes: Some(shadow.sizes()) };
            let attempt = match shadow.standing(claimant, &answer.request_id, &mark) {
                Standing::Free { attempt } => attempt,
                Standing::Ours { attempt } => return Ok(Claim::Taken(held(attempt))),
                Standing::Interrupted { attempt } => return Ok(Claim::Interrupted(held(attempt))),
                Standing::Forgotten => return Ok(Claim::Forgotten(held(1))),
                Standing::Recorded => {
                    let (recorded, _) = shadow.requests.get(&key).cloned().unwrap_or_default();
                    return Ok(Claim::Recorded(recorded));
                }
            };
            answer.attempt = Some(attempt);
            let entry = if shadow.requests.contains_key(&key) { entry(&answer) } else { entry(&answer).first() };
            match self.write_onto(thing, entry, &shadow).await {
                Ok((version, sizes)) => return Ok(Claim::Taken(Held { key, version, attempt, sizes })),
                Err(Error::Conflict) => wait_a_little(&mut conflicts).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes the next word about a request that is ours. Where somebody has a better one, it stays: the result that has
    /// come meanwhile, or the task of one who had the request at the same time.
    pub async fn answer(&self, thing: &ThingName, held: &mut Held, mut answer: Answer) -> Result<(), Error> {
        answer.attempt = Some(held.attempt);
        let key = held.key;
        let mut fields = answer.entry();
        fields.insert("claim".to_owned(), Json::Null);

        if let Some(sizes) = held.sizes.take() {
            match self.write(thing, Entry { key, fields: fields.clone() }, Some(sizes), held.version, ROOM).await {
                Ok((version, sizes)) => {
                    (held.version, held.sizes) = (version, sizes);
                    return Ok(());
                }
                Err(Error::Conflict | Error::TooLarge) => {}
                Err(error) => return Err(error),
            }
        }
        let mut conflicts = 0;
        loop {
            let shadow = self.existing(thing).await?;
            let entry = match shadow.requests.get(&key) {
                None => Entry { key, fields: fields.clone() }.first(),
                Some((recorded, _)) if recorded.has_other_task(&answer) => return Ok(()),
                Some((recorded, _)) if recorded.is_decided() && recorded.code() != Some(OUTCOME_UNKNOWN) => {
                    let mut missing = Map::from_iter([("claim".to_owned(), Json::Null)]);
                    if recorded.task_id.is_none()
                        && let Some(task_id) = &answer.task_id
                    {
                        missing.insert("taskId".to_owned(), task_id.clone().into());
                    }
                    Entry { key, fields: missing }
                }
                Some(_) => Entry { key, fields: fields.clone() },
            };
            match self.write_onto(thing, entry, &shadow).await {
                Ok((version, sizes)) => {
                    (held.version, held.sizes) = (version, sizes);
                    return Ok(());
                }
                Err(Error::Conflict) => wait_a_little(&mut conflicts).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes what a result means for the request that it answers, if the shadow is still as it was read.
    pub async fn conclude(
        &self,
        thing: &ThingName,
        shadow: &OperationShadow,
        key: Key,
        (status, reason): (Status, Option<Reason>),
        result_version: Option<u64>,
    ) -> Result<(), Error> {
        let recorded = shadow.requests.get(&key).map(|(recorded, _)| recorded);
        let mut fields = Map::new();
        fields.insert("status".to_owned(), status.as_str().into());
        fields.insert("updatedAt".to_owned(), answer::now().into());
        if let Some(version) = result_version {
            fields.insert("resultVersion".to_owned(), version.into());
        }
        match reason {
            Some(reason) => {
                fields.insert("reason".to_owned(), serde_json::to_value(reason.shortened()).unwrap_or_default());
            }
            // The last error of an attempt does not hold any more; the notice of a scheduled task does.
            None if recorded.is_some_and(|recorded| recorded.status != Some(Status::Scheduled)) => {
                fields.insert("reason".to_owned(), Json::Null);
            }
            None => {}
        }
        self.write_onto(thing, Entry { key, fields }, shadow).await.map(drop)
    }

    /// The shadow, which is made where there is none: only what exists has a version to go by.
    async fn existing(&self, thing: &ThingName) -> Result<OperationShadow, Error> {
        if let Some(shadow) = self.read(thing).await? {
            return Ok(shadow);
        }
        let version = self.shadows.update(thing, SHADOW_NAME, json!({}), None).await?.version;
        Ok(OperationShadow { version, ..OperationShadow::default() })
    }

    /// Writes onto the shadow as it was read. Where it is full, older answers yield as far as they must.
    async fn write_onto(
        &self,
        thing: &ThingName,
        entry: Entry,
        shadow: &OperationShadow,
    ) -> Result<(u64, Option<Sizes>), Error> {
        let room = LARGEST.saturating_sub(shadow.others).min(ROOM);
        let sizes = shadow.sizes();
        match self.write(thing, entry.clone(), Some(sizes.clone()), shadow.version, room).await {
            Err(Error::TooLarge) if sizes.keys().any(|key| *key != entry.key) => {
                self.write(thing, entry, Some(sizes), shadow.version, 0).await
            }
            result => result,
        }
    }

    async fn write(
        &self,
        thing: &ThingName,
        entry: Entry,
        sizes: Option<Sizes>,
        version: u64,
        room: usize,
    ) -> Result<(u64, Option<Sizes>), Error> {
        let Entry { key, fields } = entry;
        let name = key.to_string();
        let fields = Json::Object(fields);
        let after = sizes.map(|mut sizes| {
            let size = size(&name, &fields).max(sizes.get(&key).copied().unwrap_or_default());
            let yielding = yielding(&sizes, key, size, room);
            sizes.insert(key, size);
            sizes.retain(|key, _| !yielding.contains(key));
            (yielding, sizes)
        });
        let mut requests = Map::from_iter([(name, fields)]);
        for key in after.iter().flat_map(|(yielding, _)| yielding) {
            requests.insert(key.to_string(), Json::Null);
        }
        let state = json!({"reported": {"requests": requests}});
        let version = self.shadows.update(thing, SHADOW_NAME, state, Some(version)).await?.version;
        let sizes = after.map(|(_, sizes)| sizes);
        if let Some(sizes) = &sizes {
            self.remembered.put(thing.clone(), Remembered { version, sizes: sizes.clone() });
        }
        Ok((version, sizes))
    }

    /// The answers in the shadow when a request came as this version of it, if nobody else can have claimed one since.
    fn remembered_at(&self, thing: &ThingName, version: u64) -> Option<Sizes> {
        /// Coiote's report and its answer lie between one request and the next. A claim by somebody else would need the
        /// request as well.
        const BETWEEN: u64 = 2;
        let Remembered { version: ours, sizes } = self.remembered.get(thing)?;
        (version > ours && version - ours - 1 <= BETWEEN).then_some(sizes)
    }
}

impl Entry {
    /// Where nothing stands yet there is nothing to take away.
    fn first(mut self) -> Entry {
        self.fields.retain(|_, value| !value.is_null());
        self
    }
}

/// Somebody else was faster. A little, and not the same for all, so that they do not meet again.
async fn wait_a_little(conflicts: &mut u32) -> Result<(), Error> {
    *conflicts += 1;
    if *conflicts > MOST_CONFLICTS {
        return Err(Error::Conflict);
    }
    let at_most = 10 * u64::from((*conflicts).min(10));
    tokio::time::sleep(Duration::from_millis(fastrand::u64(1..=at_most))).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shadow(version: u64, requests: Json) -> OperationShadow {
        let state = crate::shadows::State { reported: json!({ "requests": requests }), ..Default::default() };
        OperationShadow::from(Document { version, state, ..Default::default() })
    }

    fn standing(recorded: Json, delivery: Delivery, redriven: bool) -> Standing {
        let thing = ThingName::parse("a").unwrap();
        let claimant = Claimant { thing: &thing, key: Key::Version(17), delivery, redriven };
        shadow(20, json!({ "17": recorded })).standing(&claimant, "me", "my mark")
    }

    #[test]
    fn who_may_deal_with_a_request() {
        use Delivery::*;
        use Standing::*;
        let waiting = json!({"code": "COIOTE_UNREACHABLE", "message": ""});
        for (recorded, at_least_once, at_most_once) in [
            (json!({"status": "IN_PROGRESS", "requestId": "other", "attempt": 1, "claim": "x"}), Recorded, Recorded),
            (json!({"status": "IN_PROGRESS", "requestId": "other", "attempt": 1}), Recorded, Recorded),
            // Our own earlier attempt ended without a word.
            (
                json!({"status": "IN_PROGRESS", "requestId": "me", "attempt": 1, "claim": "x"}),
                Free { attempt: 2 },
                Interrupted { attempt: 1 },
            ),
            // Our claim had arrived though its answer had not.
            (
                json!({"status": "IN_PROGRESS", "requestId": "me", "attempt": 1, "claim": "my mark"}),
                Ours { attempt: 1 },
                Ours { attempt: 1 },
            ),
            // Whoever had it waits for the next attempt.
            (
                json!({"status": "IN_PROGRESS", "requestId": "other", "attempt": 2, "reason": waiting}),
                Free { attempt: 3 },
                Free { attempt: 3 },
            ),
            (json!({"status": "SCHEDULED", "requestId": "me"}), Recorded, Recorded),
            (json!({"status": "SUCCEEDED", "requestId": "me"}), Recorded, Recorded),
            (json!({"status": "FAILED", "requestId": "me", "reason": waiting}), Recorded, Recorded),
            (json!({"status": "REJECTED", "requestId": "other"}), Recorded, Recorded),
            (json!("what somebody else wrote there"), Recorded, Recorded),
        ] {
            assert_eq!(standing(recorded.clone(), AtLeastOnce, false), at_least_once, "{recorded}");
            assert_eq!(standing(recorded.clone(), AtMostOnce, false), at_most_once, "{recorded}");
        }
    }

    #[test]
    fn what_an_operator_may_send_through_again() {
        let failed = |code: &str| json!({"status": "FAILED", "requestId": "other", "reason": {"code": code}});
        for (recorded, free) in [
            (failed("COIOTE_UNREACHABLE"), true),
            (failed(OUTCOME_UNKNOWN), false),
            (json!({"status": "FAILED", "taskId": "t", "reason": {"code": "DEVICE_FAILED_KEYS"}}), false),
            (json!({"status": "REJECTED", "reason": {"code": "KEYS_MISSING"}}), false),
            (json!({"status": "SCHEDULED"}), false),
        ] {
            let standing = standing(recorded.clone(), Delivery::AtMostOnce, true);
            assert_eq!(standing == Standing::Free { attempt: 1 }, free, "{recorded}");
        }
    }

    #[test]
    fn an_old_request_that_may_have_been_forgotten_is_not_executed() {
        let thing = ThingName::parse("a").unwrap();
        let requests = |range: std::ops::Range<u64>| range.map(|v| (v.to_string(), json!({}))).collect::<Map<_, _>>();
        let standing = |key: u64, shadow: &OperationShadow, delivery, redriven| {
            let claimant = Claimant { thing: &thing, key: Key::Version(key), delivery, redriven };
            shadow.standing(&claimant, "me", "")
        };
        use Delivery::*;
        let eight = shadow(30, requests(11..19).into());
        let free = Standing::Free { attempt: 1 };
        assert_eq!(standing(10, &eight, AtMostOnce, false), Standing::Forgotten);
        assert_eq!(standing(10, &eight, AtMostOnce, true), free);
        assert_eq!(standing(10, &eight, AtLeastOnce, false), free);
        assert_eq!(standing(25, &eight, AtMostOnce, false), free);
        assert_eq!(standing(10, &shadow(30, requests(11..18).into()), AtMostOnce, false), free);
        // Versions that the shadow has not had yet are of events that somebody wrote by hand.
        assert_eq!(standing(10, &shadow(12, requests(11..19).into()), AtMostOnce, false), free);
    }

    #[test]
    fn the_oldest_answers_yield() {
        let sizes = |of: &[(u64, usize)]| of.iter().map(|(key, size)| (Key::Version(*key), *size)).collect::<Sizes>();
        let gone = |of: &Sizes, key: u64, size| -> Vec<u64> {
            let version = |key| if let Key::Version(version) = key { version } else { 0 };
            yielding(of, Key::Version(key), size, 1_000).into_iter().map(version).collect()
        };
        let seven: Vec<_> = (1..=7).map(|key| (key, 10)).collect();
        assert_eq!(gone(&sizes(&seven), 8, 10), [0; 0]);
        let nine: Vec<_> = (1..=9).map(|key| (key, 10)).collect();
        assert_eq!(gone(&sizes(&nine), 10, 10), [2, 1]);
        assert_eq!(gone(&sizes(&nine), 9, 10), [1], "it replaces its own");
        assert_eq!(gone(&sizes(&nine), 1, 10), [2], "the one that is answered stays");
        assert_eq!(gone(&sizes(&[(1, 10), (2, 900), (3, 10)]), 4, 100), [2, 1], "too large, and all that is older");
    }

    #[test]
    fn a_result_answers_the_oldest_request_that_waits_for_one() {
        let shadow = shadow(
            40,
            json!({
                "9": {"operation": "read", "status": "SUCCEEDED", "resultVersion": 12},
                "10": {"operation": "write", "status": "SCHEDULED"},
                "20": {"operation": "read", "status": "IN_PROGRESS"},
                "30": {"operation": "read", "status": "SCHEDULED"},
            }),
        );
        let answers = |operation, version| shadow.waiting_for_result(operation, version).map(|(key, _)| key);
        assert_eq!(answers("read", Some(35)), Some(Key::Version(20)));
        assert_eq!(answers("read", None), Some(Key::Version(20)));
        assert_eq!(answers("read", Some(20)), None, "it was there before the request");
        assert_eq!(answers("write", Some(35)), Some(Key::Version(10)));
        assert_eq!(answers("readComposite", Some(35)), None);
        assert_eq!(shadow.answered_by(Some(12)), Some(Key::Version(9)));
        assert_eq!((shadow.answered_by(Some(13)), shadow.answered_by(None)), (None, None));
    }

    #[test]
    fn a_result_that_could_not_be_folded_in_may_come_again() {
        let shadow = shadow(
            40,
            json!({
                "10": {"operation": "read", "status": "SCHEDULED"},
                "20": {"operation": "read", "status": "FAILED", "resultVersion": 25, "reason": {"code": DATAMODEL_NOT_UPDATED}},
            }),
        );
        let answers = |version| shadow.waiting_for_result("read", Some(version)).map(|(key, _)| key);
        assert_eq!((answers(25), answers(26)), (Some(Key::Version(20)), Some(Key::Version(10))));
        assert_eq!(shadow.answered_by(Some(25)), None);
    }
}
