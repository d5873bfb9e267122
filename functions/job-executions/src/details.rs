//! What AWS IoT Jobs is told of a request.

use std::collections::HashMap;

use aws_sdk_iotjobsdataplane::types::JobExecutionStatus;
use ledger::RequestSummary;
use requests::Status;

/// Most characters of a value that AWS takes.
const LONGEST: usize = 1_024;

/// Punctuation and signs beside ASCII that AWS takes for sure, and that texts here hold.
const SIGNS: &str = "…–—’‘“”„·°±²³µ€£§×÷«»¿¡½¼¾";

/// The status of the execution; nothing where there is nothing to tell.
pub(crate) fn status(word: &RequestSummary) -> Option<JobExecutionStatus> {
    match word.status {
        Status::InProgress | Status::Scheduled => Some(JobExecutionStatus::InProgress),
        Status::Succeeded => Some(JobExecutionStatus::Succeeded),
        Status::Rejected => Some(JobExecutionStatus::Rejected),
        Status::Failed | Status::TimedOut | Status::Canceled => Some(JobExecutionStatus::Failed),
        Status::Ignored => None,
    }
}

/// The details beside the status; they take the place of those that were told before.
pub(crate) fn details(word: &RequestSummary) -> HashMap<String, String> {
    let reason = word.reason.as_ref();
    let named = [
        ("operation", Some(word.operation.as_str())),
        ("taskId", word.task_id.as_deref()),
        ("code", reason.map(|reason| reason.code.as_ref())),
        ("message", reason.map(|reason| reason.message.as_str())),
        ("properties", word.properties.as_deref()),
    ];
    let given = named.into_iter().filter_map(|(name, value)| Some((name, cut(value?))));
    given.filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// As much of it as is surely taken: where AWS refuses a value although it should not, the status counts more.
pub(crate) fn shortest(word: &RequestSummary) -> HashMap<String, String> {
    let mut details = details(word);
    details.retain(|name, value| matches!(name.as_str(), "taskId" | "code") && value.is_ascii());
    details
}

/// The value as AWS takes it: `[^\p{C}]`, which no control, format, private or unassigned character is.
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
    line.take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use requests::Reason;

    use super::*;

    fn word(status: Status, message: &str) -> RequestSummary {
        RequestSummary {
            operation: "write".to_owned(),
            status,
            task_id: Some("t".to_owned()),
            reason: Some(Reason::new("KEY_UNKNOWN", message)),
            properties: None,
        }
    }

    #[test]
    fn every_status_has_its_own_at_aws() {
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
            assert_eq!(status(&word(ours, "")), theirs, "{ours:?}");
        }
    }

    #[test]
    fn details_are_cut_to_what_aws_takes() {
        let details = details(&word(Status::Rejected, &"é\u{200b}\n…\u{e000}x".repeat(1_000)));
        assert_eq!(details["message"].chars().count(), LONGEST);
        assert!(details["message"].starts_with("é? …?x"), "{}", details["message"]);
        assert!(details.len() <= 10, "AWS takes ten");
        let mut names: Vec<_> = details.into_keys().collect();
        names.sort();
        assert_eq!(names, ["code", "message", "operation", "taskId"], "what is empty is absent");
    }

    #[test]
    fn at_the_least_the_code_is_told() {
        let details = shortest(&word(Status::Rejected, "é"));
        assert_eq!(details.get("code").map(String::as_str), Some("KEY_UNKNOWN"));
        assert!(!details.contains_key("message"));
    }
}
