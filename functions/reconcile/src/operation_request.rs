//! Invokes operation-request for a request that is due.

use std::time::Duration;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::error::ProvideErrorMetadata;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use requests::{Answer, Name, Status, code};
use serde_json::{Value as Json, json};

use crate::contact::Contact;

/// Time limit for an answer: longer than operation-request runs, see `RequestTimeout` in the template.
const INVOCATION_LIMIT: Duration = Duration::from_secs(60);

/// Code of an invocation that came to no answer.
const INVOCATION_FAILED: &str = "INVOCATION_FAILED";

/// The function operation-request.
pub(crate) struct OperationRequest {
    lambda: Client,
    /// Its name or ARN.
    function: String,
}

/// Result of an invocation.
pub(crate) struct Invoked {
    pub(crate) contact: Contact,
    /// Status of the request; none where there is no answer.
    pub(crate) status: Option<Status>,
    pub(crate) code: Option<String>,
}

impl Invoked {
    fn failed(contact: Contact, code: &str) -> Invoked {
        Invoked { contact, status: None, code: Some(code.to_owned()) }
    }

    /// Whether the ledger does not keep the request's event.
    pub(crate) fn is_without_body(&self) -> bool {
        self.status.is_some() && self.code.as_deref() == Some(code::BODY_MISSING)
    }
}

impl OperationRequest {
    /// `aws`: the configuration of the other clients. An answer takes as long as Coiote does; and an invocation without an answer
    /// may have handed the request over, so it is not made again.
    pub(crate) fn new(aws: &aws_sdk_lambda::config::Builder, function: String) -> OperationRequest {
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(INVOCATION_LIMIT)
            .operation_timeout(INVOCATION_LIMIT)
            .build();
        let config = aws.clone().timeout_config(timeouts).retry_config(RetryConfig::disabled()).build();
        OperationRequest { lambda: Client::from_conf(config), function }
    }

    /// Has a request handed over, and waits for the answer at most that time.
    pub(crate) async fn hand_over(&self, thing: &str, name: &Name, time: Duration) -> Invoked {
        let payload = json!({"thingName": thing, "due": name.to_string()});
        let call = self
            .lambda
            .invoke()
            .function_name(&self.function)
            .invocation_type(InvocationType::RequestResponse)
            .payload(Blob::new(payload.to_string()))
            .send();
        let output = match tokio::time::timeout(time, call).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => {
                let is_throttled = error.code() == Some("TooManyRequestsException");
                let (request, reason) = (name.to_string(), lambda_support::aws::error_summary(&error));
                tracing::warn!(thing, request, reason, "operation-request could not be invoked");
                let contact = if is_throttled { Contact::Throttled } else { Contact::Away };
                return Invoked::failed(contact, INVOCATION_FAILED);
            }
            // The invocation goes on.
            Err(_) => return Invoked::failed(Contact::Away, coiote_access::code::OUT_OF_TIME),
        };
        let payload = output.payload().map(Blob::as_ref).unwrap_or_default();
        if output.function_error().is_some() {
            return Invoked::failed(Contact::Away, &code_of_error(payload));
        }
        let Ok(answer) = serde_json::from_slice::<Answer>(payload) else {
            return Invoked::failed(Contact::Away, INVOCATION_FAILED);
        };
        let contact = Contact::of(&answer);
        Invoked { contact, status: Some(answer.status), code: answer.reason.map(|reason| reason.code.into_owned()) }
    }
}

/// Code of an invocation that ended with an error: the function's own, which has the form of all codes, or `INVOCATION_FAILED` where
/// Lambda has ended the function, as with `Runtime.ExitError` or, at the timeout, without an error type.
fn code_of_error(payload: &[u8]) -> String {
    let error: Json = serde_json::from_slice(payload).unwrap_or_default();
    let is_code = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    error.get("errorType").and_then(Json::as_str).filter(is_code).unwrap_or(INVOCATION_FAILED).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_of_the_function_itself_are_passed_on() {
        for (payload, code) in [
            (r#"{"errorType": "LEDGER_UNAVAILABLE", "errorMessage": "m"}"#, "LEDGER_UNAVAILABLE"),
            (r#"{"errorType": "Runtime.ExitError", "errorMessage": "m"}"#, INVOCATION_FAILED),
            (r#"{"errorType": "Sandbox.Timedout", "errorMessage": "m"}"#, INVOCATION_FAILED),
            (r#"{"errorMessage": "Task timed out after 30.00 seconds"}"#, INVOCATION_FAILED),
            (r#"{"errorType": ""}"#, INVOCATION_FAILED),
            ("", INVOCATION_FAILED),
        ] {
            assert_eq!(code_of_error(payload.as_bytes()), code, "{payload}");
        }
    }
}
