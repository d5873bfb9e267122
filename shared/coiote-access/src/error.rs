//! Errors of access to Coiote, each with its code and its consequences.

use std::time::Duration;

use crate::CredentialsError;

/// Codes of [`Error`]; docs/errors.md explains each.
pub mod code {
    pub use coiote::code::*;

    /// The secret could not be read.
    pub const SECRET_UNAVAILABLE: &str = "SECRET_UNAVAILABLE";
    /// No time was left for the call.
    pub const OUT_OF_TIME: &str = "OUT_OF_TIME";
}

/// Failure to make a call to Coiote, or of the call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The secret could not be read, or is not valid.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The call failed.
    #[error(transparent)]
    Coiote(#[from] coiote::Error),
    /// No time was left for the call, which was not made.
    #[error("the function's time was used up before Coiote was asked")]
    OutOfTime,
}

impl Error {
    /// Stable code of the error; docs/errors.md explains each.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Credentials(error) => error.code(),
            Error::Coiote(error) => error.code(),
            Error::OutOfTime => code::OUT_OF_TIME,
        }
    }

    /// Whether a later attempt may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Credentials(error) => error.is_retryable(),
            Error::Coiote(error) => error.is_retryable(),
            Error::OutOfTime => true,
        }
    }

    /// Whether Coiote is away or too busy, so that the next request would fail as well.
    pub fn is_outage(&self) -> bool {
        matches!(self, Error::Coiote(error) if error.is_retryable())
    }

    /// Whether Coiote may have acted on the request although the call failed.
    pub fn may_have_been_done(&self) -> bool {
        matches!(self, Error::Coiote(error) if error.may_have_been_done())
    }

    /// Pause that Coiote asks for.
    pub fn retry_after(&self) -> Option<Duration> {
        if let Error::Coiote(error) = self { error.retry_after() } else { None }
    }

    /// Whether the certificate or the root certificates may be the cause, which a newer secret may correct.
    pub(crate) fn may_be_the_secret(&self) -> bool {
        matches!(self, Error::Coiote(coiote::Error::Unauthorized(_) | coiote::Error::NotTrusted(_)))
    }
}
