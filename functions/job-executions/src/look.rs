//! Looks for queued executions without a request, because their notification was lost or a foreign job stands before them; for
//! executions in progress whose request has ended; and for open requests of a canceled job.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_iot::types::JobExecutionStatus;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use lambda_support::{Deadline, now};
use ledger::RequestSummary;
use requests::{Device, Millis, Name};
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

use crate::control_plane::{Execution, Job};
use crate::handle::{LookCounts, NOT_LOOKED, Service};
use crate::update::Updated;

/// Executions that are looked up, or taken back, at once.
const AT_ONCE: usize = 16;

/// Pause after each execution that is handed in: this is as fast as AWS rolls out a job, a thousand per minute.
const PAUSE: Duration = Duration::from_millis(60);

/// Failures in a row that end the look at executions of a status.
const IN_A_ROW: usize = 3;

/// Things with a queued execution of which a look reads the record. Where a job is behind another one, all of them wait for that.
const QUEUED_AT_MOST: usize = 10_000;

/// Executions in progress of which a look reads the records. Most of them wait for their devices, for days, and each read costs.
const BEGUN_AT_MOST: usize = 1_000;

/// State in the ledger of an execution.
#[derive(Debug, PartialEq)]
enum Known {
    /// It has no request. If it is queued, operation-request was not invoked for it.
    No,
    /// It has a request, of which AWS may not show the status yet.
    Request(RequestSummary),
    /// It has to wait: another job's request of the thing is open.
    Waits,
}

impl Service {
    /// Looks at the earliest execution of each thing that has been queued for longer than a notification takes, and then at
    /// executions in progress whose last update is as long ago.
    pub(crate) async fn look(&self, deadline: Deadline) -> Result<LookCounts, String> {
        let at = now();
        let by = at.saturating_sub(self.settings.notified_within);
        let (jobs, is_all) = self.control_plane.jobs(half(deadline)).await?;
        let mut counts = LookCounts { jobs: jobs.len(), is_cut_short: !is_all, ..LookCounts::default() };
        let with_queued: Vec<&Job> = jobs.iter().filter(|job| job.has_queued).collect();
        let with_begun: Vec<&Job> = jobs.iter().filter(|job| job.has_begun).collect();
        // Queued ones may take all of the time, look after look.
        let until = if with_begun.is_empty() { deadline } else { half(deadline) };
        let of_queued = async {
            let queued = self.list(&with_queued, JobExecutionStatus::Queued, half(until), &mut counts).await?;
            let queued = first_of_each_thing(queued.into_iter().filter(|execution| execution.queued_at <= by));
            counts.queued = queued.len();
            self.process_all(&share(queued, QUEUED_AT_MOST, at), until, &mut counts).await
        };
        let of_queued = of_queued.await;
        let mut begun = self.list(&with_begun, JobExecutionStatus::InProgress, half(deadline), &mut counts).await?;
        begun.retain(|execution| execution.updated_at <= by);
        counts.in_progress = begun.len();
        self.process_all(&share(begun, BEGUN_AT_MOST, at), deadline, &mut counts).await?;
        of_queued.map(|()| counts)
    }

    /// Lists the executions of these jobs with that status, as many as there is time for.
    async fn list(
        &self,
        jobs: &[&Job],
        status: JobExecutionStatus,
        deadline: Deadline,
        counts: &mut LookCounts,
    ) -> Result<Vec<Execution>, String> {
        let mut found = Vec::new();
        for job in jobs {
            let (executions, is_all) = self.control_plane.executions(&job.id, &status, deadline).await?;
            counts.is_cut_short |= !is_all;
            found.extend(executions);
        }
        Ok(found)
    }

    async fn process_all(
        &self,
        executions: &[Execution],
        deadline: Deadline,
        counts: &mut LookCounts,
    ) -> Result<(), String> {
        let mut failures = Failures::default();
        for executions in executions.chunks(AT_ONCE) {
            let known = at_once(executions, |execution| {
                let service = self.clone();
                async move { service.known(&execution).await }
            });
            for (execution, known) in executions.iter().zip(known.await) {
                if deadline.left().is_zero() {
                    counts.is_cut_short = true;
                    return Ok(());
                }
                let done = match known {
                    Ok(known) => self.process(execution, known, counts).await.map_err(Failure::Call),
                    Err(error) => Err(Failure::Ledger(error)),
                };
                failures.note(execution, done, counts)?;
            }
        }
        Ok(())
    }

    async fn process(&self, execution: &Execution, known: Known, counts: &mut LookCounts) -> Result<(), String> {
        let Execution { thing, name, has_begun, .. } = execution;
        match known {
            Known::Request(summary) if !has_begun || !summary.is_open() => {
                let updated = self.update_execution(thing, name, &summary).await?;
                counts.untold += usize::from(matches!(updated, Updated::To(_)));
            }
            Known::No if !has_begun => counts.found += usize::from(self.hand_in(thing, name).await?),
            Known::Waits | Known::Request(_) | Known::No => {}
        }
        Ok(())
    }

    /// Takes back the requests of a canceled job's executions, page by page. If the time is over before the end, the next attempt
    /// skips the requests that have ended, and goes on behind them.
    pub(crate) async fn job_canceled(&self, job_id: &str, deadline: Deadline) -> Result<LookCounts, String> {
        let mut counts = LookCounts { jobs: 1, ..LookCounts::default() };
        let mut failures = Failures::default();
        let mut token = None;
        loop {
            let (mut begun, next) = self.control_plane.page(job_id, &JobExecutionStatus::Canceled, token).await?;
            begun.retain(|execution| execution.has_begun);
            for executions in begun.chunks(AT_ONCE) {
                if deadline.left().is_zero() {
                    return Err("the job has more executions than there was time for".to_owned());
                }
                let taken_back = at_once(executions, |execution| self.clone().take_back_open(execution)).await;
                for (execution, is_taken_back) in executions.iter().zip(taken_back) {
                    counts.found += usize::from(matches!(is_taken_back, Ok(true)));
                    failures.note(execution, is_taken_back.map(drop), &mut counts)?;
                }
            }
            token = next;
            if token.is_none() && counts.failed > 0 {
                return Err(format!("{} requests of the job could not be canceled", counts.failed));
            }
            if token.is_none() {
                return Ok(counts);
            }
        }
    }

    /// Takes back the request of a canceled execution if it is open. Returns whether it was.
    async fn take_back_open(self, execution: Execution) -> Result<bool, Failure> {
        let Execution { thing, name, .. } = &execution;
        match self.known(&execution).await.map_err(Failure::Ledger)? {
            Known::Request(summary) if summary.is_open() => {
                self.take_back(thing, name, &summary, "canceled").await.map(|()| true).map_err(Failure::Call)
            }
            Known::Request(_) | Known::Waits | Known::No => Ok(false),
        }
    }

    /// State of an execution in the ledger.
    async fn known(&self, execution: &Execution) -> Result<Known, ledger::Error> {
        let Execution { thing, name, .. } = execution;
        let item = self.clients.ledger.load(thing).await?;
        if let Some(known) = known(&item.device, execution) {
            return Ok(known);
        }
        let summary = self.clients.ledger.final_summary(thing, name).await?;
        Ok(summary.filter(|summary| is_of(execution, summary.requested_at)).map_or(Known::No, Known::Request))
    }

    /// Invokes operation-request for an execution as its rule does. Returns whether the execution is still queued.
    async fn hand_in(&self, thing: &str, name: &Name) -> Result<bool, String> {
        let Name::Job { id, execution } = name else { return Ok(false) };
        let Some(described) = self.clients.jobs.describe(thing, id, *execution, true).await? else { return Ok(false) };
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

    /// Has operation-request take back the request of an execution that is over, and not a later one of the same name.
    pub(crate) async fn take_back(
        &self,
        thing: &str,
        name: &Name,
        summary: &RequestSummary,
        how: &str,
    ) -> Result<(), String> {
        let Name::Job { id, execution } = name else { return Ok(()) };
        let event = json!({
            "thingName": thing, "jobId": id, "executionNumber": execution, "timestamp": summary.requested_at, "jobOver": how,
        });
        self.invoke(&event).await
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

/// Failure that concerns an execution.
#[derive(Debug)]
enum Failure {
    /// Its thing's item could not be read.
    Ledger(ledger::Error),
    /// A call for it failed, for this reason.
    Call(String),
}

/// Failures of executions that are processed one after the other.
#[derive(Debug, Default)]
struct Failures {
    in_a_row: usize,
}

impl Failures {
    /// Counts and logs a failure, which does not keep the executions behind it. After several in a row these would fail as well,
    /// and the last one is the error; but an item that cannot be read says nothing about the others.
    fn note(
        &mut self,
        Execution { thing, name, .. }: &Execution,
        done: Result<(), Failure>,
        counts: &mut LookCounts,
    ) -> Result<(), String> {
        let (code, reason) = match done {
            Ok(()) => {
                self.in_a_row = 0;
                return Ok(());
            }
            Err(Failure::Ledger(error)) => {
                self.in_a_row += usize::from(!matches!(error, ledger::Error::Unreadable(_)));
                metrics::counter!("Failures", "code" => error.code()).increment(1);
                (error.code(), error.to_string())
            }
            Err(Failure::Call(reason)) => {
                self.in_a_row += 1;
                (NOT_LOOKED, reason)
            }
        };
        counts.failed += 1;
        if self.in_a_row >= IN_A_ROW {
            return Err(reason);
        }
        tracing::warn!(thing, job = %name, code, reason, "not done, for now");
        Ok(())
    }
}

/// Results of a call for each execution, in their order. All calls are made at once.
async fn at_once<F>(executions: &[Execution], call: impl Fn(Execution) -> F) -> Vec<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let mut calls = JoinSet::new();
    for (index, execution) in executions.iter().cloned().enumerate() {
        let called = call(execution);
        calls.spawn(async move { (index, called.await) });
    }
    let mut results = calls.join_all().await;
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Half of the time that is left.
fn half(deadline: Deadline) -> Deadline {
    Deadline::within(deadline.left() / 2)
}

/// The execution of each thing that was queued first, in the order in which they were queued.
fn first_of_each_thing(queued: impl Iterator<Item = Execution>) -> Vec<Execution> {
    let mut first: HashMap<String, Execution> = HashMap::new();
    for execution in queued {
        let earlier = first.get(&execution.thing);
        if earlier.is_none_or(|earlier| execution.queued_at < earlier.queued_at) {
            first.insert(execution.thing.clone(), execution);
        }
    }
    let mut first: Vec<Execution> = first.into_values().collect();
    first.sort_by_key(|execution| execution.queued_at);
    first
}

/// State of an execution in the device's item; none where only the history may have it.
fn known(device: &Device, execution: &Execution) -> Option<Known> {
    let record = device.find(&execution.name).filter(|record| is_of(execution, record.requested_at));
    if let Some(record) = record {
        return Some(Known::Request(RequestSummary::from_record(record)));
    }
    let has_to_wait = !execution.has_begun && device.open().iter().any(|record| record.name.is_of_job());
    has_to_wait.then_some(Known::Waits)
}

/// Whether the request of the execution's name that was made at that time is the execution's, and not that of a job with the same
/// id that was deleted.
fn is_of(execution: &Execution, requested_at: u64) -> bool {
    !execution.name.is_reused(requested_at, execution.queued_at / 1_000)
}

/// At most so many of these executions, in their order. Which ones depends on the time, so that every one has its turn.
fn share(executions: Vec<Execution>, at_most: usize, at: Millis) -> Vec<Execution> {
    let shares = executions.len().div_ceil(at_most).max(1);
    let turn = usize::try_from(at).unwrap_or(0) % shares;
    executions.into_iter().skip(turn).step_by(shares).collect()
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
    use std::collections::HashSet;

    use super::*;

    fn execution(name: &str, queued_at: u64, has_begun: bool) -> Execution {
        let name = Name::parse(name);
        Execution { thing: "a".to_owned(), name, queued_at: queued_at * 1_000, updated_at: 0, has_begun }
    }

    fn device(list: &str, name: &str, state: &str, requested_at: u64) -> Device {
        let record = json!({"n": name, "o": "read", "s": state, "q": requested_at, "z": 1});
        serde_json::from_value(json!({list: [record]})).unwrap()
    }

    #[test]
    fn a_queued_execution_has_a_request_or_waits_or_is_unknown() {
        let queued = execution("job:x:2", 100, false);
        assert!(
            matches!(known(&device("o", "job:x:2", "S", 100), &queued), Some(Known::Request(summary)) if summary.is_open())
        );
        for open in ["job:x:1", "job:y:1"] {
            assert_eq!(known(&device("o", open, "S", 90), &queued), Some(Known::Waits), "{open}");
            let begun = Execution { has_begun: true, ..queued.clone() };
            assert_eq!(known(&device("o", open, "S", 90), &begun), None, "{open}");
        }
        let of_shadow: Device =
            serde_json::from_value(json!({"o": [{"n": 17, "o": "read", "s": "S", "z": 1}]})).unwrap();
        assert_eq!(known(&of_shadow, &queued), None);
    }

    #[test]
    fn a_request_of_a_deleted_job_of_the_same_id_is_not_the_executions() {
        let again = execution("job:x:1", 160, false);
        assert_eq!(known(&device("e", "job:x:1", "E", 100), &again), None);
        assert_eq!(known(&device("o", "job:x:1", "S", 100), &again), Some(Known::Waits), "until that one has ended");
        // AWS rounds some times, and a request may not have one.
        for requested_at in [158, 160, 162, 0] {
            let known = known(&device("e", "job:x:1", "E", requested_at), &again);
            assert!(matches!(known, Some(Known::Request(summary)) if !summary.is_open()), "{requested_at}");
        }
    }

    #[test]
    fn every_execution_has_its_turn() {
        for at_most in [BEGUN_AT_MOST, QUEUED_AT_MOST] {
            for count in [0, 1, at_most, at_most + 1, 5 * at_most - 7] {
                let all: Vec<Execution> =
                    (0..count).map(|number| execution(&format!("job:x:{number}"), number as u64, true)).collect();
                let mut seen = HashSet::new();
                for at in 0..count.div_ceil(at_most).max(1) {
                    let looked_at = share(all.clone(), at_most, at as u64);
                    assert!(looked_at.len() <= at_most);
                    assert!(looked_at.is_sorted_by_key(|execution| execution.queued_at));
                    seen.extend(looked_at.into_iter().map(|execution| execution.name));
                }
                assert_eq!(seen.len(), count);
            }
        }
    }

    #[test]
    fn failures_in_a_row_end_a_look_but_not_items_that_cannot_be_read() {
        let call = || Err(Failure::Call("throttled".to_owned()));
        let away = || Err(Failure::Ledger(ledger::Error::Unavailable("away".to_owned())));
        let unreadable = || Err(Failure::Ledger(ledger::Error::Unreadable("of another version".to_owned())));
        let is_ended_by = |all: Vec<Result<(), Failure>>| {
            let (mut failures, mut counts) = (Failures::default(), LookCounts::default());
            let expected = all.iter().filter(|done| done.is_err()).count();
            let execution = execution("job:x:1", 1, false);
            let is_ended = all.into_iter().any(|done| failures.note(&execution, done, &mut counts).is_err());
            assert_eq!(counts.failed, expected);
            is_ended
        };
        assert!(is_ended_by(vec![call(), away(), call()]));
        assert!(is_ended_by(vec![away(), unreadable(), away(), away()]));
        assert!(!is_ended_by(vec![call(), call(), Ok(()), away(), away()]));
        assert!(!is_ended_by((0..20).map(|_| unreadable()).collect()));
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
