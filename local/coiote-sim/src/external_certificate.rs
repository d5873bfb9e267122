//! The certificate that Coiote connects to AWS IoT with. The set-up of the integration gives it, and its key.

use std::fmt;
use std::path::Path;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::pem::{self, PemError};

#[derive(Debug, Error)]
pub(crate) enum ExternalCertificateError {
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("certificatePem: {0}")]
    Certificate(String),
    /// Without a reason, which could quote the key.
    #[error("privateKey: not a PEM private key that TLS can use")]
    Key,
    #[error("certificatePem and privateKey do not belong together: {0}")]
    Mismatch(rustls::Error),
}

/// Certificate with its chain and its private key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Pem", into = "Pem")]
pub(crate) struct ExternalCertificate {
    pem: Pem,
    certificate: CertificateDer<'static>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Pem {
    certificate_pem: String,
    private_key: String,
}

impl ExternalCertificate {
    pub(crate) fn new(certificate_pem: String, private_key: String) -> Result<Self, ExternalCertificateError> {
        let pem = Pem { certificate_pem, private_key };
        let chain = pem.chain()?;
        let certificate = chain
            .first()
            .cloned()
            .ok_or_else(|| ExternalCertificateError::Certificate("it holds no PEM certificate".to_owned()))?;
        let provider = ring::default_provider();
        let key = provider.key_provider.load_private_key(pem.key()?).map_err(|_| ExternalCertificateError::Key)?;
        match CertifiedKey::new(chain, key).keys_match() {
            Ok(()) => Ok(Self { pem, certificate }),
            Err(error) => Err(ExternalCertificateError::Mismatch(error)),
        }
    }

    /// From the files of `--iot-cert` and `--iot-key`.
    pub(crate) fn from_files(certificate: &Path, key: &Path) -> Result<Self, ExternalCertificateError> {
        Self::new(pem::text("--iot-cert", certificate, "certificate")?, pem::text("--iot-key", key, "private key")?)
    }

    pub(crate) fn fingerprint(&self) -> String {
        pem::fingerprint(&self.certificate)
    }

    /// Chain and key, for a TLS client.
    pub(crate) fn identity(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ExternalCertificateError> {
        Ok((self.pem.chain()?, self.pem.key()?))
    }
}

impl Pem {
    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, ExternalCertificateError> {
        CertificateDer::pem_slice_iter(self.certificate_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| ExternalCertificateError::Certificate(error.to_string()))
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, ExternalCertificateError> {
        PrivateKeyDer::from_pem_slice(self.private_key.as_bytes()).map_err(|_| ExternalCertificateError::Key)
    }
}

impl TryFrom<Pem> for ExternalCertificate {
    type Error = ExternalCertificateError;

    fn try_from(pem: Pem) -> Result<Self, ExternalCertificateError> {
        Self::new(pem.certificate_pem, pem.private_key)
    }
}

impl From<ExternalCertificate> for Pem {
    fn from(certificate: ExternalCertificate) -> Self {
        certificate.pem
    }
}

/// Shows the fingerprint only: the key gets into no log.
impl fmt::Debug for ExternalCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExternalCertificate").field(&self.fingerprint()).finish()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::generate_simple_self_signed;

    use super::*;

    /// Certificate and key, in PEM.
    pub(crate) fn made() -> (String, String) {
        let made = generate_simple_self_signed(vec!["coiote".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn refuses_a_certificate_without_its_own_key() {
        let ((certificate, key), (other, other_key)) = (made(), made());
        let taken = ExternalCertificate::new(format!("{certificate}{other}"), key.clone()).unwrap();
        assert_eq!(taken.fingerprint().len(), 64);
        assert_eq!(taken.identity().unwrap().0.len(), 2);
        assert!(!format!("{taken:?}").contains("PRIVATE"));
        for (certificate, key, part) in [
            (certificate.as_str(), other_key.as_str(), "do not belong together"),
            ("", key.as_str(), "certificatePem: it holds no PEM certificate"),
            ("nonsense", key.as_str(), "certificatePem: "),
            (certificate.as_str(), "", "privateKey: "),
            (certificate.as_str(), certificate.as_str(), "privateKey: "),
        ] {
            let error = ExternalCertificate::new(certificate.to_owned(), key.to_owned()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn is_read_as_it_was_written() {
        let (certificate, key) = made();
        let one = ExternalCertificate::new(certificate, key).unwrap();
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<ExternalCertificate>(&text).unwrap(), one);
    }
}
