//! What the objects' descriptions say of a request: before it costs a device session, not after.
//!
//! An object that nobody described is no error, and what the specification leaves open passes. Where there are several
//! descriptions (two objects of one name, two versions of one id), a request is right when it fits one of them.

use std::str::FromStr;

use crate::attributes::{Attribute, Attributes};
use crate::finding::{Code, Finding, Quoted};
use crate::objects::{DataType, FIRST_VENDOR_RESOURCE, Object, Resource, nearest};
use crate::operation::OperationName;
use crate::path::{Level, Name, Path};
use crate::time;
use crate::value::Value;

const SECURITY: u16 = 0;
const DEVICE: u16 = 3;

/// What keeps the operation from the path: it does not exist, or may not be used so.
pub fn path(operation: OperationName, path: &Path) -> Vec<Finding> {
    best(path.descriptions().map(|object| in_object(object, operation, path)))
}

/// The value as it is sent to the resource at the path: in a form that one of its descriptions takes.
pub fn value(path: &Path, value: &Value) -> Result<Fitting, Finding> {
    let mut first_error = None;
    let mut converted = None;
    for resource in resources(path) {
        match value_fits(resource, value) {
            Ok(fitting) if fitting.value == *value && fitting.notice.is_none() => return Ok(fitting),
            Ok(fitting) => converted = converted.or(Some(fitting)),
            Err(finding) => first_error = first_error.or(Some(finding)),
        }
    }
    match (converted, first_error) {
        (Some(fitting), _) => Ok(fitting),
        (None, Some(finding)) => Err(finding),
        (None, None) => Ok(Fitting { value: value.clone(), notice: None }),
    }
}

/// A value that its resource takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitting {
    pub value: Value,
    /// What its author should know.
    pub notice: Option<Finding>,
}

/// Attributes that have no meaning for the resource at the path.
pub fn attributes(path: &Path, attributes: &Attributes) -> Vec<Finding> {
    best(resources(path).map(|resource| {
        let meaningless = |attribute: Attribute| match attribute {
            // Its definition leaves the type out
            _ if resource.data_type() == DataType::None && !resource.is_executable() => false,
            Attribute::Edge => resource.data_type() != DataType::Boolean,
            _ => attribute.is_of_a_value() && !resource.data_type().is_numeric(),
        };
        let told = attributes.iter().filter(|(attribute, _)| meaningless(*attribute)).map(|(attribute, _)| {
            let wanted = if attribute == Attribute::Edge { "a Boolean" } else { "a number" };
            let message =
                format!("{attribute} needs {wanted}; {} is {}", resource.name(), resource.data_type().with_article());
            Finding::new(Code::AttributeNotAllowed, message)
        });
        told.collect()
    }))
}

/// A described object that may have been meant where the object at the path is not described.
pub fn meant(path: &Path) -> Option<&'static str> {
    let name = path.object_name()?;
    if path.descriptions().next().is_some() {
        return None;
    }
    let near = |name: &str| nearest(name, Object::all().map(Object::name));
    // Also where another separator stands behind it, as in `Devise/0`
    near(name).or_else(|| {
        let (first, rest) = name.split_once(['/', '.', ':'])?;
        // `PM2.5 Sensor` is not like `PM`
        let next = rest.split(['/', '.', ':']).next().unwrap_or_default();
        let is_cut_there = !next.starts_with(|c: char| c.is_ascii_digit()) || next.parse::<u16>().is_ok();
        near(first).filter(|_| is_cut_there)
    })
}

/// Coiote takes names only, and the name that a resource's number was translated to is that of another one, too.
pub fn resource_of_several(path: &Path) -> Option<Finding> {
    let Some(Name::Text(name)) = path.resource() else { return None };
    // In the newest version: what an older one calls so is told by `name_of_newest_version`
    let mut last = None;
    let newest = path.descriptions().filter(move |object| last.replace(object.id()) != Some(object.id()));
    let ids = newest.map(|object| {
        let mut ids: Vec<u16> = object.resources_named(name).map(Resource::id).collect();
        ids.dedup();
        ids
    });
    let ids = ids.filter(|ids| ids.len() > 1).last()?;
    let message = format!("resources {} share the name {}, and Coiote takes names only", listed(&ids), Quoted(name));
    Some(Finding::new(Code::NameAmbiguous, message))
}

/// As [`resource_of_several`], for the object: usually a device has only one of them, so it is only worth a notice.
pub fn object_of_several(path: &Path) -> Option<Finding> {
    let fits = |object: &Object| match path.resource() {
        Some(Name::Text(name)) => object.resources_named(name).next().is_some(),
        Some(Name::Number(_)) | None => true,
    };
    let named = path.object_name().into_iter().flat_map(Object::of_any_version);
    let mut ids: Vec<u16> = named.filter(fits).map(Object::id).collect();
    ids.dedup();
    if ids.len() < 2 {
        return None;
    }
    let message = format!("sent as {}, which objects {} share", Quoted(&path.to_string()), listed(&ids));
    Some(Finding::new(Code::NameAmbiguous, message))
}

/// Versions of an object may give a number different names, and only one can be sent.
pub fn name_of_newest_version(path: &Path) -> Option<Finding> {
    let others = path.other_names();
    if others.is_empty() {
        return None;
    }
    let others = others.into_iter().map(|name| Quoted(name).to_string()).collect::<Vec<_>>().join(" and ");
    let whose =
        if path.is_named_as_newest() { "the newest version's name" } else { "an older version's name, as its object" };
    let message = format!("sent as {}, {whose}; another has {others}", Quoted(&path.to_string()));
    Some(Finding::new(Code::NameOfNewestVersion, message))
}

fn listed(ids: &[u16]) -> String {
    ids.iter().map(u16::to_string).collect::<Vec<_>>().join(" and ")
}

/// The findings by the description that fits best; none where there is no description.
fn best(by_description: impl Iterator<Item = Vec<Finding>>) -> Vec<Finding> {
    by_description.min_by_key(Vec::len).unwrap_or_default()
}

fn resources(path: &Path) -> impl Iterator<Item = Resource> {
    path.descriptions().flat_map(|object| path.resources_in(object))
}

fn in_object(object: Object, operation: OperationName, path: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = object.name();
    let changes_instances = matches!(operation, OperationName::Create | OperationName::Delete);
    if changes_instances && object.id() == SECURITY {
        let message = format!("only a bootstrap server may {operation} instances of {name}");
        findings.push(Finding::new(Code::NotAllowed, message));
    } else if operation == OperationName::Create
        && !object.is_multiple()
        && (object.id() == DEVICE || path.instance().is_some_and(|instance| instance != 0))
    {
        // A device may lack the one instance of any other object
        findings.push(Finding::new(
            Code::NotAllowed,
            format!("{name} has a single object instance; no other can be created"),
        ));
    } else if operation == OperationName::Delete && object.id() == DEVICE && path.resource().is_none() {
        findings.push(Finding::new(Code::NotAllowed, format!("the object instance of {name} cannot be deleted")));
    } else if !object.is_multiple() && path.instance().is_some_and(|instance| instance != 0) {
        let message = format!("{name} has a single object instance: {name}.0");
        findings.push(Finding::new(Code::InstanceUnknown, message));
    }

    let described = path.resources_in(object);
    if described.clone().next().is_some() {
        findings.extend(best(described.map(|resource| in_resource(resource, operation, path))));
        return findings;
    }
    match path.resource() {
        None | Some(Name::Number(FIRST_VENDOR_RESOURCE..)) => {}
        Some(Name::Number(id)) => {
            findings.push(Finding::new(Code::ResourceUnknown, format!("no resource {id} in {name}")));
        }
        Some(Name::Text(resource)) => findings.push(unknown_resource(object, resource)),
    }
    findings
}

fn unknown_resource(object: Object, resource: &str) -> Finding {
    let near = nearest(resource, object.resources().map(Resource::name));
    let hint = near.map(|near| format!(" (did you mean {}?)", Quoted(near))).unwrap_or_default();
    Finding::new(Code::ResourceUnknown, format!("no such resource in {}{hint}", object.name()))
}

fn in_resource(resource: Resource, operation: OperationName, path: &Path) -> Vec<Finding> {
    use OperationName::*;
    let mut findings = Vec::new();
    let name = resource.name();
    let allowed = match operation {
        Read | ReadComposite | Observe | ObserveComposite => resource.is_readable(),
        Write | WriteComposite => resource.is_writable(),
        Execute => resource.is_executable(),
        // A new instance may be given values of resources that are only read later.
        Create => !resource.is_executable(),
        CancelObserve | CancelObserveComposite | WriteAttributes | Discover | Delete => true,
    };
    if !allowed {
        findings
            .push(Finding::new(Code::NotAllowed, format!("{operation} is not possible: {name} can {}", can(resource))));
    }
    let of_instance = path.level() == Level::ResourceInstance;
    if of_instance && !resource.is_multiple() {
        let message = format!("{name} has a single value and no resource instances");
        findings.push(Finding::new(Code::InstanceUnknown, message));
    }
    if !of_instance && resource.is_multiple() && matches!(operation, Write | WriteComposite | Create) {
        let message = format!("{name} is a multiple resource; give each resource instance a key, as in {path}.0");
        findings.push(Finding::new(Code::InstanceMissing, message));
    }
    findings
}

/// What can be done with the resource, after "can".
fn can(resource: Resource) -> &'static str {
    match (resource.is_readable(), resource.is_writable(), resource.is_executable()) {
        (true, false, false) => "only be read",
        (false, true, false) => "only be written",
        (true, true, false) => "only be read and written",
        (false, false, true) => "only be executed",
        (false, false, false) => "only be accessed by a bootstrap server",
        _ => "not be used so",
    }
}

fn value_fits(resource: Resource, value: &Value) -> Result<Fitting, Finding> {
    let data_type = resource.data_type();
    let text = value.as_str();
    let wrong_type = || {
        let message = format!("{} is {}: {}", resource.name(), data_type.with_article(), form(data_type));
        Finding::new(Code::ValueType, message)
    };
    let as_it_is = |fits: bool| if fits { Ok(value.clone()) } else { Err(wrong_type()) };
    let fitting = match data_type {
        DataType::None | DataType::String => value.clone(),
        DataType::Integer => whole(value, is_written_as::<i64>).ok_or_else(wrong_type)?,
        DataType::UnsignedInteger => whole(value, is_written_as::<u64>).ok_or_else(wrong_type)?,
        DataType::Boolean => boolean(value).ok_or_else(wrong_type)?,
        DataType::Float => decimal(value).ok_or_else(wrong_type)?,
        DataType::Time => point_in_time(value).ok_or_else(wrong_type)?,
        DataType::Opaque => as_it_is(value.is_text() && length_of_base64(text).is_some())?,
        DataType::Objlnk => {
            as_it_is(text.split_once(':').is_some_and(|(a, b)| is_written_as::<u16>(a) && is_written_as::<u16>(b)))?
        }
        DataType::Corelnk => as_it_is(text.is_empty() || text.starts_with('<'))?,
    };
    in_range(resource, &fitting)?;
    let notice = (data_type == DataType::Opaque && is_hexadecimal(text)).then(|| {
        let message = "looks like hexadecimal digits and is read as base64: give the bytes in base64 if they are meant";
        Finding::new(Code::ValueIsBase64, message)
    });
    Ok(Fitting { value: fitting, notice })
}

fn in_range(resource: Resource, value: &Value) -> Result<(), Finding> {
    let Some(range) = resource.range() else { return Ok(()) };
    let text = value.as_str();
    let length = match resource.data_type() {
        DataType::Opaque => length_of_base64(text),
        _ => Some(text.len()),
    };
    let number = match resource.data_type() {
        DataType::Integer | DataType::UnsignedInteger | DataType::Float => text.parse::<f64>().ok(),
        DataType::Time => text.parse::<f64>().ok().or_else(|| time::seconds(text).map(|seconds| seconds as f64)),
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

/// The value, without a fraction of zeros where it was given with one.
fn whole(value: &Value, fits: impl Fn(&str) -> bool) -> Option<Value> {
    if fits(value.as_str()) {
        return Some(value.clone());
    }
    value.whole_number().filter(|whole| fits(whole)).map(|whole| value.in_form(whole))
}

/// `true` or `false`; LwM2M's own text form has 1 and 0.
fn boolean(value: &Value) -> Option<Value> {
    let given = whole(value, |text| matches!(text, "true" | "false" | "0" | "1"))?;
    match given.as_str() {
        "0" => Some(given.in_form("false".to_owned())),
        "1" => Some(given.in_form("true".to_owned())),
        _ => Some(given),
    }
}

/// A number, without the plus of an exponent.
fn decimal(value: &Value) -> Option<Value> {
    let text = value.as_str();
    // Not `inf`, `nan` or `.`, which Rust and devices read differently
    let is_decimal =
        |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    let fits = text.parse::<f64>().is_ok_and(f64::is_finite) && is_decimal(text) && !text.starts_with('+');
    fits.then(|| if text.contains('+') { value.in_form(text.replace('+', "")) } else { value.clone() })
}

/// Whether it is a number of this type, without a plus and leading zeros.
fn is_written_as<N: FromStr + ToString>(text: &str) -> bool {
    text.parse::<N>().is_ok_and(|number| number.to_string() == text)
}

/// Seconds since 1970, or a date and time in the form in which Coiote shows it; another form of ISO 8601 in that one.
fn point_in_time(value: &Value) -> Option<Value> {
    if let Some(seconds) = whole(value, is_written_as::<i64>) {
        return Some(seconds);
    }
    time::written(time::seconds(value.as_str())?).map(|written| value.in_form(written))
}

/// How a value of the type is written.
fn form(data_type: DataType) -> &'static str {
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

/// `0x0102`, `0102`: digits that base64 has, too. Behind `0x` nothing else is meant, however many there are.
fn is_hexadecimal(text: &str) -> bool {
    let are_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => are_digits(digits),
        None => !text.is_empty() && text.len().is_multiple_of(2) && are_digits(text),
    }
}

/// How many bytes the text stands for; none where it is not base64.
fn length_of_base64(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches('=');
    let is_base64 = text.len() - digits.len() <= 2
        && digits.len() % 4 != 1
        && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_'));
    is_base64.then_some(digits.len() * 3 / 4)
}
