//! The word that a request ends with.

use serde::{Serialize, Serializer};

use crate::thing::Envelope;

/// How far a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Not valid; nothing was sent.
    Rejected,
    /// Could not be handed to Coiote, or the device answered with failed keys.
    Failed,
    /// Coiote has the task.
    Scheduled,
    /// The result arrived and the datamodel shadow holds it.
    Succeeded,
    /// The event asks for nothing that this function does.
    Ignored,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Rejected => "REJECTED",
            Status::Failed => "FAILED",
            Status::Scheduled => "SCHEDULED",
            Status::Succeeded => "SUCCEEDED",
            Status::Ignored => "IGNORED",
        }
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Why: a code from the closed list of the README, and one line for the author of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    pub code: &'static str,
    pub message: String,
}

impl Reason {
    pub fn new(code: &'static str, message: impl Into<String>) -> Reason {
        Reason { code, message: message.into() }
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
        reasons.first().map(|first| Reason { code: first.code, message })
    }
}

/// What became of a request. The function returns it.
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
    /// Lambda's id of the invocation, by which its log lines are found.
    pub request_id: String,
    /// Why it was rejected or failed; beside a success, what the author should know of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
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
            request_id: request_id.to_owned(),
            reason: None,
        }
    }

    pub fn about(mut self, envelope: Envelope, operation: Option<&str>) -> Answer {
        self.thing_name = Some(envelope.thing.as_str().to_owned());
        self.version = envelope.version;
        self.client_token = envelope.client_token;
        self.operation = operation.map(str::to_owned);
        self
    }

    pub fn because(mut self, reason: impl Into<Option<Reason>>) -> Answer {
        self.reason = reason.into();
        self
    }
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
}
