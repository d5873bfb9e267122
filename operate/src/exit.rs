//! End of a command: its exit status, and the message of a failure.

use std::error::Error;
use std::process::ExitCode;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use lwm2m::Finding;
use requests::Status;
use serde_json::{Map, Value as Json, json};

use crate::output;

/// Exit status of the command; docs/command-line.md lists them. 2 is clap's, for a command line that it cannot parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    /// AWS refused or was not reached, or something is not as it should be.
    Failed = 1,
    /// The request is not valid: nothing was sent.
    Invalid = 3,
    Rejected = 4,
    DeviceFailed = 5,
    TimedOut = 6,
    Canceled = 7,
    /// The request has no last word yet, and goes on.
    Open = 8,
    /// Ended by SIGINT; the number that shells use for it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl From<Status> for Exit {
    fn from(status: Status) -> Exit {
        match status {
            Status::Succeeded => Exit::Done,
            Status::Rejected => Exit::Rejected,
            Status::Failed => Exit::DeviceFailed,
            Status::TimedOut => Exit::TimedOut,
            Status::Canceled => Exit::Canceled,
            Status::InProgress | Status::Scheduled | Status::Ignored => Exit::Open,
        }
    }
}

/// Reason why a command was not done, for the person who gave it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    message: String,
    findings: Vec<Finding>,
    /// The request that was made, or may have been, as fields of its JSON.
    request: Vec<(String, Json)>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Failed, message: message.into(), findings: Vec::new(), request: Vec::new() }
    }

    /// Failure of a request that is not valid.
    pub(crate) fn invalid_request(findings: Vec<Finding>) -> Failure {
        let message = "The request is not valid; nothing was sent.".to_owned();
        Failure { exit: Exit::Invalid, findings, ..Failure::new(message) }
    }

    /// The failure, of a command that has made this request, or may have.
    #[must_use]
    pub(crate) fn of_request(self, request: Map<String, Json>) -> Failure {
        Failure { request: request.into_iter().collect(), ..self }
    }

    /// Failure of a command line that clap takes, and that makes no sense.
    pub(crate) fn invalid_arguments(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Invalid, ..Failure::new(message) }
    }

    /// Prints findings and message: as JSON on standard output, or as text on standard error.
    pub(crate) fn print(&self, json: bool) {
        if json {
            output::json(&Json::Object(self.as_fields()));
        } else {
            self.findings.iter().for_each(output::finding);
            output::note(&self.message);
        }
    }

    /// Fields of the JSON for a failure.
    pub(crate) fn as_fields(&self) -> Map<String, Json> {
        let mut fields = Map::from_iter(self.request.iter().cloned());
        fields.insert("error".to_owned(), json!(self.message));
        fields.insert("findings".to_owned(), findings_as_json(&self.findings));
        fields
    }
}

/// Errors of a request, or notices for its author, as JSON.
pub(crate) fn findings_as_json(findings: &[Finding]) -> Json {
    findings.iter().map(|finding| json!({"code": finding.code.as_str(), "message": finding.message})).collect()
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// Makes failures of AWS calls; `what` names the purpose of the call, as in "list the things".
pub(crate) fn could_not<E>(what: &str) -> impl Fn(E) -> Failure
where
    E: ProvideErrorMetadata + Error + 'static,
{
    move |error| Failure::new(format!("could not {what}: {}", summary(&error)))
}

/// Summary of an error of an AWS call, in one line.
pub(crate) fn summary<E: ProvideErrorMetadata + Error + 'static>(error: &E) -> String {
    let summary = match missing_credentials(error) {
        Some(why) => format!("no AWS credentials: {}", lambda_support::aws::error_chain(why)),
        None => lambda_support::aws::error_summary(error),
    };
    summary.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The cause of an error if it is that there are no credentials to make the call with.
pub(crate) fn missing_credentials<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e CredentialsError> {
    std::iter::successors(Some(error), |&error| error.source()).find_map(|cause| cause.downcast_ref())
}

/// Makes a failure of a read of the ledger.
pub(crate) fn ledger_failure(error: ledger::Error) -> Failure {
    Failure::new(error.to_string())
}
