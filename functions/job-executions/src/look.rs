//! Looks for queued executions without a request, because their notification was lost or a foreign job stands before them; and
//! for open requests of a canceled job.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_iot::types::JobExecutionStatus;
use aws_sdk_iotjobsdataplane::error::ProvideErrorMetadata;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use lambda_support::{Deadline, now};
use ledger::RequestSummary;
use requests::{Device, Name, Status};
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

use crate::control_plane::Execution;
use crate::handle::{LookCounts, NOT_LOOKED, Service};
use crate::update::Updated;

/// Devices that are looked up at once.
const AT_ONCE: usize = 16;

/// Pause after each execution that is handed in: this is as fast as AWS rolls out a job, a thousand per minute.
const PAUSE: Duration = Duration::from_millis(60);

/// Failures in a row that end the look.
const IN_A_ROW: usize = 3;

/// State in the ledger of an execution that is queued at AWS.
#[derive(Debug, PartialEq)]
enum Known {
    /// It has no request: operation-request was not invoked for it.
    No,
    /// It has a request, which AWS does not show yet.
    Request(RequestSummary),
    /// It has to wait: another job's request of the thing is open.
    Waits,
}

impl Service {
    /// Looks at the earliest execution of each thing that has been queued for longer than a notification takes.
    pub(crate) async fn look(&self, deadline: Deadline) -> Result<LookCounts, String> {
        let mut counts = LookCounts::default();
        let queued = self.list_queued(deadline, &mut counts).await?;
        let mut failures = 0;
        for executions in queued.chunks(AT_ONCE) {
            let known = self.look_up(executions.iter().map(|(thing, name)| (thing, name))).await?;
            for ((thing, name), known) in executions.iter().zip(known) {
                if deadline.left().is_zero() {
                    counts.is_cut_short = true;
                    return Ok(counts);
                }
                match self.process(thing, name, known, &mut counts).await {
                    Ok(()) => failures = 0,
                    // A single failure does not keep the executions behind it.
                    Err(reason) => {
                        failures += 1;
                        if failures >= IN_A_ROW {
                            return Err(reason);
                        }
                        tracing::warn!(thing, job = %name, code = NOT_LOOKED, reason, "not done, for now");
                    }
                }
            }
        }
        Ok(counts)
    }

    /// Lists the earliest execution of each thing that has been queued for longer than a notification takes, earliest first.
    async fn list_queued(&self, deadline: Deadline, counts: &mut LookCounts) -> Result<Vec<(String, Name)>, String> {
        let by = now().saturating_sub(self.settings.notified_within);
        // Half of the time: all executions are listed before the first one is processed.
        let listing = Deadline::within(deadline.left() / 2);
        let (jobs, is_all) = self.control_plane.jobs_with_queued_executions(listing).await?;
        (counts.jobs, counts.is_cut_short) = (jobs.len(), !is_all);
        let mut first: HashMap<String, (String, Execution)> = HashMap::new();
        for job_id in jobs {
            let (queued, is_all) = self.control_plane.queued_executions(&job_id, listing).await?;
            counts.is_cut_short |= !is_all;
            for execution in queued.into_iter().filter(|execution| execution.queued_at <= by) {
                let earlier = first.get(&execution.thing);
                if earlier.is_none_or(|(_, earlier)| execution.queued_at < earlier.queued_at) {
                    first.insert(execution.thing.clone(), (job_id.clone(), execution));
                }
            }
        }
        counts.queued = first.len();
        let mut first: Vec<(String, (String, Execution))> = first.into_iter().collect();
        first.sort_by_key(|(_, (_, execution))| execution.queued_at);
        let named = |(thing, (id, execution)): (String, (String, Execution))| {
            (thing, Name::Job { id, execution: execution.number })
        };
        Ok(first.into_iter().map(named).collect())
    }

    async fn process(&self, thing: &str, name: &Name, known: Known, counts: &mut LookCounts) -> Result<(), String> {
        match known {
            Known::Waits => {}
            Known::Request(summary) => {
                let updated = self.update_execution(thing, name, &summary).await?;
                counts.untold += usize::from(matches!(updated, Updated::To(_)));
            }
            Known::No => counts.found += usize::from(self.hand_in(thing, name).await?),
        }
        Ok(())
    }

    /// Takes back the requests of a canceled job's executions, page by page. If the time is over before the end, the next attempt
    /// skips the requests that have ended, and goes on behind them.
    pub(crate) async fn job_canceled(&self, job_id: &str, deadline: Deadline) -> Result<LookCounts, String> {
        let mut counts = LookCounts { jobs: 1, ..LookCounts::default() };
        let mut token = None;
        loop {
            let (canceled, next) = self.control_plane.page(job_id, JobExecutionStatus::Canceled, token).await?;
            let begun: Vec<(String, Name)> = canceled
                .into_iter()
                .filter(|execution| execution.has_begun)
                .map(|Execution { thing, number, .. }| (thing, Name::Job { id: job_id.to_owned(), execution: number }))
                .collect();
            for executions in begun.chunks(AT_ONCE) {
                if deadline.left().is_zero() {
                    return Err("the job has more executions than there was time for".to_owned());
                }
                let known = self.look_up(executions.iter().map(|(thing, name)| (thing, name))).await?;
                for ((thing, name), known) in executions.iter().zip(known) {
                    if matches!(
                        known,
                        Known::Request(RequestSummary { status: Status::InProgress | Status::Scheduled, .. })
                    ) {
                        self.take_back(thing, name, "canceled").await?;
                        counts.found += 1;
                    }
                }
            }
            token = next;
            if token.is_none() {
                return Ok(counts);
            }
        }
    }

    /// States of these executions in the ledger, all looked up at once.
    async fn look_up<'a>(
        &self,
        executions: impl Iterator<Item = (&'a String, &'a Name)>,
    ) -> Result<Vec<Known>, String> {
        let mut look_ups = JoinSet::new();
        for (index, (thing, name)) in executions.enumerate() {
            let (service, thing, name) = (self.clone(), thing.clone(), name.clone());
            look_ups.spawn(async move { (index, service.known(&thing, &name).await) });
        }
        let mut found = look_ups.join_all().await;
        found.sort_by_key(|(index, _)| *index);
        found.into_iter().map(|(_, known)| known).collect()
    }

    async fn known(&self, thing: &str, name: &Name) -> Result<Known, String> {
        let item = self.clients.ledger.load(thing).await.map_err(|error| error.to_string())?;
        if let Some(known) = known(&item.device, name) {
            return Ok(known);
        }
        let summary = self.clients.ledger.final_summary(thing, name).await.map_err(|error| error.to_string())?;
        Ok(summary.map_or(Known::No, Known::Request))
    }

    /// Invokes operation-request for an execution as its rule does. Returns whether the execution is still queued.
    async fn hand_in(&self, thing: &str, name: &Name) -> Result<bool, String> {
        let Name::Job { id, execution } = name else { return Ok(false) };
        let described = self
            .clients
            .jobs
            .client()
            .await?
            .describe_job_execution()
            .thing_name(thing)
            .job_id(id)
            .set_execution_number(i64::try_from(*execution).ok())
            .include_job_document(true)
            .send()
            .await;
        let described = match described {
            Ok(output) => output.execution,
            Err(error) if matches!(error.code(), Some("ResourceNotFoundException" | "TerminalStateException")) => {
                return Ok(false);
            }
            Err(error) => return Err(lambda_support::aws::error_summary(&error)),
        };
        let Some(described) = described else { return Ok(false) };
        let is_queued = described.status().is_some_and(|status| status.as_str() == "QUEUED");
        let document: Option<Json> =
            described.job_document.as_deref().and_then(|document| serde_json::from_str(document).ok());
        let Some(event) = document
            .filter(|_| is_queued)
            .and_then(|document| event(thing, id, *execution, described.queued_at, document.get("lwm2m")?))
        else {
            return Ok(false);
        };
        self.invoke(&event).await?;
        tracing::info!(thing, job = %name, "execution found that nobody was told of");
        tokio::time::sleep(PAUSE).await;
        Ok(true)
    }

    /// Has operation-request take back the request of an execution that is over.
    pub(crate) async fn take_back(&self, thing: &str, name: &Name, how: &str) -> Result<(), String> {
        let Name::Job { id, execution } = name else { return Ok(()) };
        self.invoke(&json!({"thingName": thing, "jobId": id, "executionNumber": execution, "jobOver": how})).await
    }

    async fn invoke(&self, event: &Json) -> Result<(), String> {
        let invoked = self
            .clients
            .lambda
            .invoke()
            .function_name(&self.settings.operation_request)
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(event.to_string()))
            .send()
            .await;
        invoked.map(drop).map_err(|error| lambda_support::aws::error_summary(&error))
    }
}

/// State of an execution in the device's item; none where only the history may have it.
fn known(device: &Device, name: &Name) -> Option<Known> {
    if let Some(record) = device.find(name) {
        return Some(Known::Request(RequestSummary::from_record(record)));
    }
    device.open().iter().any(|record| record.name.is_of_job()).then_some(Known::Waits)
}

/// Event in the form in which the rule passes on a notification.
fn event(thing: &str, job_id: &str, execution: u64, queued_at: i64, request: &Json) -> Option<Json> {
    let mut event = json!({"thingName": thing, "jobId": job_id, "executionNumber": execution, "timestamp": queued_at});
    for field in requests::FIELDS {
        if let Some(value) = request.get(field) {
            event.as_object_mut()?.insert(field.to_owned(), value.clone());
        }
    }
    Some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queued_execution_has_a_request_or_waits_or_is_unknown() {
        let device = |name: &str| -> Device {
            serde_json::from_value(json!({"o": [{"n": name, "o": "read", "s": "S", "z": 1}]})).unwrap()
        };
        let name = Name::Job { id: "x".to_owned(), execution: 2 };
        assert!(
            matches!(known(&device("job:x:2"), &name), Some(Known::Request(summary)) if summary.status == Status::Scheduled)
        );
        for open in ["job:x:1", "job:y:1"] {
            assert_eq!(known(&device(open), &name), Some(Known::Waits), "{open}");
        }
        let of_shadow: Device =
            serde_json::from_value(json!({"o": [{"n": 17, "o": "read", "s": "S", "z": 1}]})).unwrap();
        assert_eq!(known(&of_shadow, &name), None);
    }

    #[test]
    fn an_execution_that_was_found_has_the_event_of_the_rule() {
        let document = json!({"operation": "read", "keys": ["Device"], "more": 1});
        let expected = json!({
            "thingName": "a", "jobId": "x", "executionNumber": 2, "timestamp": 5, "operation": "read", "keys": ["Device"],
        });
        assert_eq!(event("a", "x", 2, 5, &document), Some(expected));
        assert!(event("a", "x", 2, 5, &json!("read")).is_some(), "its answer says that there is no operation");
    }
}
