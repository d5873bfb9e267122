//! Properties of the custom resource, from the template.

use serde::Deserialize;
use serde_json::Value as Json;

use crate::client_certificate::KeyType;

/// The properties of the custom resource. Equal fingerprints are of the same integration.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Properties {
    /// In its normal form, so that another spelling is no other Coiote.
    #[serde(deserialize_with = "url")]
    pub(crate) coiote_url: String,
    /// As it was given.
    #[serde(skip)]
    given_url: String,
    /// Name or ARN of the secret with the Coiote user that sets the integration up.
    pub(crate) user_secret: String,
    /// Name of the secret that operation-request reads its certificate from.
    pub(crate) client_secret: String,
    /// KMS key that encrypts the client's secret from its creation; empty for the AWS managed key.
    #[serde(default)]
    pub(crate) kms_key: String,
    /// Policy of Coiote's certificate at IoT Core; no other certificate has it.
    pub(crate) policy_name: String,
    pub(crate) key_type: KeyType,
    /// A number or a text: CloudFormation passes numbers on as text.
    #[serde(deserialize_with = "days")]
    pub(crate) validity_days: u32,
    /// Any text; a change renews the certificates.
    #[serde(default)]
    pub(crate) rotation: String,
}

impl Properties {
    pub(crate) fn read(json: Json) -> Result<Properties, String> {
        let given_url = json.get("CoioteUrl").and_then(Json::as_str).unwrap_or_default().to_owned();
        let read: Result<Properties, _> = serde_json::from_value(json);
        let of_resource = |error| format!("the properties of the custom resource: {error}");
        Ok(Properties { given_url, ..read.map_err(of_resource)? })
    }

    /// Digest that differs between properties of different integrations, short enough for a tag.
    pub(crate) fn fingerprint(&self) -> String {
        self.fingerprint_with(&self.coiote_url)
    }

    /// The same as version 0.1.0 made it, with the URL as it was given.
    pub(crate) fn earlier_fingerprint(&self) -> String {
        self.fingerprint_with(&self.given_url)
    }

    fn fingerprint_with(&self, url: &str) -> String {
        // Destructured, so that a new property that is missing here does not compile.
        let Properties {
            coiote_url: _,
            given_url: _,
            user_secret,
            client_secret,
            kms_key,
            policy_name,
            key_type,
            validity_days,
            rotation,
        } = self;
        let key_type = format!("{key_type:?}");
        let days = validity_days.to_string();
        let all = [url, user_secret, client_secret, kms_key, policy_name, &key_type, &days, rotation];
        let json = serde_json::json!(all).to_string();
        let digest = ring::digest::digest(&ring::digest::SHA256, json.as_bytes());
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// An invalid URL stays as it is: a rollback has to read it as the old one, and calls refuse it.
fn url<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let url = String::deserialize(deserializer)?;
    Ok(coiote::base_url(&url).unwrap_or(url))
}

fn days<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let json = Json::deserialize(deserializer)?;
    let days = match &json {
        Json::String(text) => text.parse().ok(),
        other => other.as_u64().and_then(|days| days.try_into().ok()),
    };
    days.filter(|days| *days > 0).ok_or_else(|| serde::de::Error::custom("ValidityDays is not a number of days"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn properties_are_read_as_cloudformation_passes_them_on() {
        let json = json!({
            "ServiceToken": "arn", "ServiceTimeout": "300", "CoioteUrl": "https://c:8088", "UserSecret": "u",
            "ClientSecret": "c", "PolicyName": "p", "KeyType": "EC_P256", "ValidityDays": "365",
        });
        let properties = Properties::read(json.clone()).unwrap();
        assert_eq!(
            (properties.validity_days, properties.key_type, properties.rotation.as_str()),
            (365, KeyType::EcP256, "")
        );

        let other = [("CoioteUrl", "https://d"), ("KeyType", "EC_P384"), ("ValidityDays", "366"), ("Rotation", "1")];
        for (field, value) in other {
            let mut json = json.clone();
            json[field] = value.into();
            assert_ne!(Properties::read(json).unwrap().fingerprint(), properties.fingerprint(), "{field}");
        }
        assert_eq!(Properties::read(json.clone()).unwrap().fingerprint(), properties.fingerprint());

        for other in ["https://C:8088", "https://c:8088/", "not https"] {
            let mut json = json.clone();
            json["CoioteUrl"] = other.into();
            let read = Properties::read(json).unwrap();
            assert_eq!(read.fingerprint() == properties.fingerprint(), other != "not https", "{other}");
            assert_ne!(read.earlier_fingerprint(), properties.earlier_fingerprint(), "{other}");
        }

        for (field, value) in [("ValidityDays", json!("0")), ("ValidityDays", json!("x")), ("KeyType", json!("DSA"))] {
            let mut json = json.clone();
            json[field] = value;
            assert!(Properties::read(json).is_err(), "{field}");
        }
    }
}
