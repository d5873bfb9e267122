//! Reads Coiote's reports of all devices, and ends the requests that they belong to.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use coiote::{TaskReport, iso8601_from_millis, millis_from_iso8601};
use ledger::{Item, Ledger};
use requests::{Device, Millis, State};
use tokio::task::JoinSet;

use lambda_support::now;

use crate::cursor::{self, Next};
use crate::handle::{Run, Service, Watched, float};
use crate::outcome::{of_task, reported};

/// Pages of a look: what is beyond them is read by the next one.
const MOST_PAGES: usize = 50;

/// A report may come before our own word that the task was made: one that fits nobody is looked at again for so long.
const MAY_FIT_LATER: Millis = 15_000;

/// Reports that are looked up at once.
const AT_ONCE: usize = 16;

/// Longest id of a device that is looked up.
const LONGEST_ID: usize = 256;

/// What is known of a report that came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    DealtWith,
    /// It fitted nobody when it was looked up last.
    FitsNobody {
        first_seen: Millis,
        looked_up_at: Millis,
    },
}

/// Whom a report belongs to.
enum Whose {
    Ours(String, Box<Item>),
    Nobodys { may_fit_later: bool },
}

impl Service {
    /// Reads the reports since the last look. Whether the next one may come to more: it does not where Coiote refuses.
    pub(crate) async fn read_reports(&self, run: &Run, sum: &mut Watched) -> Result<bool, ledger::Error> {
        let cursor = self.ledger.reports_read_until().await?.as_deref().and_then(millis_from_iso8601);
        let begun_at = now();
        let mut since = cursor::begin(cursor, begun_at);
        let (mut reached, mut may_go_on, mut failures) = (None, true, 0);
        'pages: for _ in 0..MOST_PAGES {
            let page = match self.coiote.reports_since(&iso8601_from_millis(since), run.deadline).await {
                Ok(page) => page,
                Err(coiote_access::Error::OutOfTime) => break,
                Err(error) => {
                    let code = match &error {
                        coiote_access::Error::Coiote(coiote::Error::NotFound(_)) => "REPORTS_NOT_FOUND",
                        other => other.code(),
                    };
                    self.unread(code, &error.to_string());
                    may_go_on = error.is_retryable();
                    break;
                }
            };
            sum.looks += 1;
            if page.unreadable > 0 {
                self.unread("REPORT_NOT_UNDERSTOOD", &format!("{} entries are no reports", page.unreadable));
            }
            let mut keys = HashSet::new();
            let is_unknown = |report: &&TaskReport| keys.insert(key(report)) && !self.is_dealt_with(report, begun_at);
            let unknown: Vec<&TaskReport> = page.reports.iter().filter(is_unknown).collect();
            for reports in unknown.chunks(AT_ONCE) {
                if run.is_over() {
                    break 'pages;
                }
                for (report, whose) in reports.iter().zip(self.whose_are(reports).await) {
                    let dealt_with = match whose {
                        Ok(whose) => self.report(run, report, whose, sum).await,
                        Err(error) => Err(error),
                    };
                    let Err(error) = dealt_with else {
                        failures = 0;
                        continue;
                    };
                    failures += 1;
                    run.trouble(&report.device_id, error.code(), &error.to_string());
                    if run.is_of_the_ledger(&error, failures) {
                        return Err(error);
                    }
                }
            }
            let latest = cursor::latest(page.reports.iter().filter_map(updated_at), begun_at);
            reached = reached.max(latest);
            match cursor::next(since, latest, page.is_full) {
                Next::Done => break,
                Next::From(from) => since = from,
                Next::Beyond(from) => {
                    let reason = "more reports of one instant than Coiote returns at once; those beyond are asked for one by one";
                    self.unread("REPORTS_OF_ONE_INSTANT", reason);
                    since = from;
                }
                Next::Stuck => {
                    self.unread("REPORTS_REPEATED", "Coiote returns reports from before the time that was asked for");
                    break;
                }
            }
            if run.is_over() {
                break;
            }
        }
        if let Some(until) = cursor::advanced(cursor, reached, begun_at) {
            self.ledger.set_reports_read_until(&iso8601_from_millis(until)).await?;
        }
        Ok(may_go_on)
    }

    /// Whether there is nothing to find out about the report, in a look that began then.
    fn is_dealt_with(&self, report: &TaskReport, begun_at: Millis) -> bool {
        match self.reports.get(&key(report)) {
            Some(Known::DealtWith) => true,
            Some(Known::FitsNobody { looked_up_at, .. }) => looked_up_at >= begun_at,
            None => false,
        }
    }

    async fn report(
        &self,
        run: &Run,
        report: &TaskReport,
        whose: Whose,
        sum: &mut Watched,
    ) -> Result<(), ledger::Error> {
        let (key, at) = (key(report), now());
        let known = self.reports.get(&key);
        let first_seen = match known {
            Some(Known::FitsNobody { first_seen, .. }) => first_seen,
            Some(Known::DealtWith) | None => at,
        };
        match whose {
            Whose::Ours(thing, item) => {
                if thing != report.device_id {
                    self.things.insert(report.device_id.clone(), thing.clone());
                }
                let event = reported(&item.device, report, at);
                let mut after = item.device.clone();
                after.apply(&event);
                let is_news = after != item.device;
                // An equal task of an earlier request has the same id: the report may be of one that is being handed over.
                let may_fit_later = !is_news && is_one_handed_over(&item.device);
                self.save(run, &thing, *item, &[event], sum).await?;
                self.reports.insert(key, later_or_done(may_fit_later, first_seen, at));
                if is_news && let Some(updated_at) = updated_at(report) {
                    metrics::histogram!("ReportLag").record(float(at.saturating_sub(updated_at)) / 1_000.0);
                }
                if known.is_none() || is_news {
                    sum.reports += 1;
                    let outcome = if is_news { "news" } else { "known" };
                    metrics::counter!("Reports", "outcome" => outcome).increment(1);
                }
            }
            Whose::Nobodys { may_fit_later } => {
                self.reports.insert(key, later_or_done(may_fit_later, first_seen, at));
                if known.is_none() {
                    sum.foreign += 1;
                    metrics::counter!("Reports", "outcome" => "foreign").increment(1);
                }
            }
        }
        Ok(())
    }

    /// Whose these are, all looked up at once.
    async fn whose_are(&self, reports: &[&TaskReport]) -> Vec<Result<Whose, ledger::Error>> {
        let mut look_ups = JoinSet::new();
        for (index, report) in reports.iter().enumerate() {
            let (ledger, thing) = (self.ledger.clone(), self.things.get(&report.device_id));
            let (device_id, task_id) = (report.device_id.clone(), report.task_id.clone());
            look_ups.spawn(async move { (index, whose(&ledger, &device_id, &task_id, thing).await) });
        }
        let mut found = look_ups.join_all().await;
        found.sort_by_key(|(index, _)| *index);
        found.into_iter().map(|(_, whose)| whose).collect()
    }

    /// Tells that reports could not be read: once for each kind, for an environment lives for hours and looks every few seconds.
    fn unread(&self, code: &'static str, reason: &str) {
        let is_new = self.told.lock().is_ok_and(|mut told| told.insert(code));
        if is_new {
            tracing::warn!(code, reason, "reports not read, or not all of them; it is not told again");
            metrics::counter!("ReportsUnread", "code" => code).increment(1);
        }
    }
}

/// The thing with a request that was handed over as the report's task: that with the device's id as its name, or the one that
/// the ledger knows, which may be known here.
async fn whose(ledger: &Ledger, device_id: &str, task_id: &str, thing: Option<String>) -> Result<Whose, ledger::Error> {
    if device_id.is_empty() || device_id.len() > LONGEST_ID {
        return Ok(Whose::Nobodys { may_fit_later: false });
    }
    let item = ledger.load(device_id).await?;
    if of_task(&item.device, task_id).is_some() {
        return Ok(Whose::Ours(device_id.to_owned(), Box::new(item)));
    }
    let thing = match thing {
        Some(thing) => Some(thing),
        None => ledger.thing_of_device(device_id).await?,
    };
    let Some(thing) = thing.filter(|thing| thing != device_id) else {
        // Whose first request it is, the ledger may not know the device of yet.
        let may_fit_later = item.device.is_empty() || is_one_handed_over(&item.device);
        return Ok(Whose::Nobodys { may_fit_later });
    };
    let item = ledger.load(&thing).await?;
    if of_task(&item.device, task_id).is_some() {
        return Ok(Whose::Ours(thing, Box::new(item)));
    }
    Ok(Whose::Nobodys { may_fit_later: is_one_handed_over(&item.device) })
}

fn later_or_done(may_fit_later: bool, first_seen: Millis, at: Millis) -> Known {
    let again = may_fit_later && at.saturating_sub(first_seen) < MAY_FIT_LATER;
    if again { Known::FitsNobody { first_seen, looked_up_at: at } } else { Known::DealtWith }
}

fn is_one_handed_over(device: &Device) -> bool {
    device.open().iter().any(|record| record.state == State::Held)
}

fn updated_at(report: &TaskReport) -> Option<Millis> {
    report.last_update_time.as_deref().and_then(millis_from_iso8601)
}

/// Tells a report from every other, and from what it was before it was updated.
fn key(report: &TaskReport) -> u64 {
    let mut hasher = DefaultHasher::new();
    let TaskReport { task_id, device_id, last_update_time, started_at, .. } = report;
    (task_id, device_id, last_update_time, started_at, report.status as u8).hash(&mut hasher);
    hasher.finish()
}
