//! The datamodel shadow: what is known of the device's data model, folded together from results.
//!
//! Its form is object name → object instance → resource name → value. Every value is a string; a resource without a
//! value is `{"noValue": true}`; a multiple resource is an object of resource instances, `{}` where it has none.

use std::collections::HashSet;
use std::time::Duration;

use memory::Memory;
use serde_json::{Map, Value as Json, json};

use crate::operation::OperationShadow;
use crate::shadows::{Document, Error, Shadows};
use crate::thing::ThingName;

const SHADOW_NAME: &str = "datamodel";
const NO_VALUE: &str = "noValue";

/// Coiote wrote first so many times in a row: more than any number of notifications explains.
const MOST_CONFLICTS: u32 = 10;

/// A result in the form that the datamodel shadow takes: a change that can only touch what the result names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change(Vec<Resource>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Resource {
    object: String,
    instance: String,
    name: String,
    value: Json,
}

impl Resource {
    /// What stands in its place in a tree of this form.
    fn within<'a>(&self, tree: &'a Json) -> Option<&'a Json> {
        tree.get(&self.object)?.get(&self.instance)?.get(&self.name)
    }

    fn path(&self) -> String {
        format!("{}.{}.{}", self.object, self.instance, self.name)
    }
}

impl Change {
    /// The error names the place that is not of the form.
    pub fn from_result(result: Json) -> Result<Change, String> {
        let mut resources = Vec::new();
        for (object, instances) in object_at("result", result)? {
            for (instance, values) in object_at(&object, instances)? {
                for (name, value) in object_at(&format!("{object}.{instance}"), values)? {
                    let value = resource_value(&format!("{object}.{instance}.{name}"), value)?;
                    resources.push(Resource { object: object.clone(), instance: instance.clone(), name, value });
                }
            }
        }
        Ok(Change(resources))
    }

    /// How many resources it changes.
    pub fn resources(&self) -> usize {
        self.0.len()
    }

    /// The same resources as Coiote has reported them last. A result that comes late must not bring back what was; and
    /// while nothing newer was reported than this very result, it is the result itself.
    pub fn brought_up_to(&self, shadow: &OperationShadow, version: Option<u64>, reported_at: Option<u64>) -> Change {
        let mut change = self.clone();
        if version.is_none_or(|version| version >= shadow.version) {
            return change;
        }
        for resource in &mut change.0 {
            let times = resource.within(&shadow.result_times);
            if let Some(newer) = resource
                .within(&shadow.result)
                .and_then(|latest| newer_value(&resource.value, latest, times, reported_at))
            {
                resource.value = newer;
            }
        }
        change
    }

    /// Whether a resource is given as an object: without a value, or multiple. An update merges objects, so what it has
    /// to take away has to be known.
    fn has_objects(&self) -> bool {
        self.0.iter().any(|resource| resource.value.is_object())
    }

    fn tree(&self) -> Tree {
        let mut tree = Tree::default();
        for resource in &self.0 {
            tree.put(resource, resource.value.clone());
        }
        tree
    }

    /// What is left to be written onto `current`. `may_replace` says whether what stands there for a resource may go.
    fn onto(&self, current: &Json, scope: &Scope, may_replace: impl Fn(&Resource) -> bool) -> Tree {
        let mut tree = Tree::default();
        for resource in &self.0 {
            let old = resource.within(current);
            if old.is_some() && !may_replace(resource) {
                continue;
            }
            let mut value = resource.value.clone();
            if let (Some(Json::Object(old)), Json::Object(new)) = (old, &mut value) {
                for key in stale(resource, old, new, scope) {
                    new.insert(key, Json::Null);
                }
            }
            if old != Some(&value) {
                tree.put(resource, value);
            }
        }
        tree
    }

    /// As [`Change::onto`], and every resource without a value goes, to make room.
    fn relieving(&self, current: &Json, scope: &Scope, may_replace: impl Fn(&Resource) -> bool) -> Tree {
        let has_no_value = |resource: &&Resource| resource.value.get(NO_VALUE).is_some();
        let (gone, kept): (Vec<&Resource>, Vec<&Resource>) = self.0.iter().partition(has_no_value);
        let mut tree = Change(kept.into_iter().cloned().collect()).onto(current, scope, &may_replace);
        for resource in gone {
            if resource.within(current).is_some() && may_replace(resource) {
                tree.put(resource, Json::Null);
            }
        }
        for resource in without_value(current) {
            if !tree.holds(&resource) {
                tree.put(&resource, Json::Null);
            }
        }
        tree
    }
}

/// What a result says about the resource instances that it does not name.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Whether it is known what was read; otherwise nothing is taken for gone.
    pub is_known: bool,
    /// Resources of which single resource instances were read.
    pub instances_of: HashSet<String>,
    pub failed_keys: Vec<String>,
}

impl Scope {
    /// Everything, said of a list that would have been too long.
    pub const ANY: &str = "/";

    fn covers(&self, resource: &Resource, resource_instance: &str) -> bool {
        if !self.is_known || self.instances_of.contains(Scope::ANY) {
            return false;
        }
        let path = resource.path();
        let instance = format!("{path}.{resource_instance}");
        let lies_in =
            |path: &str, key: &str| path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        !self.instances_of.contains(&path)
            && !self.failed_keys.iter().any(|key| lies_in(&instance, key.trim_end_matches('.')))
    }
}

/// Keys of the old value that cannot stay beside the new one.
fn stale(resource: &Resource, old: &Map<String, Json>, new: &Map<String, Json>, scope: &Scope) -> Vec<String> {
    let is_stale = |key: &&String| {
        !new.contains_key(*key)
            && (new.is_empty() || new.contains_key(NO_VALUE) || *key == NO_VALUE || scope.covers(resource, key))
    };
    old.keys().filter(is_stale).cloned().collect()
}

/// What was reported after `value`, where that is another value.
fn newer_value(value: &Json, latest: &Json, times: Option<&Json>, reported_at: Option<u64>) -> Option<Json> {
    let Ok(normal) = resource_value("", latest.clone()) else { return None };
    let Json::Object(latest) = latest else { return (normal != *value).then_some(normal) };
    let newest = latest_time(times);
    let is_later = newest.zip(reported_at).is_some_and(|(newest, reported_at)| newest > reported_at);
    if let Json::Object(value) = value {
        // Reports merge, so more may stand there than the last one said.
        let agrees = value.iter().all(|(key, value)| latest.get(key).is_some_and(|latest| as_value(latest) == *value));
        if agrees && !(value.is_empty() && is_later) {
            return None;
        }
    }
    // Of what has merged, the last report's part.
    let of_last = |key: &String| times.and_then(|times| latest_time(times.get(key))) == newest;
    let part = latest.iter().filter(|(key, _)| of_last(key)).map(|(key, value)| (key.clone(), as_value(value)));
    resource_value("", Json::Object(part.collect())).ok()
}

fn as_value(json: &Json) -> Json {
    scalar("", json.clone()).unwrap_or_else(|_| json.clone())
}

/// The latest of the times (seconds since 1970) that a shadow's metadata holds for a part of it.
fn latest_time(metadata: Option<&Json>) -> Option<u64> {
    let Json::Object(metadata) = metadata? else { return None };
    match metadata.get("timestamp") {
        Some(Json::Number(time)) => time.as_u64(),
        _ => metadata.values().filter_map(|part| latest_time(Some(part))).max(),
    }
}

/// A part of the data model: object name → object instance → resource name → value.
#[derive(Debug, Default)]
struct Tree(Map<String, Json>);

impl Tree {
    fn put(&mut self, at: &Resource, value: Json) {
        let empty = || Json::Object(Map::new());
        let instances = self.0.entry(at.object.clone()).or_insert_with(empty).as_object_mut();
        let resources = instances.map(|instances| instances.entry(at.instance.clone()).or_insert_with(empty));
        if let Some(Json::Object(resources)) = resources {
            resources.insert(at.name.clone(), value);
        }
    }

    fn holds(&self, resource: &Resource) -> bool {
        self.0.get(&resource.object).and_then(|i| i.get(&resource.instance)?.get(&resource.name)).is_some()
    }
}

/// Every resource without a value in a data model.
fn without_value(tree: &Json) -> Vec<Resource> {
    let parts = |json: &Json| json.as_object().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for (object, instances) in parts(tree) {
        for (instance, resources) in parts(&instances) {
            for (name, value) in parts(&resources) {
                if value.get(NO_VALUE).is_some() {
                    found.push(Resource { object: object.clone(), instance: instance.clone(), name, value });
                }
            }
        }
    }
    found
}

fn object_at(place: &str, json: Json) -> Result<Map<String, Json>, String> {
    match json {
        Json::Object(object) => Ok(object),
        _ => Err(format!("{place}: expected an object")),
    }
}

fn resource_value(place: &str, json: Json) -> Result<Json, String> {
    match json {
        Json::Object(object) if object.contains_key(NO_VALUE) => Ok(json!({NO_VALUE: true})),
        Json::Object(instances) => instances
            .into_iter()
            .map(|(id, value)| scalar(&format!("{place}.{id}"), value).map(|value| (id, value)))
            .collect::<Result<Map<_, _>, _>>()
            .map(Json::Object),
        value => scalar(place, value),
    }
}

fn scalar(place: &str, json: Json) -> Result<Json, String> {
    match json {
        Json::String(_) => Ok(json),
        Json::Number(number) => Ok(Json::String(number.to_string())),
        Json::Bool(boolean) => Ok(Json::String(boolean.to_string())),
        Json::Null | Json::Array(_) | Json::Object(_) => Err(format!("{place}: expected a value as a string")),
    }
}

/// Where a change comes from.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// Version of the operation shadow that carried the result.
    pub version: Option<u64>,
    /// Seconds since 1970.
    pub reported_at: Option<u64>,
    /// Reported within the last second, which is as exactly as shadows tell the time: nothing in the datamodel shadow
    /// can be known to be newer.
    pub is_fresh: bool,
}

/// How a change was folded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Folded {
    /// Entries without a value had to make room.
    pub relieved: bool,
    /// How many times somebody else's write came first.
    pub conflicts: u32,
}

/// The datamodel shadows of all things, and what is remembered of those that were folded into last.
pub struct DatamodelShadows {
    shadows: Shadows,
    remembered: Memory<ThingName, Remembered>,
}

/// The last result that was folded in here, and the version that the datamodel shadow had then.
#[derive(Debug, Clone, Copy)]
struct Remembered {
    operation_version: u64,
    datamodel_version: u64,
}

impl DatamodelShadows {
    pub fn new(shadows: Shadows) -> DatamodelShadows {
        DatamodelShadows { shadows, remembered: Memory::default() }
    }

    /// Folds a change into the thing's datamodel shadow: one call where the result is fresh and all values are plain.
    ///
    /// `undoing`: what this very invocation wrote before it learned better.
    pub async fn fold(
        &self,
        thing: &ThingName,
        change: &Change,
        source: Source,
        scope: &Scope,
        undoing: Option<&Change>,
    ) -> Result<Folded, Error> {
        let mut folded = Folded { relieved: false, conflicts: 0 };
        if change.resources() == 0 {
            return Ok(folded);
        }
        let remembered = self.remembered.get(thing);
        let is_late =
            |remembered: Remembered| source.version.is_some_and(|version| version < remembered.operation_version);
        let is_fresh = source.is_fresh && !remembered.is_some_and(is_late);
        // While the shadow is as we left it after an older result, nothing in it is newer than this one.
        let as_we_left_it = remembered.filter(|remembered| !is_late(*remembered)).map(|r| r.datamodel_version);

        if !change.has_objects() && (is_fresh || as_we_left_it.is_some()) {
            let version = if is_fresh { None } else { as_we_left_it };
            match self.write(thing, change.tree(), version, source).await {
                Ok(()) => return Ok(folded),
                Err(Error::Conflict) => folded.conflicts += 1,
                Err(Error::TooLarge) => {}
                Err(error) => return Err(error),
            }
        }
        loop {
            let current = self.shadows.get(thing, SHADOW_NAME).await?;
            let version = current.as_ref().map(|current| current.version);
            let current = current.unwrap_or_default();
            let all = is_fresh || as_we_left_it == version;
            let may_replace = |resource: &Resource| all || is_older(&current, resource, source, undoing);
            let update = change.onto(&current.state.reported, scope, may_replace);
            if update.0.is_empty() {
                return Ok(folded);
            }
            match self.write(thing, update, version, source).await {
                Ok(()) => return Ok(folded),
                Err(Error::Conflict) if folded.conflicts < MOST_CONFLICTS => {
                    folded.conflicts += 1;
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(1..=50))).await;
                }
                Err(Error::TooLarge) => {
                    let update = change.relieving(&current.state.reported, scope, may_replace);
                    match self.write(thing, update, version, source).await {
                        Ok(()) => return Ok(Folded { relieved: true, ..folded }),
                        Err(Error::Conflict) if folded.conflicts < MOST_CONFLICTS => folded.conflicts += 1,
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn write(
        &self,
        thing: &ThingName,
        Tree(reported): Tree,
        version: Option<u64>,
        source: Source,
    ) -> Result<(), Error> {
        let datamodel_version =
            self.shadows.update(thing, SHADOW_NAME, json!({ "reported": reported }), version).await?;
        if let Some(operation_version) = source.version {
            let known = self.remembered.get(thing).map_or(0, |remembered| remembered.operation_version);
            let operation_version = operation_version.max(known);
            self.remembered.put(thing.clone(), Remembered { operation_version, datamodel_version });
        }
        Ok(())
    }
}

/// Whether what the datamodel shadow holds of a resource is older than the result. Coiote writes there as well, when a
/// device registers, notifies or sends.
fn is_older(current: &Document, resource: &Resource, source: Source, undoing: Option<&Change>) -> bool {
    let held = resource.within(&current.state.reported);
    let is_ours = |change: &Change| {
        change.0.iter().any(|ours| {
            (&ours.object, &ours.instance, &ours.name) == (&resource.object, &resource.instance, &resource.name)
                && Some(&ours.value) == held
        })
    };
    let written_at = latest_time(resource.within(&current.metadata.reported));
    let is_newer = written_at.zip(source.reported_at).is_some_and(|(written, reported)| written > reported);
    !is_newer || undoing.is_some_and(is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Times;

    fn change(result: Json) -> Change {
        Change::from_result(result).unwrap()
    }

    fn everything() -> Scope {
        Scope { is_known: true, ..Scope::default() }
    }

    #[test]
    fn a_result_becomes_a_change_of_what_it_names() {
        let change = change(json!({
            "Device": {"0": {"UTC Offset": "+02:00", "Current Time": {"noValue": true}, "Battery Level": 97}},
            "Test object": {"0": {"Integer array": {"0": "6", "1": 7}, "Empty": {}}},
        }));
        assert_eq!(change.resources(), 5);
        assert_eq!(
            Json::Object(change.tree().0),
            json!({
                "Device": {"0": {"UTC Offset": "+02:00", "Current Time": {"noValue": true}, "Battery Level": "97"}},
                "Test object": {"0": {"Integer array": {"0": "6", "1": "7"}, "Empty": {}}},
            })
        );
        assert_eq!(Change::from_result(json!({})).unwrap().resources(), 0);
    }

    #[test]
    fn no_value_and_resource_instances_replace_each_other() {
        let current = json!({"T": {"0": {
            "plain": "1", "was plain": "1", "had none": {"noValue": true}, "had some": {"0": "6", "1": "7"},
            "kept": {"4": "5"}, "emptied": {"0": "6", "1": "7"}, "same": {"0": "1"}
        }}});
        let change = change(json!({"T": {"0": {
            "plain": "2", "was plain": {"0": "1"}, "had none": {"0": "6"}, "had some": {"noValue": true},
            "kept": {"5": "6"}, "new": {"0": "1"}, "emptied": {}, "same": {"0": "1"}
        }}}));
        let expected = json!({"T": {"0": {
            "plain": "2", "was plain": {"0": "1"}, "had none": {"0": "6", "noValue": null},
            "had some": {"noValue": true, "0": null, "1": null}, "kept": {"5": "6"}, "new": {"0": "1"},
            "emptied": {"0": null, "1": null}
        }}});
        assert_eq!(Json::Object(change.onto(&current, &Scope::default(), |_| true).0), expected);
    }

    #[test]
    fn resource_instances_that_a_read_of_the_whole_did_not_find_are_gone() {
        let current = json!({"T": {"0": {"A": {"0": "a", "1": "b", "2": "c"}}}});
        let change = change(json!({"T": {"0": {"A": {"1": "b"}}}}));
        let left = |scope: &Scope| Json::Object(change.onto(&current, scope, |_| true).0);

        assert_eq!(left(&everything()), json!({"T": {"0": {"A": {"1": "b", "0": null, "2": null}}}}));
        for keeps in [
            Scope::default(),
            Scope { instances_of: ["T.0.A".to_owned()].into(), ..everything() },
            Scope { instances_of: [Scope::ANY.to_owned()].into(), ..everything() },
            Scope { failed_keys: vec!["T.0.A".to_owned()], ..everything() },
            Scope { failed_keys: vec!["T".to_owned()], ..everything() },
        ] {
            assert_eq!(left(&keeps), json!({"T": {"0": {"A": {"1": "b"}}}}), "{keeps:?}");
        }
        let other_resource = Scope { instances_of: ["T.0.AA".to_owned()].into(), ..everything() };
        assert_eq!(left(&other_resource), json!({"T": {"0": {"A": {"1": "b", "0": null, "2": null}}}}));
        let one_failed = Scope { failed_keys: vec!["T.0.A.2".to_owned(), "T.0.A.22".to_owned()], ..everything() };
        assert_eq!(left(&one_failed), json!({"T": {"0": {"A": {"1": "b", "0": null}}}}));
    }

    #[test]
    fn entries_without_a_value_make_room() {
        let current = json!({"T": {"0": {"none": {"noValue": true}, "gets one": {"noValue": true}, "loses it": "1"}}});
        let change = change(json!({"T": {"0": {
            "gets one": "2", "loses it": {"noValue": true}, "never had": {"noValue": true}, "kept": "3"
        }}}));
        assert_eq!(
            Json::Object(change.relieving(&current, &Scope::default(), |_| true).0),
            json!({"T": {"0": {"gets one": "2", "kept": "3", "loses it": null, "none": null}}})
        );
    }

    #[test]
    fn a_late_result_gives_way_to_what_was_reported_after_it() {
        let shadow = |reported: Json, times: Json| {
            let of = |result: Json| json!({ "reported": { "result": result } });
            let document = json!({ "version": 9, "state": of(reported), "metadata": of(times) });
            OperationShadow::from(serde_json::from_value::<Document<Times>>(document).unwrap())
        };
        let at = |time: u64| json!({"timestamp": time});
        let late = |value: Json, latest: Json, times: Json| {
            let shadow = shadow(json!({"T": {"0": {"R": latest}}}), json!({"T": {"0": {"R": times}}}));
            let change = change(json!({"T": {"0": {"R": value}, "1": {"not reported any more": "x"}}}));
            let change = change.brought_up_to(&shadow, Some(5), Some(100));
            assert_eq!(change.0[1].value, "x");
            change.0[0].value.clone()
        };
        assert_eq!(late(json!("a"), json!("b"), at(101)), "b");
        assert_eq!(late(json!("68"), json!(68), at(100)), "68");
        assert_eq!(late(json!("a"), json!({"0": "b"}), json!({"0": at(101)})), json!({"0": "b"}));
        assert_eq!(late(json!({"0": "a"}), json!("b"), at(101)), "b");
        // Reports merge: the older part of what stands there belongs to an earlier one.
        let merged = json!({"0": "b", "1": "x"});
        assert_eq!(late(json!({"0": "a"}), merged.clone(), json!({"0": at(101), "1": at(90)})), json!({"0": "b"}));
        assert_eq!(late(json!({"0": "b"}), merged.clone(), json!({"0": at(100), "1": at(90)})), json!({"0": "b"}));
        assert_eq!(late(json!({}), merged.clone(), json!({"0": at(100), "1": at(90)})), json!({}));
        assert_eq!(late(json!({}), merged, json!({"0": at(101), "1": at(90)})), json!({"0": "b"}));

        let change = change(json!({"T": {"0": {"R": "a"}}}));
        let newer = shadow(json!({"T": {"0": {"R": "b"}}}), json!({"T": {"0": {"R": at(101)}}}));
        assert_eq!(change.brought_up_to(&newer, Some(9), Some(100)), change, "nothing has happened since");
        assert_eq!(change.brought_up_to(&newer, None, Some(100)), change, "not known when it was");
    }

    #[test]
    fn what_is_newer_than_the_result_stays() {
        let current = |time: u64| Document {
            state: crate::shadows::State { reported: json!({"T": {"0": {"R": "held"}}}), ..Default::default() },
            metadata: crate::shadows::State {
                reported: json!({"T": {"0": {"R": {"timestamp": time}}}}),
                ..Default::default()
            },
            version: 3,
        };
        let source = Source { version: Some(5), reported_at: Some(100), is_fresh: false };
        let resource = |value: &str| change(json!({"T": {"0": {"R": value}}}));
        for (time, older) in [(99, true), (100, true), (101, false)] {
            assert_eq!(is_older(&current(time), &resource("new").0[0], source, None), older, "{time}");
        }
        assert!(is_older(&current(101), &resource("new").0[0], source, Some(&resource("held"))), "ours to correct");
        assert!(!is_older(&current(101), &resource("new").0[0], source, Some(&resource("other"))));
    }

    #[test]
    fn what_is_not_of_the_form_is_named() {
        for (result, place) in [
            (json!("x"), "result:"),
            (json!({"Device": 5}), "Device:"),
            (json!({"Device": {"0": []}}), "Device.0:"),
            (json!({"Device": {"0": {"A": null}}}), "Device.0.A:"),
            (json!({"Device": {"0": {"A": {"1": {}}}}}), "Device.0.A.1:"),
        ] {
            let message = Change::from_result(result).unwrap_err();
            assert!(message.starts_with(place), "{message}");
        }
    }
}
