//! The certificate that operation-request calls Coiote with. It is self-signed, because Coiote registers it as it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, date_time_ymd,
};
use rsa::RsaPrivateKey;
use rsa::pkcs8::{EncodePrivateKey, LineEnding};
use serde::Deserialize;

/// Time before it is made at which a certificate becomes valid: clocks differ.
const EARLIER: Duration = Duration::from_secs(300);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Object identifier of an e-mail address (RFC 2985, PKCS #9 emailAddress).
const EMAIL_ADDRESS: &[u64] = &[1, 2, 840, 113549, 1, 9, 1];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum KeyType {
    #[serde(rename = "RSA_2048")]
    Rsa2048,
    #[serde(rename = "RSA_4096")]
    Rsa4096,
    #[serde(rename = "EC_P256")]
    EcP256,
    #[serde(rename = "EC_P384")]
    EcP384,
}

/// Certificate and key, both PEM. It has no `Debug`, so that the key is not printed by mistake.
pub(crate) struct ClientCertificate {
    pub(crate) certificate_pem: String,
    pub(crate) private_key: String,
}

impl ClientCertificate {
    /// Makes a certificate for the Coiote user, as common name and as e-mail address: AVSystem's own stack does so, too.
    pub(crate) fn new(user: &str, key_type: KeyType, validity_days: u32) -> Result<ClientCertificate, String> {
        let key = key(key_type)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = date_time_ymd(1970, 1, 1);
        let mut params = CertificateParams::default();
        params.not_before = epoch + now.saturating_sub(EARLIER);
        params.not_after = epoch + now.saturating_add(DAY.saturating_mul(validity_days));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Ok(address) = user.try_into() {
            params.distinguished_name.push(DnType::from_oid(EMAIL_ADDRESS), DnValue::Ia5String(address));
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.self_signed(&key).map_err(|error| format!("the certificate: {error}"))?;
        Ok(ClientCertificate { certificate_pem: certificate.pem(), private_key: key.serialize_pem() })
    }
}

fn key(key_type: KeyType) -> Result<KeyPair, String> {
    let bits = match key_type {
        KeyType::EcP256 => return KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| error.to_string()),
        KeyType::EcP384 => return KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).map_err(|error| error.to_string()),
        KeyType::Rsa2048 => 2048,
        KeyType::Rsa4096 => 4096,
    };
    let key = RsaPrivateKey::new(&mut rand_core::OsRng, bits).map_err(|error| error.to_string())?;
    let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|error| error.to_string())?;
    KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &PKCS_RSA_SHA256).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_type_makes_a_certificate() {
        for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
            let made = ClientCertificate::new("user@example.com", key_type, 30).unwrap();
            assert!(made.certificate_pem.starts_with("-----BEGIN CERTIFICATE-----"));
            assert!(made.private_key.starts_with("-----BEGIN PRIVATE KEY-----"));
            assert!(KeyPair::from_pem(&made.private_key).is_ok());
        }
    }

    #[test]
    fn a_user_name_may_be_no_e_mail_address() {
        let made = ClientCertificate::new("Jürgen", KeyType::EcP256, 1).unwrap();
        assert_eq!(coiote::common_name(&made.certificate_pem).as_deref(), Some("Jürgen"));
    }
}
