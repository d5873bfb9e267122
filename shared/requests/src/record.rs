//! Record of a request: its name, status, reason and state.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Millis;
use crate::canceled_by::CanceledBy;
use crate::device::{ENDED_STAYS, FOLD_LIMIT, RESULT_STAYS, TOKEN_STAYS};

/// Codes that the state machine itself gives as a reason.
pub mod code {
    /// The request may have reached Coiote, and must not be sent twice.
    pub const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";
    /// The device did it, but its result did not come into the operation shadow.
    pub const RESULT_NOT_STORED: &str = "RESULT_NOT_STORED";
    /// The device answered that it did not do it, or not all of it.
    pub const DEVICE_REFUSED: &str = "DEVICE_REFUSED";
    /// The record of the device has no room for another request.
    pub const TOO_MANY_OPEN: &str = "TOO_MANY_OPEN";
    /// The request or result came before.
    pub const DUPLICATE: &str = "DUPLICATE";
    /// The content of a request that waits is not kept.
    pub const BODY_MISSING: &str = "BODY_MISSING";
    /// The device did it, but the datamodel shadow does not show it.
    pub const DATAMODEL_NOT_UPDATED: &str = "DATAMODEL_NOT_UPDATED";
    /// A newer write of one of its keys may have been sent.
    pub const OVERTAKEN: &str = "OVERTAKEN";
    /// The request waits for an older write of one of its keys.
    pub const WAITS_FOR_OLDER_WRITE: &str = "WAITS_FOR_OLDER_WRITE";
    /// The same request with the same client token came before.
    pub const SAME_TOKEN: &str = "SAME_TOKEN";
    /// The request came again because a client saved the whole shadow document.
    pub const RESAVED: &str = "RESAVED";
    /// The event does not say which version of the shadow carried it.
    pub const VERSION_MISSING: &str = "VERSION_MISSING";
    /// The request's lifetime ended before a device had run it.
    pub const LIFETIME_OVER: &str = "LIFETIME_OVER";
    /// The request was taken back.
    pub const CANCELED: &str = "CANCELED";
    /// A cancelRequest has dealt with its requests.
    pub const CANCEL_DONE: &str = "CANCEL_DONE";
    /// A cancelRequest found none of its requests open.
    pub const NOTHING_TO_CANCEL: &str = "NOTHING_TO_CANCEL";
    /// Coiote has the task, but its device could not be woken.
    pub const SESSION_NOT_STARTED: &str = "SESSION_NOT_STARTED";
    /// The run that had claimed the request ended without recording an outcome.
    pub const INTERRUPTED: &str = "INTERRUPTED";
    /// A part of the result was left out, because it has not the form of a data model.
    pub const RESULT_IN_PART: &str = "RESULT_IN_PART";
}

/// Fields of an event that the request's author wrote. The digest of a request covers them in this order.
pub const FIELDS: [&str; 6] = ["operation", "keys", "values", "attributes", "arguments", "requests"];

/// Operation that deletes object instances.
pub const DELETE: &str = "delete";

/// Operation that takes requests back. It is not an operation of LwM2M.
pub const CANCEL_REQUEST: &str = "cancelRequest";

/// Name of a request, unique among the requests of its thing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// Version of the operation shadow that carried it.
    Version(u64),
    /// Execution of an AWS IoT job. A retry by AWS IoT Jobs is another execution.
    Job {
        /// Id of the job.
        id: String,
        /// Number of the execution.
        execution: u64,
    },
    /// Id of the Lambda invocation, if the event has no version.
    Invocation(String),
}

impl Name {
    /// Reads a name in the form of its `Display`.
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

    /// Version of the operation shadow that carried the request; `None` for other names.
    pub fn version(&self) -> Option<u64> {
        if let Name::Version(version) = self { Some(*version) } else { None }
    }

    /// Whether the request is an execution of an AWS IoT job.
    pub fn is_of_job(&self) -> bool {
        matches!(self, Name::Job { .. })
    }

    /// Whether requests of this name that were made at these times, in seconds since 1970, are different ones: if a shadow is
    /// deleted and created again, its versions begin anew, as do the executions of a job. If a time is unknown (0), they count
    /// as the same, so that nothing is sent twice.
    pub fn is_reused(&self, requested_at: u64, other: u64) -> bool {
        /// Tolerance in seconds: AWS IoT Jobs gives the time of queueing in seconds in some places, in milliseconds in others.
        /// To delete a job takes longer.
        const TOLERANCE: u64 = 5;
        let are_known = requested_at != 0 && other != 0;
        let difference = requested_at.abs_diff(other);
        are_known
            && match self {
                Name::Version(_) => difference > 0,
                Name::Job { .. } => difference > TOLERANCE,
                Name::Invocation(_) => false,
            }
    }

    /// Form of the name in sort keys, in which versions have their numeric order.
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
    /// Coiote has the task; its outcome is not known yet.
    Scheduled,
    /// The request is not valid; nothing was sent.
    Rejected,
    /// The device did it.
    Succeeded,
    /// The device did not do it, or only a part; or the request cannot be handed over, and a retry cannot succeed.
    Failed,
    /// Its lifetime ended before a device had run it.
    TimedOut,
    /// Taken back before a device ran it.
    Canceled,
    /// The event asks for nothing, or came before. Not a status of records.
    Ignored,
}

impl Status {
    /// Status in capitals, as its author reads it.
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

    /// Reads a status in the form of [`Status::as_str`].
    pub fn parse(text: &str) -> Option<Status> {
        use Status::*;
        [InProgress, Scheduled, Rejected, Succeeded, Failed, TimedOut, Canceled, Ignored]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// Reason of a status: a code that docs/errors.md explains, and a message of one line for the author of the request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reason {
    /// Stable code.
    pub code: Cow<'static, str>,
    /// Message for the author of the request.
    #[serde(default)]
    pub message: String,
}

impl Reason {
    /// Most bytes of a message in a record: eight open requests share the operation shadow with Coiote's result.
    const MAX_MESSAGE_BYTES: usize = 400;

    /// Reason with a code and a message.
    pub fn new(code: &'static str, message: impl Into<String>) -> Reason {
        Reason { code: code.into(), message: message.into() }
    }

    /// Joins reasons into one, with the code of the first and the messages of all; `None` if there are none.
    pub fn join(reasons: impl IntoIterator<Item = Reason>) -> Option<Reason> {
        /// Most messages that are spelled out, as a request may have thousands of wrong keys.
        const MAX_MESSAGES: usize = 8;

        let reasons: Vec<Reason> = reasons.into_iter().collect();
        let messages: Vec<&str> = reasons.iter().take(MAX_MESSAGES).map(|reason| reason.message.as_str()).collect();
        let mut message = messages.join("; ");
        if let Some(more @ 1..) = reasons.len().checked_sub(MAX_MESSAGES) {
            message.push_str(&format!("; and {more} more"));
        }
        reasons.into_iter().next().map(|first| Reason { code: first.code, message })
    }

    /// The reason with its message in one line, cut to the length that a record keeps.
    #[must_use]
    pub fn shortened(&self) -> Reason {
        let line: String = self.message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let message = match truncated(&line, Reason::MAX_MESSAGE_BYTES) {
            Some(beginning) => format!("{beginning} … (the log has all of it)"),
            None => line,
        };
        Reason { code: self.code.clone(), message }
    }
}

/// Beginning of a text that is longer than `max` bytes, cut to that length; `None` if it is not longer.
pub(crate) fn truncated(text: &str, max: usize) -> Option<&str> {
    if text.len() <= max {
        return None;
    }
    let end = (0..=max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    text.get(..end)
}

/// State of a request within the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// A run of operation-request is handing it over, or died meanwhile.
    Held,
    /// It waits to be handed over later.
    Waiting,
    /// Coiote has the task.
    Scheduled,
    /// It has ended with this status.
    Ended(Status),
}

/// Short names of the states in a record.
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

/// Record of one request.
///
/// In the ledger its fields have names of one letter (given at each field), so that most items stay below 1 KB: each begun
/// kilobyte is billed as a write. A field with its default value is left out. The states are `H` (held), `W` (waiting),
/// `S` (scheduled), and those that have ended: `E` SUCCEEDED, `EF` FAILED, `ET` TIMED_OUT, `EC` CANCELED, `ER` REJECTED,
/// `ES` SCHEDULED (if its outcome is not followed), `EP` IN_PROGRESS, `EI` IGNORED.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// Name of the request. Stored as `n`.
    #[serde(rename = "n")]
    pub name: Name,
    /// Operation of the request. Stored as `o`.
    #[serde(rename = "o")]
    pub operation: String,
    /// Paths as they were sent; of a cancelRequest, the names of the requests that it takes back. Stored as `k`.
    #[serde(rename = "k", default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Client token that its author gave it. Stored as `t`.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    /// Digest of the content; only kept for execute, create and delete. Stored as `d`.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Time at which the shadow was updated with it or AWS IoT Jobs queued it, in seconds since 1970; 0 if unknown. Stored as
    /// `q`.
    #[serde(rename = "q", default, skip_serializing_if = "is_zero")]
    pub requested_at: u64,
    /// Newest version at its claim, as its place in the order; only for requests without a version. Stored as `b`.
    #[serde(rename = "b", default, skip_serializing_if = "is_zero")]
    pub(crate) after: u64,
    /// Seconds from `requested_at` to the begin of the run that holds it or that handed it over. Stored as `j`.
    #[serde(rename = "j", default, skip_serializing_if = "is_zero")]
    pub(crate) waited: u64,
    /// State within the machine. Stored as `s`.
    #[serde(rename = "s")]
    pub state: State,
    /// Mark of the run that holds it. Stored as `m`.
    #[serde(rename = "m", default, skip_serializing_if = "String::is_empty")]
    pub mark: String,
    /// Time at which that run has certainly ended. Stored as `v`.
    #[serde(rename = "v", default, skip_serializing_if = "is_zero")]
    pub void_at: Millis,
    /// Id of the Lambda invocation that dealt with it last. Stored as `r`.
    #[serde(rename = "r", default, skip_serializing_if = "String::is_empty")]
    pub run: String,
    /// Whether an earlier attempt may have reached Coiote. Stored as `y`.
    #[serde(rename = "y", default, skip_serializing_if = "is_false")]
    pub may_have_reached_coiote: bool,
    /// Id of its task at Coiote. Stored as `i`.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// Time at which Coiote accepted the task, by Coiote's clock, in seconds since 1970. Stored as `h`.
    #[serde(rename = "h", default, skip_serializing_if = "is_zero")]
    pub handed_over_at: u64,
    /// Whole seconds, rounded up, that the call took by which Coiote accepted the task. Stored as `ht`, unless it is one.
    #[serde(rename = "ht", default = "one", skip_serializing_if = "is_one")]
    pub(crate) call_took: u64,
    /// Seconds from `handed_over_at` to the start of the run that its report tells of. Stored as `hr`.
    #[serde(rename = "hr", default, skip_serializing_if = "Option::is_none")]
    pub(crate) ran_after: Option<i64>,
    /// Whether its device could not be woken yet. Stored as `nw`.
    #[serde(rename = "nw", default, skip_serializing_if = "is_false")]
    pub is_to_be_woken: bool,
    /// Time at which it is handed over next, or its report requested next. Stored as `u`.
    #[serde(rename = "u", default, skip_serializing_if = "is_zero")]
    pub due_at: Millis,
    /// Number of attempts to hand it over, or of requests for its task's report. Stored as `a`.
    #[serde(rename = "a", default, skip_serializing_if = "is_zero_u32")]
    pub tries: u32,
    /// Reason of its status. Stored as `e`.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Version of the operation shadow that carried its result. Stored as `w`.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub result_version: Option<u64>,
    /// Whether its result may be of another request, and its own still to come. Stored as `wd`.
    #[serde(rename = "wd", default, skip_serializing_if = "is_false")]
    pub(crate) has_doubtful_result: bool,
    /// Time at which its report of success came, while its result is awaited; 0 otherwise. Stored as `g`.
    #[serde(rename = "g", default, skip_serializing_if = "is_zero")]
    pub reported_at: Millis,
    /// Whether the task's report has decided its final status. Stored as `p`.
    #[serde(rename = "p", default, skip_serializing_if = "is_false")]
    pub proven: bool,
    /// Who takes it back. Stored as `c`.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub canceled_by: Option<CanceledBy>,
    /// Properties in the device's report, as JSON. Stored as `x`.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<String>,
    /// Time of its last change. Stored as `z`.
    #[serde(rename = "z")]
    pub updated_at: Millis,
    /// End of its lifetime. Stored as `l`.
    #[serde(rename = "l", default, skip_serializing_if = "is_zero")]
    pub expires_at: Millis,
    /// Whether its final status has an item of its own. Stored as `f`.
    #[serde(rename = "f", default, skip_serializing_if = "is_false")]
    pub is_filed: bool,
}

impl Record {
    /// Status of the request, as its author reads it.
    pub fn status(&self) -> Status {
        match self.state {
            State::Held | State::Waiting => Status::InProgress,
            State::Scheduled => Status::Scheduled,
            State::Ended(status) => status,
        }
    }

    /// Whether the request has not ended.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Ended(_))
    }

    /// Whether it is known when its author made it: the events of some requests do not say so, and AWS may have queued a job's
    /// request long before.
    pub fn has_known_age(&self) -> bool {
        self.requested_at > 0 && !self.name.is_of_job()
    }

    /// Whether the run that holds it has ended without recording an outcome.
    pub(crate) fn is_void(&self, at: Millis) -> bool {
        self.state == State::Held && self.void_at < at
    }

    /// Whether it has to be remembered for its client token, so that a repetition is found.
    pub(crate) fn keeps_token(&self) -> bool {
        self.client_token.is_some() && !may_run_twice(&self.operation) && self.status() != Status::Rejected
    }

    /// Time until which it stays in its device's item after it has ended.
    pub(crate) fn stays_until(&self) -> Millis {
        let stays = match self.operation.as_str() {
            // A result that is folded late must not restore what it has deleted.
            DELETE => FOLD_LIMIT,
            _ if self.keeps_token() => TOKEN_STAYS,
            _ => ENDED_STAYS,
        };
        self.updated_at.saturating_add(stays)
    }

    /// Whether it is a cancelRequest.
    pub(crate) fn is_cancel(&self) -> bool {
        self.operation == CANCEL_REQUEST
    }

    /// Place in the order of the device's requests, by version.
    pub(crate) fn order(&self) -> u64 {
        self.name.version().unwrap_or(self.after)
    }

    /// Records that the run which holds it began at `at`.
    pub(crate) fn note_hold(&mut self, at: Millis) {
        self.waited = (at / 1_000).saturating_sub(self.requested_at);
    }

    /// Begin of the run that holds it or that handed it over, in seconds since 1970.
    pub(crate) fn held_at(&self) -> u64 {
        self.requested_at.saturating_add(self.waited)
    }

    /// When the device began to run it, in seconds since 1970; `None` if no report has told. Coiote's clock may be another one, so
    /// it is the begin of the run that handed it over and the time from there by Coiote's clock, to a second or two.
    pub fn ran_at(&self) -> Option<u64> {
        let after = self.ran_after?.max(0);
        // Without the time of the hand-over it is the time itself.
        let from = if self.handed_over_at == 0 { 0 } else { self.held_at() };
        Some(from.saturating_add_signed(after))
    }

    /// Whether Coiote's 201 may still come although it has ended.
    pub(crate) fn may_be_reopened(&self) -> bool {
        let is_unknown = match self.state {
            State::Ended(Status::Failed) => self.code() == code::OUTCOME_UNKNOWN,
            State::Ended(Status::TimedOut) => self.may_have_reached_coiote,
            _ => false,
        };
        is_unknown && self.task_id.is_none()
    }

    /// Notice of a scheduled request that stays true when its device is awake.
    pub(crate) fn notice_about_operation(&self) -> Option<Reason> {
        self.reason.clone().filter(|reason| reason.code != code::SESSION_NOT_STARTED)
    }

    /// Code of its reason; empty if it has none.
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

    /// Whether a result of its own may still come at that time.
    pub(crate) fn may_await_result(&self, at: Millis) -> bool {
        let has_its_own = self.result_version.is_some() && !self.has_doubtful_result;
        let stays = match self.state {
            State::Held | State::Waiting | State::Scheduled => Millis::MAX,
            // Nobody knows whether Coiote has its task.
            State::Ended(_) if self.task_id.is_none() => Millis::MAX,
            // Its event may be tried again.
            State::Ended(_) if self.has_doubtful_result || self.code() == code::RESULT_NOT_STORED => FOLD_LIMIT,
            // The device has refused it, or its task was removed.
            State::Ended(_) => RESULT_STAYS,
        };
        has_result(&self.operation)
            && self.may_have_been_sent()
            && !has_its_own
            && self.updated_at.saturating_add(stays) > at
    }

    /// Whether a result or report may replace its final status.
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

/// Whether doing it twice has the same effect as doing it once.
pub fn may_run_twice(operation: &str) -> bool {
    !matches!(operation, "execute" | "create" | "delete")
}

fn one() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_one(number: &u64) -> bool {
    *number == 1
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
