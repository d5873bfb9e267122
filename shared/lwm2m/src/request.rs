//! From the JSON fields of a request to an [`Operation`], or to everything that is wrong with it.

use std::collections::HashSet;

use serde_json::Value as Json;

use crate::arguments::Arguments;
use crate::attributes::Attributes;
use crate::check;
use crate::finding::{Code, Finding, Quoted};
use crate::keys::{self, Assignments, AttributedKeys, Key, Keys, Selection};
use crate::operation::{NewInstance, Operation, OperationName};
use crate::path::{Level, Name, Path, Target};
use crate::value::Value;

/// The fields of a request as they came. `null` counts as absent.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub operation: Option<Json>,
    pub keys: Option<Json>,
    pub values: Option<Json>,
    pub attributes: Option<Json>,
    pub arguments: Option<Json>,
}

/// A request that was found valid.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    pub operation: Operation,
    /// What its author should know although it is sent.
    pub notices: Vec<Finding>,
}

/// What becomes of a request that does not fit the objects' descriptions. Its form is always checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strictness {
    /// It is rejected: the device would refuse it.
    #[default]
    Reject,
    /// It is sent with a notice: devices deviate from the descriptions.
    Notice,
}

type Findings = Vec<Finding>;

/// For so many objects of a request, hints at another name are looked for: it is costly, and nobody reads more.
const MOST_HINTS: usize = 16;

impl Request {
    /// Takes the request's fields out of an event by name.
    pub fn take(mut field: impl FnMut(&str) -> Option<Json>) -> Request {
        let mut present = |name| field(name).filter(|json| !json.is_null());
        Request {
            operation: present("operation"),
            keys: present("keys"),
            values: present("values"),
            attributes: present("attributes"),
            arguments: present("arguments"),
        }
    }

    /// Whether no field was given at all: what a shadow update that removes a request leaves of it.
    pub fn is_empty(&self) -> bool {
        [&self.operation, &self.keys, &self.values, &self.attributes, &self.arguments].iter().all(|f| f.is_none())
    }

    /// Checks the request and gives it its type. The findings are all that could be told, not only the first.
    pub fn parse(self, strictness: Strictness) -> Result<Accepted, Findings> {
        let name = operation_name(self.operation).map_err(|finding| vec![finding])?;
        let mut request = Fields {
            keys: self.keys,
            values: self.values,
            attributes: self.attributes,
            arguments: self.arguments,
            name,
            notices: Vec::new(),
            misfits: Vec::new(),
            objects: HashSet::new(),
        };
        let operation = match name {
            OperationName::Read => request.selection_without_covered().map(Operation::Read),
            OperationName::ReadComposite => request.selection_without_covered().map(Operation::ReadComposite),
            OperationName::Write => request.assignments().map(Operation::Write),
            OperationName::WriteComposite => request.assignments().map(Operation::WriteComposite),
            OperationName::Observe => request.observed().map(Operation::Observe),
            OperationName::WriteAttributes => request.attributed().map(Operation::WriteAttributes),
            OperationName::CancelObserve => request.selection().map(Operation::CancelObserve),
            OperationName::CancelObserveComposite => request.selection().map(Operation::CancelObserveComposite),
            OperationName::ObserveComposite => request.selection().map(Operation::ObserveComposite),
            OperationName::Execute => request.execute(),
            OperationName::Discover => request.deduplicated_keys().map(Operation::Discover),
            OperationName::Delete => request.deduplicated_keys().map(Operation::Delete),
            OperationName::Create => request.new_instance().map(Operation::Create),
        };
        request.note_what_is_left();
        let Fields { misfits, mut notices, .. } = request;
        match operation {
            Ok(_) if strictness == Strictness::Reject && !misfits.is_empty() => Err(misfits),
            Ok(operation) => {
                notices.splice(..0, misfits);
                Ok(Accepted { operation, notices })
            }
            Err(mut findings) => {
                findings.extend(misfits);
                Err(findings)
            }
        }
    }
}

fn operation_name(field: Option<Json>) -> Result<OperationName, Finding> {
    let known = || OperationName::ALL.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let name = match field {
        Some(Json::String(name)) => name,
        Some(other) => {
            let message = format!("operation: expected a string, found {}; one of: {}", kind(&other), known());
            return Err(Finding::new(Code::OperationUnknown, message));
        }
        None => return Err(Finding::new(Code::OperationMissing, format!("operation: missing; one of: {}", known()))),
    };
    name.parse().map_err(|()| {
        let near = OperationName::ALL.iter().find(|known| known.as_str().eq_ignore_ascii_case(name.trim()));
        let hint = match near {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("one of: {}", known()),
        };
        Finding::new(Code::OperationUnknown, format!("operation: no operation {}; {hint}", Quoted(&name)))
    })
}

/// The fields of a request whose operation is known. Each is taken when its operation asks for it; what is left at the
/// end was given in vain.
struct Fields {
    name: OperationName,
    keys: Option<Json>,
    values: Option<Json>,
    attributes: Option<Json>,
    arguments: Option<Json>,
    notices: Findings,
    /// What does not fit the objects' descriptions.
    misfits: Findings,
    /// Objects that were named so far: what there is to tell of one is told once.
    objects: HashSet<Name>,
}

impl Fields {
    /// The keys, each a target that the operation can address, with their positions.
    fn targets(&mut self) -> Result<Vec<(usize, Target)>, Findings> {
        let keys = match self.keys.take() {
            Some(Json::Array(keys)) if !keys.is_empty() => keys,
            None | Some(Json::Array(_)) => {
                let message = "keys: missing; an array with at least one path, as in [\"Device.0\"]";
                return Err(vec![Finding::new(Code::KeysMissing, message)]);
            }
            Some(other) => {
                let message = format!("keys: expected an array of paths, found {}", kind(&other));
                return Err(vec![Finding::new(Code::KeysInvalid, message)]);
            }
        };
        let operation = self.name;
        collect(keys, |position, key| {
            let Json::String(key) = key else {
                let message = format!("keys[{position}]: expected a path as a string, found {}", kind(&key));
                return Err(Finding::new(Code::KeysInvalid, message));
            };
            let place = format!("keys[{position}]: {}", Quoted(&key));
            let target = Target::parse(&key).map_err(|why| Finding::new(Code::PathInvalid, why).at(&place))?;
            let may_be_a_resource = matches!(&target, Target::Path(path) if path.may_be_a_resource());
            let level = if may_be_a_resource && *operation.levels().end() == Level::Resource {
                Level::Resource
            } else {
                target.level()
            };
            if !operation.addresses(level) {
                let (levels, level) = (level_range(operation), level.name());
                let message = format!("{operation} addresses {levels}, this is {level}");
                return Err(Finding::new(Code::PathLevel, message).at(&place));
            }
            if let Target::Path(path) = &target {
                self.misfits.extend(check::path(operation, path).into_iter().map(|finding| finding.at(&place)));
                let was_translated = key.strip_suffix('.').unwrap_or(&key) != path.to_string();
                if was_translated {
                    self.misfits.extend(check::resource_of_several(path).map(|finding| finding.at(&place)));
                    self.notices.extend(check::object_of_several(path).map(|finding| finding.at(&place)));
                    self.notices.extend(check::name_of_newest_version(path).map(|finding| finding.at(&place)));
                }
                if path.starts_like_a_described_object() {
                    self.misfits.push(like_a_described_one(&key).at(&place));
                } else if self.objects.len() < MOST_HINTS && self.objects.insert(path.object().clone()) {
                    self.notices.extend(not_described(path, &key).map(|finding| finding.at(&place)));
                }
            }
            Ok((position, target))
        })
    }

    /// The keys of an operation that cannot address the root.
    fn paths(&mut self) -> Result<Vec<Key>, Findings> {
        Ok(paths_of(self.targets()?).unwrap_or_default())
    }

    fn deduplicated_keys(&mut self) -> Result<Keys, Findings> {
        Keys::new(keys::deduplicated(self.paths()?))
    }

    /// The whole data model where any key means it; otherwise the keys, deduplicated.
    fn selection(&mut self) -> Result<Selection, Findings> {
        match paths_of(self.targets()?) {
            None => Ok(Selection::All),
            Some(paths) => Keys::new(keys::deduplicated(paths)).map(Selection::Keys),
        }
    }

    /// As [`Fields::selection`], also without what lies below another key, and sorted.
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

    fn assign(&mut self, keys: Vec<Key>, values: Vec<Value>) -> Result<Assignments, Findings> {
        let values = keys.iter().zip(values).map(|(Key { position, path }, value)| {
            let place = format!("values[{position}]");
            match check::value(path, &value) {
                Ok(fitting) => {
                    self.notices.extend(fitting.notice.map(|notice| notice.at(&place)));
                    fitting.value
                }
                Err(misfit) => {
                    self.misfits.push(misfit.at(&place));
                    value
                }
            }
        });
        let values = values.collect();
        Assignments::new(keys, values)
    }

    fn attributed(&mut self) -> Result<AttributedKeys, Findings> {
        let (keys, attributes) = self.keys_and_attributes()?;
        AttributedKeys::new(keys, attributes)
    }

    /// A path below another is observed by the other one, and its attributes with it; what remains is sorted.
    fn observed(&mut self) -> Result<AttributedKeys, Findings> {
        let (keys, attributes) = self.keys_and_attributes()?;
        keys::unique(&keys)?;
        let pairs: Vec<(Key, Attributes)> = keys.into_iter().zip(attributes).collect();
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

    fn keys_and_attributes(&mut self) -> Result<(Vec<Key>, Vec<Attributes>), Findings> {
        let keys = self.paths();
        let attributes = self.attributes(keys.as_ref().map(Vec::len).ok());
        let (keys, attributes) = both(keys, attributes)?;
        let mut findings = Vec::new();
        for (Key { position, path }, given) in keys.iter().zip(&attributes) {
            let place = format!("attributes[{position}]");
            findings.extend(given.without_a_value(path.level()).map(|finding| finding.at(&place)));
            self.misfits.extend(check::attributes(path, given).into_iter().map(|finding| finding.at(&place)));
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
            [Key { path, .. }] if path.level() <= Level::ObjectInstance && none_given => {
                self.values = None;
                keys::none_holds_a_comma(&paths, "beside values, which create has")?;
                return Ok(NewInstance::Bare(path.clone()));
            }
            _ => {}
        }

        let mut findings = Vec::new();
        let instance = paths.first().and_then(|key| key.path.object_instance());
        for Key { position, path } in &paths {
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
        let values = self.values(Some(paths.len()));
        let (paths, values) = both(if findings.is_empty() { Ok(paths) } else { Err(findings) }, values)?;
        self.assign(paths, values).map(NewInstance::With)
    }

    fn values(&mut self, keys: Option<usize>) -> Result<Vec<Value>, Findings> {
        let field = ArrayField {
            name: "values",
            each: "value",
            missing: Code::ValuesMissing,
            invalid: Code::ValuesInvalid,
            count: Code::ValueCount,
        };
        collect(field.take(self.values.take(), keys)?, |position, value| {
            Value::parse(value)
                .map_err(|why| Finding::new(Code::ValueNotEncodable, format!("values[{position}]: {why}")))
        })
    }

    fn attributes(&mut self, keys: Option<usize>) -> Result<Vec<Attributes>, Findings> {
        let field = ArrayField {
            name: "attributes",
            each: "object ({} leaves a key's attributes as they are)",
            missing: Code::AttributesMissing,
            invalid: Code::AttributesInvalid,
            count: Code::AttributeCount,
        };
        collect(field.take(self.attributes.take(), keys)?, |position, attributes| {
            let parsed = match attributes {
                Json::Object(object) => Attributes::parse(object),
                other => {
                    let message = format!("expected an object, as in {{\"pmin\": 30}}, found {}", kind(&other));
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
                Err(invalid(format!("expected a string in LwM2M form, as in 0='abc',1, found {}", kind(&other))))
            }
        }
    }

    fn note_what_is_left(&mut self) {
        let composite = matches!(self.name, OperationName::ObserveComposite);
        let left = [("values", &self.values), ("attributes", &self.attributes), ("arguments", &self.arguments)];
        for (field, _) in left.into_iter().filter(|(_, json)| json.is_some()) {
            self.notices.push(if composite && field == "attributes" {
                let message = "attributes: not sent: an observeComposite has none for each path";
                Finding::new(Code::AttributesIgnored, message)
            } else {
                Finding::new(Code::FieldIgnored, format!("{field}: not sent: {} has none", self.name))
            });
        }
    }
}

/// A field that is an array with one element for each key.
struct ArrayField {
    name: &'static str,
    /// What an element is, after "one".
    each: &'static str,
    missing: Code,
    invalid: Code,
    count: Code,
}

impl ArrayField {
    /// `keys`: how many keys there are, where that could be told.
    fn take(&self, field: Option<Json>, keys: Option<usize>) -> Result<Vec<Json>, Findings> {
        let ArrayField { name, each, .. } = self;
        let wrong = |code, found: String| {
            Err(vec![Finding::new(code, format!("{name}: {found}; an array with one {each} for each key"))])
        };
        match (field, keys) {
            (None, _) => wrong(self.missing, "missing".to_owned()),
            (Some(Json::Array(elements)), Some(keys)) if elements.len() != keys => {
                let plural = if keys == 1 { "key" } else { "keys" };
                wrong(self.count, format!("{} for {keys} {plural}", elements.len()))
            }
            (Some(Json::Array(elements)), _) => Ok(elements),
            (Some(other), _) => wrong(self.invalid, format!("found {}", kind(&other))),
        }
    }
}

/// What the author of a path should know of an object that nobody described, where there is something to tell.
fn not_described(path: &Path, key: &str) -> Option<Finding> {
    let name = path.object_name();
    if name.is_some() && path.descriptions().next().is_some() {
        return None;
    }
    let near = || check::meant(path).map(str::to_owned).or_else(|| Target::meant_by(key));
    let message = match name {
        None => "nobody described this object, so its number has no name; sent as it is".to_owned(),
        Some(_) => format!("nobody described this object; sent as it is (did you mean {}?)", Quoted(&near()?)),
    };
    Some(Finding::new(Code::ObjectNotDescribed, message))
}

/// An object that nobody described, although the part before a dot in its name is a described object's.
fn like_a_described_one(key: &str) -> Finding {
    let hint = Target::meant_by(key).map(|meant| format!(" (did you mean {}?)", Quoted(&meant)));
    let message = format!(
        "nobody described this object; its first part is a described one, behind which the object instance stands{}",
        hint.unwrap_or_default()
    );
    Finding::new(Code::ObjectNotDescribed, message)
}

/// The paths, or nothing where one of the targets is the root and so covers all others.
fn paths_of(targets: Vec<(usize, Target)>) -> Option<Vec<Key>> {
    targets
        .into_iter()
        .map(|(position, target)| match target {
            Target::Root => None,
            Target::Path(path) => Some(Key { position, path }),
        })
        .collect()
}

/// Applies `each` to every element and its position; all of its findings, where there are any.
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

/// Both, or the findings of both.
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

fn level_range(operation: OperationName) -> String {
    if operation == OperationName::Delete {
        return format!("{} or {}", Level::ObjectInstance.name(), Level::ResourceInstance.name());
    }
    let levels = operation.levels();
    if levels.start() == levels.end() {
        levels.start().name().to_owned()
    } else {
        format!("{} to {}", levels.start().name(), levels.end().name())
    }
}

fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}
