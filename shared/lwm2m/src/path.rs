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

use crate::objects::Object;

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
        let key = key.strip_suffix('.').unwrap_or(key);
        match key.strip_prefix('/') {
            Some(ids) => Path::of_ids(ids),
            None => Path::of_names(key),
        }
    }

    fn of_ids(ids: &str) -> Result<Path, String> {
        let ids = ids.strip_suffix('/').unwrap_or(ids);
        let mut ids = ids.split('/');
        let mut next = |of| ids.next().map(|component| id(component, of)).transpose();
        let object = next("object")?.ok_or("an object's number is missing")?;
        let instance = next("object instance")?;
        let resource = next("resource")?;
        let resource_instance = next("resource instance")?;
        if ids.next().is_some() {
            return Err("a path by number has at most four parts: object, instance, resource, resource instance".into());
        }

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
        Ok(Path { object, below })
    }

    fn of_names(key: &str) -> Result<Path, String> {
        if key.split('.').any(str::is_empty) {
            return Err("an empty name between dots".into());
        }
        let (object, rest) = split_object(key);
        if is_number(object) {
            return Err("a path starts with an object's name, as in Device.0, or with a slash, as in /3/0".into());
        }
        check_name(object)?;
        let rest = rest.map(|rest| rest.split_once('.').map_or((rest, None), |(id, resource)| (id, Some(resource))));
        let below = match rest {
            None => Below::Object,
            Some((instance, None)) => Below::Instance { instance: id(instance, "object instance")? },
            Some((instance, Some(resource))) => {
                let instance = id(instance, "object instance")?;
                let (resource, resource_instance) = split_resource(object, resource);
                check_name(resource)?;
                let mut descriptions = Object::by_name(object).peekable();
                let resource = match id(resource, "resource") {
                    Ok(id) if descriptions.peek().is_some() => resource_by_id(descriptions, id),
                    _ => Name::Text(resource.to_owned()),
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
        Ok(Path { object: Name::Text(object.to_owned()), below })
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

    /// The descriptions of the object; none where nobody described it.
    pub fn descriptions(&self) -> impl Iterator<Item = Object> + Clone {
        self.object_name().into_iter().flat_map(Object::by_name)
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
        let described = |name: &str| self.descriptions().any(|object| object.resources_named(name).next().is_some());
        match &self.below {
            Below::ResourceInstance { resource: Name::Text(name), .. } => {
                self.object_name().is_some() && !described(name)
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
        Some(Path { object: self.object.clone(), below })
    }

    /// The paths above this one, nearest first, without the root.
    pub fn ancestors(&self) -> impl Iterator<Item = Path> {
        std::iter::successors(self.parent(), Path::parent)
    }

    /// The object instance that this path is or lies in.
    pub fn object_instance(&self) -> Option<Path> {
        let instance = self.instance()?;
        Some(Path { object: self.object.clone(), below: Below::Instance { instance } })
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

/// The object's name, and what follows the dot behind it. A described object wins, the longest name first; but not where
/// its name only begins the name of an object that nobody described (`Temperature.v2.0`).
fn split_object(key: &str) -> (&str, Option<&str>) {
    if Object::by_name(key).next().is_some() {
        return (key, None);
    }
    let dots = || key.match_indices('.').filter_map(|(at, _)| Some((key.get(..at)?, key.get(at + 1..)?)));
    let instance_follows = |rest: &str| rest.split('.').next().is_some_and(is_number);
    let is_meant = |(name, rest): &(&str, &str)| {
        let mut descriptions = Object::by_name(name);
        // `Device.UTC Offset`: the instance was forgotten
        let forgotten = |object: Object| object.resources().any(|resource| rest.starts_with(resource.name()));
        if instance_follows(rest) { descriptions.next().is_some() } else { descriptions.any(forgotten) }
    };
    let described = dots().take_while(|(name, _)| name.len() <= Object::LONGEST_NAME).filter(is_meant);
    let by_form = || dots().find(|(_, rest)| instance_follows(rest));
    described.last().or_else(by_form).map_or((key, None), |(name, rest)| (name, Some(rest)))
}

/// The resource's name, and the resource instance where there is one. A described resource wins, the longest name first.
fn split_resource<'a>(object: &str, text: &'a str) -> (&'a str, Option<&'a str>) {
    let is_described = |name: &str| Object::by_name(object).any(|object| object.resources_named(name).next().is_some());
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
            ("Device. 0", "space"),
            (" Device.0", "space"),
            ("Dev\nice.0", "control"),
            ("3.0.14", "object's name"),
            ("5", "object's name"),
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
