//! `lwm2m job`: creates AWS IoT jobs that carry an LwM2M operation, and watches their progress.

use std::time::{Duration, Instant};

use aws_sdk_iot::types::{
    AbortConfig, AbortCriteria, Job, JobExecutionFailureType, JobExecutionsRolloutConfig, JobProcessDetails, JobStatus,
    TargetSelection, TimeoutConfig,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::cli::{JobCreateArgs, JobWatchArgs};
use crate::connection::Aws;
use crate::exit::{Exit, Failure, could_not, findings_as_json};
use crate::{output, request};

/// Pause between two looks at a job. AWS takes ten `DescribeJob` a second of an account.
const PAUSE: Duration = Duration::from_secs(2);

/// Minimum number of ended executions before a job is aborted because too many failed.
const MIN_EXECUTIONS_BEFORE_ABORT: i32 = 20;

/// A job whose request is valid.
pub(crate) struct CheckedJob {
    job: JobCreateArgs,
    valid: request::ValidRequest,
}

/// Checks the request of a job with the same rules as the function that gets its executions.
pub(crate) fn check(job: JobCreateArgs) -> Result<CheckedJob, Failure> {
    let valid = request::check(job.operation, &job.paths, job.checks.strictness())?;
    if job.things.is_empty() && job.groups.is_empty() {
        return Err(Failure::invalid_arguments("a job needs a --thing or a --group"));
    }
    Ok(CheckedJob { job, valid })
}

/// Creates the job at AWS IoT.
pub(crate) async fn create(aws: &Aws, CheckedJob { job, valid }: CheckedJob) -> Result<Exit, Failure> {
    valid.notices.iter().for_each(output::finding);
    let client = aws.iot();
    let targets = targets(&client, &job).await?;
    let rollout = job.per_minute.map(|most| JobExecutionsRolloutConfig::builder().maximum_per_minute(most).build());
    let abort = job.abort_at.map(abort_at).transpose()?;
    let timeout = job.timeout_minutes.map(|most| TimeoutConfig::builder().in_progress_timeout_in_minutes(most).build());
    let selection = if job.continuous { TargetSelection::Continuous } else { TargetSelection::Snapshot };
    client
        .create_job()
        .job_id(&job.job)
        .set_targets(Some(targets))
        .document(json!({"lwm2m": valid.desired}).to_string())
        .target_selection(selection)
        .set_job_executions_rollout_config(rollout)
        .set_abort_config(abort)
        .set_timeout_config(timeout)
        .send()
        .await
        .map_err(could_not(&format!("make the job {}", job.job)))?;
    if aws.json {
        let notices = (!valid.notices.is_empty()).then(|| ("notices".to_owned(), findings_as_json(&valid.notices)));
        let created = [("job".to_owned(), json!(job.job)), ("document".to_owned(), json!({"lwm2m": valid.desired}))];
        output::json(&created.into_iter().chain(notices).collect());
    } else {
        output::line(&format!("job {}: lwm2m job watch {} shows how far it is", job.job, job.job));
    }
    Ok(Exit::Done)
}

fn abort_at(percentage: f64) -> Result<AbortConfig, Failure> {
    let criteria = AbortCriteria::builder()
        .failure_type(JobExecutionFailureType::All)
        .action(aws_sdk_iot::types::AbortAction::Cancel)
        .threshold_percentage(percentage)
        .min_number_of_executed_things(MIN_EXECUTIONS_BEFORE_ABORT)
        .build()
        .and_then(|criteria| AbortConfig::builder().criteria_list(criteria).build());
    criteria.map_err(|error| Failure::new(error.to_string()))
}

/// Looks up the ARNs of things and groups, which have to exist.
async fn targets(client: &aws_sdk_iot::Client, job: &JobCreateArgs) -> Result<Vec<String>, Failure> {
    let mut targets = Vec::new();
    for thing in &job.things {
        let described = client.describe_thing().thing_name(thing.as_str()).send().await;
        targets.extend(described.map_err(could_not(&format!("find the thing {thing}")))?.thing_arn);
    }
    for group in &job.groups {
        let described = client.describe_thing_group().thing_group_name(group).send().await;
        targets.extend(described.map_err(could_not(&format!("find the group {group}")))?.thing_group_arn);
    }
    Ok(targets)
}

/// Shows the progress of a job until it has ended, then its counts.
pub(crate) async fn watch(aws: &Aws, JobWatchArgs { job: id, timeout }: JobWatchArgs) -> Result<Exit, Failure> {
    let Some((job, counts)) = wait(&aws.iot(), &id, timeout).await? else {
        output::note(&format!("The job goes on. aws iot cancel-job --job-id {id} ends it."));
        return Ok(Exit::Interrupted);
    };
    let status = job.status().map_or("UNKNOWN", JobStatus::as_str);
    if aws.json {
        output::json(&json!({"job": id, "status": status, "executions": counts.as_json()}));
    } else {
        output::line(&format!("{status}  job {id}, {} executions", counts.all()));
        output::table(
            ["EXECUTIONS", "NUMBER"],
            counts.rows().map(|(name, count)| [name.to_owned(), count.to_string()]),
        );
    }
    Ok(match job.status() {
        Some(JobStatus::Completed) if counts.has_failed() => Exit::DeviceFailed,
        Some(JobStatus::Completed) => Exit::Done,
        Some(JobStatus::Canceled) => Exit::Canceled,
        _ => Exit::Open,
    })
}

/// Waits until the job has ended, or the time is over; shows a progress bar. `None` if interrupted.
async fn wait(
    client: &aws_sdk_iot::Client,
    id: &str,
    timeout: Option<Duration>,
) -> Result<Option<(Job, Counts)>, Failure> {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    // A signal counts at any time, also during a call.
    let waited = tokio::select! {
        last = last_state(client, id, timeout, &bar) => last.map(Some),
        _ = tokio::signal::ctrl_c() => Ok(None),
    };
    bar.finish_and_clear();
    waited
}

/// The job when it has ended, or when the time is over.
async fn last_state(
    client: &aws_sdk_iot::Client,
    id: &str,
    timeout: Option<Duration>,
    bar: &ProgressBar,
) -> Result<(Job, Counts), Failure> {
    let begun = Instant::now();
    loop {
        let job = describe(client, id).await?;
        let counts = Counts::of(job.job_process_details());
        bar.set_length(counts.all());
        bar.set_position(counts.ended());
        bar.set_message(format!("ended, {} in progress", counts.in_progress));
        let has_ended = matches!(job.status(), Some(JobStatus::Completed | JobStatus::Canceled));
        let out_of_time = timeout.is_some_and(|timeout| begun.elapsed() >= timeout);
        if has_ended || out_of_time {
            return Ok((job, counts));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn describe(client: &aws_sdk_iot::Client, id: &str) -> Result<Job, Failure> {
    let described =
        client.describe_job().job_id(id).send().await.map_err(could_not(&format!("look at the job {id}")))?;
    described.job.ok_or_else(|| Failure::new(format!("AWS says nothing of the job {id}")))
}

/// Executions of a job by their status.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    queued: u64,
    in_progress: u64,
    succeeded: u64,
    failed: u64,
    rejected: u64,
    timed_out: u64,
    canceled: u64,
    removed: u64,
}

impl Counts {
    fn of(details: Option<&JobProcessDetails>) -> Counts {
        let Some(details) = details else { return Counts::default() };
        let count = |number: Option<i32>| number.and_then(|number| u64::try_from(number).ok()).unwrap_or_default();
        Counts {
            queued: count(details.number_of_queued_things()),
            in_progress: count(details.number_of_in_progress_things()),
            succeeded: count(details.number_of_succeeded_things()),
            failed: count(details.number_of_failed_things()),
            rejected: count(details.number_of_rejected_things()),
            timed_out: count(details.number_of_timed_out_things()),
            canceled: count(details.number_of_canceled_things()),
            removed: count(details.number_of_removed_things()),
        }
    }

    fn rows(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("QUEUED", self.queued),
            ("IN_PROGRESS", self.in_progress),
            ("SUCCEEDED", self.succeeded),
            ("FAILED", self.failed),
            ("REJECTED", self.rejected),
            ("TIMED_OUT", self.timed_out),
            ("CANCELED", self.canceled),
            ("REMOVED", self.removed),
        ]
        .into_iter()
    }

    fn all(&self) -> u64 {
        self.rows().map(|(_, count)| count).sum()
    }

    fn ended(&self) -> u64 {
        self.all() - self.queued - self.in_progress
    }

    fn has_failed(&self) -> bool {
        self.failed + self.rejected + self.timed_out > 0
    }

    fn as_json(&self) -> serde_json::Value {
        self.rows().map(|(name, count)| (name.to_owned(), json!(count))).collect::<serde_json::Map<_, _>>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_that_have_ended_are_counted() {
        let details = JobProcessDetails::builder()
            .number_of_queued_things(2)
            .number_of_in_progress_things(3)
            .number_of_succeeded_things(4)
            .number_of_timed_out_things(1)
            .build();
        let counts = Counts::of(Some(&details));
        assert_eq!((counts.all(), counts.ended(), counts.has_failed()), (10, 5, true));
        assert_eq!(counts.as_json()["SUCCEEDED"], 4);
        assert_eq!(Counts::of(None), Counts::default());
    }
}
