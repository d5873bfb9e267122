//! Updates of the copies of records in the operation shadow.

use requests::{Device, Millis, RequestCopy, ResultEntry, excluded_hash, partial_hash, path_hash, request_copies};
use serde_json::{Map, Value as Json};
use shadow::folding::latest_time;
use shadow::operation_shadow::{CopiesUpdate, OperationShadow};

/// Fields of a copy that may be absent. An update merges, so an absent field is written as `null`.
const OPTIONAL: [&str; 5] = ["clientToken", "taskId", "requestId", "reason", "properties"];

/// Level of a resource in a path.
const RESOURCE: u8 = 3;

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

/// Update of all copies to those of `copied`, whatever the shadow holds. What earlier results left is known from `current`, the
/// device's present records.
pub(crate) fn full_update(copied: &Device, current: &Device, shadow: &OperationShadow, at: Millis) -> CopiesUpdate {
    let new = request_copies(copied, at);
    let foreign = shadow.requests.iter().filter(|name| !new.contains_key(*name));
    let removed: Vec<(String, Json)> = foreign.map(|name| (name.clone(), Json::Null)).collect();
    let written = new.iter().map(|(name, entry)| (name.clone(), copy(entry)));
    CopiesUpdate { requests: written.chain(removed).collect(), result: earlier_results(current, shadow) }
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
fn earlier_results(device: &Device, shadow: &OperationShadow) -> Option<Json> {
    let newest = device.newest_result()?;
    Beside { device, newest }.part("", &shadow.result, Some(&shadow.result_times), 0)
}

/// What earlier results left in the shadow beside the newest one.
struct Beside<'a> {
    device: &'a Device,
    newest: &'a ResultEntry,
}

impl Beside<'_> {
    /// Values in a part of the shadow's result that the newest result does not name, as `null`s; one `null` for all of the part.
    fn part(&self, path: &str, part: &Json, times: Option<&Json>, level: u8) -> Option<Json> {
        let names = |hash: fn(&str) -> u32| self.newest.names(hash(path));
        // A result names a multiple resource by its instances.
        let is_divided = level < RESOURCE || names(partial_hash);
        match part {
            // Not understood, but part of the result
            _ if names(excluded_hash) => None,
            Json::Object(parts) if is_divided => {
                let below = |(name, part): (&String, &Json)| {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    let times = times.and_then(|times| times.get(name));
                    Some((name.clone(), self.part(&path, part, times, level + 1)?))
                };
                let nulls: Map<String, Json> = parts.iter().filter_map(below).collect();
                let is_all = level > 0 && nulls.len() == parts.len() && nulls.values().all(Json::is_null);
                match nulls.is_empty() {
                    true => None,
                    false if is_all => Some(Json::Null),
                    false => Some(Json::Object(nulls)),
                }
            }
            _ if names(path_hash) => None,
            _ => self.is_earlier(path, times.and_then(latest_time)).then_some(Json::Null),
        }
    }

    /// Whether the value was there before the newest result. A later one is of a result that the ledger does not have yet, and so may
    /// be one of the same second, unless an earlier result named it.
    fn is_earlier(&self, path: &str, written_at: Option<u64>) -> bool {
        let (written_at, newest_at) = (written_at.unwrap_or(0), self.newest.reported_at);
        let of_earlier = |result: &ResultEntry| result.names(path_hash(path)) || result.names(partial_hash(path));
        newest_at == 0
            || written_at < newest_at
            || (written_at == newest_at && self.device.earlier_results(self.newest.version).any(of_earlier))
    }
}

/// When the records were last updated.
pub(crate) fn updated_at(device: &Device) -> Option<Millis> {
    device.open().iter().chain(device.ended()).map(|record| record.updated_at).max()
}

#[cfg(test)]
mod tests {
    use requests::{Event, NamedPaths, ResultReceived};
    use serde_json::json;
    use shadow::folding::Change;

    use super::*;

    /// A device with this result, which came into the shadow at second 100.
    fn device(result: Json) -> Device {
        let mut device = Device::default();
        add_result(&mut device, 5, result);
        device
    }

    fn add_result(device: &mut Device, version: u64, result: Json) {
        device.apply(&Event::Result(ResultReceived {
            version,
            mark: String::new(),
            reported_at: 100,
            operation: "read".to_owned(),
            paths: NamedPaths::of(&result),
            touched: Change::from_result(result).0.fingerprint(),
            failed_keys: Vec::new(),
            at: 100_000,
        }));
    }

    #[test]
    fn only_the_newest_result_stays() {
        let full = json!({
            "Device": {"0": {"UTC Offset": "+02:00", "Error Code": {"0": "0", "1": "5"}, "Reboot": {"noValue": true}}},
            "Test object": {"0": {"Integer array": {"4": {"noValue": true}}, "Odd": [1]}},
        });
        for (newest, removed) in [
            (full.clone(), Json::Null),
            (json!({"Device": full["Device"].clone()}), json!({"Test object": null})),
            (
                json!({"Device": {"0": {"Error Code": {"1": "5"}}}}),
                json!({"Device": {"0": {"UTC Offset": null, "Error Code": {"0": null}, "Reboot": null}}, "Test object": null}),
            ),
            (
                json!({"Test object": {"0": {"Odd": [1]}}}),
                json!({"Device": null, "Test object": {"0": {"Integer array": null}}}),
            ),
            (
                json!({"Test object": {"0": {"Integer array": {"4": {"noValue": true}}}}}),
                json!({"Device": null, "Test object": {"0": {"Odd": null}}}),
            ),
        ] {
            let shadow = OperationShadow { result: full.clone(), ..OperationShadow::default() };
            let device = device(newest.clone());
            let update = full_update(&device, &device, &shadow, 0);
            assert_eq!(update.result.unwrap_or_default(), removed, "{newest}");
        }
    }

    #[test]
    fn the_copies_may_be_older_than_what_is_known_of_results() {
        let requests = vec!["17".to_owned()];
        let result = json!({"Device": {"0": {"UTC Offset": "+02:00"}}, "Location": {"0": {"Speed": "1"}}});
        let shadow = OperationShadow { requests, result, ..OperationShadow::default() };
        let current = device(json!({"Device": {"0": {"UTC Offset": "+02:00"}}}));
        let update = full_update(&Device::default(), &current, &shadow, 0);
        assert_eq!(Json::Object(update.requests), json!({"17": null}));
        assert_eq!(update.result, Some(json!({"Location": null})));
    }

    #[test]
    fn a_result_that_the_ledger_does_not_have_yet_stays() {
        let speed = json!({"Location": {"0": {"Speed": {"0": "1"}}}});
        let newest = json!({"Device": {"0": {"UTC Offset": "+02:00"}}});
        let removed = Some(json!({"Location": null}));
        let mut after_speed = device(newest.clone());
        add_result(&mut after_speed, 4, speed.clone());
        for (device, at, expected) in [
            (device(newest.clone()), 99, removed.clone()),
            (device(newest.clone()), 100, None),
            (device(newest), 101, None),
            (after_speed.clone(), 100, removed),
            (after_speed, 101, None),
        ] {
            let times = |at: u64| json!({"timestamp": at});
            let shadow = OperationShadow {
                result: json!({"Device": {"0": {"UTC Offset": "+02:00"}}, "Location": speed["Location"]}),
                result_times: json!({"Device": {"0": {"UTC Offset": times(100)}}, "Location": {"0": {"Speed": {"0": times(at)}}}}),
                ..OperationShadow::default()
            };
            assert_eq!(full_update(&device, &device, &shadow, 0).result, expected, "{at}");
        }
    }
}
