//! The user who may set the integration up: HTTP Basic (RFC 7617), as Coiote's own users authenticate.

use std::fs;
use std::path::Path;

use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum CredentialsError {
    #[error("--user: the name is empty or holds a colon, which Basic authentication has no way to send.")]
    Name,
    #[error("--password-file {path}: {reason}. Give a readable file that holds the password, and nothing else.")]
    File { path: String, reason: String },
}

/// What the header has to hold. It is no `Debug`: it goes into no log.
pub(crate) struct Credentials {
    encoded: String,
}

impl Credentials {
    /// A line break at the end of the file is the editor's, and no part of the password.
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
        Ok(Self { encoded: base64(format!("{user}:{password}").as_bytes()) })
    }

    /// Whether the value of an `Authorization` header is the right one.
    pub(crate) fn are_in(&self, header: &[u8]) -> bool {
        let Some((scheme, rest)) = header.split_at_checked("Basic ".len()) else { return false };
        scheme.eq_ignore_ascii_case(b"Basic ") && rest == self.encoded.as_bytes()
    }
}

/// RFC 4648, section 4. What arrives is compared with it, so nothing has to be decoded.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = (0..3).fold(0, |number, at| number << 8 | usize::from(group.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let letter = ALPHABET.get(number >> (18 - 6 * at) & 63).filter(|_| at <= group.len());
            text.push(letter.map_or('=', |letter| char::from(*letter)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_as_the_rfc_shows() {
        for (text, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("Aladdin:open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("\u{7f}ÿ?>", "f8O/Pz4="),
        ] {
            assert_eq!(base64(text.as_bytes()), encoded, "{text:?}");
        }
    }

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
