//! The whole data model of a real device, in the form of Coiote.

use serde_json::{Value as Json, json};

use crate::folding::fold::{Fold, Step};
use crate::folding::tests::document;
use crate::folding::update::Update;
use crate::folding::{Change, OtherResults, Scope};
use crate::shadows::{Document, Written};

fn data_model() -> Json {
    let model = serde_json::from_str(include_str!("../../../../lwm2m/tests/data/real-device.json"));
    assert!(model.is_ok(), "{model:?}");
    model.unwrap_or_default()
}

/// Removes a member, which has to be there.
fn remove(model: &mut Json, place: &str, name: &str) {
    let removed = model.pointer_mut(place).and_then(Json::as_object_mut).and_then(|held| held.shift_remove(name));
    assert!(removed.is_some(), "{place} has no {name}");
}

fn read_all() -> Scope {
    Scope::new(Some(vec![String::new()]), vec![String::new()])
}

/// The update that a fold writes onto the shadow.
fn written(change: &Change, shadow: Document) -> Option<Json> {
    let scope = read_all();
    let mut fold = Fold::new(change, &scope, Some(100), None);
    fold.document_read(Some(shadow));
    fold.ledger_read(OtherResults::default());
    let update: Option<Update> = match fold.step().clone() {
        Step::Write(update, _) => Some(update),
        _ => None,
    };
    if update.is_some() {
        assert!(fold.write_answered(Ok(Written { version: 9, timestamp: Some(101) })).is_ok());
    }
    assert!(matches!(fold.step(), Step::Done(_)));
    update.map(Update::into_json)
}

#[test]
fn it_is_folded_unchanged_into_an_empty_shadow_and_without_a_write_onto_itself() {
    let model = data_model();
    let size = model.to_string().len();
    assert!((4_500..6_000).contains(&size), "about 5 KB, {size} bytes");
    let (change, messages) = Change::from_result(model.clone());
    assert_eq!(messages, [""; 0]);
    assert_eq!(written(&change, Document { version: 1, ..Document::default() }), Some(model.clone()));
    assert_eq!(written(&change, document(model, 90)), None);
}

#[test]
fn only_the_parts_that_it_lacks_are_removed() {
    let before = data_model();
    let mut after = before.clone();
    remove(&mut after, "/Location/0", "Speed");
    remove(&mut after, "/Connectivity Monitoring/0/Available Network Bearer", "1");
    remove(&mut after, "", "Temperature");
    let change = Change::from_result(after).0;
    assert_eq!(
        written(&change, document(before, 90)),
        Some(json!({
            "Connectivity Monitoring": {"0": {"Available Network Bearer": {"1": null}}},
            "Location": {"0": {"Speed": null}},
            "Temperature": null
        }))
    );
}
