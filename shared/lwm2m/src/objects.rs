//! Descriptions of LwM2M objects: those of OMA's registry, and those that the user has added (see `objects/`).
//!
//! They are compiled in as constant tables (see `build.rs`), which cost nothing at start. A name can have several
//! descriptions: two objects share a name (`Location` is 6 and 3336), and an id can have several versions. So look-ups return
//! all of them, the newest version of an id first, and a request is valid if it fits one.
//!
//! Any number of blanks between the words of a name counts as one, because some names are registered with two.

use std::cmp::Ordering;
use std::fmt;

/// Description of a version of an object.
#[derive(Clone, Copy)]
pub struct Object(&'static ObjectRow);

/// Description of a resource.
#[derive(Clone, Copy)]
pub struct Resource(&'static ResourceRow);

/// Data type of a resource (OMA LwM2M Core 1.1, annex C).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// No type: the resource is executable, or its definition does not name a type.
    None,
    /// Text in UTF-8.
    String,
    /// Signed integer of at most 64 bits.
    Integer,
    /// Unsigned integer of at most 64 bits.
    UnsignedInteger,
    /// Floating-point number.
    Float,
    /// `true` or `false`.
    Boolean,
    /// Bytes.
    Opaque,
    /// Point in time in seconds.
    Time,
    /// Link to an object instance.
    Objlnk,
    /// Links in CoRE Link Format.
    Corelnk,
}

/// Range or enumeration of the values of a resource.
#[derive(Clone, Copy)]
pub struct Range(&'static RangeRow);

/// Smallest id that vendors may use for resources of their own (OMA LwM2M Core 1.1, section 7.1).
pub const FIRST_VENDOR_RESOURCE: u16 = 26241;

struct ObjectRow {
    id: u16,
    name: Text,
    multiple: bool,
    first: u16,
    count: u16,
}

struct ResourceRow {
    id: u16,
    name: Text,
    readable: bool,
    writable: bool,
    executable: bool,
    multiple: bool,
    data_type: DataType,
    /// Index of the range plus one; 0 for none.
    range: u16,
}

struct RangeRow {
    text: Text,
    of: Measured,
    first: u16,
    count: u16,
}

/// Property of a value that a range limits, and the table with the range's parts.
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "which ones occur depends on the definitions")]
enum Measured {
    /// The number: `INTERVALS`.
    Value,
    /// The length in bytes: `INTERVALS`.
    Length,
    /// The text itself: `WORDS`.
    Words,
    /// The text, or its length in bytes, as the definition does not say which: `WORDS`.
    WordsOrLength,
}

/// A part of `TEXTS`. A pointer would have to be relocated at every start.
struct Text {
    at: u32,
    len: u16,
}

include!(concat!(env!("OUT_DIR"), "/tables.rs"));

impl Text {
    fn get(&self) -> &'static str {
        let at = self.at as usize;
        TEXTS.get(at..at + usize::from(self.len)).unwrap_or_default()
    }
}

impl Object {
    /// Length in bytes above which a text is not the name of a described object. It leaves room for additional blanks.
    pub const LONGEST_NAME: usize = LONGEST_OBJECT_NAME + 16;

    /// Descriptions with this name.
    pub fn by_name(name: &str) -> impl Iterator<Item = Object> + Clone {
        let row = |index: &u16| OBJECTS.get(usize::from(*index));
        // A longer text is costly to compare
        let name = if name.len() > Object::LONGEST_NAME { "" } else { name };
        let order = |index: &u16| {
            let known = row(index).map(|object| object.name.get()).unwrap_or_default();
            match known.bytes().next().cmp(&name.bytes().next()) {
                Ordering::Equal => words(known).cmp(words(name)),
                by_first_letter => by_first_letter,
            }
        };
        let from = BY_NAME.partition_point(|index| order(index).is_lt());
        let found = BY_NAME.get(from..).unwrap_or_default().iter();
        let count = found.clone().take_while(|index| order(index).is_eq()).count();
        found.take(count).filter_map(move |index| row(index).map(Object))
    }

    /// Descriptions of all versions of the objects that have this name in any version.
    pub fn of_any_version(name: &str) -> impl Iterator<Item = Object> + Clone {
        let mut last = None;
        Object::by_name(name)
            .filter(move |object| last.replace(object.id()) != Some(object.id()))
            .flat_map(|object| Object::by_id(object.id()))
    }

    /// Descriptions of the object with this id, the newest version first.
    pub fn by_id(id: u16) -> impl Iterator<Item = Object> + Clone {
        let from = OBJECTS.partition_point(|object| object.id < id);
        OBJECTS.get(from..).unwrap_or_default().iter().take_while(move |object| object.id == id).map(Object)
    }

    /// All descriptions, by id, the newest version of an id first.
    pub fn all() -> impl Iterator<Item = Object> {
        OBJECTS.iter().map(Object)
    }

    /// Id of the object.
    pub fn id(self) -> u16 {
        self.0.id
    }

    /// Name of the object in this version.
    pub fn name(self) -> &'static str {
        self.0.name.get()
    }

    /// Whether the object can have several instances. Otherwise it has only instance 0.
    pub fn is_multiple(self) -> bool {
        self.0.multiple
    }

    /// Descriptions of the object's resources, by id.
    pub fn resources(self) -> impl Iterator<Item = Resource> + Clone {
        let first = usize::from(self.0.first);
        RESOURCES.get(first..first + usize::from(self.0.count)).unwrap_or_default().iter().map(Resource)
    }

    /// Descriptions of the resources with this name: usually one, but some definitions give a name twice.
    pub fn resources_named(self, name: &str) -> impl Iterator<Item = Resource> + Clone {
        self.resources().filter(move |resource| is_same_name(resource.name(), name))
    }
}

impl Resource {
    /// Id of the resource.
    pub fn id(self) -> u16 {
        self.0.id
    }

    /// Name of the resource.
    pub fn name(self) -> &'static str {
        self.0.name.get()
    }

    /// Whether the resource can be read.
    pub fn is_readable(self) -> bool {
        self.0.readable
    }

    /// Whether the resource can be written.
    pub fn is_writable(self) -> bool {
        self.0.writable
    }

    /// Whether the resource can be executed.
    pub fn is_executable(self) -> bool {
        self.0.executable
    }

    /// Whether the resource has resource instances instead of a single value.
    pub fn is_multiple(self) -> bool {
        self.0.multiple
    }

    /// Data type of the values.
    pub fn data_type(self) -> DataType {
        self.0.data_type
    }

    /// Range of the values, if its definition has one that can be checked.
    pub fn range(self) -> Option<Range> {
        RANGES.get(usize::from(self.0.range).checked_sub(1)?).map(Range)
    }
}

impl DataType {
    /// The type with an article, for messages.
    pub fn with_article(self) -> &'static str {
        match self {
            DataType::None => "no value",
            DataType::String => "a String",
            DataType::Integer => "an Integer",
            DataType::UnsignedInteger => "an Unsigned Integer",
            DataType::Float => "a Float",
            DataType::Boolean => "a Boolean",
            DataType::Opaque => "an Opaque",
            DataType::Time => "a Time",
            DataType::Objlnk => "an Objlnk",
            DataType::Corelnk => "a Corelnk",
        }
    }

    /// Whether values of the type are numbers.
    pub fn is_numeric(self) -> bool {
        matches!(self, DataType::Integer | DataType::UnsignedInteger | DataType::Float | DataType::Time)
    }
}

impl Range {
    /// Whether the range limits the length in bytes, not the value.
    pub fn is_of_length(self) -> bool {
        self.0.of == Measured::Length
    }

    /// Whether the range is a list of values.
    pub fn is_enumeration(self) -> bool {
        matches!(self.0.of, Measured::Words | Measured::WordsOrLength)
    }

    /// Whether the range contains this number, which is a length for a range of lengths.
    pub fn contains(self, value: f64) -> bool {
        let in_intervals = || self.part(&INTERVALS).iter().any(|(from, to)| (*from..=*to).contains(&value));
        match self.0.of {
            Measured::Value | Measured::Length => in_intervals(),
            Measured::Words => false,
            Measured::WordsOrLength => self.words().any(|word| word.parse() == Ok(value)),
        }
    }

    /// Whether the range is an enumeration with this value.
    pub fn names(self, text: &str) -> bool {
        self.is_enumeration() && self.words().any(|word| word == text)
    }

    fn words(self) -> impl Iterator<Item = &'static str> {
        self.part(&WORDS).iter().map(Text::get)
    }

    fn part<T>(self, table: &'static [T]) -> &'static [T] {
        let first = usize::from(self.0.first);
        table.get(first..first + usize::from(self.0.count)).unwrap_or_default()
    }
}

fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split_whitespace()
}

/// Whether two names are equal up to the number of blanks between words.
pub fn is_same_name(a: &str, b: &str) -> bool {
    a == b || (a.bytes().next() == b.bytes().next() && words(a).eq(words(b)))
}

/// The range in the form of its definition, cut if it is long.
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 100;
        let text = self.0.text.get();
        match text.char_indices().nth(LONGEST) {
            Some((at, _)) => write!(f, "{}…", text.get(..at).unwrap_or_default()),
            None => f.write_str(text),
        }
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.id())
    }
}

/// The known name that is most similar to `wanted`, if it is similar enough for a suggestion.
pub fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Longer than any name. Comparing costs the product of the lengths.
    const LONGEST: usize = 100;

    let length = wanted.chars().count();
    if length > LONGEST {
        return None;
    }
    let folded = wanted.to_lowercase();
    let distance = |name: &str| strsim::osa_distance(&folded, &name.to_lowercase());
    known
        .filter(|name| name.chars().count().abs_diff(length) <= 3)
        .map(|name| (distance(name), name))
        .filter(|(distance, _)| *distance <= (length / 4).clamp(1, 3))
        .min()
        .map(|(_, name)| name)
}

/// Size of the tables in the binary, in bytes.
pub fn size_of_tables() -> usize {
    TEXTS.len()
        + size_of_val(&OBJECTS)
        + size_of_val(&BY_NAME)
        + size_of_val(&RESOURCES)
        + size_of_val(&RANGES)
        + size_of_val(&INTERVALS)
        + size_of_val(&WORDS)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_whole_registry_is_there() {
        let standard = include_str!("../objects.tsv");
        let lines = |prefix| standard.lines().filter(|line| line.starts_with(prefix)).count();
        assert!(Object::all().count() >= lines("O\t"));
        assert!(Object::all().map(|object| object.resources().count()).sum::<usize>() >= lines("R\t"));
        for line in standard.lines().filter(|line| !line.starts_with('#')) {
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["O", id, name, _, instances, _] => {
                    let object = Object::by_id(id.parse().unwrap()).next().unwrap();
                    assert_eq!((object.name(), object.is_multiple()), (name, instances == "Multiple"), "{line}");
                    assert!(Object::by_name(name).any(|named| named.id() == object.id()), "{line}");
                }
                ["R", object, id, name, operations, instances, ..] => {
                    let object = Object::by_id(object.parse().unwrap()).next().unwrap();
                    let id: u16 = id.parse().unwrap();
                    let resource = object.resources_named(name).find(|named| named.id() == id).unwrap();
                    let allowed =
                        [(resource.is_readable(), "R"), (resource.is_writable(), "W"), (resource.is_executable(), "E")];
                    let allowed: String = allowed.iter().filter(|(is, _)| *is).map(|(_, letter)| *letter).collect();
                    assert_eq!((allowed.as_str(), resource.is_multiple()), (operations, instances == "Multiple"));
                }
                _ => panic!("{line}"),
            }
        }
    }

    #[test]
    fn every_older_version_is_there() {
        /// Name, operations, instances and type, as the tables write them.
        type Facts<'a> = [&'a str; 4];

        let mut newest: HashMap<(&str, &str), Facts> = HashMap::new();
        let mut names = HashMap::new();
        for line in include_str!("../objects.tsv").lines() {
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["O", id, name, ..] => _ = names.insert(id, name),
                ["R", object, id, name, operations, instances, _, data_type, ..] => {
                    newest.insert((object, id), [name, operations, instances, data_type]);
                }
                _ => {}
            }
        }
        let is = |resource: &Resource, [name, operations, instances, data_type]: Facts| {
            let allowed =
                [(resource.is_readable(), 'R'), (resource.is_writable(), 'W'), (resource.is_executable(), 'E')];
            resource.name() == name
                && allowed.iter().filter(|(is, _)| *is).map(|(_, letter)| *letter).eq(operations.chars())
                && resource.is_multiple() == (instances == "Multiple")
                && format!("{:?}", resource.data_type())
                    == if data_type.is_empty() { "None".into() } else { data_type.replace(' ', "") }
        };
        let mut of_version = "";
        let (mut gone, mut others) = (0, [0; 4]);
        for line in include_str!("../object-versions.tsv").lines() {
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["O", id, name, ..] => {
                    of_version = name;
                    // Found by the older name as well as by the newest
                    for name in [name, names[id]] {
                        let mut found = Object::of_any_version(name).filter(|object| object.id().to_string() == id);
                        assert!(found.any(|object| object.name() == of_version), "{line}");
                    }
                }
                ["R", object, _, id, name, operations, instances, _, data_type, ..] => {
                    let facts = [name, operations, instances, data_type];
                    let number: u16 = id.parse().unwrap();
                    let mut described = Object::by_id(object.parse().unwrap()).filter(|it| it.name() == of_version);
                    let by_number = |object: Object| object.resources().find(|resource| resource.id() == number);
                    let mut by_name = described.clone().flat_map(|object| object.resources_named(name));
                    assert!(by_name.any(|resource| resource.id() == number && is(&resource, facts)), "{line}");
                    assert!(described.any(|object| by_number(object).is_some_and(|it| is(&it, facts))), "{line}");
                    match newest.get(&(object, id)) {
                        None => gone += 1,
                        Some(newest) => {
                            for ((other, of_newest), older) in others.iter_mut().zip(newest).zip(facts) {
                                *other += usize::from(*of_newest != older);
                            }
                        }
                    }
                }
                _ => assert!(line.starts_with('#'), "{line}"),
            }
        }
        // Resources that the newest version lacks, or has with another name, other operations, multiplicity or type
        assert_eq!((gone, others), (8, [11, 11, 18, 18]));
    }

    #[test]
    fn a_name_can_belong_to_several_objects_or_none() {
        let ids = |name| Object::by_name(name).map(Object::id).collect::<Vec<_>>();
        // With the older versions of each
        assert_eq!(ids("Location"), [6, 3336, 3336, 3336]);
        assert_eq!(ids("Device"), [3, 3, 3]);
        assert_eq!(ids("Runtime Database"), [10260]);
        let names = |name| Object::of_any_version(name).map(Object::name).collect::<Vec<_>>();
        assert_eq!(names("Runtime Database"), ["RDB", "Runtime Database"]);
        assert_eq!(names("RDB"), ["RDB", "Runtime Database"]);
        assert!(ids("device").is_empty() && ids("").is_empty());
        assert_eq!(Object::by_id(65000).count(), 0);
    }

    #[test]
    fn ranges_are_read_as_they_are_published() {
        let contains = |object: u16, resource: u16, value: f64| {
            let object = Object::by_id(object).next().unwrap();
            let resource = object.resources().find(|described| described.id() == resource).unwrap();
            resource.range().map(|range| range.contains(value))
        };
        // Device: Battery Level 0..100, Battery Status 0..6
        assert_eq!(contains(3, 9, 100.0), Some(true));
        assert_eq!(contains(3, 9, 101.0), Some(false));
        // LwM2M Server: Lifetime has none
        assert_eq!(contains(1, 1, -1.0), None);
    }

    #[test]
    fn the_nearest_name_is_similar() {
        let known = ["UTC Offset", "Timezone", "Current Time"];
        let near = |wanted| nearest(wanted, known.into_iter());
        assert_eq!(near("UTC Ofset"), Some("UTC Offset"));
        assert_eq!(near("utc offset"), Some("UTC Offset"));
        assert_eq!(near("Time zone"), Some("Timezone"));
        assert_eq!(near("Reboot"), None);
        assert_eq!(near(""), None);
        assert_eq!(near(&"x".repeat(10_000)), None);
    }
}
