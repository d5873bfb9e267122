//! The secrets: the Coiote user that sets the integration up, and the certificate that operation-request reads.

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::types::Tag;
use coiote::User;
use runtime::aws::told;
use serde_json::{Value as Json, json};

use crate::client_certificate::ClientCertificate;
use crate::iot::is_not_found;

/// Whose secret it is: one that somebody else made is never written or deleted.
const OWNER: &str = "coiote-aws-iot:stack";

pub(crate) struct Secrets {
    client: Client,
}

/// What is there under the name of the client's secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Nothing,
    Ours,
    SomebodyElses,
}

impl Secrets {
    pub(crate) fn new(client: Client) -> Secrets {
        Secrets { client }
    }

    pub(crate) async fn user(&self, id: &str) -> Result<User, String> {
        User::from_secret(&self.value_of(id).await?).map_err(|error| error.to_string())
    }

    pub(crate) async fn held(&self, name: &str, stack_id: &str) -> Result<Held, String> {
        match self.client.describe_secret().secret_id(name).send().await {
            Ok(secret) if secret.tags().iter().any(|tag| tag.key() == Some(OWNER) && tag.value() == Some(stack_id)) => {
                Ok(Held::Ours)
            }
            Ok(_) => Ok(Held::SomebodyElses),
            Err(error) if is_not_found(&error) => Ok(Held::Nothing),
            Err(error) => Err(told(&error)),
        }
    }

    /// The certificate in the client's secret.
    pub(crate) async fn certificate_in(&self, name: &str) -> Result<Option<String>, String> {
        let secret = match self.client.get_secret_value().secret_id(name).send().await {
            Ok(secret) => secret,
            Err(error) if is_not_found(&error) => return Ok(None),
            Err(error) => return Err(told(&error)),
        };
        let json: Json = serde_json::from_str(secret.secret_string().unwrap_or_default()).unwrap_or_default();
        Ok(json.get("certificatePem").and_then(Json::as_str).map(str::to_owned))
    }

    pub(crate) async fn value_of(&self, name: &str) -> Result<String, String> {
        let secret = self.client.get_secret_value().secret_id(name).send().await.map_err(|error| told(&error))?;
        Ok(secret.secret_string.unwrap_or_default())
    }

    pub(crate) async fn create(&self, name: &str, stack_id: &str, kms_key: &str, value: String) -> Result<(), String> {
        let owner = Tag::builder().key(OWNER).value(stack_id).build();
        let create = self.client.create_secret().name(name).secret_string(value).tags(owner);
        let create = create.description("The client certificate that operation-request calls Coiote with");
        let create = create.set_kms_key_id((!kms_key.is_empty()).then(|| kms_key.to_owned()));
        create.send().await.map(drop).map_err(|error| told(&error))
    }

    pub(crate) async fn put(&self, name: &str, value: String) -> Result<(), String> {
        self.client.put_secret_value().secret_id(name).secret_string(value).send().await.map(drop).map_err(|e| told(&e))
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<(), String> {
        // At once: a stack that is deployed again under the same name needs the name.
        match self.client.delete_secret().secret_id(name).force_delete_without_recovery(true).send().await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(told(&error)),
        }
    }
}

/// The form that operation-request reads.
pub(crate) fn value(certificate: &ClientCertificate, user: &User) -> String {
    let mut value = json!({"certificatePem": certificate.certificate_pem, "privateKey": certificate.private_key});
    if let (Some(ca_pem), Some(value)) = (user.ca_pem(), value.as_object_mut()) {
        value.insert("caPem".to_owned(), ca_pem.into());
    }
    value.to_string()
}
