//! What the ledger knows of a device's other results: which resources they touch, and when they were written.

use std::collections::HashSet;

use requests::{DatamodelWrite, excluded_hash, partial_hash, path_hash};

use super::change::Change;
use super::place::Place;

/// A result with a lower version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierResult {
    pub fingerprint: Vec<u32>,
    /// Nothing while its fold is not concluded. After more than one attempt it can only be [`DatamodelWrite::Unknown`].
    pub wrote: Option<DatamodelWrite>,
}

/// The other results of the device, as the ledger knows them.
#[derive(Debug, Clone, Default)]
pub struct OtherResults {
    newer: Vec<HashSet<u32>>,
    earlier: Vec<(HashSet<u32>, Option<DatamodelWrite>)>,
}

/// Whether a time in the metadata is that of an older result's fold, and not of a write by Coiote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Explained {
    No,
    /// A fold under way may have written it.
    Perhaps,
    Yes,
}

impl OtherResults {
    /// `newer`: the fingerprints of all results with a higher version, whatever became of them. `earlier`: those with a
    /// lower one.
    pub fn new(
        newer: impl IntoIterator<Item = Vec<u32>>,
        earlier: impl IntoIterator<Item = EarlierResult>,
    ) -> OtherResults {
        OtherResults {
            newer: newer.into_iter().map(|fingerprint| fingerprint.into_iter().collect()).collect(),
            earlier: earlier.into_iter().map(|of| (of.fingerprint.into_iter().collect(), of.wrote)).collect(),
        }
    }

    /// Whether a result with a higher version says anything of this resource, or of what it lies in.
    pub fn touches(&self, object: &str, instance: &str, resource: &str) -> bool {
        self.touches_within(&Place::new([object, instance, resource]))
    }

    /// Also of a single resource instance of it.
    pub(super) fn touches_within(&self, place: &Place<'_>) -> bool {
        self.newer.iter().any(|newer| is_touched_within(newer, place))
    }

    /// Whether the fold of an older result may have written since a time, or may still do so.
    pub(super) fn may_write_after(&self, time: Option<u64>) -> bool {
        self.earlier.iter().any(|(_, wrote)| match wrote {
            None | Some(DatamodelWrite::Unknown) => true,
            Some(DatamodelWrite::At(at)) => time.is_none_or(|time| *at >= time),
            Some(DatamodelWrite::Nothing) => false,
        })
    }

    pub(super) fn explain(&self, place: &Place<'_>, time: u64) -> Explained {
        let mut explained = Explained::No;
        for (_, wrote) in self.earlier.iter().filter(|(earlier, _)| is_touched_within(earlier, place)) {
            match wrote {
                Some(DatamodelWrite::Unknown) => return Explained::Yes,
                Some(DatamodelWrite::At(at)) if *at == time => return Explained::Yes,
                Some(DatamodelWrite::At(_) | DatamodelWrite::Nothing) => {}
                None => explained = Explained::Perhaps,
            }
        }
        explained
    }
}

impl Change {
    /// What the result says something of by itself, as hashes (FNV-1a, 32 bits) for the ledger, which adds what was read as a
    /// whole ([`requests::covered_hashes`]). They are the same in every version of this program, so that what is in the ledger stays
    /// readable.
    pub fn fingerprint(&self) -> Vec<u32> {
        let mut hashes = HashSet::new();
        for resource in &self.resources {
            let place = resource.place();
            match resource.parts() {
                Some(parts) if !parts.is_empty() => {
                    hashes.insert(partial_hash(&place.path()));
                    hashes.extend(parts.keys().map(|part| path_hash(&place.below(part).path())));
                }
                _ => {
                    hashes.insert(path_hash(&place.path()));
                }
            }
        }
        hashes.extend(self.gone.iter().map(|path| path_hash(path)));
        hashes.extend(self.unclear.iter().map(|path| excluded_hash(path)));
        let mut hashes: Vec<u32> = hashes.into_iter().collect();
        hashes.sort_unstable();
        hashes
    }
}

/// The innermost level of which anything is said decides.
fn is_touched(fingerprint: &HashSet<u32>, place: &Place<'_>) -> bool {
    for level in place.levels().iter().rev() {
        if fingerprint.contains(&path_hash(level)) {
            return true;
        }
        if fingerprint.contains(&excluded_hash(level)) {
            return false;
        }
    }
    false
}

fn is_touched_within(fingerprint: &HashSet<u32>, place: &Place<'_>) -> bool {
    is_touched(fingerprint, place) || fingerprint.contains(&partial_hash(&place.path()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    /// What was read, and what of it failed; nothing of a write.
    type Read = Option<(Vec<String>, Vec<String>)>;

    fn read(keys: &[&str], failed: &[&str]) -> Read {
        let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        Some((owned(keys), owned(failed)))
    }

    /// As the ledger has it: a result that proves nothing answers nobody, so nothing is known of what was read.
    fn newer(result: Json, read: &Read) -> OtherResults {
        let change = Change::from_result(result).0;
        let read = read.iter().filter(|_| !change.is_empty());
        let covered = read.flat_map(|(keys, failed)| requests::covered_hashes(keys, failed));
        OtherResults::new([change.fingerprint().into_iter().chain(covered).collect()], [])
    }

    #[test]
    fn hashes_are_those_of_fnv_1a() {
        assert_eq!((path_hash(""), path_hash("a"), path_hash("foobar")), (0x811c_9dc5, 0xe40c_292c, 0xbf9c_f968));
    }

    #[test]
    fn a_result_touches_what_it_names_and_what_it_read() {
        let one = json!({"A": {"0": {"B": "1"}}});
        for (result, scope, touched, untouched) in [
            (one.clone(), None, &["A 0 B"][..], &["A 0 C", "A 1 B", "B 0 B", "A 0 B.1"][..]),
            (one.clone(), read(&["A.0"], &[""]), &["A 0 B", "A 0 C"], &["A 1 B"]),
            (one.clone(), read(&["A"], &[""]), &["A 0 B", "A 1 B"], &["B 0 B"]),
            (one.clone(), read(&[""], &[""]), &["A 0 B", "B 7 B"], &[]),
            (one.clone(), read(&["A", "B"], &["B"]), &["A 0 B", "A 1 B"], &["B 0 B"]),
            (one.clone(), read(&["A"], &["A.1"]), &["A 0 C"], &["A 1 B"]),
            (one, read(&["A.0.B", "A.0.C"], &[""]), &["A 0 B", "A 0 C"], &["A 0 D"]),
            (json!({"A": {"0": {"B": ["?"], "C": "1"}}}), read(&["A.0"], &[""]), &["A 0 C", "A 0 D"], &["A 0 B"]),
            (json!({"A": {"5": null}, "B": null}), None, &["A 5 B", "B 0 B"], &["A 4 B"]),
            (json!({"A": {"0": {"B": {"4": "5"}}}}), None, &["A 0 B"], &["A 0 C"]),
            // A result without paths proves nothing.
            (json!({}), read(&["A"], &[""]), &[], &["A 0 B"]),
        ] {
            let others = newer(result.clone(), &scope);
            let touches = |path: &str| {
                let mut names = path.split(' ');
                let mut next = || names.next().unwrap();
                others.touches(next(), next(), next())
            };
            for path in touched {
                assert!(touches(path), "{result} {scope:?} {path}");
            }
            for path in untouched {
                assert!(!touches(path), "{result} {scope:?} {path}");
            }
        }
    }

    #[test]
    fn of_a_multiple_resource_only_what_is_told_is_touched() {
        let part = Place::new(["A", "0", "B", "4"]);
        let other = Place::new(["A", "0", "B", "5"]);
        let result = json!({"A": {"0": {"B": {"4": "1"}}}});
        for (scope, touches_other) in
            [(None, false), (read(&["A.0.B.4"], &[""]), false), (read(&["A.0.B"], &[""]), true)]
        {
            let others = newer(result.clone(), &scope);
            assert!(others.touches_within(&part));
            assert_eq!(others.touches_within(&other), touches_other, "{scope:?}");
        }
    }

    #[test]
    fn a_read_of_everything_touches_everything() {
        let result = json!({"A": {"0": {"B": "1", "C": {"0": "1"}}}, "D": {"0": {"E": {"noValue": true}}}});
        let others = newer(result, &read(&[""], &[""]));
        assert!(others.touches("A", "0", "B") && others.touches("F", "1", "G"));
    }

    #[test]
    fn a_time_is_explained_by_the_fold_that_wrote_then() {
        let fingerprint = Change::from_result(json!({"A": {"0": {"B": "1"}}})).0.fingerprint();
        for (wrote, explained) in [
            (Some(DatamodelWrite::At(105)), Explained::Yes),
            (Some(DatamodelWrite::At(104)), Explained::No),
            (Some(DatamodelWrite::Nothing), Explained::No),
            (Some(DatamodelWrite::Unknown), Explained::Yes),
            (None, Explained::Perhaps),
        ] {
            let others = OtherResults::new([], [EarlierResult { fingerprint: fingerprint.clone(), wrote }]);
            assert_eq!(others.explain(&Place::new(["A", "0", "B"]), 105), explained, "{wrote:?}");
            assert_eq!(others.explain(&Place::new(["A", "0", "C"]), 105), Explained::No);
        }
    }
}
