//! What is wrong with a request, in words that the person who wrote it can act on.
//!
//! A finding names the field and the position, what was found and what would have been right, in one line. It quotes
//! paths and names, but never a value or an argument: those may be secrets (keys, passwords) and end up in a shadow.

use std::fmt;

/// Stable codes: users and alarms match on them, so a code's meaning never changes. docs/errors.md explains each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    OperationMissing,
    OperationUnknown,
    KeysMissing,
    KeysInvalid,
    KeyCount,
    KeyDuplicate,
    PathInvalid,
    PathLevel,
    ValuesMissing,
    ValuesInvalid,
    ValueCount,
    ValueNotEncodable,
    AttributesMissing,
    AttributesInvalid,
    AttributeCount,
    AttributeUnknown,
    AttributeNotAllowed,
    AttributesContradict,
    ArgumentsInvalid,
    InstanceUnknown,
    InstanceMissing,
    ResourceUnknown,
    NotAllowed,
    ValueType,
    ValueRange,
    /// Nobody described the object, but one with a similar name.
    ObjectNotDescribed,
    /// Notice: a number was translated to the name of the newest version, and another version has another.
    NameOfNewestVersion,
    /// Notice: an Opaque value looks like hexadecimal digits and is read as base64.
    ValueIsBase64,
    /// A number was translated to a name that is not the only one's.
    NameAmbiguous,
    /// Notice: attributes were given that are not sent.
    AttributesIgnored,
    /// Notice: a field was given that the operation does not have.
    FieldIgnored,
}

impl Code {
    pub fn as_str(self) -> &'static str {
        match self {
            Code::OperationMissing => "OPERATION_MISSING",
            Code::OperationUnknown => "OPERATION_UNKNOWN",
            Code::KeysMissing => "KEYS_MISSING",
            Code::KeysInvalid => "KEYS_INVALID",
            Code::KeyCount => "KEY_COUNT",
            Code::KeyDuplicate => "KEY_DUPLICATE",
            Code::PathInvalid => "PATH_INVALID",
            Code::PathLevel => "PATH_LEVEL",
            Code::ValuesMissing => "VALUES_MISSING",
            Code::ValuesInvalid => "VALUES_INVALID",
            Code::ValueCount => "VALUE_COUNT",
            Code::ValueNotEncodable => "VALUE_NOT_ENCODABLE",
            Code::AttributesMissing => "ATTRIBUTES_MISSING",
            Code::AttributesInvalid => "ATTRIBUTES_INVALID",
            Code::AttributeCount => "ATTRIBUTE_COUNT",
            Code::AttributeUnknown => "ATTRIBUTE_UNKNOWN",
            Code::AttributeNotAllowed => "ATTRIBUTE_NOT_ALLOWED",
            Code::AttributesContradict => "ATTRIBUTES_CONTRADICT",
            Code::ArgumentsInvalid => "ARGUMENTS_INVALID",
            Code::InstanceUnknown => "INSTANCE_UNKNOWN",
            Code::InstanceMissing => "INSTANCE_MISSING",
            Code::ResourceUnknown => "RESOURCE_UNKNOWN",
            Code::NotAllowed => "NOT_ALLOWED",
            Code::ValueType => "VALUE_TYPE",
            Code::ValueRange => "VALUE_RANGE",
            Code::ObjectNotDescribed => "OBJECT_NOT_DESCRIBED",
            Code::NameOfNewestVersion => "NAME_OF_NEWEST_VERSION",
            Code::ValueIsBase64 => "VALUE_IS_BASE64",
            Code::NameAmbiguous => "NAME_AMBIGUOUS",
            Code::AttributesIgnored => "ATTRIBUTES_IGNORED",
            Code::FieldIgnored => "FIELD_IGNORED",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that is wrong with a request, or (as a notice) that was ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub code: Code,
    /// One line, for the author of the request.
    pub message: String,
}

impl Finding {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Finding { code, message: message.into() }
    }

    /// The same, with the place in the request before it.
    pub(crate) fn at(self, place: impl fmt::Display) -> Self {
        Finding { code: self.code, message: format!("{place}: {}", self.message) }
    }
}

impl From<Finding> for Vec<Finding> {
    fn from(finding: Finding) -> Self {
        vec![finding]
    }
}

/// Text from the request, quoted for a one-line message: control characters escaped, and cut after 80 characters.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 80;
        f.write_str("\"")?;
        for c in self.0.chars().take(LONGEST) {
            if c.is_control() || matches!(c, '"' | '\\' | '\u{2028}' | '\u{2029}') {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        f.write_str(if self.0.chars().nth(LONGEST).is_some() { "…\"" } else { "\"" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_in_one_line_and_cuts_what_is_long() {
        assert_eq!(Quoted("Device.0").to_string(), r#""Device.0""#);
        assert_eq!(Quoted("a\nb\"c").to_string(), r#""a\nb\"c""#);
        assert_eq!(Quoted(&"x".repeat(80)).to_string(), format!("\"{}\"", "x".repeat(80)));
        assert_eq!(Quoted(&"x".repeat(81)).to_string(), format!("\"{}…\"", "x".repeat(80)));
    }
}
