//! Announcement of a device, which Coiote publishes when the device first connects.

use std::collections::HashMap;
use std::fmt;

use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;
use shadow::ThingName;

/// A device, by its names at AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) thing: ThingName,
    /// None where AWS does not allow the announced name: the thing is made without a type.
    pub(crate) thing_type: Option<ThingTypeName>,
    /// Remark on the type, if it is not as announced.
    pub(crate) remark: Option<Remark>,
}

/// Reason why a thing has another type than its device announced, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remark {
    pub(crate) code: &'static str,
    pub(crate) reason: String,
}

impl Remark {
    /// Remark on an announced type whose name AWS does not allow.
    pub(crate) fn invalid(reason: String) -> Remark {
        Remark { code: "THING_TYPE_INVALID", reason }
    }
}

/// A thing type's name. It has the same letters and length as a thing's (AWS IoT API reference, CreateThingType).
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
pub(crate) enum InvalidAnnouncement {
    /// The event is no announcement.
    #[error("{0}")]
    Event(String),
    /// AWS does not allow the thing's name.
    #[error("{0}")]
    Name(String),
}

impl InvalidAnnouncement {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            InvalidAnnouncement::Event(_) => "EVENT_INVALID",
            InvalidAnnouncement::Name(_) => "NAME_INVALID",
        }
    }
}

impl Announcement {
    pub(crate) fn parse(event: &RawValue) -> Result<Announcement, InvalidAnnouncement> {
        // Each field is parsed by itself, so that a wrong one does not cost the others.
        let fields: HashMap<String, &RawValue> = serde_json::from_str(event.get()).unwrap_or_default();
        let id: String = match fields.get("coioteDeviceId") {
            Some(id) => serde_json::from_str(id.get())
                .map_err(|_| InvalidAnnouncement::Event("coioteDeviceId: not a string".to_owned()))?,
            None => {
                return Err(InvalidAnnouncement::Event(
                    "coioteDeviceId: missing; Coiote announces a device with it".to_owned(),
                ));
            }
        };
        // Coiote encodes `:` as `%3A`.
        let id = percent_decode_str(&id).decode_utf8_lossy();
        let thing = name("coioteDeviceId", &id, "a thing's name").map_err(InvalidAnnouncement::Name)?;
        let (thing_type, remark) = thing_type(fields.get("coioteDeviceType").copied());
        Ok(Announcement { thing, thing_type, remark })
    }
}

/// Parses manufacturer and model, joined by a dot. Both are optional in LwM2M and may hold any character, so the thing is made
/// whatever they are.
fn thing_type(announced: Option<&RawValue>) -> (Option<ThingTypeName>, Option<Remark>) {
    const FIELD: &str = "coioteDeviceType";
    let announced = match announced.map(|announced| serde_json::from_str::<Option<String>>(announced.get())) {
        Some(Ok(Some(announced))) => announced,
        Some(Ok(None)) | None => return (None, Some(Remark::invalid(format!("{FIELD}: missing")))),
        Some(Err(_)) => return (None, Some(Remark::invalid(format!("{FIELD}: not a string")))),
    };
    let announced = percent_decode_str(&announced).decode_utf8_lossy();
    if !announced.chars().any(char::is_alphanumeric) {
        let shown: String = announced.chars().take(MAX_SHOWN).collect();
        return (None, Some(Remark::invalid(format!("{FIELD}: {shown:?}: neither manufacturer nor model"))));
    }
    // AWS does not allow a dot. A blank becomes `_`; for any other character there is no obvious replacement.
    let parts = announced.split('.').map(|part| part.split_whitespace().collect::<Vec<_>>().join("_"));
    let words = parts.collect::<Vec<_>>().join(".");
    let is_changed = *announced != *words;
    match name(FIELD, &words.replace('.', ":"), "a thing type's name") {
        Err(reason) => (None, Some(Remark::invalid(reason))),
        Ok(name) => {
            let remark = if is_changed {
                let reason = format!("{FIELD}: blanks are not allowed in a thing type's name; it is {name}");
                Some(Remark { code: "THING_TYPE_CHANGED", reason })
            } else if announced.starts_with('.') || announced.ends_with('.') {
                let missing = if announced.starts_with('.') { "manufacturer" } else { "model" };
                let reason = format!("{FIELD}: the device reports no {missing}; the thing type is {name}");
                Some(Remark { code: "THING_TYPE_INCOMPLETE", reason })
            } else {
                None
            };
            (Some(ThingTypeName(name)), remark)
        }
    }
}

/// Most characters of an announced name that a message quotes.
const MAX_SHOWN: usize = 128;

/// Parses a name. The error names the field, and the character that AWS does not allow.
fn name(field: &str, name: &str, what: &str) -> Result<ThingName, String> {
    ThingName::parse(name).ok_or_else(|| {
        let wrong = name.chars().enumerate().find(|(_, c)| !ThingName::allows(*c));
        let why = match wrong {
            Some((position, c)) => {
                format!("{c:?} at character {position} is not allowed in {what} (a-z A-Z 0-9 : _ -)")
            }
            None => format!("{} characters; {what} has 1 to 128", name.len()),
        };
        let shown: String = name.chars().take(MAX_SHOWN).collect();
        format!("{field}: {shown:?}: {why}")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn parse(event: Json) -> Result<Announcement, String> {
        let event = serde_json::value::to_raw_value(&event).unwrap();
        Announcement::parse(&event).map_err(|invalid| format!("{} {invalid}", invalid.code()))
    }

    #[test]
    fn names_are_decoded_and_dots_become_colons() {
        for (id, device_type, thing, thing_type) in [
            ("urn%3Aimei%3A1", "anjay.demo_client", "urn:imei:1", "anjay:demo_client"),
            ("urn:imei:1", "a.b.c-D_9", "urn:imei:1", "a:b:c-D_9"),
            ("urn%3aimei", "plain", "urn:imei", "plain"),
        ] {
            let event = json!({"coioteDeviceId": id, "coioteDeviceType": device_type, "more": 1});
            let Announcement { thing: name, thing_type: kind, remark } = parse(event).unwrap();
            assert_eq!((name.as_str(), kind.as_ref().map(ThingTypeName::as_str)), (thing, Some(thing_type)));
            assert_eq!(remark, None);
        }
    }

    #[test]
    fn a_type_that_aws_does_not_allow_does_not_cost_the_thing() {
        let long = "x".repeat(129);
        for (device_type, thing_type, code, says) in [
            (
                json!("Nordic Semiconductor ASA.thingy91_nrf9160"),
                Some("Nordic_Semiconductor_ASA:thingy91_nrf9160"),
                "THING_TYPE_CHANGED",
                "blanks",
            ),
            (json!(" acme.\tthermo "), Some("acme:thermo"), "THING_TYPE_CHANGED", "blanks"),
            (json!("acme. thermo"), Some("acme:thermo"), "THING_TYPE_CHANGED", "blanks"),
            (json!("acme . big\u{a0} one"), Some("acme:big_one"), "THING_TYPE_CHANGED", "blanks"),
            (json!("Nordic%20ASA.x"), Some("Nordic_ASA:x"), "THING_TYPE_CHANGED", "blanks"),
            (json!("anjay."), Some("anjay:"), "THING_TYPE_INCOMPLETE", "no model"),
            (json!(".demo_client"), Some(":demo_client"), "THING_TYPE_INCOMPLETE", "no manufacturer"),
            (json!("müller_gmbh.heizung"), None, "THING_TYPE_INVALID", "'ü' at character 1 is not allowed"),
            (json!("华为.BC95"), None, "THING_TYPE_INVALID", "not allowed in a thing type's name"),
            (json!("AT&T.x"), None, "THING_TYPE_INVALID", "'&' at character 2"),
            (json!("a/b.c"), None, "THING_TYPE_INVALID", "'/'"),
            (json!("a\u{0}.c"), None, "THING_TYPE_INVALID", "\\0"),
            (json!("50%.c"), None, "THING_TYPE_INVALID", "'%'"),
            (json!(""), None, "THING_TYPE_INVALID", "neither manufacturer nor model"),
            (json!("."), None, "THING_TYPE_INVALID", "neither manufacturer nor model"),
            (json!(" . "), None, "THING_TYPE_INVALID", "neither manufacturer nor model"),
            (json!("-_:."), None, "THING_TYPE_INVALID", "neither manufacturer nor model"),
            (json!(long), None, "THING_TYPE_INVALID", "129 characters"),
            (json!(null), None, "THING_TYPE_INVALID", "missing"),
            (json!(5), None, "THING_TYPE_INVALID", "not a string"),
            (json!(["a.b"]), None, "THING_TYPE_INVALID", "not a string"),
        ] {
            let announcement = parse(json!({"coioteDeviceId": "a", "coioteDeviceType": device_type})).unwrap();
            assert_eq!(announcement.thing.as_str(), "a");
            assert_eq!(announcement.thing_type.as_ref().map(ThingTypeName::as_str), thing_type, "{device_type}");
            let remark = announcement.remark.unwrap();
            assert!(remark.code == code && remark.reason.contains(says), "{device_type}: {remark:?}");
        }
        // Values that are no valid JSON
        for device_type in [r#""\ud800.x""#.to_owned(), format!("{}{}", "[".repeat(300), "]".repeat(300))] {
            let event = format!(r#"{{"coioteDeviceId": "a", "coioteDeviceType": {device_type}}}"#);
            let announcement = Announcement::parse(&RawValue::from_string(event).unwrap()).unwrap();
            assert_eq!((announcement.thing.as_str(), announcement.thing_type), ("a", None));
            assert_eq!(announcement.remark.unwrap().reason, "coioteDeviceType: not a string");
        }
        let announcement = parse(json!({"coioteDeviceId": "a"})).unwrap();
        assert_eq!((announcement.thing_type, announcement.remark.unwrap().code), (None, "THING_TYPE_INVALID"));
    }

    #[test]
    fn a_thing_name_that_aws_does_not_allow_is_refused_with_its_character() {
        let long = "x".repeat(129);
        for (event, says) in [
            (json!([]), "EVENT_INVALID coioteDeviceId: missing"),
            (json!(["a", "b"]), "EVENT_INVALID coioteDeviceId: missing"),
            (json!({"coioteDeviceId": null}), "EVENT_INVALID coioteDeviceId: not a string"),
            (json!({"coioteDeviceId": 5, "coioteDeviceType": "a.b"}), "EVENT_INVALID coioteDeviceId: not a string"),
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
        ] {
            let message = parse(event).unwrap_err();
            assert!(message.contains(says), "{message}");
        }
    }
}
