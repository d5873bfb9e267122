//! Task templates, and decoding of their parameters.
//!
//! Keys and values arrive joined by commas, without an escape. Parameters that cannot be split again are refused with a
//! 400 that names the parameter, before any device sees them.

use std::collections::BTreeSet;

use crate::arguments;
use crate::attributes::{self, Unset};
use crate::decoded_operation::{DecodedOperation, KeyAttributes, KeyValue, Keys};
use crate::device::{Catalogue, Path};

/// Operations that have a template, which is named `AWS` + operation + `CertAuth`.
const OPERATIONS: [&str; 13] = [
    "read",
    "write",
    "observe",
    "cancelObserve",
    "execute",
    "writeAttributes",
    "discover",
    "create",
    "delete",
    "readComposite",
    "writeComposite",
    "observeComposite",
    "cancelObserveComposite",
];

pub(crate) fn all_names() -> impl Iterator<Item = String> {
    OPERATIONS.iter().map(|operation| format!("AWS{operation}CertAuth"))
}

fn operation_of(template: &str) -> Option<&str> {
    let operation = template.strip_prefix("AWS")?.strip_suffix("CertAuth")?;
    OPERATIONS.contains(&operation).then_some(operation)
}

/// Parameter of a task, as it arrived.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// Decodes the parameters of a template into an operation. The error names the parameter.
pub(crate) fn decode(
    template: &str,
    parameters: &[Parameter],
    catalogue: &Catalogue,
) -> Result<DecodedOperation, String> {
    let operation = operation_of(template).ok_or_else(|| format!("{template} has no decoder"))?;
    let mut given = GivenParameters::new(parameters)?;
    let keys = given.required("keys")?;
    let whole_keys = || split_keys(keys, catalogue);
    let decoded = match operation {
        "read" => DecodedOperation::Read { keys: all_or_some(keys, "", catalogue)? },
        "readComposite" => DecodedOperation::ReadComposite { keys: all_or_some(keys, "", catalogue)? },
        "observeComposite" => DecodedOperation::ObserveComposite { keys: all_or_some(keys, "", catalogue)? },
        "cancelObserve" => DecodedOperation::CancelObserve { keys: all_or_some(keys, "all", catalogue)? },
        "cancelObserveComposite" => {
            DecodedOperation::CancelObserveComposite { keys: all_or_some(keys, "all", catalogue)? }
        }
        "write" => DecodedOperation::Write { values: key_values(keys, given.required("values")?)? },
        "writeComposite" => DecodedOperation::WriteComposite { values: key_values(keys, given.required("values")?)? },
        "observe" => DecodedOperation::Observe {
            targets: key_attributes(whole_keys()?, given.required("attributes")?, Unset::NoneOrEmptyString)?,
        },
        "writeAttributes" => DecodedOperation::WriteAttributes {
            targets: key_attributes(whole_keys()?, given.required("attributes")?, Unset::EmptyString)?,
        },
        "execute" => execute(&whole_keys()?, given.optional("arguments").unwrap_or_default())?,
        "discover" => DecodedOperation::Discover { keys: whole_keys()? },
        "create" => create(keys, given.required("values")?, catalogue)?,
        "delete" => delete(whole_keys()?, catalogue)?,
        _ => return Err(format!("{template} has no decoder")),
    };
    given.nothing_left(template)?;
    Ok(decoded)
}

/// Parameters by name. Those that are not taken are unknown to the template.
struct GivenParameters<'p> {
    parameters: &'p [Parameter],
    taken: BTreeSet<&'static str>,
}

impl<'p> GivenParameters<'p> {
    fn new(parameters: &'p [Parameter]) -> Result<Self, String> {
        let mut names = BTreeSet::new();
        match parameters.iter().find(|parameter| !names.insert(&parameter.name)) {
            Some(twice) => Err(format!("parameter {:?} is given twice", twice.name)),
            None => Ok(Self { parameters, taken: BTreeSet::new() }),
        }
    }

    fn optional(&mut self, name: &'static str) -> Option<&'p str> {
        self.taken.insert(name);
        self.parameters.iter().find(|parameter| parameter.name == name).map(|parameter| parameter.value.as_str())
    }

    fn required(&mut self, name: &'static str) -> Result<&'p str, String> {
        self.optional(name).ok_or_else(|| format!("parameter {name:?} is missing"))
    }

    fn nothing_left(&self, template: &str) -> Result<(), String> {
        match self.parameters.iter().find(|parameter| !self.taken.contains(parameter.name.as_str())) {
            Some(unknown) => Err(format!("{template} has no parameter {:?}", unknown.name)),
            None => Ok(()),
        }
    }
}

fn all_or_some(text: &str, all: &str, catalogue: &Catalogue) -> Result<Keys, String> {
    if text == all {
        return Ok(Keys::All);
    }
    let keys = split_keys(text, catalogue)?;
    if keys.iter().any(|key| key == "all") {
        return Err("keys: \"all\" does not stand among other keys, nor in this template unless it cancels".to_owned());
    }
    Ok(Keys::Some(keys))
}

/// Splits the keys of a template without values. A single path whose name holds a comma is one key.
fn split_keys(text: &str, catalogue: &Catalogue) -> Result<Vec<String>, String> {
    if text.contains(',') && catalogue.resolve(text).is_ok() {
        return Ok(vec![text.to_owned()]);
    }
    split(text)
}

fn split(text: &str) -> Result<Vec<String>, String> {
    let keys: Vec<String> = text.split(',').map(str::to_owned).collect();
    let mut seen = BTreeSet::new();
    for (position, key) in keys.iter().enumerate() {
        if key.is_empty() {
            return Err(format!("keys: key {position} is empty"));
        }
        if !seen.insert(key) {
            return Err(format!("keys: {key:?} is given twice"));
        }
    }
    Ok(keys)
}

fn key_values(keys: &str, values: &str) -> Result<Vec<KeyValue>, String> {
    let keys = split(keys)?;
    let values: Vec<&str> = values.split(',').collect();
    if keys.len() != values.len() {
        return Err(format!("values: {} for {} keys", values.len(), keys.len()));
    }
    Ok(keys.into_iter().zip(values).map(|(key, value)| KeyValue { key, value: value.to_owned() }).collect())
}

fn key_attributes(keys: Vec<String>, text: &str, unset: Unset) -> Result<Vec<KeyAttributes>, String> {
    let attributes = attributes::parse(text, unset).map_err(|error| format!("attributes: {error}"))?;
    if keys.len() != attributes.len() {
        return Err(format!("attributes: {} for {} keys", attributes.len(), keys.len()));
    }
    Ok(keys.into_iter().zip(attributes).map(|(key, attributes)| KeyAttributes { key, attributes }).collect())
}

fn execute(keys: &[String], text: &str) -> Result<DecodedOperation, String> {
    let [key] = keys else {
        return Err(format!("keys: {} of them, and exactly one resource can be executed", keys.len()));
    };
    let arguments = arguments::parse(text).map_err(|error| format!("arguments: {error}"))?;
    Ok(DecodedOperation::Execute { key: key.clone(), arguments })
}

/// Decodes the creation of one object instance.
///
/// The keys are the path of the new instance, or that of the object if the device chooses the id, without a value; or
/// resources of the instance with a value each. Keys that the device does not have are left to it: it fails them.
fn create(keys: &str, values: &str, catalogue: &Catalogue) -> Result<DecodedOperation, String> {
    let names = split(keys)?;
    let paths: Vec<_> = names.iter().filter_map(|key| Some((key, catalogue.resolve(key).ok()?))).collect();
    if let ([_], [(_, Path::Object(_) | Path::Instance(..))]) = (names.as_slice(), paths.as_slice()) {
        return if values.is_empty() {
            Ok(DecodedOperation::Create { keys: names, values: Vec::new() })
        } else {
            Err("values: an object or object instance takes none; name its resources to give values".to_owned())
        };
    }
    if let Some((key, _)) = paths.iter().find(|(_, path)| matches!(path, Path::Object(_) | Path::Instance(..))) {
        return Err(format!("keys: {key:?} is not a resource of the new object instance"));
    }
    let mut instances: Vec<_> = paths.iter().filter_map(|(_, path)| path.instance()).collect();
    instances.dedup();
    if instances.len() > 1 {
        return Err("keys: the resources belong to several object instances, and one is created at a time".to_owned());
    }
    Ok(DecodedOperation::Create { values: key_values(keys, values)?, keys: names })
}

/// Decodes the deletion of object instances and, since LwM2M 1.2, of resource instances.
fn delete(keys: Vec<String>, catalogue: &Catalogue) -> Result<DecodedOperation, String> {
    let can_go = |path| matches!(path, Path::Instance(..) | Path::ResourceInstance(..));
    match keys.iter().find(|key| catalogue.resolve(key).is_ok_and(|path| !can_go(path))) {
        Some(key) => Err(format!("keys: {key:?} is not an object instance or a resource instance")),
        None => Ok(DecodedOperation::Delete { keys }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn decoded(operation: &str, parameters: &[(&str, &str)]) -> Result<serde_json::Value, String> {
        let parameters: Vec<_> = parameters
            .iter()
            .map(|(name, value)| Parameter { name: (*name).to_owned(), value: (*value).to_owned() })
            .collect();
        decode(&format!("AWS{operation}CertAuth"), &parameters, &Catalogue::load().unwrap())
            .map(|operation| serde_json::to_value(operation).unwrap())
    }

    #[test]
    fn reads_each_template() {
        let pair = |key: &str, value: &str| json!({"key": key, "value": value});
        for (operation, parameters, expected) in [
            ("read", vec![("keys", "")], json!({"operation": "read", "keys": "all"})),
            (
                "read",
                vec![("keys", "Device.0,Portfolio")],
                json!({"operation": "read", "keys": ["Device.0", "Portfolio"]}),
            ),
            (
                "read",
                vec![("keys", "LWM2M APN Connection Profile.0.Validity (MCC, MNC)")],
                json!({"operation": "read", "keys": ["LWM2M APN Connection Profile.0.Validity (MCC, MNC)"]}),
            ),
            (
                "write",
                vec![("keys", "LwM2M Server.1.Lifetime,Device.0.UTC Offset"), ("values", "68,+02:00")],
                json!({"operation": "write", "values": [pair("LwM2M Server.1.Lifetime", "68"), pair("Device.0.UTC Offset", "+02:00")]}),
            ),
            (
                "writeComposite",
                vec![("keys", "Device.0.Timezone"), ("values", "")],
                json!({"operation": "writeComposite", "values": [pair("Device.0.Timezone", "")]}),
            ),
            (
                "observe",
                vec![("keys", "Device.0,Portfolio"), ("attributes", "[{'pmin':None},{}]")],
                json!({"operation": "observe", "targets": [
                    {"key": "Device.0", "attributes": {"pmin": null}}, {"key": "Portfolio", "attributes": {}}]}),
            ),
            (
                "writeAttributes",
                vec![("keys", "Device.0"), ("attributes", "[{'con':''}]")],
                json!({"operation": "writeAttributes", "targets": [{"key": "Device.0", "attributes": {"con": null}}]}),
            ),
            ("cancelObserve", vec![("keys", "all")], json!({"operation": "cancelObserve", "keys": "all"})),
            (
                "cancelObserveComposite",
                vec![("keys", "Device")],
                json!({"operation": "cancelObserveComposite", "keys": ["Device"]}),
            ),
            (
                "execute",
                vec![("keys", "Device.0.Reboot")],
                json!({"operation": "execute", "key": "Device.0.Reboot", "arguments": []}),
            ),
            (
                "execute",
                vec![("arguments", "0='abc',1"), ("keys", "Device.0.Reboot")],
                json!({"operation": "execute", "key": "Device.0.Reboot",
                    "arguments": [{"number": 0, "value": "abc"}, {"number": 1, "value": null}]}),
            ),
            (
                "discover",
                vec![("keys", "Device,Device.0")],
                json!({"operation": "discover", "keys": ["Device", "Device.0"]}),
            ),
            (
                "create",
                vec![("keys", "Portfolio.3"), ("values", "")],
                json!({"operation": "create", "keys": ["Portfolio.3"], "values": []}),
            ),
            (
                "create",
                vec![("keys", "Portfolio.3.Identity.0,Portfolio.3.Identity.1"), ("values", "a,")],
                json!({"operation": "create", "keys": ["Portfolio.3.Identity.0", "Portfolio.3.Identity.1"],
                    "values": [pair("Portfolio.3.Identity.0", "a"), pair("Portfolio.3.Identity.1", "")]}),
            ),
            (
                "create",
                vec![("keys", "Portfolio"), ("values", "")],
                json!({"operation": "create", "keys": ["Portfolio"], "values": []}),
            ),
            (
                "delete",
                vec![("keys", "Portfolio.5.Identity.0")],
                json!({"operation": "delete", "keys": ["Portfolio.5.Identity.0"]}),
            ),
            ("delete", vec![("keys", "Portfolio.3")], json!({"operation": "delete", "keys": ["Portfolio.3"]})),
            ("observeComposite", vec![("keys", "")], json!({"operation": "observeComposite", "keys": "all"})),
        ] {
            assert_eq!(decoded(operation, &parameters), Ok(expected), "{operation} {parameters:?}");
        }
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        for (operation, parameters, part) in [
            ("read", vec![], "\"keys\" is missing"),
            ("read", vec![("keys", "Device"), ("keys", "Device")], "\"keys\" is given twice"),
            ("read", vec![("keys", "Device"), ("values", "1")], "no parameter \"values\""),
            ("read", vec![("keys", "Device,")], "key 1 is empty"),
            ("read", vec![("keys", "Device,Device")], "twice"),
            ("read", vec![("keys", "all")], "all"),
            ("write", vec![("keys", "Device.0.Timezone")], "\"values\" is missing"),
            ("write", vec![("keys", ""), ("values", "")], "key 0 is empty"),
            ("write", vec![("keys", "Device.0.Timezone"), ("values", "a,b")], "2 for 1 keys"),
            ("observe", vec![("keys", "Device")], "\"attributes\" is missing"),
            ("observe", vec![("keys", "Device"), ("attributes", "[{},{}]")], "2 for 1 keys"),
            ("observe", vec![("keys", "Device"), ("attributes", "[{'con':' '}]")], "attributes: "),
            ("observe", vec![("keys", ""), ("attributes", "[{}]")], "key 0 is empty"),
            ("writeAttributes", vec![("keys", "Device"), ("attributes", "[{'con':None}]")], "attributes: "),
            ("cancelObserve", vec![("keys", "all,Device")], "all"),
            ("cancelObserve", vec![("keys", "")], "key 0 is empty"),
            ("execute", vec![("keys", "Device.0.Reboot,Device.0.Factory Reset")], "exactly one"),
            ("execute", vec![("keys", "Device.0.Reboot"), ("arguments", "abc")], "arguments: "),
            ("create", vec![("keys", "Portfolio.3"), ("values", "a")], "takes none"),
            ("create", vec![("keys", "Portfolio"), ("values", "a")], "takes none"),
            ("create", vec![("keys", "Portfolio,Portfolio.4"), ("values", "")], "not a resource"),
            ("create", vec![("keys", "Portfolio.3.Identity.0,Portfolio.4.Identity.0"), ("values", "a,b")], "several"),
            ("create", vec![("keys", "Portfolio.3,Portfolio.4"), ("values", "")], "not a resource"),
            ("create", vec![("keys", "Portfolio.3.Identity.0"), ("values", "a,b")], "2 for 1 keys"),
            ("delete", vec![("keys", "Portfolio")], "not an object instance"),
            ("delete", vec![("keys", "Device.0.UTC Offset")], "not an object instance"),
        ] {
            let error = decoded(operation, &parameters).unwrap_err();
            assert!(error.contains(part), "{operation} {parameters:?}: {error}");
        }
    }
}
