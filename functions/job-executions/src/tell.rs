//! Tells AWS IoT Jobs what is known of a request.

use std::collections::HashMap;

use aws_sdk_iotjobsdataplane::error::ProvideErrorMetadata;
use aws_sdk_iotjobsdataplane::types::JobExecutionStatus;
use ledger::RequestSummary;
use requests::Name;

use crate::details;
use crate::handle::Service;

/// Code of an update that AWS IoT Jobs does not take, however often it is brought.
const NOT_TAKEN: &str = "JOB_EXECUTION_NOT_TAKEN";

/// What telling came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// AWS knows it now.
    Done(JobExecutionStatus),
    /// The execution has its last status, or is gone: it is left as it is.
    Over,
    /// There is nothing to tell, or nothing that AWS takes.
    Nothing,
}

impl Service {
    /// Tells what is known by now. The error is one line.
    pub(crate) async fn tell(&self, thing: &str, name: &Name, word: &RequestSummary) -> Result<Told, String> {
        let Name::Job { id, execution } = name else { return Ok(Told::Nothing) };
        let Some(status) = details::status(word) else { return Ok(Told::Nothing) };
        let mut told = self.update(thing, id, *execution, &status, details::details(word)).await;
        if matches!(told, Err(Refusal::Invalid(_))) {
            told = self.update(thing, id, *execution, &status, details::shortest(word)).await;
        }
        match told {
            Ok(()) => Ok(Told::Done(status)),
            Err(Refusal::Over) => {
                if status == JobExecutionStatus::InProgress {
                    // Canceled or timed out before it was claimed here, or nobody has told us since.
                    self.take_back(thing, name, "over").await?;
                }
                Ok(Told::Over)
            }
            // It would not be taken later either, and hold up all that comes behind it in the stream.
            Err(Refusal::Invalid(why)) => {
                let job = name.to_string();
                tracing::error!(thing, job, code = NOT_TAKEN, reason = why, "AWS IoT Jobs does not take the update");
                metrics::counter!("Failures", "code" => NOT_TAKEN).increment(1);
                Ok(Told::Nothing)
            }
            Err(Refusal::Other(why)) => Err(why),
        }
    }

    async fn update(
        &self,
        thing: &str,
        job_id: &str,
        execution: u64,
        status: &JobExecutionStatus,
        details: HashMap<String, String>,
    ) -> Result<(), Refusal> {
        let updated = self
            .clients
            .jobs
            .update_job_execution()
            .thing_name(thing)
            .job_id(job_id)
            .set_execution_number(i64::try_from(execution).ok())
            .status(status.clone())
            .set_status_details((!details.is_empty()).then_some(details))
            .send()
            .await;
        updated.map(drop).map_err(|error| match error.code() {
            Some("InvalidStateTransitionException" | "ResourceNotFoundException" | "TerminalStateException") => {
                Refusal::Over
            }
            Some("InvalidRequestException") => Refusal::Invalid(lambda_support::aws::error_summary(&error)),
            _ => Refusal::Other(lambda_support::aws::error_summary(&error)),
        })
    }
}

/// Why AWS did not take an update.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// The execution has ended, or is gone.
    Over,
    /// It would not take it a second time either.
    Invalid(String),
    /// Throttled, failed, or not reached.
    Other(String),
}
