//! What a result says, apart from what stands in the shadow.

use serde_json::{Map, Value as Json, json};

use super::NO_VALUE;
use super::place::Place;
use super::scope::{Scope, lies_below};

/// A result in the form that the datamodel shadow takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    pub(super) resources: Vec<Resource>,
    /// Paths of what is told to be gone.
    pub(super) gone: Vec<String>,
    /// Paths of objects and object instances that are there, with nothing in them.
    empty: Vec<String>,
    /// Paths of what is named but was not understood.
    pub(super) unclear: Vec<String>,
}

/// A resource and its value. In a multiple one, `null` stands for a resource instance that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resource {
    pub(super) object: String,
    pub(super) instance: String,
    pub(super) name: String,
    pub(super) value: Json,
}

impl Resource {
    pub(super) fn place(&self) -> Place<'_> {
        Place::new([&*self.object, &*self.instance, &*self.name])
    }

    /// The resource instances, if it is multiple.
    pub(super) fn parts(&self) -> Option<&Map<String, Json>> {
        parts(&self.value)
    }
}

/// The resource instances of a value, if it is that of a multiple resource.
pub(super) fn parts(value: &Json) -> Option<&Map<String, Json>> {
    value.as_object().filter(|_| !has_no_value(value))
}

pub(super) fn has_no_value(value: &Json) -> bool {
    value.get(NO_VALUE).is_some_and(|flag| !flag.is_null())
}

impl Change {
    /// The change that a result asks for, and a line for each place in it that could not be understood: these are left out,
    /// and stay in the shadow as they are. The lines name what was found, and never a value.
    ///
    /// A `null` means gone: an object, an object instance, a resource or a resource instance.
    pub fn from_result(result: Json) -> (Change, Vec<String>) {
        let mut reading = Reading::default();
        match result {
            Json::Object(objects) => {
                for (object, instances) in objects {
                    reading.object(&object, instances);
                }
            }
            other => reading.told.push(format!("result: expected an object, found {}", kind(&other))),
        }
        (reading.change, reading.told)
    }

    /// What a successful delete takes out: object instances and resource instances, as paths like those of a request.
    pub fn removal<P: AsRef<str>>(paths: impl IntoIterator<Item = P>) -> Change {
        let path = |path: P| path.as_ref().trim().trim_end_matches('.').to_owned();
        // The whole data model cannot be deleted, and no mistake may make it so.
        let gone = paths.into_iter().map(path).filter(|path| !path.is_empty()).collect();
        Change { gone, ..Change::default() }
    }

    /// How many resources it gives a value, or says of that they have none.
    pub fn resources(&self) -> usize {
        self.resources.len()
    }

    /// Whether nothing is said. Then nothing is taken for gone, either: a result without paths proves nothing.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.gone.is_empty() && self.empty.is_empty()
    }

    /// Whether what stands at this place is gone, if nothing newer has put it there.
    pub(super) fn takes_away(&self, place: &Place<'_>, scope: &Scope) -> bool {
        let is_listed = |paths: &[String]| place.levels().iter().any(|level| paths.contains(level));
        if is_listed(&self.gone) {
            return true;
        }
        let is_unclear =
            || is_listed(&self.unclear) || self.unclear.iter().any(|unclear| lies_below(unclear, &place.path()));
        !self.is_empty() && scope.covers(place) && !is_unclear()
    }

    /// Whether the change gives a value to the resource at this place, or to one below it, or says that the place is there.
    pub(super) fn names(&self, place: &Place<'_>) -> bool {
        self.resources.iter().any(|resource| resource.place().names().starts_with(place.names()))
            || self.empty.iter().any(|empty| *empty == place.path() || lies_below(empty, &place.path()))
    }

    /// Whether it can be written without knowing what stands there: an update merges objects, so what it has to take away
    /// must be known.
    pub(super) fn is_plain(&self, scope: &Scope) -> bool {
        let is_named = |key: &str| self.resources.iter().any(|resource| resource.place().path() == key);
        let failed = |key: &str| scope.failed().any(|failed| failed == key);
        self.gone.is_empty()
            && self.resources.iter().all(|resource| !resource.value.is_object())
            && scope.keys().all(|key| is_named(key) || failed(key))
    }
}

#[derive(Default)]
struct Reading {
    change: Change,
    told: Vec<String>,
}

impl Reading {
    fn object(&mut self, object: &str, instances: Json) {
        let place = Place::new([object]);
        for (instance, resources) in self.members(&place, instances, "an object of object instances") {
            let place = place.below(&instance);
            for (name, value) in self.members(&place, resources, "an object of resources") {
                self.resource(object, &instance, &name, value);
            }
        }
    }

    fn members(&mut self, place: &Place<'_>, json: Json, expected: &str) -> Map<String, Json> {
        match json {
            Json::Object(members) if members.is_empty() => self.change.empty.push(place.path()),
            // Only resources can be without a value. What stands beside it is there all the same.
            json @ Json::Object(_) if has_no_value(&json) => {
                let Json::Object(mut members) = json else { return Map::new() };
                members.remove(NO_VALUE);
                let found = if members.is_empty() { "an object with noValue" } else { "noValue beside its parts" };
                self.unclear(place, expected, found);
                return members;
            }
            Json::Object(members) => return members,
            Json::Null => self.change.gone.push(place.path()),
            other => self.unclear(place, expected, kind(&other)),
        }
        Map::new()
    }

    fn resource(&mut self, object: &str, instance: &str, name: &str, json: Json) {
        let place = Place::new([object, instance, name]);
        let value = match json {
            Json::Null => return self.change.gone.push(place.path()),
            value if has_no_value(&value) => json!({NO_VALUE: true}),
            Json::Object(parts) => {
                let was_empty = parts.is_empty();
                let mut understood = Map::new();
                for (id, value) in parts {
                    let value = match value {
                        Json::Null => Json::Null,
                        value if has_no_value(&value) => json!({NO_VALUE: true}),
                        value => match scalar(value) {
                            Ok(value) => value,
                            Err(found) => {
                                self.unclear(&place.below(&id), "a value", found);
                                continue;
                            }
                        },
                    };
                    understood.insert(id, value);
                }
                // No part that is understood does not mean that there are none.
                if understood.is_empty() && !was_empty {
                    return self.change.unclear.push(place.path());
                }
                Json::Object(understood)
            }
            value => match scalar(value) {
                Ok(value) => value,
                Err(found) => return self.unclear(&place, "a value", found),
            },
        };
        let (object, instance, name) = (object.to_owned(), instance.to_owned(), name.to_owned());
        self.change.resources.push(Resource { object, instance, name, value });
    }

    fn unclear(&mut self, place: &Place<'_>, expected: &str, found: &str) {
        let path: String = place.path().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        self.told.push(format!("{path}: expected {expected}, found {found}"));
        self.change.unclear.push(place.path());
    }
}

/// The value as a string; the error is what was found instead.
fn scalar(json: Json) -> Result<Json, &'static str> {
    match json {
        Json::String(_) => Ok(json),
        Json::Number(number) => Ok(Json::String(number.to_string())),
        Json::Bool(boolean) => Ok(Json::String(boolean.to_string())),
        other => Err(kind(&other)),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of a change as a tree, and what is gone.
    fn read(result: Json) -> (Json, Vec<String>, Vec<String>) {
        let (change, told) = Change::from_result(result);
        let mut tree = super::super::decision::Tree::default();
        for resource in &change.resources {
            tree.put(resource.place().names(), resource.value.clone());
        }
        (tree.into_json(), change.gone, told)
    }

    #[test]
    fn a_result_becomes_a_change_of_what_it_names() {
        let (values, gone, told) = read(json!({
            "Device": {"0": {"UTC Offset": "+02:00", "Current Time": {"noValue": true}, "Battery Level": 97, "On": true}},
            "Test object": {"0": {"Integer array": {"0": "6", "1": 7, "2": {"noValue": true}}, "Empty": {}}},
        }));
        assert_eq!(
            values,
            json!({
                "Device": {"0": {
                    "UTC Offset": "+02:00", "Current Time": {"noValue": true}, "Battery Level": "97", "On": "true"
                }},
                "Test object": {"0": {"Integer array": {"0": "6", "1": "7", "2": {"noValue": true}}, "Empty": {}}},
            })
        );
        assert!(gone.is_empty() && told.is_empty());
    }

    #[test]
    fn null_means_gone_at_every_level() {
        let (values, gone, told) = read(json!({
            "Location": null,
            "Portfolio": {"5": null, "6": {"Identity": {"0": "a"}}},
            "Device": {"0": {"Timezone": null, "Error Code": {"0": {"noValue": true}, "1": null}}},
            "Test object": {"0": {"Integer array": {"noValue": null, "0": "1"}}},
        }));
        assert_eq!(gone, ["Location", "Portfolio.5", "Device.0.Timezone"]);
        assert_eq!(told, [""; 0]);
        assert_eq!(
            values,
            json!({
                "Portfolio": {"6": {"Identity": {"0": "a"}}},
                "Device": {"0": {"Error Code": {"0": {"noValue": true}, "1": null}}},
                "Test object": {"0": {"Integer array": {"noValue": null, "0": "1"}}},
            })
        );
    }

    #[test]
    fn what_is_not_understood_is_left_out_and_told_without_its_value() {
        let secret = "s3cret";
        for (result, line) in [
            (json!("s3cret"), "result: expected an object, found a string"),
            (json!(null), "result: expected an object, found null"),
            (
                json!({"A": {"0": {"B": "1"}}, "Device": secret}),
                "Device: expected an object of object instances, found a string",
            ),
            (
                json!({"A": {"0": {"B": "1"}}, "Device": {"0": [secret]}}),
                "Device.0: expected an object of resources, found an array",
            ),
            (
                json!({"A": {"0": {"B": "1"}}, "Device": {"0": {"noValue": true}}}),
                "Device.0: expected an object of resources, found an object with noValue",
            ),
            (
                json!({"A": {"0": {"B": "1"}}, "Device": {"0": {"X": [secret]}}}),
                "Device.0.X: expected a value, found an array",
            ),
            (
                json!({"A": {"0": {"B": "1"}}, "Device": {"0": {"X": {"1": {"2": secret}}}}}),
                "Device.0.X.1: expected a value, found an object",
            ),
            (
                json!({"A": {"0": {"B": "1"}}, "x\ny": 5}),
                "x\u{fffd}y: expected an object of object instances, found a number",
            ),
            (
                json!({"A": {"0": {"B": "1", "noValue": true}}}),
                "A.0: expected an object of resources, found noValue beside its parts",
            ),
            (
                json!({"A": {"noValue": true, "0": {"B": "1"}}}),
                "A: expected an object of object instances, found noValue beside its parts",
            ),
        ] {
            let is_object = result.is_object();
            let (values, gone, told) = read(result);
            assert_eq!(told, [line]);
            assert!(gone.is_empty());
            assert_eq!(values, if is_object { json!({"A": {"0": {"B": "1"}}}) } else { json!({}) });
        }
    }

    #[test]
    fn a_change_is_plain_if_it_has_nothing_to_take_away() {
        let of = |keys: &[&str], failed: &[&str]| {
            let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
            Scope::new(Some(owned(keys)), owned(failed))
        };
        let plain = json!({"A": {"0": {"B": "1", "C": "2"}}});
        for (result, scope, is_plain) in [
            (plain.clone(), Scope::nothing(), true),
            (plain.clone(), of(&["A.0.B", "A.0.C"], &[""]), true),
            (plain.clone(), of(&["A.0.B", "A.0.C", "A.0.D"], &["A.0.D"]), true),
            (plain.clone(), of(&["A.0.B", "A.0.C", "A.0.D"], &[""]), false),
            (plain, of(&["A.0"], &[""]), false),
            (json!({"A": {"0": {"B": {"0": "1"}}}}), Scope::nothing(), false),
            (json!({"A": {"0": {"B": {"noValue": true}}}}), Scope::nothing(), false),
            (json!({"A": {"0": {"B": "1"}, "1": null}}), Scope::nothing(), false),
        ] {
            assert_eq!(Change::from_result(result.clone()).0.is_plain(&scope), is_plain, "{result} {scope:?}");
        }
        assert!(!Change::removal(["A.0"]).is_plain(&Scope::nothing()));
        assert!(Change::removal(["", "."]).is_empty());
    }
}
