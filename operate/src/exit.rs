//! How the command ends: its exit status, and what is told of a failure.

use std::error::Error;
use std::process::ExitCode;

use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use lwm2m::Finding;
use requests::Status;
use serde_json::json;

use crate::output;

/// Exit status of the command; docs/command-line.md lists them. 2 is clap's, for a command line that is none.
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
    /// As shells say it of SIGINT.
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

/// Why a command did not do what was asked, for the person who gave it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    message: String,
    findings: Vec<Finding>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Failed, message: message.into(), findings: Vec::new() }
    }

    /// Of a request that is not valid.
    pub(crate) fn invalid(findings: Vec<Finding>) -> Failure {
        let message = "The request is not valid; nothing was sent.".to_owned();
        Failure { exit: Exit::Invalid, message, findings }
    }

    /// Of a command line that clap takes, and that means nothing.
    pub(crate) fn not_valid(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Invalid, message: message.into(), findings: Vec::new() }
    }

    pub(crate) fn tell(&self, json: bool) {
        let findings = self.findings.iter();
        if json {
            let findings: Vec<_> =
                findings.map(|finding| json!({"code": finding.code.as_str(), "message": finding.message})).collect();
            output::json(&json!({"error": self.message, "findings": findings}));
        } else {
            findings.for_each(output::finding);
            output::note(&self.message);
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// Makes a failure of an AWS call, which was to do `what`.
pub(crate) fn could_not<E>(what: &str) -> impl Fn(E) -> Failure
where
    E: ProvideErrorMetadata + Error + 'static,
{
    move |error| Failure::new(format!("could not {what}: {}", lambda_support::aws::error_summary(&error)))
}

/// The same of the ledger.
pub(crate) fn no_ledger(error: ledger::Error) -> Failure {
    Failure::new(error.to_string())
}
