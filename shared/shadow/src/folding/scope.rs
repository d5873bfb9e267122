//! Scope of a read, which decides what a result removes without naming it.

use std::collections::{BTreeSet, HashSet};

use requests::possible_failed_keys;

use super::place::Place;

/// Scope of a read. A place within it that the result does not mention is removed.
///
/// The default is an unknown scope, as for a write: nothing is removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// The keys that were read; `None` where they are not known.
    keys: Option<HashSet<String>>,
    /// The keys that could not be read.
    failed: BTreeSet<String>,
}

impl Scope {
    /// The scope of a read.
    ///
    /// - `keys`: the keys that were sent to Coiote, names joined by dots; the empty one is the whole data model. `None` where
    ///   they are not known.
    /// - `failed_keys`: Coiote's list, which is one text split at commas; `[""]` where none failed.
    pub fn new(keys: Option<Vec<String>>, failed_keys: Vec<String>) -> Scope {
        let keys = keys.map(|keys| keys.iter().map(|key| without_last_dot(key).to_owned()).collect());
        Scope { keys, failed: possible_failed_keys(&failed_keys) }
    }

    pub(super) fn is_known(&self) -> bool {
        self.keys.is_some()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().flatten().map(String::as_str)
    }

    pub(super) fn failed(&self) -> impl Iterator<Item = &str> {
        self.failed.iter().map(String::as_str)
    }

    /// Whether the place was read, successfully or not.
    pub(super) fn includes(&self, place: &Place<'_>) -> bool {
        self.keys.as_ref().is_some_and(|keys| place.levels().iter().any(|level| keys.contains(level)))
    }

    /// Whether the place was read successfully, with all that is above and below it.
    pub(super) fn covers(&self, place: &Place<'_>) -> bool {
        self.includes(place)
            && !place.levels().iter().any(|level| self.failed.contains(level))
            && !self.failed.iter().any(|failed| lies_below(failed, &place.path()))
    }
}

/// Whether a path lies below another; the empty path is the whole data model.
pub(super) fn lies_below(path: &str, other: &str) -> bool {
    other.is_empty() || path.strip_prefix(other).is_some_and(|rest| rest.starts_with('.'))
}

fn without_last_dot(key: &str) -> &str {
    key.trim().trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(keys: &[&str], failed: &[&str]) -> Scope {
        let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        Scope::new(Some(owned(keys)), owned(failed))
    }

    #[test]
    fn a_read_covers_places_at_or_below_its_keys() {
        for (keys, covered, not_covered) in [
            (&[""][..], &["Device", "Device|0|UTC Offset"][..], &[][..]),
            (&["Portfolio"], &["Portfolio", "Portfolio|5"], &["Port", "Portfolio 2|5"]),
            (&["Location.0."], &["Location|0", "Location|0|Speed"], &["Location", "Location|01"]),
            (&["A.0.B.4"], &["A|0|B|4"], &["A|0|B", "A|0|B|44"]),
            // Levels end where names end, not at dots
            (&["PM2"], &["PM2|5"], &["PM2.5|0"]),
            (&["PM2.5.0"], &["PM2.5|0|Value"], &["PM2.5"]),
            (&["Cell.0.Validity (MCC, MNC)"], &["Cell|0|Validity (MCC, MNC)"], &["Cell|0"]),
            (&[], &[], &["Device"]),
        ] {
            let covers = |place: &str| scope(keys, &[""]).covers(&Place::new(place.split('|').collect::<Vec<_>>()));
            for place in covered {
                assert!(covers(place), "{keys:?} {place:?}");
            }
            for place in not_covered {
                assert!(!covers(place), "{keys:?} {place:?}");
            }
        }
        for unknown in [Scope::new(None, vec![]), Scope::default()] {
            assert!(!unknown.covers(&Place::new(["Device"])));
        }
    }

    #[test]
    fn places_above_or_below_a_failed_key_are_not_covered() {
        for (failed, covered) in [
            (&["Device.0"][..], false),
            (&["Device"], false),
            (&["Device.0.Ports"], false),
            (&["Device.0.Ports.1."], false),
            (&["Device.0.Port"], true),
            (&["Device.0.Ports and more"], true),
            (&["Device.1", "X"], true),
            (&["X", "Device.0.Ports", "Y"], false),
        ] {
            let place = Place::new(["Device", "0", "Ports"]);
            assert_eq!(scope(&[""], failed).covers(&place), covered, "{failed:?}");
        }
        let split = scope(&[""], &["Device.0.A", "Cell.0.Validity (MCC", " MNC)", "Location.0"]);
        for place in [&["Device", "0", "A"][..], &["Cell", "0", "Validity (MCC, MNC)"], &["Location", "0"]] {
            assert!(!split.covers(&Place::new(place)), "{place:?}");
        }
        assert!(split.covers(&Place::new(["Cell", "0", "Validity"])));
    }
}
