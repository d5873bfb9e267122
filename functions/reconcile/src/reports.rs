//! Reads Coiote's reports of all devices, and ends the requests that they are about.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use coiote::{Reports, TaskReport, iso8601_from_millis, millis_from_iso8601};
use futures_util::future::join_all;
use ledger::{Item, Ledger};
use requests::{Device, Millis, State};

use lambda_support::now;

use crate::counts::float;
use crate::handle::Service;
use crate::look::Looking;
use crate::outcome::{AppliedEvents, find_by_task, report_event};
use crate::pass::{Next, Pass};
use crate::run::LedgerErrors;

/// Pages of a read: the next one goes on behind them.
pub(crate) const MAX_PAGES: usize = 50;

/// Time in which a report that matches no request is looked up again: it may come before the ledger has the task.
const MAY_MATCH_LATER: Millis = 15_000;

/// Reports that are looked up and processed at once.
const AT_ONCE: usize = 16;

/// Longest id of a device that is looked up, in bytes.
const MAX_DEVICE_ID: usize = 256;

/// End of a read of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadEnd {
    /// It came to the end of the list, or as far as Coiote lets it.
    Complete,
    /// There are more: the next read goes on behind those that it has seen.
    Unfinished,
    /// Coiote does not give the next page, now.
    Failed,
    /// Coiote refuses it, and so the next read as well.
    Refused,
}

/// Whether reports that were not read set off the alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unread {
    Alarming,
    /// The reports of single tasks make up for them.
    MadeUpFor,
}

/// State of a report that came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Processed,
    /// It matched no request when it was last looked up.
    Unmatched {
        first_seen: Millis,
        looked_up_at: Millis,
    },
}

/// Match of a report among the requests of this stack.
enum Match {
    Request { thing: String, item: Box<Item> },
    None { may_match_later: bool },
}

/// A report with its match.
type FoundMatch<'r> = (&'r TaskReport, Result<Match, ledger::Error>);

impl Service {
    /// Reads the reports since the last read.
    pub(crate) async fn read_reports(&self, looking: &Looking<'_>) -> Result<ReadEnd, ledger::Error> {
        let position = self.ledger.reports_read_until().await?.as_deref().and_then(millis_from_iso8601);
        let begun_at = now();
        let unfinished = self.unfinished_pass.lock().map_or(None, |mut pass| pass.take());
        let mut pass = Pass::begin(position, unfinished, begun_at);
        let end = self.read_pages(looking, &mut pass, begun_at).await?;
        let moved = match end {
            ReadEnd::Complete => pass.position_at_end(position),
            ReadEnd::Unfinished | ReadEnd::Failed | ReadEnd::Refused => {
                if let Ok(mut unfinished) = self.unfinished_pass.lock() {
                    *unfinished = Some(pass);
                }
                pass.position_so_far(position)
            }
        };
        if end == ReadEnd::Unfinished {
            let reason = "more reports than there was time for; the next read goes on behind those that were read";
            self.warn_once("REPORTS_TOO_MANY", Unread::MadeUpFor, reason);
        }
        if let Some(until) = moved {
            self.ledger.set_reports_read_until(&iso8601_from_millis(until)).await?;
        }
        Ok(end)
    }

    /// Reads the next pages of a pass over the reports, in a read that began then.
    async fn read_pages(
        &self,
        looking: &Looking<'_>,
        pass: &mut Pass,
        begun_at: Millis,
    ) -> Result<ReadEnd, ledger::Error> {
        let mut errors = LedgerErrors::default();
        for _ in 0..MAX_PAGES {
            let page = match self.coiote.reports_since(&iso8601_from_millis(pass.since()), looking.run.deadline).await {
                Ok(page) => page,
                Err(error) => {
                    self.warn_of_error(&error);
                    return Ok(if error.is_retryable() { ReadEnd::Failed } else { ReadEnd::Refused });
                }
            };
            if !self.process_page(looking, &page, begun_at, &mut errors).await? {
                return Ok(ReadEnd::Unfinished);
            }
            match pass.go_on(page.reports.iter().filter_map(updated_at), page.is_full, begun_at) {
                Next::Done => return Ok(ReadEnd::Complete),
                Next::From(_) => {}
                Next::Beyond(_) => {
                    let reason = "more reports of one instant than Coiote returns at once; those beyond are asked for one by one";
                    self.warn_once("REPORTS_OF_ONE_INSTANT", Unread::MadeUpFor, reason);
                }
                Next::Stuck => {
                    self.warn_once(
                        "REPORTS_REPEATED",
                        Unread::Alarming,
                        "Coiote returns reports from before the time that was asked for",
                    );
                    return Ok(ReadEnd::Complete);
                }
            }
            if looking.run.is_over() {
                break;
            }
        }
        Ok(ReadEnd::Unfinished)
    }

    /// Processes the new reports of a page, in a read that began then. Returns whether there was time for all of them.
    async fn process_page(
        &self,
        looking: &Looking<'_>,
        page: &Reports,
        begun_at: Millis,
        errors: &mut LedgerErrors,
    ) -> Result<bool, ledger::Error> {
        looking.count(|counts| counts.looks += 1);
        if page.unreadable > 0 {
            let unread = if page.reports.is_empty() { Unread::Alarming } else { Unread::MadeUpFor };
            self.warn_once("REPORT_NOT_UNDERSTOOD", unread, &format!("{} entries are no reports", page.unreadable));
        }
        let mut keys = HashSet::new();
        let is_new = |report: &&TaskReport| keys.insert(key(report)) && !self.is_processed(report, begun_at);
        let new: Vec<&TaskReport> = page.reports.iter().filter(is_new).collect();
        for reports in new.chunks(AT_ONCE) {
            if looking.run.is_over() {
                return Ok(false);
            }
            let matches = by_thing(self.find_matches(reports).await);
            let processed = join_all(matches.map(|matches| self.process_in_turn(looking, matches))).await;
            for (report, result) in processed.into_iter().flatten() {
                match result {
                    Ok(()) => errors.reset(),
                    Err(error) => errors.add(looking.run, &report.device_id, error)?,
                }
            }
        }
        Ok(true)
    }

    /// Whether the report needs no look-up in a read that began then.
    fn is_processed(&self, report: &TaskReport, begun_at: Millis) -> bool {
        match self.known_reports.get(&key(report)) {
            Some(Known::Processed) => true,
            Some(Known::Unmatched { looked_up_at, .. }) => looked_up_at >= begun_at,
            None => false,
        }
    }

    /// Processes reports of one thing. Returns each with its result.
    async fn process_in_turn<'r>(
        &self,
        looking: &Looking<'_>,
        matches: Vec<FoundMatch<'r>>,
    ) -> Vec<(&'r TaskReport, Result<(), ledger::Error>)> {
        let mut processed = Vec::with_capacity(matches.len());
        for (report, matched) in matches {
            let result = match matched {
                Ok(matched) => self.process(looking, report, matched).await,
                Err(error) => Err(error),
            };
            processed.push((report, result));
        }
        processed
    }

    async fn process(&self, looking: &Looking<'_>, report: &TaskReport, matched: Match) -> Result<(), ledger::Error> {
        let (key, at) = (key(report), now());
        let known = self.known_reports.get(&key);
        let first_seen = match known {
            Some(Known::Unmatched { first_seen, .. }) => first_seen,
            Some(Known::Processed) | None => at,
        };
        match matched {
            Match::Request { thing, item } => {
                if thing != report.device_id {
                    self.things.insert(report.device_id.clone(), thing.clone());
                }
                let mut applied = AppliedEvents::of(&item.device);
                applied.apply(report_event(&item.device, report, at));
                let is_news = applied.after != item.device;
                // An equal task of an earlier request has the same id: the report may be of one that is being handed over.
                let may_match_later = !is_news && is_one_held(&item.device);
                self.save(looking, &thing, *item, &applied).await?;
                self.known_reports.insert(key, state(may_match_later, first_seen, at));
                if is_news && let Some(updated_at) = updated_at(report) {
                    lambda_support::record("ReportLag", float(at.saturating_sub(updated_at)) / 1_000.0);
                }
                if known.is_none() || is_news {
                    looking.count(|counts| counts.reports += 1);
                    let outcome = if is_news { "news" } else { "known" };
                    metrics::counter!("Reports", "outcome" => outcome).increment(1);
                }
            }
            Match::None { may_match_later } => {
                self.known_reports.insert(key, state(may_match_later, first_seen, at));
                if known.is_none() {
                    looking.count(|counts| counts.foreign += 1);
                    metrics::counter!("Reports", "outcome" => "foreign").increment(1);
                }
            }
        }
        Ok(())
    }

    /// Matches of these reports, all looked up at once.
    async fn find_matches<'r>(&self, reports: &[&'r TaskReport]) -> Vec<FoundMatch<'r>> {
        let look_ups = reports.iter().map(async |report| {
            let thing = self.things.get(&report.device_id);
            (*report, find_match(&self.ledger, &report.device_id, &report.task_id, thing).await)
        });
        join_all(look_ups).await
    }

    fn warn_of_error(&self, error: &coiote_access::Error) {
        let (code, unread) = match error {
            coiote_access::Error::OutOfTime => return,
            coiote_access::Error::Coiote(coiote::Error::NotFound(_)) => ("REPORTS_NOT_FOUND", Unread::MadeUpFor),
            other => (other.code(), Unread::Alarming),
        };
        self.warn_once(code, unread, &error.to_string());
    }

    /// Counts that reports are not read, and warns of it: once for each code, because an environment lives for hours and reads every
    /// few seconds.
    fn warn_once(&self, code: &'static str, unread: Unread, reason: &str) {
        metrics::counter!("ReportsUnread", "code" => code).increment(1);
        if unread == Unread::Alarming {
            metrics::counter!("ReportsUnread").increment(1);
        }
        if self.logged_codes.lock().is_ok_and(|mut codes| codes.insert(code)) {
            tracing::warn!(code, reason, "reports not read, or not all of them; it is not told again");
        }
    }
}

/// Finds the thing with a request that was handed over as the report's task: the thing named by the device's id, or the one
/// that the ledger has for the device, which the caller may know.
async fn find_match(
    ledger: &Ledger,
    device_id: &str,
    task_id: &str,
    thing: Option<String>,
) -> Result<Match, ledger::Error> {
    if device_id.is_empty() || device_id.len() > MAX_DEVICE_ID {
        return Ok(Match::None { may_match_later: false });
    }
    let item = ledger.load(device_id).await?;
    if find_by_task(&item.device, task_id).is_some() {
        return Ok(Match::Request { thing: device_id.to_owned(), item: Box::new(item) });
    }
    let thing = match thing {
        Some(thing) => Some(thing),
        None => ledger.thing_of_device(device_id).await?,
    };
    let Some(thing) = thing.filter(|thing| thing != device_id) else {
        // At a thing's first request the ledger may not have the thing of the device yet.
        let may_match_later = item.device.is_empty() || is_one_held(&item.device);
        return Ok(Match::None { may_match_later });
    };
    let item = ledger.load(&thing).await?;
    if find_by_task(&item.device, task_id).is_some() {
        return Ok(Match::Request { thing, item: Box::new(item) });
    }
    Ok(Match::None { may_match_later: is_one_held(&item.device) })
}

/// The matches by their things: those of one thing write the same item, and are processed one after another.
fn by_thing(matches: Vec<FoundMatch<'_>>) -> impl Iterator<Item = Vec<FoundMatch<'_>>> {
    let mut things: BTreeMap<String, Vec<FoundMatch<'_>>> = BTreeMap::new();
    for (report, matched) in matches {
        let thing = match &matched {
            Ok(Match::Request { thing, .. }) => thing,
            Ok(Match::None { .. }) | Err(_) => &report.device_id,
        };
        things.entry(thing.clone()).or_default().push((report, matched));
    }
    things.into_values()
}

/// State of a report after a look-up.
fn state(may_match_later: bool, first_seen: Millis, at: Millis) -> Known {
    let again = may_match_later && at.saturating_sub(first_seen) < MAY_MATCH_LATER;
    if again { Known::Unmatched { first_seen, looked_up_at: at } } else { Known::Processed }
}

/// Whether a run of operation-request is handing over a request of the device.
fn is_one_held(device: &Device) -> bool {
    device.open().iter().any(|record| record.state == State::Held)
}

fn updated_at(report: &TaskReport) -> Option<Millis> {
    report.last_update_time.as_deref().and_then(millis_from_iso8601)
}

/// Key that differs between all reports, and between the updates of one report.
fn key(report: &TaskReport) -> u64 {
    let mut hasher = DefaultHasher::new();
    let TaskReport { task_id, device_id, last_update_time, started_at, .. } = report;
    (task_id, device_id, last_update_time, started_at, report.status as u8).hash(&mut hasher);
    hasher.finish()
}
