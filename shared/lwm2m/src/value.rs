//! Values that are written to a device.
//!
//! Coiote's write templates take all values in one parameter, joined by commas and without an escape. A value that
//! holds a comma would arrive as two, and shift every value after it to the wrong resource; so such a value cannot be
//! made into a [`Value`] at all.

use serde_json::{Number, Value as Json};

/// A value as it is sent: the text of a string, number or boolean, without a comma.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    text: String,
    given_as: Form,
}

/// What a value was given as: a text may only look like a number or a boolean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Number,
    Boolean,
}

impl Value {
    /// Strings are taken as they are; numbers as `written` says; booleans become `true` and `false`. The error says what
    /// is wrong, without repeating the value.
    pub fn parse(json: Json) -> Result<Value, &'static str> {
        let (text, given_as) = match json {
            Json::String(text) => (text, Form::Text),
            Json::Number(number) => (written(&number), Form::Number),
            Json::Bool(boolean) => (boolean.to_string(), Form::Boolean),
            Json::Null => return Err("null cannot be sent; a value is a string, a number or a boolean"),
            Json::Array(_) => {
                return Err("an array cannot be sent; give each resource instance a key and a value of its own");
            }
            Json::Object(_) => return Err("an object cannot be sent; give each resource a key and a value of its own"),
        };
        if text.contains(',') {
            return Err("a value that holds a comma cannot be told from two values and is not sent");
        }
        Ok(Value { text, given_as })
    }

    /// Whether it was given as a text.
    pub(crate) fn is_text(&self) -> bool {
        self.given_as == Form::Text
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same value in another form, which holds no comma either.
    pub(crate) fn in_form(&self, text: String) -> Value {
        debug_assert!(!text.contains(','));
        Value { text, given_as: self.given_as }
    }

    /// See [`whole_number`].
    pub(crate) fn whole_number(&self) -> Option<String> {
        whole_number(&self.text, self.given_as == Form::Number)
    }
}

/// The number as JSON wrote it (`9007199254740993` keeps every digit, `1.50` its zero), but without the plus of an exponent.
pub(crate) fn written(number: &Number) -> String {
    number.to_string().replace('+', "")
}

/// The digits of a number without a fraction that is given with one, or, where it was given as a number, with an exponent:
/// `68` of `68.0`, of the text `"68.0"` and of the number `6.8e1`.
pub(crate) fn whole_number(text: &str, is_number: bool) -> Option<String> {
    /// As many as 64 bits can need, with room.
    const MOST_DIGITS: usize = 40;

    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) if is_number => (mantissa, exponent.parse::<i32>().ok()?),
        Some(_) => return None,
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_decimal = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || mantissa.ends_with('.') || !is_decimal(whole) || !is_decimal(fraction) {
        return None;
    }
    let all = format!("{whole}{fraction}");
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let (before, after) = match usize::try_from(point) {
        Ok(point) if point <= all.len() => all.split_at_checked(point)?,
        Ok(_) => (all.as_str(), ""),
        Err(_) => ("", all.as_str()),
    };
    if after.bytes().any(|digit| digit != b'0') {
        return None;
    }
    let before = before.trim_start_matches('0');
    if before.is_empty() {
        return Some("0".to_owned());
    }
    let zeros = usize::try_from(point).ok()?.saturating_sub(all.len());
    (before.len() <= MOST_DIGITS && zeros <= MOST_DIGITS).then(|| format!("{sign}{before}{}", "0".repeat(zeros)))
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
            (r#"1e+16"#, "1e16"),
            (r#"1E-7"#, "1e-7"),
            (r#"123456789012345678901234567890"#, "123456789012345678901234567890"),
            (r#"true"#, "true"),
            (r#"false"#, "false"),
            (r#""+02:00""#, "+02:00"),
            (r#""""#, ""),
            (r#"" spaces stay ""#, " spaces stay "),
            (r#""zażółć""#, "zażółć"),
        ] {
            let json: Json = serde_json::from_str(json).unwrap();
            assert_eq!(Value::parse(json.clone()).map(|value| value.text), Ok(text.to_owned()), "{json}");
        }
    }

    #[test]
    fn a_number_without_a_fraction_is_whole_however_it_is_written() {
        for (json, whole) in [
            ("68.0", Some("68")),
            ("68", Some("68")),
            ("-68.00", Some("-68")),
            ("6.8e1", Some("68")),
            ("1e3", Some("1000")),
            ("1200E-2", Some("12")),
            ("0.0", Some("0")),
            ("-0.0", Some("0")),
            ("0e9", Some("0")),
            ("9007199254740993.0", Some("9007199254740993")),
            ("\"68.0\"", Some("68")),
            ("68.5", None),
            ("1e-3", None),
            ("1e999", None),
            ("1e99999999999", None),
            ("\"1e3\"", None),
            ("\"68.\"", None),
            ("\".0\"", None),
            ("\" 68\"", None),
            ("\"\"", None),
            ("true", None),
        ] {
            let value = Value::parse(serde_json::from_str(json).unwrap()).unwrap();
            assert_eq!(value.whole_number().as_deref(), whole, "{json}");
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
