//! The certificate at IoT Core that Coiote connects with.

use std::time::Duration;

use aws_sdk_iot::Client;
use aws_sdk_iot::config::retry::RetryConfig;
use aws_sdk_iot::config::timeout::TimeoutConfig;
use aws_sdk_iot::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_iot::operation::update_certificate::UpdateCertificateError;
use aws_sdk_iot::types::CertificateStatus;
use backon::{ConstantBuilder, ExponentialBuilder, Retryable};
use lambda_support::aws::error_summary;

/// Pause between two tries of a deletion: a certificate whose policy was just detached counts as attached a little longer.
const PAUSE: Duration = Duration::from_millis(500);
const TRIES: usize = 20;

/// Time limit for creating a certificate. It is long, because a certificate whose answer is lost is never found again.
const CREATION_LIMIT: Duration = Duration::from_secs(30);

/// Longest pause between two tries to delete a policy.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Certificates and their policy at IoT Core.
pub(crate) struct Iot {
    client: Client,
}

/// A certificate with its key. It has no `Debug`: the key is a secret.
pub(crate) struct IotCertificate {
    pub(crate) arn: String,
    pub(crate) certificate_pem: String,
    pub(crate) private_key: String,
}

impl Iot {
    pub(crate) fn new(client: Client) -> Iot {
        Iot { client }
    }

    /// Creates an inactive certificate that has no rights yet.
    ///
    /// AWS has no token that would make a second attempt the same certificate, so there is only one.
    pub(crate) async fn create(&self) -> Result<IotCertificate, String> {
        let limit = TimeoutConfig::builder()
            .operation_attempt_timeout(CREATION_LIMIT)
            .operation_timeout(CREATION_LIMIT)
            .build();
        let once = aws_sdk_iot::Config::builder().retry_config(RetryConfig::disabled()).timeout_config(limit);
        let create = self.client.create_keys_and_certificate().set_as_active(false);
        let created = create.customize().config_override(once).send().await;
        let created = created.map_err(|error| error_summary(&error))?;
        let private_key = created.key_pair.and_then(|pair| pair.private_key);
        match (created.certificate_arn, created.certificate_pem, private_key) {
            (Some(arn), Some(certificate_pem), Some(private_key)) => {
                Ok(IotCertificate { arn, certificate_pem, private_key })
            }
            _ => Err("the answer holds no certificate with its key".to_owned()),
        }
    }

    pub(crate) async fn attach(&self, policy_name: &str, arn: &str) -> Result<(), String> {
        let attach = self.client.attach_policy().policy_name(policy_name).target(arn);
        attach.send().await.map(drop).map_err(|error| error_summary(&error))
    }

    pub(crate) async fn activate(&self, arn: &str) -> Result<(), String> {
        self.set_status(arn, CertificateStatus::Active).await.map_err(|error| error_summary(&error))
    }

    async fn set_status(&self, arn: &str, status: CertificateStatus) -> Result<(), SdkError<UpdateCertificateError>> {
        self.client.update_certificate().certificate_id(certificate_id(arn)).new_status(status).send().await.map(drop)
    }

    /// ARNs of the certificates with the policy: all that this stack has made and not removed.
    pub(crate) async fn with_policy(&self, policy_name: &str) -> Result<Vec<String>, String> {
        let mut pages = self.client.list_targets_for_policy().policy_name(policy_name).into_paginator().items().send();
        let mut arns = Vec::new();
        while let Some(arn) = pages.next().await {
            match arn {
                Ok(arn) => arns.push(arn),
                Err(error) if is_not_found(&error) => return Ok(Vec::new()),
                Err(error) => return Err(error_summary(&error)),
            }
        }
        Ok(arns)
    }

    /// Removes a certificate with its rights, if it still exists.
    pub(crate) async fn remove(&self, policy_name: &str, arn: &str) -> Result<(), String> {
        let deactivated = self.set_status(arn, CertificateStatus::Inactive).await;
        deactivated.or_else(|error| if is_not_found(&error) { Ok(()) } else { Err(error_summary(&error)) })?;
        let detached = self.client.detach_policy().policy_name(policy_name).target(arn).send().await;
        detached.map(drop).or_else(|error| if is_not_found(&error) { Ok(()) } else { Err(error_summary(&error)) })?;
        let deleted = (|| self.client.delete_certificate().certificate_id(certificate_id(arn)).send())
            .retry(ConstantBuilder::default().with_delay(PAUSE).with_max_times(TRIES))
            .when(|error| error.code() == Some("DeleteConflictException"))
            .await;
        match deleted {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => {
                // By its policy the next renewal finds it again, or the removal of the stack.
                let found_again = self.attach(policy_name, arn).await;
                let lost = if found_again.is_err() { ", and has to be deleted by hand" } else { "" };
                Err(format!("{arn} is inactive but still there{lost}: {}", error_summary(&error)))
            }
        }
    }

    /// Deletes a policy that is on no certificate any more, with its earlier versions, if it still exists.
    ///
    /// AWS may take five minutes from the moment that a policy was detached until it lets go of it
    /// (<https://docs.aws.amazon.com/iot/latest/apireference/API_DetachPolicy.html>). The caller limits the time.
    pub(crate) async fn delete_policy(&self, policy_name: &str) -> Result<(), String> {
        let versions = match self.client.list_policy_versions().policy_name(policy_name).send().await {
            Ok(versions) => versions.policy_versions.unwrap_or_default(),
            Err(error) if is_not_found(&error) => return Ok(()),
            Err(error) => return Err(error_summary(&error)),
        };
        for version in versions.into_iter().filter(|version| !version.is_default_version) {
            let delete = self.client.delete_policy_version().policy_name(policy_name);
            let deleted = delete.set_policy_version_id(version.version_id).send().await;
            deleted
                .map(drop)
                .or_else(|error| if is_not_found(&error) { Ok(()) } else { Err(error_summary(&error)) })?;
        }
        let backoff = ExponentialBuilder::default().with_min_delay(PAUSE).with_max_delay(LONGEST_PAUSE);
        let deleted = (|| self.client.delete_policy().policy_name(policy_name).send())
            .retry(backoff.without_max_times())
            .when(|error| error.code() == Some("DeleteConflictException"))
            .await;
        deleted.map(drop).or_else(|error| if is_not_found(&error) { Ok(()) } else { Err(error_summary(&error)) })
    }
}

/// `arn:aws:iot:<region>:<account>:cert/<id>`
fn certificate_id(arn: &str) -> &str {
    arn.rsplit_once('/').map_or(arn, |(_, id)| id)
}

pub(crate) fn is_not_found(error: &impl ProvideErrorMetadata) -> bool {
    error.code() == Some("ResourceNotFoundException")
}
