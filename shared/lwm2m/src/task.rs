//! What Coiote is asked to do: the name of a task template and its parameters, which are strings.
//!
//! Made from the typed operation alone, so there is nothing left to refuse here. Template names and encodings are
//! Coiote's; this is the one place that knows them.

use crate::attributes::{AttributeValue, Attributes};
use crate::keys::{Assignments, AttributedKeys};
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
        let mut parameters = vec![("keys", operation.keys().join(","))];
        match operation {
            Operation::Read(_)
            | Operation::ReadComposite(_)
            | Operation::ObserveComposite(_)
            | Operation::CancelObserve(_)
            | Operation::CancelObserveComposite(_)
            | Operation::Discover(_)
            | Operation::Delete(_) => {}
            Operation::Write(assignments)
            | Operation::WriteComposite(assignments)
            | Operation::Create(NewInstance::With(assignments)) => parameters.push(("values", values(assignments))),
            Operation::Create(NewInstance::Bare(_)) => parameters.push(("values", String::new())),
            Operation::Observe(keys) => parameters.push(("attributes", attributes(keys, "None"))),
            Operation::WriteAttributes(keys) => parameters.push(("attributes", attributes(keys, "''"))),
            Operation::Execute { arguments, .. } => {
                parameters.extend(arguments.as_ref().map(|arguments| ("arguments", arguments.as_str().to_owned())));
            }
        }
        Task { template: format!("AWS{}CertAuth", operation.name()), parameters }
    }
}

fn values(assignments: &Assignments) -> String {
    join(assignments.iter().map(|(_, value)| value.as_str().to_owned()))
}

/// `null` is how the template spells an attribute that is to be unset.
fn attributes(keys: &AttributedKeys, null: &str) -> String {
    let attributes = join(keys.iter().map(|(_, attributes)| dictionary(attributes, null)));
    format!("[{attributes}]")
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
