//! Hands a request that this run holds to Coiote, and records the outcome.

use std::time::Instant;

use lambda_runtime::Diagnostic;
use lambda_support::now;
use ledger::Item;
use lwm2m::Task;
use requests::{
    Answer, DueAction, Event, Millis, Name, NotHandedOver, NotWoken, Reason, Status, Verdict, code, has_result,
};
use tracing::Instrument;

use crate::body::Kept;
use crate::forward::{Created, Device};
use crate::forward_error::ForwardError;
use crate::incoming::{Content, Parsed};
use crate::invocation::Invocation;
use crate::logging::{log_outcome, record_name, request_span};

/// Pause before a request is handed over again; it doubles with each try.
pub(crate) const FIRST_PAUSE: Millis = 30_000;

const LONGEST_PAUSE: Millis = 15 * 60_000;

/// A task at Coiote whose request the ledger does not show as scheduled yet.
#[derive(Debug, Clone)]
pub(crate) struct Unrecorded {
    name: Name,
    /// Mark of the run that created the task: only that run may record it.
    mark: String,
    created: Created,
}

/// A request that this run holds.
pub(crate) struct Held<'a> {
    pub(crate) name: &'a Name,
    pub(crate) task: &'a Task,
    pub(crate) notice: Option<Reason>,
    /// The event, where the ledger does not keep it yet.
    pub(crate) body: Option<&'a str>,
}

impl Invocation<'_> {
    /// Hands over the device's writes that waited for an older one which is at Coiote now. None begins in the second half of the
    /// run's time: a hand-over that runs out of time leaves its device asleep, and `reconcile` finds the others, which are due.
    pub(crate) async fn hand_over_waiting_writes(&self, mut item: Item) -> Result<(), Diagnostic> {
        while self.run.deadline.left() > self.begun.elapsed() {
            let Some(name) = next_waiting_write(&item) else { return Ok(()) };
            // A request whose body cannot be read waits on.
            let Ok(Some(kept)) = self.kept(&name).await else { return Ok(()) };
            (item, _) = self.hand_over_kept(item, &name, kept).await?;
        }
        Ok(())
    }

    /// Takes a request that waited and hands it over, with log lines and metrics of the request's own event.
    pub(crate) async fn hand_over_kept(
        &self,
        item: Item,
        name: &Name,
        kept: Kept,
    ) -> Result<(Item, Answer), Diagnostic> {
        let Kept { body, envelope, content } = kept;
        let span = request_span(self.run, Some(&envelope));
        span.record("operation", content.known_operation());
        record_name(&span, name);
        let body = body.get();
        let of_kept = Invocation { service: self.service, run: self.run, begun: Instant::now(), envelope, body };
        let handed = of_kept.take_and_hand_over(item, name, &content).instrument(span.clone()).await;
        let outcome = handed.as_ref().map(|(_, answer)| answer.clone()).map_err(Clone::clone);
        span.in_scope(|| log_outcome(&of_kept, &outcome, None));
        handed
    }

    async fn take_and_hand_over(
        &self,
        item: Item,
        name: &Name,
        content: &Content,
    ) -> Result<(Item, Answer), Diagnostic> {
        let (item, verdict) = self.apply(item, &[self.take(name)]).await?;
        let recorded = |item: Item| {
            let answer = self.recorded(&item, name);
            Ok((item, answer))
        };
        match verdict {
            Verdict::Send => {}
            Verdict::Duplicate(status) => return Ok((item, self.duplicate(name, status))),
            Verdict::Ended(_) => {
                self.drop_body(name).await;
                return recorded(item);
            }
            _ => return recorded(item),
        }
        let (task, notice) = match &content.parsed {
            Ok(Parsed::Operation { operation, notice }) => (Task::from(operation), notice.clone()),
            Ok(Parsed::Cancel) => return recorded(item),
            // It was valid when it was claimed; the objects' descriptions of this version say otherwise.
            Err(reason) => {
                let not_done = Event::NotHandedOver(self.not_done(name, reason.clone()));
                let (item, _) = self.apply(item, &[not_done]).await?;
                return recorded(item);
            }
        };
        let device = self.service.forwarder.find(self.delivery(&content.operation)).await;
        self.hand_over(item, Held { name, task: &task, notice, body: None }, device).await
    }

    /// Creates the task and records the outcome. A request that can be tried again waits with its body.
    pub(crate) async fn hand_over(
        &self,
        item: Item,
        Held { name, task, notice, body }: Held<'_>,
        device: Result<Device, ForwardError>,
    ) -> Result<(Item, Answer), Diagnostic> {
        tracing::debug!(?task, "task");
        let Some(record) = item.device.find(name) else { return Ok((item, self.answer(Status::Ignored))) };
        let (tries, delivery) = (record.tries, self.delivery(&record.operation));
        let created = match device {
            Ok(device) => self.service.forwarder.create(&device, task, delivery).await,
            Err(error) => Err(error),
        };
        let mut is_kept = body.is_none();
        let circuit = &self.service.circuit;
        let (item, answer) = match created {
            Ok(created) => {
                let device_id = created.device_id.clone();
                let unrecorded = Unrecorded { name: name.clone(), mark: self.run.mark.clone(), created };
                let scheduled = self.record_scheduled(item, unrecorded, notice).await?;
                self.remember_device(&device_id).await;
                self.try_within_reserve(circuit.answered(self.ledger())).await;
                scheduled
            }
            Err(error) => {
                let not_done = self.not_handed_over(name, tries, &error);
                let is_over = not_done.may_have_reached_coiote && !delivery.may_run_twice;
                if let (Some(body), Some(_), false) = (body, not_done.retry_at, is_over) {
                    self.keep_body(&item, name, body).await?;
                    is_kept = true;
                }
                let (item, _) = self.apply(item, &[Event::NotHandedOver(not_done)]).await?;
                // The request comes first: recording it may use up the rest of the time.
                if error.outage().is_some() {
                    self.try_within_reserve(circuit.failed(self.ledger())).await;
                }
                let answer = self.recorded(&item, name);
                (item, answer)
            }
        };
        if is_kept && answer.status != Status::InProgress {
            self.drop_body(name).await;
        }
        Ok((item, answer))
    }

    /// Event of a request whose hand-over failed, after so many earlier tries.
    fn not_handed_over(&self, name: &Name, tries: u32, error: &ForwardError) -> NotHandedOver {
        let wished = error.outage().and_then(coiote_access::Error::retry_after).unwrap_or_default();
        let pause = pause(tries).max(u64::try_from(wished.as_millis()).unwrap_or(LONGEST_PAUSE));
        let not_done = self.not_done(name, Reason::new(error.code(), error.to_string()));
        NotHandedOver {
            may_have_reached_coiote: matches!(error, ForwardError::MayBeCreated(_)),
            retry_at: error.is_retryable().then_some(not_done.at.saturating_add(pause)),
            ..not_done
        }
    }

    /// Records that Coiote has the task, and wakes the device.
    pub(crate) async fn record_scheduled(
        &self,
        item: Item,
        unrecorded: Unrecorded,
        notice: Option<Reason>,
    ) -> Result<(Item, Answer), Diagnostic> {
        let Unrecorded { name, mark, created } = &unrecorded;
        let operation = item.device.find(name).map(|record| record.operation.clone()).unwrap_or_default();
        let event = requests::Created {
            name: name.clone(),
            mark: mark.clone(),
            task_id: created.task_id.clone(),
            handed_over_at: created.handed_over_at,
            call_took: created.call_took,
            sent_at: created.sent_at,
            at: now(),
            notice,
            is_followed: self.service.settings.reads_reports || has_result(&operation),
        };
        self.service.unrecorded.insert(self.run.request_id.clone(), unrecorded.clone());
        let recorded = self.apply(item, &[Event::Created(event)]).await;
        let not_woken = self.service.forwarder.wake(created, self.run.deadline).await;
        let (mut item, _) = recorded?;
        self.service.unrecorded.remove(&self.run.request_id);
        if let Some(reason) = not_woken {
            let not_woken = NotWoken { name: name.clone(), task_id: created.task_id.clone(), reason, at: now() };
            // If this fails as well, the device runs the task when it next connects, and its author is not told.
            if let Ok((with_notice, _)) = self.apply(item.clone(), &[Event::NotWoken(not_woken)]).await {
                item = with_notice;
            }
        }
        let answer = self.recorded(&item, name);
        Ok((item, answer))
    }

    /// Notes which thing the device is, so that Coiote's reports about it find its requests. Where that fails, the device's next
    /// request does it, and reports are asked for one by one until then.
    async fn remember_device(&self, device_id: &str) {
        let thing = self.thing().as_str();
        let known_devices = &self.service.known_devices;
        if device_id == thing || known_devices.get(device_id).as_deref() == Some(thing) {
            return;
        }
        match self.within_reserve(self.ledger().remember_device(device_id, thing)).await {
            Ok(()) => known_devices.insert(device_id.to_owned(), thing.to_owned()),
            Err(Diagnostic { error_type: code, error_message: reason }) => {
                tracing::warn!(device_id, code, reason, "the device's thing was not noted");
            }
        }
    }
}

/// The next write that waited for an older one and is due.
fn next_waiting_write(item: &Item) -> Option<Name> {
    let waited = |name: &Name| {
        let reason = item.device.find(name).and_then(|record| record.reason.as_ref());
        reason.is_some_and(|reason| reason.code == code::WAITS_FOR_OLDER_WRITE)
    };
    item.device.due_actions(now()).into_iter().find_map(|wanted| match wanted {
        DueAction::HandOver { name } if waited(&name) => Some(name),
        _ => None,
    })
}

fn pause(tries: u32) -> Millis {
    FIRST_PAUSE.saturating_mul(1 << tries.min(10)).min(LONGEST_PAUSE)
}
