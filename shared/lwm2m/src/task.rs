//! What Coiote is asked to do: the name of a task template and its parameters, which are strings.
//!
//! Made from the typed operation alone, so there is nothing left to refuse here. Template names and encodings are
//! Coiote's; this is the one place that knows them.

use crate::attributes::{AttributeValue, Attributes};
use crate::keys::{Assignments, AttributedKeys, Keys, Selection};
use crate::operation::{NewInstance, Operation};

/// A task as Coiote's REST API takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub template: String,
    /// Names and values, in the order of the template.
    pub parameters: Vec<(&'static str, String)>,
}

impl From<&Operation> for Task {
    fn from(operation: &Operation) -> Task {
        let parameters = match operation {
            Operation::Read(selection)
            | Operation::ReadComposite(selection)
            | Operation::ObserveComposite(selection) => {
                vec![("keys", selected(selection, ""))]
            }
            Operation::CancelObserve(selection) | Operation::CancelObserveComposite(selection) => {
                vec![("keys", selected(selection, "all"))]
            }
            Operation::Write(assignments) | Operation::WriteComposite(assignments) => assigned(assignments),
            Operation::Observe(keys) => attributed(keys, "None"),
            Operation::WriteAttributes(keys) => attributed(keys, "''"),
            Operation::Execute { resource, arguments } => {
                let mut parameters = vec![("keys", resource.to_string())];
                parameters.extend(arguments.as_ref().map(|arguments| ("arguments", arguments.as_str().to_owned())));
                parameters
            }
            Operation::Discover(keys) | Operation::Delete(keys) => vec![("keys", joined(keys))],
            Operation::Create(NewInstance::Bare(path)) => vec![("keys", path.to_string()), ("values", String::new())],
            Operation::Create(NewInstance::With(assignments)) => assigned(assignments),
        };
        Task { template: format!("AWS{}CertAuth", operation.name()), parameters }
    }
}

fn selected(selection: &Selection, all: &str) -> String {
    match selection {
        Selection::All => all.to_owned(),
        Selection::Keys(keys) => joined(keys),
    }
}

fn joined(keys: &Keys) -> String {
    join(keys.paths().iter().map(|path| path.to_string()))
}

fn assigned(assignments: &Assignments) -> Vec<(&'static str, String)> {
    vec![
        ("keys", join(assignments.iter().map(|(path, _)| path.to_string()))),
        ("values", join(assignments.iter().map(|(_, value)| value.as_str().to_owned()))),
    ]
}

/// `null` is how the template spells an attribute that is to be unset.
fn attributed(keys: &AttributedKeys, null: &str) -> Vec<(&'static str, String)> {
    let attributes = join(keys.iter().map(|(_, attributes)| dictionary(attributes, null)));
    vec![("keys", join(keys.iter().map(|(path, _)| path.to_string()))), ("attributes", format!("[{attributes}]"))]
}

/// The form of a Python dictionary, without spaces between its parts.
fn dictionary(attributes: &Attributes, null: &str) -> String {
    let entries = attributes.iter().map(|(name, value)| match value {
        AttributeValue::Number { text, .. } => format!("'{name}':{text}"),
        AttributeValue::Null => format!("'{name}':{null}"),
        AttributeValue::Empty => format!("'{name}':''"),
    });
    format!("{{{}}}", join(entries))
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}
