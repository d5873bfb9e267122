//! The keys of an operation, in the forms that its template takes.
//!
//! Coiote's templates take all keys in one parameter, joined by commas and without an escape. So a key that holds a
//! comma (`Access Control.0.Validity (MCC, MNC)`) can only be sent alone, never beside values, and never where the text
//! behind a comma could be taken for another key. The types here can only be made of keys that can be sent.

use std::collections::HashSet;

use crate::attributes::Attributes;
use crate::finding::{Code, Finding, Quoted};
use crate::path::{Level, Path, Target};
use crate::value::Value;

/// A path with its position in the request, for messages.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) position: usize,
    pub(crate) path: Path,
}

/// One or more paths that can be sent in one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(Vec<Path>);

/// The whole data model, or some of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    All,
    Keys(Keys),
}

/// Paths with a value each: unique, and each of them can be sent beside the others and their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignments(Vec<(Path, Value)>);

/// Paths with attributes each: unique, and they can be sent in one parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct AttributedKeys(Vec<(Path, Attributes)>);

impl Keys {
    pub(crate) fn new(keys: Vec<Key>) -> Result<Keys, Vec<Finding>> {
        no_comma_between_keys(&keys)?;
        Ok(Keys(keys.into_iter().map(|key| key.path).collect()))
    }

    pub fn paths(&self) -> &[Path] {
        &self.0
    }
}

impl Assignments {
    pub(crate) fn new(keys: Vec<Key>, values: Vec<Value>) -> Result<Assignments, Vec<Finding>> {
        unique(&keys)?;
        none_holds_a_comma(&keys, "beside values")?;
        Ok(Assignments(keys.into_iter().map(|key| key.path).zip(values).collect()))
    }

    pub fn iter(&self) -> impl Iterator<Item = &(Path, Value)> {
        self.0.iter()
    }
}

impl AttributedKeys {
    pub(crate) fn new(keys: Vec<Key>, attributes: Vec<Attributes>) -> Result<AttributedKeys, Vec<Finding>> {
        unique(&keys)?;
        no_comma_between_keys(&keys)?;
        Ok(AttributedKeys(keys.into_iter().map(|key| key.path).zip(attributes).collect()))
    }

    pub fn iter(&self) -> impl Iterator<Item = &(Path, Attributes)> {
        self.0.iter()
    }
}

/// Keeps the first of equal keys, in the given order.
pub(crate) fn deduplicated(mut keys: Vec<Key>) -> Vec<Key> {
    let mut seen = HashSet::new();
    keys.retain(|key| seen.insert(key.path.clone()));
    keys
}

/// Leaves out every path that lies below another: the other one covers it.
pub(crate) fn without_covered<T>(keys: Vec<T>, path: impl Fn(&T) -> &Path) -> (Vec<T>, Vec<T>) {
    let all: HashSet<Path> = keys.iter().map(|key| path(key).clone()).collect();
    keys.into_iter().partition(|key| !path(key).ancestors().any(|ancestor| all.contains(&ancestor)))
}

pub(crate) fn unique(keys: &[Key]) -> Result<(), Vec<Finding>> {
    let mut first_of = std::collections::HashMap::new();
    let mut findings = Vec::new();
    for Key { position, path } in keys {
        let first = *first_of.entry(path).or_insert(*position);
        if first != *position {
            let key = path.to_string();
            findings.push(Finding::new(
                Code::KeyDuplicate,
                format!("keys[{position}]: {}: the same as keys[{first}]; name each key once", Quoted(&key)),
            ));
        }
    }
    if findings.is_empty() { Ok(()) } else { Err(findings) }
}

/// For keys that are sent without values.
pub(crate) fn no_comma_between_keys(keys: &[Key]) -> Result<(), Vec<Finding>> {
    match keys {
        [Key { position, path }] => {
            let key = path.to_string();
            match key.split(',').skip(1).find(|piece| reads_as_a_key(piece)) {
                None => Ok(()),
                Some(piece) => {
                    let message = format!(
                        "keys[{position}]: {}: what stands behind the comma, {}, would be taken for another key; give each \
                         key a place of its own in the array",
                        Quoted(&key),
                        Quoted(piece)
                    );
                    Err(vec![Finding::new(Code::ValueNotEncodable, message)])
                }
            }
        }
        keys => none_holds_a_comma(keys, "beside other keys; send it in a request of its own"),
    }
}

/// Whether it says by itself where in a data model it is: a bare word is no key unless an object is described by it.
fn reads_as_a_key(piece: &str) -> bool {
    match Target::parse(piece) {
        Ok(Target::Root) => true,
        Ok(Target::Path(path)) => path.level() > Level::Object || path.descriptions().next().is_some(),
        Err(_) => false,
    }
}

/// For keys that are sent beside others, or beside values.
pub(crate) fn none_holds_a_comma(keys: &[Key], beside: &str) -> Result<(), Vec<Finding>> {
    let findings: Vec<_> = keys
        .iter()
        .map(|key| (key.position, key.path.to_string()))
        .filter(|(_, key)| key.contains(','))
        .map(|(position, key)| {
            Finding::new(
                Code::ValueNotEncodable,
                format!("keys[{position}]: {}: a key that holds a comma cannot be sent {beside}", Quoted(&key)),
            )
        })
        .collect();
    if findings.is_empty() { Ok(()) } else { Err(findings) }
}
