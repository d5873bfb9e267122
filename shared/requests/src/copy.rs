//! The copy of a device's records that their authors read, under `reported.requests` of the operation shadow.

use std::collections::BTreeMap;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::Millis;
use crate::device::{Device, ENDED_KEPT, ENDED_STAYS};
use crate::record::{Reason, Record, State, Status, cut};

/// Open requests that stand in the copy, the newest ones.
const OPEN_SHOWN: usize = 8;

/// Room of all entries in bytes: the operation shadow has 8 KB for these, the request and Coiote's result.
const ROOM: usize = 5_000;

/// Longest message in bytes where the room does not do for longer ones.
const SHORT_MESSAGE: usize = 100;

/// … and where it does not do for those.
const SHORTEST_MESSAGE: usize = 20;

/// Longest client token that AWS IoT takes, in bytes.
const LONGEST_TOKEN: usize = 64;

/// One request in the copy. What is empty is absent.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestCopy {
    pub operation: String,
    pub status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    pub updated_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<serde_json::Value>,
}

impl RequestCopy {
    pub fn from_record(record: &Record) -> RequestCopy {
        let status = record.status();
        let shows_run = matches!(status, Status::InProgress | Status::Failed) && !record.run.is_empty();
        RequestCopy {
            operation: record.operation.clone(),
            status,
            client_token: record
                .client_token
                .as_ref()
                .map(|token| cut(token, LONGEST_TOKEN).unwrap_or(token).to_owned()),
            task_id: record.task_id.clone(),
            request_id: shows_run.then(|| record.run.clone()),
            updated_at: timestamp(record.updated_at),
            reason: record.reason.clone(),
            properties: record.properties.as_ref().and_then(|json| serde_json::from_str(json).ok()),
        }
    }
}

/// The copy as it is at that time: the newest eight open requests, the last three that ended, and all that ended within five
/// minutes; by the name of the request.
pub fn request_copies(device: &Device, at: Millis) -> BTreeMap<String, RequestCopy> {
    let open = device.open().iter().rev().take(OPEN_SHOWN);
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
    if size(&entries) > ROOM {
        let by_age: Vec<String> = shown.iter().map(|record| record.name.to_string()).collect();
        let (surplus, kept) = by_age.split_at_checked(surplus).unwrap_or((&by_age, &[]));
        fit(&mut entries, surplus, kept);
    }
    entries
}

/// Leaves out what there is no room for: what ended before the last three, the oldest first; the ends of long messages; what
/// reports say beyond success; more of the messages; and where names and ids are that long, what ended and then what is open,
/// the oldest first.
fn fit(entries: &mut BTreeMap<String, RequestCopy>, surplus: &[String], kept: &[String]) {
    if leave_out(entries, surplus) || shorten_messages(entries, SHORT_MESSAGE) {
        return;
    }
    for entry in entries.values_mut() {
        entry.properties = None;
    }
    if size(entries) > ROOM && !shorten_messages(entries, SHORTEST_MESSAGE) {
        leave_out(entries, kept);
    }
}

/// Whether the others have room then.
fn leave_out(entries: &mut BTreeMap<String, RequestCopy>, oldest_first: &[String]) -> bool {
    let mut total = size(entries);
    for name in oldest_first {
        if total <= ROOM {
            break;
        }
        if let Some(entry) = entries.remove(name) {
            // With the quotes of its name, the colon and the comma.
            total = total.saturating_sub(name.len() + 4 + size(&entry));
        }
    }
    total <= ROOM
}

/// Whether all have room then.
fn shorten_messages(entries: &mut BTreeMap<String, RequestCopy>, most: usize) -> bool {
    for reason in entries.values_mut().filter_map(|entry| entry.reason.as_mut()) {
        if let Some(beginning) = cut(&reason.message, most) {
            reason.message = format!("{beginning} …");
        }
    }
    size(entries) <= ROOM
}

/// Bytes of its JSON.
fn size(part: &impl Serialize) -> usize {
    serde_json::to_string(part).map_or(0, |json| json.len())
}

/// A time in the form of AWS: `2026-11-22T18:00:00Z`.
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
