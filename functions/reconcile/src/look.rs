//! Looks at the devices that are due: ends requests whose time is over, asks for single reports, wakes devices again, removes
//! tasks.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use lambda_support::now;
use ledger::{DueIndex, Item};
use requests::{Device, DueAction, Event, Millis, Name};

use crate::coiote_calls::is_answer;
use crate::counts::LookCounts;
use crate::due::DuePages;
use crate::handle::Service;
use crate::outage::Outages;
use crate::outcome::{AppliedEvents, is_awaited, report_event};
use crate::persistent_failures::PersistentFailures;
use crate::run::{LedgerErrors, Run};

/// Things of a page of those that are due.
const PAGE: i32 = 200;

/// Pause before the next look at a device that is still due after a look.
const LOOK_PAUSE: Millis = 60_000;

/// The same while Coiote is away or starts no sessions: each postponement is billed as three writes, and a fleet may be due.
const OUTAGE_PAUSE: Millis = 5 * 60_000;

/// Longest time until the reports of all devices are read again.
const SLICE: Duration = Duration::from_secs(15);

/// Looking at devices and reports, in one run.
pub(crate) struct Looking<'a> {
    pub(crate) run: &'a Run,
    counts: RefCell<LookCounts>,
    outages: RefCell<Outages>,
    /// Outages of the calls that wake devices: reports may be given meanwhile. Those of a device whose calls always fail, although
    /// others are woken, are not among them.
    outages_of_sessions: RefCell<Outages>,
}

impl Looking<'_> {
    pub(crate) fn new(run: &Run) -> Looking<'_> {
        Looking {
            run,
            counts: RefCell::default(),
            outages: RefCell::default(),
            outages_of_sessions: RefCell::default(),
        }
    }

    /// Counts something.
    pub(crate) fn count(&self, add: impl FnOnce(&mut LookCounts)) {
        add(&mut self.counts.borrow_mut());
    }

    pub(crate) fn into_counts(self) -> LookCounts {
        self.counts.into_inner()
    }
}

/// Answer to a request for the report of one task.
enum ReportAnswer {
    Report(Box<coiote::TaskReport>),
    /// No device has run the task, as far as Coiote knows; or Coiote gives no report that can be read, now or later.
    NoReport,
    /// Coiote did not answer, or was not asked, because it is away or there was no time.
    Unknown,
}

/// Result of an attempt to remove a task.
enum Removal {
    Gone,
    /// Coiote refuses it.
    Refused,
    /// It was not removed now, and a later attempt may succeed.
    Failed,
}

impl Service {
    /// Looks at every device that is due, or at as many as there is time for. Returns whether these were all.
    pub(crate) async fn look(&self, looking: &Looking<'_>) -> Result<bool, ledger::Error> {
        let run = looking.run;
        let (begun, by) = (Instant::now(), now());
        let is_out_of_time = || run.is_over() || begun.elapsed() > SLICE;
        let mut pages = DuePages::until(by, PAGE);
        let mut errors = LedgerErrors::default();
        while let Some(from) = pages.next_from() {
            let page = self.ledger.due(DueIndex::Look, from, by, PAGE).await?;
            let look_at = async |(_, thing): (_, String)| match is_out_of_time() {
                true => None,
                false => Some((self.look_at(looking, &thing).await, thing)),
            };
            // Several at once: their reports may have to be asked for one by one, and those behind them wait.
            let mut looks = stream::iter(pages.take(page)).map(look_at).buffer_unordered(self.settings.most_at_once);
            let mut is_all = true;
            while let Some(looked) = looks.next().await {
                match looked {
                    Some((Ok(()), _)) => errors.reset(),
                    Some((Err(error), thing)) => errors.add(run, &thing, error)?,
                    None => is_all = false,
                }
            }
            if !is_all {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn look_at(&self, looking: &Looking<'_>, thing: &str) -> Result<(), ledger::Error> {
        let item = self.ledger.load(thing).await?;
        looking.count(|counts| {
            counts.looked_at += 1;
            counts.note_age(&item.device);
        });
        let applied = self.due_events(looking, thing, &item).await;
        let item = self.save(looking, thing, item, &applied).await?;
        let outages = [&looking.outages, &looking.outages_of_sessions];
        let is_away = outages.iter().any(|outages| outages.borrow().is_over_limit());
        let pause = if is_away { OUTAGE_PAUSE } else { LOOK_PAUSE };
        self.ledger.postpone_look(thing, &item, now(), pause).await
    }

    /// Applies the time that has passed, and Coiote's reports about the tasks that are due.
    async fn due_events(&self, looking: &Looking<'_>, thing: &str, item: &Item) -> AppliedEvents {
        let mut applied = AppliedEvents::of(&item.device);
        let at = now();
        applied.apply(Event::Tick { at });
        let mut is_wake_tried = false;
        for action in applied.after.due_actions(at) {
            if looking.run.is_over() {
                break;
            }
            let (name, task_id, removal) = match action {
                DueAction::HandOver { .. } => continue,
                DueAction::Report { name, task_id } => (name, task_id, None),
                DueAction::Removal { name, task_id, is_shared } => (name, task_id, Some(is_shared)),
            };
            // An earlier report of this loop may have ended this request as well.
            if !is_awaited(&applied.after, &name) {
                continue;
            }
            let is_wake_due = removal.is_none() && !is_wake_tried && is_to_be_woken(&applied.after, &name);
            if is_wake_due && looking.outages_of_sessions.borrow().is_over_limit() {
                // It stays due as a whole: the calls that wake a device are made as often as its report is requested.
                continue;
            }
            if removal.is_some() {
                // The last look at what the device did: it has to be that of the device as it is now.
                self.coiote.forget_device(thing);
            }
            match self.ask_for_report(looking, thing, &task_id).await {
                // It stays due: the next run asks again.
                ReportAnswer::Unknown => continue,
                // The report of an earlier request with the same task does not prevent the removal.
                ReportAnswer::Report(report) => applied.apply(report_event(&applied.after, &report, now())),
                ReportAnswer::NoReport => {}
            }
            if !is_awaited(&applied.after, &name) {
                continue;
            }
            let removed = match removal {
                None => {
                    if is_wake_due {
                        is_wake_tried = true;
                        self.wake_again(looking, thing, &mut applied).await;
                    }
                    None
                }
                Some(true) => Some(Removal::Gone),
                Some(false) => Some(self.remove_task(looking, thing, &name, &task_id).await),
            };
            let at = now();
            applied.apply(match removed {
                None => Event::ReportRequested { name, at },
                Some(Removal::Gone) => Event::TaskRemoved { name, at },
                Some(Removal::Refused) => Event::RemovalRefused { name, at },
                // It stays due as well.
                Some(Removal::Failed) => continue,
            });
        }
        applied
    }

    async fn ask_for_report(&self, looking: &Looking<'_>, thing: &str, task_id: &str) -> ReportAnswer {
        if !self.settings.reads_reports() {
            return ReportAnswer::NoReport;
        }
        if looking.outages.borrow().is_over_limit() {
            return ReportAnswer::Unknown;
        }
        let answer = self.coiote.report(thing, task_id, looking.run.deadline).await;
        looking.count(|counts| counts.asked += 1);
        match answer {
            Ok(report) => {
                self.report_failures.forget(task_id);
                looking.outages.borrow_mut().reset();
                report.map_or(ReportAnswer::NoReport, |report| ReportAnswer::Report(Box::new(report)))
            }
            Err(error) if self.is_final(looking, thing, &self.report_failures, task_id, &error) => {
                ReportAnswer::NoReport
            }
            Err(_) => ReportAnswer::Unknown,
        }
    }

    /// Wakes the device, for all its requests for which that has failed so far.
    async fn wake_again(&self, looking: &Looking<'_>, thing: &str, applied: &mut AppliedEvents) {
        match self.coiote.wake(thing, looking.run.deadline).await {
            Ok(is_woken) => {
                self.wake_failures.forget(thing);
                looking.outages_of_sessions.borrow_mut().reset();
                let wanted = applied.after.open().iter().filter(|record| is_woken && record.is_to_be_woken);
                for name in wanted.map(|record| record.name.clone()).collect::<Vec<_>>() {
                    applied.apply(Event::Woken { name, at: now() });
                }
            }
            Err(error) => {
                looking.run.trouble(thing, error.code(), &error.to_string());
                let is_alone = error.is_outage() && self.wake_failures.add(thing, self.coiote.session_answers());
                if !is_alone {
                    looking.outages_of_sessions.borrow_mut().add(&error);
                }
            }
        }
    }

    /// Removes a task at Coiote.
    async fn remove_task(&self, looking: &Looking<'_>, thing: &str, name: &Name, task_id: &str) -> Removal {
        if looking.outages.borrow().is_over_limit() || self.is_needed_meanwhile(looking, thing, name, task_id).await {
            return Removal::Failed;
        }
        match self.coiote.remove(task_id, looking.run.deadline).await {
            Ok(was_there) => {
                tracing::debug!(thing, request = %name, task_id, was_there, "task removed");
                self.removal_failures.forget(task_id);
                looking.outages.borrow_mut().reset();
                looking.count(|counts| counts.removed += 1);
                Removal::Gone
            }
            Err(error) if self.is_final(looking, thing, &self.removal_failures, task_id, &error) => Removal::Refused,
            Err(_) => Removal::Failed,
        }
    }

    /// Notes the failure of a call about a task. Returns whether it is Coiote's last word: a refusal, or one of several failures
    /// while Coiote answers other calls.
    fn is_final(
        &self,
        looking: &Looking<'_>,
        thing: &str,
        failures: &PersistentFailures,
        task_id: &str,
        error: &coiote_access::Error,
    ) -> bool {
        looking.run.trouble(thing, error.code(), &error.to_string());
        let is_final = is_answer(error) || error.is_outage() && failures.add(task_id, self.coiote.answers());
        let mut outages = looking.outages.borrow_mut();
        if is_final {
            outages.reset()
        } else {
            outages.add(error)
        }
        is_final
    }

    /// Whether another request of the device has got the task, or is about to: an equal one that was made since the item was
    /// read.
    async fn is_needed_meanwhile(&self, looking: &Looking<'_>, thing: &str, name: &Name, task_id: &str) -> bool {
        match self.ledger.load(thing).await {
            Ok(item) => !item.device.due_actions(now()).iter().any(|action| {
                matches!(action, DueAction::Removal { name: due, task_id: its, is_shared: false } if due == name && its == task_id)
            }),
            Err(error) => {
                looking.run.trouble(thing, error.code(), &error.to_string());
                true
            }
        }
    }
}

fn is_to_be_woken(device: &Device, name: &Name) -> bool {
    device.find(name).is_some_and(|record| record.is_to_be_woken)
}
