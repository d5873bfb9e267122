//! Paths into a device's data model, in the form that Coiote takes.
//!
//! The form is `Object name.instance.Resource name[.resource instance]`, cut short at any level. Names contain spaces,
//! slashes, commas and even dots (`LwM2M v1.0 Test Object`, `PM2.5`), so splitting at dots is not enough: the parser looks for
//! the names of described objects and resources first. A path without described names is split by form alone, with the
//! object's name ending before the first component that is a number.
//!
//! Numeric paths (`/3/0/14`) are translated to names.
//!
//! Ids are those of OMA LwM2M Core 1.1, section 7.2: 0 to 65534, with 65535 reserved.
//!
//! - `parse`: from text to a path.
//! - `prefix`: described names at the start of a text.
//! - `suggest`: the path that a wrong key may have been meant for.

mod parse;
mod prefix;
mod suggest;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::objects::{Object, Resource, is_same_name};

/// Largest id of an object, an instance or a resource; 65535 (MAX_ID) is reserved.
pub const LARGEST_ID: u16 = 65534;

/// Path to an object, an object instance, a resource or a resource instance.
///
/// Equality and [`Path::parent`] follow the tree, not the text: `LwM2M Server.1` is not above `LwM2M Server.10`, and
/// `/3/0` is `Device.0`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path {
    object: Identifier,
    tail: Tail,
    given_ids: GivenIds,
}

/// Ids by which the object and the resource were given, where the path was not given by name.
///
/// They select among several descriptions of one name. They do not take part in comparisons: `/3/0` and `Device.0` are
/// the same path.
#[derive(Debug, Clone, Copy, Default)]
struct GivenIds {
    object: Option<u16>,
    resource: Option<u16>,
}

impl PartialEq for GivenIds {
    fn eq(&self, _other: &GivenIds) -> bool {
        true
    }
}

impl Eq for GivenIds {}

impl Hash for GivenIds {
    fn hash<H: Hasher>(&self, _state: &mut H) {}
}

/// Name or id of an object or a resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identifier {
    /// The name, which is sent to Coiote.
    Name(String),
    /// The id of an object or a resource without a description, and so without a known name.
    Id(u16),
}

impl Identifier {
    /// Name of the resource with this id in the first of the objects that has it, or the id where none has.
    fn of_resource(objects: impl Iterator<Item = Object>, id: u16) -> Identifier {
        let described = objects.flat_map(Object::resources).find(|resource| resource.id() == id);
        described.map_or(Identifier::Id(id), |resource| Identifier::Name(resource.name().to_owned()))
    }
}

/// Part of a path below its object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Tail {
    Object,
    Instance { instance: u16 },
    Resource { instance: u16, resource: Identifier },
    ResourceInstance { instance: u16, resource: Identifier, resource_instance: u16 },
}

/// Level of the data model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The whole data model.
    Root,
    /// An object with all of its instances.
    Object,
    /// An object instance with all of its resources.
    ObjectInstance,
    /// A resource, with all of its instances where it is multiple.
    Resource,
    /// A resource instance.
    ResourceInstance,
}

impl Level {
    /// The level in the specification's words, with an article, for messages.
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

/// Part of the data model that a key of a request addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// The whole data model.
    Root,
    /// Everything at and below a path.
    Path(Path),
}

impl Target {
    /// Parses a key: one of the root forms `/`, the empty string, `.` and `all`, or a path. A trailing dot is ignored.
    ///
    /// ```
    /// use lwm2m::path::{Level, Target};
    ///
    /// let by_name = Target::parse("Device.0.UTC Offset")?;
    /// assert_eq!(by_name.level(), Level::Resource);
    /// assert_eq!(Target::parse("/3/0/14")?, by_name);
    /// assert_eq!(Target::parse("all")?, Target::Root);
    ///
    /// let mistake = Target::parse("Device.x");
    /// let message = "the object instance has to be a number from 0 to 65534 (did you mean \"Device.0\"?)";
    /// assert_eq!(mistake, Err(message.to_owned()));
    /// # Ok::<(), String>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A message that says what is wrong, with a suggestion where there is one. It does not repeat the key.
    pub fn parse(key: &str) -> Result<Target, String> {
        match key {
            "" | "." | "/" | "/." | "all" | "all." => Ok(Target::Root),
            path => Path::parse(path).map(Target::Path),
        }
    }

    /// Suggests a key for one that is not a path, or whose object has no description although its first part is the name
    /// or the id of a described one: `ALL`, `Device/0/Battery Level`, `3.0.9`, `Device.x.UTC Offset`.
    pub fn suggestion(key: &str) -> Option<String> {
        let key = key.trim_matches(|c: char| c.is_whitespace() || matches!(c, '.' | '/'));
        if key == "*" || key.eq_ignore_ascii_case("all") {
            return Some("all".to_owned());
        }
        suggest::similar_path(key).map(|path| path.to_string())
    }

    /// Level of the data model that the target is at.
    pub fn level(&self) -> Level {
        match self {
            Target::Root => Level::Root,
            Target::Path(path) => path.level(),
        }
    }
}

impl Path {
    /// Name or id of the object.
    pub fn object(&self) -> &Identifier {
        &self.object
    }

    /// Name of the object; `None` for an object without a description that was given by its id.
    pub fn object_name(&self) -> Option<&str> {
        match &self.object {
            Identifier::Name(name) => Some(name),
            Identifier::Id(_) => None,
        }
    }

    /// Id of the object instance; `None` for the path of an object.
    pub fn instance(&self) -> Option<u16> {
        match self.tail {
            Tail::Object => None,
            Tail::Instance { instance } | Tail::Resource { instance, .. } | Tail::ResourceInstance { instance, .. } => {
                Some(instance)
            }
        }
    }

    /// Name or id of the resource; `None` above the level of resources.
    pub fn resource(&self) -> Option<&Identifier> {
        match &self.tail {
            Tail::Object | Tail::Instance { .. } => None,
            Tail::Resource { resource, .. } | Tail::ResourceInstance { resource, .. } => Some(resource),
        }
    }

    /// Id by which the resource was given; `None` where it was given by name.
    pub(crate) fn resource_id(&self) -> Option<u16> {
        self.given_ids.resource
    }

    fn resource_instance(&self) -> Option<u16> {
        match self.tail {
            Tail::ResourceInstance { resource_instance, .. } => Some(resource_instance),
            _ => None,
        }
    }

    /// Level of the data model that the path leads to.
    pub fn level(&self) -> Level {
        match self.tail {
            Tail::Object => Level::Object,
            Tail::Instance { .. } => Level::ObjectInstance,
            Tail::Resource { .. } => Level::Resource,
            Tail::ResourceInstance { .. } => Level::ResourceInstance,
        }
    }

    /// The path one level up; `None` for an object.
    pub fn parent(&self) -> Option<Path> {
        let tail = match &self.tail {
            Tail::Object => return None,
            Tail::Instance { .. } => Tail::Object,
            Tail::Resource { instance, .. } => Tail::Instance { instance: *instance },
            Tail::ResourceInstance { instance, resource, .. } => {
                Tail::Resource { instance: *instance, resource: resource.clone() }
            }
        };
        Some(Path { object: self.object.clone(), tail, given_ids: self.given_ids })
    }

    /// The paths above this one, nearest first, without the root.
    pub fn ancestors(&self) -> impl Iterator<Item = Path> {
        std::iter::successors(self.parent(), Path::parent)
    }

    /// Path of the object instance that this path is or lies in; `None` for an object.
    pub fn object_instance(&self) -> Option<Path> {
        let instance = self.instance()?;
        Some(Path { object: self.object.clone(), tail: Tail::Instance { instance }, given_ids: self.given_ids })
    }

    /// Descriptions of the object in all of its versions; empty for an object without a description.
    pub fn descriptions(&self) -> impl Iterator<Item = Object> + Clone {
        let name = self.object_name().filter(|_| self.given_ids.object.is_none());
        let by_id = self.given_ids.object.into_iter().flat_map(Object::by_id);
        by_id.chain(name.into_iter().flat_map(Object::of_any_version))
    }

    /// Descriptions of the resource in one of the object's descriptions. A resource that was given by its id is looked up by
    /// it, because versions of an object may give an id different names.
    pub fn resources_in(&self, object: Object) -> impl Iterator<Item = Resource> + Clone {
        let (id, name) = match (self.given_ids.resource, self.resource()) {
            (Some(id), _) => (Some(id), None),
            (None, Some(Identifier::Id(id))) => (Some(*id), None),
            (None, Some(Identifier::Name(name))) => (None, Some(name)),
            (None, None) => (None, None),
        };
        let by_id = object.resources().filter(move |resource| Some(resource.id()) == id);
        by_id.chain(name.into_iter().flat_map(move |name| object.resources_named(name)))
    }

    /// Descriptions of the resource, in all descriptions of the object.
    pub(crate) fn described_resources(&self) -> impl Iterator<Item = Resource> {
        self.descriptions().flat_map(|object| self.resources_in(object))
    }

    /// The numeric form, as in `/3/0/14`; `None` where a name in the path has no description.
    pub fn by_number(&self) -> Option<String> {
        let with = |object: u16, resource: Option<u16>| {
            let mut path = format!("/{object}");
            for id in [self.instance(), resource, self.resource_instance()].into_iter().flatten() {
                path.push_str(&format!("/{id}"));
            }
            path
        };
        match (&self.object, self.resource()) {
            (Identifier::Id(object), None) => Some(with(*object, None)),
            (Identifier::Id(object), Some(Identifier::Id(resource))) => Some(with(*object, Some(*resource))),
            (Identifier::Id(_), Some(Identifier::Name(_))) => None,
            (Identifier::Name(_), None) => self.descriptions().next().map(|object| with(object.id(), None)),
            (Identifier::Name(_), Some(Identifier::Id(id))) => {
                self.descriptions().next().map(|object| with(object.id(), Some(*id)))
            }
            (Identifier::Name(_), Some(Identifier::Name(name))) => self
                .descriptions()
                .find_map(|object| object.resources_named(name).next().map(|r| with(object.id(), Some(r.id())))),
        }
    }

    /// Names that other versions of the object have for the ids in the path.
    pub(crate) fn other_names(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        let mut add = |name: &'static str, sent: &Identifier| {
            let is_sent = matches!(sent, Identifier::Name(sent) if is_same_name(sent, name));
            if !is_sent && !names.contains(&name) {
                names.push(name);
            }
        };
        for object in self.descriptions() {
            if self.given_ids.object.is_some() {
                add(object.name(), &self.object);
            }
            if let (Some(id), Some(sent)) = (self.given_ids.resource, self.resource()) {
                object
                    .resources()
                    .filter(|resource| resource.id() == id)
                    .for_each(|resource| add(resource.name(), sent));
            }
        }
        names
    }

    /// Whether a resource that was given by its id is sent under the name that the newest version has for it.
    pub(crate) fn is_named_as_newest(&self) -> bool {
        self.given_ids
            .resource
            .is_none_or(|id| self.resource() == Some(&Identifier::of_resource(self.descriptions(), id)))
    }

    /// Whether the object has no description, but the part before a dot in its name is the name of one that has:
    /// `Device.x.0`.
    pub(crate) fn starts_like_a_described_object(&self) -> bool {
        let Some(name) = self.object_name().filter(|_| self.descriptions().next().is_none()) else { return false };
        let mut dots = name.match_indices('.').map(|(at, _)| at).take_while(|at| *at <= Object::LONGEST_NAME);
        dots.any(|at| Object::by_name(name.get(..at).unwrap_or_default()).next().is_some())
    }

    /// Whether the last number may as well be the end of a resource's name (`PM2.5`), because the resource has no
    /// description.
    pub(crate) fn may_be_a_resource(&self) -> bool {
        match &self.tail {
            Tail::ResourceInstance { resource: Identifier::Name(_), .. } => {
                let is_described = self.descriptions().any(|object| self.resources_in(object).next().is_some());
                self.object_name().is_some() && !is_described
            }
            _ => false,
        }
    }
}

/// The form that Coiote takes: by name, and numeric where the object's name is not known.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = match &self.object {
            Identifier::Name(name) => {
                f.write_str(name)?;
                '.'
            }
            Identifier::Id(id) => {
                write!(f, "/{id}")?;
                '/'
            }
        };
        for id in [self.instance()].into_iter().flatten() {
            write!(f, "{separator}{id}")?;
        }
        match self.resource() {
            None => {}
            Some(Identifier::Name(name)) => write!(f, "{separator}{name}")?,
            Some(Identifier::Id(id)) => write!(f, "{separator}{id}")?,
        }
        for id in [self.resource_instance()].into_iter().flatten() {
            write!(f, "{separator}{id}")?;
        }
        Ok(())
    }
}
