//! Handles the event of a run: the order of its steps, and how often they are repeated.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bounded_cache::BoundedCache;
use lambda_runtime::{Diagnostic, LambdaEvent};
use lambda_support::{Deadline, diagnostic, elapsed_ms, now};
use ledger::{DueIndex, Ledger};
use requests::{Millis, REPORT_REQUESTS};
use serde::de::IgnoredAny;
use tracing::Instrument;

use crate::coiote_calls::CoioteCalls;
use crate::counts::{Counted, HandOverCounts, Stock, Summary, log, measure};
use crate::hand_over::HandOver;
use crate::look::Looking;
use crate::pace::Stop;
use crate::pass::Pass;
use crate::persistent_failures::PersistentFailures;
use crate::reports::{Known, MAX_PAGES, ReadEnd};
use crate::run::Run;

/// Number of reports that are remembered, so that the overlap of two reads is not looked up again: those of two reads that are
/// as long as can be.
const KNOWN_REPORTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2 * MAX_PAGES * coiote::MAX_REPORTS);

/// Longest time from a claim to the next look at its device.
const JUST_CLAIMED: Millis = 75_000;

/// Most entries of an index that are read to find old requests.
const OLD_ENTRIES: u8 = 20;

/// Devices among them whose requests' age is noted: others have requests of AWS IoT jobs only.
const OLD_DEVICES: usize = 3;

/// Pause between two looks for waiting requests, where reports are not read.
const PAUSE: Duration = Duration::from_secs(5);

/// Settings from the template.
pub(crate) struct Settings {
    /// Interval between two reads of Coiote's reports; zero where they are never read.
    pub(crate) report_interval: Duration,
    /// How long a run looks again and again.
    pub(crate) time: Duration,
    /// Name or ARN of operation-response.
    pub(crate) operation_response: String,
    /// Most devices that are looked at, and most requests that are handed over, at the same time.
    pub(crate) most_at_once: usize,
}

impl Settings {
    pub(crate) fn reads_reports(&self) -> bool {
        !self.report_interval.is_zero()
    }
}

/// State of the execution environment, across runs.
pub(crate) struct Service {
    pub(crate) coiote: CoioteCalls,
    pub(crate) ledger: Ledger,
    pub(crate) settings: Settings,
    pub(crate) lambda: aws_sdk_lambda::Client,
    hand_over: Arc<HandOver>,
    /// Reports that came before, by their [key](crate::reports).
    pub(crate) known_reports: BoundedCache<u64, Known>,
    /// Pass over the reports that the last read did not finish.
    pub(crate) unfinished_pass: Mutex<Option<Pass>>,
    /// Things by their device's id, where that is another name.
    pub(crate) things: BoundedCache<String, String>,
    /// Last counts of the ledger's indexes.
    counted: BoundedCache<DueIndex, Counted>,
    /// Failures to read the report of a task.
    pub(crate) report_failures: PersistentFailures,
    /// Failures to remove a task.
    pub(crate) removal_failures: PersistentFailures,
    /// Failures to wake the device of a thing.
    pub(crate) wake_failures: PersistentFailures,
    /// Codes of trouble with reports that were logged.
    pub(crate) logged_codes: Mutex<HashSet<&'static str>>,
}

impl Service {
    pub(crate) fn new(
        coiote: CoioteCalls,
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
            known_reports: BoundedCache::with_capacity(KNOWN_REPORTS),
            unfinished_pass: Mutex::default(),
            things: BoundedCache::default(),
            counted: BoundedCache::default(),
            report_failures: PersistentFailures::default(),
            removal_failures: PersistentFailures::default(),
            wake_failures: PersistentFailures::default(),
            logged_codes: Mutex::default(),
        }
    }

    /// Begins to read the secret before the first event comes.
    pub(crate) fn warm_up(&self) {
        self.coiote.warm_up();
    }

    /// Makes a run. Trouble with one device, or with Coiote, is no error of the function: the next run finds it again.
    pub(crate) async fn event(&self, event: LambdaEvent<IgnoredAny>) -> Result<Summary, Diagnostic> {
        let context = event.context;
        let (request_id, deadline, begun) = (context.request_id.as_str(), Deadline::of(&context), Instant::now());
        let run = Run::new(deadline, self.settings.time);
        let span = tracing::error_span!("reconcile", request_id, trace_id = lambda_support::trace_id(&context));
        let ended = async {
            metrics::counter!("ReconcileRuns").increment(1);
            let (looking, mut hand_overs) = (Looking::new(&run), HandOverCounts::default());
            let stock = self.take_stock(&looking).await;
            let (looked, handed_over) =
                tokio::join!(self.keep_looking(&looking), self.keep_handing_over(&run, &mut hand_overs));
            let looks = looking.into_counts();
            let ended = stock.and_then(|stock| {
                measure(&stock, &looks, &hand_overs);
                looked.and(handed_over)
            });
            log(&looks, &hand_overs, ended.as_ref().err(), elapsed_ms(begun));
            ended.map_err(|error| diagnostic(error.code(), error.to_string()))?;
            Ok(Summary::of(&looks, &hand_overs))
        };
        let ended = ended.instrument(span).await;
        self.coiote.wait_until_idle(deadline).await;
        ended
    }

    /// Looks at devices and reports, again and again while requests are fresh or wait.
    async fn keep_looking(&self, looking: &Looking<'_>) -> Result<(), ledger::Error> {
        let run = looking.run;
        let mut reads_reports = self.settings.reads_reports();
        loop {
            let is_all = self.look(looking).await?;
            let read = if reads_reports { Some(self.read_reports(looking).await?) } else { None };
            reads_reports = read.is_some_and(|end| end != ReadEnd::Refused);
            if run.is_over() {
                return Ok(());
            }
            if !is_all || read == Some(ReadEnd::Unfinished) {
                continue;
            }
            let interval = self.settings.report_interval;
            if !reads_reports || !self.is_anything_under_way().await? || !run.pause(interval).await {
                return Ok(());
            }
        }
    }

    async fn is_anything_under_way(&self) -> Result<bool, ledger::Error> {
        let at = now();
        let fresh = self.ledger.due(DueIndex::Look, at, at.saturating_add(JUST_CLAIMED), 1).await?;
        Ok(!fresh.is_empty() || self.hand_over.is_any_due(at).await?)
    }

    /// Hands over waiting requests, again and again while there are any and Coiote takes them.
    async fn keep_handing_over(&self, run: &Run, counts: &mut HandOverCounts) -> Result<(), ledger::Error> {
        let pause = if self.settings.reads_reports() { self.settings.report_interval } else { PAUSE };
        loop {
            let stopped = self.hand_over.pass(run, counts).await?;
            // After its first try a request waits for half a minute: it is due within this run.
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

    /// Counts open requests, and notes the age of devices whose requests wait longest for their hand-over, and of those whose
    /// lifetimes end next.
    async fn take_stock(&self, looking: &Looking<'_>) -> Result<Stock, ledger::Error> {
        self.note_old(looking, DueIndex::HandOver, 0).await?;
        let at = now();
        // Later entries of the index are third requests for the report of a task and ends of lifetimes, or only ends of lifetimes.
        let [_, until_second, until_third] = REPORT_REQUESTS;
        for interval in [until_second, until_third] {
            if self.note_old(looking, DueIndex::Look, at.saturating_add(interval)).await? {
                break;
            }
        }
        Ok(Stock { things: self.count(DueIndex::Look).await?, waiting: self.count(DueIndex::HandOver).await? })
    }

    /// Number of things in the index, counted now or, if they are many, some minutes ago.
    async fn count(&self, index: DueIndex) -> Result<u64, ledger::Error> {
        let at = now();
        if let Some(counted) = self.counted.get(&index).filter(|counted| counted.is_to_be_kept(at)) {
            return Ok(counted.things);
        }
        let things = self.ledger.count(index).await?;
        self.counted.insert(index, Counted { things, at });
        Ok(things)
    }

    /// Notes the age of the first devices in the index that are due from that time on. Returns whether these were all there are.
    async fn note_old(&self, looking: &Looking<'_>, index: DueIndex, from: Millis) -> Result<bool, ledger::Error> {
        let entries = self.ledger.due(index, from, Millis::MAX >> 1, OLD_ENTRIES.into()).await?;
        let mut noted = 0;
        for (_, thing) in &entries {
            if noted == OLD_DEVICES {
                return Ok(false);
            }
            // An item that cannot be read is met again where its requests are dealt with.
            if let Ok(item) = self.ledger.load(thing).await {
                looking.count(|counts| noted += usize::from(counts.note_age(&item.device)));
            }
        }
        Ok(entries.len() < OLD_ENTRIES.into())
    }
}
