//! User and password for the set-up calls: HTTP Basic (RFC 7617), as Coiote's users authenticate.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum CredentialsError {
    #[error("--user: the name is empty or holds a colon, which Basic authentication has no way to send.")]
    Name,
    #[error("--password-file {path}: {reason}. Give a readable file that holds the password, and nothing else.")]
    File { path: String, reason: String },
}

/// Expected value of the `Authorization` header. Without `Debug`, so that it gets into no log.
pub(crate) struct Credentials {
    encoded: String,
}

impl Credentials {
    /// Reads the password from a file. Line breaks at its end are the editor's, and no part of the password.
    pub(crate) fn from_file(user: &str, file: &Path) -> Result<Self, CredentialsError> {
        let failed = |reason: String| CredentialsError::File { path: file.display().to_string(), reason };
        let text = fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
        let password = text.trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            return Err(failed("it is empty".to_owned()));
        }
        Self::new(user, password)
    }

    pub(crate) fn new(user: &str, password: &str) -> Result<Self, CredentialsError> {
        if user.is_empty() || user.contains(':') {
            return Err(CredentialsError::Name);
        }
        Ok(Self { encoded: STANDARD.encode(format!("{user}:{password}")) })
    }

    /// Whether the value of an `Authorization` header holds these credentials.
    pub(crate) fn are_in(&self, header: &[u8]) -> bool {
        let Some((scheme, rest)) = header.split_at_checked("Basic ".len()) else { return false };
        scheme.eq_ignore_ascii_case(b"Basic ") && rest == self.encoded.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_right_header_only() {
        let credentials = Credentials::new("Aladdin", "open sesame").ok().unwrap();
        for (header, right) in [
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", true),
            ("basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", true),
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ", false),
            ("Basic ", false),
            ("Basic", false),
            ("", false),
            ("Certificate", false),
            ("Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", false),
        ] {
            assert_eq!(credentials.are_in(header.as_bytes()), right, "{header}");
        }
        assert!(Credentials::new("a:b", "c").is_err() && Credentials::new("", "c").is_err());
    }
}
