//! From the event to what is told.

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
use crate::event::{Asked, News};
use crate::tell::Told;

/// Code of what could not be told AWS IoT Jobs for now.
const NOT_TOLD: &str = "JOB_EXECUTION_NOT_TOLD";

/// Code of a look that AWS did not answer.
pub(crate) const NOT_LOOKED: &str = "JOBS_NOT_LOOKED_AT";

/// Whom it speaks to.
pub(crate) struct Clients {
    pub(crate) ledger: Ledger,
    pub(crate) jobs: aws_sdk_iotjobsdataplane::Client,
    pub(crate) lambda: aws_sdk_lambda::Client,
}

/// What the template makes of the function, beside its clients.
pub(crate) struct Settings {
    /// Name or ARN of operation-request.
    pub(crate) operation_request: String,
    /// How long a notification of an execution may take, with all that follows from it.
    pub(crate) notified_within: Millis,
}

/// Everything that outlives an invocation.
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

/// What looking came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Looked {
    /// Jobs whose executions were listed.
    pub(crate) jobs: usize,
    /// Things with an execution that is queued for long.
    pub(crate) queued: usize,
    /// Executions that were given to operation-request.
    pub(crate) found: usize,
    /// Executions that AWS was not told of.
    pub(crate) untold: usize,
    /// There was no time for the rest.
    pub(crate) is_cut_short: bool,
}

impl Service {
    pub(crate) fn new(clients: Clients, control_plane: ControlPlane, settings: Settings) -> Service {
        Service(Arc::new(Inner { clients, control_plane, settings }))
    }

    /// Answers an event. It is an error of the function where AWS IoT Jobs could not be told, so that Lambda brings the records
    /// again; a look that came to nothing is made again by the next one.
    pub(crate) async fn event(&self, event: LambdaEvent<Json>) -> Result<(), Diagnostic> {
        let LambdaEvent { payload, context } = event;
        let (request_id, trace_id) = (context.request_id.as_str(), lambda_support::trace_id(&context));
        let (begun, deadline) = (Instant::now(), Deadline::of(&context));
        // In lines of every level, hence its own.
        let span = tracing::error_span!("job_executions", request_id, trace_id);
        let answered = async {
            match Asked::read(&payload) {
                Asked::Told { news, not_understood } => {
                    lambda_support::log_unreadable_records(&not_understood);
                    self.tell_all(news, deadline, begun).await
                }
                Asked::Look => {
                    // The next look is as good as another try.
                    let _ = looked(self.look(deadline).await, None, begun);
                    Ok(())
                }
                Asked::JobCanceled(job_id) => looked(self.job_canceled(&job_id, deadline).await, Some(&job_id), begun),
            }
        };
        answered.instrument(span).await
    }

    async fn tell_all(&self, news: Vec<News>, deadline: Deadline, begun: Instant) -> Result<(), Diagnostic> {
        let mut tasks = JoinSet::new();
        // Mostly it is one, and then its story has this line.
        let single = match news.as_slice() {
            [News { thing, name, .. }] => Some((thing.clone(), name.to_string())),
            _ => None,
        };
        for News { thing, name, word } in news {
            let service = self.clone();
            tasks.spawn(async move {
                let told = tokio::time::timeout(deadline.left(), service.tell(&thing, &name, &word)).await;
                let told = told.unwrap_or_else(|_| Err("no answer within the time that was left".to_owned()));
                (thing, name, told)
            });
        }
        let (mut updated, mut over, mut delayed) = (0_u32, 0_u32, 0_u32);
        let mut ended = Ok(());
        while let Some(joined) = tasks.join_next().await {
            let Ok((thing, name, told)) = joined else { continue };
            match told {
                Ok(Told::Done(status)) => {
                    updated += 1;
                    metrics::counter!("JobExecutionsTold", "status" => status.as_str().to_owned()).increment(1);
                }
                Ok(Told::Over) => over += 1,
                Ok(Told::Nothing) => {}
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

/// The one line about a look, and its metrics.
fn looked(looked: Result<Looked, String>, job: Option<&str>, begun: Instant) -> Result<(), Diagnostic> {
    let duration_ms = elapsed_ms(begun);
    match looked {
        Ok(Looked { jobs, queued, found, untold, is_cut_short }) => {
            if found > 0 && job.is_none() {
                metrics::counter!("JobExecutionsFound").increment(found as u64);
            }
            tracing::info!(job, jobs, queued, found, untold, is_cut_short, duration_ms, "looked for executions");
            Ok(())
        }
        Err(reason) => {
            metrics::counter!("Failures", "code" => NOT_LOOKED).increment(1);
            tracing::error!(job, code = NOT_LOOKED, reason, duration_ms, "AWS IoT Jobs cannot be asked");
            Err(diagnostic(NOT_LOOKED, reason))
        }
    }
}
