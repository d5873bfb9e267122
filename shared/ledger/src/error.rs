//! What can go wrong with the table, told apart by what helps against it.

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Throttled, failed, or not reached.
    #[error("the ledger could not be asked: {0}")]
    Unavailable(String),
    /// The call is refused, and would be refused again: the table is missing, or the role may not use it.
    #[error("the ledger refused the call: {0}")]
    Refused(String),
    /// The item changed each time before it could be written.
    #[error("the device's item changes too often")]
    Conflict,
    /// An item is not of the form that this version writes.
    #[error("the device's item cannot be read: {0}")]
    Unreadable(String),
}

impl Error {
    /// Stable; the documentation says what to do about each.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Unavailable(_) | Error::Conflict => "LEDGER_UNAVAILABLE",
            Error::Refused(_) => "LEDGER_REFUSED",
            Error::Unreadable(_) => "LEDGER_UNREADABLE",
        }
    }
}

impl<E> From<SdkError<E, HttpResponse>> for Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Error {
        let summary = lambda_support::aws::error_summary(&error);
        let is_throttled = error.code().is_some_and(|code| {
            matches!(code, "ProvisionedThroughputExceededException" | "ThrottlingException" | "RequestLimitExceeded")
        });
        match error.raw_response().map(|response| response.status().as_u16()) {
            Some(400..500) if !is_throttled => Error::Refused(summary),
            _ => Error::Unavailable(summary),
        }
    }
}
