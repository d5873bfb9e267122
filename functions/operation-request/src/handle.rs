//! Handles an event: the order of the steps.

use std::time::Instant;

use bounded_cache::BoundedCache;
use lambda_runtime::LambdaEvent;
use lambda_support::{diagnostic, elapsed_ms, now};
use ledger::{Item, Ledger};
use lwm2m::{Strictness, Task};
use requests::{Cancel, Event, Millis, Name, State, Status, Verdict};
use serde_json::value::RawValue;
use tracing::Instrument;

use crate::circuit::KnownCircuit;
use crate::claim::Claimed;
use crate::forward::Forwarder;
use crate::hand_over::{Held, Unrecorded};
use crate::incoming::{Content, Incoming, JobOver, Parsed, Purpose};
use crate::invocation::{Invocation, Outcome, Run};
use crate::logging::{log_outcome, record_purpose, request_span};

/// Code of a request that an earlier attempt of the same invocation may still be dealing with.
pub(crate) const BUSY: &str = "EARLIER_ATTEMPT_UNDER_WAY";

/// Settings from the template.
pub(crate) struct Settings {
    pub(crate) strictness: Strictness,
    /// Time after it was made in which a request may reach a device.
    pub(crate) lifetime: Millis,
    /// Whether `reconcile` reads Coiote's reports.
    pub(crate) reads_reports: bool,
}

/// State of the execution environment, across invocations.
pub(crate) struct Service {
    pub(crate) forwarder: Forwarder,
    pub(crate) ledger: Ledger,
    pub(crate) settings: Settings,
    pub(crate) circuit: KnownCircuit,
    /// Tasks that could not be recorded in the ledger, by request id: the next attempt records them, and sends nothing.
    pub(crate) unrecorded: BoundedCache<String, Unrecorded>,
    /// Things by their device's id, as far as the ledger has them.
    pub(crate) known_devices: BoundedCache<String, String>,
}

impl Service {
    pub(crate) fn new(forwarder: Forwarder, ledger: Ledger, settings: Settings) -> Service {
        Service {
            forwarder,
            ledger,
            settings,
            circuit: KnownCircuit::default(),
            unrecorded: BoundedCache::default(),
            known_devices: BoundedCache::default(),
        }
    }

    /// Begins to read the secret before the first event comes.
    pub(crate) fn warm_up(&self) {
        self.forwarder.warm_up();
    }

    /// Answers an event. A wrong request is answered with its reason, and a failure that may get better waits in the ledger; an
    /// outcome that cannot be recorded there is an error of the function.
    pub(crate) async fn event(&self, event: LambdaEvent<Box<RawValue>>) -> Outcome {
        let (begun, run) = (Instant::now(), Run::of(&event));
        let incoming = Incoming::parse(&event.payload, self.settings.strictness);
        let span = request_span(&run, incoming.as_ref().ok().map(|incoming| &incoming.envelope));
        if let Ok(incoming) = &incoming {
            record_purpose(&span, &incoming.purpose);
        }
        let answered = async {
            let Incoming { envelope, purpose } = incoming.map_err(|reason| {
                let (status, code) = (Status::Rejected.as_str(), "EVENT_INVALID");
                tracing::error!(status, code, reason, duration_ms = elapsed_ms(begun), "event refused");
                metrics::counter!("Failures", "code" => code).increment(1);
                diagnostic(code, reason)
            })?;
            let invocation = Invocation { service: self, run: &run, begun, envelope, body: event.payload.get() };
            let findings = purpose.findings().cloned();
            let outcome = match purpose {
                Purpose::DesiredCleared => invocation.desired_cleared().await,
                Purpose::HandOver(name) => return invocation.due(&name).await,
                Purpose::JobOver(over) => invocation.job_over(&over).await,
                Purpose::Request(content) => invocation.request(&content).await,
            };
            log_outcome(&invocation, &outcome, findings.as_ref());
            outcome
        };
        let answered = answered.instrument(span).await;
        self.forwarder.wait_until_idle(run.deadline).await;
        answered
    }
}

impl Invocation<'_> {
    /// Claims a request and, where the claim says so, hands it over.
    async fn request(&self, content: &Content) -> Outcome {
        tracing::Span::current().record("operation", content.known_operation());
        let claim = self.new_claim(content);
        let name = claim.name.clone();
        if let Some(unrecorded) = self.service.unrecorded.get(&self.run.request_id) {
            let item = self.load().await?;
            return self.record_scheduled(item, unrecorded, None).await.map(|(_, answer)| answer);
        }
        let Claimed { item, verdict, device } = self.claim_and_find(content, claim).await?;
        match verdict {
            Verdict::Send => {
                let (Ok(Parsed::Operation { operation, notice }), Some(device)) = (&content.parsed, device) else {
                    return Ok(self.recorded(&item, &name));
                };
                let (task, notice) = (Task::from(operation), notice.clone());
                let held = Held { name: &name, task: &task, notice, body: Some(self.body) };
                let (item, answer) = self.hand_over(item, held, device).await?;
                self.hand_over_waiting_writes(item).await?;
                Ok(answer)
            }
            Verdict::Wait => {
                self.keep_body(&item, &name, self.body).await?;
                let (item, _) = self.apply(item, &[]).await?;
                Ok(self.recorded(&item, &name))
            }
            Verdict::Duplicate(status) => {
                // The run before may have ended before it did this.
                self.drop_bodies_of_canceled(&item, content, &name).await;
                Ok(self.duplicate(&name, status))
            }
            Verdict::Busy => {
                let why = "an earlier attempt at this request, or an older request of its name, may still be at work";
                Err(diagnostic(BUSY, why))
            }
            Verdict::NeedsHistory | Verdict::Unchanged | Verdict::Changed | Verdict::Ended(_) | Verdict::Fold(_) => {
                // It may wait although this run has not been told so: the answer to its write was lost, and the write repeated.
                let waits = item.device.find(&name).is_some_and(|record| record.state == State::Waiting);
                if waits && matches!(content.parsed, Ok(Parsed::Operation { .. })) {
                    self.keep_body(&item, &name, self.body).await?;
                }
                let (item, _) = self.apply(item, &[]).await?;
                self.drop_bodies_of_canceled(&item, content, &name).await;
                Ok(self.recorded(&item, &name))
            }
        }
    }

    /// Removes the bodies of the requests that a cancelRequest has taken back.
    async fn drop_bodies_of_canceled(&self, item: &Item, content: &Content, name: &Name) {
        if matches!(content.parsed, Ok(Parsed::Cancel)) {
            let canceled = item.device.find(name).map(|record| record.keys.as_slice()).unwrap_or_default();
            let canceled: Vec<Name> = canceled.iter().map(|name| Name::parse(name)).collect();
            self.drop_bodies_of_ended(item, &canceled).await;
        }
    }

    /// Hands over a request that waits, and the device's writes that waited for it. It writes the last log line itself: a
    /// request that is handed over has the line of its own event.
    async fn due(&self, name: &Name) -> Outcome {
        let loaded = async {
            let item = self.load().await?;
            Ok((item, self.kept(name).await?))
        };
        let outcome = match loaded.await {
            Ok((item, Some(kept))) => {
                let (item, answer) = self.hand_over_kept(item, name, kept).await?;
                self.hand_over_waiting_writes(item).await?;
                return Ok(answer);
            }
            Ok((item, None)) => self.without_body(item, name).await,
            Err(error) => Err(error),
        };
        log_outcome(self, &outcome, None);
        outcome
    }

    /// Notes that the latest request was removed from the shadow.
    async fn desired_cleared(&self) -> Outcome {
        if let Some(version) = self.envelope.version {
            let item = self.load().await?;
            self.apply(item, &[Event::DesiredCleared { version, at: now() }]).await?;
        }
        Ok(self.answer(Status::Ignored))
    }

    /// Takes back the request of a job's execution that is over, if no device has run it.
    async fn job_over(&self, over: &JobOver) -> Outcome {
        let item = self.load().await?;
        let covered = item.device.open().iter().filter(|record| over.covers(record));
        let names: Vec<Name> = covered.map(|record| record.name.clone()).collect();
        let at = now();
        let cancel = |name: &Name| Event::Cancel(Cancel { name: name.clone(), by: over.canceled_by.clone(), at });
        let Some(first) = names.first() else { return Ok(self.answer(Status::Ignored)) };
        let (item, _) = self.apply(item, &names.iter().map(cancel).collect::<Vec<_>>()).await?;
        self.drop_bodies_of_ended(&item, &names).await;
        Ok(self.recorded(&item, first))
    }
}
