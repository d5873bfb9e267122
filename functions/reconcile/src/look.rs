//! Looks at the devices that are due: ends what is over, asks for single reports, removes tasks.

use std::time::{Duration, Instant};

use ledger::{DueIndex, Item};
use requests::{Device, DueAction, Event, Name};

use lambda_support::now;

use crate::due::Pages;
use crate::handle::{Run, Service, Watched};
use crate::outcome::{is_awaited, reported};

/// Things of a page of those that are due.
const PAGE: i32 = 200;

/// Longest time until the reports of all devices are read again.
const SLICE: Duration = Duration::from_secs(15);

/// After so many outages in a row Coiote is not asked for single tasks any more, in this run.
const OUTAGES: usize = 2;

/// What asking Coiote for one report came to.
enum Asked {
    Told(Box<coiote::TaskReport>),
    /// No device has run the task, as far as Coiote says.
    NotRun,
    /// Coiote's user may not read reports.
    Forbidden,
    Failed,
}

impl Service {
    /// Looks at every device that is due, or at as many as there is time for now; whether that was all.
    pub(crate) async fn look(&self, run: &Run, sum: &mut Watched) -> Result<bool, ledger::Error> {
        let (begun, by) = (Instant::now(), now());
        let mut pages = Pages::until(by, PAGE);
        let mut failures = 0;
        while let Some(from) = pages.next_from() {
            let page = self.ledger.due(DueIndex::Look, from, by, PAGE).await?;
            for thing in pages.take(page) {
                if run.is_over() || begun.elapsed() > SLICE {
                    return Ok(false);
                }
                match self.look_at(run, &thing, sum).await {
                    Ok(()) => failures = 0,
                    Err(error) => {
                        failures += 1;
                        run.trouble(&thing, error.code(), &error.to_string());
                        if run.is_of_the_ledger(&error, failures) {
                            return Err(error);
                        }
                    }
                }
            }
        }
        Ok(true)
    }

    async fn look_at(&self, run: &Run, thing: &str, sum: &mut Watched) -> Result<(), ledger::Error> {
        let item = self.ledger.load(thing).await?;
        sum.looked_at += 1;
        sum.note_age(&item.device);
        let events = self.what_time_brings(run, thing, &item, sum).await;
        let item = self.save(run, thing, item, &events, sum).await?;
        self.ledger.postpone_look(thing, &item, now()).await
    }

    /// What has happened by now, and what Coiote says of it.
    async fn what_time_brings(&self, run: &Run, thing: &str, item: &Item, sum: &mut Watched) -> Vec<Event> {
        let mut device = item.device.clone();
        let mut events = Vec::new();
        let mut happens = |device: &mut Device, event: Event| {
            device.apply(&event);
            events.push(event);
        };
        let at = now();
        happens(&mut device, Event::Tick { at });
        for wanted in device.due_actions(at) {
            let (name, task_id, removal) = match wanted {
                DueAction::HandOver { .. } => continue,
                DueAction::Report { name, task_id } => (name, task_id, None),
                DueAction::Removal { name, task_id, is_shared } => (name, task_id, Some(is_shared)),
            };
            // A report that was asked for before it may have ended this one as well.
            if !is_awaited(&device, &name) {
                continue;
            }
            let asked = self.ask(run, thing, &task_id, sum).await;
            if let Asked::Told(report) = &asked {
                let event = reported(&device, report, now());
                happens(&mut device, event);
                if !is_awaited(&device, &name) {
                    continue;
                }
            }
            let is_gone = match removal {
                // That of an earlier request with this task is no word of this one.
                Some(is_shared) if !matches!(asked, Asked::Failed) => {
                    is_shared || self.remove(run, thing, &name, &task_id, sum).await
                }
                _ => false,
            };
            let at = now();
            happens(
                &mut device,
                if is_gone { Event::TaskRemoved { name, at } } else { Event::ReportRequested { name, at } },
            );
        }
        events
    }

    async fn ask(&self, run: &Run, thing: &str, task_id: &str, sum: &mut Watched) -> Asked {
        if !self.settings.reads_reports() {
            return Asked::Forbidden;
        }
        if sum.outages >= OUTAGES {
            return Asked::Failed;
        }
        let asked = self.coiote.report(thing, task_id, run.deadline).await;
        sum.asked += 1;
        match asked {
            Ok(report) => {
                sum.outages = 0;
                report.map_or(Asked::NotRun, |report| Asked::Told(Box::new(report)))
            }
            Err(coiote_access::Error::Coiote(coiote::Error::Unauthorized(reason))) => {
                run.trouble(thing, "COIOTE_UNAUTHORIZED", &reason);
                Asked::Forbidden
            }
            Err(error) => {
                sum.outages = if error.is_outage() { sum.outages + 1 } else { 0 };
                run.trouble(thing, error.code(), &error.to_string());
                Asked::Failed
            }
        }
    }

    /// Removes a task at Coiote; whether no device runs it any more.
    async fn remove(&self, run: &Run, thing: &str, name: &Name, task_id: &str, sum: &mut Watched) -> bool {
        if sum.outages >= OUTAGES {
            return false;
        }
        match self.coiote.remove(task_id, run.deadline).await {
            Ok(was_there) => {
                tracing::debug!(thing, request = %name, task_id, was_there, "task removed");
                (sum.outages, sum.removed) = (0, sum.removed + 1);
                true
            }
            Err(error) => {
                sum.outages = if error.is_outage() { sum.outages + 1 } else { 0 };
                run.trouble(thing, error.code(), &error.to_string());
                false
            }
        }
    }
}
