//! The control plane of AWS IoT Jobs: jobs and their executions, read at a pace that leaves room for other callers.

use std::time::Duration;

use aws_sdk_iot::Client;
use aws_sdk_iot::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_iot::primitives::DateTime;
use aws_sdk_iot::types::{JobExecutionStatus, JobExecutionSummaryForJob, JobStatus};
use bounded_cache::BoundedCache;
use lambda_support::Deadline;
use requests::{Millis, Name};
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

/// A job in progress that asks for an LwM2M operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) id: String,
    /// Whether it has executions that are queued, and in progress.
    pub(crate) has_queued: bool,
    pub(crate) has_begun: bool,
}

/// An execution of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Execution {
    pub(crate) thing: String,
    /// Name of its request.
    pub(crate) name: Name,
    pub(crate) queued_at: Millis,
    pub(crate) updated_at: Millis,
    pub(crate) has_begun: bool,
}

impl ControlPlane {
    pub(crate) fn new(client: Client) -> ControlPlane {
        ControlPlane { client, has_operation: BoundedCache::default() }
    }

    /// Jobs in progress that ask for LwM2M operations and have executions to do, as many as there is time for, and whether these
    /// are all.
    pub(crate) async fn jobs(&self, deadline: Deadline) -> Result<(Vec<Job>, bool), String> {
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
                if self.asks_for_operation(&id, created_at).await? {
                    found.extend(self.describe(id).await?.filter(|job| job.has_queued || job.has_begun));
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

    async fn describe(&self, id: String) -> Result<Option<Job>, String> {
        tokio::time::sleep(PAUSE).await;
        match self.client.describe_job().job_id(&id).send().await {
            Ok(output) => {
                let counts = output.job.and_then(|job| job.job_process_details);
                let has = |count: Option<i32>| count.is_some_and(|count| count > 0);
                Ok(counts.map(|counts| Job {
                    id,
                    has_queued: has(counts.number_of_queued_things),
                    has_begun: has(counts.number_of_in_progress_things),
                }))
            }
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(lambda_support::aws::error_summary(&error)),
        }
    }

    /// A job's executions with that status, as many as there is time for, and whether these are all.
    pub(crate) async fn executions(
        &self,
        job_id: &str,
        status: &JobExecutionStatus,
        deadline: Deadline,
    ) -> Result<(Vec<Execution>, bool), String> {
        let mut found = Vec::new();
        let mut token = None;
        while !deadline.left().is_zero() {
            let (page, next) = self.page(job_id, status, token).await?;
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
        status: &JobExecutionStatus,
        token: Option<String>,
    ) -> Result<(Vec<Execution>, Option<String>), String> {
        tokio::time::sleep(PAUSE).await;
        let list = self.client.list_job_executions_for_job().job_id(job_id).status(status.clone());
        match list.max_results(PAGE).set_next_token(token).send().await {
            Ok(page) => {
                let executions = page.execution_summaries.unwrap_or_default();
                let executions = executions.into_iter().filter_map(|summary| execution(job_id, summary));
                Ok((executions.collect(), page.next_token))
            }
            Err(error) if is_gone(&error) => Ok((Vec::new(), None)),
            Err(error) => Err(lambda_support::aws::error_summary(&error)),
        }
    }
}

fn execution(job_id: &str, summary: JobExecutionSummaryForJob) -> Option<Execution> {
    let thing = summary.thing_arn?.rsplit_once('/')?.1.to_owned();
    let execution = summary.job_execution_summary?;
    let number = u64::try_from(execution.execution_number?).ok()?;
    let millis = |at: Option<DateTime>| u64::try_from(at?.to_millis().ok()?).ok();
    Some(Execution {
        thing,
        name: Name::Job { id: job_id.to_owned(), execution: number },
        queued_at: millis(execution.queued_at).unwrap_or(0),
        updated_at: millis(execution.last_updated_at).unwrap_or(0),
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
