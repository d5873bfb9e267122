//! Handles an event: updates executions, or looks for those that need it.

use std::sync::Arc;
use std::time::Instant;

use lambda_runtime::{Diagnostic, LambdaEvent};
use lambda_support::{Deadline, diagnostic, elapsed_ms};
use ledger::Ledger;
use requests::Millis;
use serde_json::Value as Json;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::control_plane::ControlPlane;
use crate::data_plane::DataPlane;
use crate::event::{JobUpdate, Trigger};
use crate::update::Updated;

/// Code of an update that failed and is tried again.
const NOT_TOLD: &str = "JOB_EXECUTION_NOT_TOLD";

/// Code of a look that failed.
pub(crate) const NOT_LOOKED: &str = "JOBS_NOT_LOOKED_AT";

/// Clients of the function.
pub(crate) struct Clients {
    pub(crate) ledger: Ledger,
    pub(crate) jobs: DataPlane,
    pub(crate) lambda: aws_sdk_lambda::Client,
}

/// Settings from the template.
pub(crate) struct Settings {
    /// Name or ARN of operation-request.
    pub(crate) operation_request: String,
    /// Time limit for the notification of an execution and its claim.
    pub(crate) notified_within: Millis,
}

/// State of the execution environment, across invocations.
#[derive(Clone)]
pub(crate) struct Service(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) clients: Clients,
    pub(crate) control_plane: ControlPlane,
    pub(crate) settings: Settings,
}

impl std::ops::Deref for Service {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// Counts of a look.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LookCounts {
    /// Jobs whose executions were listed.
    pub(crate) jobs: usize,
    /// Things with an execution that is queued for long.
    pub(crate) queued: usize,
    /// Executions that are in progress, and whose last update is as long ago.
    pub(crate) in_progress: usize,
    /// Executions that were given to operation-request.
    pub(crate) found: usize,
    /// Executions whose request has moved on while AWS shows them as queued, or has ended while they are in progress.
    pub(crate) untold: usize,
    /// Executions that could not be processed.
    pub(crate) failed: usize,
    /// Whether there was no time for the rest.
    pub(crate) is_cut_short: bool,
}

impl Service {
    pub(crate) fn new(clients: Clients, control_plane: ControlPlane, settings: Settings) -> Service {
        Service(Arc::new(Inner { clients, control_plane, settings }))
    }

    /// Handles an event. An update that fails is an error of the function, so that Lambda brings the records again; a look that
    /// fails is repeated by the next one.
    pub(crate) async fn event(&self, event: LambdaEvent<Json>) -> Result<(), Diagnostic> {
        let LambdaEvent { payload, context } = event;
        let (request_id, trace_id) = (context.request_id.as_str(), lambda_support::trace_id(&context));
        let (begun, deadline) = (Instant::now(), Deadline::of(&context));
        // Of the level `error`, so that lines of every level have its fields.
        let span = tracing::error_span!("job_executions", request_id, trace_id);
        let answered = async {
            match Trigger::parse(&payload) {
                Trigger::RequestsChanged { updates, unreadable } => {
                    lambda_support::log_unreadable_records(&unreadable);
                    self.update_all(updates, deadline, begun).await
                }
                Trigger::Schedule => {
                    // The next look is as good as a retry.
                    let _ = log_look(self.look(deadline).await, None, begun);
                    Ok(())
                }
                Trigger::JobCanceled(job_id) => {
                    log_look(self.job_canceled(&job_id, deadline).await, Some(&job_id), begun)
                }
            }
        };
        answered.instrument(span).await
    }

    async fn update_all(&self, updates: Vec<JobUpdate>, deadline: Deadline, begun: Instant) -> Result<(), Diagnostic> {
        // Once for all: each of the updates would look the endpoint up again if that fails.
        if !updates.is_empty()
            && let Err(reason) = self.clients.jobs.client().await
        {
            metrics::counter!("Failures", "code" => NOT_TOLD).increment(updates.len() as u64);
            tracing::warn!(code = NOT_TOLD, reason, "AWS IoT Jobs not told; it is tried again");
            return Err(diagnostic(NOT_TOLD, reason));
        }
        let mut tasks = JoinSet::new();
        // Mostly it is one: then the lines about that execution include the last one here.
        let single = match updates.as_slice() {
            [JobUpdate { thing, name, .. }] => Some((thing.clone(), name.to_string())),
            _ => None,
        };
        for JobUpdate { thing, name, summary } in updates {
            let service = self.clone();
            tasks.spawn(async move {
                let update = service.update_execution(&thing, &name, &summary);
                let result = tokio::time::timeout(deadline.left(), update).await;
                let result = result.unwrap_or_else(|_| Err("no answer within the time that was left".to_owned()));
                (thing, name, result)
            });
        }
        let (mut updated, mut over, mut delayed) = (0_u32, 0_u32, 0_u32);
        let mut ended = Ok(());
        while let Some(joined) = tasks.join_next().await {
            let Ok((thing, name, result)) = joined else { continue };
            match result {
                Ok(Updated::To(status)) => {
                    updated += 1;
                    metrics::counter!("JobExecutionsTold", "status" => status.as_str().to_owned()).increment(1);
                }
                Ok(Updated::Over) => over += 1,
                Ok(Updated::Skipped) => {}
                Err(reason) => {
                    delayed += 1;
                    metrics::counter!("Failures", "code" => NOT_TOLD).increment(1);
                    let job = name.to_string();
                    tracing::warn!(thing, job, code = NOT_TOLD, reason, "AWS IoT Jobs not told; it is tried again");
                    ended = Err(diagnostic(NOT_TOLD, reason));
                }
            }
        }
        let (thing, job) = single.unzip();
        tracing::info!(thing, job, updated, over, delayed, duration_ms = elapsed_ms(begun), "AWS IoT Jobs told");
        ended
    }
}

/// Writes the line about a look, and counts it.
fn log_look(result: Result<LookCounts, String>, job: Option<&str>, begun: Instant) -> Result<(), Diagnostic> {
    let duration_ms = elapsed_ms(begun);
    match result {
        Ok(LookCounts { jobs, queued, in_progress, found, untold, failed, is_cut_short }) => {
            if found > 0 && job.is_none() {
                metrics::counter!("JobExecutionsFound").increment(found as u64);
            }
            tracing::info!(
                job,
                jobs,
                queued,
                in_progress,
                found,
                untold,
                failed,
                is_cut_short,
                duration_ms,
                "looked for executions"
            );
            Ok(())
        }
        Err(reason) => {
            metrics::counter!("Failures", "code" => NOT_LOOKED).increment(1);
            tracing::error!(job, code = NOT_LOOKED, reason, duration_ms, "AWS IoT Jobs cannot be asked");
            Err(diagnostic(NOT_LOOKED, reason))
        }
    }
}
