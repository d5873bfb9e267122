//! What an event asks for: a request of the rule, or that one which waits is handed over.

use lwm2m::finding::Finding;
use lwm2m::{Accepted, Operation, OperationName, Request, Strictness};
use requests::{Name, Reason};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};
use shadow::Envelope;

/// The operation that takes requests back; it is none of LwM2M.
const CANCEL_REQUEST: &str = "cancelRequest";

/// Longest name of an operation that a record keeps: what a request calls its operation may be anything.
const LONGEST_NAME: usize = 64;

/// An event, opened.
pub(crate) struct Asked {
    pub(crate) envelope: Envelope,
    pub(crate) what: What,
}

/// What is asked for.
pub(crate) enum What {
    /// Nothing: it is what is left of a request that was removed from the shadow.
    Nothing,
    /// A request that waits in the ledger is due.
    Due(Name),
    Request(Box<Content>),
}

/// A request as it came, and what is to be made of it.
pub(crate) struct Content {
    pub(crate) operation: String,
    /// Digest of all that the author wrote.
    pub(crate) digest: String,
    /// Paths as they will be sent, or the requests that a cancelRequest takes back.
    pub(crate) keys: Vec<String>,
    pub(crate) verdict: Result<Valid, Reason>,
}

/// A request that is valid.
pub(crate) enum Valid {
    Operation { operation: Operation, notice: Option<Reason> },
    Cancel,
}

impl Asked {
    /// Opens an event. The error is one line for whoever wrote it.
    pub(crate) fn open(event: &RawValue, strictness: Strictness) -> Result<Asked, String> {
        let (envelope, mut fields) = Envelope::open(event)?;
        if let Some(Json::String(name)) = fields.get("due") {
            let what = What::Due(Name::parse(name));
            return Ok(Asked { envelope, what });
        }
        let removes = fields.get("operation").is_some_and(Json::is_null);
        let digest = digest(&fields);
        let cancels = fields.get("operation").and_then(Json::as_str) == Some(CANCEL_REQUEST);
        let content = if cancels {
            cancel_request(&mut fields, digest)
        } else {
            let request = Request::take(|field| fields.remove(field));
            if removes && request.is_empty() {
                return Ok(Asked { envelope, what: What::Nothing });
            }
            operation_request(request, digest, strictness)
        };
        Ok(Asked { envelope, what: What::Request(Box::new(content)) })
    }
}

impl Content {
    /// Name of the operation, where it is one: what has few values can be a metric's dimension.
    pub(crate) fn known_operation(&self) -> &'static str {
        known_operation(&self.operation)
    }
}

pub(crate) fn known_operation(operation: &str) -> &'static str {
    if operation == CANCEL_REQUEST {
        return CANCEL_REQUEST;
    }
    operation.parse().map_or("unknown", OperationName::as_str)
}

fn operation_request(request: Request, digest: String, strictness: Strictness) -> Content {
    let named = request.operation.as_ref().and_then(Json::as_str).unwrap_or_default();
    let operation = named.chars().take(LONGEST_NAME).collect();
    match request.parse(strictness) {
        Ok(Accepted { operation: valid, notices }) => Content {
            operation,
            digest,
            keys: valid.keys(),
            verdict: Ok(Valid::Operation { operation: valid, notice: Reason::joined(notices.into_iter().map(reason)) }),
        },
        Err(findings) => Content {
            operation,
            digest,
            keys: Vec::new(),
            verdict: Err(Reason::joined(findings.into_iter().map(reason))
                .unwrap_or_else(|| Reason::new("OPERATION_UNKNOWN", "the request is not valid"))),
        },
    }
}

fn cancel_request(fields: &mut Map<String, Json>, digest: String) -> Content {
    let (keys, verdict) = match canceled(fields.remove("requests")) {
        Ok(keys) => (keys, Ok(Valid::Cancel)),
        Err(message) => (Vec::new(), Err(Reason::new("REQUESTS_INVALID", message))),
    };
    Content { operation: CANCEL_REQUEST.to_owned(), digest, keys, verdict }
}

/// Versions as numbers, client tokens as strings.
fn canceled(requests: Option<Json>) -> Result<Vec<String>, String> {
    /// A device has no more open requests than that in any use; and the answer names each.
    const MOST: usize = 100;
    let form = "an array of shadow versions as numbers, or client tokens as strings";
    let Some(Json::Array(requests)) = requests else { return Err(format!("requests: expected {form}")) };
    if requests.is_empty() {
        return Err(format!("requests: empty; expected {form}"));
    }
    if requests.len() > MOST {
        return Err(format!("requests: {} are too many, {MOST} are taken at once", requests.len()));
    }
    let name = |(index, request): (usize, &Json)| match request {
        Json::String(token) if !token.is_empty() => Ok(token.clone()),
        Json::Number(version) if version.is_u64() => Ok(version.to_string()),
        _ => Err(format!("requests[{index}]: expected a shadow version as a number, or a client token as a string")),
    };
    requests.iter().enumerate().map(name).collect()
}

fn reason(finding: Finding) -> Reason {
    Reason::new(finding.code.as_str(), finding.message)
}

/// Digest (64-bit FNV-1a) of what the author of a request wrote.
fn digest(fields: &Map<String, Json>) -> String {
    let content: Vec<Option<&Json>> = ["operation", "keys", "values", "attributes", "arguments", "requests"]
        .iter()
        .map(|name| fields.get(*name).filter(|field| !field.is_null()))
        .collect();
    let text = serde_json::to_string(&content).unwrap_or_default();
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(event: &Json) -> Asked {
        let event = RawValue::from_string(event.to_string()).unwrap();
        Asked::open(&event, Strictness::Reject).map_err(|why| panic!("{why}")).ok().unwrap()
    }

    fn content(event: &Json) -> Content {
        match asked(event).what {
            What::Request(content) => *content,
            _ => panic!("no request: {event}"),
        }
    }

    #[test]
    fn a_digest_is_of_what_the_author_wrote() {
        let of = |event: Json| content(&event).digest;
        let read = of(json!({"thingName": "a", "operation": "read", "keys": ["Device"], "version": 1, "timestamp": 5}));
        let again =
            of(json!({"thingName": "a", "operation": "read", "keys": ["Device"], "values": null, "version": 2}));
        let other = of(json!({"thingName": "a", "operation": "read", "keys": ["Device.0"], "version": 2}));
        assert_eq!(read, again);
        assert_ne!(read, other);
    }

    #[test]
    fn what_a_cancel_request_takes_back() {
        let event = |requests: Json| json!({"thingName": "a", "operation": "cancelRequest", "requests": requests});
        let content = content(&event(json!([17, "my token"])));
        assert_eq!((content.keys, content.verdict.is_ok()), (vec!["17".to_owned(), "my token".to_owned()], true));
        for (requests, place) in [
            (json!(null), "requests:"),
            (json!([]), "requests:"),
            (json!(17), "requests:"),
            (json!([1.5]), "requests[0]:"),
            (json!([1, ""]), "requests[1]:"),
            (json!([-1]), "requests[0]:"),
            (Json::from(vec![1; 101]), "requests:"),
        ] {
            let content = self::content(&event(requests.clone()));
            let reason = content.verdict.err().unwrap();
            assert_eq!(reason.code, "REQUESTS_INVALID");
            assert!(reason.message.starts_with(place), "{requests}: {}", reason.message);
        }
    }

    #[test]
    fn an_event_can_say_that_a_request_is_due() {
        assert!(matches!(asked(&json!({"thingName": "a", "due": "17"})).what, What::Due(Name::Version(17))));
        assert!(matches!(asked(&json!({"thingName": "a", "operation": null})).what, What::Nothing));
    }
}
