//! The secrets: the Coiote user that sets the integration up, and the certificate that operation-request reads.

use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::ProvideErrorMetadata;
use aws_sdk_secretsmanager::types::Tag;
use backon::{ConstantBuilder, Retryable};
use coiote::User;
use lambda_support::aws::error_summary;
use serde_json::{Value as Json, json};

use crate::client_certificate::ClientCertificate;
use crate::iot::is_not_found;

/// Tag that says whose secret it is: one that somebody else made is never written or deleted.
const OWNER: &str = "coiote-aws-iot:stack";

/// Tag with the fingerprint of the properties in force; empty while they are being changed.
///
/// CloudFormation takes a failed Update back by a second one, with old and new properties swapped. By this tag it is known
/// that there is nothing to do then. Of the reversed properties:
/// <https://docs.aws.amazon.com/cdk/api/v2/docs/aws-cdk-lib.custom_resources-readme.html#important-cases-to-handle>.
const IN_FORCE: &str = "coiote-aws-iot:in-force";

/// Pause before it is looked again whether a secret's name is free.
const PAUSE: Duration = Duration::from_secs(1);

/// Times that it is looked: a secret that was deleted without recovery keeps its name for a while.
const TRIES: usize = 60;

pub(crate) struct Secrets {
    client: Client,
}

/// What is there under the name of the client's secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Nothing,
    Ours {
        /// Fingerprint of the properties that its certificate was made with.
        in_force: String,
    },
    /// Made by a stack of this one's name that is gone: two of one name cannot be there at a time.
    LeftBehind,
    SomebodyElses,
    /// Its name is free when AWS has deleted it.
    BeingDeleted,
}

impl Secrets {
    pub(crate) fn new(client: Client) -> Secrets {
        Secrets { client }
    }

    pub(crate) async fn user(&self, id: &str) -> Result<User, String> {
        User::from_secret(&self.value_of(id).await?).map_err(|error| error.to_string())
    }

    pub(crate) async fn held(&self, name: &str, stack_id: &str) -> Result<Held, String> {
        let secret = match self.client.describe_secret().secret_id(name).send().await {
            Ok(secret) => secret,
            Err(error) if is_not_found(&error) => return Ok(Held::Nothing),
            Err(error) => return Err(error_summary(&error)),
        };
        if secret.deleted_date().is_some() {
            return Ok(Held::BeingDeleted);
        }
        let tag = |key| secret.tags().iter().find(|tag| tag.key() == Some(key)).and_then(Tag::value);
        Ok(match tag(OWNER) {
            Some(owner) if owner == stack_id => Held::Ours { in_force: tag(IN_FORCE).unwrap_or_default().to_owned() },
            Some(owner) if stack(owner) == stack(stack_id) => Held::LeftBehind,
            _ => Held::SomebodyElses,
        })
    }

    /// What is there once no deletion is under way any more, or still [`Held::BeingDeleted`] after a minute.
    pub(crate) async fn held_for_good(&self, name: &str, stack_id: &str) -> Result<Held, String> {
        for _ in 0..TRIES {
            match self.held(name, stack_id).await? {
                Held::BeingDeleted => tokio::time::sleep(PAUSE).await,
                held => return Ok(held),
            }
        }
        self.held(name, stack_id).await
    }

    /// The value of a secret; nothing where it is not there, is being deleted, or is none that the role may see.
    pub(crate) async fn value_if_there(&self, name: &str) -> Result<Option<String>, String> {
        self.version_if_there(name, "AWSCURRENT").await
    }

    /// The value that a secret had before the present one.
    pub(crate) async fn earlier_value_if_there(&self, name: &str) -> Result<Option<String>, String> {
        self.version_if_there(name, "AWSPREVIOUS").await
    }

    async fn version_if_there(&self, name: &str, stage: &str) -> Result<Option<String>, String> {
        match self.client.get_secret_value().secret_id(name).version_stage(stage).send().await {
            Ok(secret) => Ok(secret.secret_string),
            Err(error) if is_not_found(&error) || is_out_of_reach(&error) => Ok(None),
            Err(error) => Err(error_summary(&error)),
        }
    }

    pub(crate) async fn value_of(&self, name: &str) -> Result<String, String> {
        let secret =
            self.client.get_secret_value().secret_id(name).send().await.map_err(|error| error_summary(&error))?;
        Ok(secret.secret_string.unwrap_or_default())
    }

    /// Waits for the name where a secret that had it is still being deleted.
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

    /// Notes whose secret it is, and the properties in force: none, as an empty text, while they are being changed.
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

/// Whether the role may not see the secret, because it is not there or not this stack's, or nobody may: it is being deleted.
fn is_out_of_reach(error: &impl ProvideErrorMetadata) -> bool {
    matches!(error.code(), Some("AccessDeniedException" | "InvalidRequestException"))
}

/// Account, region and name of a stack, without what tells it from others of its name:
/// `arn:aws:cloudformation:<region>:<account>:stack/<name>/<uuid>`.
fn stack(stack_id: &str) -> Option<&str> {
    stack_id.rsplit_once('/').map(|(stack, _)| stack)
}

/// The certificate in a secret's value.
pub(crate) fn certificate_in(value: &str) -> Option<String> {
    let json: Json = serde_json::from_str(value).ok()?;
    json.get("certificatePem").and_then(Json::as_str).map(str::to_owned)
}

/// The form that operation-request reads.
pub(crate) fn value(certificate: &ClientCertificate, user: &User) -> String {
    let mut value = json!({"certificatePem": certificate.certificate_pem, "privateKey": certificate.private_key});
    if let (Some(ca_pem), Some(value)) = (user.ca_pem(), value.as_object_mut()) {
        value.insert("caPem".to_owned(), ca_pem.into());
    }
    value.to_string()
}
