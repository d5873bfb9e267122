//! Updates of the datamodel shadow: parts of its document to merge in.

use serde_json::{Map, Value as Json};

use super::change::Change;

/// Part of the datamodel shadow's document that AWS IoT merges in. `null` removes what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Update(Map<String, Json>);

impl Update {
    /// All values of a change, for a change that can be written without knowing the document.
    pub(super) fn of(change: &Change) -> Update {
        let mut update = Update::default();
        for resource in &change.resources {
            update.put(resource.place().names(), resource.value.clone());
        }
        update
    }

    /// Puts a value at the names from the object downwards. A level above that the update removes stays removed.
    pub(super) fn put(&mut self, names: &[&str], value: Json) {
        let Some((last, above)) = names.split_last() else { return };
        let mut members = &mut self.0;
        for name in above {
            let below = members.entry((*name).to_owned()).or_insert_with(|| Json::Object(Map::new()));
            let Json::Object(below) = below else { return };
            members = below;
        }
        members.insert((*last).to_owned(), value);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_json(self) -> Json {
        Json::Object(self.0)
    }

    pub(super) fn contains(&self, names: &[&str]) -> bool {
        let Some((first, rest)) = names.split_first() else { return false };
        let first = self.0.get(*first);
        rest.iter().try_fold(first, |tree, name| tree.map(|tree| tree.get(name))).flatten().is_some()
    }
}
