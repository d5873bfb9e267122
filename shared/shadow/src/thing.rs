//! The envelope of an event: what both rules pass beside the request or the result.

use std::fmt;

use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};

/// A thing's name: 1 to 128 characters of `a-z A-Z 0-9 : _ -` (AWS IoT API reference, CreateThing).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ThingName(String);

impl ThingName {
    pub fn parse(name: &str) -> Option<ThingName> {
        (matches!(name.len(), 1..=128) && name.chars().all(ThingName::allows)).then(|| ThingName(name.to_owned()))
    }

    /// Whether the character may stand in a name.
    pub fn allows(c: char) -> bool {
        c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-')
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ThingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which thing an event is about, and which update of its operation shadow it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    pub thing: ThingName,
    /// Version of the operation shadow; absent in events of the peer's own rule and in some written by hand.
    pub version: Option<u64>,
    /// When that update was made, in seconds since 1970.
    pub timestamp: Option<u64>,
    /// The token of the client that updated the shadow.
    pub client_token: Option<String>,
    /// Whether the update carried `reported` beside the request, as saving a whole document does.
    pub with_reported: bool,
    /// Whether an operator sends the event through again, out of the failure queue.
    pub redriven: bool,
}

impl Envelope {
    /// The envelope of the event, and what it holds. The error is one line for whoever wrote the event.
    ///
    /// The event comes as its text because not every text that is JSON by its letters is JSON that can be read: a string
    /// with half a surrogate pair, or arrays in arrays without end.
    pub fn open(event: &RawValue) -> Result<(Envelope, Map<String, Json>), String> {
        match serde_json::from_str(event.get()) {
            Ok(Json::Object(mut event)) => Ok((Envelope::take(&mut event)?, event)),
            Ok(_) => Err("the event is not a JSON object".to_owned()),
            Err(error) => Err(format!("the event cannot be read as JSON: {error}")),
        }
    }

    fn take(event: &mut Map<String, Json>) -> Result<Envelope, String> {
        let thing = match event.remove("thingName") {
            Some(Json::String(name)) => ThingName::parse(&name)
                .ok_or("thingName: not a thing's name (1 to 128 characters of a-z A-Z 0-9 : _ -)")?,
            Some(_) => return Err("thingName: not a string".to_owned()),
            None if event.contains_key("thingArn") => of_arn(event.remove("thingArn"))?,
            None => return Err("thingName: missing; the rule has to pass topic(3) AS thingName".to_owned()),
        };
        Ok(Envelope {
            thing,
            version: event.remove("version").and_then(|version| version.as_u64()),
            timestamp: event.remove("timestamp").and_then(|timestamp| timestamp.as_u64()),
            client_token: event.remove("clientToken").and_then(|token| token.as_str().map(str::to_owned)),
            with_reported: event.remove("withoutReported").is_some_and(|without| without == Json::Bool(false)),
            redriven: event.remove("redriven").is_some_and(|redriven| redriven == Json::Bool(true)),
        })
    }
}

/// The thing of an ARN, `arn:aws:iot:<region>:<account>:thing/<name>`, by which events of AWS IoT Jobs tell it.
fn of_arn(arn: Option<Json>) -> Result<ThingName, String> {
    let name = arn.as_ref().and_then(Json::as_str).and_then(|arn| arn.rsplit_once('/')).map(|(_, name)| name);
    name.and_then(ThingName::parse).ok_or_else(|| "thingArn: not the ARN of a thing".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_those_that_aws_takes() {
        for name in ["a", "urn:imei:0123-4_5", &"x".repeat(128)] {
            assert_eq!(ThingName::parse(name).map(|name| name.0), Some(name.to_owned()));
        }
        for name in ["", "a b", "a/b", "a'b", "a.b", "ü", &"x".repeat(129)] {
            assert_eq!(ThingName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_thing_may_be_told_by_its_arn() {
        let open =
            |event: Json| Envelope::take(&mut event.as_object().unwrap().clone()).map(|envelope| envelope.thing.0);
        assert_eq!(open(json!({"thingArn": "arn:aws:iot:us-east-1:1:thing/urn:a"})), Ok("urn:a".to_owned()));
        for arn in [json!("urn:a"), json!("arn:aws:iot:us-east-1:1:thing/"), json!(1), json!(null)] {
            assert!(open(json!({"thingArn": arn})).is_err(), "{arn}");
        }
    }

    #[test]
    fn version_and_token_may_be_absent() {
        let mut event = json!({"thingName": "a"});
        let envelope = Envelope::take(event.as_object_mut().unwrap()).unwrap();
        assert_eq!((envelope.version, envelope.timestamp, envelope.client_token), (None, None, None));
        assert!(!envelope.redriven);

        let mut event = json!({"thingName": "a", "version": 17, "clientToken": "t", "keys": []});
        let envelope = Envelope::take(event.as_object_mut().unwrap()).unwrap();
        assert_eq!((envelope.version, envelope.client_token.as_deref()), (Some(17), Some("t")));
        assert_eq!(event, json!({"keys": []}), "the rest is left to the operation");
    }
}
