//! What of a change may be written onto what stands in the shadow.

use serde_json::{Map, Value as Json};

use super::NO_VALUE;
use super::change::{Change, Resource, has_no_value, parts};
use super::other_results::{Explained, OtherResults};
use super::place::Place;
use super::scope::Scope;
use crate::shadows::Document;

/// All that the decision depends on.
pub(super) struct Question<'a> {
    pub(super) change: &'a Change,
    pub(super) scope: &'a Scope,
    /// Of the result, in seconds since 1970.
    pub(super) reported_at: Option<u64>,
    pub(super) current: &'a Document,
    /// As the ledger knew them after `current` was read.
    pub(super) others: &'a OtherResults,
    /// Whether to wait for folds under way that may have written what stands there. Otherwise it is taken for theirs.
    pub(super) is_patient: bool,
    /// Whether resources without a value have to go, to make room.
    pub(super) is_relieving: bool,
    /// Whether what stands there already is written again.
    pub(super) is_confirming: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) update: Tree,
    /// Whether something depends on how a fold under way ends.
    pub(super) is_open: bool,
}

impl Question<'_> {
    pub(super) fn decide(&self) -> Decision {
        let mut decision = Decision::default();
        for resource in &self.change.resources {
            self.put(resource, &mut decision);
        }
        self.take_away(&mut decision);
        if self.is_relieving {
            relieve(&self.current.state.reported, &mut decision.update);
        }
        decision
    }

    fn put(&self, resource: &Resource, decision: &mut Decision) {
        let place = resource.place();
        let old = within(&self.current.state.reported, &place);
        match resource.parts() {
            Some(new) => self.put_parts(resource, new, old, decision),
            None if !self.may_replace(&place, decision) => {}
            None if self.is_relieving && has_no_value(&resource.value) => {
                if old.is_some() {
                    decision.update.put(place.names(), Json::Null);
                }
            }
            None if old == Some(&resource.value) && !self.is_confirming => {}
            None => {
                let mut value = resource.value.clone();
                // An update merges objects.
                if let (Some(Json::Object(old)), Json::Object(new)) = (old, &mut value) {
                    new.extend(old.keys().filter(|key| *key != NO_VALUE).map(|key| (key.clone(), Json::Null)));
                }
                decision.update.put(place.names(), value);
            }
        }
    }

    fn put_parts(&self, resource: &Resource, new: &Map<String, Json>, old: Option<&Json>, decision: &mut Decision) {
        let place = resource.place();
        let old_parts = old.and_then(parts);
        let is_replaced = old.is_some() && old_parts.is_none();
        // A single value, or none, cannot stand beside resource instances.
        if is_replaced && !self.may_replace(&place, decision) {
            return;
        }
        let stands = |id: &str| old_parts.and_then(|parts| parts.get(id));
        let mut value = Map::new();
        for (id, new) in new {
            let is_news =
                if new.is_null() { stands(id).is_some() } else { self.is_confirming || stands(id) != Some(new) };
            if is_news && self.may_replace(&place.below(id), decision) {
                value.insert(id.clone(), new.clone());
            }
        }
        for id in old_parts.into_iter().flat_map(Map::keys).filter(|id| !new.contains_key(*id)) {
            let part = place.below(id);
            let is_emptied = new.is_empty() && !self.scope.is_known();
            if (is_emptied || self.change.takes_away(&part, self.scope)) && self.may_replace(&part, decision) {
                value.insert(id.clone(), Json::Null);
            }
        }
        let is_emptied = new.is_empty() && old_parts.is_none() && !self.others.touches_within(&place);
        if old.is_some_and(has_no_value) && (is_emptied || value.values().any(|value| !value.is_null())) {
            value.insert(NO_VALUE.to_owned(), Json::Null);
        }
        if is_emptied || !value.is_empty() {
            decision.update.put(place.names(), Json::Object(value));
        }
    }

    /// What is gone, at the highest level at which nothing stays.
    fn take_away(&self, decision: &mut Decision) {
        for (object, instances) in members(Some(&self.current.state.reported)) {
            let place = Place::new([object.as_str()]);
            let mut nulls = Vec::new();
            let mut goes = self.goes_with_its_parts(&place, decision);
            for (instance, resources) in members(Some(instances)) {
                let place = place.below(instance);
                let (of_instance, instance_goes) = self.gone_of_instance(&place, resources, decision);
                goes &= instance_goes;
                nulls.extend(of_instance);
            }
            for place in if goes { vec![place] } else { nulls } {
                decision.update.put(place.names(), Json::Null);
            }
        }
    }

    /// What is gone of an object instance, and whether all of it is.
    fn gone_of_instance<'b>(
        &self,
        place: &Place<'b>,
        resources: &'b Json,
        decision: &mut Decision,
    ) -> (Vec<Place<'b>>, bool) {
        let mut nulls = Vec::new();
        let mut goes = self.goes_with_its_parts(place, decision);
        for (name, value) in members(Some(resources)) {
            let place = place.below(name);
            if self.change.names(&place) {
                goes = false;
            } else if self.change.takes_away(&place, self.scope) && self.may_replace(&place, decision) {
                nulls.push(place);
            } else {
                goes = false;
                for id in parts(value).into_iter().flat_map(Map::keys) {
                    let part = place.below(id);
                    if self.change.takes_away(&part, self.scope) && self.may_replace(&part, decision) {
                        nulls.push(part);
                    }
                }
            }
        }
        if goes { (vec![place.clone()], true) } else { (nulls, false) }
    }

    /// Whether an object or an object instance is gone if all of its parts are.
    fn goes_with_its_parts(&self, place: &Place<'_>, decision: &mut Decision) -> bool {
        let has_parts = !members(within(&self.current.state.reported, place)).is_empty();
        self.change.takes_away(place, self.scope)
            && !self.change.names(place)
            && (has_parts || self.may_replace(place, decision))
    }

    /// Whether nothing newer than the result stands there, as a whole or in part.
    fn may_replace(&self, place: &Place<'_>, decision: &mut Decision) -> bool {
        if self.others.touches_within(place) {
            return false;
        }
        let Some(reported_at) = self.reported_at else { return true };
        let mut times = Vec::new();
        times_in(within(&self.current.metadata.reported, place), &mut times);
        for time in times.into_iter().filter(|time| *time > reported_at) {
            match self.others.explain(place, time) {
                Explained::Yes => {}
                Explained::Perhaps if self.is_patient => {
                    decision.is_open = true;
                    return false;
                }
                Explained::Perhaps => {}
                Explained::No => return false,
            }
        }
        true
    }
}

/// Takes every resource without a value out.
fn relieve(current: &Json, update: &mut Tree) {
    for (object, instances) in members(Some(current)) {
        for (instance, resources) in members(Some(instances)) {
            for (name, value) in members(Some(resources)) {
                let names = [object.as_str(), instance, name];
                if has_no_value(value) && !update.holds(&names) {
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

/// The times (seconds since 1970) that a shadow's metadata hold for a part of it.
fn times_in(metadata: Option<&Json>, times: &mut Vec<u64>) {
    let Some(Json::Object(members)) = metadata else { return };
    match members.get("timestamp") {
        Some(Json::Number(time)) => times.extend(time.as_u64()),
        _ => members.values().for_each(|part| times_in(Some(part), times)),
    }
}

/// The latest of them.
pub(super) fn latest_time(metadata: &Json) -> Option<u64> {
    let mut times = Vec::new();
    times_in(Some(metadata), &mut times);
    times.into_iter().max()
}

/// A part of the data model, to be merged in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tree(Map<String, Json>);

impl Tree {
    /// The values of a change, for whom nothing has to be known of what stands there.
    pub(super) fn of(change: &Change) -> Tree {
        let mut tree = Tree::default();
        for resource in &change.resources {
            tree.put(resource.place().names(), resource.value.clone());
        }
        tree
    }

    /// What is told to be gone at a higher level stays so.
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

    fn holds(&self, names: &[&str]) -> bool {
        let Some((first, rest)) = names.split_first() else { return false };
        let first = self.0.get(*first);
        rest.iter().try_fold(first, |tree, name| tree.map(|tree| tree.get(name))).flatten().is_some()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use requests::DatamodelWrite;

    use super::super::other_results::EarlierResult;
    use super::*;
    use crate::shadows::State;

    /// A datamodel shadow; all of it has one time.
    pub(crate) fn document(reported: Json, time: u64) -> Document {
        let metadata = State { reported: times(&reported, time), ..State::default() };
        Document { state: State { reported, ..State::default() }, metadata, version: 3 }
    }

    pub(crate) fn times(json: &Json, time: u64) -> Json {
        match json {
            Json::Object(members) => members.iter().map(|(name, part)| (name.clone(), times(part, time))).collect(),
            _ => json!({"timestamp": time}),
        }
    }

    fn read(keys: &[&str], failed: &[&str]) -> Scope {
        let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        Scope::new(Some(owned(keys)), owned(failed))
    }

    fn change(result: Json) -> Change {
        Change::from_result(result).0
    }

    fn decide(change: &Change, scope: &Scope, current: &Document, others: &OtherResults) -> Decision {
        let reported_at = Some(100);
        let (is_patient, is_relieving, is_confirming) = (true, false, false);
        Question { change, scope, reported_at, current, others, is_patient, is_relieving, is_confirming }.decide()
    }

    /// What is written onto a shadow in which nothing is newer.
    fn onto(current: Json, change: &Change, scope: &Scope) -> Json {
        decide(change, scope, &document(current, 90), &OtherResults::default()).update.into_json()
    }

    #[test]
    fn no_value_and_resource_instances_replace_each_other() {
        for (old, new, written) in [
            (json!("1"), json!("2"), json!("2")),
            (json!("1"), json!("1"), Json::Null),
            (json!("1"), json!({"0": "1"}), json!({"0": "1"})),
            (json!("1"), json!({}), json!({})),
            (json!("1"), json!({"noValue": true}), json!({"noValue": true})),
            (json!({"noValue": true}), json!("1"), json!("1")),
            (json!({"noValue": true}), json!({"0": "6"}), json!({"0": "6", "noValue": null})),
            (json!({"noValue": true}), json!({}), json!({"noValue": null})),
            (json!({"noValue": true}), json!({"noValue": true}), Json::Null),
            (json!({"0": "6", "1": "7"}), json!({"noValue": true}), json!({"noValue": true, "0": null, "1": null})),
            (json!({"0": "6", "1": "7"}), json!("1"), json!("1")),
            (json!({"0": "6", "1": "7"}), json!({}), json!({"0": null, "1": null})),
            (json!({"4": "5"}), json!({"5": "6"}), json!({"5": "6"})),
            (json!({"4": "5"}), json!({"4": "5"}), Json::Null),
            (json!({"4": "5"}), json!({"4": null, "6": null}), json!({"4": null})),
            (json!({"4": "5"}), json!({"4": {"noValue": true}}), json!({"4": {"noValue": true}})),
            (json!({}), json!({}), Json::Null),
            (json!({}), json!({"noValue": true}), json!({"noValue": true})),
        ] {
            let told = change(json!({"T": {"0": {"R": new}}}));
            let expected = if written.is_null() { json!({}) } else { json!({"T": {"0": {"R": written}}}) };
            assert_eq!(onto(json!({"T": {"0": {"R": old}}}), &told, &Scope::nothing()), expected, "{old} {new}");
        }
    }

    #[test]
    fn what_a_read_did_not_find_is_gone() {
        let current = json!({
            "Portfolio": {"4": {"Identity": {"0": "a", "1": "b"}}, "5": {"Identity": {"0": "c"}, "Name": "n"}},
            "Location": {"0": {"Latitude": "1.0", "Speed": "2.0"}},
            "PM2.5": {"0": {"Value": "3"}},
        });
        let four = json!({"4": {"Identity": {"0": "a", "1": "b"}}});
        for (result, scope, written) in [
            // Object instances
            (json!({"Portfolio": four}), read(&["Portfolio"], &[""]), json!({"Portfolio": {"5": null}})),
            (json!({"Portfolio": four}), read(&["Portfolio"], &["Portfolio"]), json!({})),
            (json!({"Portfolio": four}), read(&["Portfolio"], &["Portfolio.5"]), json!({})),
            (
                json!({"Portfolio": four}),
                read(&["Portfolio"], &["Portfolio.5.Name"]),
                json!({"Portfolio": {"5": {"Identity": null}}}),
            ),
            (json!({"Portfolio": four}), read(&["Portfolio.4"], &[""]), json!({})),
            (json!({"Portfolio": four}), Scope::new(None, vec![]), json!({})),
            (json!({"Portfolio": four}), Scope::nothing(), json!({})),
            // Resources
            (
                json!({"Location": {"0": {"Latitude": "1.0"}}}),
                read(&["Location.0"], &[""]),
                json!({"Location": {"0": {"Speed": null}}}),
            ),
            (
                json!({"Location": {"0": {"Latitude": "1.0"}}}),
                read(&["Location.0.Latitude", "Location.0.Speed"], &[""]),
                json!({"Location": {"0": {"Speed": null}}}),
            ),
            (json!({"Location": {"0": {"Latitude": "1.0"}}}), read(&["Location.0.Latitude"], &[""]), json!({})),
            (json!({"Location": {"0": {"Latitude": "1.0", "Speed": [1]}}}), read(&["Location"], &[""]), json!({})),
            (
                json!({"Location": {"0": {}}}),
                read(&["Location"], &[""]),
                json!({"Location": {"0": {"Latitude": null, "Speed": null}}}),
            ),
            // Resource instances
            (
                json!({"Portfolio": {"4": {"Identity": {"1": "b"}}}}),
                read(&["Portfolio.4"], &[""]),
                json!({"Portfolio": {"4": {"Identity": {"0": null}}}}),
            ),
            (
                json!({"Portfolio": {"4": {"Identity": {"1": "b"}}}}),
                read(&["Portfolio.4.Identity"], &["Portfolio.4.Identity.0"]),
                json!({}),
            ),
            (
                json!({"Portfolio": {"4": {"Identity": {"1": "b"}}}}),
                read(&["Portfolio.4.Identity.1"], &[""]),
                json!({}),
            ),
            (
                json!({"Portfolio": {"4": {"Identity": {"1": "b", "0": {"?": 1}}}}}),
                read(&["Portfolio.4"], &[""]),
                json!({}),
            ),
            (
                json!({"Portfolio": {"4": {"Identity": {}}}}),
                read(&["Portfolio.4.Identity.1"], &[""]),
                json!({"Portfolio": {"4": {"Identity": {"1": null}}}}),
            ),
            (
                json!({"Location": {"0": {"Latitude": "1.0"}}}),
                read(&["Location.0.Latitude", "Portfolio.4.Identity.1"], &[""]),
                json!({"Portfolio": {"4": {"Identity": {"1": null}}}}),
            ),
            // Objects, and the whole data model
            (json!({"Portfolio": {}}), read(&["Portfolio"], &[""]), json!({"Portfolio": {"4": null, "5": null}})),
            (json!({"PM2.5": {"0": {"Value": "3"}}}), read(&["PM2.5", "Portfolio"], &[""]), json!({"Portfolio": null})),
            (json!({"PM2.5": {"0": {"Value": "3"}}}), read(&[""], &[""]), json!({"Portfolio": null, "Location": null})),
            (json!({"PM2.5": {"0": {"Value": "3"}}}), read(&[""], &["Location"]), json!({"Portfolio": null})),
            (json!({"PM2.5": {"0": {"Value": "3"}}}), read(&["PM2.5.0"], &[""]), json!({})),
            // A result without paths proves nothing.
            (json!({}), read(&[""], &[""]), json!({})),
            (json!({"Location": "?"}), read(&[""], &[""]), json!({})),
        ] {
            assert_eq!(onto(current.clone(), &change(result.clone()), &scope), written, "{result} {scope:?}");
        }
    }

    #[test]
    fn what_is_told_to_be_gone_goes() {
        let current = json!({
            "Portfolio": {"5": {"Identity": {"0": "c", "1": "d"}, "Name": "n"}, "6": {"Name": "m"}},
            "PM2.5": {"0": {"Value": "3"}},
        });
        for (told, written) in [
            (change(json!({"Portfolio": {"5": null, "7": null}})), json!({"Portfolio": {"5": null}})),
            (change(json!({"Portfolio": null, "None": null})), json!({"Portfolio": null})),
            (change(json!({"Portfolio": {"5": {"Name": null}}})), json!({"Portfolio": {"5": {"Name": null}}})),
            (
                change(json!({"Portfolio": {"5": {"Identity": {"0": null}}}})),
                json!({"Portfolio": {"5": {"Identity": {"0": null}}}}),
            ),
            (Change::removal(["Portfolio.5"]), json!({"Portfolio": {"5": null}})),
            (Change::removal(["Portfolio.5.Identity.1"]), json!({"Portfolio": {"5": {"Identity": {"1": null}}}})),
            (Change::removal(["PM2.5.0"]), json!({"PM2.5": {"0": null}})),
            (Change::removal(["PM2", "Portfolio.55", ""]), json!({})),
        ] {
            assert_eq!(onto(current.clone(), &told, &Scope::nothing()), written, "{told:?}");
        }
    }

    #[test]
    fn what_is_newer_than_the_result_stays() {
        let told = change(json!({"T": {"0": {"R": "new"}}}));
        let fingerprint = told.fingerprint();
        let elsewhere = change(json!({"T": {"0": {"S": "x"}}})).fingerprint();
        let after = |fingerprint: &Vec<u32>, wrote| {
            OtherResults::new([], [EarlierResult { fingerprint: fingerprint.clone(), wrote }])
        };
        for (time, others, is_written, is_open) in [
            (99, OtherResults::default(), true, false),
            (100, OtherResults::default(), true, false),
            (101, OtherResults::default(), false, false),
            (99, OtherResults::new([fingerprint.clone()], []), false, false),
            (99, OtherResults::new([elsewhere.clone()], []), true, false),
            (101, after(&fingerprint, Some(DatamodelWrite::At(101))), true, false),
            (101, after(&fingerprint, Some(DatamodelWrite::At(102))), false, false),
            (101, after(&fingerprint, Some(DatamodelWrite::Unknown)), true, false),
            (101, after(&fingerprint, Some(DatamodelWrite::Nothing)), false, false),
            (101, after(&fingerprint, None), false, true),
            (101, after(&elsewhere, None), false, false),
            (99, after(&fingerprint, None), true, false),
        ] {
            let current = document(json!({"T": {"0": {"R": "held"}}}), time);
            let decision = decide(&told, &Scope::nothing(), &current, &others);
            assert_eq!((!decision.update.is_empty(), decision.is_open), (is_written, is_open), "{time} {others:?}");

            let (change, scope, reported_at, current) = (&told, &Scope::nothing(), Some(100), &current);
            let (others, is_patient, is_relieving, is_confirming) = (&others, false, false, false);
            let impatient =
                Question { change, scope, reported_at, current, others, is_patient, is_relieving, is_confirming };
            assert_eq!(!impatient.decide().update.is_empty(), is_written || is_open, "{time} {others:?}");
            let timeless = Question { reported_at: None, ..impatient };
            let is_touched = others.touches("T", "0", "R");
            assert_eq!(!timeless.decide().update.is_empty(), !is_touched, "{time} {others:?}");
        }
    }

    #[test]
    fn of_what_is_gone_the_newer_part_stays() {
        let mut current = document(json!({"P": {"5": {"A": "a", "B": "b", "M": {"0": "x", "1": "y"}}}}), 90);
        let told = change(json!({"P": {"6": {"A": "a"}}}));
        let whole = read(&["P"], &[""]);
        let left = |current: &Document, others: &OtherResults| {
            decide(&told, &whole, current, others).update.into_json()["P"]["5"].clone()
        };
        let touching = |result: Json| OtherResults::new([change(result).fingerprint()], []);

        assert_eq!(left(&current, &OtherResults::default()), Json::Null);
        let b = touching(json!({"P": {"5": {"B": "b"}}}));
        assert_eq!(left(&current, &b), json!({"A": null, "M": null}));
        let part = touching(json!({"P": {"5": {"M": {"1": "y"}}}}));
        assert_eq!(left(&current, &part), json!({"A": null, "B": null, "M": {"0": null}}));

        current.metadata.reported["P"]["5"]["A"]["timestamp"] = json!(101);
        assert_eq!(left(&current, &OtherResults::default()), json!({"B": null, "M": null}));
        current.metadata.reported["P"]["5"]["M"]["0"]["timestamp"] = json!(101);
        assert_eq!(left(&current, &OtherResults::default()), json!({"B": null, "M": {"1": null}}));
    }

    #[test]
    fn of_a_multiple_resource_the_newer_instances_stay() {
        let told = change(json!({"T": {"0": {"M": {"0": "old", "1": "new"}}}}));
        let touching = |result: Json| OtherResults::new([change(result).fingerprint()], []);
        let current = document(json!({"T": {"0": {"M": {"0": "newer"}}}}), 90);
        let left = |told: &Change, others: &OtherResults| {
            decide(told, &Scope::nothing(), &current, others).update.into_json()["T"]["0"]["M"].clone()
        };
        let newer = touching(json!({"T": {"0": {"M": {"0": "newer"}}}}));
        assert_eq!(left(&told, &newer), json!({"1": "new"}));
        assert_eq!(left(&told, &touching(json!({"T": {"0": {"M": "one"}}}))), Json::Null);
        assert_eq!(left(&change(json!({"T": {"0": {"M": "one"}}})), &newer), Json::Null);
        assert_eq!(left(&change(json!({"T": {"0": {"M": {}}}})), &newer), Json::Null);
    }

    #[test]
    fn entries_without_a_value_make_room() {
        let current = document(
            json!({"T": {"0": {"none": {"noValue": true}, "gets one": {"noValue": true}, "loses it": "1"}}}),
            90,
        );
        let change = &change(json!({"T": {"0": {
            "gets one": "2", "loses it": {"noValue": true}, "never had": {"noValue": true}, "kept": "3"
        }}}));
        let (current, others, scope, reported_at) = (&current, &OtherResults::default(), &Scope::nothing(), None);
        let (is_patient, is_relieving, is_confirming) = (true, true, false);
        let question =
            Question { change, scope, reported_at, current, others, is_patient, is_relieving, is_confirming };
        assert_eq!(
            question.decide().update.into_json(),
            json!({"T": {"0": {"gets one": "2", "kept": "3", "loses it": null, "none": null}}})
        );
    }
}
