//! Clients of AWS, configured as for every AWS tool, and the deployed stack.

use std::collections::HashMap;
use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_types::timeout::TimeoutConfig;
use ledger::Ledger;

use crate::cli::ConnectionArgs;
use crate::exit::{Failure, could_not};

/// Time limit of an attempt of a call.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// Maker of clients of AWS, and the options that all subcommands share.
pub(crate) struct Aws {
    config: SdkConfig,
    stack_name: String,
    pub(crate) json: bool,
}

impl Aws {
    /// Loads profile, SSO, role, region and endpoint as the AWS CLI does. A profile that is named on the command line goes
    /// before credentials in the environment.
    pub(crate) async fn connect(connection: &ConnectionArgs) -> Result<Aws, Failure> {
        let tls = Provider::Rustls(CryptoMode::Ring);
        let https = Builder::new().build_with_connector_fn(move |settings, _| {
            let mut connector = Connector::builder().tls_provider(tls.clone()).proxy_config(ProxyConfig::from_env());
            connector.set_connector_settings(settings.cloned());
            connector.build()
        });
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).build();
        let mut loader =
            aws_config::defaults(BehaviorVersion::latest()).http_client(https.clone()).timeout_config(timeouts);
        if let Some(profile) = &connection.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(region) = &connection.region {
            loader = loader.region(Region::new(region.clone()));
        }
        let mut config = loader.load().await;
        if config.region().is_none() {
            return Err(Failure::new("no region: give --region, set AWS_REGION, or choose a profile that has one"));
        }
        if let Some(profile) = &connection.profile {
            let provider =
                ProviderConfig::without_region().with_region(config.region().cloned()).with_http_client(https);
            let of_profile =
                ProfileFileCredentialsProvider::builder().configure(&provider).profile_name(profile).build();
            config = config.into_builder().credentials_provider(SharedCredentialsProvider::new(of_profile)).build();
        }
        Ok(Aws { config, stack_name: connection.stack.clone(), json: connection.json })
    }

    pub(crate) fn iot(&self) -> aws_sdk_iot::Client {
        aws_sdk_iot::Client::new(&self.config)
    }

    pub(crate) fn iot_data(&self) -> aws_sdk_iotdataplane::Client {
        aws_sdk_iotdataplane::Client::new(&self.config)
    }

    pub(crate) fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.config)
    }

    pub(crate) fn lambda(&self) -> aws_sdk_lambda::Client {
        aws_sdk_lambda::Client::new(&self.config)
    }

    /// Opens the stack's ledger, only for reading: records written through it have no retention.
    pub(crate) fn ledger(&self, stack: &Stack) -> Result<Ledger, Failure> {
        let client = aws_sdk_dynamodb::Client::new(&self.config);
        Ok(Ledger::new(client, stack.output("RequestsTable")?, 0))
    }

    pub(crate) fn secrets_manager(&self) -> aws_sdk_secretsmanager::Client {
        aws_sdk_secretsmanager::Client::new(&self.config)
    }

    /// Describes the stack as it is deployed.
    pub(crate) async fn stack(&self) -> Result<Stack, Failure> {
        let name = &self.stack_name;
        let found = aws_sdk_cloudformation::Client::new(&self.config).describe_stacks().stack_name(name).send().await;
        let described = found.map_err(could_not(&format!("look at the stack {name} (named by --stack)")))?;
        let stack = described.stacks.unwrap_or_default().into_iter().next();
        let stack = stack.ok_or_else(|| Failure::new(format!("there is no stack {name} (named by --stack)")))?;
        let outputs = stack.outputs.unwrap_or_default().into_iter();
        let parameters = stack.parameters.unwrap_or_default().into_iter();
        Ok(Stack {
            name: name.clone(),
            status: stack.stack_status.map_or_else(String::new, |status| status.as_str().to_owned()),
            outputs: outputs.filter_map(|output| output.output_key.zip(output.output_value)).collect(),
            parameters: parameters.filter_map(|given| given.parameter_key.zip(given.parameter_value)).collect(),
        })
    }
}

/// A deployed stack.
pub(crate) struct Stack {
    name: String,
    status: String,
    outputs: HashMap<String, String>,
    parameters: HashMap<String, String>,
}

impl Stack {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Status by CloudFormation, such as `UPDATE_COMPLETE`.
    pub(crate) fn status(&self) -> &str {
        &self.status
    }

    /// Value of a parameter that it was deployed with.
    pub(crate) fn parameter(&self, key: &str) -> Option<&str> {
        self.parameters.get(key).map(String::as_str)
    }

    pub(crate) fn output(&self, key: &str) -> Result<&str, Failure> {
        let missing =
            || Failure::new(format!("the stack {} has no output {key}; deploy this version first", self.name));
        self.outputs.get(key).map(String::as_str).ok_or_else(missing)
    }

    /// Whether it makes the certificates, and renews them; otherwise they are the user's own.
    pub(crate) fn makes_certificates(&self) -> bool {
        self.outputs.contains_key("CoiotePolicyName")
    }

    /// Names of its functions, sorted.
    pub(crate) fn functions(&self) -> Vec<&str> {
        self.outputs_named("Function")
    }

    /// Names of its rules, sorted.
    pub(crate) fn rules(&self) -> Vec<&str> {
        self.outputs_named("Rule")
    }

    fn outputs_named(&self, kind: &str) -> Vec<&str> {
        let of_kind = self.outputs.iter().filter(|(key, _)| key.ends_with(kind));
        let mut names: Vec<&str> = of_kind.map(|(_, name)| name.as_str()).collect();
        names.sort_unstable();
        names
    }
}

/// Name of a function in `arn:aws:lambda:<region>:<account>:function:<name>[:<qualifier>]`; empty where there is none.
pub(crate) fn function_in_arn(arn: &str) -> &str {
    arn.split(':').nth(6).unwrap_or_default()
}
