//! Errors of the ledger, each with its code.

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

/// Failure of a call on the table, or content that cannot be read. Lambda retries the invocation after any of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// DynamoDB throttled the call, failed, or was not reached.
    #[error("the ledger could not be asked: {0}")]
    Unavailable(String),
    /// DynamoDB refused the call, and would refuse it again: the table is missing, or the role may not use it.
    #[error("the ledger refused the call: {0}")]
    Refused(String),
    /// The item was changed before each attempt to write it.
    #[error("the device's item changes too often")]
    Conflict,
    /// An item or event is not of the form that this version writes.
    #[error("the device's item cannot be read: {0}")]
    Unreadable(String),
}

impl Error {
    /// Stable code of the error; docs/errors.md explains each.
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
