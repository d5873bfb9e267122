//! Checks against the objects' descriptions, before a request costs a device session.
//!
//! An object without a description is not an error, and what the specification leaves open passes. Where there are several
//! descriptions (two objects of one name, two versions of one id), a request is valid if it fits one of them.

use crate::attributes::{Attribute, Attributes};
use crate::finding::{Code, Finding, Quoted};
use crate::objects::{DataType, FIRST_VENDOR_RESOURCE, Object, Resource, nearest};
use crate::operation::OperationName;
use crate::path::{Identifier, Level, Path, Target};

const DEVICE: u16 = 3;

/// Reasons why the operation is not possible at the path: it does not exist, or does not allow the operation.
pub(crate) fn path(operation: OperationName, path: &Path) -> Vec<Finding> {
    fewest(path.descriptions().map(|object| in_object(object, operation, path)))
}

/// Findings about attributes that have no meaning for the resource at the path.
pub(crate) fn attributes(path: &Path, attributes: &Attributes) -> Vec<Finding> {
    fewest(path.described_resources().map(|resource| {
        let meaningless = |attribute: Attribute| match attribute {
            // The definition does not name a type
            _ if resource.data_type() == DataType::None && !resource.is_executable() => false,
            Attribute::Edge => resource.data_type() != DataType::Boolean,
            _ => attribute.needs_a_value() && !resource.data_type().is_numeric(),
        };
        let findings = attributes.iter().filter(|(attribute, _)| meaningless(*attribute)).map(|(attribute, _)| {
            let wanted = if attribute == Attribute::Edge { "a Boolean" } else { "a number" };
            let message =
                format!("{attribute} needs {wanted}; {} is {}", resource.name(), resource.data_type().with_article());
            Finding::new(Code::AttributeNotAllowed, message)
        });
        findings.collect()
    }))
}

/// Name of a described object that is similar to the name of an object without a description.
fn similar_object(path: &Path) -> Option<&'static str> {
    let name = path.object_name()?;
    if path.descriptions().next().is_some() {
        return None;
    }
    let near = |name: &str| nearest(name, Object::all().map(Object::name));
    // Another separator may follow the name, as in `Devise/0`
    near(name).or_else(|| {
        let (first, rest) = name.split_once(['/', '.', ':'])?;
        // `PM2.5 Sensor` is not similar to `PM`
        let next = rest.split(['/', '.', ':']).next().unwrap_or_default();
        let is_cut_there = !next.starts_with(|c: char| c.is_ascii_digit()) || next.parse::<u16>().is_ok();
        near(first).filter(|_| is_cut_there)
    })
}

/// Notice about an object without a description, where it was given by its id or has a name similar to a described one.
pub(crate) fn object_without_description(path: &Path, key: &str) -> Option<Finding> {
    let name = path.object_name();
    if name.is_some() && path.descriptions().next().is_some() {
        return None;
    }
    let near = || similar_object(path).map(str::to_owned).or_else(|| Target::suggestion(key));
    let message = match name {
        None => "nobody described this object, so its number has no name; sent as it is".to_owned(),
        Some(_) => format!("nobody described this object; sent as it is (did you mean {}?)", Quoted(&near()?)),
    };
    Some(Finding::new(Code::ObjectNotDescribed, message))
}

/// Finding about an object without a description, where the part before a dot in its name is the name of a described one.
pub(crate) fn like_a_described_object(key: &str) -> Finding {
    let hint = Target::suggestion(key).map(|suggestion| format!(" (did you mean {}?)", Quoted(&suggestion)));
    let message = format!(
        "nobody described this object; its first part is a described one, behind which the object instance stands{}",
        hint.unwrap_or_default()
    );
    Finding::new(Code::ObjectNotDescribed, message)
}

/// Finding about a resource whose name belongs to other resources, too, to which the operation is possible as well. Coiote takes
/// names only, so a resource that was given by its id may be missed.
pub(crate) fn ambiguous_resource(operation: OperationName, path: &Path) -> Option<Finding> {
    let Some(Identifier::Name(name)) = path.resource() else { return None };
    let may_be_meant = |resource: &Resource| {
        path.resource_id() == Some(resource.id()) || in_resource(*resource, operation, path).is_empty()
    };
    // The newest version only; `name_of_newest_version` reports older ones
    let mut last = None;
    let newest = path.descriptions().filter(move |object| last.replace(object.id()) != Some(object.id()));
    let ids = newest.map(|object| {
        let mut ids: Vec<u16> = object.resources_named(name).filter(may_be_meant).map(Resource::id).collect();
        ids.dedup();
        ids
    });
    let ids = ids.filter(|ids| ids.len() > 1).last()?;
    let message = format!("resources {} share the name {}, and Coiote takes names only", listed(&ids), Quoted(name));
    Some(Finding::new(Code::NameAmbiguous, message))
}

/// As [`ambiguous_resource`], for the object. A notice is enough, because a device usually has only one object of a name.
pub(crate) fn ambiguous_object(path: &Path) -> Option<Finding> {
    let fits = |object: &Object| match path.resource() {
        Some(Identifier::Name(name)) => object.resources_named(name).next().is_some(),
        Some(Identifier::Id(_)) | None => true,
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

/// Finding about an id that versions of the object give different names. Only one of them can be sent.
pub(crate) fn name_of_newest_version(path: &Path) -> Option<Finding> {
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

/// The findings by the description that fits best; empty where there is no description.
fn fewest(by_description: impl Iterator<Item = Vec<Finding>>) -> Vec<Finding> {
    by_description.min_by_key(Vec::len).unwrap_or_default()
}

/// Reasons why the operation is not possible at the path, by one description of the object.
fn in_object(object: Object, operation: OperationName, path: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = object.name();
    let described = path.resources_in(object);
    let by_resource = described.map(|resource| in_resource(resource, operation, path));
    let is_refused_there = || by_resource.clone().flatten().any(|finding: Finding| finding.code == Code::NotAllowed);
    if is_for_bootstrap_servers(object) && is_refused_by_clients(operation) && !is_refused_there() {
        let message = match operation {
            OperationName::Create | OperationName::Delete => {
                format!("only a bootstrap server may {operation} instances of {name}")
            }
            _ => format!("{operation} is not possible: {name} can only be accessed by a bootstrap server"),
        };
        findings.push(Finding::new(Code::NotAllowed, message));
    } else if operation == OperationName::Create
        && !object.is_multiple()
        && (object.id() == DEVICE || path.instance().is_some_and(|instance| instance != 0))
    {
        // The single instance of any other object may be missing
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

    if by_resource.clone().next().is_some() {
        findings.extend(fewest(by_resource));
        return findings;
    }
    match path.resource() {
        None | Some(Identifier::Id(FIRST_VENDOR_RESOURCE..)) => {}
        Some(Identifier::Id(id)) => {
            findings.push(Finding::new(Code::ResourceUnknown, format!("no resource {id} in {name}")));
        }
        Some(Identifier::Name(resource)) => findings.push(unknown_resource(object, resource)),
    }
    findings
}

/// Whether only bootstrap servers access the object, such as LwM2M Security: no operation is defined for any of its resources
/// (OMA LwM2M Core 1.1, annex E.1).
fn is_for_bootstrap_servers(object: Object) -> bool {
    let mut resources = object.resources().peekable();
    let has_an_operation =
        |resource: Resource| resource.is_readable() || resource.is_writable() || resource.is_executable();
    resources.peek().is_some() && !resources.any(has_an_operation)
}

/// Whether a client refuses the operation on an object of bootstrap servers. A composite one may only lose a part, and there is
/// nothing to refuse in the end of an observation.
fn is_refused_by_clients(operation: OperationName) -> bool {
    use OperationName::*;
    match operation {
        Read | Write | Observe | Execute | WriteAttributes | Discover | Create | Delete => true,
        CancelObserve | ReadComposite | WriteComposite | ObserveComposite | CancelObserveComposite => false,
    }
}

fn unknown_resource(object: Object, resource: &str) -> Finding {
    let near = nearest(resource, object.resources().map(Resource::name));
    let hint = near.map(|near| format!(" (did you mean {}?)", Quoted(near))).unwrap_or_default();
    Finding::new(Code::ResourceUnknown, format!("no such resource in {}{hint}", object.name()))
}

/// Reasons why the operation is not possible at the path, by one description of the resource.
fn in_resource(resource: Resource, operation: OperationName, path: &Path) -> Vec<Finding> {
    use OperationName::{Create, Write, WriteComposite};
    let mut findings = Vec::new();
    let name = resource.name();
    if !is_allowed(resource, operation) {
        findings.push(Finding::new(
            Code::NotAllowed,
            format!("{operation} is not possible: {name} can {}", possible_operations(resource)),
        ));
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

/// Whether the resource allows the operation.
pub(crate) fn is_allowed(resource: Resource, operation: OperationName) -> bool {
    use OperationName::*;
    match operation {
        Read | ReadComposite | Observe | ObserveComposite => resource.is_readable(),
        Write | WriteComposite => resource.is_writable(),
        Execute => resource.is_executable(),
        // A new instance may have values for resources that are read-only afterwards
        Create => !resource.is_executable(),
        CancelObserve | CancelObserveComposite | WriteAttributes | Discover | Delete => true,
    }
}

/// Operations that the resource allows, after "can".
fn possible_operations(resource: Resource) -> &'static str {
    match (resource.is_readable(), resource.is_writable(), resource.is_executable()) {
        (true, false, false) => "only be read",
        (false, true, false) => "only be written",
        (true, true, false) => "only be read and written",
        (false, false, true) => "only be executed",
        (false, false, false) => "only be accessed by a bootstrap server",
        _ => "not be used so",
    }
}
