//! Calls that set the integration up, as a user of Coiote.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};

use crate::connection::Connection;
use crate::{Error, User};

/// Path of the certificate with which Coiote connects to AWS IoT Core.
const EXTERNAL: &str = "/awsIntegration/auth/externalCertificate";

/// Path of the certificates with which [`Client`](crate::Client) authenticates.
const CLIENTS: &str = "/auth/certificates";

/// Time limit of a call. It may be long, as only the deployment of a stack waits for it.
const CALL_LIMIT: Duration = Duration::from_secs(15);

/// Client that sets the integration up, authenticated by a user's password.
pub struct Setup {
    connection: Connection,
}

impl Setup {
    /// Prepares a client of the installation at `url` (`https://host:port`, without a path).
    pub fn new(url: &str, user: &User) -> Result<Setup, Error> {
        Ok(Setup { connection: Connection::new(url, user.tls()?, user.authorization()?)? })
    }

    /// Sets the certificate with which Coiote connects to AWS IoT Core.
    pub async fn set_external_certificate(&self, certificate_pem: &str, private_key: &str) -> Result<(), Error> {
        let body = json!({"certificatePem": certificate_pem, "privateKey": private_key});
        self.call(Method::POST, EXTERNAL, &body).await
    }

    /// Removes the certificate with which Coiote connects to AWS IoT Core. Returns whether there was one.
    pub async fn remove_external_certificate(&self) -> Result<bool, Error> {
        self.delete(EXTERNAL, &json!({})).await
    }

    /// Registers a client certificate, with which calls may authenticate.
    pub async fn register_client_certificate(&self, certificate_pem: &str) -> Result<(), Error> {
        self.call(Method::POST, CLIENTS, &json!({"certificatePem": certificate_pem})).await
    }

    /// Removes a client certificate. Returns whether it was registered.
    pub async fn remove_client_certificate(&self, certificate_pem: &str) -> Result<bool, Error> {
        self.delete(CLIENTS, &json!({"certificatePem": certificate_pem})).await
    }

    async fn call(&self, method: Method, path: &str, body: &Json) -> Result<(), Error> {
        self.connection
            .call(method, path, Some(body), |status: StatusCode| status.is_success(), CALL_LIMIT)
            .await
            .map(drop)
    }

    async fn delete(&self, path: &str, body: &Json) -> Result<bool, Error> {
        match self.call(Method::DELETE, path, body).await {
            Ok(()) => Ok(true),
            Err(Error::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
