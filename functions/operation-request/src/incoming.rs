//! Parses an event: a request from its rule, a waiting request that is due, or an execution of a job that is over.

use lwm2m::finding::Finding;
use lwm2m::{Accepted, Operation, OperationName, Request, Strictness};
use requests::{CANCEL_REQUEST, CanceledBy, Name, Reason, Record, token_key};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};
use shadow::Envelope;

/// Longest name of an operation that a record keeps, in characters: a request may call its operation anything.
const MAX_OPERATION_NAME: usize = 64;

/// An event that invoked the function.
pub(crate) struct Incoming {
    pub(crate) envelope: Envelope,
    pub(crate) purpose: Purpose,
}

/// Step that an event asks for.
pub(crate) enum Purpose {
    /// Notes that the request was removed from the shadow.
    DesiredCleared,
    /// Hands over a request that waits in the ledger and is due.
    HandOver(Name),
    /// Takes back the request of an AWS IoT job's execution that is over.
    JobOver(JobOver),
    /// Claims a request and hands it over.
    Request(Box<Content>),
}

/// An execution of an AWS IoT job that was canceled, timed out, or is gone, and not by an update of this stack.
pub(crate) struct JobOver {
    pub(crate) job_id: String,
    /// Its number, where AWS gives it.
    pub(crate) execution: Option<u64>,
    /// When it was over, in seconds since 1970. Without a number it covers the executions that were queued before, so that a
    /// retry stays; with one, those of this number that were not queued after it, by a job that was created again.
    pub(crate) at: Option<u64>,
    /// Author of the cancellation.
    pub(crate) canceled_by: CanceledBy,
}

impl JobOver {
    /// Whether the record is of an execution that is over.
    pub(crate) fn covers(&self, record: &Record) -> bool {
        let Name::Job { id, execution } = &record.name else { return false };
        let is_over = match (self.execution, self.at) {
            (Some(number), at) => {
                let is_later = |at| record.requested_at > at && record.name.is_reused(record.requested_at, at);
                number == *execution && !at.is_some_and(is_later)
            }
            (None, Some(at)) => record.requested_at < at,
            (None, None) => true,
        };
        *id == self.job_id && is_over
    }
}

/// Content of a request: the author's fields, and the operation that they parse to.
pub(crate) struct Content {
    /// Name of the job's execution that made the request; a request in a shadow is named by its envelope.
    pub(crate) job: Option<Name>,
    pub(crate) operation: String,
    /// Digest of all fields that the author wrote.
    pub(crate) digest: String,
    /// Paths as they will be sent, or the requests that a cancelRequest takes back.
    pub(crate) keys: Vec<String>,
    /// The error is the reason of the rejection.
    pub(crate) parsed: Result<Parsed, Reason>,
}

/// A valid request.
pub(crate) enum Parsed {
    Operation { operation: Operation, notice: Option<Reason> },
    Cancel,
}

impl Incoming {
    /// Parses an event. The error is one line for the event's author.
    pub(crate) fn parse(event: &RawValue, strictness: Strictness) -> Result<Incoming, String> {
        let (envelope, mut fields) = Envelope::open(event)?;
        if let Some(Json::String(name)) = fields.get("due") {
            let purpose = Purpose::HandOver(Name::parse(name));
            return Ok(Incoming { envelope, purpose });
        }
        let job = job(&mut fields)?;
        if let (Some((job_id, execution)), Some(Json::String(over))) = (&job, fields.remove("jobOver")) {
            let canceled_by = CanceledBy::JobOver { job_id: job_id.clone(), over };
            let over = JobOver { job_id: job_id.clone(), execution: *execution, at: envelope.timestamp, canceled_by };
            let purpose = Purpose::JobOver(over);
            return Ok(Incoming { envelope, purpose });
        }
        let job = match job {
            Some((id, Some(execution))) => Some(Name::Job { id, execution }),
            Some(_) => {
                return Err("executionNumber: missing; the rule has to pass execution.executionNumber".to_owned());
            }
            None => None,
        };
        // What an update sets beside it is no request, either
        if job.is_none() && fields.get("operation").is_some_and(Json::is_null) {
            return Ok(Incoming { envelope, purpose: Purpose::DesiredCleared });
        }
        let digest = requests::content_digest(|field| fields.get(field));
        let cancels = fields.get("operation").and_then(Json::as_str) == Some(CANCEL_REQUEST);
        let mut content = if cancels {
            cancel_request(&mut fields, digest)
        } else {
            operation_request(Request::take(|field| fields.remove(field)), digest, strictness)
        };
        content.job = job;
        Ok(Incoming { envelope, purpose: Purpose::Request(Box::new(content)) })
    }
}

impl Purpose {
    /// All that is wrong with a request that is not valid.
    pub(crate) fn findings(&self) -> Option<&Reason> {
        match self {
            Purpose::Request(content) => content.parsed.as_ref().err(),
            _ => None,
        }
    }
}

impl Content {
    /// Name of the operation, or `unknown`: a metric's dimension must have few values.
    pub(crate) fn known_operation(&self) -> &'static str {
        known_operation(&self.operation)
    }
}

/// The name itself where an operation has it, or else `unknown`.
pub(crate) fn known_operation(operation: &str) -> &'static str {
    if operation == CANCEL_REQUEST {
        return CANCEL_REQUEST;
    }
    operation.parse().map_or("unknown", OperationName::as_str)
}

/// Id of the AWS IoT job that the event is about, and number of its execution where the event has one.
fn job(fields: &mut Map<String, Json>) -> Result<Option<(String, Option<u64>)>, String> {
    let execution = fields.remove("executionNumber").and_then(|number| number.as_u64());
    match fields.remove("jobId") {
        None => Ok(None),
        Some(Json::String(id)) if !id.is_empty() => Ok(Some((id, execution))),
        Some(_) => Err("jobId: not the name of a job".to_owned()),
    }
}

fn operation_request(request: Request, digest: String, strictness: Strictness) -> Content {
    let named = request.operation.as_ref().and_then(Json::as_str).unwrap_or_default();
    let operation = named.chars().take(MAX_OPERATION_NAME).collect();
    match request.parse(strictness) {
        Ok(Accepted { operation: valid, notices }) => Content {
            job: None,
            operation,
            digest,
            keys: valid.keys(),
            parsed: Ok(Parsed::Operation { operation: valid, notice: Reason::join(notices.into_iter().map(reason)) }),
        },
        Err(findings) => Content {
            job: None,
            operation,
            digest,
            keys: Vec::new(),
            parsed: Err(Reason::join(findings.into_iter().map(reason))
                .unwrap_or_else(|| Reason::new("OPERATION_UNKNOWN", "the request is not valid"))),
        },
    }
}

fn cancel_request(fields: &mut Map<String, Json>, digest: String) -> Content {
    let (keys, parsed) = match canceled_names(fields.remove("requests")) {
        Ok(keys) => (keys, Ok(Parsed::Cancel)),
        Err(message) => (Vec::new(), Err(Reason::new("REQUESTS_INVALID", message))),
    };
    Content { job: None, operation: CANCEL_REQUEST.to_owned(), digest, keys, parsed }
}

/// Requests that a cancelRequest takes back: shadow versions in JSON numbers, client tokens in JSON strings.
fn canceled_names(requests: Option<Json>) -> Result<Vec<String>, String> {
    /// More than any device has open; the answer names each.
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
        Json::String(token) if !token.is_empty() => Ok(token_key(token)),
        Json::Number(version) if version.is_u64() => Ok(version.to_string()),
        _ => Err(format!("requests[{index}]: expected a shadow version as a number, or a client token as a string")),
    };
    requests.iter().enumerate().map(name).collect()
}

fn reason(finding: Finding) -> Reason {
    Reason::new(finding.code.as_str(), finding.message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn purpose(event: &Json) -> Purpose {
        let event = RawValue::from_string(event.to_string()).unwrap();
        Incoming::parse(&event, Strictness::Reject).map_err(|why| panic!("{why}")).ok().unwrap().purpose
    }

    fn content(event: &Json) -> Content {
        match purpose(event) {
            Purpose::Request(content) => *content,
            _ => panic!("no request: {event}"),
        }
    }

    #[test]
    fn a_cancel_request_takes_versions_and_client_tokens() {
        let event = |requests: Json| json!({"thingName": "a", "operation": "cancelRequest", "requests": requests});
        let content = content(&event(json!([17, "my token"])));
        assert_eq!((content.keys, content.parsed.is_ok()), (vec!["17".to_owned(), "my token".to_owned()], true));
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
            let reason = content.parsed.err().unwrap();
            assert_eq!(reason.code, "REQUESTS_INVALID");
            assert!(reason.message.starts_with(place), "{requests}: {}", reason.message);
        }
    }

    #[test]
    fn a_request_of_a_job_is_named_by_its_execution() {
        let event = |more: Json| {
            let mut event = json!({"thingName": "a", "jobId": "j:1", "timestamp": 5});
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            event
        };
        let name = Name::Job { id: "j:1".to_owned(), execution: 2 };
        let read = content(&event(json!({"executionNumber": 2, "operation": "read", "keys": ["Device"]})));
        assert_eq!((read.job, read.parsed.is_ok()), (Some(name.clone()), true));
        assert_eq!(Name::parse(&name.to_string()), name);
        // A document without an operation asks for one, and does not remove a request from a shadow.
        for operation in [json!({}), json!({"operation": null})] {
            let mut fields = event(operation);
            fields["executionNumber"] = 2.into();
            assert_eq!(content(&fields).parsed.err().unwrap().code, "OPERATION_MISSING");
        }
        let parse =
            |event: Json| Incoming::parse(&RawValue::from_string(event.to_string()).unwrap(), Strictness::Reject);
        assert!(parse(event(json!({"operation": "read"}))).is_err(), "without its number it looks like its retry");
        assert!(parse(json!({"thingName": "a", "jobId": 1, "executionNumber": 2})).is_err());
    }

    #[test]
    fn an_event_can_say_that_an_execution_is_over() {
        let record = |name: &str, queued_at: u64| -> Record {
            serde_json::from_value(json!({"n": name, "o": "read", "s": "S", "q": queued_at, "z": 1})).unwrap()
        };
        let (first, retry) = (record("job:j:1", 1_700_000_000), record("job:j:2", 1_700_000_060));
        for (number, timestamp, covered) in [
            (json!(2), json!(1_700_000_060), [false, true]),
            (json!(2), json!(null), [false, true]),
            // AWS rounds some times. A job that was created again later has other executions of the same numbers.
            (json!(2), json!(1_700_000_055), [false, true]),
            (json!(2), json!(1_700_000_054), [false, false]),
            (json!(2), json!(1_700_000_054_999_u64), [false, false]),
            (json!(1), json!(1_700_000_060), [true, false]),
            (json!(null), json!(1_700_000_060), [true, false]),
            (json!(null), json!(1_700_000_060_000_u64), [true, false]),
            (json!(null), json!(null), [true, true]),
        ] {
            let event = json!({
                "thingArn": "arn:aws:iot:r:1:thing/a", "jobId": "j", "executionNumber": number, "timestamp": timestamp,
                "jobOver": "canceled",
            });
            let Purpose::JobOver(over) = purpose(&event) else { panic!("{event}") };
            assert_eq!([over.covers(&first), over.covers(&retry)], covered, "{event}");
            assert!(!over.covers(&record("job:k:2", 1)) && !over.covers(&record("17", 1)));
        }
    }

    #[test]
    fn an_event_can_say_that_a_request_is_due() {
        assert!(matches!(purpose(&json!({"thingName": "a", "due": "17"})), Purpose::HandOver(Name::Version(17))));
        for beside in
            [json!({}), json!({"keys": null}), json!({"keys": ["Device.0"], "values": [1]}), json!({"requests": [17]})]
        {
            let mut event = json!({"thingName": "a", "operation": null});
            event.as_object_mut().unwrap().extend(beside.as_object().unwrap().clone());
            assert!(matches!(purpose(&event), Purpose::DesiredCleared), "{event}");
        }
        // Without an operation, an event is not of this stack's rule
        let event = json!({"thingName": "a", "keys": ["Device.0"]});
        assert_eq!(content(&event).parsed.err().unwrap().code, "OPERATION_MISSING");
    }
}
