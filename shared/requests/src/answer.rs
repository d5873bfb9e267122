//! What a function returns about the request that it was invoked for.

use serde::{Deserialize, Serialize};

use crate::record::{Name, Reason, Record, Status};

/// Answer of a function: who reads it is whoever invoked the function by hand, and its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    pub thing_name: String,
    /// Name of the request: its shadow version, its job, or the invocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    /// Lambda's id of the invocation, by which its log lines are found.
    pub request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

impl Answer {
    pub fn new(thing: &str, status: Status, request_id: &str) -> Answer {
        Answer {
            thing_name: thing.to_owned(),
            request: None,
            operation: None,
            status,
            task_id: None,
            client_token: None,
            request_id: request_id.to_owned(),
            reason: None,
        }
    }

    /// The answer that a record gives.
    pub fn from_record(thing: &str, record: &Record, request_id: &str) -> Answer {
        Answer {
            request: Some(record.name.clone()),
            operation: Some(record.operation.clone()),
            task_id: record.task_id.clone(),
            client_token: record.client_token.clone(),
            reason: record.reason.clone(),
            ..Answer::new(thing, record.status(), request_id)
        }
    }

    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<Option<Reason>>) -> Answer {
        self.reason = reason.into();
        self
    }
}
