//! Copies of a device's records, which authors read under `reported.requests` of the operation shadow.

use std::collections::BTreeMap;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::Millis;
use crate::device::{Device, ENDED_KEPT, ENDED_STAYS};
use crate::record::{Reason, Record, State, Status, truncated};

/// Most open requests that are copied.
const MAX_OPEN: usize = 8;

/// Most bytes of all copies: the operation shadow has 8 KB for them, the request and Coiote's result.
const MAX_BYTES: usize = 5_000;

/// Most bytes of a message if the copies are too long otherwise.
const SHORT_MESSAGE: usize = 100;

/// Most bytes of a message if they are still too long.
const SHORTEST_MESSAGE: usize = 20;

/// Most bytes of a client token, as AWS IoT limits it.
const MAX_TOKEN_BYTES: usize = 64;

/// Copy of one request. Empty fields are left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestCopy {
    /// Operation of the request.
    pub operation: String,
    /// Status of the request.
    pub status: Status,
    /// Client token that its author gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    /// Id of its task at Coiote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// Id of the Lambda invocation that dealt with it last, while it is IN_PROGRESS or FAILED.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Time of its last change, as `2026-11-22T18:00:00Z`.
    pub updated_at: String,
    /// Reason of the status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Properties in the device's report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<serde_json::Value>,
}

impl RequestCopy {
    /// Copy of a record.
    pub fn from_record(record: &Record) -> RequestCopy {
        let status = record.status();
        let shows_run = matches!(status, Status::InProgress | Status::Failed) && !record.run.is_empty();
        RequestCopy {
            operation: record.operation.clone(),
            status,
            client_token: record
                .client_token
                .as_ref()
                .map(|token| truncated(token, MAX_TOKEN_BYTES).unwrap_or(token).to_owned()),
            task_id: record.task_id.clone(),
            request_id: shows_run.then(|| record.run.clone()),
            updated_at: timestamp(record.updated_at),
            reason: record.reason.clone(),
            properties: record.properties.as_ref().and_then(|json| serde_json::from_str(json).ok()),
        }
    }
}

/// Copies at a time, by the names of the requests: the newest eight open ones, the last three that ended, and all that ended
/// within the last five minutes.
pub fn request_copies(device: &Device, at: Millis) -> BTreeMap<String, RequestCopy> {
    let open = device.open().iter().rev().take(MAX_OPEN);
    let is_recent = |record: &Record| record.updated_at.saturating_add(ENDED_STAYS) > at;
    let mut last: Vec<&Record> = device.ended().iter().collect();
    last.sort_by_key(|record| record.updated_at);
    let kept = last.len().saturating_sub(ENDED_KEPT);
    let ended = last.into_iter().enumerate().filter(|(index, record)| *index >= kept || is_recent(record));
    let ended: Vec<(usize, &Record)> = ended.collect();
    let surplus = ended.iter().filter(|(index, _)| *index < kept).count();
    let shown: Vec<&Record> = ended.into_iter().map(|(_, record)| record).chain(open.rev()).collect();
    let mut entries: BTreeMap<String, RequestCopy> = shown
        .iter()
        .filter(|record| !matches!(record.state, State::Ended(Status::Ignored)))
        .map(|record| (record.name.to_string(), RequestCopy::from_record(record)))
        .collect();
    if size(&entries) > MAX_BYTES {
        let by_age: Vec<String> = shown.iter().map(|record| record.name.to_string()).collect();
        let (surplus, kept) = by_age.split_at_checked(surplus).unwrap_or((&by_age, &[]));
        shorten(&mut entries, surplus, kept);
    }
    entries
}

/// Shortens the copies until they fit. In this order it leaves out: requests that ended before the last three, the oldest
/// first; the ends of long messages; properties; more of the messages; and if names and ids are still too long, those that
/// ended and then the open ones, the oldest first.
fn shorten(entries: &mut BTreeMap<String, RequestCopy>, surplus: &[String], kept: &[String]) {
    if leave_out(entries, surplus) || shorten_messages(entries, SHORT_MESSAGE) {
        return;
    }
    for entry in entries.values_mut() {
        entry.properties = None;
    }
    if size(entries) > MAX_BYTES && !shorten_messages(entries, SHORTEST_MESSAGE) {
        leave_out(entries, kept);
    }
}

/// Leaves requests out until the others fit, the oldest first. Returns whether they fit.
fn leave_out(entries: &mut BTreeMap<String, RequestCopy>, oldest_first: &[String]) -> bool {
    let mut total = size(entries);
    for name in oldest_first {
        if total <= MAX_BYTES {
            break;
        }
        if let Some(entry) = entries.remove(name) {
            // Beside the copy: its name in quotes, a colon and a comma.
            total = total.saturating_sub(name.len() + 4 + size(&entry));
        }
    }
    total <= MAX_BYTES
}

/// Cuts messages to `max` bytes. Returns whether all copies fit then.
fn shorten_messages(entries: &mut BTreeMap<String, RequestCopy>, max: usize) -> bool {
    for reason in entries.values_mut().filter_map(|entry| entry.reason.as_mut()) {
        if let Some(beginning) = truncated(&reason.message, max) {
            reason.message = format!("{beginning} …");
        }
    }
    size(entries) <= MAX_BYTES
}

/// Length of a part's JSON in bytes.
fn size(part: &impl Serialize) -> usize {
    serde_json::to_string(part).map_or(0, |json| json.len())
}

/// Time of an event in seconds since 1970: AWS gives some in milliseconds.
pub fn in_seconds(time: u64) -> u64 {
    if time > 100_000_000_000 { time / 1_000 } else { time }
}

/// Time in the form of AWS, as `2026-11-22T18:00:00Z`.
pub fn timestamp(at: Millis) -> String {
    let seconds = i64::try_from(at / 1_000).unwrap_or_default();
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_aws_writes_them() {
        for (at, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_795_500_000_999, "2026-11-24T06:00:00Z"),
        ] {
            assert_eq!(timestamp(at), expected);
        }
    }
}
