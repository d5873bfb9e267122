//! Status and details of an execution, for AWS IoT Jobs, from the summary of its request.

use std::collections::HashMap;

use aws_sdk_iotjobsdataplane::types::JobExecutionStatus;
use ledger::RequestSummary;
use requests::Status;

/// Most characters of a value (AWS IoT API reference, UpdateJobExecution).
const MAX_VALUE: usize = 1_024;

/// Punctuation and signs beside ASCII that AWS is known to take, and that messages use.
const SIGNS: &str = "…–—’‘“”„·°±²³µ€£§×÷«»¿¡½¼¾";

/// Status of the execution; none where AWS needs no update.
pub(crate) fn status(summary: &RequestSummary) -> Option<JobExecutionStatus> {
    match summary.status {
        Status::InProgress | Status::Scheduled => Some(JobExecutionStatus::InProgress),
        Status::Succeeded => Some(JobExecutionStatus::Succeeded),
        Status::Rejected => Some(JobExecutionStatus::Rejected),
        Status::Failed | Status::TimedOut | Status::Canceled => Some(JobExecutionStatus::Failed),
        Status::Ignored => None,
    }
}

/// Details beside the status. They replace those of the last update.
pub(crate) fn details(summary: &RequestSummary) -> HashMap<String, String> {
    let reason = summary.reason.as_ref();
    let named = [
        ("operation", Some(summary.operation.as_str())),
        ("taskId", summary.task_id.as_deref()),
        ("code", reason.map(|reason| reason.code.as_ref())),
        ("message", reason.map(|reason| reason.message.as_str())),
        ("properties", summary.properties.as_deref()),
    ];
    let given = named.into_iter().filter_map(|(name, value)| Some((name, cut(value?))));
    given.filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The details that AWS takes for sure: if it refuses a value against its documentation, the status counts more.
pub(crate) fn safe_details(summary: &RequestSummary) -> HashMap<String, String> {
    let mut details = details(summary);
    details.retain(|name, value| matches!(name.as_str(), "taskId" | "code") && value.is_ascii());
    details
}

/// The value in the form that AWS takes: `[^\p{C}]`, without control, format, private and unassigned characters.
fn cut(value: &str) -> String {
    let is_taken = |c: char| matches!(c, ' '..='~') || c.is_alphanumeric() || SIGNS.contains(c);
    let line = value.chars().map(|c| {
        if is_taken(c) {
            c
        } else if c.is_whitespace() {
            ' '
        } else {
            '?'
        }
    });
    line.take(MAX_VALUE).collect()
}

#[cfg(test)]
mod tests {
    use requests::Reason;

    use super::*;

    fn summary(status: Status, message: &str) -> RequestSummary {
        RequestSummary {
            operation: "write".to_owned(),
            requested_at: 1,
            status,
            task_id: Some("t".to_owned()),
            reason: Some(Reason::new("KEY_UNKNOWN", message)),
            properties: None,
        }
    }

    #[test]
    fn every_status_has_one_at_aws() {
        use JobExecutionStatus as Aws;
        for (ours, theirs) in [
            (Status::InProgress, Some(Aws::InProgress)),
            (Status::Scheduled, Some(Aws::InProgress)),
            (Status::Rejected, Some(Aws::Rejected)),
            (Status::Succeeded, Some(Aws::Succeeded)),
            (Status::Failed, Some(Aws::Failed)),
            (Status::TimedOut, Some(Aws::Failed)),
            (Status::Canceled, Some(Aws::Failed)),
            (Status::Ignored, None),
        ] {
            assert_eq!(status(&summary(ours, "")), theirs, "{ours:?}");
        }
    }

    #[test]
    fn details_are_cut_to_what_aws_takes() {
        let details = details(&summary(Status::Rejected, &"é\u{200b}\n…\u{e000}x".repeat(1_000)));
        assert_eq!(details["message"].chars().count(), MAX_VALUE);
        assert!(details["message"].starts_with("é? …?x"), "{}", details["message"]);
        assert!(details.len() <= 10, "AWS takes ten");
        let mut names: Vec<_> = details.into_keys().collect();
        names.sort();
        assert_eq!(names, ["code", "message", "operation", "taskId"], "what is empty is absent");
    }

    #[test]
    fn safe_details_have_the_code() {
        let details = safe_details(&summary(Status::Rejected, "é"));
        assert_eq!(details.get("code").map(String::as_str), Some("KEY_UNKNOWN"));
        assert!(!details.contains_key("message"));
    }
}
