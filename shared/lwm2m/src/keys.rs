//! The keys of an operation, in the forms that its task template takes.
//!
//! Coiote's templates take all keys in one parameter, joined by commas, without an escape for commas in keys. So a key with a
//! comma (`Access Control.0.Validity (MCC, MNC)`) can be sent only alone, without values, and only if the text behind the
//! comma does not look like a key itself. The types of this module consist of keys that can be sent.

use std::collections::{HashMap, HashSet};

use crate::attributes::Attributes;
use crate::finding::{Code, Finding, Quoted};
use crate::path::{Level, Path, Target};
use crate::value::Value;

/// A path and its position among the keys of the request, for messages.
#[derive(Debug, Clone)]
pub(crate) struct PositionedPath {
    pub(crate) position: usize,
    pub(crate) path: Path,
}

/// One or more paths that can be sent in one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(Vec<Path>);

/// The whole data model, or parts of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// The whole data model.
    All,
    /// Everything at and below these paths.
    Keys(Keys),
}

/// Unique paths with a value each, which can be sent in one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignments(Vec<(Path, Value)>);

/// Unique paths with attributes each, which can be sent in one parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct AttributedKeys(Vec<(Path, Attributes)>);

impl Keys {
    pub(crate) fn new(keys: Vec<PositionedPath>) -> Result<Keys, Vec<Finding>> {
        no_comma_between_keys(&keys)?;
        Ok(Keys(keys.into_iter().map(|key| key.path).collect()))
    }

    /// The paths, in the order in which they are sent.
    pub fn paths(&self) -> &[Path] {
        &self.0
    }
}

impl Assignments {
    pub(crate) fn new(keys: Vec<PositionedPath>, values: Vec<Value>) -> Result<Assignments, Vec<Finding>> {
        unique(&keys)?;
        no_comma(&keys, "beside values")?;
        Ok(Assignments(keys.into_iter().map(|key| key.path).zip(values).collect()))
    }

    /// The paths and their values, in the order in which they are sent.
    pub fn iter(&self) -> impl Iterator<Item = &(Path, Value)> {
        self.0.iter()
    }
}

impl AttributedKeys {
    pub(crate) fn new(keys: Vec<PositionedPath>, attributes: Vec<Attributes>) -> Result<AttributedKeys, Vec<Finding>> {
        unique(&keys)?;
        no_comma_between_keys(&keys)?;
        Ok(AttributedKeys(keys.into_iter().map(|key| key.path).zip(attributes).collect()))
    }

    /// The paths and their attributes, in the order in which they are sent.
    pub fn iter(&self) -> impl Iterator<Item = &(Path, Attributes)> {
        self.0.iter()
    }
}

/// Removes duplicates; the first of equal keys stays, in its order.
pub(crate) fn deduplicated(mut keys: Vec<PositionedPath>) -> Vec<PositionedPath> {
    let mut seen = HashSet::new();
    keys.retain(|key| seen.insert(key.path.clone()));
    keys
}

/// Splits keys into those that stay and those that lie below another key, which covers them.
pub(crate) fn without_covered<T>(keys: Vec<T>, path: impl Fn(&T) -> &Path) -> (Vec<T>, Vec<T>) {
    let all: HashSet<Path> = keys.iter().map(|key| path(key).clone()).collect();
    keys.into_iter().partition(|key| !path(key).ancestors().any(|ancestor| all.contains(&ancestor)))
}

/// Refuses duplicates.
pub(crate) fn unique(keys: &[PositionedPath]) -> Result<(), Vec<Finding>> {
    let mut first_of = HashMap::new();
    let mut findings = Vec::new();
    for PositionedPath { position, path } in keys {
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

/// Refuses commas that Coiote would split at, in keys that are sent without values.
pub(crate) fn no_comma_between_keys(keys: &[PositionedPath]) -> Result<(), Vec<Finding>> {
    match keys {
        [PositionedPath { position, path }] => {
            let key = path.to_string();
            match key.split(',').skip(1).find(|piece| looks_like_a_key(piece)) {
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
        keys => no_comma(keys, "beside other keys; send it in a request of its own"),
    }
}

/// Whether the text addresses a part of the data model by itself. A single word does so only as the name of a described
/// object.
fn looks_like_a_key(piece: &str) -> bool {
    match Target::parse(piece) {
        Ok(Target::Root) => true,
        Ok(Target::Path(path)) => path.level() > Level::Object || path.descriptions().next().is_some(),
        Err(_) => false,
    }
}

/// Refuses commas in keys that are sent with other keys or with values; `beside` says with which.
pub(crate) fn no_comma(keys: &[PositionedPath], beside: &str) -> Result<(), Vec<Finding>> {
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
