//! Which update makes the copies say what the records say.

use std::collections::BTreeMap;

use requests::{Device, Millis, RequestCopy, path_hash, request_copies};
use serde_json::{Map, Value as Json};
use shadow::operation_shadow::{CopiesUpdate, OperationShadow};

/// Fields of a copy that may be absent. An update merges, so what is absent now has to be taken away.
const OPTIONAL: [&str; 5] = ["clientToken", "taskId", "requestId", "reason", "properties"];

/// The update that follows from a change. Nothing where the copies stay as they are.
pub(crate) fn of_change(before: &Device, after: &Device, at: Millis) -> Option<CopiesUpdate> {
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

/// The update that makes the shadow say what the records say, whatever stands there.
pub(crate) fn anew(device: &Device, shadow: &OperationShadow, at: Millis) -> CopiesUpdate {
    let new = request_copies(device, at);
    let foreign = shadow.requests.iter().filter(|name| !new.contains_key(*name));
    let taken_away: Vec<(String, Json)> = foreign.map(|name| (name.clone(), Json::Null)).collect();
    let written = new.iter().map(|(name, entry)| (name.clone(), copy(entry)));
    CopiesUpdate { requests: written.chain(taken_away).collect(), result: earlier_results(device, &shadow.result) }
}

/// As short as an entry can be, for a shadow that has no room: its status and the code of its reason.
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

/// What stands in `reported.result` and the newest result did not name, as `null`s.
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
                    // All of it is of earlier results.
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

/// How old the newest word is that these copies bring.
pub(crate) fn newest_word(after: &Device) -> Option<Millis> {
    let words: BTreeMap<Millis, ()> =
        after.open().iter().chain(after.ended()).map(|record| (record.updated_at, ())).collect();
    words.last_key_value().map(|(at, ())| *at)
}
