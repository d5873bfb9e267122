//! Attributes of an observation or of a Write-Attributes (OMA LwM2M Core 1.1, section 7.3).

use serde_json::{Map, Value as Json};

/// The attributes of one key, in the order in which they were given. None at all leaves the key's attributes as they
/// are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes(Vec<(String, AttributeValue)>);

/// An attribute's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributeValue {
    /// A number as JSON wrote it, or a boolean.
    Bare(String),
    /// A string without quotes and backslashes.
    Text(String),
    /// Unsets the attribute.
    Null,
}

impl Attributes {
    /// The error says which attribute is wrong and why.
    pub fn parse(object: Map<String, Json>) -> Result<Attributes, String> {
        object
            .into_iter()
            .map(|(name, value)| {
                if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                    return Err("an attribute's name is made of letters and digits, as in pmin".to_owned());
                }
                let value = AttributeValue::parse(value).map_err(|why| format!("{name}: {why}"))?;
                Ok((name, value))
            })
            .collect::<Result<_, _>>()
            .map(Attributes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &AttributeValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl AttributeValue {
    fn parse(json: Json) -> Result<AttributeValue, &'static str> {
        match json {
            Json::Null => Ok(AttributeValue::Null),
            Json::Number(number) => Ok(AttributeValue::Bare(number.to_string())),
            Json::Bool(boolean) => Ok(AttributeValue::Bare(boolean.to_string())),
            // The list is sent in single quotes with no escape.
            Json::String(text) if text.chars().any(|c| c == '\'' || c == '\\' || c.is_control()) => {
                Err("a text with a quote, a backslash or a control character cannot be sent")
            }
            Json::String(text) => Ok(AttributeValue::Text(text)),
            Json::Array(_) | Json::Object(_) => Err("expected a number, a string, a boolean or null"),
        }
    }
}
