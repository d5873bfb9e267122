//! Errors of calls to Coiote, each with its code and its consequences.

use std::error::Error as StdError;
use std::time::Duration;

use reqwest::StatusCode;
use rustls::AlertDescription;

/// Codes of [`Error`]; docs/errors.md explains each.
pub mod code {
    /// The base URL is not valid.
    pub const URL_INVALID: &str = "COIOTE_URL_INVALID";
    /// The secret is not of the form that is needed.
    pub const SECRET_INVALID: &str = "SECRET_INVALID";
    /// No connection came about.
    pub const UNREACHABLE: &str = "COIOTE_UNREACHABLE";
    /// Coiote's certificate is not trusted.
    pub const NOT_TRUSTED: &str = "COIOTE_NOT_TRUSTED";
    /// Coiote refused the credentials.
    pub const UNAUTHORIZED: &str = "COIOTE_UNAUTHORIZED";
    /// No response came within the time limit.
    pub const TIMED_OUT: &str = "COIOTE_TIMED_OUT";
    /// The connection was lost before a response came.
    pub const INTERRUPTED: &str = "COIOTE_INTERRUPTED";
    /// Coiote has too many requests to handle.
    pub const THROTTLED: &str = "COIOTE_THROTTLED";
    /// Coiote is not available, or failed.
    pub const UNAVAILABLE: &str = "COIOTE_UNAVAILABLE";
    /// Coiote refused the request.
    pub const REFUSED: &str = "COIOTE_REFUSED";
    /// The response is not as the API documents it.
    pub const UNEXPECTED_ANSWER: &str = "COIOTE_UNEXPECTED_ANSWER";
}

/// Failure of a call to Coiote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The base URL that the stack was deployed with is not valid.
    #[error("{0}")]
    InvalidUrl(String),
    /// The secret that the client certificate comes from is not valid.
    #[error("{0}")]
    InvalidSecret(#[from] crate::InvalidSecret),
    /// No connection came about.
    #[error("Coiote could not be reached: {0}")]
    Unreachable(String),
    /// Coiote's certificate is signed by no root that is trusted.
    #[error("Coiote's certificate is not trusted: {0}")]
    NotTrusted(String),
    /// Status 401 or 403, or a TLS alert about the client certificate.
    #[error("Coiote refused the credentials: {0}")]
    Unauthorized(String),
    /// No response came within the time limit. Coiote may have acted on the request.
    #[error("Coiote did not answer in time")]
    TimedOut,
    /// The connection was lost before a response came. Coiote may have acted on the request.
    #[error("the connection to Coiote was lost: {0}")]
    Interrupted(String),
    /// Status 404.
    #[error("{0}")]
    NotFound(String),
    /// Status 429. Coiote did not act on the request.
    #[error("Coiote has too many requests to handle: {message}")]
    Throttled {
        /// Status and Coiote's message.
        message: String,
        /// Pause that Coiote asks for.
        retry_after: Option<Duration>,
    },
    /// Status 503 with a message of Coiote itself, which did not act on the request.
    #[error("Coiote is not available: {message}")]
    Unavailable {
        /// Status and Coiote's message.
        message: String,
        /// Pause that Coiote asks for.
        retry_after: Option<Duration>,
    },
    /// Any other status of 500 and above, or a gateway's 503. Coiote may have acted on the request.
    #[error("Coiote failed: {0}")]
    Failed(String),
    /// Any other status that is not a success.
    #[error("Coiote refused the request: {0}")]
    Refused(String),
    /// A success whose body or status is not as the API documents it.
    #[error("Coiote's answer was not understood: {0}")]
    UnexpectedAnswer(String),
}

/// Code and consequences of an error.
struct Meaning {
    code: &'static str,
    is_retryable: bool,
    may_have_been_done: bool,
}

impl Error {
    /// The table of all errors with their codes and consequences.
    fn meaning(&self) -> Meaning {
        let (code, is_retryable, may_have_been_done) = match self {
            Error::InvalidUrl(_) => (code::URL_INVALID, false, false),
            Error::InvalidSecret(_) => (code::SECRET_INVALID, false, false),
            Error::Unreachable(_) => (code::UNREACHABLE, true, false),
            Error::NotTrusted(_) => (code::NOT_TRUSTED, false, false),
            Error::Unauthorized(_) => (code::UNAUTHORIZED, false, false),
            Error::TimedOut => (code::TIMED_OUT, true, true),
            Error::Interrupted(_) => (code::INTERRUPTED, true, true),
            Error::Throttled { .. } => (code::THROTTLED, true, false),
            Error::Unavailable { .. } => (code::UNAVAILABLE, true, false),
            Error::Failed(_) => (code::UNAVAILABLE, true, true),
            Error::Refused(_) => (code::REFUSED, false, false),
            Error::NotFound(_) => (code::UNEXPECTED_ANSWER, false, false),
            Error::UnexpectedAnswer(_) => (code::UNEXPECTED_ANSWER, false, true),
        };
        Meaning { code, is_retryable, may_have_been_done }
    }

    /// Stable code of the error.
    pub fn code(&self) -> &'static str {
        self.meaning().code
    }

    /// Whether a later attempt at the same call may succeed. All such errors are outages: they concern every call.
    pub fn is_retryable(&self) -> bool {
        self.meaning().is_retryable
    }

    /// Whether Coiote may have acted on the request although the call failed.
    pub fn may_have_been_done(&self) -> bool {
        self.meaning().may_have_been_done
    }

    /// Pause that Coiote asks for.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Throttled { retry_after, .. } | Error::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Error that a status stands for. `reason` is Coiote's message, and `None` if the response is not Coiote's own.
    pub(crate) fn from_status(status: StatusCode, reason: Option<&str>, retry_after: Option<Duration>) -> Error {
        let message = match reason {
            Some(reason) if !reason.is_empty() => format!("{status}: {reason}"),
            _ => status.to_string(),
        };
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Unauthorized(message),
            StatusCode::NOT_FOUND => Error::NotFound(message),
            StatusCode::TOO_MANY_REQUESTS => Error::Throttled { message, retry_after },
            StatusCode::SERVICE_UNAVAILABLE if reason.is_some() => Error::Unavailable { message, retry_after },
            status if status.is_server_error() => Error::Failed(message),
            _ => Error::Refused(message),
        }
    }
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Error {
        if let Some(tls) = tls_error(&error) {
            use rustls::Error as Tls;
            return match tls {
                Tls::AlertReceived(alert) if concerns_client_certificate(*alert) => {
                    Error::Unauthorized(format!("TLS alert {alert:?}"))
                }
                Tls::InvalidCertificate(why) => Error::NotTrusted(format!("{why}")),
                other if error.is_connect() => Error::Unreachable(format!("TLS: {other}")),
                other => Error::Interrupted(format!("TLS: {other}")),
            };
        }
        if error.is_connect() {
            Error::Unreachable(root_cause(&error))
        } else if error.is_timeout() {
            Error::TimedOut
        } else if error.is_decode() {
            Error::UnexpectedAnswer(root_cause(&error))
        } else {
            Error::Interrupted(root_cause(&error))
        }
    }
}

/// Whether the server rejects the client certificate. TLS 1.2 servers send `HandshakeFailure` if there is none.
fn concerns_client_certificate(alert: AlertDescription) -> bool {
    use AlertDescription::*;
    matches!(
        alert,
        NoCertificate
            | BadCertificate
            | UnsupportedCertificate
            | CertificateRevoked
            | CertificateExpired
            | CertificateUnknown
            | UnknownCA
            | AccessDenied
            | HandshakeFailure
            | CertificateRequired
    )
}

/// An error and its causes, the root cause last.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn root_cause(error: &reqwest::Error) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

/// Error of the TLS library, which is wrapped in I/O errors, one within the other.
fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    fn within<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
        error.downcast_ref().or_else(|| within(error.downcast_ref::<std::io::Error>()?.get_ref()?))
    }
    causes(error).find_map(within)
}
