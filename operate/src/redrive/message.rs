//! Messages of the failure queue: a record of a failed invocation, a thing's name, or something else.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value as Json};
use shadow::ThingName;

/// Error of an event that is no operation at all, and would fail again.
const EVENT_INVALID: &str = "EVENT_INVALID";

/// A message, as far as it can be read.
pub(super) struct Message {
    /// Name of a thing, where the message is nothing else.
    thing: Option<ThingName>,
    /// Lambda's record of an invocation (AWS Lambda developer guide, "Adding a destination").
    record: Json,
}

/// Content of a message, by what can be done with it.
pub(super) enum Content<'a> {
    /// A thing whose answers are to be written anew.
    Thing(&'a ThingName),
    /// Note that a part of the ledger's stream was given up, which this function was to get.
    StreamNote {
        function: &'a str,
    },
    /// Event that no function takes.
    InvalidEvent,
    /// Scheduled search for executions of AWS IoT jobs, which the next search makes up for.
    Search,
    Event {
        function: &'a str,
        event: &'a Map<String, Json>,
    },
    Unknown,
}

impl Message {
    /// Reads the body of a message. A record is an object: names such as `17` and `true` are JSON as well.
    pub(super) fn read(body: &str) -> Message {
        match serde_json::from_str(body) {
            Ok(record @ Json::Object(_)) => Message { thing: None, record },
            _ => Message { thing: ThingName::parse(body), record: Json::Null },
        }
    }

    pub(super) fn content(&self) -> Content<'_> {
        if let Some(thing) = &self.thing {
            return Content::Thing(thing);
        }
        let function = self.context("functionArn").and_then(Json::as_str);
        if self.record.get("DDBStreamBatchInfo").is_some() {
            return Content::StreamNote { function: function.unwrap_or_default() };
        }
        match (function, self.event()) {
            (Some(_), Some(_)) if self.error() == Some(EVENT_INVALID) => Content::InvalidEvent,
            (Some(_), Some(event)) if is_scheduled(event) => Content::Search,
            (Some(function), Some(event)) => Content::Event { function, event },
            _ => Content::Unknown,
        }
    }

    fn event(&self) -> Option<&Map<String, Json>> {
        self.record.get("requestPayload")?.as_object()
    }

    /// Name of the device that the event announces, as that of its thing.
    fn announced_device(&self) -> Option<Cow<'_, str>> {
        let id = self.event()?.get("coioteDeviceId")?.as_str()?;
        // Coiote encodes `:` as `%3A`.
        let name = percent_decode_str(id).decode_utf8_lossy();
        Some(if ThingName::parse(&name).is_some() { name } else { Cow::Borrowed(id) })
    }

    fn context(&self, name: &str) -> Option<&Json> {
        self.record.get("requestContext")?.get(name)
    }

    fn error(&self) -> Option<&str> {
        self.record.get("responsePayload")?.get("errorType")?.as_str()
    }

    /// Reason why it is in the queue: its last error, or that it expired in Lambda's own queue.
    fn reason(&self) -> String {
        let has_expired = self.context("condition").and_then(Json::as_str) == Some("EventAgeExceeded");
        match self.context("approximateInvokeCount").and_then(Json::as_u64) {
            None | Some(0) if has_expired => "never ran (expired)".to_owned(),
            Some(1) if has_expired => "expired after 1 attempt".to_owned(),
            Some(attempts) if has_expired => format!("expired after {attempts} attempts"),
            _ => self.error().unwrap_or("-").to_owned(),
        }
    }
}

/// Fields of an event that name its thing, its operation, and its request: of the shadow, or of a job.
const NAMES: [&[&str]; 3] =
    [&["thingName", "thingArn"], &["operation", "jobOver"], &["version", "jobId", "canceledJob"]];

/// Whether EventBridge's schedule has sent it. Of the functions with a schedule, only job-executions has the failure queue.
fn is_scheduled(event: &Map<String, Json>) -> bool {
    event.get("detail-type").and_then(Json::as_str) == Some("Scheduled Event")
}

/// Formats a message in one line: thing, operation, shadow version or job, and why it is in the queue.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.content() {
            Content::Thing(thing) => write!(f, "{thing} (its answers)"),
            Content::StreamNote { .. } => {
                let size = self.record.pointer("/DDBStreamBatchInfo/batchSize").and_then(Json::as_u64);
                let size = size.map_or_else(|| "?".to_owned(), |size| size.to_string());
                write!(f, "a part of the ledger's stream ({size} records)")
            }
            Content::Unknown => f.write_str("no event"),
            Content::Search => write!(f, "a search for executions {}", self.reason()),
            Content::InvalidEvent | Content::Event { .. } => {
                if let Some(device) = self.announced_device() {
                    return write!(f, "{device} (its announcement) {}", self.reason());
                }
                for names in NAMES {
                    let held = |name: &&str| self.event().and_then(|event| event.get(*name));
                    match names.iter().find_map(held) {
                        None | Some(Json::Null) => f.write_str("- ")?,
                        Some(Json::String(text)) => write!(f, "{text} ")?,
                        Some(other) => write!(f, "{other} ")?,
                    }
                }
                f.write_str(&self.reason())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn failed(context: Json, error: &str) -> String {
        let event = json!({"thingName": "a", "operation": "read", "version": 7});
        let mut record =
            json!({"requestContext": context, "requestPayload": event, "responsePayload": {"errorType": error}});
        record["requestContext"]["functionArn"] = json!("arn:aws:lambda:r:1:function:f");
        record.to_string()
    }

    fn of_event(event: Json) -> String {
        let context = json!({"condition": "RetriesExhausted", "functionArn": "f"});
        json!({"requestContext": context, "requestPayload": event, "responsePayload": {"errorType": "X"}}).to_string()
    }

    /// Event of a schedule (EventBridge user guide, "Events from AWS services").
    fn scheduled() -> Json {
        json!({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}})
    }

    #[test]
    fn each_message_is_formatted_in_a_line() {
        let retries = json!({"condition": "RetriesExhausted", "approximateInvokeCount": 3});
        let expired = |count: Json| json!({"condition": "EventAgeExceeded", "approximateInvokeCount": count});
        for (body, line) in [
            (failed(retries.clone(), "LEDGER_UNAVAILABLE"), "a read 7 LEDGER_UNAVAILABLE"),
            (failed(expired(json!(0)), "-"), "a read 7 never ran (expired)"),
            (failed(expired(json!(null)), "-"), "a read 7 never ran (expired)"),
            (failed(expired(json!(1)), "X"), "a read 7 expired after 1 attempt"),
            (failed(expired(json!(2)), "X"), "a read 7 expired after 2 attempts"),
            (of_event(json!({"thingName": "a", "operation": "read", "jobId": "j"})), "a read j X"),
            (of_event(json!({"thingArn": "arn:a", "jobId": "j", "jobOver": "canceled"})), "arn:a canceled j X"),
            (of_event(json!({"canceledJob": "j"})), "- - j X"),
            (
                of_event(json!({"coioteDeviceId": "urn%3Adev%3A1", "coioteDeviceType": "a.b"})),
                "urn:dev:1 (its announcement) X",
            ),
            (of_event(json!({"coioteDeviceId": "a%0Ab"})), "a%0Ab (its announcement) X"),
            (of_event(scheduled()), "a search for executions X"),
            ("urn:dev:1".to_owned(), "urn:dev:1 (its answers)"),
            ("17".to_owned(), "17 (its answers)"),
            ("356938035643809".to_owned(), "356938035643809 (its answers)"),
            ("true".to_owned(), "true (its answers)"),
            ("null".to_owned(), "null (its answers)"),
            (r#"{"DDBStreamBatchInfo": {"batchSize": 7}}"#.to_owned(), "a part of the ledger's stream (7 records)"),
            (r#"{"DDBStreamBatchInfo": 1}"#.to_owned(), "a part of the ledger's stream (? records)"),
            ("no event".to_owned(), "no event"),
            ("[1]".to_owned(), "no event"),
            ("\"a\"".to_owned(), "no event"),
            (r#"{"requestContext": {"functionArn": 5}, "requestPayload": {}}"#.to_owned(), "no event"),
            (r#"{"requestContext": {"functionArn": "f"}, "requestPayload": 5}"#.to_owned(), "no event"),
        ] {
            assert_eq!(Message::read(&body).to_string(), line);
        }
        assert!(matches!(Message::read(&failed(retries, EVENT_INVALID)).content(), Content::InvalidEvent));
        assert!(matches!(Message::read(&of_event(scheduled())).content(), Content::Search));
    }
}
