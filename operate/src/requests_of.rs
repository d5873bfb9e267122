//! A thing's requests: those that are open, and those that ended, as the ledger has them.

use std::cmp::Reverse;

use requests::{Entry, Name, Record};
use serde_json::{Map, Value as Json, json};
use shadow::ThingName;

use crate::connection::Aws;
use crate::exit::{Exit, Failure, no_ledger};
use crate::{output, shadows};

/// Lists the newest of them, the newest first.
pub(crate) async fn list(aws: &Aws, thing: &ThingName, most: usize) -> Result<Exit, Failure> {
    let mut requests = match of_the_ledger(aws, thing, most).await {
        Ok(requests) => requests,
        // Who may use things is often not allowed to read the stack's table.
        Err(failure) => {
            let requests = of_the_shadow(aws, thing).await?;
            output::note(&format!(
                "Only those that the operation shadow shows, because the ledger cannot be read: {failure}"
            ));
            requests
        }
    };
    requests.sort_by_cached_key(|(name, fields)| Reverse((updated_at(fields), name.sort_key())));
    requests.truncate(most);
    show(aws, thing, requests);
    Ok(Exit::Done)
}

/// When its status changed last; names tell the order only of requests of the shadow.
fn updated_at(fields: &Map<String, Json>) -> Option<String> {
    fields.get("updatedAt").and_then(Json::as_str).map(str::to_owned)
}

type Listed = Vec<(Name, Map<String, Json>)>;

async fn of_the_ledger(aws: &Aws, thing: &ThingName, most: usize) -> Result<Listed, Failure> {
    let stack = aws.stack().await?;
    let ledger = aws.ledger(&stack)?;
    let item = ledger.load(thing.as_str()).await.map_err(no_ledger)?;
    let of_device = item.device.open().iter().chain(item.device.unfiled());
    let mut requests: Listed = of_device.map(|record| (record.name.clone(), of_record(record))).collect();
    for past in ledger.ended(thing.as_str(), most).await.map_err(no_ledger)? {
        if requests.iter().all(|(name, _)| *name != past.name) {
            requests.push((past.name.clone(), past.fields));
        }
    }
    Ok(requests)
}

fn of_record(record: &Record) -> Map<String, Json> {
    let mut fields = match serde_json::to_value(Entry::of(record)) {
        Ok(Json::Object(fields)) => fields,
        _ => Map::new(),
    };
    fields.insert("keys".to_owned(), json!(record.keys));
    fields
}

async fn of_the_shadow(aws: &Aws, thing: &ThingName) -> Result<Listed, Failure> {
    let mut reported = shadows::reported(&aws.iot_data(), thing, Some(shadows::OPERATION)).await?;
    let Some(Json::Object(requests)) = reported.get_mut("requests").map(Json::take) else { return Ok(Vec::new()) };
    let entry = |(name, entry): (String, Json)| match entry {
        Json::Object(fields) => Some((Name::parse(&name), fields)),
        _ => None,
    };
    Ok(requests.into_iter().filter_map(entry).collect())
}

fn show(aws: &Aws, thing: &ThingName, requests: Listed) {
    if aws.json {
        let entry = |(name, fields): (Name, Map<String, Json>)| {
            Json::Object([("request".to_owned(), json!(name))].into_iter().chain(fields).collect())
        };
        return output::json(&Json::Array(requests.into_iter().map(entry).collect()));
    }
    if requests.is_empty() {
        return output::note(&format!("No request of {thing} is known."));
    }
    let rows = requests.iter().map(|(name, fields)| {
        let text = |field: &str| fields.get(field).and_then(Json::as_str).unwrap_or("-").to_owned();
        let keys = fields
            .get("keys")
            .and_then(Json::as_array)
            .map(|keys| keys.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(", "));
        let reason = fields.get("reason").and_then(|reason| reason.get("code")).and_then(Json::as_str);
        [
            name.to_string(),
            text("operation"),
            keys.unwrap_or_else(|| "-".to_owned()),
            text("status"),
            reason.unwrap_or("-").to_owned(),
            text("updatedAt"),
            text("clientToken"),
        ]
    });
    output::table(["REQUEST", "OPERATION", "PATHS", "STATUS", "REASON", "SINCE", "CLIENT TOKEN"], rows);
}
