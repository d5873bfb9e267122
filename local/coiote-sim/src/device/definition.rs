//! Objects and resources that a device implements, and the values that it starts with.
//!
//! They stand in `data-model.json`, which people edit; it is compiled into the binary.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::content::{Content, Objects};
use super::resource_type::{Range, ResourceType};

const DATA_FILE: &str = include_str!("data-model.json");

#[derive(Debug, Error)]
pub(crate) enum DataFileError {
    #[error("data-model.json: {0}")]
    Form(#[from] serde_json::Error),
    #[error("data-model.json: {object}.{instance}.{resource}: {reason}")]
    Start { object: String, instance: u16, resource: String, reason: String },
}

#[derive(Debug, Deserialize)]
struct DataFile {
    objects: Vec<ObjectDefinition>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ObjectDefinition {
    pub(crate) id: u16,
    pub(crate) name: String,
    pub(crate) version: String,
    /// Whether the object may have more than one object instance.
    pub(crate) multiple: bool,
    pub(crate) resources: Vec<ResourceDefinition>,
    instances: BTreeMap<u16, BTreeMap<String, Value>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ResourceDefinition {
    pub(crate) id: u16,
    pub(crate) name: String,
    pub(crate) operations: AllowedOperations,
    #[serde(default, rename = "type")]
    pub(crate) kind: ResourceType,
    pub(crate) range: Option<Range>,
    #[serde(default)]
    pub(crate) multiple: bool,
    #[serde(default)]
    pub(crate) mandatory: bool,
}

/// Operations that a resource allows, as the LwM2M registry writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum AllowedOperations {
    R,
    W,
    RW,
    E,
}

impl AllowedOperations {
    pub(crate) fn readable(self) -> bool {
        matches!(self, Self::R | Self::RW)
    }

    pub(crate) fn writable(self) -> bool {
        matches!(self, Self::W | Self::RW)
    }

    pub(crate) fn executable(self) -> bool {
        self == Self::E
    }
}

impl ObjectDefinition {
    pub(crate) fn resource(&self, id: u16) -> Option<&ResourceDefinition> {
        self.resources.iter().find(|resource| resource.id == id)
    }
}

/// The objects that devices implement.
#[derive(Debug)]
pub(crate) struct Catalogue {
    objects: BTreeMap<u16, ObjectDefinition>,
}

impl Catalogue {
    pub(crate) fn load() -> Result<Self, DataFileError> {
        let file: DataFile = serde_json::from_str(DATA_FILE)?;
        let objects = file.objects.into_iter().map(|object| (object.id, object)).collect();
        let catalogue = Self { objects };
        // Finds a mistake in the file at the start and not with the first device.
        catalogue.start_values("")?;
        Ok(catalogue)
    }

    pub(crate) fn objects(&self) -> impl Iterator<Item = &ObjectDefinition> {
        self.objects.values()
    }

    pub(crate) fn object(&self, id: u16) -> Option<&ObjectDefinition> {
        self.objects.get(&id)
    }

    pub(crate) fn resource(&self, object: u16, resource: u16) -> Option<&ResourceDefinition> {
        self.object(object)?.resource(resource)
    }

    /// Values of a new device with the endpoint name.
    pub(crate) fn start_values(&self, endpoint: &str) -> Result<Objects, DataFileError> {
        let mut objects = Objects::new();
        for object in self.objects() {
            let instances = objects.entry(object.id).or_default();
            for (&instance, given) in &object.instances {
                let content = instances.entry(instance).or_default();
                let mut known = BTreeSet::new();
                for (name, value) in given {
                    let start = |reason: String| DataFileError::Start {
                        object: object.name.clone(),
                        instance,
                        resource: name.clone(),
                        reason,
                    };
                    let resource = object
                        .resources
                        .iter()
                        .find(|resource| &resource.name == name && known.insert(resource.id))
                        .ok_or_else(|| start("no such resource".to_owned()))?;
                    content.insert(resource.id, start_value(resource, value, endpoint).map_err(start)?);
                }
            }
        }
        Ok(objects)
    }
}

fn start_value(resource: &ResourceDefinition, value: &Value, endpoint: &str) -> Result<Content, String> {
    let text = |value: &str| {
        let text = value.replace("{endpoint}", endpoint);
        resource.kind.check(&text, resource.range).map(|()| text)
    };
    match value {
        Value::Null if !resource.multiple => Ok(Content::Single(None)),
        Value::String(value) if !resource.multiple => Ok(Content::Single(Some(text(value)?))),
        Value::Object(values) if resource.multiple => values
            .iter()
            .map(|(instance, value)| {
                let instance = instance.parse().map_err(|_| format!("{instance:?} is not a resource instance"))?;
                let value = match value {
                    Value::Null => None,
                    value => Some(text(value.as_str().unwrap_or_default())?),
                };
                Ok((instance, value))
            })
            .collect::<Result<_, String>>()
            .map(Content::Multiple),
        _ => Err("a string or null is expected, and an object of them where the resource is multiple".to_owned()),
    }
}
