//! The record of one request.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Millis;

/// Codes that the state machine itself gives as a reason.
pub mod code {
    /// It may have reached Coiote, and must not be sent twice.
    pub const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";
    /// The device did it, but its result is not in the operation shadow.
    pub const RESULT_NOT_STORED: &str = "RESULT_NOT_STORED";
    /// The device answered that it did not do it, or not all of it.
    pub const DEVICE_REFUSED: &str = "DEVICE_REFUSED";
    /// The record of the device has no room for another request.
    pub const TOO_MANY_OPEN: &str = "TOO_MANY_OPEN";
    /// The request, or the result, came before.
    pub const DUPLICATE: &str = "DUPLICATE";
    /// The content of a request that waits is not kept.
    pub const BODY_MISSING: &str = "BODY_MISSING";
    /// The device did it, and the datamodel shadow does not show it.
    pub const DATAMODEL_NOT_UPDATED: &str = "DATAMODEL_NOT_UPDATED";
    /// A newer write of one of its keys may have been sent.
    pub const OVERTAKEN: &str = "OVERTAKEN";
    /// It waits for an older write of one of its keys.
    pub const WAITS_FOR_OLDER_WRITE: &str = "WAITS_FOR_OLDER_WRITE";
    /// The same request with the same client token came before.
    pub const SAME_TOKEN: &str = "SAME_TOKEN";
    /// A whole document was saved again, and the request in it with it.
    pub const RESAVED: &str = "RESAVED";
    /// The event does not say which version of the shadow carried it.
    pub const VERSION_MISSING: &str = "VERSION_MISSING";
    /// Its lifetime ended before a device had run it.
    pub const LIFETIME_OVER: &str = "LIFETIME_OVER";
    /// A cancelRequest took it back.
    pub const CANCELED: &str = "CANCELED";
    /// What a cancelRequest found and did.
    pub const CANCEL_DONE: &str = "CANCEL_DONE";
    /// A cancelRequest found none of its requests open.
    pub const NOTHING_TO_CANCEL: &str = "NOTHING_TO_CANCEL";
    /// The run that had claimed it ended without a word.
    pub const INTERRUPTED: &str = "INTERRUPTED";
    /// A part of the result was left out, because it is not of the form of a data model.
    pub const RESULT_IN_PART: &str = "RESULT_IN_PART";
}

/// Fields of an event that the request's author wrote. The ledger has digests of them in this order.
pub const FIELDS: [&str; 6] = ["operation", "keys", "values", "attributes", "arguments", "requests"];

/// The operation that takes requests back. It is none of LwM2M.
pub const CANCEL_REQUEST: &str = "cancelRequest";

/// Name of a request: what tells it from every other request of its thing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// Version of the operation shadow that carried it.
    Version(u64),
    /// Execution of an AWS IoT job, by its number: a job's own retry is another one.
    Job { id: String, execution: u64 },
    /// The id of the Lambda invocation, where the event has no version.
    Invocation(String),
}

impl Name {
    pub fn parse(text: &str) -> Name {
        if let Ok(version) = text.parse() {
            return Name::Version(version);
        }
        let job = text.strip_prefix("job:").and_then(|rest| rest.rsplit_once(':'));
        match job.and_then(|(id, execution)| Some((id, execution.parse().ok()?))) {
            Some((id, execution)) => Name::Job { id: id.to_owned(), execution },
            None => Name::Invocation(text.to_owned()),
        }
    }

    pub fn version(&self) -> Option<u64> {
        if let Name::Version(version) = self { Some(*version) } else { None }
    }

    /// Whether an execution of an AWS IoT job made it.
    pub fn is_of_job(&self) -> bool {
        matches!(self, Name::Job { .. })
    }

    /// Text that sorts as the requests were made, where they are named by version.
    pub fn sort_key(&self) -> String {
        match self {
            Name::Version(version) => format!("{version:012}"),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Version(version) => write!(f, "{version}"),
            Name::Job { id, execution } => write!(f, "job:{id}:{execution}"),
            Name::Invocation(id) => f.write_str(id),
        }
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Name::Version(version) => serializer.serialize_u64(*version),
            other => serializer.collect_str(other),
        }
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Name::parse(&text)),
            number => {
                number.as_u64().map(Name::Version).ok_or_else(|| serde::de::Error::custom("no name of a request"))
            }
        }
    }
}

/// Status of a request, as its author reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Not handed over yet.
    InProgress,
    /// Coiote has the task; the device has not said anything.
    Scheduled,
    /// Not valid; nothing was sent.
    Rejected,
    /// The device did it.
    Succeeded,
    /// The device did not, or not wholly; or it cannot be handed over, and that cannot get better.
    Failed,
    /// Its lifetime ended before a device had run it.
    TimedOut,
    /// Taken back before a device ran it.
    Canceled,
    /// The event asks for nothing, or came before. It stands in no record.
    Ignored,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::InProgress => "IN_PROGRESS",
            Status::Scheduled => "SCHEDULED",
            Status::Rejected => "REJECTED",
            Status::Succeeded => "SUCCEEDED",
            Status::Failed => "FAILED",
            Status::TimedOut => "TIMED_OUT",
            Status::Canceled => "CANCELED",
            Status::Ignored => "IGNORED",
        }
    }

    pub fn parse(text: &str) -> Option<Status> {
        use Status::*;
        [InProgress, Scheduled, Rejected, Succeeded, Failed, TimedOut, Canceled, Ignored]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// Reason of a status: a code from the closed list of the documentation, and one line for the author of the request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reason {
    pub code: Cow<'static, str>,
    #[serde(default)]
    pub message: String,
}

impl Reason {
    /// Longest message in bytes that a record keeps: eight open requests share the operation shadow with Coiote's result.
    const LONGEST: usize = 400;

    pub fn new(code: &'static str, message: impl Into<String>) -> Reason {
        Reason { code: code.into(), message: message.into() }
    }

    /// Several reasons as one: the code of the first, and the messages of all.
    pub fn join(reasons: impl IntoIterator<Item = Reason>) -> Option<Reason> {
        /// Messages that are spelled out; of 3,000 wrong keys nobody reads more.
        const MOST: usize = 8;

        let reasons: Vec<Reason> = reasons.into_iter().collect();
        let messages: Vec<&str> = reasons.iter().take(MOST).map(|reason| reason.message.as_str()).collect();
        let mut message = messages.join("; ");
        if let Some(more @ 1..) = reasons.len().checked_sub(MOST) {
            message.push_str(&format!("; and {more} more"));
        }
        reasons.into_iter().next().map(|first| Reason { code: first.code, message })
    }

    /// The reason in one line, as long as a record takes it.
    #[must_use]
    pub fn shortened(&self) -> Reason {
        let line: String = self.message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let message = match cut(&line, Reason::LONGEST) {
            Some(beginning) => format!("{beginning} … (the log has all of it)"),
            None => line,
        };
        Reason { code: self.code.clone(), message }
    }
}

/// The beginning of a text that is longer than so many bytes.
pub(crate) fn cut(text: &str, most: usize) -> Option<&str> {
    if text.len() <= most {
        return None;
    }
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    text.get(..end)
}

/// State of a request within the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// A run of operation-request is handing it over, or died while doing so.
    Held,
    /// It is to be handed over later.
    Waiting,
    /// Coiote has the task.
    Scheduled,
    /// It has a last word.
    Ended(Status),
}

/// States in their stored form.
const STATES: [(&str, State); 11] = [
    ("H", State::Held),
    ("W", State::Waiting),
    ("S", State::Scheduled),
    ("EP", State::Ended(Status::InProgress)),
    ("ES", State::Ended(Status::Scheduled)),
    ("ER", State::Ended(Status::Rejected)),
    ("E", State::Ended(Status::Succeeded)),
    ("EF", State::Ended(Status::Failed)),
    ("ET", State::Ended(Status::TimedOut)),
    ("EC", State::Ended(Status::Canceled)),
    ("EI", State::Ended(Status::Ignored)),
];

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let stored = STATES.iter().find(|(_, state)| state == self).map_or("H", |(stored, _)| *stored);
        serializer.serialize_str(stored)
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<State, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let known = STATES.iter().find(|(stored, _)| *stored == text);
        known.map(|(_, state)| *state).ok_or_else(|| serde::de::Error::custom("no state of a request"))
    }
}

/// Record of one request. Short names in its stored form keep an item of the ledger below the kilobyte that one write is
/// billed by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    #[serde(rename = "n")]
    pub name: Name,
    #[serde(rename = "o")]
    pub operation: String,
    /// Paths as they were sent; of a cancelRequest, the requests that it takes back.
    #[serde(rename = "k", default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    /// Digest of the content, of what must not run twice.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// When the shadow was updated with it, or AWS IoT Jobs queued it, in seconds since 1970; 0 where the event does not say.
    #[serde(rename = "q", default, skip_serializing_if = "is_zero")]
    pub requested_at: u64,
    /// Newest version there was when it was claimed, of what has no version itself.
    #[serde(rename = "b", default, skip_serializing_if = "is_zero")]
    pub(crate) after: u64,
    /// Seconds from `requested_at` to the run that holds it, or that handed it over.
    #[serde(rename = "j", default, skip_serializing_if = "is_zero")]
    pub(crate) waited: u64,
    #[serde(rename = "s")]
    pub state: State,
    /// Mark of the very run that holds it.
    #[serde(rename = "m", default, skip_serializing_if = "String::is_empty")]
    pub mark: String,
    /// When that run has surely ended.
    #[serde(rename = "v", default, skip_serializing_if = "is_zero")]
    pub void_at: Millis,
    /// Id of the Lambda invocation that dealt with it last.
    #[serde(rename = "r", default, skip_serializing_if = "String::is_empty")]
    pub run: String,
    /// An earlier try may have reached Coiote.
    #[serde(rename = "y", default, skip_serializing_if = "is_false")]
    pub may_have_reached_coiote: bool,
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// When Coiote took the task, by its own clock, in seconds since 1970.
    #[serde(rename = "h", default, skip_serializing_if = "is_zero")]
    pub handed_over_at: u64,
    /// When it is handed over next, or its report asked for next.
    #[serde(rename = "u", default, skip_serializing_if = "is_zero")]
    pub due_at: Millis,
    /// How many times its task's report was asked for on its own, or it was tried to hand it over.
    #[serde(rename = "a", default, skip_serializing_if = "is_zero_u32")]
    pub tries: u32,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Version of the shadow that carried its result.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub result_version: Option<u64>,
    /// When a report of success came, which waits for the result.
    #[serde(rename = "g", default, skip_serializing_if = "is_zero")]
    pub reported_at: Millis,
    /// The task's report has decided it.
    #[serde(rename = "p", default, skip_serializing_if = "is_false")]
    pub proven: bool,
    /// The cancelRequest that wants it back.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub canceled_by: Option<String>,
    /// What the device's report says beyond success, as JSON.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<String>,
    #[serde(rename = "z")]
    pub updated_at: Millis,
    /// When its lifetime ends.
    #[serde(rename = "l", default, skip_serializing_if = "is_zero")]
    pub expires_at: Millis,
    /// Its last word stands in an item of its own.
    #[serde(rename = "f", default, skip_serializing_if = "is_false")]
    pub is_filed: bool,
}

impl Record {
    pub fn status(&self) -> Status {
        match self.state {
            State::Held | State::Waiting => Status::InProgress,
            State::Scheduled => Status::Scheduled,
            State::Ended(status) => status,
        }
    }

    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Ended(_))
    }

    pub(crate) fn is_cancel(&self) -> bool {
        self.operation == CANCEL_REQUEST
    }

    /// Place in the order of the device's requests.
    pub(crate) fn order(&self) -> u64 {
        self.name.version().unwrap_or(self.after)
    }

    pub(crate) fn note_hold(&mut self, at: Millis) {
        self.waited = (at / 1_000).saturating_sub(self.requested_at);
    }

    /// Whether our own 201 may come after its last word.
    pub(crate) fn may_be_reopened(&self) -> bool {
        let is_unknown = match self.state {
            State::Ended(Status::Failed) => self.code() == code::OUTCOME_UNKNOWN,
            State::Ended(Status::TimedOut) => self.may_have_reached_coiote,
            _ => false,
        };
        is_unknown && self.task_id.is_none()
    }

    pub(crate) fn code(&self) -> &str {
        self.reason.as_ref().map_or("", |reason| reason.code.as_ref())
    }

    /// Whether its task may exist at Coiote.
    pub fn may_have_been_sent(&self) -> bool {
        match self.state {
            State::Held | State::Scheduled => true,
            State::Waiting => self.may_have_reached_coiote,
            State::Ended(_) => {
                self.task_id.is_some() || self.may_have_reached_coiote || self.code() == code::OUTCOME_UNKNOWN
            }
        }
    }

    /// Whether its last word gives way to a better one (all that is not proven by the task's report).
    pub(crate) fn yields(&self) -> bool {
        match self.state {
            State::Ended(Status::TimedOut | Status::Canceled) => true,
            State::Ended(Status::Failed) => matches!(self.code(), code::OUTCOME_UNKNOWN | code::RESULT_NOT_STORED),
            _ => false,
        }
    }
}

/// Whether the result of the operation is written into the operation shadow.
pub fn has_result(operation: &str) -> bool {
    matches!(operation, "read" | "write" | "readComposite")
}

/// Whether the operation writes values onto its keys.
pub fn is_write(operation: &str) -> bool {
    matches!(operation, "write" | "writeComposite")
}

/// Whether doing it twice is as good as doing it once.
pub fn may_run_twice(operation: &str) -> bool {
    !matches!(operation, "execute" | "create" | "delete")
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero_u32(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(flag: &bool) -> bool {
    !*flag
}
