//! Values that are written to a device.
//!
//! Coiote's write templates take all values in one parameter, joined by commas and without an escape. A value that
//! holds a comma would arrive as two, and shift every value after it to the wrong resource; so such a value cannot be
//! made into a [`Value`] at all.

use serde_json::Value as Json;

/// A value as it is sent: the text of a string, number or boolean, without a comma.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value(String);

impl Value {
    /// Strings are taken as they are; numbers as JSON wrote them (`9007199254740993` keeps every digit, `1.50` its
    /// zero); booleans become `true` and `false`. The error says what is wrong, without repeating the value.
    pub fn parse(json: Json) -> Result<Value, &'static str> {
        let text = match json {
            Json::String(text) => text,
            Json::Number(number) => number.to_string(),
            Json::Bool(boolean) => boolean.to_string(),
            Json::Null => return Err("null cannot be sent; a value is a string, a number or a boolean"),
            Json::Array(_) => {
                return Err("an array cannot be sent; give each resource instance a key and a value of its own");
            }
            Json::Object(_) => return Err("an object cannot be sent; give each resource a key and a value of its own"),
        };
        if text.contains(',') {
            return Err("a value that holds a comma cannot be told from two values and is not sent");
        }
        Ok(Value(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_sent_as_they_were_written() {
        for (json, text) in [
            (r#"68"#, "68"),
            (r#"1.5"#, "1.5"),
            (r#"1.50"#, "1.50"),
            (r#"-7"#, "-7"),
            (r#"9007199254740993"#, "9007199254740993"),
            (r#"123456789012345678901234567890"#, "123456789012345678901234567890"),
            (r#"true"#, "true"),
            (r#"false"#, "false"),
            (r#""+02:00""#, "+02:00"),
            (r#""""#, ""),
            (r#"" spaces stay ""#, " spaces stay "),
            (r#""zażółć""#, "zażółć"),
        ] {
            let json: Json = serde_json::from_str(json).unwrap();
            assert_eq!(Value::parse(json.clone()).map(|value| value.0), Ok(text.to_owned()), "{json}");
        }
    }

    #[test]
    fn what_cannot_be_told_apart_is_refused_and_not_repeated() {
        for json in [r#""s3cret,x""#, r#"null"#, r#"["s3cret"]"#, r#"{"a":"s3cret"}"#] {
            let message = Value::parse(serde_json::from_str(json).unwrap()).unwrap_err();
            assert!(!message.contains("s3cret"), "{message}");
        }
    }
}
