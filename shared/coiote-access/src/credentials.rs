//! The secret with the client certificate, in AWS Secrets Manager.

use std::time::{Instant, SystemTime};

use aws_sdk_secretsmanager::Client;
use coiote::{Identity, InvalidSecret};
use lambda_support::aws::error_chain;
use lambda_support::elapsed_ms;

use crate::error::code;

/// Name of the secret if none is configured, as in AVSystem's own stack.
const DEFAULT_SECRET_ID: &str = "coioteDMcert";

/// Name of the call in the log.
const GET_SECRET: &str = "get_secret";

/// The secret, by its name.
pub struct Credentials {
    secrets_manager: Client,
    secret_id: String,
}

/// Failure to get the credentials from the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Secrets Manager did not return the secret.
    #[error("secret {secret_id} could not be read: {why}")]
    Unavailable {
        /// Name or ARN of the secret.
        secret_id: String,
        /// Code of Secrets Manager's error, or a description if it gave no answer.
        why: String,
        /// Whether a retry may succeed: Secrets Manager was busy or not reached. A missing secret stays missing.
        is_retryable: bool,
    },
    /// The secret is not of the form that is needed.
    #[error("secret {secret_id}: {why}")]
    Invalid {
        /// Name or ARN of the secret.
        secret_id: String,
        /// Defect of the secret.
        why: InvalidSecret,
    },
}

impl CredentialsError {
    /// Stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            CredentialsError::Unavailable { .. } => code::SECRET_UNAVAILABLE,
            CredentialsError::Invalid { .. } => code::SECRET_INVALID,
        }
    }

    /// Whether a later attempt may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, CredentialsError::Unavailable { is_retryable: true, .. })
    }
}

impl Credentials {
    /// Credentials in the secret with this name or ARN.
    pub fn new(secrets_manager: Client, secret_id: Option<String>) -> Credentials {
        Credentials { secrets_manager, secret_id: secret_id.unwrap_or_else(|| DEFAULT_SECRET_ID.to_owned()) }
    }

    /// Reads the secret, and records how long its certificate is still valid.
    pub(crate) async fn read(&self) -> Result<Identity, CredentialsError> {
        let secret_id = self.secret_id.clone();
        let begun = Instant::now();
        let output = match self.secrets_manager.get_secret_value().secret_id(&secret_id).send().await {
            Ok(output) => output,
            Err(error) => {
                let (reason, duration_ms) = (error_chain(&error), elapsed_ms(begun));
                tracing::warn!(call = GET_SECRET, secret_id, reason, duration_ms, "secret could not be read");
                let status = error.raw_response().map(|response| response.status().as_u16());
                let why = match error.as_service_error() {
                    Some(service) => service.meta().code().unwrap_or("unknown error").to_owned(),
                    None => "Secrets Manager could not be reached".to_owned(),
                };
                let is_throttled = status == Some(429) || why.contains("Throttl") || why == "LimitExceededException";
                let is_retryable = is_throttled || !matches!(status, Some(400..500));
                return Err(CredentialsError::Unavailable { secret_id, why, is_retryable });
            }
        };
        let duration_ms = elapsed_ms(begun);
        let identity =
            Identity::from_secret(output.secret_string().unwrap_or_default()).map_err(|why| self.invalid(why))?;
        let certificate_days_left = identity.expires_at().map(days_until);
        if let Some(days) = certificate_days_left {
            // Not a gauge, which every later invocation would write again.
            lambda_support::record("ClientCertificateDaysLeft", days);
        }
        tracing::info!(call = GET_SECRET, secret_id, certificate_days_left, duration_ms, "secret read");
        Ok(identity)
    }

    /// Error of a secret that could not be read in time.
    pub(crate) fn timed_out(&self) -> CredentialsError {
        let (secret_id, why) = (self.secret_id.clone(), "Secrets Manager did not answer in time".to_owned());
        CredentialsError::Unavailable { secret_id, why, is_retryable: true }
    }

    /// Error of a secret with a defect.
    pub(crate) fn invalid(&self, why: InvalidSecret) -> CredentialsError {
        CredentialsError::Invalid { secret_id: self.secret_id.clone(), why }
    }
}

/// Whole days until a time; 0 if it has passed.
fn days_until(time: SystemTime) -> f64 {
    const DAY: f64 = 86_400.0;
    (time.duration_since(SystemTime::now()).unwrap_or_default().as_secs_f64() / DAY).floor()
}
