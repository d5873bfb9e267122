//! The control plane of AWS IoT Jobs: jobs and their executions, read at a pace that leaves room for other callers.

use std::time::Duration;

use aws_sdk_iot::Client;
use aws_sdk_iot::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_iot::types::{JobExecutionStatus, JobStatus};
use bounded_cache::BoundedCache;
use lambda_support::Deadline;
use requests::Millis;
use serde_json::Value as Json;

/// Pause before each call. AWS takes ten calls of a kind per second, from all callers of an account.
const PAUSE: Duration = Duration::from_millis(200);

/// Executions of a page.
const PAGE: i32 = 250;

pub(crate) struct ControlPlane {
    client: Client,
    /// Whether a job's document has an LwM2M operation, by the job's id and time of creation: documents do not change.
    has_operation: BoundedCache<(String, i64), bool>,
}

/// An execution of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Execution {
    pub(crate) thing: String,
    pub(crate) number: u64,
    pub(crate) queued_at: Millis,
    pub(crate) has_begun: bool,
}

impl ControlPlane {
    pub(crate) fn new(client: Client) -> ControlPlane {
        ControlPlane { client, has_operation: BoundedCache::default() }
    }

    /// Ids of the jobs in progress that ask for LwM2M operations and have queued executions, as many as there is time for, and
    /// whether these are all.
    pub(crate) async fn jobs_with_queued_executions(&self, deadline: Deadline) -> Result<(Vec<String>, bool), String> {
        let mut found = Vec::new();
        let mut token = None;
        loop {
            tokio::time::sleep(PAUSE).await;
            let page = self.client.list_jobs().status(JobStatus::InProgress).set_next_token(token).send().await;
            let page = page.map_err(|error| lambda_support::aws::error_summary(&error))?;
            for job in page.jobs.unwrap_or_default() {
                if deadline.left().is_zero() {
                    return Ok((found, false));
                }
                let created_at = job.created_at.map_or(0, |at| at.secs());
                let Some(id) = job.job_id else { continue };
                if self.asks_for_operation(&id, created_at).await? && self.has_queued(&id).await? {
                    found.push(id);
                }
            }
            token = page.next_token;
            if token.is_none() {
                return Ok((found, true));
            }
        }
    }

    async fn asks_for_operation(&self, job_id: &str, created_at: i64) -> Result<bool, String> {
        let key = (job_id.to_owned(), created_at);
        if let Some(known) = self.has_operation.get(&key) {
            return Ok(known);
        }
        tokio::time::sleep(PAUSE).await;
        let document = self.client.get_job_document().job_id(job_id).send().await;
        let has_operation = match document {
            Ok(output) => output.document.as_deref().is_some_and(is_document_with_operation),
            Err(error) if is_gone(&error) => false,
            Err(error) => return Err(lambda_support::aws::error_summary(&error)),
        };
        self.has_operation.insert(key, has_operation);
        Ok(has_operation)
    }

    async fn has_queued(&self, job_id: &str) -> Result<bool, String> {
        tokio::time::sleep(PAUSE).await;
        match self.client.describe_job().job_id(job_id).send().await {
            Ok(output) => {
                let details = output.job.and_then(|job| job.job_process_details);
                Ok(details.and_then(|details| details.number_of_queued_things).unwrap_or(0) > 0)
            }
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(lambda_support::aws::error_summary(&error)),
        }
    }

    /// A job's queued executions, as many as there is time for, and whether these are all.
    pub(crate) async fn queued_executions(
        &self,
        job_id: &str,
        deadline: Deadline,
    ) -> Result<(Vec<Execution>, bool), String> {
        let mut found = Vec::new();
        let mut token = None;
        while !deadline.left().is_zero() {
            let (page, next) = self.page(job_id, JobExecutionStatus::Queued, token).await?;
            found.extend(page);
            token = next;
            if token.is_none() {
                return Ok((found, true));
            }
        }
        Ok((found, false))
    }

    /// A page of a job's executions with that status, and the token of the next one. A job that is gone has none.
    pub(crate) async fn page(
        &self,
        job_id: &str,
        status: JobExecutionStatus,
        token: Option<String>,
    ) -> Result<(Vec<Execution>, Option<String>), String> {
        tokio::time::sleep(PAUSE).await;
        let list = self.client.list_job_executions_for_job().job_id(job_id).status(status);
        match list.max_results(PAGE).set_next_token(token).send().await {
            Ok(page) => {
                let executions = page.execution_summaries.unwrap_or_default();
                Ok((executions.into_iter().filter_map(execution).collect(), page.next_token))
            }
            Err(error) if is_gone(&error) => Ok((Vec::new(), None)),
            Err(error) => Err(lambda_support::aws::error_summary(&error)),
        }
    }
}

fn execution(summary: aws_sdk_iot::types::JobExecutionSummaryForJob) -> Option<Execution> {
    let thing = summary.thing_arn?.rsplit_once('/')?.1.to_owned();
    let execution = summary.job_execution_summary?;
    let queued_at = execution.queued_at.and_then(|at| at.to_millis().ok());
    Some(Execution {
        thing,
        number: u64::try_from(execution.execution_number?).ok()?,
        queued_at: queued_at.and_then(|at| u64::try_from(at).ok()).unwrap_or(0),
        has_begun: execution.started_at.is_some(),
    })
}

fn is_gone<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    error.code() == Some("ResourceNotFoundException")
}

/// Whether the document of a job asks for an LwM2M operation. The condition is that of the rule's SQL statement.
fn is_document_with_operation(document: &str) -> bool {
    serde_json::from_str::<Json>(document).is_ok_and(|document| document.pointer("/lwm2m/operation").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_counts_if_it_has_an_operation() {
        assert!(is_document_with_operation(r#"{"lwm2m": {"operation": "read", "keys": ["/"]}, "more": 1}"#));
        assert!(is_document_with_operation(r#"{"lwm2m": {"operation": null}}"#), "it is there, and wrong");
        for other in [r#"{"lwm2m": {}}"#, r#"{"lwm2m": "read"}"#, r#"{"operation": "read"}"#, "null", "no JSON"] {
            assert!(!is_document_with_operation(other), "{other}");
        }
    }
}
