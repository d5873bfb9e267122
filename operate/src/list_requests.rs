//! `lwm2m requests`: a thing's open and ended requests, from the ledger or, where that cannot be read, from the shadow.

use std::cmp::Reverse;

use requests::{Name, Record, RequestCopy};
use serde_json::{Map, Value as Json, json};
use shadow::ThingName;

use crate::answer::AnswerFields;
use crate::connection::Aws;
use crate::exit::{Exit, Failure, ledger_failure};
use crate::{output, shadows};

struct ListedRequest {
    name: Name,
    answer: AnswerFields,
    is_open: bool,
}

/// Lists the open requests, and at most `most` that have ended, the newest first.
pub(crate) async fn run(aws: &Aws, thing: &ThingName, most: usize) -> Result<Exit, Failure> {
    let mut requests = match from_ledger(aws, thing, most).await {
        Ok(requests) => requests,
        // Who may use things is often not allowed to read the stack's table.
        Err(failure) => {
            let requests = from_shadow(aws, thing).await?;
            output::note(&format!(
                "Only those that the operation shadow shows, because the ledger cannot be read: {failure}"
            ));
            requests
        }
    };
    requests.sort_by_cached_key(newest_first);
    let mut listed = 0;
    requests.retain(|request| {
        listed += usize::from(!request.is_open);
        request.is_open || listed <= most
    });
    show(aws, thing, requests);
    Ok(Exit::Done)
}

/// Sort key: the time of the last change of status, because names tell the order only of requests of the shadow.
fn newest_first(request: &ListedRequest) -> impl Ord + use<> {
    Reverse((request.answer.text("updatedAt").map(str::to_owned), request.name.sort_key()))
}

async fn from_ledger(aws: &Aws, thing: &ThingName, most: usize) -> Result<Vec<ListedRequest>, Failure> {
    let stack = aws.stack().await?;
    let ledger = aws.ledger(&stack)?;
    let item = ledger.load(thing.as_str()).await.map_err(ledger_failure)?;
    let in_item = item.device.open().iter().chain(item.device.unfiled());
    let mut requests: Vec<ListedRequest> = in_item.map(from_record).collect();
    for past in ledger.ended(thing.as_str(), most).await.map_err(ledger_failure)? {
        if requests.iter().all(|request| request.name != past.name) {
            requests.push(ListedRequest { name: past.name.clone(), answer: AnswerFields(past.fields), is_open: false });
        }
    }
    Ok(requests)
}

fn from_record(record: &Record) -> ListedRequest {
    let mut fields = match serde_json::to_value(RequestCopy::from_record(record)) {
        Ok(Json::Object(fields)) => fields,
        _ => Map::new(),
    };
    fields.insert("keys".to_owned(), json!(record.keys));
    ListedRequest { name: record.name.clone(), answer: AnswerFields(fields), is_open: record.is_open() }
}

async fn from_shadow(aws: &Aws, thing: &ThingName) -> Result<Vec<ListedRequest>, Failure> {
    let entries = shadows::answers(&aws.iot_data(), thing).await?;
    let listed = |(name, entry): (String, Json)| {
        let answer = AnswerFields::from_entry(entry)?;
        Some(ListedRequest { name: Name::parse(&name), is_open: answer.exit() == Exit::Open, answer })
    };
    Ok(entries.into_iter().filter_map(listed).collect())
}

fn show(aws: &Aws, thing: &ThingName, requests: Vec<ListedRequest>) {
    if aws.json {
        let as_json = |ListedRequest { name, answer, .. }| {
            Json::Object([("request".to_owned(), json!(name))].into_iter().chain(answer.0).collect())
        };
        return output::json(&Json::Array(requests.into_iter().map(as_json).collect()));
    }
    if requests.is_empty() {
        return output::note(&format!("No request of {thing} is known."));
    }
    let rows = requests.iter().map(|ListedRequest { name, answer, .. }| {
        let text = |field: &str| answer.text(field).unwrap_or("-").to_owned();
        [
            name.to_string(),
            text("operation"),
            answer.paths().unwrap_or_else(|| "-".to_owned()),
            text("status"),
            answer.reason_code().unwrap_or("-").to_owned(),
            text("updatedAt"),
            text("clientToken"),
        ]
    });
    output::table(["REQUEST", "OPERATION", "PATHS", "STATUS", "REASON", "SINCE", "CLIENT TOKEN"], rows);
}
