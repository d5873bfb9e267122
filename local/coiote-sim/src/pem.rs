//! Certificates and keys from PEM files and PEM text.

use std::path::Path;

use ring::digest::{SHA256, digest};
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

/// All certificates of a file, at least one.
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

/// Private key of a file.
pub(crate) fn key(option: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| file_error(option, path, "private key", e.to_string()))
}

/// Text of a PEM file.
pub(crate) fn text(option: &'static str, path: &Path, what: &'static str) -> Result<String, PemError> {
    std::fs::read_to_string(path).map_err(|e| file_error(option, path, what, e.to_string()))
}

/// First certificate of a PEM text.
pub(crate) fn certificate_in(text: &str) -> Result<CertificateDer<'static>, PemError> {
    CertificateDer::from_pem_slice(text.as_bytes()).map_err(|e| PemError::Text(e.to_string()))
}

/// SHA-256 of the DER form in hexadecimal, by which logs and the control API name a certificate.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    digest(&SHA256, certificate).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn file_error(option: &'static str, path: &Path, what: &'static str, reason: String) -> PemError {
    PemError::File { option, path: path.display().to_string(), reason, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_sha_256() {
        let fingerprint = fingerprint(&CertificateDer::from(b"abc".to_vec()));
        assert_eq!(fingerprint, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
