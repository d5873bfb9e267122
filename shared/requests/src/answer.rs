//! Result of an invocation, about the request that it was for.

use serde::{Deserialize, Serialize};

use crate::record::{Name, Reason, Record, Status};

/// Result that a function returns about a request. `reconcile` reads it, and those who invoke the function by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Name of the thing.
    pub thing_name: String,
    /// Name of the request: its shadow version, its job, or the invocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Name>,
    /// Operation of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Status of the request.
    pub status: Status,
    /// Id of its task at Coiote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// Client token that its author gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    /// Id of the Lambda invocation, as in its log lines.
    pub request_id: String,
    /// Reason of the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

impl Answer {
    /// Answer with a status alone.
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

    /// Answer with the content of the request's record.
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

    /// The same answer with this reason.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<Option<Reason>>) -> Answer {
        self.reason = reason.into();
        self
    }
}
