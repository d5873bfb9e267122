//! Certificates and keys, from PEM files and from PEM text.

use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum PemError {
    #[error("{option} {path}: {reason}. Give a readable PEM file that holds a {what}.")]
    File { option: &'static str, path: String, reason: String, what: &'static str },
    #[error("not a PEM certificate: {0}")]
    Text(String),
}

/// All certificates of a file: at least one.
pub(crate) fn certificates(option: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let error = |reason: String| file_error(option, path, "certificate", reason);
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| error(e.to_string()))?;
    if certificates.is_empty() {
        return Err(error("it holds no certificate".to_owned()));
    }
    Ok(certificates)
}

pub(crate) fn key(option: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| file_error(option, path, "private key", e.to_string()))
}

/// The first certificate of a PEM text.
pub(crate) fn certificate_in(text: &str) -> Result<CertificateDer<'static>, PemError> {
    CertificateDer::from_pem_slice(text.as_bytes()).map_err(|e| PemError::Text(e.to_string()))
}

fn file_error(option: &'static str, path: &Path, what: &'static str, reason: String) -> PemError {
    PemError::File { option, path: path.display().to_string(), reason, what }
}
