//! The secrets: the Coiote user that sets the integration up, and the certificate that operation-request reads.

use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::ProvideErrorMetadata;
use aws_sdk_secretsmanager::types::Tag;
use backon::{ConstantBuilder, Retryable};
use coiote::User;
use lambda_support::aws::error_summary;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::client_certificate::ClientCertificate;
use crate::iot::is_not_found;

/// Tag with the id of the stack that made the secret: other secrets are never written or deleted.
const OWNER: &str = "coiote-aws-iot:stack";

/// Tag with the fingerprint of the properties in force; empty while they are being changed.
///
/// CloudFormation rolls back a failed Update by a second one, with old and new properties swapped. The tag shows that this one
/// has nothing to do. See the AWS CDK's documentation on rollbacks:
/// <https://docs.aws.amazon.com/cdk/api/v2/docs/aws-cdk-lib.custom_resources-readme.html#important-cases-to-handle>.
const IN_FORCE: &str = "coiote-aws-iot:in-force";

/// Pause between two checks of a secret's name.
const PAUSE: Duration = Duration::from_secs(1);

/// Checks of a secret's name: a secret that was deleted without recovery keeps its name for a while.
const TRIES: usize = 60;

pub(crate) struct Secrets {
    client: Client,
}

/// State of the client's secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SecretState {
    Missing,
    /// This stack made it.
    Ours {
        /// Fingerprint of the properties that its certificate was made with.
        in_force: String,
    },
    /// An earlier stack of the same name made it, and is gone: there are no two stacks of one name at a time.
    LeftBehind,
    /// This stack did not make it.
    Foreign,
    /// AWS is deleting it; its name is free after that.
    BeingDeleted,
}

/// Value of the client's secret, as far as this function reads it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientSecret {
    certificate_pem: Option<String>,
    /// Client certificates of failed changes that could not be removed from Coiote.
    #[serde(default)]
    not_removed: Vec<RegisteredCertificate>,
}

/// Client certificate that a Coiote may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RegisteredCertificate {
    pub(crate) certificate_pem: String,
    /// Of the Coiote that may have it.
    pub(crate) coiote_url: String,
}

/// Failure to read a secret.
pub(crate) struct ReadFailure {
    pub(crate) why: String,
    /// Whether the role may not read it, or its key is not there.
    pub(crate) is_out_of_reach: bool,
}

/// A secret's name and value. It has no `Debug`, so that the value is not printed by mistake.
pub(crate) struct NamedValue {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl Secrets {
    pub(crate) fn new(client: Client) -> Secrets {
        Secrets { client }
    }

    pub(crate) async fn user(&self, id: &str) -> Result<User, String> {
        User::from_secret(&self.value_of(id).await?).map_err(|error| error.to_string())
    }

    pub(crate) async fn state(&self, name: &str, stack_id: &str) -> Result<SecretState, String> {
        let secret = match self.client.describe_secret().secret_id(name).send().await {
            Ok(secret) => secret,
            Err(error) if is_not_found(&error) => return Ok(SecretState::Missing),
            Err(error) => return Err(error_summary(&error)),
        };
        if secret.deleted_date().is_some() {
            return Ok(SecretState::BeingDeleted);
        }
        let tag = |key| secret.tags().iter().find(|tag| tag.key() == Some(key)).and_then(Tag::value);
        Ok(match tag(OWNER) {
            Some(owner) if owner == stack_id => {
                SecretState::Ours { in_force: tag(IN_FORCE).unwrap_or_default().to_owned() }
            }
            Some(owner) if stack(owner) == stack(stack_id) => SecretState::LeftBehind,
            _ => SecretState::Foreign,
        })
    }

    /// State once no deletion is in progress any more, or still [`SecretState::BeingDeleted`] after a minute.
    pub(crate) async fn settled_state(&self, name: &str, stack_id: &str) -> Result<SecretState, String> {
        for _ in 0..TRIES {
            match self.state(name, stack_id).await? {
                SecretState::BeingDeleted => tokio::time::sleep(PAUSE).await,
                state => return Ok(state),
            }
        }
        self.state(name, stack_id).await
    }

    /// The value of a secret; none where it is missing, being deleted, or not this stack's and out of the role's reach.
    pub(crate) async fn value_if_there(&self, name: &str, stack_id: &str) -> Result<Option<String>, ReadFailure> {
        self.version_if_there(name, stack_id, "AWSCURRENT").await
    }

    /// The value that a secret had before the present one.
    pub(crate) async fn earlier_value_if_there(
        &self,
        name: &str,
        stack_id: &str,
    ) -> Result<Option<String>, ReadFailure> {
        self.version_if_there(name, stack_id, "AWSPREVIOUS").await
    }

    async fn version_if_there(&self, name: &str, stack_id: &str, stage: &str) -> Result<Option<String>, ReadFailure> {
        match self.client.get_secret_value().secret_id(name).version_stage(stage).send().await {
            Ok(secret) => Ok(secret.secret_string),
            Err(error) if is_not_found(&error) => Ok(None),
            // A secret of this stack may be out of reach because of its KMS key.
            Err(error) if is_out_of_reach(&error) && !self.is_ours(name, stack_id).await => Ok(None),
            Err(error) => Err(ReadFailure { why: error_summary(&error), is_out_of_reach: is_out_of_reach(&error) }),
        }
    }

    /// Whether this stack made the secret, as far as the role may see that.
    async fn is_ours(&self, name: &str, stack_id: &str) -> bool {
        matches!(self.state(name, stack_id).await, Ok(SecretState::Ours { .. }))
    }

    pub(crate) async fn value_of(&self, name: &str) -> Result<String, String> {
        let secret =
            self.client.get_secret_value().secret_id(name).send().await.map_err(|error| error_summary(&error))?;
        Ok(secret.secret_string.unwrap_or_default())
    }

    /// Creates the secret. Where another secret of the name is still being deleted, it waits for that.
    pub(crate) async fn create(&self, name: &str, stack_id: &str, kms_key: &str, value: String) -> Result<(), String> {
        let owner = Tag::builder().key(OWNER).value(stack_id).build();
        let create = self.client.create_secret().name(name).secret_string(value).tags(owner);
        let create = create.description("The client certificate that operation-request calls Coiote with");
        let create = create.set_kms_key_id((!kms_key.is_empty()).then(|| kms_key.to_owned()));
        let created = (|| create.clone().send())
            .retry(ConstantBuilder::default().with_delay(PAUSE).with_max_times(TRIES))
            .when(|error| {
                let is_deleted = error.message().is_some_and(|message| message.contains("deletion"));
                error.code() == Some("InvalidRequestException") && is_deleted
            })
            .await;
        created.map(drop).map_err(|error| error_summary(&error))
    }

    /// Tags the secret with its stack and the properties in force, which are empty while they are being changed.
    pub(crate) async fn mark(&self, name: &str, stack_id: &str, in_force: &str) -> Result<(), String> {
        let tags = [(OWNER, stack_id), (IN_FORCE, in_force)];
        let tags = tags.map(|(key, value)| Tag::builder().key(key).value(value).build());
        let tag = self.client.tag_resource().secret_id(name).set_tags(Some(tags.into()));
        tag.send().await.map(drop).map_err(|error| error_summary(&error))
    }

    pub(crate) async fn put(&self, name: &str, value: String) -> Result<(), String> {
        self.client
            .put_secret_value()
            .secret_id(name)
            .secret_string(value)
            .send()
            .await
            .map(drop)
            .map_err(|e| error_summary(&e))
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<(), String> {
        // At once: a stack that is deployed again under the same name needs the name.
        match self.client.delete_secret().secret_id(name).force_delete_without_recovery(true).send().await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(error_summary(&error)),
        }
    }
}

/// Whether the secret cannot be read: it is missing or not this stack's, which the role may not see, its key cannot be used, or it
/// is being deleted.
fn is_out_of_reach(error: &impl ProvideErrorMetadata) -> bool {
    matches!(error.code(), Some("AccessDeniedException" | "DecryptionFailure" | "InvalidRequestException"))
}

/// Account, region and name of a stack, without the UUID that differs between stacks of one name:
/// `arn:aws:cloudformation:<region>:<account>:stack/<name>/<uuid>`.
fn stack(stack_id: &str) -> Option<&str> {
    stack_id.rsplit_once('/').map(|(stack, _)| stack)
}

/// The certificate in a secret's value.
pub(crate) fn certificate_in(value: &str) -> Option<String> {
    parse(value).certificate_pem
}

/// All client certificates that a Coiote may have, by a secret's value: the one in it, of the Coiote with that URL, and those that
/// could not be removed.
pub(crate) fn registered_certificates(value: &str, coiote_url: &str) -> Vec<RegisteredCertificate> {
    let ClientSecret { certificate_pem, not_removed } = parse(value);
    let in_use = certificate_pem
        .map(|certificate_pem| RegisteredCertificate { certificate_pem, coiote_url: coiote_url.to_owned() });
    in_use.into_iter().chain(not_removed).collect()
}

/// A secret's value, with the note that a Coiote may also have another certificate.
pub(crate) fn with_not_removed(value: &str, certificate: &RegisteredCertificate) -> String {
    let Ok(Json::Object(mut fields)) = serde_json::from_str(value) else { return value.to_owned() };
    let not_removed: Vec<_> = parse(value).not_removed.iter().chain([certificate]).map(|noted| json!(noted)).collect();
    fields.insert("notRemoved".to_owned(), not_removed.into());
    Json::Object(fields).to_string()
}

/// Parses a secret's value; one in another form counts as empty.
fn parse(value: &str) -> ClientSecret {
    serde_json::from_str(value).unwrap_or_default()
}

/// The secret's value, in the form that operation-request reads.
pub(crate) fn value(certificate: &ClientCertificate, user: &User) -> String {
    let mut value = json!({"certificatePem": certificate.certificate_pem, "privateKey": certificate.private_key});
    if let (Some(ca_pem), Some(value)) = (user.ca_pem(), value.as_object_mut()) {
        value.insert("caPem".to_owned(), ca_pem.into());
    }
    value.to_string()
}
