//! `objects.tsv`: facts of OMA's registry, a line for an object (`O`) and then one for each of its resources (`R`).

use crate::definitions::{self, Object, Resource};

pub(crate) fn objects(text: &str) -> Result<Vec<Object>, String> {
    let mut objects: Vec<Object> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let place = format!("line {number}");
        let columns: Vec<&str> = line.split('\t').collect();
        match columns[..] {
            ["O", id, name, _version, instances, _mandatory] => objects.push(Object {
                id: definitions::id(id, &place)?,
                name: definitions::name(name, &place)?,
                multiple: definitions::multiple(instances, &place)?,
                resources: Vec::new(),
            }),
            ["R", object, id, name, operations, instances, _mandatory, kind, range, _units] => {
                let of = definitions::id(object, &place)?;
                let object = objects.last_mut().filter(|last| last.id == of);
                let object = object.ok_or(format!("{place}: not below its object"))?;
                let (readable, writable, executable) = definitions::operations(operations, &place)?;
                object.resources.push(Resource {
                    id: definitions::id(id, &place)?,
                    name: definitions::name(name, &place)?,
                    readable,
                    writable,
                    executable,
                    multiple: definitions::multiple(instances, &place)?,
                    kind: definitions::kind(kind, &place)?,
                    range: range.trim().to_owned(),
                });
            }
            _ if line.starts_with('#') => {}
            _ => return Err(format!("{place}: neither an object nor a resource")),
        }
    }
    Ok(objects)
}
