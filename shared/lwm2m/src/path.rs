//! Paths into a device's data model, as Coiote spells them.
//!
//! `Object name.instance.Resource name[.resource instance]`, cut short at any level. Names hold spaces, slashes, commas
//! and even dots (`LwM2M v1.0 Test Object`, `PM2.5 24 hour average`), so a path is not simply split at its dots: the
//! object's name ends where the first component that is a number begins.
//!
//! Ids are those of OMA LwM2M Core 1.1, section 7.2: 0 to 65534, with 65535 reserved.

use std::fmt;

/// The largest id of an object instance or a resource instance; 65535 (MAX_ID) is reserved.
pub const LARGEST_ID: u16 = 65534;

/// A place in the data model below the root: an object, an object instance, a resource or a resource instance.
///
/// Equality and [`Path::parent`] follow the tree, not the text: `LwM2M Server.1` is not above `LwM2M Server.10`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path {
    object: String,
    below: Below,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Below {
    Object,
    Instance { instance: u16 },
    Resource { instance: u16, resource: String },
    ResourceInstance { instance: u16, resource: String, resource_instance: u16 },
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
            "" | "/" | "." | "all" => Ok(Target::Root),
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
        if key.starts_with('/') {
            return Err("paths by number are not supported yet; write names, as in Device.0.UTC Offset".into());
        }
        if key.chars().any(char::is_control) {
            return Err("a path holds no control characters".into());
        }
        let key = key.strip_suffix('.').unwrap_or(key);
        let components: Vec<&str> = key.split('.').collect();
        if components.iter().any(|component| component.is_empty()) {
            return Err("an empty name between dots".into());
        }
        if components.iter().any(|component| component.trim() != *component) {
            return Err("a space at the start or end of a name".into());
        }

        // The first number after a name is the object instance: no object's name has a component that is all digits.
        let instance_at = (1..components.len()).find(|&i| components.get(i).is_some_and(|c| is_number(c)));
        let (object, rest) = match instance_at {
            Some(at) => components.split_at(at),
            None => (components.as_slice(), [].as_slice()),
        };
        let object = object.join(".");
        if is_number(&object) {
            return Err("a path starts with an object's name, as in Device.0".into());
        }

        let below = match rest {
            [] => Below::Object,
            [instance] => Below::Instance { instance: id(instance, "object instance")? },
            [instance, resource @ .., last] if !resource.is_empty() && is_number(last) => Below::ResourceInstance {
                instance: id(instance, "object instance")?,
                resource: resource.join("."),
                resource_instance: id(last, "resource instance")?,
            },
            [instance, resource @ ..] => {
                Below::Resource { instance: id(instance, "object instance")?, resource: resource.join(".") }
            }
        };
        Ok(Path { object, below })
    }

    /// The object's name.
    pub fn object(&self) -> &str {
        &self.object
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
        match &self.below {
            Below::Object => None,
            Below::Instance { instance }
            | Below::Resource { instance, .. }
            | Below::ResourceInstance { instance, .. } => {
                Some(Path { object: self.object.clone(), below: Below::Instance { instance: *instance } })
            }
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = &self.object;
        match &self.below {
            Below::Object => write!(f, "{object}"),
            Below::Instance { instance } => write!(f, "{object}.{instance}"),
            Below::Resource { instance, resource } => write!(f, "{object}.{instance}.{resource}"),
            Below::ResourceInstance { instance, resource, resource_instance } => {
                write!(f, "{object}.{instance}.{resource}.{resource_instance}")
            }
        }
    }
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
    fn the_root_has_four_forms() {
        for key in ["/", "", ".", "all"] {
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
            ("Test object.0.Integer array.65535", "65535 is reserved"),
            ("Device. 0", "space"),
            (" Device.0", "space"),
            ("Dev\nice.0", "control"),
            ("3.0.14", "object's name"),
            ("5", "object's name"),
            ("/3/0", "by number"),
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
