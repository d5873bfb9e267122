//! Matching of results with requests. A result does not name the request that it answers, only its operation and paths.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
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

pub(crate) fn fnv_1a(bytes: impl Iterator<Item = u8>) -> u32 {
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
    joined_pieces(pieces).map(|(_, key)| key).collect()
}

/// The keys that pieces of a list of failed keys may stand for, each with the places of its pieces.
fn joined_pieces(pieces: &[String]) -> impl Iterator<Item = (Range<usize>, String)> {
    let ends = |start| (start + 1..=pieces.len()).take(MAX_PIECES).map(move |end| start..end);
    let runs = (0..pieces.len()).flat_map(ends).filter_map(|run| Some((run.clone(), pieces.get(run)?.join(","))));
    let keys = runs.map(|(run, joined)| (run, joined.trim().trim_end_matches('.').to_owned()));
    keys.filter(|(_, key)| !key.is_empty())
}

/// Levels of a path: object, object instance, resource, resource instance.
const LEVELS: usize = 4;

/// Paths that a result names, as hashes ([`path_hash`]), those of each level apart.
///
/// Stored as one text: the hashes with eight hexadecimal digits each, and a comma between two levels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct NamedPaths(Vec<Vec<u32>>);

impl NamedPaths {
    /// Paths that a result names.
    pub fn of(result: &Json) -> NamedPaths {
        fn walk(prefix: &str, tree: &Json, level: usize, into: &mut NamedPaths) {
            let Json::Object(parts) = tree else { return };
            for (name, part) in parts {
                if name == "noValue" && level == LEVELS - 1 {
                    continue;
                }
                let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                let Some(hashes) = into.0.get_mut(level) else { return };
                hashes.push(path_hash(&path));
                walk(&path, part, level + 1, into);
            }
        }
        let mut named = NamedPaths(vec![Vec::new(); LEVELS]);
        walk("", result, 0, &mut named);
        for hashes in &mut named.0 {
            hashes.sort_unstable();
            hashes.dedup();
        }
        named
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Vec::is_empty)
    }

    /// Whether the path with that hash is among them.
    pub fn contains(&self, path: u32) -> bool {
        self.level_of(path).is_some()
    }

    fn level_of(&self, path: u32) -> Option<usize> {
        self.0.iter().position(|hashes| hashes.binary_search(&path).is_ok())
    }

    /// Number of objects among them.
    fn objects(&self) -> usize {
        self.0.first().map_or(0, Vec::len)
    }
}

/// How closely a result fits the keys of a request that it may answer. A result of a narrow request names paths that also a wide
/// one asks for, but hardly the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    /// It names more than they ask for.
    Beyond,
    /// They ask for the whole data model.
    Whole,
    /// Some are given by numbers, whose names in the result are not known.
    ByNumber,
    /// It names nothing beyond them down to the level of the widest key.
    Within {
        /// Number of levels of that key.
        widest: usize,
        /// Whether all keys have that level: below it, the ledger does not know which paths lie in which key.
        is_exact: bool,
    },
}

impl Fit {
    /// Fit of a result with these paths and failed keys.
    pub(crate) fn of(paths: &NamedPaths, failed_keys: &[String], keys: &[String]) -> Fit {
        if keys.is_empty() || keys.iter().any(String::is_empty) {
            return Fit::Whole;
        }
        if keys.iter().any(|key| key.starts_with('/')) {
            let object = |key: &String| key.trim_start_matches('/').split(['/', '.']).next().map(str::to_owned);
            let objects: BTreeSet<String> = keys.iter().filter_map(object).collect();
            return if paths.objects() > objects.len() { Fit::Beyond } else { Fit::ByNumber };
        }
        let level = |key: &String| paths.level_of(path_hash(key)).unwrap_or(key.matches('.').count().min(LEVELS - 1));
        let levels: BTreeSet<usize> = keys.iter().map(|key| level(key) + 1).collect();
        let widest = levels.first().copied().unwrap_or(LEVELS);
        let at_or_above: BTreeSet<u32> = keys.iter().flat_map(|key| hashes_down_to(key)).collect();
        let mut down_to_keys = paths.0.iter().take(widest).flatten();
        let names_no_more = down_to_keys.all(|path| at_or_above.contains(path)) && all_failed_within(failed_keys, keys);
        if names_no_more { Fit::Within { widest, is_exact: levels.len() == 1 } } else { Fit::Beyond }
    }

    /// Whether the result may be of another request, whose own result would fit that one more closely than this one.
    pub(crate) fn is_doubtful(self) -> bool {
        matches!(self, Fit::Beyond | Fit::ByNumber | Fit::Within { is_exact: false, .. })
    }

    /// Whether a result that fits one request so may rather be of another one, which it fits as in `other`.
    pub(crate) fn may_rather_be(self, other: Fit) -> bool {
        let is_as_wide = |widest| matches!(other, Fit::Within { widest: other, is_exact: false } if other == widest);
        other > self || matches!(self, Fit::Within { widest, .. } if is_as_wide(widest))
    }
}

/// Whether each piece of a list of failed keys is a part of a failed key that lies in one of the keys.
fn all_failed_within(pieces: &[String], keys: &[String]) -> bool {
    let within = joined_pieces(pieces).filter(|(_, failed)| keys.iter().any(|key| lies_in(failed, key)));
    let places: BTreeSet<usize> = within.flat_map(|(places, _)| places).collect();
    pieces.iter().enumerate().all(|(place, piece)| piece.is_empty() || places.contains(&place))
}

/// Hashes of a path and of the levels above it. A name with dots adds some of no path.
fn hashes_down_to(path: &str) -> impl Iterator<Item = u32> {
    let ends = path.match_indices('.').map(|(end, _)| end).chain([path.len()]);
    ends.filter_map(|end| path.get(..end)).map(path_hash)
}

impl Serialize for NamedPaths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let levels: Vec<String> = self.0.iter().map(|hashes| hashes::to_text(hashes)).collect();
        serializer.serialize_str(&levels.join(","))
    }
}

impl<'de> Deserialize<'de> for NamedPaths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NamedPaths, D::Error> {
        let levels = String::deserialize(deserializer)?;
        let levels: Result<_, _> = levels.split(',').map(hashes::from_text).collect();
        levels.map(NamedPaths).map_err(D::Error::custom)
    }
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
pub(crate) fn answers_all_keys(keys: &[String], paths: &NamedPaths, failed_keys: &[String]) -> bool {
    let failed = possible_failed_keys(failed_keys);
    if paths.is_empty() && failed.is_empty() {
        return false;
    }
    let is_answered = |key: &String| {
        let is_named = if key.is_empty() || key.starts_with('/') {
            // The whole data model; or a path by numbers, whose names in the result are not known here.
            !paths.is_empty()
        } else {
            paths.contains(path_hash(key))
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
    reported_at > 0 && reported_at.saturating_add(1) < record.held_at()
}

/// Stored form of hashes: one text with eight hexadecimal digits for each.
pub(crate) mod hashes {
    use std::num::ParseIntError;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(hashes: &[u32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_text(hashes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
        from_text(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }

    pub(super) fn to_text(hashes: &[u32]) -> String {
        hashes.iter().map(|hash| format!("{hash:08x}")).collect()
    }

    pub(super) fn from_text(text: &str) -> Result<Vec<u32>, ParseIntError> {
        let digits = text.as_bytes().chunks(8).map(|digits| std::str::from_utf8(digits).unwrap_or_default());
        digits.map(|digits| u32::from_str_radix(digits, 16)).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn is_answered(keys: &[&str], result: Json, failed: &[&str]) -> bool {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        answers_all_keys(&owned(keys), &NamedPaths::of(&result), &owned(failed))
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
    fn a_result_fits_the_keys_beyond_which_it_names_nothing() {
        use Fit::{Beyond, ByNumber, Whole, Within};

        let exact = |widest| Within { widest, is_exact: true };

        let offset = json!({"Device": {"0": {"UTC Offset": "+02:00"}}});
        let device = json!({"Device": {"0": {"UTC Offset": "+02:00", "Error Code": {"0": "1"}}}});
        let all = json!({"Device": {"0": {"UTC Offset": "+02:00"}}, "PM2.5": {"0": {"A.B": "1"}}});
        let none = json!({});
        for (result, failed, keys, fit) in [
            (&offset, &[""][..], &["Device.0.UTC Offset"][..], exact(3)),
            (&offset, &[""], &["Device.0"], exact(2)),
            (&offset, &[""], &["Device"], exact(1)),
            (&offset, &[""], &[""], Whole),
            (&offset, &[""], &[], Whole),
            (&offset, &[""], &["/33000/0"], ByNumber),
            (&all, &[""], &["/33000/0"], Beyond),
            (&device, &[""], &["Device.0.UTC Offset"], Beyond),
            (&device, &[""], &["Device.0.Error Code"], Beyond),
            (&device, &[""], &["Device.0.UTC Offset", "Device.0.Error Code"], exact(3)),
            (&device, &[""], &["Device.0"], exact(2)),
            (&all, &[""], &["Device.0"], Beyond),
            (&all, &[""], &["Device.0", "PM2.5.0"], exact(2)),
            (&all, &[""], &["Device.0", "PM2.5.0.A.B"], Within { widest: 2, is_exact: false }),
            (&all, &[""], &["/33000/0/1", "/33000/0/2"], Beyond),
            (&all, &[""], &["/33000/0", "Device.0"], ByNumber),
            (&offset, &["Location.0.Speed"], &["Device.0.UTC Offset", "Location.0.Speed"], exact(3)),
            (&offset, &["Location.0.Speed"], &["Device", "Location"], exact(1)),
            (&offset, &["Location.0.Speed"], &["Device.0.UTC Offset"], Beyond),
            (&none, &["Location.0.Speed"], &["Location.0.Speed"], exact(3)),
            (&none, &["Location.0.Speed"], &["Location"], exact(1)),
            (&none, &["A.0.Validity (MCC", " MNC)"], &["A.0.Validity (MCC, MNC)"], exact(3)),
            (&none, &["A.0.Validity (MCC", " MNC)", "B"], &["A.0.Validity (MCC, MNC)"], Beyond),
        ] {
            let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
            let of = Fit::of(&NamedPaths::of(result), &owned(failed), &owned(keys));
            assert_eq!(of, fit, "{keys:?} {result} {failed:?}");
        }
    }

    #[test]
    fn named_paths_are_stored_by_level() {
        for result in [json!({}), json!({"Device": {"0": {"Error Code": {"0": "1"}}}}), json!({"Device": {}})] {
            let named = NamedPaths::of(&result);
            let stored = serde_json::to_string(&named).unwrap();
            assert_eq!(serde_json::from_str::<NamedPaths>(&stored).unwrap(), named, "{stored}");
        }
        // Before levels were apart
        let all: NamedPaths = serde_json::from_str("\"0000000100000002\"").unwrap();
        assert!(all.contains(1) && all.contains(2));
        assert!(serde_json::from_str::<NamedPaths>("\"x\"").is_err());
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
