//! Paths in a data model, and resolution of keys into paths.
//!
//! Keys are names (`Test object.0.Integer array.4`), and names may hold dots (`PM2.5`). So a key is resolved against the
//! objects that the device has, and the longest name that fits wins.

use std::fmt;

use super::definition::{Catalogue, ObjectDefinition};

/// Resolved path. Nothing need exist there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Path {
    Object(u16),
    Instance(u16, u16),
    Resource(u16, u16, u16),
    ResourceInstance(u16, u16, u16, u16),
}

impl Path {
    pub(crate) fn object(self) -> u16 {
        match self {
            Self::Object(object)
            | Self::Instance(object, _)
            | Self::Resource(object, _, _)
            | Self::ResourceInstance(object, _, _, _) => object,
        }
    }

    /// Object and object instance; `None` for an object's path.
    pub(crate) fn instance(self) -> Option<(u16, u16)> {
        match self {
            Self::Object(_) => None,
            Self::Instance(object, instance)
            | Self::Resource(object, instance, _)
            | Self::ResourceInstance(object, instance, _, _) => Some((object, instance)),
        }
    }

    /// Object instance and resource; `None` for a shorter path.
    pub(crate) fn resource(self) -> Option<(u16, u16)> {
        match self {
            Self::Object(_) | Self::Instance(..) => None,
            Self::Resource(_, instance, resource) | Self::ResourceInstance(_, instance, resource, _) => {
                Some((instance, resource))
            }
        }
    }

    fn parent(self) -> Option<Self> {
        match self {
            Self::Object(_) => None,
            Self::Instance(o, _) => Some(Self::Object(o)),
            Self::Resource(o, i, _) => Some(Self::Instance(o, i)),
            Self::ResourceInstance(o, i, r, _) => Some(Self::Resource(o, i, r)),
        }
    }

    /// The path and those above it, up to the object.
    pub(crate) fn and_above(self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self), |path| path.parent())
    }

    /// Whether `other` is this path or lies below it.
    pub(crate) fn holds(self, other: Self) -> bool {
        let (mine, its) = (self.to_string(), other.to_string());
        its == mine || its.strip_prefix(&mine).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(o) => write!(f, "/{o}"),
            Self::Instance(o, i) => write!(f, "/{o}/{i}"),
            Self::Resource(o, i, r) => write!(f, "/{o}/{i}/{r}"),
            Self::ResourceInstance(o, i, r, ri) => write!(f, "/{o}/{i}/{r}/{ri}"),
        }
    }
}

impl Catalogue {
    /// Resolves a key; a trailing dot is ignored. The error names the part that does not fit.
    pub(crate) fn resolve(&self, key: &str) -> Result<Path, String> {
        let path = key.strip_suffix('.').unwrap_or(key);
        let mut candidates: Vec<_> =
            self.objects().filter_map(|object| Some((object, below(path, &object.name)?))).collect();
        candidates.sort_by_key(|(object, _)| std::cmp::Reverse(object.name.len()));
        let mut first_error = None;
        for (object, rest) in candidates {
            match resolve_in(object, rest) {
                Ok(path) => return Ok(path),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| "the device has no such object".to_owned()))
    }
}

/// Rest of the path after `name`: `Some(None)` if the path ends with it, `None` if the path does not start with it.
fn below<'p>(path: &'p str, name: &str) -> Option<Option<&'p str>> {
    let rest = path.strip_prefix(name)?;
    if rest.is_empty() {
        return Some(None);
    }
    rest.strip_prefix('.').map(Some)
}

fn resolve_in(object: &ObjectDefinition, rest: Option<&str>) -> Result<Path, String> {
    let Some(rest) = rest else {
        return Ok(Path::Object(object.id));
    };
    let (instance, rest) = match rest.split_once('.') {
        Some((instance, rest)) => (instance, Some(rest)),
        None => (rest, None),
    };
    let instance =
        number(instance).ok_or_else(|| format!("{instance:?} is not an object instance of {}", object.name))?;
    let Some(rest) = rest else {
        return Ok(Path::Instance(object.id, instance));
    };
    let mut fitting: Vec<_> =
        object.resources.iter().filter_map(|resource| Some((resource, below(rest, &resource.name)?))).collect();
    fitting.sort_by_key(|(resource, _)| std::cmp::Reverse(resource.name.len()));
    for (resource, rest) in fitting {
        match rest {
            None => return Ok(Path::Resource(object.id, instance, resource.id)),
            Some(rest) => {
                if let Some(resource_instance) = number(rest) {
                    return Ok(Path::ResourceInstance(object.id, instance, resource.id, resource_instance));
                }
            }
        }
    }
    Err(format!("{} has no resource {rest:?}", object.name))
}

/// Parses an instance number: decimal, without sign or leading zeros. 65535 is reserved (LwM2M Core, section 7.2).
fn number(text: &str) -> Option<u16> {
    let number: u16 = text.parse().ok()?;
    (number != u16::MAX && number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolves_names_with_dots_commas_and_resource_instances() {
        let catalogue = Catalogue::load().unwrap();
        for (key, path) in [
            ("Device", "/3"),
            ("Device.", "/3"),
            ("Device.0", "/3/0"),
            ("Device.0.", "/3/0"),
            ("Device.0.UTC Offset", "/3/0/14"),
            ("LwM2M Server.1.Lifetime", "/1/1/1"),
            ("Portfolio.11.Identity.1", "/16/11/0/1"),
            ("Test object.0.Integer array.4", "/33605/0/3/4"),
            ("Air quality.0.PM2.5", "/3428/0/3"),
            ("Air quality.0.PM2.5 24 hour average", "/3428/0/4"),
            ("LWM2M APN Connection Profile.0.Validity (MCC, MNC).0", "/11/0/8/0"),
        ] {
            assert_eq!(catalogue.resolve(key).map(|p| p.to_string()), Ok(path.to_owned()), "{key}");
        }
    }

    #[test]
    fn says_what_does_not_fit() {
        let catalogue = Catalogue::load().unwrap();
        for (key, part) in [
            ("Devise", "no such object"),
            ("device.0", "no such object"),
            ("Device.x", "not an object instance"),
            ("Device.00", "not an object instance"),
            ("Device.65535", "not an object instance"),
            ("Device.0.UTC Ofset", "no resource"),
            ("Device.0.UTC Offset.x", "no resource"),
            ("Device..", "not an object instance"),
            ("/3/0/14", "no such object"),
        ] {
            let error = catalogue.resolve(key).unwrap_err();
            assert!(error.contains(part), "{key}: {error}");
        }
    }

    #[test]
    fn a_path_lies_in_its_object() {
        let paths: Vec<_> = Path::ResourceInstance(3, 0, 6, 1).and_above().map(|path| path.to_string()).collect();
        assert_eq!(paths, ["/3/0/6/1", "/3/0/6", "/3/0", "/3"]);
    }

    #[test]
    fn a_path_holds_what_lies_below_it() {
        assert!(Path::Object(3).holds(Path::Resource(3, 0, 14)));
        assert!(!Path::Object(3).holds(Path::Object(33605)));
        assert!(!Path::Instance(16, 1).holds(Path::Instance(16, 11)));
    }
}
