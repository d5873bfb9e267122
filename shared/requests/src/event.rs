//! What happens to requests. Every event carries the time of whoever saw it happen.

use serde::{Deserialize, Serialize};

use crate::Millis;
use crate::record::{Name, Reason, Status};

/// Something that happened to the requests of a device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Event {
    /// A run wants to deal with a request.
    Claim(Box<Claim>),
    /// A run wants to hand over a request that waits.
    #[serde(rename = "take")]
    ClaimDue(ClaimDue),
    /// Coiote took the task.
    Created(Created),
    /// The request was not handed over.
    #[serde(rename = "notDone")]
    NotHandedOver(NotHandedOver),
    /// Coiote has written a result into the operation shadow.
    Result(ResultReceived),
    /// A result was folded into the datamodel shadow.
    Folded(Folded),
    /// Coiote's report about a task.
    Report(Reported),
    /// The report of a task was asked for on its own.
    #[serde(rename = "asked")]
    ReportRequested { name: Name, at: Millis },
    /// The task of a request that is to end was removed at Coiote.
    #[serde(rename = "removed")]
    TaskRemoved { name: Name, at: Millis },
    /// A request is taken back by something else than a cancelRequest.
    Cancel(Cancel),
    /// Time has passed.
    Tick { at: Millis },
}

/// A run that wants to deal with a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    pub name: Name,
    /// Tells this very run from every other.
    pub mark: String,
    /// Id of the Lambda invocation.
    pub run: String,
    pub operation: String,
    /// Paths as they will be sent; of a cancelRequest, the versions and client tokens of the requests that it takes back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    /// Digest of the request's content.
    pub digest: String,
    /// Seconds since 1970; 0 where it is not known.
    pub requested_at: u64,
    /// The update carried `reported` as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_reported: bool,
    pub at: Millis,
    /// When this run has surely ended.
    pub void_at: Millis,
    /// When the request's lifetime ends.
    pub expires_at: Millis,
    /// What is wrong with the request: nothing is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Reason>,
    /// What keeps it from being handed over now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<Reason>,
    /// An operator sends it through again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redriven: bool,
    /// What is known of requests that the device's item has forgotten, where it was looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
}

/// What the history says to a claim.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// The last word of this very request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same: Option<PastRequest>,
    /// A newer request that wrote one of its keys and may have been sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newer_write: Option<Name>,
    /// A request with the same client token and content, made within five minutes of it, that has not FAILED unsent. Only
    /// execute, create and delete ask for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_token: Option<Name>,
}

/// A request that has ended and left the device's item.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PastRequest {
    pub status: Status,
    pub requested_at: u64,
    /// Whether it may have reached Coiote.
    pub may_have_been_sent: bool,
}

/// A run that wants to hand over a request that waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimDue {
    pub name: Name,
    pub mark: String,
    pub run: String,
    pub at: Millis,
    pub void_at: Millis,
}

/// Coiote's 201.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    pub name: Name,
    pub mark: String,
    pub task_id: String,
    /// The answer's `Date`, in seconds since 1970; 0 where there is none.
    pub handed_over_at: u64,
    /// When the call that it answers was begun, by our clock: what came before is no result of it. 0 where that is not known.
    #[serde(default)]
    pub sent_at: Millis,
    pub at: Millis,
    /// What the author should know of it beside a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Reason>,
    /// Whether anything will be known of it later: not, where reports are not read and the operation has no result.
    pub is_followed: bool,
}

/// A try to hand a request over that came to nothing, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotHandedOver {
    pub name: Name,
    pub mark: String,
    pub reason: Reason,
    /// Whether Coiote may have the task all the same.
    #[serde(rename = "maybe", default, skip_serializing_if = "std::ops::Not::not")]
    pub may_have_reached_coiote: bool,
    /// When to try again; never where that is of no use.
    #[serde(rename = "againAt", default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Millis>,
    pub at: Millis,
}

/// A result that Coiote has written into the operation shadow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultReceived {
    /// Of the shadow that carried it.
    pub version: u64,
    /// Tells this very run from every other.
    pub mark: String,
    /// When, in seconds since 1970.
    pub reported_at: u64,
    pub operation: String,
    /// Hashes of every path that the result names, at every level ([`crate::path_hash`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "crate::matching::hashes")]
    pub paths: Vec<u32>,
    /// What folding it touches ([`ResultEntry::touched`](crate::ResultEntry)).
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "crate::matching::hashes")]
    pub touched: Vec<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_keys: Vec<String>,
    pub at: Millis,
}

/// When the fold of a result wrote into the datamodel shadow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DatamodelWrite {
    Nothing,
    /// Once, in this second since 1970.
    At(u64),
    /// Perhaps: an answer of AWS IoT may have been lost, or an earlier run broken off.
    Unknown,
}

/// A result that is in the datamodel shadow, or that cannot get there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Folded {
    /// Of the operation shadow that carried the result.
    pub version: u64,
    pub status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Version of the datamodel shadow after it, and when that was written, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datamodel: Option<(u64, u64)>,
    pub wrote: DatamodelWrite,
    pub at: Millis,
}

/// A report about a task.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reported {
    pub task_id: String,
    /// When the device began to run it, by Coiote's clock, in seconds since 1970.
    pub started_at: u64,
    pub status: ReportStatus,
    pub summary: String,
    /// What the report says beyond that, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<String>,
    pub at: Millis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReportStatus {
    Success,
    /// Coiote's Warning and Error: the device did not do it, or not wholly.
    Refused,
}

/// A request that is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cancel {
    pub name: Name,
    /// Who wants it back, for the reason.
    pub by: String,
    pub at: Millis,
}
