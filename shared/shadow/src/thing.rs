//! Names of things, and the envelope that the rules put around an event.

use std::fmt;

use requests::in_seconds;
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};

/// Name of a thing: 1 to 128 characters of `a-z A-Z 0-9 : _ -` (AWS IoT API reference, CreateThing).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ThingName(String);

impl ThingName {
    /// Checks a name.
    pub fn parse(name: &str) -> Option<ThingName> {
        (matches!(name.len(), 1..=128) && name.chars().all(ThingName::allows)).then(|| ThingName(name.to_owned()))
    }

    /// Whether a name may contain the character.
    pub fn allows(c: char) -> bool {
        c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-')
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ThingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Envelope of an event: the thing, and the update of its operation shadow that led to the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The thing that the event is about.
    pub thing: ThingName,
    /// Version of the operation shadow; absent in events of AVSystem's own rule and in some that are written by hand.
    pub version: Option<u64>,
    /// Time of the update, in seconds since 1970.
    pub timestamp: Option<u64>,
    /// Token of the client that updated the shadow.
    pub client_token: Option<String>,
    /// Whether the update contained `reported` besides the request, as when a client saves the whole document.
    pub with_reported: bool,
    /// Whether an operator sent the event again from the failure queue.
    pub redriven: bool,
}

impl Envelope {
    /// Splits an event into its envelope and the other fields.
    ///
    /// Takes the text of the event, because some texts are JSON by their grammar and still cannot be parsed: strings with
    /// half a surrogate pair, arrays that are nested too deep.
    ///
    /// # Errors
    ///
    /// A message of one line for the author of the event.
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
            None if event.contains_key("thingArn") => name_in_arn(event.remove("thingArn"))?,
            None => return Err("thingName: missing; the rule has to pass topic(3) AS thingName".to_owned()),
        };
        Ok(Envelope {
            thing,
            version: event.remove("version").and_then(|version| version.as_u64()),
            timestamp: event.remove("timestamp").and_then(|timestamp| timestamp.as_u64()).map(in_seconds),
            client_token: event.remove("clientToken").and_then(|token| token.as_str().map(str::to_owned)),
            with_reported: event.remove("withoutReported").is_some_and(|without| without == Json::Bool(false)),
            redriven: event.remove("redriven").is_some_and(|redriven| redriven == Json::Bool(true)),
        })
    }
}

/// Name of the thing in an ARN (`arn:aws:iot:<region>:<account>:thing/<name>`), which events of AWS IoT Jobs have.
fn name_in_arn(arn: Option<Json>) -> Result<ThingName, String> {
    let name = arn.as_ref().and_then(Json::as_str).and_then(|arn| arn.rsplit_once('/')).map(|(_, name)| name);
    name.and_then(ThingName::parse).ok_or_else(|| "thingArn: not the ARN of a thing".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_restricted_as_by_aws() {
        for name in ["a", "urn:imei:0123-4_5", &"x".repeat(128)] {
            assert_eq!(ThingName::parse(name).map(|name| name.0), Some(name.to_owned()));
        }
        for name in ["", "a b", "a/b", "a'b", "a.b", "ü", &"x".repeat(129)] {
            assert_eq!(ThingName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_thing_may_be_given_by_its_arn() {
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
