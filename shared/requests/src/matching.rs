//! Matching of results with requests. A result does not name the request that it answers, only its operation and paths.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::event::ResultReceived;
use crate::record::{Record, State, has_result};
use crate::transitions::is_long_after;

/// Most pieces of a list of failed keys that may be one key: no registered name has more than three commas.
const MAX_PIECES: usize = 4;

/// Hash of a path in its dotted form (32-bit FNV-1a), by which results and requests are compared.
///
/// If two paths of a device had the same hash, a result could answer a request of the same operation for another path. For a
/// hundred paths, the chance is one in forty million.
pub fn path_hash(path: &str) -> u32 {
    fnv_1a(path.bytes())
}

/// Hash for a path that a result does not cover although it covers the path above.
pub fn excluded_hash(path: &str) -> u32 {
    fnv_1a([0].into_iter().chain(path.bytes()))
}

/// Hash for a resource of which a result covers single resource instances.
pub fn partial_hash(path: &str) -> u32 {
    fnv_1a(path.bytes().chain([0]))
}

fn fnv_1a(bytes: impl Iterator<Item = u8>) -> u32 {
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Hashes of the paths that a read of these keys covers, beside those that its result names. Within them, whatever the result
/// does not name no longer exists at the device.
pub fn covered_hashes(keys: &[String], failed_keys: &[String]) -> Vec<u32> {
    let failed = possible_failed_keys(failed_keys);
    let has_failed = |key: &String| failed.iter().any(|failed| lies_in(key, failed));
    let read = keys.iter().filter(|key| !has_failed(key)).map(|key| path_hash(key));
    let left_out = failed.iter().filter(|failed| keys.iter().any(|key| lies_in(failed, key)));
    read.chain(left_out.map(|failed| excluded_hash(failed))).collect()
}

/// All keys that the pieces of a list of failed keys may stand for. The list is one text that was split at commas, so a key
/// with a comma is in pieces. A key too many does no harm: its value only stays in the datamodel shadow.
pub fn possible_failed_keys(pieces: &[String]) -> BTreeSet<String> {
    let starts = (0..pieces.len()).filter_map(|start| pieces.get(start..));
    let runs = starts.flat_map(|rest| (1..=MAX_PIECES.min(rest.len())).filter_map(|length| rest.get(..length)));
    let keys = runs.map(|run| run.join(",").trim().trim_end_matches('.').to_owned());
    keys.filter(|key| !key.is_empty()).collect()
}

/// Hashes of the paths that a result names, at each level: object, object instance, resource, resource instance.
pub fn named_paths(result: &Json) -> Vec<u32> {
    fn walk(prefix: &str, tree: &Json, level: u8, into: &mut Vec<u32>) {
        let Json::Object(parts) = tree else { return };
        for (name, part) in parts {
            if name == "noValue" && level == 3 {
                continue;
            }
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            into.push(path_hash(&path));
            if level < 3 {
                walk(&path, part, level + 1, into);
            }
        }
    }
    let mut hashes = Vec::new();
    walk("", result, 0, &mut hashes);
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

/// Whether two paths are the same, or one lies within the other. The empty path is the whole data model.
pub fn keys_overlap(one: &str, other: &str) -> bool {
    lies_in(one, other) || lies_in(other, one)
}

/// Whether a path is the key or lies within it.
fn lies_in(path: &str, key: &str) -> bool {
    // Paths by numbers are separated by slashes, paths by names by dots.
    let separator = if key.starts_with('/') { '/' } else { '.' };
    key.is_empty() || path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(separator))
}

/// Whether a result with these paths and failed keys answers a request for these keys: each has to be among them.
pub(crate) fn answers_all_keys(keys: &[String], paths: &[u32], failed_keys: &[String]) -> bool {
    let failed = possible_failed_keys(failed_keys);
    if paths.is_empty() && failed.is_empty() {
        return false;
    }
    let is_answered = |key: &String| {
        let is_named = if key.is_empty() || key.starts_with('/') {
            // The whole data model; or a path by numbers, whose names in the result are not known here.
            !paths.is_empty()
        } else {
            paths.binary_search(&path_hash(key)).is_ok()
        };
        is_named || failed.iter().any(|failed| lies_in(failed, key))
    };
    // A read of the whole data model has one empty key, or none.
    if keys.is_empty() { !paths.is_empty() } else { keys.iter().all(is_answered) }
}

/// Whether a result may answer the request, judging by operation, state, version and time.
pub(crate) fn may_be_answered_by(record: &Record, result: &ResultReceived) -> bool {
    let state_fits = match record.state {
        State::Scheduled => true,
        // A report has refused it, so the result has to have failed keys.
        State::Ended(_) if record.proven => {
            record.task_id.is_some() && result.failed_keys.iter().any(|key| !key.is_empty())
        }
        State::Ended(_) => record.task_id.is_some() && record.yields(),
        State::Held | State::Waiting => false,
    };
    state_fits
        && has_result(&result.operation)
        && record.operation == result.operation
        && record.result_version.is_none()
        && is_earlier_than(record, result)
        && !came_before_hand_over(record, result.reported_at)
}

/// Whether the update that made the request came before the one that carried the result.
pub(crate) fn is_earlier_than(record: &Record, result: &ResultReceived) -> bool {
    record.order() < result.version || is_long_after(result.reported_at, record.requested_at)
}

/// Whether a result was written, at `reported_at`, before the run that handed the request over began. Shadows have times in
/// seconds, so a difference of one second is not certain.
pub(crate) fn came_before_hand_over(record: &Record, reported_at: u64) -> bool {
    reported_at > 0 && reported_at.saturating_add(1) < record.requested_at.saturating_add(record.waited)
}

/// Stored form of hashes: one text with eight hexadecimal digits for each.
pub(crate) mod hashes {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(hashes: &[u32], serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = hashes.iter().map(|hash| format!("{hash:08x}")).collect();
        serializer.serialize_str(&text)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.as_bytes().chunks(8).map(|digits| std::str::from_utf8(digits).unwrap_or_default());
        digits.map(|digits| u32::from_str_radix(digits, 16).map_err(serde::de::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn is_answered(keys: &[&str], result: Json, failed: &[&str]) -> bool {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        answers_all_keys(&owned(keys), &named_paths(&result), &owned(failed))
    }

    #[test]
    fn every_key_has_to_be_answered() {
        let result = || json!({"Device": {"0": {"UTC Offset": "+02:00", "Error Code": {"0": "1"}}}, "PM2.5": {"0": {"A.B": "1"}}});
        for (keys, failed, expected) in [
            (&["Device"][..], &[""][..], true),
            (&["Device.0"], &[""], true),
            (&["Device.0.UTC Offset"], &[""], true),
            (&["Device.0.Error Code.0"], &[""], true),
            (&["Device.0.Error Code.1"], &[""], false),
            (&["Device.0.Error Code.1"], &["Device.0.Error Code.1"], true),
            (&["PM2.5.0.A.B"], &[""], true),
            (&["Device.1"], &[""], false),
            (&["Device.0", "Location"], &[""], false),
            (&["Device.0", "Location"], &["Location"], true),
            (&["Device.0", "Location"], &["Location.0.Speed"], true),
            (&["Device.0", "Loc"], &["Location"], false),
            (&[""], &[""], true),
            (&[], &[""], true),
            (&["/33000/0"], &[""], true),
            (&["A.0.Validity (MCC, MNC)", "Device"], &["x", "A.0.Validity (MCC", " MNC)"], true),
            (&["A.0.Validity (MCC, MNC)"], &["A.0.Validity (MCC"], false),
        ] {
            assert_eq!(is_answered(keys, result(), failed), expected, "{keys:?} {failed:?}");
        }
    }

    #[test]
    fn a_result_without_paths_answers_only_by_failed_keys() {
        for keys in [&["Device"][..], &[""], &[]] {
            assert!(!is_answered(keys, json!({}), &[""]), "{keys:?}");
        }
        assert!(is_answered(&["Device"], json!({}), &["Device"]));
    }

    #[test]
    fn keys_overlap_if_one_lies_within_the_other() {
        for (one, other, overlap) in [
            ("Device.0.UTC Offset", "Device.0.UTC Offset", true),
            ("Device.0", "Device.0.UTC Offset", true),
            ("Device.0.UTC Offset", "Device.0.UTC", false),
            ("", "Device", true),
            ("Device.0.A", "Device.0.B", false),
        ] {
            assert_eq!(keys_overlap(one, other), overlap, "{one} {other}");
            assert_eq!(keys_overlap(other, one), overlap, "{other} {one}");
        }
    }
}
