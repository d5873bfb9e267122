//! From the JSON fields of a request to an [`Operation`], or to everything that is wrong with it.

mod fields;

use serde_json::Value as Json;

use crate::finding::{Code, Finding, Quoted};
use crate::operation::{Operation, OperationName};

use fields::{Checked, Fields};

/// Fields of a request as they came in the event. `null` counts as absent.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Name of the operation.
    pub operation: Option<Json>,
    /// Paths that the operation addresses.
    pub keys: Option<Json>,
    /// A value for each key.
    pub values: Option<Json>,
    /// An object of attributes for each key.
    pub attributes: Option<Json>,
    /// Arguments of an Execute.
    pub arguments: Option<Json>,
}

/// A valid request.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// The operation to send.
    pub operation: Operation,
    /// Hints for the author of the request, which do not prevent it from being sent.
    pub notices: Vec<Finding>,
}

/// Treatment of requests that do not fit the objects' descriptions. The form of a request is checked in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strictness {
    /// The request is rejected, because the device would refuse it.
    #[default]
    Reject,
    /// The request is sent with a notice, because devices may deviate from the descriptions.
    Notice,
}

impl Request {
    /// Takes the fields of a request out of an event; `field` takes out the field with a name.
    pub fn take(mut field: impl FnMut(&str) -> Option<Json>) -> Request {
        let mut present = |name| field(name).filter(|json| !json.is_null());
        Request {
            operation: present("operation"),
            keys: present("keys"),
            values: present("values"),
            attributes: present("attributes"),
            arguments: present("arguments"),
        }
    }

    /// Checks the request and turns it into an operation.
    ///
    /// ```
    /// use lwm2m::{Code, Request, Strictness};
    /// use serde_json::json;
    ///
    /// let mut event = json!({"thingName": "my-device", "operation": "read", "keys": ["/3/0/14", "Device.0.Battery Level"]});
    /// let request = Request::take(|field| event.as_object_mut()?.remove(field));
    /// let accepted = request.parse(Strictness::Reject).unwrap();
    /// assert_eq!(accepted.operation.keys(), ["Device.0.Battery Level", "Device.0.UTC Offset"]);
    ///
    /// let mut event = json!({"operation": "write", "keys": ["Device.0.Battery Level"], "values": [100]});
    /// let request = Request::take(|field| event.as_object_mut()?.remove(field));
    /// let findings = request.parse(Strictness::Reject).unwrap_err();
    /// assert_eq!(findings[0].code, Code::NotAllowed);
    /// ```
    ///
    /// # Errors
    ///
    /// All findings, not only the first.
    pub fn parse(mut self, strictness: Strictness) -> Result<Accepted, Vec<Finding>> {
        let name = operation_name(self.operation.take()).map_err(|finding| vec![finding])?;
        let Checked { operation, mismatches, mut notices } = Fields::new(name, self).check();
        match operation {
            Ok(_) if strictness == Strictness::Reject && !mismatches.is_empty() => Err(mismatches),
            Ok(operation) => {
                notices.splice(..0, mismatches);
                Ok(Accepted { operation, notices })
            }
            Err(mut findings) => {
                findings.extend(mismatches);
                Err(findings)
            }
        }
    }
}

fn operation_name(field: Option<Json>) -> Result<OperationName, Finding> {
    let known = || OperationName::ALL.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let name = match field {
        Some(Json::String(name)) => name,
        Some(other) => {
            let message = format!("operation: expected a string, found {}; one of: {}", json_type(&other), known());
            return Err(Finding::new(Code::OperationUnknown, message));
        }
        None => return Err(Finding::new(Code::OperationMissing, format!("operation: missing; one of: {}", known()))),
    };
    name.parse().map_err(|()| {
        let near = OperationName::ALL.iter().find(|known| known.as_str().eq_ignore_ascii_case(name.trim()));
        let hint = match near {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("one of: {}", known()),
        };
        Finding::new(Code::OperationUnknown, format!("operation: no operation {}; {hint}", Quoted(&name)))
    })
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
