//! Decision which parts of a change are written onto the datamodel shadow's document.

use serde_json::{Map, Value as Json};

use super::NO_VALUE;
use super::change::{Change, ResourceValue, has_no_value, resource_instances};
use super::other_results::{Certainty, OtherResults};
use super::place::Place;
use super::scope::Scope;
use super::update::Update;
use crate::shadows::Document;

/// Everything that a decision depends on.
pub(super) struct DecisionInput<'a> {
    pub(super) change: &'a Change,
    pub(super) scope: &'a Scope,
    /// Time of the result's report, in seconds since 1970.
    pub(super) reported_at: Option<u64>,
    pub(super) current: &'a Document,
    /// The other results, from the ledger as it was after `current` was read.
    pub(super) others: &'a OtherResults,
    /// Whether to wait for older folds under way that may have written values of the document. Otherwise they are taken for
    /// the writers.
    pub(super) waits_for_folds: bool,
    /// Whether to remove resources without a value, to make room.
    pub(super) drops_valueless: bool,
    /// Whether to write values again that are there already.
    pub(super) rewrites_unchanged: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) update: Update,
    /// Whether a part of the decision depends on the end of a fold under way.
    pub(super) has_to_wait: bool,
}

impl DecisionInput<'_> {
    pub(super) fn decide(&self) -> Decision {
        let mut decision = Decision::default();
        for resource in &self.change.resources {
            self.put(resource, &mut decision);
        }
        self.remove(&mut decision);
        if self.drops_valueless {
            drop_valueless(&self.current.state.reported, &mut decision.update);
        }
        decision
    }

    fn put(&self, resource: &ResourceValue, decision: &mut Decision) {
        let place = resource.place();
        let old = within(&self.current.state.reported, &place);
        match resource.instances() {
            Some(new) => self.put_instances(resource, new, old, decision),
            None if !self.may_replace(&place, decision) => {}
            None if self.drops_valueless && has_no_value(&resource.value) => {
                if old.is_some() {
                    decision.update.put(place.names(), Json::Null);
                }
            }
            None if old == Some(&resource.value) && !self.rewrites_unchanged => {}
            None => {
                let mut value = resource.value.clone();
                // AWS IoT merges objects, so the old resource instances have to be removed
                if let (Some(Json::Object(old)), Json::Object(new)) = (old, &mut value) {
                    new.extend(old.keys().filter(|key| *key != NO_VALUE).map(|key| (key.clone(), Json::Null)));
                }
                decision.update.put(place.names(), value);
            }
        }
    }

    fn put_instances(
        &self,
        resource: &ResourceValue,
        new: &Map<String, Json>,
        old: Option<&Json>,
        decision: &mut Decision,
    ) {
        let place = resource.place();
        let old_instances = old.and_then(resource_instances);
        let replaces_single = old.is_some() && old_instances.is_none();
        // A single value, or the mark for none, cannot coexist with resource instances
        if replaces_single && !self.may_replace(&place, decision) {
            return;
        }
        let old_instance = |id: &str| old_instances.and_then(|instances| instances.get(id));
        let mut value = Map::new();
        for (id, new) in new {
            let is_new = if new.is_null() {
                old_instance(id).is_some()
            } else {
                self.rewrites_unchanged || old_instance(id) != Some(new)
            };
            if is_new && self.may_replace(&place.below(id), decision) {
                value.insert(id.clone(), new.clone());
            }
        }
        for id in old_instances.into_iter().flat_map(Map::keys).filter(|id| !new.contains_key(*id)) {
            let part = place.below(id);
            let is_emptied = new.is_empty() && !self.scope.is_known();
            if (is_emptied || self.change.removes(&part, self.scope)) && self.may_replace(&part, decision) {
                value.insert(id.clone(), Json::Null);
            }
        }
        let is_emptied = new.is_empty() && old_instances.is_none() && !self.others.touches(&place);
        if old.is_some_and(has_no_value) && (is_emptied || value.values().any(|value| !value.is_null())) {
            value.insert(NO_VALUE.to_owned(), Json::Null);
        }
        if is_emptied || !value.is_empty() {
            decision.update.put(place.names(), Json::Object(value));
        }
    }

    /// Adds the removals, each at the highest level at which nothing stays.
    fn remove(&self, decision: &mut Decision) {
        for (object, instances) in members(Some(&self.current.state.reported)) {
            let place = Place::new([object.as_str()]);
            let mut removals = Vec::new();
            let mut goes = self.may_go(&place, decision);
            for (instance, resources) in members(Some(instances)) {
                let place = place.below(instance);
                let (in_instance, instance_goes) = self.removals_in_instance(&place, resources, decision);
                goes &= instance_goes;
                removals.extend(in_instance);
            }
            for place in if goes { vec![place] } else { removals } {
                decision.update.put(place.names(), Json::Null);
            }
        }
    }

    /// Places to remove in an object instance, and whether all of it goes.
    fn removals_in_instance<'b>(
        &self,
        place: &Place<'b>,
        resources: &'b Json,
        decision: &mut Decision,
    ) -> (Vec<Place<'b>>, bool) {
        let mut removals = Vec::new();
        let mut goes = self.may_go(place, decision);
        for (name, value) in members(Some(resources)) {
            let place = place.below(name);
            if self.change.mentions(&place) {
                goes = false;
            } else if self.change.removes(&place, self.scope) && self.may_replace(&place, decision) {
                removals.push(place);
            } else {
                goes = false;
                for id in resource_instances(value).into_iter().flat_map(Map::keys) {
                    let part = place.below(id);
                    if self.change.removes(&part, self.scope) && self.may_replace(&part, decision) {
                        removals.push(part);
                    }
                }
            }
        }
        if goes { (vec![place.clone()], true) } else { (removals, false) }
    }

    /// Whether an object or an object instance goes if all of its parts go.
    fn may_go(&self, place: &Place<'_>, decision: &mut Decision) -> bool {
        let has_parts = !members(within(&self.current.state.reported, place)).is_empty();
        self.change.removes(place, self.scope)
            && !self.change.mentions(place)
            && (has_parts || self.may_replace(place, decision))
    }

    /// Whether nothing at or below the place is newer than the result.
    fn may_replace(&self, place: &Place<'_>, decision: &mut Decision) -> bool {
        if self.others.touches(place) {
            return false;
        }
        let Some(reported_at) = self.reported_at else { return true };
        let mut times = Vec::new();
        times_in(within(&self.current.metadata.reported, place), &mut times);
        for time in times.into_iter().filter(|time| *time > reported_at) {
            match self.others.older_fold_wrote(place, time) {
                Certainty::Yes => {}
                Certainty::Perhaps if self.waits_for_folds => {
                    decision.has_to_wait = true;
                    return false;
                }
                Certainty::Perhaps => {}
                Certainty::No => return false,
            }
        }
        true
    }
}

/// Removes all resources without a value.
fn drop_valueless(current: &Json, update: &mut Update) {
    for (object, instances) in members(Some(current)) {
        for (instance, resources) in members(Some(instances)) {
            for (name, value) in members(Some(resources)) {
                let names = [object.as_str(), instance, name];
                if has_no_value(value) && !update.contains(&names) {
                    update.put(&names, Json::Null);
                }
            }
        }
    }
}

fn members(json: Option<&Json>) -> Vec<(&String, &Json)> {
    json.and_then(Json::as_object).map(|members| members.iter().collect()).unwrap_or_default()
}

fn within<'j>(tree: &'j Json, place: &Place<'_>) -> Option<&'j Json> {
    place.names().iter().try_fold(tree, |tree, name| tree.get(name))
}

/// Collects the times (seconds since 1970) in a part of a shadow's metadata.
fn times_in(metadata: Option<&Json>, times: &mut Vec<u64>) {
    let Some(Json::Object(members)) = metadata else { return };
    match members.get("timestamp") {
        Some(Json::Number(time)) => times.extend(time.as_u64()),
        _ => members.values().for_each(|part| times_in(Some(part), times)),
    }
}

/// The latest time in a part of a shadow's metadata, in seconds since 1970.
pub fn latest_time(metadata: &Json) -> Option<u64> {
    let mut times = Vec::new();
    times_in(Some(metadata), &mut times);
    times.into_iter().max()
}
