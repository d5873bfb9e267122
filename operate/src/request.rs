//! Turns the arguments of the command line into the request that the operation shadow carries.

use lwm2m::{Accepted, Code, Finding, OperationName, Request, Strictness};
use requests::CANCEL_REQUEST;
use serde_json::{Map, Number, Value as Json, json};

use crate::exit::Failure;

/// A valid request.
pub(crate) struct ValidRequest {
    pub(crate) operation: OperationName,
    /// Content for the operation shadow's `desired`.
    pub(crate) desired: Json,
    /// Paths by name, as they are sent to the device.
    pub(crate) keys: Vec<String>,
    /// Findings that its author should know, although it is sent.
    pub(crate) notices: Vec<Finding>,
}

/// Checks a request with the same rules as the function that gets it.
pub(crate) fn check(
    operation: OperationName,
    paths: &[String],
    strictness: Strictness,
) -> Result<ValidRequest, Failure> {
    let desired = desired(operation, paths).map_err(Failure::invalid_request)?;
    let request = Request::take(|field| desired.get(field).cloned());
    let Accepted { operation: valid, notices } = request.parse(strictness).map_err(Failure::invalid_request)?;
    Ok(ValidRequest { operation, keys: valid.keys(), desired: Json::Object(desired), notices })
}

fn desired(operation: OperationName, paths: &[String]) -> Result<Map<String, Json>, Vec<Finding>> {
    use OperationName::{Create, Execute, Observe, Write, WriteAttributes, WriteComposite};
    let takes_argument = matches!(operation, Create | Execute | Observe | Write | WriteAttributes | WriteComposite);
    // No name of the registry has an equals sign in it.
    let split = |path: &String| match path.split_once('=').filter(|_| takes_argument) {
        Some((path, argument)) => (path.to_owned(), Some(argument.to_owned())),
        None => (path.clone(), None),
    };
    let (keys, arguments): (Vec<String>, Vec<Option<String>>) = paths.iter().map(split).unzip();
    let mut desired =
        Map::from_iter([("operation".to_owned(), json!(operation.as_str())), ("keys".to_owned(), json!(keys))]);
    if matches!(operation, Observe | WriteAttributes) {
        desired.insert("attributes".to_owned(), attributes(&arguments)?);
    } else {
        let given: Vec<String> = arguments.into_iter().flatten().collect();
        match given.first() {
            None => {}
            Some(arguments) if operation == Execute => {
                desired.insert("arguments".to_owned(), json!(arguments));
            }
            Some(_) => {
                desired.insert("values".to_owned(), json!(given));
            }
        }
    }
    Ok(desired)
}

/// Parses texts such as `pmin=5,gt=20.5` into one object for each key.
fn attributes(texts: &[Option<String>]) -> Result<Json, Vec<Finding>> {
    let mut findings = Vec::new();
    let mut objects = Vec::new();
    for (position, text) in texts.iter().enumerate() {
        let mut object = Map::new();
        for part in text.iter().flat_map(|text| text.split(',')).filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some((name, value)) => {
                    object.insert(name.trim().to_owned(), attribute(value.trim()));
                }
                None => {
                    let message = format!("attributes[{position}]: expected a name and a value, as in pmin=30");
                    findings.push(Finding::new(Code::AttributesInvalid, message));
                }
            }
        }
        objects.push(Json::Object(object));
    }
    if findings.is_empty() { Ok(Json::Array(objects)) } else { Err(findings) }
}

/// Parses an attribute's value: a number, boolean or null of JSON, or else the text itself.
fn attribute(text: &str) -> Json {
    match serde_json::from_str::<Json>(text) {
        Ok(value @ (Json::Number(_) | Json::Bool(_) | Json::Null)) => value,
        _ => Json::String(text.to_owned()),
    }
}

/// Makes a request that cancels others: versions of the shadow as numbers, client tokens as texts. Of `requests`, the numbers are
/// versions.
pub(crate) fn cancel(requests: &[String], tokens: &[String]) -> Json {
    let named = |request: &String| {
        request.parse::<u64>().map_or_else(|_| json!(request), |version| json!(Number::from(version)))
    };
    let requests: Vec<Json> = requests.iter().map(named).chain(tokens.iter().map(|token| json!(token))).collect();
    json!({"operation": CANCEL_REQUEST, "requests": requests})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired_of(operation: OperationName, paths: &[&str]) -> Json {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        Json::Object(desired(operation, &paths).unwrap())
    }

    #[test]
    fn each_form_of_the_command_line_has_its_fields() {
        use OperationName::*;
        for (operation, paths, expected) in [
            (Read, &["Device.0", "/1/1"][..], json!({"keys": ["Device.0", "/1/1"]})),
            (Write, &["Device.0.UTC Offset=+02:00"], json!({"keys": ["Device.0.UTC Offset"], "values": ["+02:00"]})),
            (Write, &["Device.0.UTC Offset"], json!({"keys": ["Device.0.UTC Offset"]})),
            (Write, &["A.0.B=a=b"], json!({"keys": ["A.0.B"], "values": ["a=b"]})),
            (Execute, &["Device.0.Reboot"], json!({"keys": ["Device.0.Reboot"]})),
            (Execute, &["A.0.B=0='a=b',1"], json!({"keys": ["A.0.B"], "arguments": "0='a=b',1"})),
            (
                Observe,
                &["A.0.B=lt=20,st=0.50", "A.0.C"],
                json!({"keys": ["A.0.B", "A.0.C"], "attributes": [{"lt": 20, "st": serde_json::from_str::<Json>("0.50").unwrap()}, {}]}),
            ),
            (
                WriteAttributes,
                &["A.0=pmax=,con=true"],
                json!({"keys": ["A.0"], "attributes": [{"pmax": "", "con": true}]}),
            ),
            (Observe, &["A.0=pmin=5, pmax= "], json!({"keys": ["A.0"], "attributes": [{"pmin": 5, "pmax": ""}]})),
            (Create, &["Portfolio"], json!({"keys": ["Portfolio"]})),
            (Create, &["Portfolio.3.Identity.0=AVS"], json!({"keys": ["Portfolio.3.Identity.0"], "values": ["AVS"]})),
            (Discover, &["Device.0=1"], json!({"keys": ["Device.0=1"]})),
        ] {
            let mut expected = expected;
            expected.as_object_mut().unwrap().insert("operation".to_owned(), json!(operation.as_str()));
            assert_eq!(desired_of(operation, paths), expected);
        }
    }

    #[test]
    fn an_attribute_without_a_value_is_reported() {
        let found = desired(OperationName::Observe, &["A.0.B=pmin".to_owned()]).unwrap_err();
        assert_eq!(found[0].code, Code::AttributesInvalid);
    }

    #[test]
    fn requests_are_named_by_version_or_token() {
        let canceled = cancel(&["17".to_owned(), "my-token".to_owned()], &["18".to_owned()]);
        assert_eq!(canceled, json!({"operation": "cancelRequest", "requests": [17, "my-token", "18"]}));
    }
}
