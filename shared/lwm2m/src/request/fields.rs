//! Fields of a request whose operation is known.

use std::collections::HashSet;

use serde_json::Value as Json;

use super::{Request, json_type};
use crate::arguments::Arguments;
use crate::attributes::Attributes;
use crate::finding::{Code, Finding, Quoted};
use crate::keys::{self, Assignments, AttributedKeys, Keys, PositionedPath, Selection};
use crate::operation::{NewInstance, Operation, OperationName};
use crate::path::{Identifier, Level, Path, Target};
use crate::value::Value;
use crate::{check, value_fit};

type Findings = Vec<Finding>;

/// Number of objects in a request for which a similar name is looked for. The search is costly, and nobody reads more hints.
const MOST_HINTS: usize = 16;

/// Fields of a request whose operation is known. The operation takes the fields that it has; a field that is left at the end
/// is ignored with a notice.
pub(super) struct Fields {
    operation: OperationName,
    keys: Option<Json>,
    values: Option<Json>,
    attributes: Option<Json>,
    arguments: Option<Json>,
    notices: Findings,
    mismatches: Findings,
    /// Objects without a description, for which one notice is enough.
    hinted_objects: HashSet<Identifier>,
}

/// Result of checking the fields of a request.
pub(super) struct Checked {
    /// The operation, or the findings about the form of the request.
    pub(super) operation: Result<Operation, Findings>,
    /// Findings about parts that do not fit the objects' descriptions.
    pub(super) mismatches: Findings,
    pub(super) notices: Findings,
}

impl Fields {
    pub(super) fn new(operation: OperationName, request: Request) -> Fields {
        let Request { operation: _, keys, values, attributes, arguments } = request;
        let (notices, mismatches, hinted_objects) = (Vec::new(), Vec::new(), HashSet::new());
        Fields { operation, keys, values, attributes, arguments, notices, mismatches, hinted_objects }
    }

    pub(super) fn check(mut self) -> Checked {
        let operation = match self.operation {
            OperationName::Read => self.selection_without_covered().map(Operation::Read),
            OperationName::ReadComposite => self.selection_without_covered().map(Operation::ReadComposite),
            OperationName::Write => self.assignments().map(Operation::Write),
            OperationName::WriteComposite => self.assignments().map(Operation::WriteComposite),
            OperationName::Observe => self.observed_keys().map(Operation::Observe),
            OperationName::WriteAttributes => self.attributed_keys().map(Operation::WriteAttributes),
            OperationName::CancelObserve => self.selection().map(Operation::CancelObserve),
            OperationName::CancelObserveComposite => self.selection().map(Operation::CancelObserveComposite),
            OperationName::ObserveComposite => self.selection().map(Operation::ObserveComposite),
            OperationName::Execute => self.execute(),
            OperationName::Discover => self.deduplicated_keys().map(Operation::Discover),
            OperationName::Delete => self.deduplicated_keys().map(Operation::Delete),
            OperationName::Create => self.new_instance().map(Operation::Create),
        };
        self.note_unused_fields();
        // What is not sent first: an answer has the code of the first notice.
        self.notices.sort_by_key(|notice| notice.code != Code::AttributesIgnored);
        Checked { operation, mismatches: self.mismatches, notices: self.notices }
    }

    /// Takes the keys: targets that the operation can address, with their positions.
    fn targets(&mut self) -> Result<Vec<(usize, Target)>, Findings> {
        let keys = match self.keys.take() {
            Some(Json::Array(keys)) if !keys.is_empty() => keys,
            None | Some(Json::Array(_)) => {
                let message = "keys: missing; an array with at least one path, as in [\"Device.0\"]";
                return Err(vec![Finding::new(Code::KeysMissing, message)]);
            }
            Some(other) => {
                let message = format!("keys: expected an array of paths, found {}", json_type(&other));
                return Err(vec![Finding::new(Code::KeysInvalid, message)]);
            }
        };
        collect(keys, |position, key| {
            let Json::String(key) = key else {
                let message = format!("keys[{position}]: expected a path as a string, found {}", json_type(&key));
                return Err(Finding::new(Code::KeysInvalid, message));
            };
            let place = format!("keys[{position}]: {}", Quoted(&key));
            let target = addressed_target(self.operation, &key).map_err(|finding| finding.at(&place))?;
            if let Target::Path(path) = &target {
                self.check_against_descriptions(path, &key, &place);
            }
            Ok((position, target))
        })
    }

    /// Adds the findings about a path, which was parsed from the key at the place.
    fn check_against_descriptions(&mut self, path: &Path, key: &str, place: &str) {
        self.mismatches.extend(check::path(self.operation, path).into_iter().map(|finding| finding.at(place)));
        let ambiguous = check::ambiguous_resource(self.operation, path).map(|finding| finding.at(place));
        let of_resource = if path.resource_id().is_some() { &mut self.mismatches } else { &mut self.notices };
        of_resource.extend(ambiguous);
        let was_translated = key.strip_suffix('.').unwrap_or(key) != path.to_string();
        if was_translated {
            self.notices.extend(check::ambiguous_object(path).map(|finding| finding.at(place)));
            self.notices.extend(check::name_of_newest_version(path).map(|finding| finding.at(place)));
        }
        if path.starts_like_a_described_object() {
            self.mismatches.push(check::like_a_described_object(key).at(place));
        } else if self.hinted_objects.len() < MOST_HINTS && self.hinted_objects.insert(path.object().clone()) {
            self.notices.extend(check::object_without_description(path, key).map(|finding| finding.at(place)));
        }
    }

    /// Takes the keys of an operation that cannot address the root.
    fn paths(&mut self) -> Result<Vec<PositionedPath>, Findings> {
        Ok(paths_of(self.targets()?).unwrap_or_default())
    }

    fn deduplicated_keys(&mut self) -> Result<Keys, Findings> {
        Keys::new(keys::deduplicated(self.paths()?))
    }

    /// Takes the keys without duplicates; the root covers all others.
    fn selection(&mut self) -> Result<Selection, Findings> {
        match paths_of(self.targets()?) {
            None => Ok(Selection::All),
            Some(paths) => Keys::new(keys::deduplicated(paths)).map(Selection::Keys),
        }
    }

    /// As [`Fields::selection`], without keys that lie below others, and sorted.
    fn selection_without_covered(&mut self) -> Result<Selection, Findings> {
        match paths_of(self.targets()?) {
            None => Ok(Selection::All),
            Some(paths) => {
                let (mut kept, _covered) = keys::without_covered(keys::deduplicated(paths), |key| &key.path);
                kept.sort_by_cached_key(|key| key.path.to_string());
                Keys::new(kept).map(Selection::Keys)
            }
        }
    }

    fn assignments(&mut self) -> Result<Assignments, Findings> {
        let keys = self.paths();
        let values = self.values(keys.as_ref().map(Vec::len).ok());
        let (keys, values) = both(keys, values)?;
        self.assign(keys, values)
    }

    fn assign(&mut self, keys: Vec<PositionedPath>, values: Vec<Value>) -> Result<Assignments, Findings> {
        let values = keys.iter().zip(values).map(|(PositionedPath { position, path }, value)| {
            let place = format!("values[{position}]");
            match value_fit::fit(self.operation, path, &value) {
                Ok(fitted) => {
                    self.notices.extend(fitted.notice.map(|notice| notice.at(&place)));
                    fitted.value
                }
                Err(mismatch) => {
                    self.mismatches.push(mismatch.at(&place));
                    value
                }
            }
        });
        let values = values.collect();
        Assignments::new(keys, values)
    }

    fn attributed_keys(&mut self) -> Result<AttributedKeys, Findings> {
        let (keys, attributes) = self.keys_and_attributes()?;
        AttributedKeys::new(keys, attributes)
    }

    /// Takes the keys of an Observe, sorted. A path below another is observed with that one, under its attributes.
    fn observed_keys(&mut self) -> Result<AttributedKeys, Findings> {
        let (keys, attributes) = self.keys_and_attributes()?;
        keys::unique(&keys)?;
        let pairs: Vec<(PositionedPath, Attributes)> = keys.into_iter().zip(attributes).collect();
        let (mut kept, covered) = keys::without_covered(pairs, |(key, _)| &key.path);
        for (key, _) in covered.iter().filter(|(_, attributes)| !attributes.is_empty()) {
            let (position, path) = (key.position, key.path.to_string());
            self.notices.push(Finding::new(
                Code::AttributesIgnored,
                format!("attributes[{position}]: not sent: {} lies below another key", Quoted(&path)),
            ));
        }
        kept.sort_by_cached_key(|(key, _)| key.path.to_string());
        let (keys, attributes) = kept.into_iter().unzip();
        AttributedKeys::new(keys, attributes)
    }

    fn keys_and_attributes(&mut self) -> Result<(Vec<PositionedPath>, Vec<Attributes>), Findings> {
        let keys = self.paths();
        let attributes = self.attributes(keys.as_ref().map(Vec::len).ok());
        let (keys, attributes) = both(keys, attributes)?;
        let mut findings = Vec::new();
        for (PositionedPath { position, path }, given) in keys.iter().zip(&attributes) {
            let place = format!("attributes[{position}]");
            findings.extend(given.not_allowed_at(path.level()).map(|finding| finding.at(&place)));
            let mismatches = given.ignored_pmax().into_iter().chain(check::attributes(path, given));
            self.mismatches.extend(mismatches.map(|finding| finding.at(&place)));
        }
        if findings.is_empty() { Ok((keys, attributes)) } else { Err(findings) }
    }

    fn execute(&mut self) -> Result<Operation, Findings> {
        let keys = self.paths();
        let arguments = self.arguments();
        let (keys, arguments) = both(keys, arguments)?;
        let count = keys.len();
        let mut keys = keys.into_iter();
        match (keys.next(), keys.next()) {
            (Some(key), None) => {
                keys::no_comma_between_keys(std::slice::from_ref(&key))?;
                Ok(Operation::Execute { resource: key.path, arguments })
            }
            _ => {
                let message = format!("keys: execute takes exactly one key, found {count}; send a request for each");
                Err(vec![Finding::new(Code::KeyCount, message)])
            }
        }
    }

    fn new_instance(&mut self) -> Result<NewInstance, Findings> {
        let paths = self.paths()?;
        let none_given = match &self.values {
            None => true,
            Some(values) => values.as_array().is_some_and(Vec::is_empty),
        };
        match paths.as_slice() {
            [PositionedPath { path, .. }] if path.level() <= Level::ObjectInstance && none_given => {
                self.values = None;
                keys::no_comma(&paths, "beside values, which create has")?;
                return Ok(NewInstance::Bare(path.clone()));
            }
            _ => {}
        }

        let findings = outside_one_instance(&paths);
        let values = self.values(Some(paths.len()));
        let (paths, values) = both(if findings.is_empty() { Ok(paths) } else { Err(findings) }, values)?;
        self.assign(paths, values).map(NewInstance::With)
    }

    fn values(&mut self, keys: Option<usize>) -> Result<Vec<Value>, Findings> {
        let field = ArrayField {
            name: "values",
            element: "value",
            missing: Code::ValuesMissing,
            invalid: Code::ValuesInvalid,
            count: Code::ValueCount,
        };
        collect(field.elements(self.values.take(), keys)?, |position, value| {
            Value::parse(value)
                .map_err(|why| Finding::new(Code::ValueNotEncodable, format!("values[{position}]: {why}")))
        })
    }

    fn attributes(&mut self, keys: Option<usize>) -> Result<Vec<Attributes>, Findings> {
        let field = ArrayField {
            name: "attributes",
            element: "object ({} leaves a key's attributes as they are)",
            missing: Code::AttributesMissing,
            invalid: Code::AttributesInvalid,
            count: Code::AttributeCount,
        };
        collect(field.elements(self.attributes.take(), keys)?, |position, attributes| {
            let parsed = match attributes {
                Json::Object(object) => Attributes::parse(object),
                other => {
                    let message = format!("expected an object, as in {{\"pmin\": 30}}, found {}", json_type(&other));
                    Err(vec![Finding::new(Code::AttributesInvalid, message)])
                }
            };
            let place = format!("attributes[{position}]");
            parsed.map_err(|findings| findings.into_iter().map(|finding| finding.at(&place)).collect::<Findings>())
        })
    }

    fn arguments(&mut self) -> Result<Option<Arguments>, Findings> {
        let invalid = |why: String| vec![Finding::new(Code::ArgumentsInvalid, format!("arguments: {why}"))];
        match self.arguments.take() {
            None => Ok(None),
            Some(Json::String(text)) => Arguments::parse(&text).map(Some).map_err(invalid),
            Some(other) => {
                let found = json_type(&other);
                Err(invalid(format!("expected a string in LwM2M form, as in 0='abc',1, found {found}")))
            }
        }
    }

    fn note_unused_fields(&mut self) {
        let is_composite = matches!(self.operation, OperationName::ObserveComposite);
        let left = [("values", &self.values), ("attributes", &self.attributes), ("arguments", &self.arguments)];
        for (field, _) in left.into_iter().filter(|(_, json)| json.is_some()) {
            self.notices.push(if is_composite && field == "attributes" {
                let message = "attributes: not sent: an observeComposite has none for each path";
                Finding::new(Code::AttributesIgnored, message)
            } else {
                Finding::new(Code::FieldIgnored, format!("{field}: not sent: {} has none", self.operation))
            });
        }
    }
}

/// Parses a key of the operation, which has to be at a level that the operation addresses.
fn addressed_target(operation: OperationName, key: &str) -> Result<Target, Finding> {
    let target = Target::parse(key).map_err(|why| Finding::new(Code::PathInvalid, why))?;
    let may_be_a_resource = matches!(&target, Target::Path(path) if path.may_be_a_resource());
    let level = if may_be_a_resource && *operation.levels().end() == Level::Resource {
        Level::Resource
    } else {
        target.level()
    };
    if operation.addresses(level) {
        return Ok(target);
    }
    let (levels, level) = (operation.level_names(), level.name());
    Err(Finding::new(Code::PathLevel, format!("{operation} addresses {levels}, this is {level}")))
}

/// Findings about paths that are not resources of the same object instance.
fn outside_one_instance(paths: &[PositionedPath]) -> Findings {
    let mut findings = Vec::new();
    let instance = paths.first().and_then(|key| key.path.object_instance());
    for PositionedPath { position, path } in paths {
        let key = path.to_string();
        let why = if path.level() == Level::Object {
            "an object stands alone and without values: the device chooses the new instance's id"
        } else if path.level() == Level::ObjectInstance {
            "an object instance stands alone and without values; give its resources, with a value each, instead"
        } else if path.object_instance() != instance {
            "lies in another object instance than keys[0]; create makes one object instance at a time"
        } else {
            continue;
        };
        findings.push(Finding::new(Code::KeyCount, format!("keys[{position}]: {}: {why}", Quoted(&key))));
    }
    findings
}

/// A field that is an array with one element for each key.
struct ArrayField {
    name: &'static str,
    /// Description of an element, after "one".
    element: &'static str,
    missing: Code,
    invalid: Code,
    count: Code,
}

impl ArrayField {
    /// The elements of the field; `keys` is the number of keys, `None` where the keys are invalid.
    fn elements(&self, field: Option<Json>, keys: Option<usize>) -> Result<Vec<Json>, Findings> {
        let ArrayField { name, element, .. } = self;
        let wrong = |code, found: String| {
            Err(vec![Finding::new(code, format!("{name}: {found}; an array with one {element} for each key"))])
        };
        match (field, keys) {
            (None, _) => wrong(self.missing, "missing".to_owned()),
            (Some(Json::Array(elements)), Some(keys)) if elements.len() != keys => {
                let plural = if keys == 1 { "key" } else { "keys" };
                wrong(self.count, format!("{} for {keys} {plural}", elements.len()))
            }
            (Some(Json::Array(elements)), _) => Ok(elements),
            (Some(other), _) => wrong(self.invalid, format!("found {}", json_type(&other))),
        }
    }
}

/// The paths; `None` where one of the targets is the root, which covers all others.
fn paths_of(targets: Vec<(usize, Target)>) -> Option<Vec<PositionedPath>> {
    targets
        .into_iter()
        .map(|(position, target)| match target {
            Target::Root => None,
            Target::Path(path) => Some(PositionedPath { position, path }),
        })
        .collect()
}

/// Applies `each` to every element and its position, and collects the results or the findings of all elements.
fn collect<T, E: Into<Findings>>(
    elements: Vec<Json>,
    mut each: impl FnMut(usize, Json) -> Result<T, E>,
) -> Result<Vec<T>, Findings> {
    let mut findings = Vec::new();
    let mut collected = Vec::with_capacity(elements.len());
    for (position, element) in elements.into_iter().enumerate() {
        match each(position, element) {
            Ok(element) => collected.push(element),
            Err(found) => findings.extend(found.into()),
        }
    }
    if findings.is_empty() { Ok(collected) } else { Err(findings) }
}

/// Both results, or the findings of both.
fn both<A, B>(a: Result<A, Findings>, b: Result<B, Findings>) -> Result<(A, B), Findings> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(mut a), Err(b)) => {
            a.extend(b);
            Err(a)
        }
        (Err(findings), _) | (_, Err(findings)) => Err(findings),
    }
}
