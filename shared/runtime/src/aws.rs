//! Configuration of the AWS clients.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

/// The configuration that AWS's own environment variables describe, with one HTTP client for all services.
pub async fn config() -> SdkConfig {
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(3))
        .operation_timeout(Duration::from_secs(8))
        .build();
    let config =
        aws_config::defaults(BehaviorVersion::latest()).http_client(http).timeout_config(timeouts).load().await;
    // `sam local invoke` gives a variable of the template that has no value as an empty one, on which the SDK panics.
    let mut config = config.into_builder();
    if std::env::var_os("AWS_ENDPOINT_URL").is_some_and(|url| url.is_empty()) {
        config.set_endpoint_url(None).set_service_config(Some(NoServiceConfig));
    }
    config.build()
}

/// Keeps the clients from reading the empty variable by themselves.
#[derive(Debug)]
struct NoServiceConfig;

impl LoadServiceConfig for NoServiceConfig {
    fn load_config(&self, _: ServiceConfigKey<'_>) -> Option<String> {
        None
    }
}
