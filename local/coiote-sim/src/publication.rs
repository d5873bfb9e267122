//! What Coiote tells AWS IoT of itself, beside the results of tasks: a device is new, registers, notifies or sends.
//!
//! Each message waits here until AWS has confirmed it, over reconnects and restarts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

const ANNOUNCEMENT_TOPIC: &str = "createThing";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum About {
    /// There is a new device.
    Announcement,
    /// Its connectivity parameters, in the classic shadow.
    Connectivity,
    /// Its values, in the datamodel shadow.
    DataModel,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Publication {
    pub(crate) endpoint: String,
    pub(crate) about: About,
    pub(crate) payload: Value,
}

impl Publication {
    /// `make` is manufacturer and model, as Coiote joins them.
    pub(crate) fn announcement(endpoint: &str, make: &str) -> Self {
        let payload = json!({"coioteDeviceId": percent_encoded(endpoint), "coioteDeviceType": make});
        Self { endpoint: endpoint.to_owned(), about: About::Announcement, payload }
    }

    pub(crate) fn connectivity(endpoint: &str, properties: Map<String, Value>) -> Self {
        let payload = json!({"state": {"reported": properties}});
        Self { endpoint: endpoint.to_owned(), about: About::Connectivity, payload }
    }

    pub(crate) fn data_model(endpoint: &str, values: Map<String, Value>) -> Self {
        let payload = json!({"state": {"reported": values}});
        Self { endpoint: endpoint.to_owned(), about: About::DataModel, payload }
    }

    pub(crate) fn topic(&self) -> String {
        match self.about {
            About::Announcement => ANNOUNCEMENT_TOPIC.to_owned(),
            About::Connectivity => format!("$aws/things/{}/shadow/update", self.endpoint),
            About::DataModel => format!("$aws/things/{}/shadow/name/datamodel/update", self.endpoint),
        }
    }
}

/// Whether a device of this endpoint name can be a thing of AWS IoT (contract, section 2): only then it has shadows.
pub(crate) fn is_thing_name(endpoint: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":_-".contains(c);
    (1..=128).contains(&endpoint.len()) && endpoint.chars().all(allowed)
}

/// As Coiote encodes endpoint names: all but the unreserved characters of RFC 3986.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Publications that AWS has not confirmed, numbered in their order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    last: u64,
    waiting: BTreeMap<u64, Publication>,
}

impl Outbox {
    pub(crate) fn add(&mut self, publication: Publication) -> u64 {
        self.last += 1;
        self.waiting.insert(self.last, publication);
        self.last
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Publication> {
        self.waiting.get(&number)
    }

    pub(crate) fn confirmed(&mut self, number: u64) -> Option<Publication> {
        self.waiting.remove(&number)
    }

    pub(crate) fn waiting(&self) -> &BTreeMap<u64, Publication> {
        &self.waiting
    }

    /// Whether the announcement of the device is among what waits.
    pub(crate) fn announces(&self, endpoint: &str) -> bool {
        self.waiting.values().any(|waiting| waiting.about == About::Announcement && waiting.endpoint == endpoint)
    }

    /// Numbers go on: none stands for two publications.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_has_its_topic_and_form() {
        let values = || Map::from_iter([("Device".to_owned(), json!({"0": {"Battery Level": "96"}}))]);
        for (publication, topic, payload) in [
            (
                Publication::announcement("urn:dev:1", "anjay.demo_client"),
                "createThing",
                json!({"coioteDeviceId": "urn%3Adev%3A1", "coioteDeviceType": "anjay.demo_client"}),
            ),
            (
                Publication::connectivity("urn:dev:1", Map::from_iter([("lwm2mVersion".to_owned(), json!("1.1"))])),
                "$aws/things/urn:dev:1/shadow/update",
                json!({"state": {"reported": {"lwm2mVersion": "1.1"}}}),
            ),
            (
                Publication::data_model("urn:dev:1", values()),
                "$aws/things/urn:dev:1/shadow/name/datamodel/update",
                json!({"state": {"reported": {"Device": {"0": {"Battery Level": "96"}}}}}),
            ),
        ] {
            assert_eq!((publication.topic().as_str(), &publication.payload), (topic, &payload));
        }
    }

    #[test]
    fn endpoint_names_are_encoded_as_coiote_does() {
        for (endpoint, encoded, thing) in [
            ("urn:dev:1", "urn%3Adev%3A1", true),
            ("a-b_c", "a-b_c", true),
            ("a.b~c", "a.b~c", false),
            ("bad name/ä+%", "bad%20name%2F%C3%A4%2B%25", false),
            ("", "", false),
        ] {
            assert_eq!(percent_encoded(endpoint), encoded);
            assert_eq!(is_thing_name(endpoint), thing, "{endpoint}");
        }
        assert!(is_thing_name(&"a".repeat(128)) && !is_thing_name(&"a".repeat(129)));
    }
}
