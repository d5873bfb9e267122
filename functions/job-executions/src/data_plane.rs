//! The data plane of AWS IoT Jobs, at the account's own endpoint: AWS refuses calls to the SDK's default one.

use aws_sdk_iot::error::ProvideErrorMetadata;
use aws_sdk_iotjobsdataplane::Client;
use aws_sdk_iotjobsdataplane::config::Builder;
use aws_sdk_iotjobsdataplane::types::JobExecution;
use tokio::sync::OnceCell;

/// Type of the endpoint that serves only the data plane.
const OWN: &str = "iot:Jobs";
/// Type of the endpoint that serves it where AWS refuses the other type: "IoT Jobs and Commands APIs are now available through
/// iot:Data-ATS endpoints instead of iot:Jobs endpoints" (InvalidRequestException, seen since 2026-08).
const COMMON: &str = "iot:Data-ATS";

/// The SDK's name of the service.
const SERVICE_ID: &str = "IoT Jobs Data Plane";

pub(crate) struct DataPlane {
    config: Builder,
    iot: aws_sdk_iot::Client,
    client: OnceCell<Client>,
}

impl DataPlane {
    pub(crate) fn new(config: Builder, iot: aws_sdk_iot::Client) -> DataPlane {
        DataPlane { config, iot, client: OnceCell::new() }
    }

    /// The client, for whose first use the endpoint is looked up unless one is configured. The error is one line.
    pub(crate) async fn client(&self) -> Result<&Client, String> {
        let new_client = async || {
            let mut config = self.config.clone();
            if !lambda_support::aws::has_configured_endpoint(SERVICE_ID) {
                config.set_endpoint_url(Some(format!("https://{}", self.address().await?)));
            }
            Ok(Client::from_conf(config.build()))
        };
        self.client.get_or_try_init(new_client).await
    }

    /// The execution of this name, `None` if it is gone or its job has ended. The error is one line.
    pub(crate) async fn describe(
        &self,
        thing: &str,
        job_id: &str,
        execution: u64,
        with_document: bool,
    ) -> Result<Option<JobExecution>, String> {
        let describe = self.client().await?.describe_job_execution().thing_name(thing).job_id(job_id);
        let number = i64::try_from(execution).ok();
        match describe.set_execution_number(number).include_job_document(with_document).send().await {
            Ok(output) => Ok(output.execution),
            Err(error) if matches!(error.code(), Some("ResourceNotFoundException" | "TerminalStateException")) => {
                Ok(None)
            }
            Err(error) => Err(lambda_support::aws::error_summary(&error)),
        }
    }

    async fn address(&self) -> Result<String, String> {
        let describe = async |kind: &str| self.iot.describe_endpoint().endpoint_type(kind).send().await;
        let described = match describe(OWN).await {
            Err(error) if error.code() == Some("InvalidRequestException") => describe(COMMON).await,
            described => described,
        };
        let described =
            described.map_err(|error| format!("DescribeEndpoint: {}", lambda_support::aws::error_summary(&error)))?;
        described.endpoint_address.ok_or_else(|| "DescribeEndpoint: no address".to_owned())
    }
}
