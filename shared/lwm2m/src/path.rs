//! Paths into a device's data model, as Coiote spells them.
//!
//! `Object name.instance.Resource name[.resource instance]`, cut short at any level. Names hold spaces, slashes, commas
//! and even dots (`LwM2M v1.0 Test Object`, `PM2.5`), so a path is not simply split at its dots: the names of described
//! objects and resources are looked for first. What nobody described is split by form alone: the object's name ends
//! where the first component that is a number begins.
//!
//! Paths by number (`/3/0/14`) are translated to names, which is what Coiote takes.
//!
//! Ids are those of OMA LwM2M Core 1.1, section 7.2: 0 to 65534, with 65535 reserved.

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::objects::{Object, Resource, is_same_name, nearest};

/// The largest id; 65535 (MAX_ID) is reserved.
pub const LARGEST_ID: u16 = 65534;

/// A place in the data model below the root: an object, an object instance, a resource or a resource instance.
///
/// Equality and [`Path::parent`] follow the tree, not the text: `LwM2M Server.1` is not above `LwM2M Server.10`, and
/// `/3/0` is `Device.0`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path {
    object: Name,
    below: Below,
    given: Numbers,
}

/// What of a path was given by number. It says which of several descriptions is meant, and nothing else: `/3/0` is
/// `Device.0`, so all are equal.
#[derive(Debug, Clone, Copy, Default)]
struct Numbers {
    object: Option<u16>,
    resource: Option<u16>,
}

impl PartialEq for Numbers {
    fn eq(&self, _other: &Numbers) -> bool {
        true
    }
}

impl Eq for Numbers {}

impl Hash for Numbers {
    fn hash<H: Hasher>(&self, _state: &mut H) {}
}

/// How an object or a resource is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Name {
    Text(String),
    /// Nobody described it, so it has no other name.
    Number(u16),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Below {
    Object,
    Instance { instance: u16 },
    Resource { instance: u16, resource: Name },
    ResourceInstance { instance: u16, resource: Name, resource_instance: u16 },
}

/// How deep a path reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Root,
    Object,
    ObjectInstance,
    Resource,
    ResourceInstance,
}

impl Level {
    /// The level in the specification's words.
    pub fn name(self) -> &'static str {
        match self {
            Level::Root => "the whole data model",
            Level::Object => "an object",
            Level::ObjectInstance => "an object instance",
            Level::Resource => "a resource",
            Level::ResourceInstance => "a resource instance",
        }
    }
}

/// What a key of a request addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// The whole data model.
    Root,
    Path(Path),
}

impl Target {
    /// Parses a key: one of the root forms `/`, the empty string, `.` and `all`, or a path. A trailing dot means
    /// nothing. The error says what is wrong, without repeating the key.
    pub fn parse(key: &str) -> Result<Target, String> {
        match key {
            "" | "." | "/" | "/." | "all" | "all." => Ok(Target::Root),
            path => Path::parse(path).map(Target::Path),
        }
    }

    /// The key that may have been meant by one that is no path, or whose object nobody described although its first part
    /// is the name or the number of a described one: `ALL`, `Device/0/Battery Level`, `3.0.9`, `Device.x.UTC Offset`.
    pub fn meant_by(key: &str) -> Option<String> {
        let key = key.trim_matches(|c: char| c.is_whitespace() || matches!(c, '.' | '/'));
        if key == "*" || key.eq_ignore_ascii_case("all") {
            return Some("all".to_owned());
        }
        Path::meant_by(key).map(|path| path.to_string())
    }

    pub fn level(&self) -> Level {
        match self {
            Target::Root => Level::Root,
            Target::Path(path) => path.level(),
        }
    }
}

impl Path {
    fn parse(key: &str) -> Result<Path, String> {
        if key.chars().any(char::is_control) {
            return Err("a path holds no control characters".into());
        }
        let path = key.strip_suffix('.').unwrap_or(key);
        let read = match path.strip_prefix('/') {
            Some(ids) => Path::of_ids(ids),
            None if path.contains('/') && without_last_slash(path).split('/').all(is_number) => Path::of_ids(path),
            None if is_cut_at_slashes(path) => Err("the parts of a path by name are joined by dots".into()),
            None => Path::of_names(path),
        };
        read.map_err(|why| match Target::meant_by(key) {
            Some(meant) => format!("{why} (did you mean \"{meant}\"?)"),
            None => why,
        })
    }

    /// See [`Target::meant_by`]; the key has neither blanks nor dots nor slashes at its ends.
    fn meant_by(key: &str) -> Option<Path> {
        let Some((object, rest)) = described_at_start(key) else {
            let numbers: Vec<&str> = key.split(|c: char| !c.is_alphanumeric()).collect();
            return Path::of_ids(&numbers.join("/")).ok();
        };
        let follows = rest.trim_start();
        let is_usual = |c: char| matches!(c, '.' | '/' | ':' | '[' | ']') || c.is_whitespace();
        // Names hold these, too, so they separate only where one stands behind the object: `Device(0)`
        let others =
            if follows.starts_with([',', '\\', '(', '-']) { [',', '\\', '(', ')', '-'].as_slice() } else { &[] };
        let between = |c: char| is_usual(c) || others.contains(&c);
        let rest = rest.trim_start_matches(between).trim_end_matches(is_usual);
        let (first, after) = rest.split_once(between).unwrap_or((rest, ""));
        let after = after.trim_start_matches(between);
        let names_a_resource =
            |text: &str| !text.starts_with(|c: char| c.is_ascii_digit()) && resource_at_start(object, text).is_some();
        // `Device Info` and `Device, new` are other names, `Device 0` and `Device,Timezone` hardly
        let is_other = !follows.is_empty()
            && !follows.starts_with(['.', '/', ':', '['])
            && !is_number(first)
            && (others.is_empty() || !names_a_resource(rest));
        if is_other {
            return None;
        }
        let is_by_number = key.starts_with(|c: char| c.is_ascii_digit());
        // `x`, `*`, `-1`
        let is_placeholder = first.chars().filter(|c| c.is_alphanumeric()).count() <= 1;
        let (mut instance, mut resource) = match id(first, "object instance") {
            Ok(instance) => (instance, after),
            // The instance was forgotten, and the resource stands in its place
            Err(_) if names_a_resource(rest) => (0, rest),
            Err(_) if names_a_resource(after) => (0, after),
            // `3/4-way valve.0.State` only begins with a number
            Err(_) if is_by_number && key.contains('.') && !is_placeholder => return None,
            Err(_) if is_by_number || is_placeholder || !after.starts_with(|c: char| c.is_ascii_digit()) => (0, after),
            Err(_) => (0, ""),
        };
        if instance != 0 && !object.is_multiple() {
            // `/3//14`
            (instance, resource) = (0, if resource.is_empty() { first } else { resource });
        }
        let mut path =
            Path { object: Name::Text(object.name().to_owned()), below: Below::Object, given: Numbers::default() };
        if !rest.is_empty() {
            path.below = Below::Instance { instance };
        }
        let near = || {
            let name = nearest(resource, object.resources().map(Resource::name))?;
            Some((object.resources_named(name).next()?, ""))
        };
        if let Some((resource, after)) = resource_at_start(object, resource).or_else(near) {
            let number = after.trim_matches(is_usual);
            let resource_instance = id(number, "resource instance").ok().filter(|_| resource.is_multiple());
            let resource = Name::Text(resource.name().to_owned());
            path.below = match resource_instance {
                Some(resource_instance) => Below::ResourceInstance { instance, resource, resource_instance },
                None => Below::Resource { instance, resource },
            };
        }
        Some(path)
    }

    fn of_ids(ids: &str) -> Result<Path, String> {
        let mut ids = without_last_slash(ids).split('/');
        let mut next = |of| ids.next().map(|component| id(component, of)).transpose();
        let object = next("object")?.ok_or("an object's number is missing")?;
        let instance = next("object instance")?;
        let resource = next("resource")?;
        let resource_instance = next("resource instance")?;
        if ids.next().is_some() {
            return Err("a path by number has at most four parts: object, instance, resource, resource instance".into());
        }

        let given = Numbers { object: Some(object), resource };
        let resource = resource.map(|id| resource_by_id(Object::by_id(object), id));
        let object = Object::by_id(object).next().map_or(Name::Number(object), |o| Name::Text(o.name().to_owned()));
        let below = match (instance, resource, resource_instance) {
            (None, ..) => Below::Object,
            (Some(instance), None, _) => Below::Instance { instance },
            (Some(instance), Some(resource), None) => Below::Resource { instance, resource },
            (Some(instance), Some(resource), Some(resource_instance)) => {
                Below::ResourceInstance { instance, resource, resource_instance }
            }
        };
        Ok(Path { object, below, given })
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
        let mut given = Numbers::default();
        let rest = rest.map(|rest| rest.split_once('.').map_or((rest, None), |(id, resource)| (id, Some(resource))));
        let below = match rest {
            None => Below::Object,
            Some((instance, None)) => Below::Instance { instance: id(instance, "object instance")? },
            Some((instance, Some(resource))) => {
                let instance = id(instance, "object instance")?;
                let (resource, resource_instance) = split_resource(object, resource);
                check_name(resource)?;
                let descriptions = Object::of_any_version(object);
                let resource = match id(resource, "resource") {
                    Ok(id) if descriptions.clone().next().is_some() => {
                        given.resource = Some(id);
                        // First as the versions have it that bear the object's name
                        resource_by_id(Object::by_name(object).chain(descriptions), id)
                    }
                    _ => {
                        let registered = descriptions.flat_map(Object::resources);
                        let registered = registered.map(Resource::name).find(|name| is_same_name(name, resource));
                        Name::Text(registered.unwrap_or(resource).to_owned())
                    }
                };
                match resource_instance {
                    None => Below::Resource { instance, resource },
                    Some(number) => Below::ResourceInstance {
                        instance,
                        resource,
                        resource_instance: id(number, "resource instance")?,
                    },
                }
            }
        };
        // As it was registered, with as many blanks
        let registered = Object::by_name(object).next().map(Object::name);
        Ok(Path { object: Name::Text(registered.unwrap_or(object).to_owned()), below, given })
    }

    pub fn object(&self) -> &Name {
        &self.object
    }

    /// The object's name, or nothing for one that only has a number.
    pub fn object_name(&self) -> Option<&str> {
        match &self.object {
            Name::Text(name) => Some(name),
            Name::Number(_) => None,
        }
    }

    pub fn instance(&self) -> Option<u16> {
        match self.below {
            Below::Object => None,
            Below::Instance { instance }
            | Below::Resource { instance, .. }
            | Below::ResourceInstance { instance, .. } => Some(instance),
        }
    }

    pub fn resource(&self) -> Option<&Name> {
        match &self.below {
            Below::Object | Below::Instance { .. } => None,
            Below::Resource { resource, .. } | Below::ResourceInstance { resource, .. } => Some(resource),
        }
    }

    /// The descriptions of the object, all versions of it; none where nobody described it.
    pub fn descriptions(&self) -> impl Iterator<Item = Object> + Clone {
        let name = self.object_name().filter(|_| self.given.object.is_none());
        let by_number = self.given.object.into_iter().flat_map(Object::by_id);
        by_number.chain(name.into_iter().flat_map(Object::of_any_version))
    }

    /// The descriptions of the resource in one of the object's: by its number where it was given so, as versions may give
    /// a number another name.
    pub fn resources_in(&self, object: Object) -> impl Iterator<Item = Resource> + Clone {
        let (id, name) = match (self.given.resource, self.resource()) {
            (Some(id), _) => (Some(id), None),
            (None, Some(Name::Number(id))) => (Some(*id), None),
            (None, Some(Name::Text(name))) => (None, Some(name)),
            (None, None) => (None, None),
        };
        let by_number = object.resources().filter(move |resource| Some(resource.id()) == id);
        by_number.chain(name.into_iter().flat_map(move |name| object.resources_named(name)))
    }

    /// Other names that versions of the object have for what was given by number.
    pub fn other_names(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        let mut add = |name: &'static str, sent: &Name| {
            let is_sent = matches!(sent, Name::Text(sent) if is_same_name(sent, name));
            if !is_sent && !names.contains(&name) {
                names.push(name);
            }
        };
        for object in self.descriptions() {
            if self.given.object.is_some() {
                add(object.name(), &self.object);
            }
            if let (Some(id), Some(sent)) = (self.given.resource, self.resource()) {
                object
                    .resources()
                    .filter(|resource| resource.id() == id)
                    .for_each(|resource| add(resource.name(), sent));
            }
        }
        names
    }

    /// Whether what was given by number is sent under the name that the newest version has for it.
    pub fn is_named_as_newest(&self) -> bool {
        self.given.resource.is_none_or(|id| self.resource() == Some(&resource_by_id(self.descriptions(), id)))
    }

    /// Whether its first part is the name of a described object, although nobody described the whole: `Device.x.0`.
    pub fn starts_like_a_described_object(&self) -> bool {
        let Some(name) = self.object_name().filter(|_| self.descriptions().next().is_none()) else { return false };
        let mut dots = name.match_indices('.').map(|(at, _)| at).take_while(|at| *at <= Object::LONGEST_NAME);
        dots.any(|at| Object::by_name(name.get(..at).unwrap_or_default()).next().is_some())
    }

    /// The path in numbers, as in `/3/0/14`; nothing where a name in it is not described.
    pub fn by_number(&self) -> Option<String> {
        let with = |object: u16, resource: Option<u16>| {
            let mut path = format!("/{object}");
            for id in [self.instance(), resource, self.resource_instance()].into_iter().flatten() {
                path.push_str(&format!("/{id}"));
            }
            path
        };
        match (&self.object, self.resource()) {
            (Name::Number(object), None) => Some(with(*object, None)),
            (Name::Number(object), Some(Name::Number(resource))) => Some(with(*object, Some(*resource))),
            (Name::Number(_), Some(Name::Text(_))) => None,
            (Name::Text(_), None) => self.descriptions().next().map(|object| with(object.id(), None)),
            (Name::Text(_), Some(Name::Number(id))) => self.descriptions().next().map(|o| with(o.id(), Some(*id))),
            (Name::Text(_), Some(Name::Text(name))) => self
                .descriptions()
                .find_map(|object| object.resources_named(name).next().map(|r| with(object.id(), Some(r.id())))),
        }
    }

    /// Whether the last number may as well be the end of a resource's name (`PM2.5`), because nobody described it.
    pub fn may_be_a_resource(&self) -> bool {
        match &self.below {
            Below::ResourceInstance { resource: Name::Text(_), .. } => {
                let is_described = self.descriptions().any(|object| self.resources_in(object).next().is_some());
                self.object_name().is_some() && !is_described
            }
            _ => false,
        }
    }

    fn resource_instance(&self) -> Option<u16> {
        match self.below {
            Below::ResourceInstance { resource_instance, .. } => Some(resource_instance),
            _ => None,
        }
    }

    pub fn level(&self) -> Level {
        match self.below {
            Below::Object => Level::Object,
            Below::Instance { .. } => Level::ObjectInstance,
            Below::Resource { .. } => Level::Resource,
            Below::ResourceInstance { .. } => Level::ResourceInstance,
        }
    }

    /// The path one level up, or nothing for an object, above which is only the root.
    pub fn parent(&self) -> Option<Path> {
        let below = match &self.below {
            Below::Object => return None,
            Below::Instance { .. } => Below::Object,
            Below::Resource { instance, .. } => Below::Instance { instance: *instance },
            Below::ResourceInstance { instance, resource, .. } => {
                Below::Resource { instance: *instance, resource: resource.clone() }
            }
        };
        Some(Path { object: self.object.clone(), below, given: self.given })
    }

    /// The paths above this one, nearest first, without the root.
    pub fn ancestors(&self) -> impl Iterator<Item = Path> {
        std::iter::successors(self.parent(), Path::parent)
    }

    /// The object instance that this path is or lies in.
    pub fn object_instance(&self) -> Option<Path> {
        let instance = self.instance()?;
        Some(Path { object: self.object.clone(), below: Below::Instance { instance }, given: self.given })
    }
}

/// As Coiote takes it: by name, and in numbers where nobody gave the object a name.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = match &self.object {
            Name::Text(name) => {
                f.write_str(name)?;
                '.'
            }
            Name::Number(id) => {
                write!(f, "/{id}")?;
                '/'
            }
        };
        for id in [self.instance()].into_iter().flatten() {
            write!(f, "{separator}{id}")?;
        }
        match self.resource() {
            None => {}
            Some(Name::Text(name)) => write!(f, "{separator}{name}")?,
            Some(Name::Number(id)) => write!(f, "{separator}{id}")?,
        }
        for id in [self.resource_instance()].into_iter().flatten() {
            write!(f, "{separator}{id}")?;
        }
        Ok(())
    }
}

/// Behind so many dots a resource's name is looked for where the instance is none.
const MOST_DOTS: usize = 8;

/// The object's name, and what follows the dot behind it. A described object wins, the longest name first; but not where
/// its name only begins the name of an object that nobody described (`Temperature.v2.0`).
fn split_object(key: &str) -> (&str, Option<&str>) {
    if Object::by_name(key).next().is_some() {
        return (key, None);
    }
    let dots = || key.match_indices('.').filter_map(|(at, _)| Some((key.get(..at)?, key.get(at + 1..)?)));
    let instance_follows = |rest: &str| rest.split('.').next().is_some_and(is_number);
    let by_form = || dots().find(|(_, rest)| instance_follows(rest));
    let is_meant = |(name, rest): &(&str, &str)| {
        let mut descriptions = Object::of_any_version(name);
        // `Device.UTC Offset`, `Device.x.UTC Offset`: the instance was forgotten, or is none
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

/// Whether slashes stand where dots have to: behind the name or the number of a described object.
fn is_cut_at_slashes(path: &str) -> bool {
    let Some((object, rest)) = path.split_once('/') else { return false };
    let object = object.trim();
    let is_described = match object.parse() {
        Ok(id) => is_number(object) && Object::by_id(id).next().is_some(),
        Err(_) => Object::by_name(object).next().is_some(),
    };
    let number_follows = rest.split(['/', '.']).next().is_some_and(is_number);
    // A name may hold slashes, and begin with a number: `3/4-way valve.0.State`
    let may_be_a_name = is_number(object) && !number_follows && path.contains('.');
    is_described && !may_be_a_name && Object::by_name(path).next().is_none()
}

/// A slash at the end means nothing.
fn without_last_slash(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

/// The described object, by name or number, that the text begins with, and what follows.
fn described_at_start(text: &str) -> Option<(Object, &str)> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if let Some((number, rest)) =
        text.split_at_checked(digits).filter(|(_, rest)| !rest.starts_with(char::is_alphanumeric))
        && let Ok(id) = number.parse()
    {
        return Object::by_id(id).next().map(|object| (object, rest));
    }
    let as_it_is = at_start(text, |name| Object::by_name(name).next(), Object::LONGEST_NAME);
    // Also in other letters: `device/0`
    let starts = |object: &Object| {
        let (start, rest) = text.split_at_checked(object.name().len()).unwrap_or_default();
        start.eq_ignore_ascii_case(object.name()) && !rest.starts_with(char::is_alphanumeric)
    };
    let longest = || Object::all().filter(starts).max_by_key(|object| object.name().len());
    as_it_is.or_else(|| longest().and_then(|object| Some((object, text.get(object.name().len()..)?))))
}

/// The resource, by name or number, that the text begins with, and what follows.
fn resource_at_start(object: Object, text: &str) -> Option<(Resource, &str)> {
    /// Longer than any resource's name.
    const LONGEST: usize = 255;
    let number = text.split(['.', '/']).next().unwrap_or_default();
    if is_number(number) {
        let id: u16 = number.parse().ok()?;
        let resource = object.resources().find(|resource| resource.id() == id)?;
        return Some((resource, text.get(number.len()..).unwrap_or_default()));
    }
    at_start(text, |name| object.resources_named(name).next(), LONGEST)
}

/// The longest beginning of the text that is known and ends where a name can end.
fn at_start<T>(text: &str, known: impl Fn(&str) -> Option<T>, longest: usize) -> Option<(T, &str)> {
    let ends = text.char_indices().filter(|(_, c)| !c.is_alphanumeric()).map(|(at, _)| at).chain([text.len()]);
    let ends = ends.take_while(|end| *end <= longest);
    ends.filter_map(|end| Some((known(text.get(..end)?)?, text.get(end..)?))).last()
}

/// The resource's name, and the resource instance where there is one. A described resource wins, the longest name first.
fn split_resource<'a>(object: &str, text: &'a str) -> (&'a str, Option<&'a str>) {
    let is_described =
        |name: &str| Object::of_any_version(object).any(|object| object.resources_named(name).next().is_some());
    match text.rsplit_once('.') {
        Some((name, number)) if is_number(number) && !is_described(text) => (name, Some(number)),
        _ => (text, None),
    }
}

/// Names that nobody described are taken as they are, but not every text is a name.
fn check_name(name: &str) -> Result<(), String> {
    let padded = name.split('.').any(|part| part.trim() != part);
    if padded { Err("a space at the start or end of a name".into()) } else { Ok(()) }
}

/// The resource's name, or its number where nobody described it.
fn resource_by_id(objects: impl Iterator<Item = Object>, id: u16) -> Name {
    let described = objects.flat_map(Object::resources).find(|resource| resource.id() == id);
    described.map_or(Name::Number(id), |resource| Name::Text(resource.name().to_owned()))
}

fn is_number(component: &str) -> bool {
    !component.is_empty() && component.bytes().all(|byte| byte.is_ascii_digit())
}

fn id(component: &str, of: &str) -> Result<u16, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(key: &str) -> Path {
        match Target::parse(key) {
            Ok(Target::Path(path)) => path,
            other => panic!("{key}: {other:?}"),
        }
    }

    #[test]
    fn every_level_is_told_apart_and_written_back_the_same() {
        use Level::*;
        for (key, level) in [
            ("Device", Object),
            ("Device.0", ObjectInstance),
            ("Device.0.UTC Offset", Resource),
            ("Test object.0.Integer array.4", ResourceInstance),
            ("Connectivity Monitoring.0.Radio Signal Strength", Resource),
            ("LwM2M Server.65534", ObjectInstance),
            // Names with dots, commas and slashes
            ("LwM2M v1.0 Test Object", Object),
            ("LwM2M v1.0 Test Object.0", ObjectInstance),
            ("LwM2M v1.0 Test Object.0.String", Resource),
            ("Air quality.0.PM2.5 24 hour average", Resource),
            ("LWM2M Security.0.TLS 1.3 Features To Use by Client", Resource),
            ("Access Control.3.Validity (MCC, MNC)", Resource),
            ("Security.0.DTLS/TLS Ciphersuite.2", ResourceInstance),
            ("Größe.0.Länge", Resource),
        ] {
            let path = parse(key);
            assert_eq!(path.level(), level, "{key}");
            assert_eq!(path.to_string(), key);
            assert_eq!(parse(&format!("{key}.")), path, "a trailing dot means nothing: {key}");
        }
    }

    #[test]
    fn numbers_and_names_are_the_same_path() {
        for (number, name) in [
            ("/3", "Device"),
            ("/3/0", "Device.0"),
            ("/3/0/14", "Device.0.UTC Offset"),
            ("/1/1/1", "LwM2M Server.1.Lifetime"),
            ("/6/0/0", "Location.0.Latitude"),
            ("/3/0/11/2", "Device.0.Error Code.2"),
            // A vendor's own resource
            ("/3/0/26241", "Device.0.26241"),
        ] {
            assert_eq!(parse(number), parse(name), "{number}");
            assert_eq!(parse(number).to_string(), name);
            assert_eq!(parse(name).by_number().as_deref(), Some(number));
            assert_eq!(parse(&format!("{number}.")), parse(name), "a trailing dot means nothing");
            assert_eq!(parse(&format!("{number}/")), parse(name), "and neither does a slash");
        }
        // A resource by its number behind an object by its name
        assert_eq!(parse("Device.0.14"), parse("/3/0/14"));
        assert_eq!(parse("Device.0.9999"), parse("/3/0/9999"));
        // The second object of the name
        assert_eq!(parse("/3336/0/6051").to_string(), "Location.0.Numeric Latitude");
        // Nobody described it: it passes as it is
        assert_eq!(parse("/32801/0/1").to_string(), "/32801/0/1");
        assert_eq!(parse("/32801/0/1").by_number().as_deref(), Some("/32801/0/1"));
        assert_eq!(parse("Boiler Controller.0.Pressure").by_number(), None);
        assert_eq!(parse("/3/0/9999").to_string(), "Device.0.9999");
    }

    #[test]
    fn described_names_win_over_the_form() {
        for (key, level) in [
            ("Robot PM.0.PM2.5", Level::Resource),
            ("Robot PM.0.PM2.5.1", Level::ResourceInstance),
            ("Vendor.0.PM2.5", Level::ResourceInstance),
            ("Temperature.v2.0.Value", Level::Resource),
            ("Device.Info.0", Level::ObjectInstance),
            ("LwM2M v1.0 Test Object.0", Level::ObjectInstance),
            ("LwM2M v1.0 Test Object.65534.String", Level::Resource),
        ] {
            assert_eq!((parse(key).level(), parse(key).to_string().as_str()), (level, key));
        }
    }

    #[test]
    fn the_root_has_four_forms() {
        for key in ["/", "", ".", "all", "/.", "all."] {
            assert_eq!(Target::parse(key), Ok(Target::Root), "{key:?}");
        }
    }

    #[test]
    fn what_is_no_path_is_told_why() {
        for (key, why) in [
            ("Device..0", "empty name"),
            (".Device", "empty name"),
            ("Device.0..", "empty name"),
            ("..", "empty name"),
            ("Device.65535", "65535 is reserved"),
            ("Device.99999999999999999999", "65535 is reserved"),
            ("Device.00", "leading zero"),
            // The instance was forgotten
            ("Device.UTC Offset", "the object instance has to be a number"),
            ("Device.Error Code.0", "the object instance has to be a number"),
            ("Test object.0.Integer array.65535", "65535 is reserved"),
            ("Device. 0", "did you mean \"Device.0\"?"),
            (" Device.0", "space"),
            ("Dev\nice.0", "control"),
            (
                "3.0.14",
                "object's name, as in Device.0, or with a slash, as in /3/0 (did you mean \"Device.0.UTC Offset\"?)",
            ),
            ("5", "did you mean \"Firmware Update\"?"),
            ("32801.0.1", "or with a slash, as in /3/0 (did you mean \"/32801/0/1\"?)"),
            ("//0", "the object has to be a number"),
            ("/3/0/x", "the resource has to be a number"),
            ("/3/0/14/0/0", "at most four parts"),
            ("/65535", "65535 is reserved"),
            ("/3/-1", "has to be a number"),
            ("/03", "leading zero"),
        ] {
            match Target::parse(key) {
                Err(message) => assert!(message.contains(why), "{key:?}: {message}"),
                Ok(target) => panic!("{key:?} was taken as {target:?}"),
            }
        }
    }

    #[test]
    fn what_is_nearly_a_path_is_told_which_one_may_have_been_meant() {
        for (key, meant) in [
            ("Device/0/Battery Level", "Device.0.Battery Level"),
            ("/Device/0/Battery Level", "Device.0.Battery Level"),
            ("Device/0", "Device.0"),
            ("Device/0/9", "Device.0.Battery Level"),
            ("Device/0/Batery Level", "Device.0.Battery Level"),
            ("Device.0/Battery Level", "Device.0.Battery Level"),
            ("3/0/Battery Level", "Device.0.Battery Level"),
            ("/3/0/Battery Level", "Device.0.Battery Level"),
            ("3/0.9", "Device.0.Battery Level"),
            ("3.0.UTC Offset", "Device.0.UTC Offset"),
            ("Device.x.UTC Offset", "Device.0.UTC Offset"),
            ("Device.-1.UTC Offset", "Device.0.UTC Offset"),
            ("Device.UTC Offset", "Device.0.UTC Offset"),
            ("Device.x", "Device.0"),
            ("Device.*.UTC Offset", "Device.0.UTC Offset"),
            ("Device.x.Error Code.0", "Device.0.Error Code.0"),
            ("Device.0x0.UTC Offset", "Device.0.UTC Offset"),
            ("LwM2M v1.0 Test Object.x.String Value", "LwM2M v1.0 Test Object.0.String Value"),
            ("RDB/4/Key", "RDB.4.Key"),
            ("LwM2M Server/1/Lifetime", "LwM2M Server.1.Lifetime"),
            ("3/x/14", "Device.0.UTC Offset"),
            ("3/-1/14", "Device.0.UTC Offset"),
            ("3 /0/14", "Device.0.UTC Offset"),
            ("3/x", "Device.0"),
            ("3//0", "Device.0"),
            ("/3//14", "Device.0.UTC Offset"),
            ("/3/-1", "Device.0"),
            ("/3/x", "Device.0"),
            ("/1//1", "LwM2M Server.1"),
            ("3-0-14", "Device.0.UTC Offset"),
            ("3,0,14", "Device.0.UTC Offset"),
            ("3:0:14", "Device.0.UTC Offset"),
            ("3(0)", "Device.0"),
            ("3 0 14", "Device.0.UTC Offset"),
            ("3.-1.14", "Device.0.UTC Offset"),
            ("Device.UTC Offset.0", "Device.0.UTC Offset"),
            ("Device.5/UTC Offset", "Device.0.UTC Offset"),
            ("Device /0/UTC Offset", "Device.0.UTC Offset"),
            ("32801-0-1", "/32801/0/1"),
            ("/all", "all"),
        ] {
            match Target::parse(key) {
                Err(why) => assert!(why.ends_with(&format!("(did you mean \"{meant}\"?)")), "{key}: {why}"),
                Ok(target) => panic!("{key} was taken as {target:?}"),
            }
        }
        // Only numbers: that is a path
        assert_eq!(parse("3/0/14"), parse("Device.0.UTC Offset"));
        assert_eq!(parse("32801/0/1").to_string(), "/32801/0/1");
        assert_eq!(parse("3/"), parse("Device"));
        assert_eq!(parse("3/0/"), parse("Device.0"));
        // Perhaps another's name
        for (key, meant) in [
            ("device/0/UTC Offset", "Device.0.UTC Offset"),
            ("Device,0,Battery Level", "Device.0.Battery Level"),
            ("Device\\0\\Battery Level", "Device.0.Battery Level"),
            ("Device(0)", "Device.0"),
            ("Device (0) Battery Level", "Device.0.Battery Level"),
            ("Device-0-Battery Level", "Device.0.Battery Level"),
            ("Device,Battery Level", "Device.0.Battery Level"),
            ("LWM2M Bearer Selection(0)Acceptable RSSI (GSM)", "LWM2M Bearer Selection.0.Acceptable RSSI (GSM)"),
            ("3.x.14", "Device.0.UTC Offset"),
            ("Device.x.14", "Device.0.UTC Offset"),
            ("ALL", "all"),
            ("All.", "all"),
            ("*", "all"),
        ] {
            assert!(parse(key).descriptions().next().is_none(), "{key}");
            assert_eq!(Target::meant_by(key).as_deref(), Some(meant), "{key}");
        }
        // Like nothing known, or what may be another's name
        for key in
            ["Vendor/0/x", "Device Info.0.x", "3/4-way valve.0.State", "3.5mm jack.0.x", "Größe/0", "Device-Info.0"]
                .into_iter()
                .chain([
                    "Device 2nd floor.0.x",
                    "Location (GPS).0.Speed",
                    "Device, indoor.0.x",
                    "32801/x/1",
                    "4-way.0.x",
                ])
        {
            assert_eq!(parse(key).to_string(), key);
            assert!(!parse(key).starts_like_a_described_object() && Target::meant_by(key).is_none(), "{key}");
        }
        assert!(parse("Device.Info.0").starts_like_a_described_object());
    }

    #[test]
    fn blanks_between_words_count_as_one_and_the_registered_name_is_sent() {
        for key in [
            "WLAN connectivity.0.Multicast Packets Received",
            "WLAN connectivity.0.Multicast Packets  Received",
            "WLAN  connectivity.0.Multicast   Packets\u{a0}Received",
            "/12/0/42",
        ] {
            assert_eq!(parse(key).to_string(), "WLAN connectivity.0.Multicast Packets  Received", "{key}");
        }
        assert_eq!(parse("Device.0.UTC  Offset"), parse("Device.0.UTC Offset"));
        // What nobody described passes as it is
        assert_eq!(parse("Boiler  7.0.Set  Point").to_string(), "Boiler  7.0.Set  Point");
    }

    #[test]
    fn above_and_below_follow_the_tree_not_the_text() {
        let above = |key: &str| parse(key).ancestors().map(|path| path.to_string()).collect::<Vec<_>>();
        assert_eq!(
            above("Test object.0.Integer array.4"),
            ["Test object.0.Integer array", "Test object.0", "Test object"]
        );
        assert_eq!(above("LwM2M Server.10"), ["LwM2M Server"]);
        assert_eq!(above("Device"), [] as [&str; 0]);
        assert_eq!(parse("Device.0.UTC Offset").object_instance(), Some(parse("Device.0")));
        assert_eq!(parse("Device").object_instance(), None);
    }
}
