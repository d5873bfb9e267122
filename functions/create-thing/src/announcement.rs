//! What Coiote publishes when a device first connects.

use std::fmt;

use percent_encoding::percent_decode_str;
use serde_json::Value as Json;
use serde_json::value::RawValue;
use shadow::ThingName;

/// A device, as AWS names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) thing: ThingName,
    pub(crate) thing_type: ThingTypeName,
}

/// A thing type's name has the same letters and length as a thing's (AWS IoT API reference, CreateThingType).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ThingTypeName(ThingName);

impl ThingTypeName {
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for ThingTypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// No announcement at all.
    #[error("{0}")]
    Event(String),
    /// AWS cannot take the name.
    #[error("{0}")]
    Name(String),
}

impl Refused {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Refused::Event(_) => "EVENT_INVALID",
            Refused::Name(_) => "NAME_INVALID",
        }
    }
}

impl Announcement {
    pub(crate) fn read(event: &RawValue) -> Result<Announcement, Refused> {
        let event: Json = serde_json::from_str(event.get())
            .map_err(|error| Refused::Event(format!("the event cannot be read as JSON: {error}")))?;
        let text = |field: &str| match event.get(field) {
            Some(Json::String(text)) => Ok(text.as_str()),
            Some(_) => Err(Refused::Event(format!("{field}: not a string"))),
            None => Err(Refused::Event(format!("{field}: missing; Coiote announces a device with it"))),
        };
        // Coiote encodes `:` as `%3A`.
        let id = percent_decode_str(text("coioteDeviceId")?).decode_utf8_lossy();
        // Manufacturer and model, joined by a dot, which AWS does not take.
        let thing_type = text("coioteDeviceType")?.replace('.', ":");
        Ok(Announcement {
            thing: name("coioteDeviceId", &id, "a thing's name")?,
            thing_type: ThingTypeName(name("coioteDeviceType", &thing_type, "a thing type's name")?),
        })
    }
}

fn name(field: &str, name: &str, what: &str) -> Result<ThingName, Refused> {
    ThingName::parse(name).ok_or_else(|| {
        let wrong = name.chars().enumerate().find(|(_, c)| !ThingName::allows(*c));
        let why = match wrong {
            Some((position, c)) => {
                format!("{c:?} at character {position} is not allowed in {what} (a-z A-Z 0-9 : _ -)")
            }
            None => format!("{} characters; {what} has 1 to 128", name.len()),
        };
        let shown: String = name.chars().take(128).collect();
        Refused::Name(format!("{field}: {shown:?}: {why}"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(event: Json) -> Result<(String, String), String> {
        let event = serde_json::value::to_raw_value(&event).unwrap();
        Announcement::read(&event)
            .map(|announcement| (announcement.thing.to_string(), announcement.thing_type.to_string()))
            .map_err(|refused| format!("{} {refused}", refused.code()))
    }

    #[test]
    fn names_become_those_of_aws() {
        for (id, device_type, thing, thing_type) in [
            ("urn%3Aimei%3A1", "anjay.demo_client", "urn:imei:1", "anjay:demo_client"),
            ("urn:imei:1", "a.b.c-D_9", "urn:imei:1", "a:b:c-D_9"),
            ("urn%3aimei", "plain", "urn:imei", "plain"),
        ] {
            let event = json!({"coioteDeviceId": id, "coioteDeviceType": device_type, "more": 1});
            assert_eq!(read(event), Ok((thing.to_owned(), thing_type.to_owned())));
        }
    }

    #[test]
    fn what_aws_cannot_take_is_named() {
        let long = "x".repeat(129);
        for (event, says) in [
            (json!([]), "EVENT_INVALID coioteDeviceId: missing"),
            (json!({"coioteDeviceId": 5, "coioteDeviceType": "a.b"}), "EVENT_INVALID coioteDeviceId: not a string"),
            (json!({"coioteDeviceId": "a"}), "EVENT_INVALID coioteDeviceType: missing"),
            (
                json!({"coioteDeviceId": "a%20b", "coioteDeviceType": "a.b"}),
                "NAME_INVALID coioteDeviceId: \"a b\": ' ' at character 1 is not allowed",
            ),
            (
                json!({"coioteDeviceId": "50%", "coioteDeviceType": "a.b"}),
                "NAME_INVALID coioteDeviceId: \"50%\": '%' at",
            ),
            (json!({"coioteDeviceId": "", "coioteDeviceType": "a.b"}), "0 characters; a thing's name has 1 to 128"),
            (json!({"coioteDeviceId": long, "coioteDeviceType": "a.b"}), "129 characters"),
            (
                json!({"coioteDeviceId": "a", "coioteDeviceType": "Müller.x"}),
                "NAME_INVALID coioteDeviceType: \"Müller:x\": 'ü' at character 1 is not allowed in a thing type's name",
            ),
        ] {
            let message = read(event).unwrap_err();
            assert!(message.contains(says), "{message}");
        }
    }
}
