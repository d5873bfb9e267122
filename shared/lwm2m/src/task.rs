//! Tasks of Coiote: the name of a task template and its parameters, which are strings.
//!
//! A task is made from an operation alone and cannot fail. This is the only module that knows the template names and
//! encodings of Coiote.

use crate::attributes::{AttributeValue, Attributes};
use crate::keys::{Assignments, AttributedKeys};
use crate::operation::{NewInstance, Operation};

/// A task in the form that Coiote's REST API takes.
///
/// ```
/// use lwm2m::{Request, Strictness, Task};
/// use serde_json::json;
///
/// let mut event = json!({"operation": "write", "keys": ["/3/0/14", "/1/1/1"], "values": ["+02:00", 86400]});
/// let request = Request::take(|field| event.as_object_mut()?.remove(field));
/// let operation = request.parse(Strictness::Reject).unwrap().operation;
///
/// let task = Task::from(&operation);
/// assert_eq!(task.template, "AWSwriteCertAuth");
/// assert_eq!(task.parameters, [
///     ("keys", "Device.0.UTC Offset,LwM2M Server.1.Lifetime".to_owned()),
///     ("values", "+02:00,86400".to_owned()),
/// ]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Name of the task template.
    pub template: String,
    /// Names and values of the parameters, in the order of the template.
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

/// Attributes of all keys; `null` is the template's spelling for an attribute to unset.
fn attributes(keys: &AttributedKeys, null: &str) -> String {
    let attributes = join(keys.iter().map(|(_, attributes)| dictionary(attributes, null)));
    format!("[{attributes}]")
}

/// Attributes in the form of a Python dictionary, without spaces between its parts.
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
