//! Reasons that several transitions give.

use std::fmt::Display;

use crate::record::{CANCEL_REQUEST, Name, Reason, Record, code};

/// Reason of a write that was not sent because of a newer one.
pub(super) fn overtaken(newer: &Name) -> Reason {
    Reason::new(code::OVERTAKEN, format!("request {newer} is newer, writes one of its keys, and may have been sent"))
}

/// Reason of a request that must not be sent twice, and whose run has ended without recording an outcome.
pub(super) fn interrupted() -> Reason {
    Reason::new(
        code::OUTCOME_UNKNOWN,
        "an earlier attempt ended without a word; it may have reached Coiote and is not sent twice",
    )
}

/// Reason of a request that was taken back.
pub(super) fn canceled(by: &impl Display) -> Reason {
    Reason::new(code::CANCELED, format!("taken back by {by}"))
}

/// Reason of a request whose lifetime is over.
pub(super) fn lifetime_over(record: &Record) -> Reason {
    let message = match &record.reason {
        Some(reason) => format!("its lifetime ended before a device had run it; it waited because: {}", reason.message),
        None if record.operation == CANCEL_REQUEST => "its requests have not ended within its lifetime".to_owned(),
        None => "its lifetime ended before a device had run it".to_owned(),
    };
    Reason::new(code::LIFETIME_OVER, message)
}
