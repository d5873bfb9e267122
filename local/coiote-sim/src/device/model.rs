//! Values that a device holds, and the checks when they are read, written, created or deleted.
//!
//! Values that were read have the same shape as those that are held, so that several keys merge into one result by id.
//! Names come in only when the result is rendered.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::content::{Content, Instance, Objects};
use super::definition::{Catalogue, DataFileError, ObjectDefinition, ResourceDefinition};
use super::path::Path;

/// LwM2M Server object. Deleting its instances would cut the device off from its server.
const LWM2M_SERVER: u16 = 1;

#[derive(Debug, Clone)]
pub(crate) struct DataModel {
    pub(crate) catalogue: Arc<Catalogue>,
    objects: Objects,
}

impl DataModel {
    pub(crate) fn new(catalogue: Arc<Catalogue>, endpoint: &str) -> Result<Self, DataFileError> {
        let objects = catalogue.start_values(endpoint)?;
        Ok(Self { catalogue, objects })
    }

    /// All readable values.
    pub(crate) fn read_all(&self) -> Objects {
        let mut result = Objects::new();
        for object in self.catalogue.objects() {
            self.read_object(object, &mut result);
        }
        result
    }

    /// Adds the executable resources of the object without a value, as Coiote shows them in a whole object.
    pub(crate) fn add_executable(&self, object: u16, result: &mut Objects) {
        let Some(definition) = self.catalogue.object(object) else { return };
        for instance in result.entry(object).or_default().values_mut() {
            let executable = definition.resources.iter().filter(|resource| resource.operations.executable());
            instance.extend(executable.map(|resource| (resource.id, Content::Single(None))));
        }
    }

    /// Adds the values at the path to `result`.
    pub(crate) fn read(&self, path: Path, result: &mut Objects) -> Result<(), String> {
        let object = self.object(path)?;
        match path {
            Path::Object(_) => {
                self.read_object(object, result);
                Ok(())
            }
            Path::Instance(_, id) => {
                let readable = readable(object, self.instance(path)?);
                result.entry(object.id).or_default().entry(id).or_default().extend(readable);
                Ok(())
            }
            Path::Resource(_, instance, id) => {
                let content = self.readable_content(path, id)?.clone();
                result.entry(object.id).or_default().entry(instance).or_default().insert(id, content);
                Ok(())
            }
            Path::ResourceInstance(_, instance, id, resource_instance) => {
                let Content::Multiple(values) = self.readable_content(path, id)? else {
                    return Err("the resource is a single one, without resource instances".to_owned());
                };
                let value = values.get(&resource_instance).ok_or("the device has no such resource instance")?;
                record(result, path, value.clone(), instance, id);
                Ok(())
            }
        }
    }

    /// Writes one value, and adds it to `result`.
    pub(crate) fn write(&mut self, path: Path, text: &str, result: &mut Objects) -> Result<(), String> {
        let (instance, id) = self.check_write(path, text)?;
        if self.instance(path)?.get(&id).is_none() && self.resource(path, id)?.operations.readable() {
            return Err("the device has no such resource in this object instance".to_owned());
        }
        let held = Some(self.held(path, id, text));
        record(&mut self.objects, path, held.clone(), instance, id);
        record(result, path, held, instance, id);
        Ok(())
    }

    /// The text as it is held: times in seconds, in whichever form they were written.
    fn held(&self, path: Path, resource: u16, text: &str) -> String {
        self.resource(path, resource).map_or_else(|_| text.to_owned(), |resource| resource.kind.held(text))
    }

    /// Checks that the resource at the path takes the text, and returns object instance and resource.
    fn check_write(&self, path: Path, text: &str) -> Result<(u16, u16), String> {
        let (instance, id) = path.resource().ok_or("a value can be written to a resource only")?;
        let resource = self.resource(path, id)?;
        if !resource.operations.writable() {
            return Err("the resource is not writable".to_owned());
        }
        check_form(resource, path, text)?;
        Ok((instance, id))
    }

    /// Checks that the device itself may set the readable resource at the path to the text.
    pub(crate) fn check_own_value(&self, path: Path, text: &str) -> Result<(), String> {
        let (_, id) = path.resource().ok_or("a value can be given to a resource only")?;
        let resource = self.resource(path, id)?;
        self.instance(path)?;
        if !resource.operations.readable() {
            return Err("the resource is not readable".to_owned());
        }
        check_form(resource, path, text)
    }

    /// Creates one object instance or nothing. An error has a position in `values`, or `None` for the whole.
    pub(crate) fn create(
        &mut self,
        (object_id, id): (u16, u16),
        values: &[(Path, &str)],
    ) -> Result<(), (Option<usize>, String)> {
        let whole = |reason: &str| (None, reason.to_owned());
        let object = self.catalogue.object(object_id).ok_or_else(|| whole("the device has no such object"))?;
        if !object.multiple && id != 0 {
            return Err(whole("the object has a single instance only"));
        }
        if self.objects.get(&object_id).is_some_and(|instances| instances.contains_key(&id)) {
            return Err(whole("the object instance exists already"));
        }
        let mut instance: Instance = object
            .resources
            .iter()
            .filter(|resource| resource.mandatory && resource.operations.readable())
            .map(|resource| (resource.id, Content::empty(resource.multiple)))
            .collect();
        for (position, (path, text)) in values.iter().enumerate() {
            let (_, resource) = self.check_write(*path, text).map_err(|reason| (Some(position), reason))?;
            put(&mut instance, resource, *path, Some(self.held(*path, resource, text)));
        }
        self.objects.entry(object_id).or_default().insert(id, instance);
        Ok(())
    }

    /// Smallest free instance id, for an object instance whose id is left to the device.
    pub(crate) fn free_instance(&self, object: u16) -> Option<u16> {
        let used = self.objects.get(&object);
        (0..u16::MAX).find(|id| !used.is_some_and(|instances| instances.contains_key(id)))
    }

    pub(crate) fn delete(&mut self, path: Path) -> Result<(), String> {
        if let Path::ResourceInstance(object, instance, resource, resource_instance) = path {
            self.check_exists(path)?;
            if !self.resource(path, resource)?.operations.writable() {
                return Err("the device does not let this resource instance be deleted".to_owned());
            }
            let instance = self.objects.get_mut(&object).and_then(|instances| instances.get_mut(&instance));
            if let Some(Content::Multiple(values)) = instance.and_then(|instance| instance.get_mut(&resource)) {
                values.remove(&resource_instance);
            }
            return Ok(());
        }
        let (object_id, id) = path.instance().ok_or("only an object instance can be deleted")?;
        self.instance(path)?;
        if !self.object(path)?.multiple || object_id == LWM2M_SERVER {
            return Err("the device does not let this object instance be deleted".to_owned());
        }
        if let Some(instances) = self.objects.get_mut(&object_id) {
            instances.remove(&id);
        }
        Ok(())
    }

    /// Checks that the path exists, whatever may be done with it.
    pub(crate) fn check_exists(&self, path: Path) -> Result<(), String> {
        self.object(path)?;
        let id = match path {
            Path::Object(_) => return Ok(()),
            Path::Instance(..) => return self.instance(path).map(|_| ()),
            Path::Resource(_, _, id) | Path::ResourceInstance(_, _, id, _) => id,
        };
        let content = self.instance(path)?.get(&id);
        if content.is_none() && self.resource(path, id)?.operations.readable() {
            return Err("the device has no such resource in this object instance".to_owned());
        }
        match (path, content) {
            (Path::ResourceInstance(_, _, _, wanted), Some(Content::Multiple(values)))
                if values.contains_key(&wanted) =>
            {
                Ok(())
            }
            (Path::ResourceInstance(..), _) => Err("the device has no such resource instance".to_owned()),
            _ => Ok(()),
        }
    }

    /// Definition of the resource in the path's object.
    pub(crate) fn resource(&self, path: Path, id: u16) -> Result<&ResourceDefinition, String> {
        self.object(path)?.resource(id).ok_or_else(|| "the device has no such resource".to_owned())
    }

    pub(crate) fn object(&self, path: Path) -> Result<&ObjectDefinition, String> {
        self.catalogue.object(path.object()).ok_or_else(|| "the device has no such object".to_owned())
    }

    pub(crate) fn instance(&self, path: Path) -> Result<&Instance, String> {
        path.instance()
            .and_then(|(object, instance)| self.objects.get(&object)?.get(&instance))
            .ok_or_else(|| "the device has no such object instance".to_owned())
    }

    pub(crate) fn instances(&self, object: u16) -> impl Iterator<Item = (u16, &Instance)> {
        self.objects.get(&object).into_iter().flatten().map(|(&id, instance)| (id, instance))
    }

    /// Sets a resource without checks: the device itself changes it.
    pub(crate) fn set(&mut self, object: u16, instance: u16, resource: u16, content: Content) {
        if let Some(instance) = self.objects.get_mut(&object).and_then(|instances| instances.get_mut(&instance)) {
            instance.insert(resource, content);
        }
    }

    /// Sets one value without checks. Does nothing if the object instance is gone.
    pub(crate) fn put_at(&mut self, path: Path, text: &str) {
        if let Some((object, instance)) = path.instance()
            && let Some((_, resource)) = path.resource()
            && let text = self.held(path, resource, text)
            && let Some(instance) = self.objects.get_mut(&object).and_then(|instances| instances.get_mut(&instance))
        {
            put(instance, resource, path, Some(text));
        }
    }

    /// Text of a single resource or of a resource instance.
    pub(crate) fn text_at(&self, path: Path) -> Option<&str> {
        match path {
            Path::Object(_) | Path::Instance(..) => None,
            Path::Resource(object, instance, resource) => self.text(object, instance, resource),
            Path::ResourceInstance(object, instance, resource, resource_instance) => {
                match self.objects.get(&object)?.get(&instance)?.get(&resource)? {
                    Content::Single(_) => None,
                    Content::Multiple(values) => values.get(&resource_instance)?.as_deref(),
                }
            }
        }
    }

    /// Text of a single resource.
    pub(crate) fn text(&self, object: u16, instance: u16, resource: u16) -> Option<&str> {
        match self.objects.get(&object)?.get(&instance)?.get(&resource)? {
            Content::Single(value) => value.as_deref(),
            Content::Multiple(_) => None,
        }
    }

    /// Values by name, as they stand in a shadow.
    pub(crate) fn render(&self, objects: &Objects) -> Map<String, Value> {
        let mut result = Map::new();
        for (&id, instances) in objects {
            let Some(object) = self.catalogue.object(id) else { continue };
            let instances = instances.iter().map(|(number, instance)| {
                let resources = instance.iter().filter_map(|(&id, content)| {
                    let resource = object.resource(id)?;
                    Some((resource.name.clone(), content.render(resource.kind)))
                });
                (number.to_string(), Value::Object(resources.collect()))
            });
            result.insert(object.name.clone(), Value::Object(instances.collect()));
        }
        result
    }

    fn read_object(&self, object: &ObjectDefinition, result: &mut Objects) {
        let instances = result.entry(object.id).or_default();
        for (id, instance) in self.instances(object.id) {
            instances.entry(id).or_default().extend(readable(object, instance));
        }
    }

    fn readable_content(&self, path: Path, id: u16) -> Result<&Content, String> {
        let instance = self.instance(path)?;
        if !self.resource(path, id)?.operations.readable() {
            return Err("the resource is not readable".to_owned());
        }
        instance.get(&id).ok_or_else(|| "the device has no such resource in this object instance".to_owned())
    }
}

fn check_form(resource: &ResourceDefinition, path: Path, text: &str) -> Result<(), String> {
    match (resource.multiple, matches!(path, Path::ResourceInstance(..))) {
        (true, false) => Err("the resource is a multiple one: name a resource instance of it".to_owned()),
        (false, true) => Err("the resource is a single one, without resource instances".to_owned()),
        _ => resource.kind.check(text, resource.range),
    }
}

fn readable(object: &ObjectDefinition, instance: &Instance) -> Instance {
    instance
        .iter()
        .filter(|(id, _)| object.resource(**id).is_some_and(|resource| resource.operations.readable()))
        .map(|(id, content)| (*id, content.clone()))
        .collect()
}

fn record(objects: &mut Objects, path: Path, value: Option<String>, instance: u16, resource: u16) {
    put(objects.entry(path.object()).or_default().entry(instance).or_default(), resource, path, value);
}

fn put(instance: &mut Instance, resource: u16, path: Path, value: Option<String>) {
    let Path::ResourceInstance(_, _, _, resource_instance) = path else {
        instance.insert(resource, Content::Single(value));
        return;
    };
    let content = instance.entry(resource).or_insert_with(|| Content::Multiple(BTreeMap::new()));
    if let Content::Multiple(values) = content {
        values.insert(resource_instance, value);
    }
}
