//! The datamodel shadow: what is known of the device's data model, folded together from results.
//!
//! Its form is object name → object instance → resource name → value. Every value is a string; a resource without a
//! value is `{"noValue": true}`; a multiple resource is an object of resource instances, `{}` where it has none.

use aws_sdk_iotdataplane::Client;
use aws_sdk_iotdataplane::error::DisplayErrorContext;
use aws_sdk_iotdataplane::primitives::Blob;
use serde_json::{Map, Value as Json, json};

use crate::thing::ThingName;

const SHADOW_NAME: &str = "datamodel";
const NO_VALUE: &str = "noValue";

/// A result in the form that the datamodel shadow takes: a change that can only touch what the result names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    reported: Map<String, Json>,
    resources: usize,
    /// Whether a resource is given as an object: without a value, or multiple.
    has_objects: bool,
}

impl Change {
    /// The error names the place that is not of the form.
    pub fn from_result(result: Json) -> Result<Change, String> {
        let mut change = Change { reported: Map::new(), resources: 0, has_objects: false };
        change.reported = map_object("result", result, |object, instances| {
            map_object(object, instances, |instance, resources| {
                map_object(&format!("{object}.{instance}"), resources, |resource, value| {
                    let value = resource_value(&format!("{object}.{instance}.{resource}"), value)?;
                    change.resources += 1;
                    change.has_objects |= value.is_object();
                    Ok(value)
                })
                .map(Json::Object)
            })
            .map(Json::Object)
        })?;
        Ok(change)
    }

    /// How many resources it changes.
    pub fn resources(&self) -> usize {
        self.resources
    }

    /// Removes what cannot stand beside the new value: a shadow update merges objects, so `{"noValue": true}` would stay
    /// beside resource instances and they beside it. `current`: what the shadow reports now.
    fn replacing(mut self, current: &Json) -> Change {
        for (object, instances) in &mut self.reported {
            for (instance, resources) in instances.as_object_mut().into_iter().flatten() {
                for (resource, value) in resources.as_object_mut().into_iter().flatten() {
                    let old = current.get(object).and_then(|o| o.get(instance)).and_then(|i| i.get(resource));
                    if let (Some(Json::Object(old)), Json::Object(new)) = (old, value) {
                        let has_no_value = new.contains_key(NO_VALUE);
                        let is_empty = new.is_empty();
                        let stale = |key: &&String| is_empty || has_no_value != (*key == NO_VALUE);
                        let stale: Vec<String> = old.keys().filter(stale).cloned().collect();
                        new.extend(stale.into_iter().map(|key| (key, Json::Null)));
                    }
                }
            }
        }
        self
    }
}

/// Applies `each` to every entry of what has to be an object; `place` is where it stands, for the error.
fn map_object(
    place: &str,
    json: Json,
    mut each: impl FnMut(&str, Json) -> Result<Json, String>,
) -> Result<Map<String, Json>, String> {
    let Json::Object(object) = json else { return Err(format!("{place}: expected an object")) };
    object.into_iter().map(|(key, value)| each(&key, value).map(|value| (key, value))).collect()
}

fn resource_value(place: &str, json: Json) -> Result<Json, String> {
    match json {
        Json::Object(object) if object.contains_key(NO_VALUE) => Ok(json!({NO_VALUE: true})),
        resource_instances @ Json::Object(_) => {
            map_object(place, resource_instances, |id, value| scalar(&format!("{place}.{id}"), value)).map(Json::Object)
        }
        value => scalar(place, value),
    }
}

fn scalar(place: &str, json: Json) -> Result<Json, String> {
    match json {
        Json::String(_) => Ok(json),
        Json::Number(number) => Ok(Json::String(number.to_string())),
        Json::Bool(boolean) => Ok(Json::String(boolean.to_string())),
        Json::Null | Json::Array(_) | Json::Object(_) => Err(format!("{place}: expected a value as a string")),
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The update would make the document larger than AWS IoT takes (8 KB by default).
    #[error("the datamodel shadow would exceed the size that AWS IoT takes")]
    TooLarge,
    /// AWS IoT does not take the request itself: sent again, it would be refused again.
    #[error("AWS IoT refused the update of the datamodel shadow: {0}")]
    Refused(String),
    #[error("the datamodel shadow could not be read: {0}")]
    NotRead(String),
    #[error("the datamodel shadow could not be updated: {0}")]
    NotUpdated(String),
}

/// Folds a change into the thing's datamodel shadow: one call where all values are plain, two where some are objects.
pub async fn fold(client: &Client, thing: &ThingName, change: Change) -> Result<(), Error> {
    let change = if change.has_objects { change.replacing(&reported(client, thing).await?) } else { change };
    let document = json!({"state": {"reported": change.reported}}).to_string();
    client
        .update_thing_shadow()
        .thing_name(thing.as_str())
        .shadow_name(SHADOW_NAME)
        .payload(Blob::new(document))
        .send()
        .await
        .map(drop)
        .map_err(|error| {
            let told = DisplayErrorContext(&error).to_string();
            match error.as_service_error() {
                Some(service) if service.is_request_entity_too_large_exception() => Error::TooLarge,
                Some(service) if service.is_invalid_request_exception() || service.is_unauthorized_exception() => {
                    Error::Refused(told)
                }
                _ => Error::NotUpdated(told),
            }
        })
}

/// What the datamodel shadow reports now; nothing where there is none yet.
async fn reported(client: &Client, thing: &ThingName) -> Result<Json, Error> {
    match client.get_thing_shadow().thing_name(thing.as_str()).shadow_name(SHADOW_NAME).send().await {
        Ok(output) => {
            let document = output.payload.map(Blob::into_inner).unwrap_or_default();
            let mut document: Json = serde_json::from_slice(&document).map_err(|e| Error::NotRead(e.to_string()))?;
            Ok(document.pointer_mut("/state/reported").map(Json::take).unwrap_or_default())
        }
        Err(error) if error.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) => Ok(Json::Null),
        Err(error) => Err(Error::NotRead(DisplayErrorContext(&error).to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_becomes_a_change_of_what_it_names() {
        let change = Change::from_result(json!({
            "Device": {"0": {"UTC Offset": "+02:00", "Current Time": {"noValue": true}, "Battery Level": 97}},
            "Test object": {"0": {"Integer array": {"0": "6", "1": 7}, "Empty": {}}},
        }))
        .unwrap();
        assert_eq!(change.resources(), 5);
        assert_eq!(
            Json::Object(change.reported),
            json!({
                "Device": {"0": {"UTC Offset": "+02:00", "Current Time": {"noValue": true}, "Battery Level": "97"}},
                "Test object": {"0": {"Integer array": {"0": "6", "1": "7"}, "Empty": {}}},
            })
        );
        assert_eq!(Change::from_result(json!({})).unwrap().resources(), 0);
    }

    #[test]
    fn no_value_and_resource_instances_replace_each_other() {
        let current = json!({"T": {"0": {
            "plain": "1", "was plain": "1", "had none": {"noValue": true}, "had some": {"0": "6", "1": "7"}, "kept": {"4": "5"},
            "emptied": {"0": "6", "1": "7"}
        }}});
        let change = Change::from_result(json!({"T": {"0": {
            "plain": "2", "was plain": {"0": "1"}, "had none": {"0": "6"}, "had some": {"noValue": true}, "kept": {"5": "6"},
            "new": {"0": "1"}, "emptied": {}
        }}}))
        .unwrap();
        assert_eq!(
            Json::Object(change.replacing(&current).reported),
            json!({"T": {"0": {
                "plain": "2", "was plain": {"0": "1"}, "had none": {"0": "6", "noValue": null},
                "had some": {"noValue": true, "0": null, "1": null}, "kept": {"5": "6"}, "new": {"0": "1"},
                "emptied": {"0": null, "1": null}
            }}})
        );
    }

    #[test]
    fn what_is_not_of_the_form_is_named() {
        for (result, place) in [
            (json!("x"), "result:"),
            (json!({"Device": 5}), "Device:"),
            (json!({"Device": {"0": []}}), "Device.0:"),
            (json!({"Device": {"0": {"A": null}}}), "Device.0.A:"),
            (json!({"Device": {"0": {"A": {"1": {}}}}}), "Device.0.A.1:"),
        ] {
            let message = Change::from_result(result).unwrap_err();
            assert!(message.starts_with(place), "{message}");
        }
    }
}
