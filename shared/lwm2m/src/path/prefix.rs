//! Described objects and resources at the start of a text.

use super::parse::is_number;
use crate::objects::{Object, Resource};

/// Described object whose name or id the text starts with, and the text behind it.
pub(super) fn object_at_start(text: &str) -> Option<(Object, &str)> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if let Some((number, rest)) =
        text.split_at_checked(digits).filter(|(_, rest)| !rest.starts_with(char::is_alphanumeric))
        && let Ok(id) = number.parse()
    {
        return Object::by_id(id).next().map(|object| (object, rest));
    }
    let exact = longest_at_start(text, |name| Object::by_name(name).next(), Object::LONGEST_NAME);
    // In another case: `device/0`
    let starts = |object: &Object| {
        let (start, rest) = text.split_at_checked(object.name().len()).unwrap_or_default();
        start.eq_ignore_ascii_case(object.name()) && !rest.starts_with(char::is_alphanumeric)
    };
    let longest = || Object::all().filter(starts).max_by_key(|object| object.name().len());
    exact.or_else(|| longest().and_then(|object| Some((object, text.get(object.name().len()..)?))))
}

/// Resource of the object whose name or id the text starts with, and the text behind it.
pub(super) fn resource_at_start(object: Object, text: &str) -> Option<(Resource, &str)> {
    /// Longer than the name of any resource.
    const LONGEST: usize = 255;
    let number = text.split(['.', '/']).next().unwrap_or_default();
    if is_number(number) {
        let id: u16 = number.parse().ok()?;
        let resource = object.resources().find(|resource| resource.id() == id)?;
        return Some((resource, text.get(number.len()..).unwrap_or_default()));
    }
    longest_at_start(text, |name| object.resources_named(name).next(), LONGEST)
}

/// Result of the look-up for the longest start of the text that ends where a name can end, and the text behind it.
fn longest_at_start<T>(text: &str, look_up: impl Fn(&str) -> Option<T>, longest: usize) -> Option<(T, &str)> {
    let ends = text.char_indices().filter(|(_, c)| !c.is_alphanumeric()).map(|(at, _)| at).chain([text.len()]);
    let ends = ends.take_while(|end| *end <= longest);
    ends.filter_map(|end| Some((look_up(text.get(..end)?)?, text.get(end..)?))).last()
}
