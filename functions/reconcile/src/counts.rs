//! Counts of a run: its summary, its log line and its metrics.

use lambda_support::now;
use requests::{Device, Millis, Record, Status};
use serde::Serialize;

/// Counts of the devices and reports that a run looked at.
#[derive(Debug, Default)]
pub(crate) struct LookCounts {
    /// Devices that were looked at.
    pub(crate) looked_at: usize,
    /// Pages of reports of all devices.
    pub(crate) looks: usize,
    /// Reports about requests of this stack.
    pub(crate) reports: usize,
    /// Reports about other tasks.
    pub(crate) foreign: usize,
    /// Tasks whose report was asked for one by one.
    pub(crate) asked: usize,
    /// Tasks that were removed.
    pub(crate) removed: usize,
    /// Requests that have an outcome now.
    pub(crate) ended: usize,
    /// The oldest open requests that were seen.
    oldest: Oldest,
    /// Largest part of its lifetime, in percent, that one of them has used.
    lifetime_used: u64,
}

/// Counts of the requests that a run handed over.
#[derive(Debug, Clone, Default)]
pub(crate) struct HandOverCounts {
    /// Things with a request that waited when the run began, up to a page.
    pub(crate) waiting: usize,
    pub(crate) invoked: usize,
    pub(crate) scheduled: usize,
    /// Most invocations at once.
    pub(crate) most_at_once: usize,
    pub(crate) is_coiote_away: bool,
}

/// Number of things in an index from which on counting them each minute would cost much: DynamoDB bills what is counted.
const MANY: u64 = 1_000;

/// Time for which the number of many things is not counted again.
const COUNT_INTERVAL: Millis = 10 * 60_000;

/// Number of things in an index of the ledger, and when they were counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) things: u64,
    pub(crate) at: Millis,
}

impl Counted {
    /// Whether it is too early to count again.
    pub(crate) fn is_to_be_kept(self, now: Millis) -> bool {
        self.things >= MANY && now.saturating_sub(self.at) < COUNT_INTERVAL
    }
}

/// Open requests in the ledger's indexes, when a run begins.
#[derive(Debug, Default)]
pub(crate) struct Stock {
    /// Things with open requests.
    pub(crate) things: u64,
    /// Things with a request that waits to be handed over.
    pub(crate) waiting: u64,
}

/// When the oldest open requests were made, in seconds since 1970.
#[derive(Debug, Default)]
struct Oldest {
    waiting: Option<u64>,
    scheduled: Option<u64>,
}

/// Summary of a run, which the function returns.
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

impl Summary {
    pub(crate) fn of(looks: &LookCounts, hand_overs: &HandOverCounts) -> Summary {
        Summary {
            looked_at: looks.looked_at,
            reports: looks.reports,
            ended: looks.ended,
            removed: looks.removed,
            waiting: hand_overs.waiting,
            handed_over: hand_overs.scheduled,
            most_at_once: hand_overs.most_at_once,
            coiote_away: hand_overs.is_coiote_away,
        }
    }
}

impl Oldest {
    fn of_any(&self) -> Option<u64> {
        self.waiting.into_iter().chain(self.scheduled).min()
    }
}

impl LookCounts {
    /// Notes the age of the device's open requests. Returns whether it has any whose age is known.
    pub(crate) fn note_age(&mut self, device: &Device) -> bool {
        let (at, mut is_any) = (now(), false);
        for record in device.open().iter().filter(|record| record.has_known_age()) {
            let is_scheduled = record.status() == Status::Scheduled;
            let oldest = if is_scheduled { &mut self.oldest.scheduled } else { &mut self.oldest.waiting };
            *oldest = (*oldest).into_iter().chain([record.requested_at]).min();
            self.lifetime_used = self.lifetime_used.max(lifetime_used(record, at));
            is_any = true;
        }
        is_any
    }
}

/// Part of its lifetime that a request has used, in percent.
fn lifetime_used(record: &Record, at: Millis) -> u64 {
    let made_at = record.requested_at.saturating_mul(1_000);
    let used = at.saturating_sub(made_at).saturating_mul(100);
    used.checked_div(record.expires_at.saturating_sub(made_at)).unwrap_or_default()
}

/// Sets the metrics of open requests, and whether Coiote is away.
pub(crate) fn measure(stock: &Stock, looks: &LookCounts, hand_overs: &HandOverCounts) {
    metrics::gauge!("CoioteAway").set(f64::from(u8::from(hand_overs.is_coiote_away)));
    metrics::gauge!("ThingsWithOpenRequests").set(float(stock.things));
    metrics::gauge!("WaitingRequests").set(float(stock.waiting));
    let age = |made_at: Option<u64>| float(made_at.map_or(0, |seconds| (now() / 1_000).saturating_sub(seconds)));
    let oldest = &looks.oldest;
    metrics::gauge!("OldestOpenRequestAge").set(age(oldest.of_any()));
    for (status, made_at) in [(Status::InProgress, oldest.waiting), (Status::Scheduled, oldest.scheduled)] {
        metrics::gauge!("OldestOpenRequestAge", "status" => status.as_str()).set(age(made_at));
    }
    metrics::gauge!("LifetimeUsed").set(float(looks.lifetime_used));
}

/// Writes the line of a run, which is the only one where nothing is wrong.
pub(crate) fn log(looks: &LookCounts, hand_overs: &HandOverCounts, error: Option<&ledger::Error>, duration_ms: f64) {
    if let Some(error) = error {
        let (code, reason) = (error.code(), error.to_string());
        tracing::error!(code, reason, duration_ms, "the ledger cannot be asked; the next run goes on");
        metrics::counter!("Failures", "code" => code).increment(1);
    }
    let oldest_s = looks.oldest.of_any().map(|seconds| (now() / 1_000).saturating_sub(seconds));
    let LookCounts { looked_at, looks, reports, foreign, asked, removed, ended, .. } = looks;
    let HandOverCounts { waiting, invoked, scheduled, most_at_once, is_coiote_away } = hand_overs;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_many_things_are_counted_less_often() {
        let now = 1_000_000_000;
        let is_kept = |things, age| Counted { things, at: now - age }.is_to_be_kept(now);
        assert!(!is_kept(999, 60_000));
        assert!(is_kept(1_000, 60_000));
        assert!(is_kept(1_000, 599_999));
        assert!(!is_kept(1_000, 600_000));
    }
}
