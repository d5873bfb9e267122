//! Updates of the copies of records in the operation shadow.

use requests::{Device, Millis, RequestCopy, path_hash, request_copies};
use serde_json::{Map, Value as Json};
use shadow::operation_shadow::{CopiesUpdate, OperationShadow};

/// Fields of a copy that may be absent. An update merges, so an absent field is written as `null`.
const OPTIONAL: [&str; 5] = ["clientToken", "taskId", "requestId", "reason", "properties"];

/// Update of the copies that a change of the records concerns, if it concerns any.
pub(crate) fn update_after_change(before: &Device, after: &Device, at: Millis) -> Option<CopiesUpdate> {
    let (old, new) = (request_copies(before, at), request_copies(after, at));
    let mut requests = Map::new();
    for (name, entry) in &new {
        if old.get(name) != Some(entry) {
            requests.insert(name.clone(), copy(entry));
        }
    }
    for record in before.open().iter().chain(before.ended()) {
        let name = record.name.to_string();
        if !new.contains_key(&name) {
            requests.insert(name, Json::Null);
        }
    }
    (!requests.is_empty()).then_some(CopiesUpdate { requests, result: None })
}

/// Update of all copies, whatever the shadow holds.
pub(crate) fn full_update(device: &Device, shadow: &OperationShadow, at: Millis) -> CopiesUpdate {
    let new = request_copies(device, at);
    let foreign = shadow.requests.iter().filter(|name| !new.contains_key(*name));
    let removed: Vec<(String, Json)> = foreign.map(|name| (name.clone(), Json::Null)).collect();
    let written = new.iter().map(|(name, entry)| (name.clone(), copy(entry)));
    CopiesUpdate { requests: written.chain(removed).collect(), result: earlier_results(device, &shadow.result) }
}

/// The update with copies as short as possible, for a shadow without room: of a reason, only the code.
pub(crate) fn shortened(copies: &CopiesUpdate) -> CopiesUpdate {
    let short = |entry: &Json| match entry {
        Json::Object(entry) => {
            let mut short: Map<String, Json> = entry.clone();
            short.insert("properties".to_owned(), Json::Null);
            short.insert("requestId".to_owned(), Json::Null);
            if let Some(Json::Object(reason)) = short.get_mut("reason") {
                reason.insert("message".to_owned(), Json::Null);
            }
            Json::Object(short)
        }
        other => other.clone(),
    };
    let requests = copies.requests.iter().map(|(name, entry)| (name.clone(), short(entry))).collect();
    CopiesUpdate { requests, result: copies.result.clone() }
}

fn copy(entry: &RequestCopy) -> Json {
    let mut copy = serde_json::to_value(entry).unwrap_or_default();
    if let Json::Object(copy) = &mut copy {
        for name in OPTIONAL {
            copy.entry(name).or_insert(Json::Null);
        }
    }
    copy
}

/// Values in `reported.result` that the newest result does not name, as `null`s.
fn earlier_results(device: &Device, result: &Json) -> Option<Json> {
    let newest = device.newest_result()?;
    let is_of_newest = |path: &str| newest.names(path_hash(path));
    fn walk(prefix: &str, tree: &Json, depth: u8, is_of_newest: &impl Fn(&str) -> bool) -> Option<Json> {
        let mut nulls = Map::new();
        for (name, part) in tree.as_object()? {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            if depth < 3 {
                let below = walk(&path, part, depth + 1, is_of_newest);
                let count = part.as_object().map_or(0, Map::len);
                match below {
                    // All values below are of earlier results.
                    Some(Json::Object(below)) if below.len() == count && below.values().all(Json::is_null) => {
                        nulls.insert(name.clone(), Json::Null);
                    }
                    Some(below) => {
                        nulls.insert(name.clone(), below);
                    }
                    None => {}
                }
            } else if !is_of_newest(&path) {
                nulls.insert(name.clone(), Json::Null);
            }
        }
        (!nulls.is_empty()).then_some(Json::Object(nulls))
    }
    walk("", result, 1, &is_of_newest)
}

/// When the records were last updated.
pub(crate) fn updated_at(device: &Device) -> Option<Millis> {
    device.open().iter().chain(device.ended()).map(|record| record.updated_at).max()
}
