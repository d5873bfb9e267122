//! From the event to the answer: the order of the steps.

use std::pin::pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bounded_cache::Memory;
use lambda_runtime::{Diagnostic, LambdaEvent};
use lambda_support::{Deadline, diagnostic, milliseconds, now};
use ledger::{Item, Ledger};
use lwm2m::{Strictness, Task};
use requests::{
    Answer, Cancel, Claim, Event, Millis, Name, Reason, Status, Take, Verdict, Wanted, has_result, may_run_twice,
};
use serde_json::value::RawValue;
use shadow::{Envelope, ThingName};
use tracing::Instrument;

use crate::asked::{Asked, Content, JobOver, Valid, What, known_operation};
use crate::circuit::KnownCircuit;
use crate::forward::{Created, Device, ForwardError, Forwarder};

/// How long after its time is over a run counts as ended: clocks differ.
const VOID_AFTER: Millis = 30_000;

/// Pause before a request is handed over again; it doubles with each try.
const FIRST_PAUSE: Millis = 30_000;

const LONGEST_PAUSE: Millis = 15 * 60_000;

/// After an interruption the event has so long to come again.
const BODY_MAY_TAKE: Millis = 10 * 60_000;

/// What the template makes of the function, beside its clients.
pub(crate) struct Settings {
    pub(crate) strictness: Strictness,
    /// How long after it was made a request may reach a device.
    pub(crate) lifetime: Millis,
    /// Whether anything reads Coiote's reports.
    pub(crate) reads_reports: bool,
}

/// Everything that outlives an invocation.
pub(crate) struct Service {
    forwarder: Forwarder,
    ledger: Ledger,
    settings: Settings,
    circuit: KnownCircuit,
    /// Tasks that could not be written into the ledger, by request id: the next attempt writes them, and sends nothing.
    unwritten: Memory<String, Unwritten>,
    /// Things by their device's id, where the ledger knows them.
    known_devices: Memory<String, String>,
}

/// A task whose request does not stand in the ledger as scheduled yet.
#[derive(Debug, Clone)]
struct Unwritten {
    name: Name,
    /// Mark of the run that created it: no other one's word counts.
    mark: String,
    created: Created,
}

/// One invocation.
struct Invocation<'a> {
    request_id: &'a str,
    trace_id: Option<&'a str>,
    begun: Instant,
    deadline: Deadline,
    /// When this run has surely ended.
    void_at: Millis,
    mark: String,
    envelope: Envelope,
    body: &'a str,
}

/// A request that waits in the ledger, as it came.
struct Kept {
    body: Box<RawValue>,
    envelope: Envelope,
    content: Box<Content>,
}

/// A request that is ours to hand over.
struct HandOver<'a> {
    name: &'a Name,
    task: &'a Task,
    notice: Option<Reason>,
    /// The event, where the ledger does not keep it yet.
    body: Option<&'a str>,
}

/// What an invocation comes to; an error has Lambda try again, and keep the event in the end.
type Ended = Result<Answer, Diagnostic>;

impl Invocation<'_> {
    fn thing(&self) -> &ThingName {
        &self.envelope.thing
    }

    fn answer(&self, status: Status) -> Answer {
        let thing = self.thing().as_str();
        Answer { client_token: self.envelope.client_token.clone(), ..Answer::new(thing, status, self.request_id) }
    }

    /// What the ledger says of a request.
    fn recorded(&self, item: &Item, name: &Name) -> Answer {
        let record = item.device.find(name);
        record.map_or_else(|| self.answer(Status::Ignored), |r| Answer::of(self.thing().as_str(), r, self.request_id))
    }

    fn duplicate(&self, name: &Name, status: Status) -> Answer {
        let why = format!("this request came before and is {}; it is not sent twice", status.as_str());
        let answer = Answer { request: Some(name.clone()), ..self.answer(Status::Ignored) };
        answer.because(Reason::new(requests::code::DUPLICATE, why))
    }
}

/// Codes of failures that only the request's author can do something about.
const AUTHORS: [&str; 2] = [requests::code::OVERTAKEN, requests::code::NOTHING_TO_CANCEL];

/// Code of a request that an earlier attempt of the same invocation may still be dealing with.
const BUSY: &str = "EARLIER_ATTEMPT_UNDER_WAY";

impl Service {
    pub(crate) fn new(forwarder: Forwarder, ledger: Ledger, settings: Settings) -> Service {
        Service {
            forwarder,
            ledger,
            settings,
            circuit: KnownCircuit::default(),
            unwritten: Memory::default(),
            known_devices: Memory::default(),
        }
    }

    /// Begins what can be done before the first event is there.
    pub(crate) fn warm_up(&self) {
        self.forwarder.warm_up();
    }

    /// Answers an event. What is wrong with a request is its answer, and what may get better waits in the ledger; only what
    /// cannot be recorded there is an error of the function.
    pub(crate) async fn event(&self, event: LambdaEvent<Box<RawValue>>) -> Ended {
        let LambdaEvent { payload, context } = event;
        let (request_id, begun, deadline) = (context.request_id.as_str(), Instant::now(), Deadline::of(&context));
        let trace_id = lambda_support::trace_id(&context);
        let opened = Asked::open(&payload, self.settings.strictness);
        let span = span(request_id, trace_id, opened.as_ref().ok().map(|asked| &asked.envelope));
        match opened.as_ref().map(|asked| &asked.what) {
            Ok(What::Due(name)) => record_name(&span, name),
            Ok(What::Request(content)) => content.job.iter().for_each(|name| record_name(&span, name)),
            Ok(What::JobOver(over)) => {
                span.record("job", over.job_id.as_str());
            }
            Ok(What::Nothing) | Err(_) => {}
        }
        let answered = async {
            let asked = opened.map_err(|reason| {
                let (status, code) = (Status::Rejected.as_str(), "EVENT_INVALID");
                tracing::error!(status, code, reason, duration_ms = milliseconds(begun), "event refused");
                metrics::counter!("Failures", "code" => code).increment(1);
                diagnostic(code, reason)
            })?;
            let Asked { envelope, what } = asked;
            let mark = format!("{:08x}", fastrand::u32(..));
            let void_at = context.deadline.max(now()).saturating_add(VOID_AFTER);
            let body = payload.get();
            let invocation = Invocation { request_id, trace_id, begun, deadline, void_at, mark, envelope, body };
            match what {
                What::Nothing => {
                    let ended = Ok(invocation.answer(Status::Ignored));
                    log(&invocation, &ended);
                    ended
                }
                What::Due(name) => self.due(&invocation, &name).await,
                What::JobOver(over) => {
                    let ended = self.job_over(&invocation, &over).await;
                    log(&invocation, &ended);
                    ended
                }
                What::Request(content) => {
                    let ended = self.request(&invocation, &content).await;
                    log(&invocation, &ended);
                    ended
                }
            }
        };
        let answered = answered.instrument(span).await;
        self.forwarder.wait_until_idle(deadline).await;
        answered
    }

    async fn request(&self, invocation: &Invocation<'_>, content: &Content) -> Ended {
        tracing::Span::current().record("operation", content.known_operation());
        let claim = self.claim(invocation, content);
        let name = claim.name.clone();
        if let Some(unwritten) = self.unwritten.get(invocation.request_id) {
            let item = self.load(invocation).await?;
            return self.scheduled(invocation, item, unwritten, None).await.map(|(_, answer)| answer);
        }
        let (item, verdict, found) = self.claim_and_find(invocation, content, claim).await?;
        match verdict {
            Verdict::Send => {
                let Ok(Valid::Operation { operation, notice }) = &content.verdict else {
                    return Ok(invocation.recorded(&item, &name));
                };
                let found = match found {
                    Some(found) => found,
                    None => {
                        self.forwarder
                            .find(invocation.thing(), may_run_twice(&content.operation), invocation.deadline)
                            .await
                    }
                };
                let (task, body) = (Task::from(operation), Some(invocation.body));
                let handed = HandOver { name: &name, task: &task, notice: notice.clone(), body };
                let (item, answer) = self.hand_over(invocation, item, handed, found).await?;
                self.hand_over_what_waited(invocation, item).await?;
                Ok(answer)
            }
            Verdict::Wait => {
                self.keep_body(invocation, &item, &name, invocation.body).await?;
                let (item, _) = self.apply(invocation, item, &[]).await?;
                Ok(invocation.recorded(&item, &name))
            }
            Verdict::Duplicate(status) => Ok(invocation.duplicate(&name, status)),
            Verdict::Busy => {
                let why = "an earlier attempt at this request ended without a word, and may still be at work";
                Err(diagnostic(BUSY, why))
            }
            Verdict::LookUp | Verdict::Nothing | Verdict::Done | Verdict::Ended(_) | Verdict::Fold(_) => {
                let (item, _) = self.apply(invocation, item, &[]).await?;
                if matches!(content.verdict, Ok(Valid::Cancel)) {
                    let names = item.device.find(&name).map(|record| record.keys.as_slice()).unwrap_or_default();
                    let names: Vec<Name> = names.iter().map(|name| Name::parse(name)).collect();
                    self.drop_bodies_of_canceled(invocation, &item, &names).await;
                }
                Ok(invocation.recorded(&item, &name))
            }
        }
    }

    /// Hands over a request that waits, and those of the device that waited for it.
    async fn due(&self, invocation: &Invocation<'_>, name: &Name) -> Ended {
        let kept = async {
            let item = self.load(invocation).await?;
            Ok((item, self.kept(invocation, name).await?))
        };
        match kept.await {
            Ok((item, Some(kept))) => {
                let (item, answer) = self.take_and_hand_over(invocation, item, name, kept).await?;
                self.hand_over_what_waited(invocation, item).await?;
                Ok(answer)
            }
            Ok((item, None)) => {
                let ended = self.without_body(invocation, item, name).await;
                log(invocation, &ended);
                ended
            }
            Err(error) => {
                let ended = Err(error);
                log(invocation, &ended);
                ended
            }
        }
    }

    /// Takes back the request of a job's execution that is over, if no device has run it.
    async fn job_over(&self, invocation: &Invocation<'_>, over: &JobOver) -> Ended {
        let item = self.load(invocation).await?;
        let meant = item.device.open().iter().filter(|record| over.means(record));
        let names: Vec<Name> = meant.map(|record| record.name.clone()).collect();
        let at = now();
        let cancel = |name: &Name| Event::Cancel(Cancel { name: name.clone(), by: over.by.clone(), at });
        let Some(first) = names.first() else { return Ok(invocation.answer(Status::Ignored)) };
        let (item, _) = self.apply(invocation, item, &names.iter().map(cancel).collect::<Vec<_>>()).await?;
        self.drop_bodies_of_canceled(invocation, &item, &names).await;
        Ok(invocation.recorded(&item, first))
    }

    async fn without_body(&self, invocation: &Invocation<'_>, item: Item, name: &Name) -> Ended {
        let why = "the body of this request is not kept; its event has to be sent through again";
        // Lambda's own retries would have brought it by then.
        let is_old = |record: &requests::Record| record.updated_at.saturating_add(BODY_MAY_TAKE) < now();
        if item.device.find(name).is_some_and(is_old) {
            return self.end_without_body(invocation, item, name, why).await;
        }
        Ok(invocation.answer(Status::Ignored).because(Reason::new(requests::code::BODY_MISSING, why)))
    }

    /// Ends a request that nobody can hand over.
    async fn end_without_body(&self, invocation: &Invocation<'_>, item: Item, name: &Name, why: &str) -> Ended {
        let (mark, run, at) = (invocation.mark.clone(), invocation.request_id.to_owned(), now());
        let take = Take { name: name.clone(), mark: mark.clone(), run, at, void_at: invocation.void_at };
        let reason = Reason::new(requests::code::BODY_MISSING, why);
        let not_done = requests::NotDone { name: name.clone(), mark, reason, maybe: false, again_at: None, at };
        let (item, _) = self.apply(invocation, item, &[Event::Take(take), Event::NotDone(not_done)]).await?;
        Ok(invocation.recorded(&item, name))
    }

    /// Hands over the writes of the device that waited for an older one which is at Coiote now. None is begun in the second
    /// half of the time: it is due, and a hand-over that runs out of time leaves its device asleep.
    async fn hand_over_what_waited(&self, invocation: &Invocation<'_>, mut item: Item) -> Result<(), Diagnostic> {
        while invocation.deadline.left() > invocation.begun.elapsed() {
            let waited = |name: &Name| {
                let reason = item.device.find(name).and_then(|record| record.reason.as_ref());
                reason.is_some_and(|reason| reason.code == requests::code::WAITS_FOR_OLDER_WRITE)
            };
            let next = item.device.wanted(now()).into_iter().find_map(|wanted| match wanted {
                Wanted::HandOver { name } if waited(&name) => Some(name),
                _ => None,
            });
            let Some(name) = next else { return Ok(()) };
            // Where it cannot be read, it waits on.
            let Ok(Some(kept)) = self.kept(invocation, &name).await else { return Ok(()) };
            (item, _) = self.take_and_hand_over(invocation, item, &name, kept).await?;
        }
        Ok(())
    }

    /// Nothing where its body is missing.
    async fn kept(&self, invocation: &Invocation<'_>, name: &Name) -> Result<Option<Kept>, Diagnostic> {
        let body = self.within(invocation, self.ledger.body(invocation.thing().as_str(), name)).await?;
        let Some(body) = body else { return Ok(None) };
        let body = RawValue::from_string(body).map_err(|error| diagnostic("EVENT_INVALID", error.to_string()))?;
        let asked = Asked::open(&body, self.settings.strictness).map_err(|why| diagnostic("EVENT_INVALID", why))?;
        let Asked { envelope, what: What::Request(content) } = asked else { return Ok(None) };
        Ok(Some(Kept { body, envelope, content }))
    }

    /// Takes a request that waited and hands it over; its log lines and metrics are those of its own event.
    async fn take_and_hand_over(
        &self,
        invocation: &Invocation<'_>,
        item: Item,
        name: &Name,
        kept: Kept,
    ) -> Result<(Item, Answer), Diagnostic> {
        let Kept { body, envelope, content } = kept;
        let Invocation { request_id, trace_id, deadline, void_at, .. } = *invocation;
        let span = span(request_id, trace_id, Some(&envelope));
        span.record("operation", content.known_operation());
        record_name(&span, name);
        let (begun, mark, body) = (Instant::now(), invocation.mark.clone(), body.get());
        let its_own = Invocation { request_id, trace_id, begun, deadline, void_at, mark, envelope, body };
        let handed = self.take(&its_own, item, name, &content).instrument(span.clone()).await;
        let ended = handed.as_ref().map(|(_, answer)| answer.clone()).map_err(Clone::clone);
        span.in_scope(|| log(&its_own, &ended));
        handed
    }

    async fn take(
        &self,
        invocation: &Invocation<'_>,
        item: Item,
        name: &Name,
        content: &Content,
    ) -> Result<(Item, Answer), Diagnostic> {
        let thing = invocation.thing();
        let take = Event::Take(Take {
            name: name.clone(),
            mark: invocation.mark.clone(),
            run: invocation.request_id.to_owned(),
            at: now(),
            void_at: invocation.void_at,
        });
        let (item, verdict) = self.apply(invocation, item, &[take]).await?;
        let recorded = |item: Item| {
            let answer = invocation.recorded(&item, name);
            Ok((item, answer))
        };
        match verdict {
            Verdict::Send => {}
            Verdict::Duplicate(status) => return Ok((item, invocation.duplicate(name, status))),
            Verdict::Ended(_) => {
                self.drop_body(invocation, name).await;
                return recorded(item);
            }
            _ => return recorded(item),
        }
        let (task, notice) = match &content.verdict {
            Ok(Valid::Operation { operation, notice }) => (Task::from(operation), notice.clone()),
            Ok(Valid::Cancel) => return recorded(item),
            // It was valid when it was claimed; the objects' descriptions of this version say otherwise.
            Err(reason) => {
                let (mark, at) = (invocation.mark.clone(), now());
                let not_done = requests::NotDone {
                    name: name.clone(),
                    mark,
                    reason: reason.clone(),
                    maybe: false,
                    again_at: None,
                    at,
                };
                let (item, _) = self.apply(invocation, item, &[Event::NotDone(not_done)]).await?;
                return recorded(item);
            }
        };
        let found = self.forwarder.find(thing, may_run_twice(&content.operation), invocation.deadline).await;
        let handed = HandOver { name, task: &task, notice, body: None };
        self.hand_over(invocation, item, handed, found).await
    }

    fn claim(&self, invocation: &Invocation<'_>, content: &Content) -> Claim {
        let Envelope { version, timestamp, client_token, with_reported, redriven, .. } = &invocation.envelope;
        let at = now();
        let made_at = match timestamp {
            // A job's request is made when its turn comes, which may be long after it was queued.
            Some(_) if content.job.is_some() && !redriven => at,
            Some(seconds) => seconds.saturating_mul(1_000),
            None => at,
        };
        let of_shadow = || version.map_or_else(|| Name::Invocation(invocation.request_id.to_owned()), Name::Version);
        Claim {
            name: content.job.clone().unwrap_or_else(of_shadow),
            mark: invocation.mark.clone(),
            run: invocation.request_id.to_owned(),
            operation: content.operation.clone(),
            keys: content.keys.clone(),
            client_token: client_token.clone(),
            digest: content.digest.clone(),
            requested_at: timestamp.unwrap_or(0),
            with_reported: *with_reported,
            at,
            void_at: invocation.void_at,
            expires_at: made_at.saturating_add(self.settings.lifetime),
            rejected: content.verdict.as_ref().err().map(Reason::shortened),
            waits: self.circuit.reason_to_wait(),
            redriven: *redriven,
            history: None,
        }
    }

    /// Claims the request, and finds its device meanwhile: both take round trips, and finding changes nothing.
    async fn claim_and_find(
        &self,
        invocation: &Invocation<'_>,
        content: &Content,
        mut claim: Claim,
    ) -> Result<(Item, Verdict, Option<Result<Device, ForwardError>>), Diagnostic> {
        let thing = invocation.thing();
        let is_to_be_sent = matches!(content.verdict, Ok(Valid::Operation { .. })) && claim.waits.is_none();
        let mut find = pin!(self.forwarder.find(thing, may_run_twice(&content.operation), invocation.deadline));
        let mut found = None;
        let (item, verdict) = {
            let mut append = pin!(self.append_claim(invocation, &mut claim));
            loop {
                tokio::select! {
                    biased;
                    appended = &mut append => break appended?,
                    device = &mut find, if is_to_be_sent && found.is_none() => found = Some(device),
                }
            }
        };
        if verdict == Verdict::Send && is_to_be_sent && found.is_none() {
            found = Some(find.await);
        }
        Ok((item, verdict, found))
    }

    async fn append_claim(
        &self,
        invocation: &Invocation<'_>,
        claim: &mut Claim,
    ) -> Result<(Item, Verdict), Diagnostic> {
        let (thing, begun) = (invocation.thing().as_str(), Instant::now());
        let event = Event::Claim(Box::new(claim.clone()));
        let append = self.ledger.append(thing, &event, Some(claim.void_at));
        let (claimed, circuit) = tokio::join!(self.within(invocation, append), self.circuit.refresh(&self.ledger));
        let (mut item, mut verdict) = claimed?;
        if verdict == Verdict::LookUp {
            let history = self.ledger.history(thing, claim);
            claim.history = Some(self.within(invocation, history).await?);
            let claim = Event::Claim(Box::new(claim.clone()));
            (item, verdict) =
                self.within(invocation, self.ledger.append(thing, &claim, Some(invocation.void_at))).await?;
        }
        tracing::Span::current().record("claim_ms", milliseconds(begun));
        tracing::debug!(?verdict, "request claimed");
        if verdict == Verdict::Send
            && let Some(reason) = circuit
        {
            // It was not known when the claim was made that Coiote is away.
            let not_done = requests::NotDone {
                name: claim.name.clone(),
                mark: claim.mark.clone(),
                reason,
                maybe: false,
                again_at: Some(now().saturating_add(FIRST_PAUSE)),
                at: now(),
            };
            return self.apply(invocation, item, &[Event::NotDone(not_done)]).await;
        }
        Ok((item, verdict))
    }

    async fn hand_over(
        &self,
        invocation: &Invocation<'_>,
        item: Item,
        HandOver { name, task, notice, body }: HandOver<'_>,
        found: Result<Device, ForwardError>,
    ) -> Result<(Item, Answer), Diagnostic> {
        let (thing, deadline) = (invocation.thing(), invocation.deadline);
        tracing::debug!(?task, "task");
        let Some(record) = item.device.find(name) else { return Ok((item, invocation.answer(Status::Ignored))) };
        let (tries, may_run_twice) = (record.tries, may_run_twice(&record.operation));
        let created = match found {
            Ok(device) => self.forwarder.create(&device, thing, task, may_run_twice, deadline).await,
            Err(error) => Err(error),
        };
        let mut is_kept = body.is_none();
        let (item, answer) = match created {
            Ok(created) => {
                let device_id = created.device_id.clone();
                let unwritten = Unwritten { name: name.clone(), mark: invocation.mark.clone(), created };
                let scheduled = self.scheduled(invocation, item, unwritten, notice).await?;
                self.remember(invocation, &device_id).await;
                in_the_last_time(invocation, self.circuit.answered(&self.ledger)).await;
                scheduled
            }
            Err(error) => {
                let asked = error.outage().and_then(coiote_access::Error::retry_after).unwrap_or_default();
                let pause = pause(tries).max(u64::try_from(asked.as_millis()).unwrap_or(LONGEST_PAUSE));
                let at = now();
                let not_done = error.not_done(name.clone(), &invocation.mark, at.saturating_add(pause), at);
                let is_over = not_done.maybe && !may_run_twice;
                if let (Some(body), Some(_), false) = (body, not_done.again_at, is_over) {
                    self.keep_body(invocation, &item, name, body).await?;
                    is_kept = true;
                }
                let (item, _) = self.apply(invocation, item, &[Event::NotDone(not_done)]).await?;
                // After the word about the request: with it, what is left of the time may be used up.
                if error.outage().is_some() {
                    in_the_last_time(invocation, self.circuit.failed(&self.ledger)).await;
                }
                let answer = invocation.recorded(&item, name);
                (item, answer)
            }
        };
        if is_kept && answer.status != Status::InProgress {
            self.drop_body(invocation, name).await;
        }
        Ok((item, answer))
    }

    /// Takes away the bodies of those of these requests that were taken back while they waited.
    async fn drop_bodies_of_canceled(&self, invocation: &Invocation<'_>, item: &Item, names: &[Name]) {
        for name in names {
            let record = item.device.find(name);
            if record.is_some_and(|record| record.status() == Status::Canceled && record.task_id.is_none()) {
                self.drop_body(invocation, name).await;
            }
        }
    }

    /// Takes away the body of a request that is not handed over any more: it may hold what is secret. Where that fails, it goes
    /// with the request's lifetime.
    async fn drop_body(&self, invocation: &Invocation<'_>, name: &Name) {
        let dropped = self.ledger.drop_body(invocation.thing().as_str(), name);
        if let Err(Diagnostic { error_type: code, error_message: reason }) =
            self.within_the_last_time(invocation, dropped).await
        {
            tracing::warn!(code, reason, "the body of the request was not taken away");
        }
    }

    /// Writes that Coiote has the task, and wakes the device.
    async fn scheduled(
        &self,
        invocation: &Invocation<'_>,
        item: Item,
        unwritten: Unwritten,
        notice: Option<Reason>,
    ) -> Result<(Item, Answer), Diagnostic> {
        let Unwritten { name, mark, created } = &unwritten;
        let operation = item.device.find(name).map(|record| record.operation.clone()).unwrap_or_default();
        let mut event = requests::Created {
            name: name.clone(),
            mark: mark.clone(),
            task_id: created.task_id.clone(),
            handed_over_at: created.handed_over_at,
            sent_at: created.sent_at,
            at: now(),
            notice: notice.clone(),
            is_followed: self.settings.reads_reports || has_result(&operation),
        };
        self.unwritten.put(invocation.request_id.to_owned(), unwritten.clone());
        let written = self.apply(invocation, item, &[Event::Created(event.clone())]).await;
        let not_woken = self.forwarder.wake(created, invocation.deadline).await;
        let (mut item, _) = written?;
        self.unwritten.forget(invocation.request_id);
        if let Some(not_woken) = not_woken {
            event.notice = Reason::joined(notice.into_iter().chain([not_woken]));
            // The request is on its way; that its device sleeps on is only said as well.
            if let Ok((told, _)) = self.apply(invocation, item.clone(), &[Event::Created(event)]).await {
                item = told;
            }
        }
        let answer = invocation.recorded(&item, name);
        Ok((item, answer))
    }

    /// Keeps the request until it is handed over.
    async fn keep_body(
        &self,
        invocation: &Invocation<'_>,
        item: &Item,
        name: &Name,
        body: &str,
    ) -> Result<(), Diagnostic> {
        let until = item.device.find(name).map_or_else(now, |record| record.expires_at.max(now()));
        let thing = invocation.thing().as_str();
        self.within_the_last_time(invocation, self.ledger.keep_body(thing, name, body, until)).await
    }

    /// Notes which thing the device is, so that Coiote's reports about it find its requests. Where that fails, the device's next
    /// request does it, and reports are asked for one by one until then.
    async fn remember(&self, invocation: &Invocation<'_>, device_id: &str) {
        let thing = invocation.thing().as_str();
        if device_id == thing || self.known_devices.get(device_id).as_deref() == Some(thing) {
            return;
        }
        let remembered = self.within_the_last_time(invocation, self.ledger.remember_device(device_id, thing)).await;
        match remembered {
            Ok(()) => self.known_devices.put(device_id.to_owned(), thing.to_owned()),
            Err(Diagnostic { error_type: code, error_message: reason }) => {
                tracing::warn!(device_id, code, reason, "the device's thing was not noted");
            }
        }
    }

    async fn load(&self, invocation: &Invocation<'_>) -> Result<Item, Diagnostic> {
        self.within(invocation, self.ledger.load(invocation.thing().as_str())).await
    }

    async fn apply(
        &self,
        invocation: &Invocation<'_>,
        item: Item,
        events: &[Event],
    ) -> Result<(Item, Verdict), Diagnostic> {
        let applied = self.ledger.apply(invocation.thing().as_str(), item, events, now());
        let (item, verdicts) = self.within_the_last_time(invocation, applied).await?;
        Ok((item, verdicts.into_iter().next().unwrap_or(Verdict::Nothing)))
    }

    async fn within<T>(
        &self,
        invocation: &Invocation<'_>,
        call: impl Future<Output = Result<T, ledger::Error>>,
    ) -> Result<T, Diagnostic> {
        in_time(invocation.deadline.left(), call).await
    }

    /// As [`Service::within`], with the time that is kept back for the outcome.
    async fn within_the_last_time<T>(
        &self,
        invocation: &Invocation<'_>,
        call: impl Future<Output = Result<T, ledger::Error>>,
    ) -> Result<T, Diagnostic> {
        in_time(invocation.deadline.left_for_the_outcome(), call).await
    }
}

/// What is only good to be known: it is given up where there is no time for it.
async fn in_the_last_time(invocation: &Invocation<'_>, call: impl Future<Output = ()>) {
    let _ = tokio::time::timeout(invocation.deadline.left_for_the_outcome(), call).await;
}

async fn in_time<T>(time: Duration, call: impl Future<Output = Result<T, ledger::Error>>) -> Result<T, Diagnostic> {
    let too_late = |_| ledger::Error::Unavailable("no answer within the time that was left".to_owned());
    let result = tokio::time::timeout(time, call).await.unwrap_or_else(|elapsed| Err(too_late(elapsed)));
    result.map_err(|error| diagnostic(error.code(), error.to_string()))
}

fn pause(tries: u32) -> Millis {
    FIRST_PAUSE.saturating_mul(1 << tries.min(10)).min(LONGEST_PAUSE)
}

/// What the lines about a request have in common; what is empty is known later. In lines of every level, hence its own.
fn span(request_id: &str, trace_id: Option<&str>, envelope: Option<&Envelope>) -> tracing::Span {
    use tracing::field::Empty;
    tracing::error_span!(
        "request",
        request_id,
        trace_id,
        thing = envelope.map(|envelope| envelope.thing.as_str()),
        version = envelope.and_then(|envelope| envelope.version),
        job = Empty,
        client_token = envelope.and_then(|envelope| envelope.client_token.as_deref()),
        operation = Empty,
        device_id = Empty,
        template = Empty,
        task_id = Empty,
        claim_ms = Empty,
        find_device_ms = Empty,
        create_task_ms = Empty,
        start_session_ms = Empty,
    )
}

fn record_name(span: &tracing::Span, name: &Name) {
    match name {
        Name::Version(version) => span.record("version", version),
        Name::Job { .. } => span.record("job", tracing::field::display(name)),
        Name::Invocation(_) => span,
    };
}

/// The last line about a request in this invocation, which is the only one where nothing is wrong; and its metrics.
fn log(invocation: &Invocation<'_>, ended: &Ended) {
    let duration_ms = milliseconds(invocation.begun);
    let answer = match ended {
        Ok(answer) => answer,
        Err(Diagnostic { error_type: code, error_message: reason }) => {
            let status = Status::InProgress.as_str();
            tracing::error!(status, code, reason, duration_ms, "request not recorded");
            metrics::counter!("Failures", "code" => code.clone()).increment(1);
            return;
        }
    };
    let status = answer.status.as_str();
    if let Some(task_id) = answer.task_id.as_deref() {
        tracing::Span::current().record("task_id", task_id);
    }
    let (code, reason) = answer.reason.as_ref().map(|reason| (reason.code.as_ref(), reason.message.as_str())).unzip();
    // A write that waits for its turn, which comes with the older one's end.
    let waits_its_turn = answer.status == Status::InProgress && code == Some(requests::code::WAITS_FOR_OLDER_WRITE);
    match answer.status {
        Status::Rejected => tracing::warn!(status, code, reason, duration_ms, "request rejected"),
        Status::InProgress if waits_its_turn => tracing::info!(status, code, reason, duration_ms, "request waits"),
        Status::InProgress => tracing::warn!(status, code, reason, duration_ms, "request waits"),
        Status::Failed if code.is_some_and(|code| AUTHORS.contains(&code)) => {
            tracing::warn!(status, code, reason, duration_ms, "request failed")
        }
        Status::Failed | Status::TimedOut => tracing::error!(status, code, reason, duration_ms, "request failed"),
        Status::Scheduled => tracing::info!(status, code, reason, duration_ms, "request scheduled"),
        Status::Succeeded | Status::Canceled => tracing::info!(status, code, reason, duration_ms, "request ended"),
        Status::Ignored => tracing::info!(status, code, reason, duration_ms, "nothing to do"),
    }
    if answer.status == Status::Ignored {
        if code == Some(requests::code::DUPLICATE) {
            metrics::counter!("DuplicatesDropped").increment(1);
        }
        return;
    }
    let operation = answer.operation.as_deref().map_or("unknown", known_operation);
    metrics::counter!("Requests", "operation" => operation, "status" => status).increment(1);
    if answer.status == Status::Scheduled {
        // Not of a job's request, which may have been queued at AWS for long before it came here.
        let is_of_job = answer.request.as_ref().is_some_and(Name::is_of_job);
        if let Some(time) = invocation.envelope.timestamp.map(milliseconds_since).filter(|_| !is_of_job) {
            metrics::histogram!("TimeToSchedule").record(time);
        }
    } else if !matches!(answer.status, Status::Succeeded | Status::Canceled) && !waits_its_turn {
        metrics::counter!("Failures", "code" => code.unwrap_or_default().to_owned()).increment(1);
    }
}

/// Since a time that is known to the second.
fn milliseconds_since(seconds: u64) -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.saturating_sub(Duration::from_secs(seconds)).as_secs_f64() * 1_000.0
}
