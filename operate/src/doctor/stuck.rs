//! Checks that nothing is stuck: events, answers, requests, and `reconcile`, which looks after them.

use std::collections::HashSet;

use aws_sdk_sqs::types::QueueAttributeName;
use futures_util::{StreamExt, TryStreamExt, stream};
use ledger::{DueIndex, Ledger};
use requests::{Millis, REPORT_REQUESTS, Record, Status};

use super::{Diagnoses, Diagnosis};
use crate::connection::{Aws, Stack};
use crate::exit::{Failure, could_not};
use crate::output::since;

/// Age of a due look at a device that shows that `reconcile`, which looks each minute, does not run.
const OVERDUE: Millis = 5 * 60_000;

/// Most entries of the index whose devices are read to find an old request.
const MOST_ENTRIES: u16 = 1_000;

/// Devices among them after which the search ends: others have requests of AWS IoT jobs only.
const DATED_DEVICES: usize = 100;

/// Devices that are read at the same time.
const AT_ONCE: usize = 16;

pub(super) async fn check(aws: &Aws, stack: &Stack, diagnoses: &mut Diagnoses) -> Result<(), Failure> {
    diagnoses.add(match messages_in(aws, stack.output("FailureQueueUrl")?).await {
        Ok(0) => Diagnosis::ok("failure queue", "empty"),
        Ok(waiting) => {
            let advice = "lwm2m redrive --dry-run shows them; when what was wrong is right again, lwm2m redrive";
            Diagnosis::wrong("failure queue", format!("{waiting} messages wait in it"), advice)
        }
        Err(failure) => Diagnosis::not_visible("failure queue", failure),
    });
    diagnoses.add(match messages_in(aws, stack.output("AnswersQueueUrl")?).await {
        Ok(0) => Diagnosis::ok("answers queue", "empty"),
        Ok(waiting) => Diagnosis::unsure(
            "answers queue",
            format!("the answers of {waiting} things are tried again"),
            "if they do not get fewer, the log of answers says why they cannot be written",
        ),
        Err(failure) => Diagnosis::not_visible("answers queue", failure),
    });
    let ledger = aws.ledger(stack)?;
    let now = lambda_support::now();
    diagnoses.add(check_reconcile(&ledger, stack, now).await?);
    diagnoses.add(check_oldest_request(&ledger, now).await);
    Ok(())
}

/// Counts the messages in a queue, those that are being received included.
async fn messages_in(aws: &Aws, url: &str) -> Result<u64, Failure> {
    use QueueAttributeName::{ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible};
    let names = [ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible];
    let answer = aws.sqs().get_queue_attributes().queue_url(url).set_attribute_names(Some(names.to_vec())).send().await;
    let counts = answer.map_err(could_not("look into it"))?.attributes.unwrap_or_default();
    Ok(names.iter().filter_map(|name| counts.get(name)?.parse::<u64>().ok()).sum())
}

async fn check_reconcile(ledger: &Ledger, stack: &Stack, now: Millis) -> Result<Diagnosis, Failure> {
    let function = stack.output("ReconcileFunction")?;
    let overdue = match ledger.due(DueIndex::Look, 0, now.saturating_sub(OVERDUE), 1).await {
        Ok(due) => due.into_iter().next(),
        Err(error) => return Ok(Diagnosis::not_visible("reconcile", error)),
    };
    let read_until = ledger.reports_read_until().await.map_err(|error| error.to_string());
    Ok(diagnosis_of_reconcile(overdue, &read_until, stack.name(), function, now))
}

/// Judges whether `reconcile` runs, by the look that is overdue and the time until which it has read Coiote's reports. That time is
/// never later than the read, but also old where Coiote has no newer report: only a recent one says something.
fn diagnosis_of_reconcile(
    overdue: Option<(Millis, String)>,
    read_until: &Result<Option<String>, String>,
    stack: &str,
    function: &str,
    now: Millis,
) -> Diagnosis {
    let subject = "reconcile";
    let has_read = match read_until {
        Ok(Some(until)) => format!("Coiote's reports are read until {until}"),
        Ok(None) => "no report of Coiote has been read yet".to_owned(),
        Err(error) => error.clone(),
    };
    if let Some((at, thing)) = overdue {
        return Diagnosis::wrong(
            subject,
            format!("it should have looked at {thing} {}, and has not; {has_read}", since(at)),
            format!("look whether its schedule is enabled, and what {function} logs"),
        );
    }
    let read_until = read_until.as_ref().ok().and_then(Option::as_deref);
    if read_until.and_then(coiote::millis_from_iso8601).is_some_and(|until| until >= now.saturating_sub(OVERDUE)) {
        return Diagnosis::ok(subject, format!("it runs: {has_read}"));
    }
    Diagnosis::unsure(
        subject,
        format!("no look at a device is overdue, so the ledger does not show whether it runs; {has_read}"),
        format!("the alarm {stack}-reconcile-not-running shows it"),
    )
}

async fn check_oldest_request(ledger: &Ledger, now: Millis) -> Diagnosis {
    let subject = "oldest open request";
    let mut search = OldestRequest::default();
    let is_all = match search.read(ledger, now).await {
        Ok(is_all) => is_all,
        Err(error) => return Diagnosis::not_visible(subject, error),
    };
    let OldestRequest { oldest, devices } = search;
    let among = if is_all { String::new() } else { format!(" (of the first {} devices)", devices.len()) };
    let Some((thing, record)) = oldest else { return Diagnosis::ok(subject, format!("there is none{among}")) };
    let made_at = record.requested_at.saturating_mul(1_000);
    let status = record.status().as_str();
    let detail = format!("{} {} of {thing}, {status}, made {}{among}", record.operation, record.name, since(made_at));
    // The same limit as the alarm's: half of its lifetime is over.
    if now.saturating_sub(made_at) > record.expires_at.saturating_sub(made_at) / 2 {
        let advice = format!("{}; lwm2m cancel {thing} {} takes it back", why_it_is_open(&record), record.name);
        return Diagnosis::wrong(subject, detail, advice);
    }
    Diagnosis::ok(subject, detail)
}

/// Search for the oldest open request.
#[derive(Default)]
struct OldestRequest {
    /// The oldest one so far, with its thing.
    oldest: Option<(String, Record)>,
    /// Devices whose requests were read.
    devices: HashSet<String>,
}

impl OldestRequest {
    /// Reads the first devices of the index, and those whose requests' lifetimes end next. Returns whether these were all.
    async fn read(&mut self, ledger: &Ledger, now: Millis) -> Result<bool, ledger::Error> {
        let is_all = self.read_from(ledger, 0).await?;
        if !is_all {
            // Entries later than the last request for the report of a task are ends of lifetimes.
            let [.., last_report_request] = REPORT_REQUESTS;
            self.read_from(ledger, now.saturating_add(last_report_request)).await?;
        }
        Ok(is_all)
    }

    /// Reads the first devices that are due from that time on. Returns whether these were all.
    async fn read_from(&mut self, ledger: &Ledger, from: Millis) -> Result<bool, ledger::Error> {
        let mut due = ledger.due(DueIndex::Look, from, Millis::MAX, MOST_ENTRIES.into()).await?;
        let is_all = due.len() < MOST_ENTRIES.into();
        due.retain(|(_, thing)| !self.devices.contains(thing));
        let load = |(_, thing): (Millis, String)| async { ledger.load(&thing).await.map(|item| (thing, item)) };
        let mut items = stream::iter(due).map(load).buffered(AT_ONCE);
        let mut dated_devices = 0;
        while let Some((thing, item)) = items.try_next().await? {
            if dated_devices == DATED_DEVICES {
                return Ok(false);
            }
            let dated = item.device.open().iter().filter(|record| record.has_known_age());
            if let Some(record) = dated.min_by_key(|record| record.requested_at) {
                dated_devices += 1;
                if self.oldest.as_ref().is_none_or(|(_, oldest)| record.requested_at < oldest.requested_at) {
                    self.oldest = Some((thing.clone(), record.clone()));
                }
            }
            self.devices.insert(thing);
        }
        Ok(is_all)
    }
}

/// Says why a request may be open for so long.
fn why_it_is_open(record: &Record) -> String {
    match (record.status(), &record.reason) {
        (Status::InProgress, Some(reason)) => {
            format!("Coiote does not have it yet; docs/errors.md says what to do about {}", reason.code)
        }
        (Status::InProgress, None) => "Coiote does not have it yet".to_owned(),
        _ => "its device sleeps or is gone".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::State;
    use super::*;

    #[test]
    fn reconcile_is_only_ok_if_something_shows_that_it_runs() {
        let now = coiote::millis_from_iso8601("2026-11-26T12:00:00Z").unwrap();
        let state = |overdue, read_until: Option<&str>| {
            let read_until = Ok(read_until.map(str::to_owned));
            diagnosis_of_reconcile(overdue, &read_until, "stack", "function", now).state
        };
        let overdue = || Some((now - OVERDUE, "a".to_owned()));
        assert_eq!(state(None, Some("2026-11-26T11:58:00Z")), State::Ok);
        assert_eq!(state(None, Some("2026-11-26T11:00:00Z")), State::Unsure);
        assert_eq!(state(None, None), State::Unsure);
        assert_eq!(state(overdue(), Some("2026-11-26T11:58:00Z")), State::Wrong);
        assert_eq!(state(overdue(), None), State::Wrong);
    }

    #[test]
    fn the_advice_on_an_old_request_depends_on_who_has_it() {
        let waits = json!({"code": "COIOTE_UNAVAILABLE"});
        for (state, reason, part) in [
            ("S", json!(null), "sleeps"),
            ("S", json!({"code": "SESSION_NOT_STARTED"}), "sleeps"),
            ("W", waits, "Coiote does not have it yet; docs/errors.md says what to do about COIOTE_UNAVAILABLE"),
            ("H", json!(null), "Coiote does not have it yet"),
        ] {
            let record = json!({"n": 5, "o": "read", "s": state, "e": reason, "z": 0});
            let why = why_it_is_open(&serde_json::from_value(record).unwrap());
            assert!(why.contains(part), "{state}: {why}");
        }
    }
}
