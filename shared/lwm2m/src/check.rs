//! What the objects' descriptions say of a request: before it costs a device session, not after.
//!
//! An object that nobody described is no error, and what the specification leaves open passes. Where there are several
//! descriptions (two objects of one name, two versions of one id), a request is right when it fits one of them.

use crate::attributes::{Attribute, Attributes};
use crate::finding::{Code, Finding, Quoted};
use crate::objects::{FIRST_VENDOR_RESOURCE, Kind, Object, Resource, nearest};
use crate::operation::OperationName;
use crate::path::{Level, Name, Path};
use crate::value::Value;

const SECURITY: u16 = 0;
const DEVICE: u16 = 3;

/// What keeps the operation from the path: it does not exist, or may not be used so.
pub fn path(operation: OperationName, path: &Path) -> Vec<Finding> {
    best(path.descriptions().map(|object| in_object(object, operation, path)))
}

/// What is wrong with a value for the resource at the path.
pub fn value(path: &Path, value: &Value) -> Option<Finding> {
    best(resources(path).map(|resource| value_fits(resource, value.as_str()).into_iter().collect())).into_iter().next()
}

/// Attributes that have no meaning for the resource at the path.
pub fn attributes(path: &Path, attributes: &Attributes) -> Vec<Finding> {
    best(resources(path).map(|resource| {
        let meaningless = |attribute: Attribute| match attribute {
            // Its definition leaves the type out
            _ if resource.kind() == Kind::None && !resource.is_executable() => false,
            Attribute::Edge => resource.kind() != Kind::Boolean,
            _ => attribute.is_of_a_value() && !resource.kind().is_numeric(),
        };
        let told = attributes.iter().filter(|(attribute, _)| meaningless(*attribute)).map(|(attribute, _)| {
            let wanted = if attribute == Attribute::Edge { "a Boolean" } else { "a number" };
            let message =
                format!("{attribute} needs {wanted}; {} is {}", resource.name(), resource.kind().with_article());
            Finding::new(Code::AttributeNotAllowed, message)
        });
        told.collect()
    }))
}

/// A described object that may have been meant where the object at the path is not described.
pub fn meant(path: &Path) -> Option<&'static str> {
    let name = path.object_name()?;
    if path.descriptions().next().is_some() { None } else { nearest(name, Object::all().map(Object::name)) }
}

/// Coiote takes names only, and the name that a resource's number was translated to is that of another one, too.
pub fn resource_of_several(path: &Path) -> Option<Finding> {
    let Some(Name::Text(name)) = path.resource() else { return None };
    let ids = path.descriptions().map(|object| {
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
    let mut ids: Vec<u16> = path.descriptions().filter(fits).map(Object::id).collect();
    ids.dedup();
    if ids.len() < 2 {
        return None;
    }
    let message = format!("sent as {}, which objects {} share", Quoted(&path.to_string()), listed(&ids));
    Some(Finding::new(Code::NameAmbiguous, message))
}

fn listed(ids: &[u16]) -> String {
    ids.iter().map(u16::to_string).collect::<Vec<_>>().join(" and ")
}

/// The findings by the description that fits best; none where there is no description.
fn best(by_description: impl Iterator<Item = Vec<Finding>>) -> Vec<Finding> {
    by_description.min_by_key(Vec::len).unwrap_or_default()
}

fn resources(path: &Path) -> impl Iterator<Item = Resource> {
    let name = match path.resource() {
        Some(Name::Text(name)) => Some(name.as_str()),
        Some(Name::Number(_)) | None => None,
    };
    path.descriptions().flat_map(move |object| name.into_iter().flat_map(move |name| object.resources_named(name)))
}

fn in_object(object: Object, operation: OperationName, path: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = object.name();
    let changes_instances = matches!(operation, OperationName::Create | OperationName::Delete);
    if changes_instances && object.id() == SECURITY {
        let message = format!("only a bootstrap server may {operation} instances of {name}");
        findings.push(Finding::new(Code::NotAllowed, message));
    } else if operation == OperationName::Create && !object.is_multiple() {
        findings.push(Finding::new(
            Code::NotAllowed,
            format!("{name} has a single object instance; no other can be created"),
        ));
    } else if operation == OperationName::Delete && object.id() == DEVICE {
        findings.push(Finding::new(Code::NotAllowed, format!("the object instance of {name} cannot be deleted")));
    } else if !object.is_multiple() && path.instance().is_some_and(|instance| instance != 0) {
        let message = format!("{name} has a single object instance: {name}.0");
        findings.push(Finding::new(Code::InstanceUnknown, message));
    }

    match path.resource() {
        None | Some(Name::Number(FIRST_VENDOR_RESOURCE..)) => {}
        Some(Name::Number(id)) => {
            findings.push(Finding::new(Code::ResourceUnknown, format!("no resource {id} in {name}")));
        }
        Some(Name::Text(resource)) => {
            let described = object.resources_named(resource);
            if described.clone().next().is_some() {
                findings.extend(best(described.map(|resource| in_resource(resource, operation, path))));
            } else {
                findings.push(unknown_resource(object, resource));
            }
        }
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

fn value_fits(resource: Resource, text: &str) -> Option<Finding> {
    let kind = resource.kind();
    let number = match kind {
        Kind::Integer | Kind::Time => text.parse::<i64>().map(|value| value as f64).ok(),
        Kind::UnsignedInteger => text.parse::<u64>().map(|value| value as f64).ok(),
        Kind::Float => text.parse::<f64>().ok().filter(|value| value.is_finite() && is_decimal(text)),
        _ => None,
    };
    let fits = match kind {
        Kind::None | Kind::String => true,
        Kind::Integer | Kind::Time | Kind::UnsignedInteger | Kind::Float => number.is_some(),
        Kind::Boolean => matches!(text, "true" | "false" | "0" | "1"),
        Kind::Opaque => is_opaque(text),
        Kind::Objlnk => text.split_once(':').is_some_and(|(a, b)| a.parse::<u16>().is_ok() && b.parse::<u16>().is_ok()),
        Kind::Corelnk => text.is_empty() || text.starts_with('<'),
    };
    if !fits {
        let message = format!("{} is {}: {}", resource.name(), kind.with_article(), form(kind));
        return Some(Finding::new(Code::ValueType, message));
    }
    let range = resource.range()?;
    let measured = if range.is_of_length() { Some(text.len() as f64) } else { number };
    if measured.is_none_or(|value| range.contains(value)) {
        return None;
    }
    let of = if range.is_of_length() { "bytes of length for" } else { "for" };
    Some(Finding::new(Code::ValueRange, format!("outside of {range}, the range {of} {}", resource.name())))
}

/// How a value of the type is written.
fn form(kind: Kind) -> &'static str {
    match kind {
        Kind::None | Kind::String => "any text",
        Kind::Integer => "expected a whole number of at most 64 bits",
        Kind::UnsignedInteger => "expected a whole number from 0 of at most 64 bits",
        Kind::Float => "expected a number, as in 23.5",
        Kind::Boolean => "expected true or false",
        Kind::Opaque => "expected base64 or hexadecimal digits",
        Kind::Time => "expected whole seconds since 1970-01-01T00:00:00Z",
        Kind::Objlnk => "expected object and object instance, as in 3:0",
        Kind::Corelnk => "expected links, as in </3/0>",
    }
}

/// Not `inf`, `nan` or `.`, which Rust and devices read differently.
fn is_decimal(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
}

fn is_opaque(text: &str) -> bool {
    let hexadecimal = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = text.trim_end_matches('=');
    let base64 = text.len() - digits.len() <= 2
        && digits.len() % 4 != 1
        && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_'));
    hexadecimal || base64
}
