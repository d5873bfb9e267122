//! Events of requests. Each carries the time at which it was seen, so that applying it needs no clock.

use serde::{Deserialize, Serialize};

use crate::Millis;
use crate::canceled_by::CanceledBy;
use crate::matching::NamedPaths;
use crate::record::{Name, Reason, Status};

/// Event that concerns the requests of a device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Event {
    /// Claim of a request by a run.
    Claim(Box<Claim>),
    /// Claim of a waiting request that is due.
    #[serde(rename = "take")]
    ClaimDue(ClaimDue),
    /// Coiote has accepted the task.
    Created(Created),
    /// The device of a scheduled request could not be woken.
    NotWoken(NotWoken),
    /// The device of a scheduled request was woken, after that had failed.
    Woken {
        /// Name of the request.
        name: Name,
        /// Time of the event.
        at: Millis,
    },
    /// An attempt to hand the request over has failed.
    #[serde(rename = "notDone")]
    NotHandedOver(NotHandedOver),
    /// Coiote has written a result into the operation shadow.
    Result(ResultReceived),
    /// A result was folded into the datamodel shadow, or could not be.
    Folded(Folded),
    /// Coiote has reported about a task.
    Report(Reported),
    /// The report about a single task was requested, and there was none.
    #[serde(rename = "asked")]
    ReportRequested {
        /// Name of the request.
        name: Name,
        /// Time of the event.
        at: Millis,
    },
    /// Coiote has refused to remove the task of a request whose lifetime is over, or that is taken back.
    #[serde(rename = "notRemoved")]
    RemovalRefused {
        /// Name of the request.
        name: Name,
        /// Time of the event.
        at: Millis,
    },
    /// The task of a request whose lifetime is over, or that is taken back, was removed at Coiote.
    #[serde(rename = "removed")]
    TaskRemoved {
        /// Name of the request.
        name: Name,
        /// Time of the event.
        at: Millis,
    },
    /// A request is taken back, other than by a cancelRequest.
    Cancel(Cancel),
    /// The request was removed from the shadow's `desired`, so an equal one is a new one.
    #[serde(rename = "cleared")]
    DesiredCleared {
        /// Version of the operation shadow after that.
        version: u64,
        /// Time of the event.
        at: Millis,
    },
    /// Time has passed.
    Tick {
        /// Time of the event.
        at: Millis,
    },
}

impl Event {
    /// Time of the event.
    pub fn at(&self) -> Millis {
        match self {
            Event::Claim(claim) => claim.at,
            Event::ClaimDue(take) => take.at,
            Event::Created(created) => created.at,
            Event::NotWoken(not_woken) => not_woken.at,
            Event::NotHandedOver(not_done) => not_done.at,
            Event::Result(result) => result.at,
            Event::Folded(folded) => folded.at,
            Event::Report(report) => report.at,
            Event::Cancel(cancel) => cancel.at,
            Event::Woken { at, .. }
            | Event::ReportRequested { at, .. }
            | Event::RemovalRefused { at, .. }
            | Event::TaskRemoved { at, .. }
            | Event::DesiredCleared { at, .. }
            | Event::Tick { at } => *at,
        }
    }
}

/// Claim of a request by a run of operation-request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// Name of the request.
    pub name: Name,
    /// Id of this run, unique also among the attempts of one invocation.
    pub mark: String,
    /// Id of the Lambda invocation.
    pub run: String,
    /// Operation of the request.
    pub operation: String,
    /// Paths as they are sent to Coiote; of a cancelRequest, the names and client tokens of the requests that it takes back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Client token that its author gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    /// Digest of the update's content, as [`content_digest`](crate::content_digest) makes it.
    pub digest: String,
    /// Time at which the request was made, in seconds since 1970; 0 if unknown.
    pub requested_at: u64,
    /// Whether the update of the shadow carried `reported` as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_reported: bool,
    /// Time of the event.
    pub at: Millis,
    /// Time at which this run has certainly ended.
    pub void_at: Millis,
    /// End of the request's lifetime.
    pub expires_at: Millis,
    /// Defect of the request, for which it is rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Reason>,
    /// Reason for which it cannot be handed over now, and so waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<Reason>,
    /// Whether an operator redrives it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redriven: bool,
    /// Past requests that have left the device's item, if they were looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
}

/// Past requests that matter to a claim.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// The same request, if it has ended before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same: Option<PastRequest>,
    /// A newer request that wrote one of its keys and may have been sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newer_write: Option<Name>,
    /// A request with the same client token and content, made within five minutes of it, unless that FAILED unsent. Only looked
    /// up for execute, create and delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_token: Option<Name>,
}

/// Request that has ended and left the device's item.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PastRequest {
    /// Its last status.
    pub status: Status,
    /// Time at which it was made, in seconds since 1970; 0 if unknown.
    pub requested_at: u64,
    /// Whether it may have been sent to Coiote.
    pub may_have_been_sent: bool,
    /// Whether Coiote has made a task of it.
    pub had_task: bool,
}

/// Claim of a waiting request that is due, by a run that hands it over.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimDue {
    /// Name of the request.
    pub name: Name,
    /// Id of this run, unique also among the attempts of one invocation.
    pub mark: String,
    /// Id of the Lambda invocation.
    pub run: String,
    /// Time of the event.
    pub at: Millis,
    /// Time at which this run has certainly ended.
    pub void_at: Millis,
}

/// Coiote's response 201 to a task.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    /// Name of the request.
    pub name: Name,
    /// Mark of the run that held it.
    pub mark: String,
    /// Id of the task.
    pub task_id: String,
    /// Header `Date` of the response, in seconds since 1970; 0 if absent.
    pub handed_over_at: u64,
    /// Time from the begin of the call to the response, in whole seconds, rounded up: the device may have run the task so long
    /// before `handed_over_at`.
    #[serde(default)]
    pub call_took: u64,
    /// Time at which the call was begun, by our clock; 0 if unknown. Results from before it are not of this task.
    #[serde(default)]
    pub sent_at: Millis,
    /// Time of the event.
    pub at: Millis,
    /// Notice to the author that goes with a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Reason>,
    /// Whether its outcome will be known: not if reports are not read and the operation has no result.
    pub is_followed: bool,
}

/// Failure to wake the device of a scheduled request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotWoken {
    /// Name of the request.
    pub name: Name,
    /// Id of the task that the device was to be woken for.
    pub task_id: String,
    /// Reason of the failure, a notice to the author.
    pub reason: Reason,
    /// Time of the event.
    pub at: Millis,
}

/// Attempt to hand a request over that failed, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotHandedOver {
    /// Name of the request.
    pub name: Name,
    /// Mark of the run that held it.
    pub mark: String,
    /// Reason of the failure.
    pub reason: Reason,
    /// Whether Coiote may have the task nevertheless.
    #[serde(rename = "maybe", default, skip_serializing_if = "std::ops::Not::not")]
    pub may_have_reached_coiote: bool,
    /// Time of the next attempt; `None` if a retry cannot succeed.
    #[serde(rename = "againAt", default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Millis>,
    /// Time of the event.
    pub at: Millis,
}

/// Result that Coiote has written into the operation shadow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultReceived {
    /// Version of the operation shadow that carried it.
    pub version: u64,
    /// Id of this run, unique also among the attempts of one invocation.
    pub mark: String,
    /// Time at which the result was written into the shadow, in seconds since 1970.
    pub reported_at: u64,
    /// Operation that the result names.
    pub operation: String,
    /// Paths that the result names.
    #[serde(default, skip_serializing_if = "NamedPaths::is_empty")]
    pub paths: NamedPaths,
    /// Hashes of the paths that folding it touches ([`ResultEntry::touched`](crate::ResultEntry::touched)).
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "crate::matching::hashes")]
    pub touched: Vec<u32>,
    /// Pieces of the shadow's `failedKeys`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_keys: Vec<String>,
    /// Time of the event.
    pub at: Millis,
}

/// Write of a fold into the datamodel shadow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DatamodelWrite {
    /// Nothing was written.
    #[serde(rename = "no", alias = "nothing")]
    Nothing,
    /// It was written once, at this time in seconds since 1970.
    At(u64),
    /// It may have been written: an answer of AWS IoT may have been lost, or an earlier run interrupted.
    Unknown,
}

/// Result that was folded into the datamodel shadow, or cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Folded {
    /// Version of the operation shadow that carried the result.
    pub version: u64,
    /// Status that the result gives to the request.
    pub status: Status,
    /// Reason of the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Version of the datamodel shadow after the fold, and the time at which that was written, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datamodel: Option<(u64, u64)>,
    /// Write of the fold.
    pub wrote: DatamodelWrite,
    /// Time of the event.
    pub at: Millis,
}

/// Report of Coiote about a task.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reported {
    /// Id of the task.
    pub task_id: String,
    /// Time at which the device began to run it, by Coiote's clock, in seconds since 1970.
    pub started_at: u64,
    /// Result of the run.
    pub status: ReportStatus,
    /// Summary of the run; empty if there is none.
    pub summary: String,
    /// Properties in the report, as a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<String>,
    /// Time of the event.
    pub at: Millis,
}

/// Result of a task's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReportStatus {
    /// The device did all of it.
    Success,
    /// The device did not do it, or only a part: Coiote's Warning and Error.
    Refused,
}

/// Cancellation of a request, other than by a cancelRequest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cancel {
    /// Name of the request.
    pub name: Name,
    /// Who takes it back.
    pub by: CanceledBy,
    /// Time of the event.
    pub at: Millis,
}
