//! Other results of a device, from the ledger: the resources that they touch, and the times when they were written.

use std::collections::HashSet;

use requests::{DatamodelWrite, excluded_hash, partial_hash, path_hash};

use super::change::Change;
use super::place::Place;

/// A result that is older than the one being folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierResult {
    /// Fingerprint of the result, see [`Change::fingerprint`], with the paths that were read as a whole.
    pub fingerprint: Vec<u32>,
    /// Write of its fold; `None` while the fold is under way. After more than one attempt, only
    /// [`DatamodelWrite::Unknown`] is possible.
    pub wrote: Option<DatamodelWrite>,
}

/// Other results of a device, as the ledger knows them.
#[derive(Debug, Clone, Default)]
pub struct OtherResults {
    newer: Vec<HashSet<u32>>,
    earlier: Vec<(HashSet<u32>, Option<DatamodelWrite>)>,
}

/// Certainty of an answer about folds that may be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certainty {
    No,
    /// It depends on a fold under way.
    Perhaps,
    Yes,
}

impl OtherResults {
    /// `newer` are the fingerprints of all registered results with a higher version, `earlier` the results with a lower one.
    pub fn new(
        newer: impl IntoIterator<Item = Vec<u32>>,
        earlier: impl IntoIterator<Item = EarlierResult>,
    ) -> OtherResults {
        OtherResults {
            newer: newer.into_iter().map(|fingerprint| fingerprint.into_iter().collect()).collect(),
            earlier: earlier.into_iter().map(|of| (of.fingerprint.into_iter().collect(), of.wrote)).collect(),
        }
    }

    /// Whether a newer result touches the place, a level above it, or a resource instance below it.
    pub(super) fn touches(&self, place: &Place<'_>) -> bool {
        self.newer.iter().any(|newer| touches(newer, place))
    }

    /// Whether the fold of an older result may have written at or after a time, or may still write.
    pub(super) fn may_write_after(&self, time: Option<u64>) -> bool {
        self.earlier.iter().any(|(_, wrote)| match wrote {
            None | Some(DatamodelWrite::Unknown) => true,
            Some(DatamodelWrite::At(at)) => time.is_none_or(|time| *at >= time),
            Some(DatamodelWrite::Nothing) => false,
        })
    }

    /// Whether the fold of an older result, and not Coiote, wrote the value that the document has at the place since a time.
    pub(super) fn older_fold_wrote(&self, place: &Place<'_>, time: u64) -> Certainty {
        let mut answer = Certainty::No;
        for (_, wrote) in self.earlier.iter().filter(|(earlier, _)| touches(earlier, place)) {
            match wrote {
                Some(DatamodelWrite::Unknown) => return Certainty::Yes,
                Some(DatamodelWrite::At(at)) if *at == time => return Certainty::Yes,
                Some(DatamodelWrite::At(_) | DatamodelWrite::Nothing) => {}
                None => answer = Certainty::Perhaps,
            }
        }
        answer
    }
}

impl Change {
    /// Hashes (FNV-1a, 32 bits) of the paths that the result touches by itself. The ledger keeps them, and adds the paths that
    /// were read as a whole ([`requests::covered_hashes`]).
    ///
    /// The hashes are the same in all versions of this program, so that entries of the ledger stay readable.
    pub fn fingerprint(&self) -> Vec<u32> {
        let mut hashes = HashSet::new();
        for resource in &self.resources {
            let place = resource.place();
            match resource.instances() {
                Some(instances) if !instances.is_empty() => {
                    hashes.insert(partial_hash(&place.path()));
                    hashes.extend(instances.keys().map(|id| path_hash(&place.below(id).path())));
                }
                _ => {
                    hashes.insert(path_hash(&place.path()));
                }
            }
        }
        hashes.extend(self.removed.iter().map(|path| path_hash(path)));
        hashes.extend(self.not_understood.iter().map(|path| excluded_hash(path)));
        let mut hashes: Vec<u32> = hashes.into_iter().collect();
        hashes.sort_unstable();
        hashes
    }
}

/// Whether a fingerprint touches the place or a level above it. The innermost level that is in the fingerprint decides.
fn touches_at_or_above(fingerprint: &HashSet<u32>, place: &Place<'_>) -> bool {
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

/// Whether a fingerprint touches the place, a level above it, or a resource instance below it.
fn touches(fingerprint: &HashSet<u32>, place: &Place<'_>) -> bool {
    touches_at_or_above(fingerprint, place) || fingerprint.contains(&partial_hash(&place.path()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    /// Keys that were read, and those that failed; `None` for a write.
    type Read = Option<(Vec<String>, Vec<String>)>;

    fn read(keys: &[&str], failed: &[&str]) -> Read {
        let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        Some((owned(keys), owned(failed)))
    }

    /// A newer result as the ledger has it. An empty result answers no request, so it covers nothing.
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
    fn a_result_touches_the_paths_that_it_names_and_that_were_read() {
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
            // A result without paths proves nothing
            (json!({}), read(&["A"], &[""]), &[], &["A 0 B"]),
        ] {
            let others = newer(result.clone(), &scope);
            let touches = |path: &str| {
                let mut names = path.split(' ');
                let mut next = || names.next().unwrap();
                others.touches(&Place::new([next(), next(), next()]))
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
    fn of_a_multiple_resource_only_the_reported_instances_are_touched() {
        let part = Place::new(["A", "0", "B", "4"]);
        let other = Place::new(["A", "0", "B", "5"]);
        let result = json!({"A": {"0": {"B": {"4": "1"}}}});
        for (scope, touches_other) in
            [(None, false), (read(&["A.0.B.4"], &[""]), false), (read(&["A.0.B"], &[""]), true)]
        {
            let others = newer(result.clone(), &scope);
            assert!(others.touches(&part));
            assert_eq!(others.touches(&other), touches_other, "{scope:?}");
        }
    }

    #[test]
    fn a_read_of_everything_touches_everything() {
        let result = json!({"A": {"0": {"B": "1", "C": {"0": "1"}}}, "D": {"0": {"E": {"noValue": true}}}});
        let others = newer(result, &read(&[""], &[""]));
        assert!(others.touches(&Place::new(["A", "0", "B"])) && others.touches(&Place::new(["F", "1", "G"])));
    }

    #[test]
    fn a_value_is_from_the_older_fold_that_wrote_at_its_time() {
        let fingerprint = Change::from_result(json!({"A": {"0": {"B": "1"}}})).0.fingerprint();
        for (wrote, expected) in [
            (Some(DatamodelWrite::At(105)), Certainty::Yes),
            (Some(DatamodelWrite::At(104)), Certainty::No),
            (Some(DatamodelWrite::Nothing), Certainty::No),
            (Some(DatamodelWrite::Unknown), Certainty::Yes),
            (None, Certainty::Perhaps),
        ] {
            let others = OtherResults::new([], [EarlierResult { fingerprint: fingerprint.clone(), wrote }]);
            assert_eq!(others.older_fold_wrote(&Place::new(["A", "0", "B"]), 105), expected, "{wrote:?}");
            assert_eq!(others.older_fold_wrote(&Place::new(["A", "0", "C"]), 105), Certainty::No);
        }
    }
}
