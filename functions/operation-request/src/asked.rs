//! What an event asks for: a request of the rule, or that one which waits is handed over.

use lwm2m::finding::Finding;
use lwm2m::{Accepted, Operation, OperationName, Request, Strictness};
use requests::{CANCEL_REQUEST, Name, Reason, Record};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};
use shadow::Envelope;

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
    /// An execution of an AWS IoT job is over without our doing: its request is taken back.
    JobOver(JobOver),
    Request(Box<Content>),
}

/// An execution of an AWS IoT job that was canceled, timed out, or is gone.
pub(crate) struct JobOver {
    pub(crate) job_id: String,
    /// Its number, where AWS tells it.
    pub(crate) execution: Option<u64>,
    /// When it was over, in seconds since 1970. Without a number, those are meant that were queued before: a retry is not.
    pub(crate) at: Option<u64>,
    /// Who takes the request back, for its reason.
    pub(crate) by: String,
}

impl JobOver {
    pub(crate) fn means(&self, record: &Record) -> bool {
        let Name::Job { id, execution } = &record.name else { return false };
        let is_meant = match (self.execution, self.at) {
            (Some(number), _) => number == *execution,
            (None, Some(at)) => record.requested_at < at,
            (None, None) => true,
        };
        *id == self.job_id && is_meant
    }
}

/// A request as it came, and what is to be made of it.
pub(crate) struct Content {
    /// The execution of an AWS IoT job that it is; a request in a shadow is named by its envelope.
    pub(crate) job: Option<Name>,
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
        let job = job(&mut fields)?;
        if let (Some((job_id, execution)), Some(Json::String(over))) = (&job, fields.remove("jobOver")) {
            let by = format!("AWS IoT job {job_id}, whose execution is {over}");
            // Some events of AWS tell the time in milliseconds.
            let at = envelope.timestamp.map(|at| if at > 100_000_000_000 { at / 1_000 } else { at });
            let what = What::JobOver(JobOver { job_id: job_id.clone(), execution: *execution, at, by });
            return Ok(Asked { envelope, what });
        }
        let job = match job {
            Some((id, Some(execution))) => Some(Name::Job { id, execution }),
            Some(_) => {
                return Err("executionNumber: missing; the rule has to pass execution.executionNumber".to_owned());
            }
            None => None,
        };
        let removes = job.is_none() && fields.get("operation").is_some_and(Json::is_null);
        let digest = digest(&fields);
        let cancels = fields.get("operation").and_then(Json::as_str) == Some(CANCEL_REQUEST);
        let mut content = if cancels {
            cancel_request(&mut fields, digest)
        } else {
            let request = Request::take(|field| fields.remove(field));
            if removes && request.is_empty() {
                return Ok(Asked { envelope, what: What::Nothing });
            }
            operation_request(request, digest, strictness)
        };
        content.job = job;
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

/// The AWS IoT job that the event is about, and the number of its execution, where it says so.
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
    let operation = named.chars().take(LONGEST_NAME).collect();
    match request.parse(strictness) {
        Ok(Accepted { operation: valid, notices }) => Content {
            job: None,
            operation,
            digest,
            keys: valid.keys(),
            verdict: Ok(Valid::Operation { operation: valid, notice: Reason::joined(notices.into_iter().map(reason)) }),
        },
        Err(findings) => Content {
            job: None,
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
    Content { job: None, operation: CANCEL_REQUEST.to_owned(), digest, keys, verdict }
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
    let content: Vec<Option<&Json>> =
        requests::FIELDS.iter().map(|name| fields.get(*name).filter(|field| !field.is_null())).collect();
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
    fn a_request_of_a_job_is_named_by_its_execution() {
        let event = |more: Json| {
            let mut event = json!({"thingName": "a", "jobId": "j:1", "timestamp": 5});
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            event
        };
        let name = Name::Job { id: "j:1".to_owned(), execution: 2 };
        let read = content(&event(json!({"executionNumber": 2, "operation": "read", "keys": ["Device"]})));
        assert_eq!((read.job, read.verdict.is_ok()), (Some(name.clone()), true));
        assert_eq!(Name::parse(&name.to_string()), name);
        // A document without an operation asks for one, and does not remove a request from a shadow.
        for operation in [json!({}), json!({"operation": null})] {
            let mut fields = event(operation);
            fields["executionNumber"] = 2.into();
            assert_eq!(content(&fields).verdict.err().unwrap().code, "OPERATION_MISSING");
        }
        let open = |event: Json| Asked::open(&RawValue::from_string(event.to_string()).unwrap(), Strictness::Reject);
        assert!(
            open(event(json!({"operation": "read"}))).is_err(),
            "without its number it cannot be told from a retry"
        );
        assert!(open(json!({"thingName": "a", "jobId": 1, "executionNumber": 2})).is_err());
    }

    #[test]
    fn an_event_can_say_that_an_execution_is_over() {
        let record = |name: &str, queued_at: u64| -> Record {
            serde_json::from_value(json!({"n": name, "o": "read", "s": "S", "q": queued_at, "z": 1})).unwrap()
        };
        let (first, retry) = (record("job:j:1", 1_700_000_000), record("job:j:2", 1_700_000_060));
        for (number, timestamp, meant) in [
            (json!(2), json!(1_700_000_060), [false, true]),
            (json!(null), json!(1_700_000_060), [true, false]),
            (json!(null), json!(1_700_000_060_000_u64), [true, false]),
            (json!(null), json!(null), [true, true]),
        ] {
            let event = json!({
                "thingArn": "arn:aws:iot:r:1:thing/a", "jobId": "j", "executionNumber": number, "timestamp": timestamp,
                "jobOver": "canceled",
            });
            let What::JobOver(over) = asked(&event).what else { panic!("{event}") };
            assert_eq!([over.means(&first), over.means(&retry)], meant, "{event}");
            assert!(!over.means(&record("job:k:2", 1)) && !over.means(&record("17", 1)));
        }
    }

    #[test]
    fn an_event_can_say_that_a_request_is_due() {
        assert!(matches!(asked(&json!({"thingName": "a", "due": "17"})).what, What::Due(Name::Version(17))));
        assert!(matches!(asked(&json!({"thingName": "a", "operation": null})).what, What::Nothing));
    }
}
