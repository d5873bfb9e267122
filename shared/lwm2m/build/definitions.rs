//! Definitions of objects and their fields, independent of the format of the file.

/// Definition of an object (OMA LwM2M Core 1.1, annex D.1).
#[derive(Clone)]
pub(crate) struct Object {
    pub(crate) id: u16,
    pub(crate) name: String,
    /// Major and minor version; 1.0 where the definition does not name one.
    pub(crate) version: (u16, u16),
    pub(crate) multiple: bool,
    pub(crate) resources: Vec<Resource>,
}

/// Definition of a resource.
#[derive(Clone)]
pub(crate) struct Resource {
    pub(crate) id: u16,
    pub(crate) name: String,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) executable: bool,
    pub(crate) multiple: bool,
    /// Name of a variant of `DataType`.
    pub(crate) data_type: &'static str,
    /// Range or enumeration as the definition spells it; empty for none.
    pub(crate) range: String,
}

/// Parses an id; `of` names the place in the error.
pub(crate) fn id(text: &str, of: &str) -> Result<u16, String> {
    text.trim().parse().map_err(|_| format!("{of} {text:?} is not a number from 0 to 65535"))
}

/// Greatest length of a name in bytes, far beyond the registered ones. A longer text would not fit into the tables.
const LONGEST_NAME: usize = 255;

/// Greatest length of a range in bytes.
const LONGEST_RANGE: usize = 4_000;

/// Checks a name. Blanks stay as registered, even two in a row, but line breaks are only layout of the file.
pub(crate) fn name(text: &str, of: &str) -> Result<String, String> {
    let name = one_line(text);
    if name.is_empty() {
        Err(format!("{of} has no name"))
    } else if name.len() > LONGEST_NAME {
        Err(format!("{of}: a name of {} bytes; at most {LONGEST_NAME}", name.len()))
    } else if name.chars().any(char::is_control) {
        Err(format!("{of}: a control character in the name {name:?}"))
    } else {
        Ok(name)
    }
}

/// The trimmed text, on one line: a text with line breaks or tabs gets one blank between words.
fn one_line(text: &str) -> String {
    if text.contains(['\n', '\r', '\t']) {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    } else {
        text.trim().to_owned()
    }
}

/// Checks the text of a range.
pub(crate) fn range(text: &str, of: &str) -> Result<String, String> {
    let range = one_line(text);
    if range.len() > LONGEST_RANGE {
        Err(format!("{of}: a RangeEnumeration of {} bytes; at most {LONGEST_RANGE}", range.len()))
    } else if range.chars().any(char::is_control) {
        Err(format!("{of}: a control character in the RangeEnumeration {range:?}"))
    } else {
        Ok(range)
    }
}

/// Parses a version such as `1.0`; empty means 1.0.
pub(crate) fn version(text: &str, of: &str) -> Result<(u16, u16), String> {
    let text = text.trim();
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    match (major.parse(), minor.parse()) {
        _ if text.is_empty() => Ok((1, 0)),
        (Ok(major), Ok(minor)) => Ok((major, minor)),
        _ => Err(format!("{of}: ObjectVersion is {text:?}, not two numbers as in 1.0")),
    }
}

/// Refuses texts other than `Mandatory` and `Optional`. The value itself is not used.
pub(crate) fn check_mandatory(text: &str, of: &str) -> Result<(), String> {
    match text.trim().to_ascii_lowercase().as_str() {
        // Missing in some published files
        "mandatory" | "optional" | "" => Ok(()),
        _ => Err(format!("{of}: Mandatory is {text:?}, not Mandatory or Optional")),
    }
}

/// Parses `Single` or `Multiple`.
pub(crate) fn multiple(text: &str, of: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "multiple" => Ok(true),
        // Missing in some published files
        "single" | "" => Ok(false),
        _ => Err(format!("{of}: MultipleInstances is {text:?}, not Single or Multiple")),
    }
}

/// Parses operations to readable, writable and executable.
pub(crate) fn operations(text: &str, of: &str) -> Result<(bool, bool, bool), String> {
    match text.trim().to_ascii_uppercase().as_str() {
        // Only for bootstrap servers
        "" => Ok((false, false, false)),
        "R" => Ok((true, false, false)),
        "W" => Ok((false, true, false)),
        "RW" => Ok((true, true, false)),
        "E" => Ok((false, false, true)),
        "RE" => Ok((true, false, true)),
        "WE" => Ok((false, true, true)),
        "RWE" => Ok((true, true, true)),
        _ => Err(format!("{of}: Operations is {text:?}, not R, W, RW, E or empty")),
    }
}

/// Parses a data type of annex C; empty for executable resources.
pub(crate) fn data_type(text: &str, of: &str) -> Result<&'static str, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "" | "none" => Ok("None"),
        "string" => Ok("String"),
        "integer" => Ok("Integer"),
        "unsigned integer" | "unsignedinteger" => Ok("UnsignedInteger"),
        "float" => Ok("Float"),
        "boolean" => Ok("Boolean"),
        "opaque" => Ok("Opaque"),
        "time" => Ok("Time"),
        "objlnk" => Ok("Objlnk"),
        "corelnk" => Ok("Corelnk"),
        _ => Err(format!("{of}: Type is {text:?}, which LwM2M does not have")),
    }
}
