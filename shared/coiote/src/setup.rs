//! The calls that set the integration up, as a user of Coiote.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};

use crate::http::Http;
use crate::{Error, User};

/// Of the certificate that Coiote connects to AWS with.
const EXTERNAL: &str = "/awsIntegration/auth/externalCertificate";

/// Of the certificates that calls for devices authenticate with.
const CLIENTS: &str = "/auth/certificates";

/// One call may take so long: nobody waits for it but the deployment of a stack.
const CALL_LIMIT: Duration = Duration::from_secs(15);

pub struct Setup {
    http: Http,
}

impl Setup {
    /// `url`: `https://host:port`, without a path.
    pub fn new(url: &str, user: &User) -> Result<Setup, Error> {
        Ok(Setup { http: Http::new(url, user.tls()?, user.authorization()?)? })
    }

    /// Coiote connects to AWS IoT Core with this certificate from now on.
    pub async fn set_external_certificate(&self, certificate_pem: &str, private_key: &str) -> Result<(), Error> {
        let body = json!({"certificatePem": certificate_pem, "privateKey": private_key});
        self.call(Method::POST, EXTERNAL, &body).await
    }

    /// Whether there was one.
    pub async fn remove_external_certificate(&self) -> Result<bool, Error> {
        self.delete(EXTERNAL, &json!({})).await
    }

    /// Calls for devices may authenticate with this certificate from now on.
    pub async fn register_client_certificate(&self, certificate_pem: &str) -> Result<(), Error> {
        self.call(Method::POST, CLIENTS, &json!({"certificatePem": certificate_pem})).await
    }

    /// Whether it was registered.
    pub async fn remove_client_certificate(&self, certificate_pem: &str) -> Result<bool, Error> {
        self.delete(CLIENTS, &json!({"certificatePem": certificate_pem})).await
    }

    async fn call(&self, method: Method, path: &str, body: &Json) -> Result<(), Error> {
        self.http.call(method, path, Some(body), |status: StatusCode| status.is_success(), CALL_LIMIT).await.map(drop)
    }

    async fn delete(&self, path: &str, body: &Json) -> Result<bool, Error> {
        match self.call(Method::DELETE, path, body).await {
            Ok(()) => Ok(true),
            Err(Error::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
