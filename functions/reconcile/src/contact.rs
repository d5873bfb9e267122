//! Classifies answers of operation-request by the contact with Coiote behind them.

use coiote_access::code as access;
use requests::{Answer, Status, code};

/// Contact with Coiote during a hand-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contact {
    /// Coiote answered.
    Answered,
    /// Coiote is too busy.
    Throttled,
    /// Coiote is away or refuses this stack as a whole, or operation-request lacks what it needs to call it.
    Away,
    /// The request ended, or waits, without a call to Coiote.
    NotMade,
}

impl Contact {
    /// The contact behind an answer of operation-request. The codes are those of [`coiote_access::Error`], of operation-request's
    /// `ForwardError`, and of the record.
    pub(crate) fn of(answer: &Answer) -> Contact {
        let code = answer.reason.as_ref().map_or("", |reason| reason.code.as_ref());
        match (answer.status, code) {
            (Status::Scheduled | Status::Succeeded, _) => Contact::Answered,
            (Status::InProgress, access::THROTTLED) => Contact::Throttled,
            (Status::InProgress, code::WAITS_FOR_OLDER_WRITE) => Contact::NotMade,
            (Status::InProgress, _) => Contact::Away,
            // A request that must not be sent twice ends when Coiote falls silent.
            (Status::Failed, code::OUTCOME_UNKNOWN) => Contact::Away,
            (Status::Failed, access::UNAUTHORIZED | access::NOT_TRUSTED | access::URL_INVALID) => Contact::Away,
            (Status::Failed, access::SECRET_UNAVAILABLE | access::SECRET_INVALID) => Contact::Away,
            (Status::Failed, "DEVICE_UNKNOWN" | "DEVICE_AMBIGUOUS" | "TEMPLATE_MISSING") => Contact::Answered,
            (Status::Failed, access::REFUSED | access::UNEXPECTED_ANSWER) => Contact::Answered,
            (Status::Failed, code::DEVICE_REFUSED) => Contact::Answered,
            _ => Contact::NotMade,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn status_and_code_show_the_contact() {
        for (status, code, contact) in [
            ("SCHEDULED", None, Contact::Answered),
            ("SCHEDULED", Some("SESSION_NOT_STARTED"), Contact::Answered),
            ("IN_PROGRESS", Some("COIOTE_THROTTLED"), Contact::Throttled),
            ("IN_PROGRESS", Some("COIOTE_UNREACHABLE"), Contact::Away),
            ("IN_PROGRESS", Some("SECRET_UNAVAILABLE"), Contact::Away),
            ("IN_PROGRESS", Some("WAITS_FOR_OLDER_WRITE"), Contact::NotMade),
            ("FAILED", Some("OUTCOME_UNKNOWN"), Contact::Away),
            ("FAILED", Some("COIOTE_UNAUTHORIZED"), Contact::Away),
            ("FAILED", Some("DEVICE_UNKNOWN"), Contact::Answered),
            ("FAILED", Some("OVERTAKEN"), Contact::NotMade),
            ("TIMED_OUT", Some("LIFETIME_OVER"), Contact::NotMade),
            ("IGNORED", Some("BODY_MISSING"), Contact::NotMade),
            ("CANCELED", None, Contact::NotMade),
        ] {
            let reason = code.map(|code| json!({"code": code, "message": "m"}));
            let answer = json!({"thingName": "a", "requestId": "r", "request": 17, "status": status, "reason": reason});
            let answer: Answer = serde_json::from_value(answer).unwrap();
            assert_eq!(Contact::of(&answer), contact, "{status} {code:?}");
        }
    }
}
