//! Tests of the decision which parts of a change are written.

use requests::DatamodelWrite;
use serde_json::{Value as Json, json};

use super::document;
use crate::folding::decision::{Decision, DecisionInput};
use crate::folding::place::Place;
use crate::folding::{Change, EarlierResult, OtherResults, Scope};
use crate::shadows::Document;

fn read(keys: &[&str], failed: &[&str]) -> Scope {
    let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
    Scope::new(Some(owned(keys)), owned(failed))
}

fn parse(result: Json) -> Change {
    Change::from_result(result).0
}

fn decide(change: &Change, scope: &Scope, current: &Document, others: &OtherResults) -> Decision {
    let reported_at = Some(100);
    let (waits_for_folds, drops_valueless, rewrites_unchanged) = (true, false, false);
    DecisionInput { change, scope, reported_at, current, others, waits_for_folds, drops_valueless, rewrites_unchanged }
        .decide()
}

/// The update of a shadow in which nothing is newer than the result.
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
        let change = parse(json!({"T": {"0": {"R": new}}}));
        let expected = if written.is_null() { json!({}) } else { json!({"T": {"0": {"R": written}}}) };
        assert_eq!(onto(json!({"T": {"0": {"R": old}}}), &change, &Scope::default()), expected, "{old} {new}");
    }
}

#[test]
fn places_that_a_read_did_not_find_are_removed() {
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
        (json!({"Portfolio": four}), Scope::default(), json!({})),
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
        (json!({"Portfolio": {"4": {"Identity": {"1": "b"}}}}), read(&["Portfolio.4.Identity.1"], &[""]), json!({})),
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
        assert_eq!(onto(current.clone(), &parse(result.clone()), &scope), written, "{result} {scope:?}");
    }
}

#[test]
fn places_that_a_change_removes_are_removed() {
    let current = json!({
        "Portfolio": {"5": {"Identity": {"0": "c", "1": "d"}, "Name": "n"}, "6": {"Name": "m"}},
        "PM2.5": {"0": {"Value": "3"}},
    });
    for (change, written) in [
        (parse(json!({"Portfolio": {"5": null, "7": null}})), json!({"Portfolio": {"5": null}})),
        (parse(json!({"Portfolio": null, "None": null})), json!({"Portfolio": null})),
        (parse(json!({"Portfolio": {"5": {"Name": null}}})), json!({"Portfolio": {"5": {"Name": null}}})),
        (
            parse(json!({"Portfolio": {"5": {"Identity": {"0": null}}}})),
            json!({"Portfolio": {"5": {"Identity": {"0": null}}}}),
        ),
        (Change::removal(["Portfolio.5"]), json!({"Portfolio": {"5": null}})),
        (Change::removal(["Portfolio.5.Identity.1"]), json!({"Portfolio": {"5": {"Identity": {"1": null}}}})),
        (Change::removal(["PM2.5.0"]), json!({"PM2.5": {"0": null}})),
        (Change::removal(["PM2", "Portfolio.55", ""]), json!({})),
    ] {
        assert_eq!(onto(current.clone(), &change, &Scope::default()), written, "{change:?}");
    }
}

#[test]
fn values_newer_than_the_result_stay() {
    let change = parse(json!({"T": {"0": {"R": "new"}}}));
    let fingerprint = change.fingerprint();
    let elsewhere = parse(json!({"T": {"0": {"S": "x"}}})).fingerprint();
    let after = |fingerprint: &Vec<u32>, wrote| {
        OtherResults::new([], [EarlierResult { fingerprint: fingerprint.clone(), wrote }])
    };
    for (time, others, is_written, has_to_wait) in [
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
        let decision = decide(&change, &Scope::default(), &current, &others);
        assert_eq!((!decision.update.is_empty(), decision.has_to_wait), (is_written, has_to_wait), "{time} {others:?}");

        let (change, scope, reported_at, current) = (&change, &Scope::default(), Some(100), &current);
        let (others, waits_for_folds, drops_valueless, rewrites_unchanged) = (&others, false, false, false);
        let impatient = DecisionInput {
            change,
            scope,
            reported_at,
            current,
            others,
            waits_for_folds,
            drops_valueless,
            rewrites_unchanged,
        };
        assert_eq!(!impatient.decide().update.is_empty(), is_written || has_to_wait, "{time} {others:?}");
        let timeless = DecisionInput { reported_at: None, ..impatient };
        let is_touched = others.touches(&Place::new(["T", "0", "R"]));
        assert_eq!(!timeless.decide().update.is_empty(), !is_touched, "{time} {others:?}");
    }
}

#[test]
fn newer_parts_of_a_removed_place_stay() {
    let mut current = document(json!({"P": {"5": {"A": "a", "B": "b", "M": {"0": "x", "1": "y"}}}}), 90);
    let change = parse(json!({"P": {"6": {"A": "a"}}}));
    let whole = read(&["P"], &[""]);
    let left = |current: &Document, others: &OtherResults| {
        decide(&change, &whole, current, others).update.into_json()["P"]["5"].clone()
    };
    let touching = |result: Json| OtherResults::new([parse(result).fingerprint()], []);

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
fn newer_instances_of_a_multiple_resource_stay() {
    let change = parse(json!({"T": {"0": {"M": {"0": "old", "1": "new"}}}}));
    let touching = |result: Json| OtherResults::new([parse(result).fingerprint()], []);
    let current = document(json!({"T": {"0": {"M": {"0": "newer"}}}}), 90);
    let left = |change: &Change, others: &OtherResults| {
        decide(change, &Scope::default(), &current, others).update.into_json()["T"]["0"]["M"].clone()
    };
    let newer = touching(json!({"T": {"0": {"M": {"0": "newer"}}}}));
    assert_eq!(left(&change, &newer), json!({"1": "new"}));
    assert_eq!(left(&change, &touching(json!({"T": {"0": {"M": "one"}}}))), Json::Null);
    assert_eq!(left(&parse(json!({"T": {"0": {"M": "one"}}})), &newer), Json::Null);
    assert_eq!(left(&parse(json!({"T": {"0": {"M": {}}}})), &newer), Json::Null);
}

#[test]
fn valueless_resources_are_dropped_to_make_room() {
    let current =
        document(json!({"T": {"0": {"none": {"noValue": true}, "gets one": {"noValue": true}, "loses it": "1"}}}), 90);
    let change = &parse(json!({"T": {"0": {
        "gets one": "2", "loses it": {"noValue": true}, "never had": {"noValue": true}, "kept": "3"
    }}}));
    let (current, others, scope, reported_at) = (&current, &OtherResults::default(), &Scope::default(), None);
    let (waits_for_folds, drops_valueless, rewrites_unchanged) = (true, true, false);
    let input = DecisionInput {
        change,
        scope,
        reported_at,
        current,
        others,
        waits_for_folds,
        drops_valueless,
        rewrites_unchanged,
    };
    assert_eq!(
        input.decide().update.into_json(),
        json!({"T": {"0": {"gets one": "2", "kept": "3", "loses it": null, "none": null}}})
    );
}
