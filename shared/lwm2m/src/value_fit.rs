//! Values in the form that their resource takes.

use std::str::FromStr;

use crate::check;
use crate::finding::{Code, Finding};
use crate::objects::{DataType, Resource};
use crate::operation::OperationName;
use crate::path::Path;
use crate::time;
use crate::value::Value;

/// A value in a form that its resource takes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FittedValue {
    pub(crate) value: Value,
    /// Hint for the author of the request.
    pub(crate) notice: Option<Finding>,
}

/// Fits a value, which the operation writes, to the resource at the path.
///
/// The value stays unchanged where a description of the resource takes it so, or where there is no description. A description
/// that does not allow the operation counts only where none does: two resources may share a name, one of them executable.
///
/// # Errors
///
/// The finding by the first description, where no description takes the value in any form.
pub(crate) fn fit(operation: OperationName, path: &Path, value: &Value) -> Result<FittedValue, Finding> {
    let mut first_error = None;
    let mut converted = None;
    let is_written = |resource: &Resource| check::is_allowed(*resource, operation);
    let any_is_written = path.described_resources().any(|resource| is_written(&resource));
    for resource in path.described_resources().filter(|resource| !any_is_written || is_written(resource)) {
        match fit_to_resource(resource, value) {
            Ok(fitted) if fitted.value == *value && fitted.notice.is_none() => return Ok(fitted),
            Ok(fitted) => converted = converted.or(Some(fitted)),
            Err(finding) => first_error = first_error.or(Some(finding)),
        }
    }
    match (converted, first_error) {
        (Some(fitted), _) => Ok(fitted),
        (None, Some(finding)) => Err(finding),
        (None, None) => Ok(FittedValue { value: value.clone(), notice: None }),
    }
}

/// Fits a value to one description of its resource.
fn fit_to_resource(resource: Resource, value: &Value) -> Result<FittedValue, Finding> {
    let data_type = resource.data_type();
    let text = value.as_str();
    let wrong_type = || {
        let message = format!("{} is {}: {}", resource.name(), data_type.with_article(), expected_form(data_type));
        Finding::new(Code::ValueType, message)
    };
    let unchanged = |fits: bool| if fits { Ok(value.clone()) } else { Err(wrong_type()) };
    let fitted = match data_type {
        DataType::None | DataType::String => value.clone(),
        DataType::Integer => as_integer(value, is_written_as::<i64>).ok_or_else(wrong_type)?,
        DataType::UnsignedInteger => as_integer(value, is_written_as::<u64>).ok_or_else(wrong_type)?,
        DataType::Boolean => as_boolean(value).ok_or_else(wrong_type)?,
        DataType::Float => as_float(value).ok_or_else(wrong_type)?,
        DataType::Time => as_time(value).ok_or_else(wrong_type)?,
        DataType::Opaque => unchanged(value.is_text() && length_of_base64(text).is_some())?,
        DataType::Objlnk => {
            unchanged(text.split_once(':').is_some_and(|(a, b)| is_written_as::<u16>(a) && is_written_as::<u16>(b)))?
        }
        DataType::Corelnk => unchanged(text.is_empty() || text.starts_with('<'))?,
    };
    check_range(resource, &fitted)?;
    let notice = (data_type == DataType::Opaque && is_hexadecimal(text)).then(|| {
        let message = "looks like hexadecimal digits and is read as base64: give the bytes in base64 if they are meant";
        Finding::new(Code::ValueIsBase64, message)
    });
    Ok(FittedValue { value: fitted, notice })
}

fn check_range(resource: Resource, value: &Value) -> Result<(), Finding> {
    let Some(range) = resource.range() else { return Ok(()) };
    let text = value.as_str();
    let length = match resource.data_type() {
        DataType::Opaque => length_of_base64(text),
        _ => Some(text.len()),
    };
    let number = match resource.data_type() {
        DataType::Integer | DataType::UnsignedInteger | DataType::Float => text.parse::<f64>().ok(),
        DataType::Time => text.parse::<f64>().ok().or_else(|| time::parse(text).map(|seconds| seconds as f64)),
        _ => length.map(|length| length as f64),
    };
    if range.names(text) || number.is_none_or(|number| range.contains(number)) {
        return Ok(());
    }
    let name = resource.name();
    let message = if range.is_enumeration() {
        format!("none of {range}, the values of {name}")
    } else if range.is_of_length() {
        format!("outside of {range}, the range in bytes of length for {name}")
    } else {
        format!("outside of {range}, the range for {name}")
    };
    Err(Finding::new(Code::ValueRange, message))
}

/// The value, without a fraction of zeros.
fn as_integer(value: &Value, fits: impl Fn(&str) -> bool) -> Option<Value> {
    if fits(value.as_str()) {
        return Some(value.clone());
    }
    value.whole_number().filter(|whole| fits(whole)).map(|whole| value.in_form(whole))
}

/// The value as `true` or `false`; the text form of LwM2M, `1` and `0`, is converted.
fn as_boolean(value: &Value) -> Option<Value> {
    let given = as_integer(value, |text| matches!(text, "true" | "false" | "0" | "1"))?;
    match given.as_str() {
        "0" => Some(given.in_form("false".to_owned())),
        "1" => Some(given.in_form("true".to_owned())),
        _ => Some(given),
    }
}

/// The value as a number, without the plus of an exponent.
fn as_float(value: &Value) -> Option<Value> {
    let text = value.as_str();
    // Excludes `inf`, `nan` and the like, which Rust and devices read differently
    let is_decimal =
        |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    let fits = text.parse::<f64>().is_ok_and(f64::is_finite) && is_decimal(text) && !text.starts_with('+');
    fits.then(|| if text.contains('+') { value.in_form(text.replace('+', "")) } else { value.clone() })
}

/// Whether the text is a number of this type, without a plus and leading zeros.
fn is_written_as<N: FromStr + ToString>(text: &str) -> bool {
    text.parse::<N>().is_ok_and(|number| number.to_string() == text)
}

/// The value as seconds since 1970, or as a date and time in the form in which Coiote shows it. Other forms of ISO 8601 are
/// converted to that one.
fn as_time(value: &Value) -> Option<Value> {
    if let Some(seconds) = as_integer(value, is_written_as::<i64>) {
        return Some(seconds);
    }
    time::format(time::parse(value.as_str())?).map(|formatted| value.in_form(formatted))
}

/// Expected form of a value of this type, for messages.
fn expected_form(data_type: DataType) -> &'static str {
    match data_type {
        DataType::None | DataType::String => "any text",
        DataType::Integer => "expected a whole number of at most 64 bits",
        DataType::UnsignedInteger => "expected a whole number from 0 of at most 64 bits",
        DataType::Float => "expected a number, as in 23.5",
        DataType::Boolean => "expected true or false",
        DataType::Opaque => "expected base64",
        DataType::Time => "expected a time without a fraction, as in 2022-10-07T13:33:22Z, or whole seconds since 1970",
        DataType::Objlnk => "expected object and object instance, as in 3:0",
        DataType::Corelnk => "expected links, as in </3/0>",
    }
}

/// Whether the text looks like hexadecimal digits: an even number of them, or any number behind `0x`. They are valid base64,
/// too.
fn is_hexadecimal(text: &str) -> bool {
    let are_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => are_digits(digits),
        None => !text.is_empty() && text.len().is_multiple_of(2) && are_digits(text),
    }
}

/// Number of bytes that the base64 text stands for; `None` where it is not base64. Padding may be missing, but completes four
/// characters where it is there (RFC 4648, section 3.2).
fn length_of_base64(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    let is_base64 = digits.len() % 4 != 1
        && (padding == 0 || (padding <= 2 && text.len().is_multiple_of(4)))
        && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_'));
    is_base64.then_some(digits.len() * 3 / 4)
}
