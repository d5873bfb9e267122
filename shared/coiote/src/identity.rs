//! Credentials for Coiote, and the root certificates that the client trusts.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine};
use reqwest::header::HeaderValue;
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder};
use serde::Deserialize;
use x509_cert::der::Decode;
use x509_cert::der::oid::ObjectIdentifier;

/// Object identifier of a common name (RFC 5280, id-at-commonName).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// Client certificate with its private key, from the secret. Its form is that of AVSystem's own stack, with `caPem` added.
#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    certificate_pem: String,
    private_key: String,
    /// Root certificates to trust for Coiote beside the public ones.
    ca_pem: Option<String>,
}

/// Defect of a secret. Its message never contains a part of the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSecret(String);

impl Identity {
    /// Reads the secret's text.
    pub fn from_secret(secret: &str) -> Result<Identity, InvalidSecret> {
        // serde_json's own message may quote from the secret, so it is not passed on.
        let json: serde_json::Value =
            serde_json::from_str(secret).map_err(|_| InvalidSecret("the secret is not JSON".into()))?;
        for field in ["certificatePem", "privateKey"] {
            if !json.get(field).is_some_and(serde_json::Value::is_string) {
                return Err(InvalidSecret(format!("the secret has no string \"{field}\"")));
            }
        }
        serde_json::from_value(json).map_err(|_| InvalidSecret("the secret's \"caPem\" is not a string".into()))
    }

    /// Time at which the client certificate expires; `None` if it cannot be read.
    pub fn expires_at(&self) -> Option<SystemTime> {
        expires_at(&self.certificate_pem)
    }

    pub(crate) fn tls(&self) -> Result<ClientConfig, InvalidSecret> {
        let invalid =
            |field: &'static str| move |_| InvalidSecret(format!("the secret's \"{field}\" is not valid PEM"));
        let chain = certificates(&self.certificate_pem).map_err(invalid("certificatePem"))?;
        let key = PrivateKeyDer::from_pem_slice(self.private_key.as_bytes()).map_err(invalid("privateKey"))?;

        tls_config_builder(self.ca_pem.as_deref())?
            .with_client_auth_cert(chain, key)
            .map_err(|_| InvalidSecret("the secret's certificate and private key do not belong together".into()))
    }
}

/// Time at which the first certificate of a PEM text expires; `None` if it cannot be read.
pub fn expires_at(certificate_pem: &str) -> Option<SystemTime> {
    let certificate = first_certificate(certificate_pem)?;
    UNIX_EPOCH.checked_add(certificate.tbs_certificate.validity.not_after.to_unix_duration())
}

/// Common name of the first certificate of a PEM text; `None` if it has none, or cannot be read.
pub fn common_name(certificate_pem: &str) -> Option<String> {
    let certificate = first_certificate(certificate_pem)?;
    let mut attributes = certificate.tbs_certificate.subject.0.iter().flat_map(|name| name.0.iter());
    let name = attributes.find(|attribute| attribute.oid == COMMON_NAME)?.value.value();
    String::from_utf8(name.to_vec()).ok()
}

fn first_certificate(pem: &str) -> Option<x509_cert::Certificate> {
    x509_cert::Certificate::from_der(certificates(pem).ok()?.first()?).ok()
}

/// User of Coiote that sets the integration up, from the user's secret.
#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct User {
    username: String,
    password: String,
    /// Root certificates to trust for Coiote beside the public ones.
    ca_pem: Option<String>,
}

impl User {
    /// Reads the secret's text.
    pub fn from_secret(secret: &str) -> Result<User, InvalidSecret> {
        serde_json::from_str(secret).map_err(|_| {
            InvalidSecret("the secret of the Coiote user is not JSON with \"username\" and \"password\"".into())
        })
    }

    /// User name.
    pub fn name(&self) -> &str {
        &self.username
    }

    /// Root certificates to trust for Coiote beside the public ones.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    pub(crate) fn tls(&self) -> Result<ClientConfig, InvalidSecret> {
        Ok(tls_config_builder(self.ca_pem())?.with_no_client_auth())
    }

    /// Value of the header `Authorization` (RFC 7617).
    pub(crate) fn authorization(&self) -> Result<HeaderValue, InvalidSecret> {
        let credentials = BASE64_STANDARD.encode(format!("{}:{}", self.username, self.password));
        let header = HeaderValue::from_str(&format!("Basic {credentials}"));
        let mut header = header.map_err(|_| InvalidSecret("the Coiote user's password cannot be sent".into()))?;
        header.set_sensitive(true);
        Ok(header)
    }
}

/// Begins a TLS configuration that trusts the public roots and those in `ca_pem`.
fn tls_config_builder(ca_pem: Option<&str>) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, InvalidSecret> {
    let roots = certificates(ca_pem.unwrap_or_default());
    let roots = roots.map_err(|_| InvalidSecret("the secret's \"caPem\" is not valid PEM".into()))?;
    trust_roots::tls_config_builder(roots)
        .map_err(|_| InvalidSecret("the secret's \"caPem\" holds no valid certificate".into()))
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defect_of_a_secret_is_named_without_its_content() {
        for (secret, expected) in [
            ("s3cret", "the secret is not JSON"),
            (r#""s3cret""#, r#"the secret has no string "certificatePem""#),
            (r#"{"certificatePem": "s3cret"}"#, r#"the secret has no string "privateKey""#),
            (r#"{"certificatePem": "s3cret", "privateKey": 1}"#, r#"the secret has no string "privateKey""#),
            (r#"{"certificatePem": "a", "privateKey": "b", "caPem": 1}"#, r#"the secret's "caPem" is not a string"#),
        ] {
            assert_eq!(Identity::from_secret(secret).map(|_| ()).unwrap_err().to_string(), expected);
        }
        let identity = Identity::from_secret(r#"{"certificatePem": "", "privateKey": "s3cret"}"#).unwrap();
        assert_eq!(identity.tls().unwrap_err().to_string(), r#"the secret's "privateKey" is not valid PEM"#);
    }
}
