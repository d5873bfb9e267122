//! An object's definition, whichever file it came from.

/// `Definition of an object` in OMA LwM2M Core 1.1, annex D.1.
pub(crate) struct Object {
    pub(crate) id: u16,
    pub(crate) name: String,
    pub(crate) multiple: bool,
    pub(crate) resources: Vec<Resource>,
}

pub(crate) struct Resource {
    pub(crate) id: u16,
    pub(crate) name: String,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) executable: bool,
    pub(crate) multiple: bool,
    /// A variant of `Kind`.
    pub(crate) kind: &'static str,
    /// The range or enumeration as it was written; empty where there is none.
    pub(crate) range: String,
}

pub(crate) fn id(text: &str, of: &str) -> Result<u16, String> {
    text.trim().parse().map_err(|_| format!("{of} {text:?} is not a number from 0 to 65535"))
}

pub(crate) fn name(text: &str, of: &str) -> Result<String, String> {
    let name = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if name.is_empty() { Err(format!("{of} has no name")) } else { Ok(name) }
}

/// `Single` or `Multiple`.
pub(crate) fn multiple(text: &str, of: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "multiple" => Ok(true),
        // Some published files leave it out.
        "single" | "" => Ok(false),
        _ => Err(format!("{of}: MultipleInstances is {text:?}, not Single or Multiple")),
    }
}

/// Readable, writable, executable.
pub(crate) fn operations(text: &str, of: &str) -> Result<(bool, bool, bool), String> {
    match text.trim().to_ascii_uppercase().as_str() {
        // Only a bootstrap server touches it.
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

/// The data types of annex C; empty for a resource that is only executed.
pub(crate) fn kind(text: &str, of: &str) -> Result<&'static str, String> {
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
