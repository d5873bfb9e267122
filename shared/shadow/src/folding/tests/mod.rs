//! Tests of folding as a whole: every order of its steps, and a real device's data model.

mod decision;
mod exploration;
mod real_device;

use serde_json::{Value as Json, json};

use crate::shadows::{Document, ShadowState};

/// A datamodel shadow with the same time in all metadata.
pub(super) fn document(reported: Json, time: u64) -> Document {
    let metadata = ShadowState { reported: times(&reported, time) };
    Document { state: ShadowState { reported }, metadata, version: 3 }
}

fn times(json: &Json, time: u64) -> Json {
    match json {
        Json::Object(members) => members.iter().map(|(name, part)| (name.clone(), times(part, time))).collect(),
        _ => json!({"timestamp": time}),
    }
}
