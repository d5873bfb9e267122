//! Parser of `objects.tsv` and `object-versions.tsv`, which hold OMA's registry: a line for each object (`O`), followed by one
//! for each of its resources (`R`).

use crate::definitions::{self, Object, Resource};

/// Parses `objects.tsv`: the newest version of each object.
pub(crate) fn objects(text: &str) -> Result<Vec<Object>, String> {
    let mut objects: Vec<Object> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let place = format!("line {number}");
        let columns: Vec<&str> = line.split('\t').collect();
        match columns[..] {
            ["O", id, name, version, instances, mandatory] => {
                objects.push(object(&place, [id, name, version, instances, mandatory])?);
            }
            ["R", object, id, name, operations, instances, _mandatory, data_type, range, _units] => {
                let of = definitions::id(object, &place)?;
                let object = objects.last_mut().filter(|last| last.id == of);
                let object = object.ok_or(format!("{place}: not below its object"))?;
                object.resources.push(resource(&place, [id, name, operations, instances, data_type, range])?);
            }
            _ if line.starts_with('#') => {}
            _ => return Err(format!("{place}: neither an object nor a resource")),
        }
    }
    Ok(objects)
}

/// Parses `object-versions.tsv`: older versions of objects, with those resources that differ from the newest version. The
/// other resources are taken from `newest`.
pub(crate) fn older_versions(text: &str, newest: &[Object]) -> Result<Vec<Object>, String> {
    let mut objects: Vec<Object> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let place = format!("line {number}");
        let columns: Vec<&str> = line.split('\t').collect();
        match columns[..] {
            ["O", id, name, version, instances, mandatory] => {
                let mut older = object(&place, [id, name, version, instances, mandatory])?;
                let newest = newest.iter().find(|newest| newest.id == older.id);
                older.resources = newest.ok_or(format!("{place}: no newest version"))?.resources.clone();
                objects.push(older);
            }
            ["R", of, version, id, name, operations, instances, _mandatory, data_type, range, _units] => {
                let (of, version) = (definitions::id(of, &place)?, definitions::version(version, &place)?);
                let object = objects.last_mut().filter(|last| (last.id, last.version) == (of, version));
                let object = object.ok_or(format!("{place}: not below its object"))?;
                let older = resource(&place, [id, name, operations, instances, data_type, range])?;
                object.resources.retain(|newest| newest.id != older.id);
                object.resources.push(older);
            }
            _ if line.starts_with('#') => {}
            _ => return Err(format!("{place}: neither an object nor a resource")),
        }
    }
    Ok(objects)
}

fn object(place: &str, [id, name, version, instances, mandatory]: [&str; 5]) -> Result<Object, String> {
    definitions::check_mandatory(mandatory, place)?;
    Ok(Object {
        id: definitions::id(id, place)?,
        name: definitions::name(name, place)?,
        version: definitions::version(version, place)?,
        multiple: definitions::multiple(instances, place)?,
        resources: Vec::new(),
    })
}

fn resource(place: &str, [id, name, operations, instances, data_type, range]: [&str; 6]) -> Result<Resource, String> {
    let (readable, writable, executable) = definitions::operations(operations, place)?;
    Ok(Resource {
        id: definitions::id(id, place)?,
        name: definitions::name(name, place)?,
        readable,
        writable,
        executable,
        multiple: definitions::multiple(instances, place)?,
        data_type: definitions::data_type(data_type, place)?,
        range: definitions::range(range, place)?,
    })
}
