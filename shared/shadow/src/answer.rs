//! The word that every request ends with, and the words on the way there.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_sdk_iotdataplane::primitives::{DateTime, DateTimeFormat};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::thing::Envelope;

/// How far a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Claimed; being handed to Coiote, or waiting for the next attempt.
    InProgress,
    /// Not valid; nothing was sent.
    Rejected,
    /// Could not be handed to Coiote, or the device answered with failed keys.
    Failed,
    /// Coiote has the task.
    Scheduled,
    /// The result arrived and the datamodel shadow holds it.
    Succeeded,
    /// The event asks for nothing that this function does. It stands in no shadow.
    Ignored,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::InProgress => "IN_PROGRESS",
            Status::Rejected => "REJECTED",
            Status::Failed => "FAILED",
            Status::Scheduled => "SCHEDULED",
            Status::Succeeded => "SUCCEEDED",
            Status::Ignored => "IGNORED",
        }
    }
}

/// Why: a code from the closed list of the README, and one line for the author of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub code: Cow<'static, str>,
    #[serde(default)]
    pub message: String,
}

impl Reason {
    pub fn new(code: &'static str, message: impl Into<String>) -> Reason {
        Reason { code: code.into(), message: message.into() }
    }

    /// Several reasons as one: the code of the first, and what all of them say.
    pub fn joined(reasons: impl IntoIterator<Item = Reason>) -> Option<Reason> {
        /// What is said at length; of 3,000 wrong keys nobody reads more.
        const MOST: usize = 8;

        let reasons: Vec<Reason> = reasons.into_iter().collect();
        let said: Vec<&str> = reasons.iter().take(MOST).map(|reason| reason.message.as_str()).collect();
        let mut message = said.join("; ");
        if let Some(more @ 1..) = reasons.len().checked_sub(MOST) {
            message.push_str(&format!("; and {more} more"));
        }
        reasons.into_iter().next().map(|first| Reason { code: first.code, message })
    }

    /// What fits into a shadow that eight answers share with the request and the result.
    pub(crate) fn shortened(&self) -> Reason {
        const MOST: usize = 400;
        let mut message: String = self.message.chars().take(MOST).collect();
        if message.len() < self.message.len() {
            message.push_str(" … (the log has all of it)");
        }
        Reason { code: self.code.clone(), message }
    }
}

/// What became of a request. It goes into the operation shadow, and the function returns it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thing_name: Option<String>,
    /// Version of the operation shadow that carried the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    /// How many times it was tried to hand it to Coiote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Lambda's id of the invocation, by which its log lines are found.
    pub request_id: String,
    /// Why it was rejected or failed; beside a success, what the author should know of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// When the shadow was updated with the request, in seconds since 1970.
    #[serde(skip)]
    pub requested_at: Option<u64>,
    /// Resources of which it reads single resource instances only: the others of them are not gone.
    #[serde(skip)]
    pub instances_of: Vec<String>,
}

impl Answer {
    pub fn new(status: Status, request_id: &str) -> Answer {
        Answer {
            thing_name: None,
            version: None,
            operation: None,
            status,
            task_id: None,
            client_token: None,
            attempt: None,
            request_id: request_id.to_owned(),
            reason: None,
            requested_at: None,
            instances_of: Vec::new(),
        }
    }

    pub fn about(mut self, envelope: &Envelope, operation: Option<&str>) -> Answer {
        self.thing_name = Some(envelope.thing.as_str().to_owned());
        self.version = envelope.version;
        self.client_token = envelope.client_token.clone();
        self.requested_at = envelope.timestamp;
        self.operation = operation.map(str::to_owned);
        self
    }

    pub fn because(mut self, reason: impl Into<Option<Reason>>) -> Answer {
        self.reason = reason.into();
        self
    }

    /// As it stands in the operation shadow. `null` takes away what an earlier word for the same request had.
    pub(crate) fn entry(&self) -> Map<String, Json> {
        let mut entry = Map::new();
        let mut put = |name: &str, value: Option<Json>| {
            if let Some(value) = value {
                entry.insert(name.to_owned(), value);
            }
        };
        /// Longer than every operation's name; what a request calls its operation may be anything.
        const LONGEST_NAME: usize = 64;
        put(
            "operation",
            self.operation.as_ref().map(|name| name.chars().take(LONGEST_NAME).collect::<String>().into()),
        );
        put("status", Some(self.status.as_str().into()));
        put("taskId", self.task_id.clone().map(Json::from));
        put("clientToken", self.client_token.clone().map(Json::from));
        put("attempt", self.attempt.map(Json::from));
        put("requestId", Some(self.request_id.clone().into()));
        put("requestedAt", self.requested_at.map(|seconds| written(seconds).into()));
        put("updatedAt", Some(now().into()));
        put(
            "reason",
            Some(self.reason.as_ref().map(Reason::shortened).and_then(|r| serde_json::to_value(r).ok()).into()),
        );
        put("instancesOf", (!self.instances_of.is_empty()).then(|| self.instances_of.clone().into()));
        entry
    }
}

pub(crate) fn now() -> String {
    written(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// A time, given in seconds since 1970, in the form of AWS: `2026-11-22T18:00:00Z`.
fn written(seconds: u64) -> String {
    DateTime::from_secs(seconds.try_into().unwrap_or_default()).fmt(DateTimeFormat::DateTime).unwrap_or_default()
}

/// The seconds since 1970 of a time in that form.
pub(crate) fn seconds(written: &str) -> Option<u64> {
    DateTime::from_str(written, DateTimeFormat::DateTime).ok()?.secs().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_reasons_are_told_together_but_not_without_end() {
        let reasons = |n: usize| (0..n).map(|i| Reason::new("CODE", format!("m{i}")));
        assert_eq!(Reason::joined(reasons(0)), None);
        assert_eq!(Reason::joined(reasons(2)), Some(Reason::new("CODE", "m0; m1")));
        assert_eq!(Reason::joined(reasons(8)).unwrap().message, "m0; m1; m2; m3; m4; m5; m6; m7");
        assert!(Reason::joined(reasons(3_000)).unwrap().message.ends_with("m7; and 2992 more"));
    }

    #[test]
    fn a_status_is_the_same_word_everywhere() {
        use Status::*;
        for status in [InProgress, Rejected, Failed, Scheduled, Succeeded, Ignored] {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
            assert_eq!(serde_json::from_value::<Status>(status.as_str().into()).unwrap(), status);
        }
    }

    #[test]
    fn an_entry_takes_away_the_reason_that_no_longer_holds() {
        let answer = Answer { attempt: Some(2), ..Answer::new(Status::Scheduled, "r") };
        assert_eq!(answer.entry()["reason"], Json::Null);
        let long = answer.because(Reason::new("CODE", "x".repeat(5_000))).entry();
        assert!(long["reason"]["message"].as_str().unwrap().len() < 500);
        let time = long["updatedAt"].as_str().unwrap();
        assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
        assert_eq!(seconds(&written(1_795_500_000)), Some(1_795_500_000));
        assert_eq!(seconds("yesterday"), None);
    }
}
