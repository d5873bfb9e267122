//! What can go wrong between here and Coiote, told apart by what helps against it.

use std::error::Error as StdError;
use std::time::Duration;

use reqwest::StatusCode;
use rustls::AlertDescription;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The base URL that the stack was deployed with.
    #[error("{0}")]
    InvalidUrl(String),
    /// The secret that the client certificate comes from.
    #[error("{0}")]
    InvalidSecret(#[from] crate::InvalidSecret),
    #[error("Coiote could not be reached: {0}")]
    Unreachable(String),
    #[error("Coiote's certificate is not trusted: {0}")]
    NotTrusted(String),
    /// 401, 403, or an alert during the handshake.
    #[error("Coiote refused the credentials: {0}")]
    Unauthorized(String),
    #[error("Coiote did not answer in time")]
    TimedOut,
    /// The connection was lost before an answer came; whether Coiote acted on the request is not known.
    #[error("the connection to Coiote was lost: {0}")]
    Interrupted(String),
    #[error("{0}")]
    NotFound(String),
    /// 429: it was not looked at.
    #[error("Coiote has too many requests to handle: {message}")]
    Throttled { message: String, retry_after: Option<Duration> },
    /// 503 in Coiote's own words: it was not looked at.
    #[error("Coiote is not available: {message}")]
    Unavailable { message: String, retry_after: Option<Duration> },
    /// Any other status of 500 and above, and a 503 of a gateway; whether Coiote acted on the request is not known.
    #[error("Coiote failed: {0}")]
    Failed(String),
    /// Any other status that is not a success.
    #[error("Coiote refused the request: {0}")]
    Refused(String),
    /// A success whose body is not what the API promises.
    #[error("Coiote's answer was not understood: {0}")]
    UnexpectedAnswer(String),
}

impl Error {
    /// Whether the same call may succeed when it is made again.
    pub fn is_retryable(&self) -> bool {
        use Error::*;
        match self {
            Unreachable(_) | TimedOut | Interrupted(_) | Throttled { .. } | Unavailable { .. } | Failed(_) => true,
            InvalidUrl(_) | InvalidSecret(_) | NotTrusted(_) | Unauthorized(_) => false,
            NotFound(_) | Refused(_) | UnexpectedAnswer(_) => false,
        }
    }

    /// Whether Coiote may have done what it was asked for although the call failed.
    pub fn may_have_been_done(&self) -> bool {
        use Error::*;
        matches!(self, TimedOut | Interrupted(_) | Failed(_) | UnexpectedAnswer(_))
    }

    /// How long Coiote asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Throttled { retry_after, .. } | Error::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// `reason`: the one that Coiote gives, where the answer is its own.
    pub(crate) fn from_status(status: StatusCode, reason: Option<&str>, retry_after: Option<Duration>) -> Error {
        let told = match reason {
            Some(reason) if !reason.is_empty() => format!("{status}: {reason}"),
            _ => status.to_string(),
        };
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Unauthorized(told),
            StatusCode::NOT_FOUND => Error::NotFound(told),
            StatusCode::TOO_MANY_REQUESTS => Error::Throttled { message: told, retry_after },
            StatusCode::SERVICE_UNAVAILABLE if reason.is_some() => Error::Unavailable { message: told, retry_after },
            status if status.is_server_error() => Error::Failed(told),
            _ => Error::Refused(told),
        }
    }
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Error {
        if let Some(tls) = tls_error(&error) {
            use rustls::Error as Tls;
            return match tls {
                Tls::AlertReceived(alert) if is_of_the_certificate(*alert) => {
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

/// `HandshakeFailure` is what TLS 1.2 servers send that miss a certificate.
fn is_of_the_certificate(alert: AlertDescription) -> bool {
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

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn root_cause(error: &reqwest::Error) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

/// The TLS library's own error, which travels inside I/O errors, one within the other.
fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    fn within<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
        error.downcast_ref().or_else(|| within(error.downcast_ref::<std::io::Error>()?.get_ref()?))
    }
    causes(error).find_map(within)
}
