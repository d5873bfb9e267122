//! Findings about a request: errors and notices for its author.
//!
//! A finding names the field, the position, what was found and what is expected, in one line. It quotes paths and names, but
//! never a value or an argument: those may be secrets (keys, passwords), and findings end up in a shadow.

use std::fmt;

/// Code of a finding. Users and alarms match on codes, so the meaning of a code never changes. docs/errors.md explains them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// `operation` is missing.
    OperationMissing,
    /// There is no such operation.
    OperationUnknown,
    /// `keys` is missing or empty.
    KeysMissing,
    /// `keys` is not an array of strings.
    KeysInvalid,
    /// The operation does not take these keys together.
    KeyCount,
    /// A key is given twice.
    KeyDuplicate,
    /// A key is not a path.
    PathInvalid,
    /// The operation cannot address the level of a path.
    PathLevel,
    /// `values` is missing.
    ValuesMissing,
    /// `values` is not an array.
    ValuesInvalid,
    /// There are not as many values as keys.
    ValueCount,
    /// A value or a key cannot be sent to Coiote.
    ValueNotEncodable,
    /// `attributes` is missing.
    AttributesMissing,
    /// `attributes` is not an array of objects, or an attribute has an invalid value.
    AttributesInvalid,
    /// There are not as many objects of attributes as keys.
    AttributeCount,
    /// There is no such attribute.
    AttributeUnknown,
    /// An attribute has no meaning at its path.
    AttributeNotAllowed,
    /// Attributes of a key contradict each other.
    AttributesContradict,
    /// `arguments` is not of the form of the specification.
    ArgumentsInvalid,
    /// There is no such object instance or resource instance.
    InstanceUnknown,
    /// A multiple resource is addressed without a resource instance.
    InstanceMissing,
    /// The object has no such resource.
    ResourceUnknown,
    /// The object or the resource does not allow the operation.
    NotAllowed,
    /// A value does not have the type of its resource.
    ValueType,
    /// A value is outside the range of its resource.
    ValueRange,
    /// The object has no description, but one with a similar name has.
    ObjectNotDescribed,
    /// Notice: an id was translated to the name of the newest version, and another version has another name.
    NameOfNewestVersion,
    /// Notice: an Opaque value looks like hexadecimal digits and is read as base64.
    ValueIsBase64,
    /// An id was translated to a name that belongs to several objects or resources.
    NameAmbiguous,
    /// Notice: attributes were given that are not sent.
    AttributesIgnored,
    /// Notice: a field was given that the operation does not have.
    FieldIgnored,
}

impl Code {
    /// The code as authors of requests see it.
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

/// Error in a request, or a notice about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Kind of the finding.
    pub code: Code,
    /// One line, for the author of the request.
    pub message: String,
}

impl Finding {
    /// A finding with a message of one line.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Finding { code, message: message.into() }
    }

    /// The finding with a place in the request before its message.
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
pub struct Quoted<'a>(
    /// The text to quote.
    pub &'a str,
);

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
    fn text_is_quoted_in_one_line_and_cut() {
        assert_eq!(Quoted("Device.0").to_string(), r#""Device.0""#);
        assert_eq!(Quoted("a\nb\"c").to_string(), r#""a\nb\"c""#);
        assert_eq!(Quoted(&"x".repeat(80)).to_string(), format!("\"{}\"", "x".repeat(80)));
        assert_eq!(Quoted(&"x".repeat(81)).to_string(), format!("\"{}…\"", "x".repeat(80)));
    }
}
