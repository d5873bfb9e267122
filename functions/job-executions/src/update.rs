//! Updates an execution at AWS IoT Jobs from the summary of its request.

use std::collections::HashMap;

use aws_sdk_iotjobsdataplane::error::ProvideErrorMetadata;
use aws_sdk_iotjobsdataplane::types::JobExecutionStatus;
use ledger::RequestSummary;
use requests::{Name, in_seconds};

use crate::details;
use crate::handle::Service;

/// Code of an update that AWS IoT Jobs refuses for good.
const NOT_TAKEN: &str = "JOB_EXECUTION_NOT_TAKEN";

/// Result of an update.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Updated {
    /// The execution has this status now.
    To(JobExecutionStatus),
    /// The execution had its last status already, or is gone.
    Over,
    /// No update was necessary, or AWS refuses it for good.
    Skipped,
}

impl Service {
    /// Updates the execution of a job's request. The error is one line.
    pub(crate) async fn update_execution(
        &self,
        thing: &str,
        name: &Name,
        summary: &RequestSummary,
    ) -> Result<Updated, String> {
        let Name::Job { id, execution } = name else { return Ok(Updated::Skipped) };
        let Some(status) = details::status(summary) else { return Ok(Updated::Skipped) };
        let mut updated = if self.is_of_other_request(thing, name, summary).await? {
            Err(Refusal::Over)
        } else {
            self.call_update(thing, id, *execution, &status, details::details(summary)).await
        };
        if matches!(updated, Err(Refusal::Invalid(_))) {
            updated = self.call_update(thing, id, *execution, &status, details::safe_details(summary)).await;
        }
        match updated {
            Ok(()) => Ok(Updated::To(status)),
            Err(Refusal::Over) => {
                if status == JobExecutionStatus::InProgress {
                    // It was canceled or timed out before the claim, or the event about that was lost.
                    self.take_back(thing, name, summary, "over").await?;
                }
                Ok(Updated::Over)
            }
            // A retry would fail as well, and hold up everything behind it in the stream.
            Err(Refusal::Invalid(why)) => {
                let job = name.to_string();
                tracing::error!(thing, job, code = NOT_TAKEN, reason = why, "AWS IoT Jobs does not take the update");
                metrics::counter!("Failures", "code" => NOT_TAKEN).increment(1);
                Ok(Updated::Skipped)
            }
            Err(Refusal::Other(why)) => Err(why),
        }
    }

    /// Whether AWS has an execution of that name that is not the request's, because its job was deleted and created again. AWS is
    /// not asked about a request that is too new for that. A version that the update expects could not say it: the executions
    /// of both jobs begin with the same one.
    async fn is_of_other_request(&self, thing: &str, name: &Name, summary: &RequestSummary) -> Result<bool, String> {
        let Name::Job { id, execution } = name else { return Ok(false) };
        if !name.is_reused(summary.requested_at, lambda_support::now() / 1_000) {
            return Ok(false);
        }
        let described = self.clients.jobs.describe(thing, id, *execution, false).await?;
        let queued_at = described.and_then(|described| u64::try_from(described.queued_at).ok()).map_or(0, in_seconds);
        Ok(name.is_reused(summary.requested_at, queued_at))
    }

    async fn call_update(
        &self,
        thing: &str,
        job_id: &str,
        execution: u64,
        status: &JobExecutionStatus,
        details: HashMap<String, String>,
    ) -> Result<(), Refusal> {
        let jobs = self.clients.jobs.client().await.map_err(Refusal::Other)?;
        let updated = jobs
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

/// Reason why AWS did not take an update.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// The execution has ended, or is gone.
    Over,
    /// AWS would refuse it a second time as well.
    Invalid(String),
    /// Throttled, failed, or not reached.
    Other(String),
}
