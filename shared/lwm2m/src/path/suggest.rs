//! The path that a wrong key may have been meant for.

use super::parse::{is_number, parse_id};
use super::prefix::{object_at_start, resource_at_start};
use super::{GivenIds, Identifier, Path, Tail};
use crate::objects::{Object, Resource, nearest};

/// Path of described names that is similar to the key, or a numeric path with the same numbers.
///
/// The key has neither blanks nor dots nor slashes at its ends.
pub(super) fn similar_path(key: &str) -> Option<Path> {
    let Some((object, rest)) = object_at_start(key) else {
        let numbers: Vec<&str> = key.split(|c: char| !c.is_alphanumeric()).collect();
        return Path::of_ids(&numbers.join("/")).ok();
    };
    let remainder = Remainder::new(object, rest)?;
    let (mut instance, mut resource) = remainder.instance_and_resource(key)?;
    if instance != 0 && !object.is_multiple() {
        // The instance is missing, and the resource took its place: `/3//14`
        (instance, resource) = (0, if resource.is_empty() { remainder.first } else { resource });
    }
    let above_resource = if remainder.text.is_empty() { Tail::Object } else { Tail::Instance { instance } };
    let tail = resource_tail(object, instance, resource).unwrap_or(above_resource);
    Some(Path { object: Identifier::Name(object.name().to_owned()), tail, given_ids: GivenIds::default() })
}

/// Text of a key behind its object.
struct Remainder<'a> {
    object: Object,
    /// The whole text, without separators at its ends.
    text: &'a str,
    /// Part before the first separator, where the object instance belongs.
    first: &'a str,
    /// Part behind the first separator.
    after_first: &'a str,
}

impl<'a> Remainder<'a> {
    /// `None` where the key is rather the name of another object: `Device Info`, `Device, new`.
    fn new(object: Object, rest: &'a str) -> Option<Remainder<'a>> {
        let follows = rest.trim_start();
        // Names may contain these, so they separate only where one of them follows the object: `Device(0)`
        let others =
            if follows.starts_with([',', '\\', '(', '-']) { [',', '\\', '(', ')', '-'].as_slice() } else { &[] };
        let separates = |c: char| is_separator(c) || others.contains(&c);
        let text = rest.trim_start_matches(separates).trim_end_matches(is_separator);
        let (first, after_first) = text.split_once(separates).unwrap_or((text, ""));
        let after_first = after_first.trim_start_matches(separates);
        // `Device 0` and `Device,Timezone` are hardly names
        let is_other_name = !follows.is_empty()
            && !follows.starts_with(['.', '/', ':', '['])
            && !is_number(first)
            && (others.is_empty() || !starts_with_a_resource_name(object, text));
        (!is_other_name).then_some(Remainder { object, text, first, after_first })
    }

    /// The object instance, and the text that is about the resource. `None` where the key, which contains this text, only
    /// starts with an object's id: `3/4-way valve.0.State`.
    fn instance_and_resource(&self, key: &str) -> Option<(u16, &'a str)> {
        let Remainder { object, text, first, after_first } = *self;
        let is_by_id = key.starts_with(|c: char| c.is_ascii_digit());
        // `x`, `*`, `-1`
        let is_placeholder = first.chars().filter(|c| c.is_alphanumeric()).count() <= 1;
        match parse_id(first, "object instance") {
            Ok(instance) => Some((instance, after_first)),
            // The instance is missing
            Err(_) if starts_with_a_resource_name(object, text) => Some((0, text)),
            Err(_) if starts_with_a_resource_name(object, after_first) => Some((0, after_first)),
            Err(_) if is_by_id && key.contains('.') && !is_placeholder => None,
            Err(_) if is_by_id || is_placeholder || !after_first.starts_with(|c: char| c.is_ascii_digit()) => {
                Some((0, after_first))
            }
            Err(_) => Some((0, "")),
        }
    }
}

/// The described resource that the text starts with or is similar to, and the resource instance behind it.
fn resource_tail(object: Object, instance: u16, text: &str) -> Option<Tail> {
    let near = || {
        let name = nearest(text, object.resources().map(Resource::name))?;
        Some((object.resources_named(name).next()?, ""))
    };
    let (resource, after) = resource_at_start(object, text).or_else(near)?;
    let number = after.trim_matches(is_separator);
    let resource_instance = parse_id(number, "resource instance").ok().filter(|_| resource.is_multiple());
    let resource = Identifier::Name(resource.name().to_owned());
    Some(match resource_instance {
        Some(resource_instance) => Tail::ResourceInstance { instance, resource, resource_instance },
        None => Tail::Resource { instance, resource },
    })
}

fn starts_with_a_resource_name(object: Object, text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit()) && resource_at_start(object, text).is_some()
}

fn is_separator(c: char) -> bool {
    matches!(c, '.' | '/' | ':' | '[' | ']') || c.is_whitespace()
}
