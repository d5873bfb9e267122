//! One run: what it does in its minute, and what it says of it.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use bounded_cache::BoundedCache;
use lambda_runtime::{Diagnostic, LambdaEvent};
use lambda_support::{Deadline, diagnostic, elapsed_ms, now};
use ledger::{DueIndex, Item, Ledger};
use requests::{Device, Event, Millis, Record, Status, code};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::json;
use tracing::Instrument;

use crate::coiote_side::CoioteSide;
use crate::hand_over::{HandOver, HandedOver};
use crate::outcome::{Deleted, deleted, new_words};
use crate::pace::Stop;
use crate::reports::Known;

/// Reports of two minutes that are not looked up again: as many as Coiote may have a second of a fleet, and more.
const REPORTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(19_999);

/// A claim has the index say this time, or an earlier one, for the next look.
const JUST_CLAIMED: Millis = 75_000;

/// Single tasks are asked for no later than this after one another: what the index names later is the end of a lifetime.
const BEYOND_ASKING: Millis = 61 * 60_000;

/// A run that has much to do takes so long, and then leaves it to the next one.
const LONGEST: Duration = Duration::from_secs(55);

/// Between two looks for what waits, where reports are not read.
const PAUSE: Duration = Duration::from_secs(5);

/// So many devices in a row that could not be read or written say that it is the ledger, and not one device.
const IN_A_ROW: usize = 3;

/// What the template makes of the function, beside its clients.
pub(crate) struct Settings {
    /// Between two looks at Coiote's reports; zero where they are never read.
    pub(crate) report_interval: Duration,
    /// How long a run looks again and again.
    pub(crate) time: Duration,
    /// Name or ARN of operation-response.
    pub(crate) operation_response: String,
}

impl Settings {
    pub(crate) fn reads_reports(&self) -> bool {
        !self.report_interval.is_zero()
    }
}

/// Everything that outlives a run.
pub(crate) struct Service {
    pub(crate) coiote: CoioteSide,
    pub(crate) ledger: Ledger,
    pub(crate) settings: Settings,
    lambda: aws_sdk_lambda::Client,
    hand_over: Arc<HandOver>,
    /// Reports that came before, by their [key](crate::reports).
    pub(crate) reports: BoundedCache<u64, Known>,
    /// Things by their device's id, where that is another name.
    pub(crate) things: BoundedCache<String, String>,
    /// Kinds of trouble with reports that were told of.
    pub(crate) told: Mutex<HashSet<&'static str>>,
}

/// One run.
pub(crate) struct Run {
    pub(crate) deadline: Deadline,
    /// Until when it looks again and again.
    until: Instant,
    /// When it leaves what is not done to the next run.
    end: Instant,
    warned: Mutex<HashSet<String>>,
}

/// What looking at devices and reports came to.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    pub(crate) looked_at: usize,
    /// Looks at the reports of all devices.
    pub(crate) looks: usize,
    /// Reports of requests of ours, and others.
    pub(crate) reports: usize,
    pub(crate) foreign: usize,
    /// Tasks whose report was asked for on its own, and those that were removed.
    pub(crate) asked: usize,
    pub(crate) removed: usize,
    /// Requests that have a last word now.
    pub(crate) ended: usize,
    /// When Coiote was asked for single tasks: outages in a row.
    pub(crate) outages: usize,
    /// Of the open requests that were seen.
    oldest: Oldest,
}

/// When the oldest open requests were made, in seconds since 1970.
#[derive(Debug, Default)]
struct Oldest {
    waiting: Option<u64>,
    scheduled: Option<u64>,
}

/// Open requests by the ledger's indexes, when a run begins.
#[derive(Debug, Default)]
struct Open {
    /// Things that have any.
    things: u64,
    /// Things with a request that waits to be handed over.
    waiting: u64,
}

/// What a run returns.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    looked_at: usize,
    reports: usize,
    ended: usize,
    removed: usize,
    waiting: usize,
    handed_over: usize,
    most_at_once: usize,
    coiote_away: bool,
}

impl Run {
    fn of(deadline: Deadline, time: Duration) -> Run {
        let begun = Instant::now();
        let after = |time: Duration| begun.checked_add(time).unwrap_or(begun);
        Run { deadline, until: after(time), end: after(time.max(LONGEST)), warned: Mutex::default() }
    }

    /// Whether there is no time for anything more.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.end || self.deadline.left().is_zero()
    }

    /// What is left for looking again.
    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now()).min(self.deadline.left())
    }

    /// Pauses between two looks; whether there is time for another one.
    async fn pause(&self, pause: Duration) -> bool {
        if self.left() < pause {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }

    /// Counts what went wrong with one device, and tells of the first of its kind.
    pub(crate) fn trouble(&self, thing: &str, code: &str, reason: &str) {
        metrics::counter!("Failures", "code" => code.to_owned()).increment(1);
        if self.warned.lock().is_ok_and(|mut warned| warned.insert(code.to_owned())) {
            tracing::warn!(thing, code, reason, "not done, for now; others like it in this run are only counted");
        }
    }

    /// Whether the ledger as a whole is in trouble, after so many errors in a row.
    pub(crate) fn is_of_the_ledger(&self, error: &ledger::Error, in_a_row: usize) -> bool {
        in_a_row >= IN_A_ROW && matches!(error, ledger::Error::Unavailable(_) | ledger::Error::Refused(_))
    }
}

impl Oldest {
    fn of_any(&self) -> Option<u64> {
        self.waiting.into_iter().chain(self.scheduled).min()
    }
}

impl Watched {
    pub(crate) fn note_age(&mut self, device: &Device) {
        // A job's request may have been queued at AWS for long before it came here.
        let is_dated = |record: &&Record| record.requested_at > 0 && !record.name.is_of_job();
        for record in device.open().iter().filter(is_dated) {
            let is_scheduled = record.status() == Status::Scheduled;
            let oldest = if is_scheduled { &mut self.oldest.scheduled } else { &mut self.oldest.waiting };
            *oldest = (*oldest).into_iter().chain([record.requested_at]).min();
        }
    }
}

impl Service {
    pub(crate) fn new(
        coiote: CoioteSide,
        ledger: Ledger,
        lambda: aws_sdk_lambda::Client,
        hand_over: HandOver,
        settings: Settings,
    ) -> Service {
        Service {
            coiote,
            ledger,
            settings,
            lambda,
            hand_over: Arc::new(hand_over),
            reports: BoundedCache::with_capacity(REPORTS),
            things: BoundedCache::default(),
            told: Mutex::default(),
        }
    }

    /// Begins what can be done before the first event is there.
    pub(crate) fn warm_up(&self) {
        self.coiote.warm_up();
    }

    /// A run. What is wrong with one device, or with Coiote, is no error of the function: the next run finds it again.
    pub(crate) async fn event(&self, event: LambdaEvent<IgnoredAny>) -> Result<Summary, Diagnostic> {
        let context = event.context;
        let (request_id, deadline, begun) = (context.request_id.as_str(), Deadline::of(&context), Instant::now());
        let run = Run::of(deadline, self.settings.time);
        let span = tracing::error_span!("reconcile", request_id, trace_id = lambda_support::trace_id(&context));
        let ended = async {
            metrics::counter!("ReconcileRuns").increment(1);
            let (mut watched, mut handed) = (Watched::default(), HandedOver::default());
            let open = self.take_stock(&mut watched).await;
            let (watching, handing) = tokio::join!(self.watch(&run, &mut watched), self.hand_over(&run, &mut handed));
            let ended = open.and_then(|open| {
                measure(&open, &watched.oldest);
                watching.and(handing)
            });
            log(&watched, &handed, ended.as_ref().err(), elapsed_ms(begun));
            ended.map_err(|error| diagnostic(error.code(), error.to_string()))?;
            Ok(Summary {
                looked_at: watched.looked_at,
                reports: watched.reports,
                ended: watched.ended,
                removed: watched.removed,
                waiting: handed.waiting,
                handed_over: handed.scheduled,
                most_at_once: handed.most_at_once,
                coiote_away: handed.is_coiote_away,
            })
        };
        let ended = ended.instrument(span).await;
        self.coiote.wait_until_idle(deadline).await;
        ended
    }

    /// Looks at devices and reports, again and again while requests are fresh or wait.
    async fn watch(&self, run: &Run, sum: &mut Watched) -> Result<(), ledger::Error> {
        let mut reads = self.settings.reads_reports();
        loop {
            let is_all = self.look(run, sum).await?;
            reads = reads && self.read_reports(run, sum).await?;
            if run.is_over() {
                return Ok(());
            }
            if !is_all {
                continue;
            }
            if !reads || !self.is_anything_under_way().await? || !run.pause(self.settings.report_interval).await {
                return Ok(());
            }
        }
    }

    async fn is_anything_under_way(&self) -> Result<bool, ledger::Error> {
        let at = now();
        let fresh = self.ledger.due(DueIndex::Look, at, at.saturating_add(JUST_CLAIMED), 1).await?;
        Ok(!fresh.is_empty() || self.hand_over.is_any_due(at).await?)
    }

    /// Hands over what waits, again and again while anything does and Coiote takes it.
    async fn hand_over(&self, run: &Run, sum: &mut HandedOver) -> Result<(), ledger::Error> {
        let pause = if self.settings.reads_reports() { self.settings.report_interval } else { PAUSE };
        loop {
            let stopped = self.hand_over.pass(run, sum).await?;
            // What waits for a pause of half a minute to end is due within this run.
            let left = u64::try_from(run.left().as_millis()).unwrap_or_default();
            if stopped == Some(Stop::Outage)
                || run.is_over()
                || !self.hand_over.is_any_due(now().saturating_add(left)).await?
                || !run.pause(pause).await
            {
                return Ok(());
            }
        }
    }

    /// Writes what happened to a device's requests; and where it has deleted something, has the datamodel shadow lose it.
    pub(crate) async fn save(
        &self,
        run: &Run,
        thing: &str,
        item: Item,
        events: &[Event],
        sum: &mut Watched,
    ) -> Result<Item, ledger::Error> {
        let mut after = item.device.clone();
        events.iter().for_each(|event| {
            after.apply(event);
        });
        let words = new_words(&item.device, &after);
        // Before it is written: it does no harm twice.
        for gone in deleted(&words, events) {
            self.fold_deletion(run, thing, &gone).await;
        }
        let (item, _) = self.ledger.apply(thing, item, events, now()).await?;
        for record in words {
            let (operation, status) = (record.operation.clone(), record.status().as_str());
            let (request, code) = (record.name.to_string(), record.reason.as_ref().map(|reason| reason.code.as_ref()));
            tracing::debug!(thing, request, operation, status, code, task_id = record.task_id, "request ended");
            sum.ended += 1;
            metrics::counter!("Requests", "operation" => operation, "status" => status).increment(1);
            if record.proven && record.requested_at > 0 && !record.name.is_of_job() {
                let time = now().saturating_sub(record.requested_at.saturating_mul(1_000));
                metrics::histogram!("TimeToOutcome").record(float(time));
            }
            if status == "FAILED" || status == "TIMED_OUT" {
                metrics::counter!("Failures", "code" => code.unwrap_or_default().to_owned()).increment(1);
            }
        }
        Ok(item)
    }

    async fn fold_deletion(&self, run: &Run, thing: &str, gone: &Deleted) {
        let payload = json!({"thingName": thing, "deleted": gone.keys, "timestamp": gone.at});
        let invoked = self
            .lambda
            .invoke()
            .function_name(&self.settings.operation_response)
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(payload.to_string()))
            .send()
            .await;
        if let Err(error) = invoked {
            // The request is done all the same; the datamodel shadow shows what is gone until the next whole read.
            run.trouble(thing, code::DATAMODEL_NOT_UPDATED, &lambda_support::aws::error_summary(&error));
        }
    }

    /// Counts open requests, and notes the age of the device whose request waits longest for its hand-over, and of the one whose
    /// lifetime ends next.
    async fn take_stock(&self, sum: &mut Watched) -> Result<Open, ledger::Error> {
        let beyond_asking = now().saturating_add(BEYOND_ASKING);
        let ends_next = self.ledger.due(DueIndex::Look, beyond_asking, Millis::MAX >> 1, 1).await?;
        let waits = self.ledger.due(DueIndex::HandOver, 0, Millis::MAX >> 1, 1).await?;
        for (_, thing) in ends_next.iter().chain(&waits) {
            sum.note_age(&self.ledger.load(thing).await?.device);
        }
        Ok(Open {
            things: self.ledger.count(DueIndex::Look).await?,
            waiting: self.ledger.count(DueIndex::HandOver).await?,
        })
    }
}

fn measure(open: &Open, oldest: &Oldest) {
    metrics::gauge!("ThingsWithOpenRequests").set(float(open.things));
    metrics::gauge!("WaitingRequests").set(float(open.waiting));
    let age = |made_at: Option<u64>| float(made_at.map_or(0, |seconds| (now() / 1_000).saturating_sub(seconds)));
    metrics::gauge!("OldestOpenRequestAge").set(age(oldest.of_any()));
    for (status, made_at) in [(Status::InProgress, oldest.waiting), (Status::Scheduled, oldest.scheduled)] {
        metrics::gauge!("OldestOpenRequestAge", "status" => status.as_str()).set(age(made_at));
    }
}

/// The one line of a run where nothing is wrong.
fn log(watched: &Watched, handed: &HandedOver, error: Option<&ledger::Error>, duration_ms: f64) {
    if let Some(error) = error {
        let (code, reason) = (error.code(), error.to_string());
        tracing::error!(code, reason, duration_ms, "the ledger cannot be asked; the next run goes on");
        metrics::counter!("Failures", "code" => code).increment(1);
    }
    let oldest_s = watched.oldest.of_any().map(|seconds| (now() / 1_000).saturating_sub(seconds));
    let Watched { looked_at, looks, reports, foreign, asked, removed, ended, .. } = watched;
    let HandedOver { waiting, invoked, scheduled, most_at_once, is_coiote_away } = handed;
    tracing::info!(
        looked_at,
        looks,
        reports,
        foreign,
        asked,
        removed,
        ended,
        waiting,
        invoked,
        scheduled,
        most_at_once,
        is_coiote_away,
        oldest_s,
        duration_ms,
        "reconciled"
    );
}

#[expect(clippy::cast_precision_loss, reason = "counts and times far below 2^52")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}
