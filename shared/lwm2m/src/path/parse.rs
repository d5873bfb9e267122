//! From text to a [`Path`].

use super::prefix::resource_at_start;
use super::{GivenIds, Identifier, LARGEST_ID, Path, Tail, Target};
use crate::objects::{Object, Resource, is_same_name};

/// Number of dots behind which a resource's name is looked for where the object instance is not a number.
const MOST_DOTS: usize = 8;

impl Path {
    pub(super) fn parse(key: &str) -> Result<Path, String> {
        if key.chars().any(char::is_control) {
            return Err("a path holds no control characters".into());
        }
        let path = key.strip_suffix('.').unwrap_or(key);
        let parsed = match path.strip_prefix('/') {
            Some(ids) => Path::of_ids(ids),
            None if path.contains('/') && without_last_slash(path).split('/').all(is_number) => Path::of_ids(path),
            None if is_cut_at_slashes(path) => Err("the parts of a path by name are joined by dots".into()),
            None => Path::of_names(path),
        };
        parsed.map_err(|why| match Target::suggestion(key) {
            Some(suggestion) => format!("{why} (did you mean \"{suggestion}\"?)"),
            None => why,
        })
    }

    /// Parses a numeric path without its first slash.
    pub(super) fn of_ids(ids: &str) -> Result<Path, String> {
        let mut ids = without_last_slash(ids).split('/');
        let mut next = |of| ids.next().map(|component| parse_id(component, of)).transpose();
        let object = next("object")?.ok_or("an object's number is missing")?;
        let instance = next("object instance")?;
        let resource = next("resource")?;
        let resource_instance = next("resource instance")?;
        if ids.next().is_some() {
            return Err("a path by number has at most four parts: object, instance, resource, resource instance".into());
        }

        let given_ids = GivenIds { object: Some(object), resource };
        let resource = resource.map(|id| Identifier::of_resource(Object::by_id(object), id));
        let object = Object::by_id(object)
            .next()
            .map_or(Identifier::Id(object), |described| Identifier::Name(described.name().to_owned()));
        let tail = match (instance, resource, resource_instance) {
            (None, ..) => Tail::Object,
            (Some(instance), None, _) => Tail::Instance { instance },
            (Some(instance), Some(resource), None) => Tail::Resource { instance, resource },
            (Some(instance), Some(resource), Some(resource_instance)) => {
                Tail::ResourceInstance { instance, resource, resource_instance }
            }
        };
        Ok(Path { object, tail, given_ids })
    }

    fn of_names(key: &str) -> Result<Path, String> {
        if key.split('.').any(str::is_empty) {
            return Err("an empty name between dots".into());
        }
        let (object, rest) = split_object(key);
        let is_of_numbers = !key.contains(char::is_alphabetic) && key.contains(|c: char| c.is_ascii_digit());
        if is_number(object) || (is_of_numbers && Object::by_name(key).next().is_none()) {
            return Err("a path starts with an object's name, as in Device.0, or with a slash, as in /3/0".into());
        }
        check_name(object)?;
        let mut given_ids = GivenIds::default();
        let rest = rest.map(|rest| rest.split_once('.').map_or((rest, None), |(id, resource)| (id, Some(resource))));
        let tail = match rest {
            None => Tail::Object,
            Some((instance, None)) => Tail::Instance { instance: parse_id(instance, "object instance")? },
            Some((instance, Some(resource))) => {
                let instance = parse_id(instance, "object instance")?;
                let (resource, resource_instance) = split_resource(object, resource);
                check_name(resource)?;
                let (resource, id) = resource_of(object, resource);
                given_ids.resource = id;
                match resource_instance {
                    None => Tail::Resource { instance, resource },
                    Some(number) => Tail::ResourceInstance {
                        instance,
                        resource,
                        resource_instance: parse_id(number, "resource instance")?,
                    },
                }
            }
        };
        // The registered name, with its number of blanks
        let registered = Object::by_name(object).next().map(Object::name);
        Ok(Path { object: Identifier::Name(registered.unwrap_or(object).to_owned()), tail, given_ids })
    }
}

/// The resource behind an object's name, and its id where it was given by that.
fn resource_of(object: &str, text: &str) -> (Identifier, Option<u16>) {
    let descriptions = Object::of_any_version(object);
    match parse_id(text, "resource") {
        Ok(id) if descriptions.clone().next().is_some() => {
            // Versions that have the object's name come first
            (Identifier::of_resource(Object::by_name(object).chain(descriptions), id), Some(id))
        }
        _ => {
            let registered = descriptions.flat_map(Object::resources);
            let registered = registered.map(Resource::name).find(|name| is_same_name(name, text));
            (Identifier::Name(registered.unwrap_or(text).to_owned()), None)
        }
    }
}

/// Splits a key into the object's name and the text behind the next dot.
///
/// The longest name of a described object wins, unless it is only the start of the name of an object without a description
/// (`Temperature.v2.0`).
fn split_object(key: &str) -> (&str, Option<&str>) {
    if Object::by_name(key).next().is_some() {
        return (key, None);
    }
    let dots = || key.match_indices('.').filter_map(|(at, _)| Some((key.get(..at)?, key.get(at + 1..)?)));
    let instance_follows = |rest: &str| rest.split('.').next().is_some_and(is_number);
    // Other digits belong to a name (`Acme 1.05.0`)
    let id_follows = |rest: &str| rest.split('.').next().is_some_and(|digits| parse_id(digits, "").is_ok());
    let by_form = || dots().find(|(_, rest)| id_follows(rest));
    let is_meant = |(name, rest): &(&str, &str)| {
        let mut descriptions = Object::of_any_version(name);
        // The instance is missing (`Device.UTC Offset`) or is not a number (`Device.x.UTC Offset`)
        let behind_dots = rest.match_indices('.').filter_map(|(at, _)| rest.get(at + 1..)).take(MOST_DOTS);
        let places =
            std::iter::once(*rest).chain(behind_dots).filter(|place| !place.split('.').next().is_some_and(is_number));
        let names_a_resource = |object: Object| places.clone().any(|place| resource_at_start(object, place).is_some());
        if instance_follows(rest) {
            descriptions.next().is_some()
        } else {
            descriptions.clone().any(names_a_resource) || (descriptions.next().is_some() && by_form().is_none())
        }
    };
    let described = dots().take_while(|(name, _)| name.len() <= Object::LONGEST_NAME).filter(is_meant);
    described.last().or_else(by_form).map_or((key, None), |(name, rest)| (name, Some(rest)))
}

/// Splits a text into the resource's name and the resource instance, if any. The longest name of a described resource wins.
/// Behind any other name, digits that are no id belong to it (`Mode 2.05`).
fn split_resource<'a>(object: &str, text: &'a str) -> (&'a str, Option<&'a str>) {
    let is_described = |name: &str| {
        let mut descriptions = Object::of_any_version(object);
        descriptions.any(|object| is_number(name) || object.resources_named(name).next().is_some())
    };
    match text.rsplit_once('.') {
        Some((name, number)) if is_number(number) && !is_described(text) => {
            if is_described(name) || parse_id(number, "").is_ok() { (name, Some(number)) } else { (text, None) }
        }
        _ => (text, None),
    }
}

/// Whether a slash instead of a dot follows the name or the id of a described object. A name may contain slashes, and start
/// with the name (`Temperature/Humidity.0.Value`) or the id (`3/4-way valve.0.State`) of a described object.
fn is_cut_at_slashes(path: &str) -> bool {
    let Some((object, rest)) = path.split_once('/') else { return false };
    let object = object.trim();
    let number_follows = rest.split(['/', '.']).next().is_some_and(|part| part.is_empty() || is_number(part));
    let is_cut = if is_number(object) {
        let mut descriptions = object.parse().into_iter().flat_map(Object::by_id);
        descriptions.next().is_some() && (number_follows || !path.contains('.'))
    } else {
        let ends_there = |(_, behind): (Resource, &str)| behind.is_empty() || behind.starts_with(['/', '.']);
        let resource_follows = |object| resource_at_start(object, rest).is_some_and(ends_there);
        Object::by_name(object).any(|object| number_follows || resource_follows(object))
    };
    is_cut && Object::by_name(split_object(path).0).next().is_none()
}

fn without_last_slash(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

/// Refuses texts that are not names, for objects and resources without a description: other names are taken unchanged.
fn check_name(name: &str) -> Result<(), String> {
    let padded = name.split('.').any(|part| part.trim() != part);
    if padded { Err("a space at the start or end of a name".into()) } else { Ok(()) }
}

pub(super) fn is_number(component: &str) -> bool {
    !component.is_empty() && component.bytes().all(|byte| byte.is_ascii_digit())
}

/// Parses an id; `of` names its level in the error.
pub(super) fn parse_id(component: &str, of: &str) -> Result<u16, String> {
    if !is_number(component) {
        return Err(format!("the {of} has to be a number from 0 to {LARGEST_ID}"));
    }
    if component.len() > 1 && component.starts_with('0') {
        return Err(format!("the {of} has a leading zero"));
    }
    component
        .parse()
        .ok()
        .filter(|&id| id <= LARGEST_ID)
        .ok_or_else(|| format!("the {of} has to be from 0 to {LARGEST_ID} (65535 is reserved)"))
}
