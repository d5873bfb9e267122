//! Messages that Coiote publishes without a task: a device is new, registers, notifies or sends.
//!
//! Each message waits in the outbox until AWS has confirmed it, over reconnects and restarts.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

const ANNOUNCEMENT_TOPIC: &str = "createThing";
/// Characters that Coiote encodes in endpoint names: all but the unreserved ones of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Kind of a publication, which decides its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum PublicationKind {
    /// Announcement of a new device.
    Announcement,
    /// The device's connectivity parameters, for the classic shadow.
    Connectivity,
    /// Values of the device, for the datamodel shadow.
    DataModel,
}

/// Message about a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Publication {
    pub(crate) endpoint: String,
    #[serde(rename = "about")]
    pub(crate) kind: PublicationKind,
    pub(crate) payload: Value,
}

impl Publication {
    /// Announces a device. `device_type` is manufacturer and model, as Coiote joins them.
    pub(crate) fn announcement(endpoint: &str, device_type: &str) -> Self {
        let payload = json!({"coioteDeviceId": utf8_percent_encode(endpoint, ENCODED).to_string(), "coioteDeviceType": device_type});
        Self { endpoint: endpoint.to_owned(), kind: PublicationKind::Announcement, payload }
    }

    pub(crate) fn connectivity(endpoint: &str, properties: Map<String, Value>) -> Self {
        let payload = json!({"state": {"reported": properties}});
        Self { endpoint: endpoint.to_owned(), kind: PublicationKind::Connectivity, payload }
    }

    pub(crate) fn data_model(endpoint: &str, values: Map<String, Value>) -> Self {
        let payload = json!({"state": {"reported": values}});
        Self { endpoint: endpoint.to_owned(), kind: PublicationKind::DataModel, payload }
    }

    pub(crate) fn topic(&self) -> String {
        match self.kind {
            PublicationKind::Announcement => ANNOUNCEMENT_TOPIC.to_owned(),
            PublicationKind::Connectivity => format!("$aws/things/{}/shadow/update", self.endpoint),
            PublicationKind::DataModel => format!("$aws/things/{}/shadow/name/datamodel/update", self.endpoint),
        }
    }
}

/// Whether the endpoint name can be the name of a thing: only then the device has shadows.
///
/// The rule is that of `thingName` in AWS IoT's API: up to 128 of `a-zA-Z0-9:_-`.
pub(crate) fn is_thing_name(endpoint: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":_-".contains(c);
    (1..=128).contains(&endpoint.len()) && endpoint.chars().all(allowed)
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

    /// Whether the announcement of the device waits.
    pub(crate) fn announces(&self, endpoint: &str) -> bool {
        self.waiting
            .values()
            .any(|waiting| waiting.kind == PublicationKind::Announcement && waiting.endpoint == endpoint)
    }

    /// Drops all publications. Numbers go on, so that none stands for two publications.
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
            assert_eq!(utf8_percent_encode(endpoint, ENCODED).to_string(), encoded);
            assert_eq!(is_thing_name(endpoint), thing, "{endpoint}");
        }
        assert!(is_thing_name(&"a".repeat(128)) && !is_thing_name(&"a".repeat(129)));
    }
}
