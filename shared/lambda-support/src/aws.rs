//! Configuration of the AWS clients from the environment variables that Lambda sets, and texts of their errors.
//!
//! `aws-config` is not used: it looks for credentials in files and in metadata services as well, none of which a function has,
//! and brings a client of STS for that.

use std::env;
use std::error::Error;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_runtime_api::client::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::{RetryConfig, RetryMode};
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::app_name::AppName;
use aws_types::region::Region;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

use crate::https::Https;

/// Time limit for connecting to a service.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// Configuration from AWS's standard environment variables, with one HTTP client for all services.
pub fn config() -> Result<SdkConfig, lambda_runtime::Error> {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(Duration::from_secs(3))
        .operation_timeout(Duration::from_secs(8))
        .build();
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")).map(Region::new))
        .http_client(Https::new(CONNECT_LIMIT)?)
        .sleep_impl(TokioSleep::new())
        .timeout_config(timeouts)
        .retry_config(retries())
        // Not needed: bodies have a few kilobytes, and the whole call has a time limit.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .use_fips(is_on("AWS_USE_FIPS_ENDPOINT"))
        .use_dual_stack(is_on("AWS_USE_DUALSTACK_ENDPOINT"))
        .service_config(Variables);
    config.set_endpoint_url(endpoint_url("AWS_ENDPOINT_URL"));
    config.set_app_name(app_name());
    config.set_credentials_provider(credentials());
    Ok(config.build())
}

/// Credentials of the function's role. They do not expire before Lambda replaces the execution environment.
fn credentials() -> Option<SharedCredentialsProvider> {
    let key_id = variable("AWS_ACCESS_KEY_ID")?;
    let secret = variable("AWS_SECRET_ACCESS_KEY")?;
    let credentials = Credentials::new(key_id, secret, variable("AWS_SESSION_TOKEN"), None, "environment");
    Some(SharedCredentialsProvider::new(credentials))
}

/// Application name in the user agent of each call, and so in CloudTrail: by default the function's name.
fn app_name() -> Option<AppName> {
    // The SDK warns of longer names.
    const LONGEST: usize = 50;
    let name = variable("AWS_SDK_UA_APP_ID").or_else(|| variable("AWS_LAMBDA_FUNCTION_NAME"))?;
    AppName::new(name.chars().take(LONGEST).collect::<String>()).ok()
}

/// Explains which configuration is missing for calls to AWS, to those who try a function by hand; `None` if none is.
///
/// Without credentials, `sam local invoke` gives placeholders to the function, which AWS would refuse. In Lambda there are
/// always those of the function's role.
pub(crate) fn missing_configuration() -> Option<String> {
    const SAM_PLACEHOLDER: &str = "defaultkey";
    const HELP: &str = "To try the function against the local stack: make demo KEEP=1, then make invoke \
                        EVENT=events/read.json. To try it against AWS itself, give it your credentials.";
    if variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")).is_none() {
        return Some(format!("AWS_REGION: missing, so it is not known where AWS is. {HELP}"));
    }
    match variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY")) {
        None => Some(format!("AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: missing, so AWS cannot be called. {HELP}")),
        Some((key_id, _)) if key_id == SAM_PLACEHOLDER && variable("AWS_ENDPOINT_URL").is_none() => Some(format!(
            "AWS_ENDPOINT_URL: missing, and sam had no credentials to give to the function, so AWS cannot be called. {HELP}"
        )),
        Some(_) => None,
    }
}

/// Retry mode and number of attempts, from `AWS_RETRY_MODE` and `AWS_MAX_ATTEMPTS`.
fn retries() -> RetryConfig {
    let mode = variable("AWS_RETRY_MODE").and_then(|mode| mode.parse().ok()).unwrap_or(RetryMode::Standard);
    let retries = RetryConfig::standard().with_retry_mode(mode);
    match variable("AWS_MAX_ATTEMPTS").and_then(|attempts| attempts.parse().ok()) {
        None | Some(0) => retries,
        Some(attempts) => retries.with_max_attempts(attempts),
    }
}

/// URL in a variable, unless `AWS_IGNORE_CONFIGURED_ENDPOINT_URLS` is set.
fn endpoint_url(name: &str) -> Option<String> {
    if is_on("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") { None } else { variable(name) }
}

/// Value of an environment variable. Empty counts as absent: `sam local invoke` sets variables without a value to it.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn is_on(name: &str) -> bool {
    variable(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Service-specific configuration from variables such as `AWS_ENDPOINT_URL_SECRETS_MANAGER`.
#[derive(Debug)]
struct Variables;

impl LoadServiceConfig for Variables {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        endpoint_url(&of_service(key.env(), key.service_id()))
    }
}

/// Whether a variable has the endpoint of the service with this id, such as `IoT Jobs Data Plane`.
pub fn has_configured_endpoint(service_id: &str) -> bool {
    endpoint_url("AWS_ENDPOINT_URL").or_else(|| endpoint_url(&of_service("AWS_ENDPOINT_URL", service_id))).is_some()
}

/// Name of a variable for a single service.
fn of_service(name: &str, service_id: &str) -> String {
    format!("{name}_{}", service_id.to_uppercase().replace(' ', "_"))
}

/// Code and message of an AWS error; its chain of causes if AWS gave no answer.
pub fn error_summary<E: ProvideErrorMetadata + Error + 'static>(error: &E) -> String {
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => error_chain(error),
    }
}

/// Messages of an error and of its causes, separated by colons. `Debug` would not do: the SDK's contains the whole response,
/// which may hold a secret.
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let errors = std::iter::successors(Some(error), |&error| error.source());
    errors.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
