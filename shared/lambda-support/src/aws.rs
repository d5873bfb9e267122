//! Configuration of the AWS clients, from the variables that Lambda sets.
//!
//! Not by `aws-config`: it looks for credentials in files, containers and machines as well, none of which a function has,
//! and brings a client of STS for it.

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

const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// The configuration that AWS's own environment variables describe, with one HTTP client for all services.
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
        // Documents of a few kilobytes, whose whole call is limited.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .use_fips(is_on("AWS_USE_FIPS_ENDPOINT"))
        .use_dual_stack(is_on("AWS_USE_DUALSTACK_ENDPOINT"))
        .service_config(Variables);
    config.set_endpoint_url(endpoint_url("AWS_ENDPOINT_URL"));
    config.set_app_name(app_name());
    config.set_credentials_provider(credentials());
    Ok(config.build())
}

/// Those of the function's role. Lambda replaces an execution environment before they expire.
fn credentials() -> Option<SharedCredentialsProvider> {
    let key_id = variable("AWS_ACCESS_KEY_ID")?;
    let secret = variable("AWS_SECRET_ACCESS_KEY")?;
    let credentials = Credentials::new(key_id, secret, variable("AWS_SESSION_TOKEN"), None, "environment");
    Some(SharedCredentialsProvider::new(credentials))
}

/// What stands in the user agent of each call, and so in CloudTrail: the function's name where nothing else is asked for.
fn app_name() -> Option<AppName> {
    // The SDK warns of longer ones.
    const LONGEST: usize = 50;
    let name = variable("AWS_SDK_UA_APP_ID").or_else(|| variable("AWS_LAMBDA_FUNCTION_NAME"))?;
    AppName::new(name.chars().take(LONGEST).collect::<String>()).ok()
}

/// What is missing to call AWS at all: a word for somebody who tries a function by hand.
///
/// `sam local invoke` gives a function credentials that nobody knows where it has none, and without an endpoint they go to AWS
/// itself. Lambda always gives those of the function's role.
pub(crate) fn missing() -> Option<String> {
    const OF_SAM: &str = "defaultkey";
    const HELP: &str = "To try the function against the local stack: make demo KEEP=1, then make invoke \
                        EVENT=events/read.json. To try it against AWS itself, give it your credentials.";
    if variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")).is_none() {
        return Some(format!("AWS_REGION: missing, so it is not known where AWS is. {HELP}"));
    }
    match variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY")) {
        None => Some(format!("AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: missing, so AWS cannot be called. {HELP}")),
        Some((key_id, _)) if key_id == OF_SAM && variable("AWS_ENDPOINT_URL").is_none() => Some(format!(
            "AWS_ENDPOINT_URL: missing, and sam had no credentials to give to the function, so AWS cannot be called. {HELP}"
        )),
        Some(_) => None,
    }
}

fn retries() -> RetryConfig {
    let mode = variable("AWS_RETRY_MODE").and_then(|mode| mode.parse().ok()).unwrap_or(RetryMode::Standard);
    let retries = RetryConfig::standard().with_retry_mode(mode);
    match variable("AWS_MAX_ATTEMPTS").and_then(|attempts| attempts.parse().ok()) {
        None | Some(0) => retries,
        Some(attempts) => retries.with_max_attempts(attempts),
    }
}

fn endpoint_url(name: &str) -> Option<String> {
    if is_on("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") { None } else { variable(name) }
}

/// `sam local invoke` gives a variable of the template that has no value as an empty one.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn is_on(name: &str) -> bool {
    variable(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// What a service's clients look up for themselves, as in `AWS_ENDPOINT_URL_SECRETS_MANAGER`.
#[derive(Debug)]
struct Variables;

impl LoadServiceConfig for Variables {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_uppercase().replace(' ', "_");
        endpoint_url(&format!("{}_{service}", key.env()))
    }
}

/// What an error of AWS says.
pub fn error_summary<E: ProvideErrorMetadata + Error + 'static>(error: &E) -> String {
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => error_chain(error),
    }
}

/// An error and its causes, in their own words. Not the `Debug` of any: that of an SDK's holds the whole answer, which may be a
/// secret.
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let errors = std::iter::successors(Some(error), |&error| error.source());
    errors.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
