//! Values that are written to a device.
//!
//! Coiote's write templates take all values in one parameter, joined by commas, without an escape for commas in values. A
//! value with a comma would arrive as two and shift every value after it to the wrong resource, so it cannot become a
//! [`Value`].

use serde_json::{Number, Value as Json};

/// A value in the form in which it is sent: the text of a string, number or boolean, without a comma.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    text: String,
    given_as: Form,
}

/// JSON type of a value. A text may look like a number or a boolean without being one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Number,
    Boolean,
}

impl Value {
    /// Takes a value from JSON. Strings and numbers stay as written, but a number loses the plus of its exponent; booleans
    /// become `true` and `false`.
    ///
    /// # Errors
    ///
    /// A message that says what is wrong. It does not repeat the value.
    pub fn parse(json: Json) -> Result<Value, &'static str> {
        let (text, given_as) = match json {
            Json::String(text) => (text, Form::Text),
            Json::Number(number) => (number_text(&number), Form::Number),
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

    /// Whether the value was given as a string.
    pub(crate) fn is_text(&self) -> bool {
        self.given_as == Form::Text
    }

    /// The text that is sent.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The value in another form, which must not contain a comma.
    pub(crate) fn in_form(&self, text: String) -> Value {
        debug_assert!(!text.contains(','));
        Value { text, given_as: self.given_as }
    }

    /// Text of the value as a whole number, see [`whole_number`].
    pub(crate) fn whole_number(&self) -> Option<String> {
        whole_number(&self.text, self.given_as == Form::Number)
    }
}

/// Text of a JSON number, which keeps its digits (`9007199254740993`, `1.50`), but not the plus of an exponent.
pub(crate) fn number_text(number: &Number) -> String {
    number.to_string().replace('+', "")
}

/// Text of a whole number that was given with a fraction of zeros or, as a JSON number, with an exponent: `68` for `68.0`, for
/// the text `"68.0"` and for the number `6.8e1`.
pub(crate) fn whole_number(text: &str, is_number: bool) -> Option<String> {
    /// More than 64 bits need.
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
    fn values_that_cannot_be_sent_are_refused_and_not_repeated() {
        for json in [r#""s3cret,x""#, r#"null"#, r#"["s3cret"]"#, r#"{"a":"s3cret"}"#] {
            let message = Value::parse(serde_json::from_str(json).unwrap()).unwrap_err();
            assert!(!message.contains("s3cret"), "{message}");
        }
    }
}
