//! Topics of operation shadows, and the responses on them.
//!
//! See "Device Shadow MQTT topics" and "Response state documents" in the AWS IoT Core Developer Guide.

use serde::Deserialize;

/// The fields used of the messages on `update/accepted` and `update/rejected`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UpdateResponse {
    pub(super) client_token: Option<String>,
    pub(super) version: Option<u64>,
    pub(super) code: Option<u64>,
    #[serde(default)]
    pub(super) message: String,
}

/// Topic for updates of the operation shadow.
pub(super) fn update_topic(endpoint: &str) -> String {
    format!("$aws/things/{endpoint}/shadow/name/operation/update")
}

/// Topics on which AWS accepts and rejects updates of the operation shadow.
pub(super) fn response_topics(endpoint: &str) -> [String; 2] {
    ["accepted", "rejected"].map(|word| format!("{}/{word}", update_topic(endpoint)))
}

/// Endpoint name in a response topic, and whether the topic is the one for accepted updates.
pub(super) fn parse_response_topic(topic: &str) -> Option<(&str, bool)> {
    let (endpoint, rest) = topic.strip_prefix("$aws/things/")?.split_once('/')?;
    match rest {
        "shadow/name/operation/update/accepted" => Some((endpoint, true)),
        "shadow/name/operation/update/rejected" => Some((endpoint, false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_its_own_topics() {
        let [accepted, rejected] = response_topics("urn:dev:1");
        assert_eq!(accepted, "$aws/things/urn:dev:1/shadow/name/operation/update/accepted");
        assert_eq!(parse_response_topic(&accepted), Some(("urn:dev:1", true)));
        assert_eq!(parse_response_topic(&rejected), Some(("urn:dev:1", false)));
        assert_eq!(parse_response_topic("$aws/things/urn:dev:1/shadow/update/accepted"), None);
    }
}
