//! Parsing of a result that Coiote reported.

use serde_json::{Map, Value as Json, json};

use super::NO_VALUE;
use super::change::{Change, ResourceValue, has_no_value};
use super::place::Place;

impl Change {
    /// Parses a result. Returns the change that it asks for, and a message for each place that was not understood: such
    /// places keep what the shadow has. The messages do not contain values.
    ///
    /// `null` removes an object, an object instance, a resource or a resource instance.
    pub fn from_result(result: Json) -> (Change, Vec<String>) {
        let mut parser = Parser::default();
        match result {
            Json::Object(objects) => {
                for (object, instances) in objects {
                    parser.object(&object, instances);
                }
            }
            other => parser.messages.push(format!("result: expected an object, found {}", json_type(&other))),
        }
        (parser.change, parser.messages)
    }
}

#[derive(Default)]
struct Parser {
    change: Change,
    messages: Vec<String>,
}

impl Parser {
    fn object(&mut self, object: &str, instances: Json) {
        let place = Place::new([object]);
        for (instance, resources) in self.members(&place, instances, "an object of object instances") {
            let place = place.below(&instance);
            for (name, value) in self.members(&place, resources, "an object of resources") {
                self.resource(object, &instance, &name, value);
            }
        }
    }

    /// The members of an object or an object instance; empty where there are none.
    fn members(&mut self, place: &Place<'_>, json: Json, expected: &str) -> Map<String, Json> {
        match json {
            Json::Object(members) if members.is_empty() => self.change.empty.push(place.path()),
            // Only a resource can be without a value. The members beside the mark count all the same
            json @ Json::Object(_) if has_no_value(&json) => {
                let Json::Object(mut members) = json else { return Map::new() };
                members.remove(NO_VALUE);
                let found = if members.is_empty() { "an object with noValue" } else { "noValue beside its parts" };
                self.not_understood(place, expected, found);
                return members;
            }
            Json::Object(members) => return members,
            Json::Null => self.change.removed.push(place.path()),
            other => self.not_understood(place, expected, json_type(&other)),
        }
        Map::new()
    }

    fn resource(&mut self, object: &str, instance: &str, name: &str, json: Json) {
        let place = Place::new([object, instance, name]);
        let value = match json {
            Json::Null => return self.change.removed.push(place.path()),
            json if has_no_value(&json) => json!({NO_VALUE: true}),
            Json::Object(instances) => match self.resource_instances(&place, instances) {
                Some(instances) => Json::Object(instances),
                None => return self.change.not_understood.push(place.path()),
            },
            json => match scalar(json) {
                Ok(value) => value,
                Err(found) => return self.not_understood(&place, "a value", found),
            },
        };
        let (object, instance, name) = (object.to_owned(), instance.to_owned(), name.to_owned());
        self.change.resources.push(ResourceValue { object, instance, name, value });
    }

    /// The resource instances that were understood; `None` where there are some and none was understood, because that does
    /// not mean that the resource is empty.
    fn resource_instances(&mut self, place: &Place<'_>, instances: Map<String, Json>) -> Option<Map<String, Json>> {
        let was_empty = instances.is_empty();
        let mut understood = Map::new();
        for (id, json) in instances {
            let value = match json {
                Json::Null => Json::Null,
                json if has_no_value(&json) => json!({NO_VALUE: true}),
                json => match scalar(json) {
                    Ok(value) => value,
                    Err(found) => {
                        self.not_understood(&place.below(&id), "a value", found);
                        continue;
                    }
                },
            };
            understood.insert(id, value);
        }
        (was_empty || !understood.is_empty()).then_some(understood)
    }

    fn not_understood(&mut self, place: &Place<'_>, expected: &str, found: &str) {
        let path: String = place.path().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        self.messages.push(format!("{path}: expected {expected}, found {found}"));
        self.change.not_understood.push(place.path());
    }
}

/// The value as a string; the error is the type that was found instead.
fn scalar(json: Json) -> Result<Json, &'static str> {
    match json {
        Json::String(_) => Ok(json),
        Json::Number(number) => Ok(Json::String(number.to_string())),
        Json::Bool(boolean) => Ok(Json::String(boolean.to_string())),
        other => Err(json_type(&other)),
    }
}

/// The type of a JSON value with its article, for messages.
fn json_type(json: &Json) -> &'static str {
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
    use super::super::update::Update;
    use super::*;

    /// Values, removed paths and messages of a result.
    fn parse(result: Json) -> (Json, Vec<String>, Vec<String>) {
        let (change, messages) = Change::from_result(result);
        (Update::of(&change).into_json(), change.removed, messages)
    }

    #[test]
    fn a_result_becomes_a_change_of_its_resources() {
        let (values, removed, messages) = parse(json!({
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
        assert!(removed.is_empty() && messages.is_empty());
    }

    #[test]
    fn null_removes_at_every_level() {
        let (values, removed, messages) = parse(json!({
            "Location": null,
            "Portfolio": {"5": null, "6": {"Identity": {"0": "a"}}},
            "Device": {"0": {"Timezone": null, "Error Code": {"0": {"noValue": true}, "1": null}}},
            "Test object": {"0": {"Integer array": {"noValue": null, "0": "1"}}},
        }));
        assert_eq!(removed, ["Location", "Portfolio.5", "Device.0.Timezone"]);
        assert_eq!(messages, [""; 0]);
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
    fn parts_that_are_not_understood_are_left_out_with_a_message_without_values() {
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
            let (values, removed, messages) = parse(result);
            assert_eq!(messages, [line]);
            assert!(removed.is_empty());
            assert_eq!(values, if is_object { json!({"A": {"0": {"B": "1"}}}) } else { json!({}) });
        }
    }
}
