//! Changes that results ask for, independent of the datamodel shadow's document.

use serde_json::{Map, Value as Json};

use super::NO_VALUE;
use super::place::Place;
use super::scope::{Scope, lies_below};

/// Change of the datamodel shadow that a result asks for. Made by [`Change::from_result`] or [`Change::removal`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    pub(super) resources: Vec<ResourceValue>,
    /// Paths to remove.
    pub(super) removed: Vec<String>,
    /// Paths of objects and object instances that exist and are empty.
    pub(super) empty: Vec<String>,
    /// Paths with a content that was not understood.
    pub(super) not_understood: Vec<String>,
}

/// A resource and its value. In a multiple resource, `null` stands for a resource instance to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResourceValue {
    pub(super) object: String,
    pub(super) instance: String,
    pub(super) name: String,
    pub(super) value: Json,
}

impl ResourceValue {
    pub(super) fn place(&self) -> Place<'_> {
        Place::new([&*self.object, &*self.instance, &*self.name])
    }

    /// The resource instances; `None` for a single resource.
    pub(super) fn instances(&self) -> Option<&Map<String, Json>> {
        resource_instances(&self.value)
    }
}

/// The resource instances of a value; `None` for the value of a single resource.
pub(super) fn resource_instances(value: &Json) -> Option<&Map<String, Json>> {
    value.as_object().filter(|_| !has_no_value(value))
}

/// Whether the value is the mark of a resource or a resource instance without a value.
pub(super) fn has_no_value(value: &Json) -> bool {
    value.get(NO_VALUE).is_some_and(|flag| !flag.is_null())
}

impl Change {
    /// The change of a successful Delete, which removes object instances and resource instances. The paths have the form of
    /// keys in a request.
    pub fn removal<P: AsRef<str>>(paths: impl IntoIterator<Item = P>) -> Change {
        let path = |path: P| path.as_ref().trim().trim_end_matches('.').to_owned();
        // An empty path would remove the whole data model, which cannot be deleted
        let removed = paths.into_iter().map(path).filter(|path| !path.is_empty()).collect();
        Change { removed, ..Change::default() }
    }

    /// Number of resources that get a value or the mark for no value.
    pub fn resources(&self) -> usize {
        self.resources.len()
    }

    /// Whether there is nothing to change. Then nothing is removed, either: a result without paths proves nothing.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.removed.is_empty() && self.empty.is_empty()
    }

    /// Whether the change removes the place, unless something newer is there.
    pub(super) fn removes(&self, place: &Place<'_>, scope: &Scope) -> bool {
        let is_listed = |paths: &[String]| place.levels().iter().any(|level| paths.contains(level));
        if is_listed(&self.removed) {
            return true;
        }
        let is_not_understood = || {
            is_listed(&self.not_understood) || self.not_understood.iter().any(|path| lies_below(path, &place.path()))
        };
        !self.is_empty() && scope.covers(place) && !is_not_understood()
    }

    /// Whether the change has a value at or below the place, or an empty object or object instance there.
    pub(super) fn mentions(&self, place: &Place<'_>) -> bool {
        self.resources.iter().any(|resource| resource.place().names().starts_with(place.names()))
            || self.empty.iter().any(|empty| *empty == place.path() || lies_below(empty, &place.path()))
    }

    /// Whether the change can be written without knowing the document. AWS IoT merges objects, so a removal needs to know
    /// what is there.
    pub(super) fn needs_no_document(&self, scope: &Scope) -> bool {
        let has_value = |key: &str| self.resources.iter().any(|resource| resource.place().path() == key);
        let failed = |key: &str| scope.failed().any(|failed| failed == key);
        self.removed.is_empty()
            && self.resources.iter().all(|resource| !resource.value.is_object())
            && scope.keys().all(|key| has_value(key) || failed(key))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_without_removals_needs_no_document() {
        let of = |keys: &[&str], failed: &[&str]| {
            let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
            Scope::new(Some(owned(keys)), owned(failed))
        };
        let plain = json!({"A": {"0": {"B": "1", "C": "2"}}});
        for (result, scope, expected) in [
            (plain.clone(), Scope::default(), true),
            (plain.clone(), of(&["A.0.B", "A.0.C"], &[""]), true),
            (plain.clone(), of(&["A.0.B", "A.0.C", "A.0.D"], &["A.0.D"]), true),
            (plain.clone(), of(&["A.0.B", "A.0.C", "A.0.D"], &[""]), false),
            (plain, of(&["A.0"], &[""]), false),
            (json!({"A": {"0": {"B": {"0": "1"}}}}), Scope::default(), false),
            (json!({"A": {"0": {"B": {"noValue": true}}}}), Scope::default(), false),
            (json!({"A": {"0": {"B": "1"}, "1": null}}), Scope::default(), false),
        ] {
            assert_eq!(Change::from_result(result.clone()).0.needs_no_document(&scope), expected, "{result} {scope:?}");
        }
        assert!(!Change::removal(["A.0"]).needs_no_document(&Scope::default()));
        assert!(Change::removal(["", "."]).is_empty());
    }
}
