//! Items of requests that have ended, and of the bodies of those that wait.

use std::cmp::Reverse;

use aws_sdk_dynamodb::types::AttributeValue;
use requests::{
    Claim, History, Millis, Name, PastRequest, Reason, Record, SAME_TOKEN_WINDOW, Status, is_long_after, is_write,
    keys_overlap, may_run_twice, request_digest, timestamp,
};
use serde_json::{Map, Value as Json};

use crate::{Attributes, Consistency, Error, Ledger, integer, number, string, text};

/// Beginning of the sort key of a request's final status.
const REQUEST: &str = "request#";
/// Beginning of the sort key of a waiting request's body.
const BODY: &str = "body#";

/// Request that has ended, as its item describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedRequest {
    /// Name of the request.
    pub name: Name,
    /// Fields of its copy in the operation shadow, and its `keys`.
    pub fields: Map<String, Json>,
}

/// Status of a request with its reason, task and properties, as AWS IoT Jobs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestSummary {
    /// Operation of the request.
    pub operation: String,
    /// Time of the request in seconds since 1970; 0 if it is not known.
    pub requested_at: u64,
    /// Status of the request.
    pub status: Status,
    /// Id of its task at Coiote.
    pub task_id: Option<String>,
    /// Reason of the status.
    pub reason: Option<Reason>,
    /// Properties in the device's report, as JSON.
    pub properties: Option<String>,
}

impl RequestSummary {
    /// Summary of a record.
    pub fn from_record(record: &Record) -> RequestSummary {
        RequestSummary {
            operation: record.operation.clone(),
            requested_at: record.requested_at,
            status: record.status(),
            task_id: record.task_id.clone(),
            reason: record.reason.clone(),
            properties: record.properties.clone(),
        }
    }

    /// Whether the request has not ended.
    pub fn is_open(&self) -> bool {
        matches!(self.status, Status::InProgress | Status::Scheduled)
    }

    /// Summary of the request in an item of the history.
    fn read(item: &Attributes) -> Option<RequestSummary> {
        let owned = |name: &str| text(item, name).map(str::to_owned);
        let reason = |code: String| Reason { code: code.into(), message: owned("message").unwrap_or_default() };
        Some(RequestSummary {
            operation: owned("operation")?,
            requested_at: integer(item, "requestedAt").unwrap_or(0),
            status: Status::parse(text(item, "status")?)?,
            task_id: owned("taskId"),
            reason: owned("code").map(reason),
            properties: owned("properties"),
        })
    }
}

impl Ledger {
    /// Requests of a thing that have ended and whose items still exist, the last ones first; at most `most`.
    pub async fn ended(&self, thing: &str, most: usize) -> Result<Vec<EndedRequest>, Error> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#thing = :thing AND begins_with(#entry, :request)")
            .expression_attribute_names("#thing", "thing")
            .expression_attribute_names("#entry", "entry")
            .expression_attribute_values(":thing", string(thing))
            .expression_attribute_values(":request", string(REQUEST))
            .into_paginator()
            .items()
            .send();
        let mut ended = Vec::new();
        while let Some(item) = pages.next().await {
            ended.extend(ended_request(&item?));
        }
        // Sort keys follow the order only for requests that have a version.
        let ended_at = |past: &EndedRequest| past.fields.get("updatedAt").and_then(Json::as_str).map(str::to_owned);
        ended.sort_by_cached_key(|past| Reverse((ended_at(past), past.name.sort_key())));
        ended.truncate(most);
        Ok(ended)
    }

    /// Final status of a request that has left the device's item; `None` if there is none.
    pub async fn final_summary(&self, thing: &str, name: &Name) -> Result<Option<RequestSummary>, Error> {
        let past = self.get(thing, &format!("{REQUEST}{}", name.sort_key()), Consistency::Strong).await?;
        Ok(past.as_ref().and_then(RequestSummary::read))
    }

    /// Writes the final status of a request into an item of its own, which DynamoDB removes after its retention.
    pub(crate) async fn file(&self, thing: &str, record: &Record) -> Result<(), Error> {
        let mut put = self
            .put(thing, &format!("{REQUEST}{}", record.name.sort_key()))
            .item("operation", string(&record.operation))
            .item("status", string(record.status().as_str()))
            .item("requestedAt", number(record.requested_at))
            .item("updatedAt", string(timestamp(record.updated_at)))
            .item("goneAt", self.gone_at(record.updated_at));
        if !record.keys.is_empty() {
            put = put.item("keys", AttributeValue::L(record.keys.iter().map(string).collect()));
        }
        if record.may_have_been_sent() {
            put = put.item("sent", AttributeValue::Bool(true));
        }
        let texts = [
            ("clientToken", record.client_token.clone()),
            ("taskId", record.task_id.clone()),
            ("digest", record.digest.clone()),
            ("code", record.reason.as_ref().map(|reason| reason.code.to_string())),
            ("message", record.reason.as_ref().map(|reason| reason.message.clone())),
            ("properties", record.properties.clone()),
        ];
        for (name, value) in texts {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                put = put.item(name, string(value));
            }
        }
        put.send().await?;
        Ok(())
    }

    /// Looks up the past requests that matter to a claim: the same one, newer writes of its keys, and one with its client
    /// token.
    pub async fn history(&self, thing: &str, claim: &Claim) -> Result<History, Error> {
        const BETWEEN: &str = "#thing = :thing AND #entry BETWEEN :from AND :to";

        let Claim { name, operation, .. } = claim;
        let from = format!("{REQUEST}{}", name.sort_key());
        let needs_token = !may_run_twice(operation) && claim.client_token.is_some();
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .expression_attribute_names("#thing", "thing")
            .expression_attribute_names("#entry", "entry")
            .expression_attribute_values(":thing", string(thing));
        let is_ordered = is_write(operation) && name.version().is_some();
        let (first, last) = (string(REQUEST), string(format!("{REQUEST}~")));
        let query = if needs_token {
            // The newest first, because the same token counts for minutes only.
            query
                .scan_index_forward(false)
                .key_condition_expression(BETWEEN)
                .expression_attribute_values(":from", first)
                .expression_attribute_values(":to", last)
        } else if is_ordered {
            query
                .key_condition_expression(BETWEEN)
                .expression_attribute_values(":from", string(&from))
                .expression_attribute_values(":to", last)
        } else {
            query
                .key_condition_expression("#thing = :thing AND #entry = :from")
                .expression_attribute_values(":from", string(&from))
        };
        let mut pages = query.into_paginator().items().send();
        let mut history = History::default();
        while let Some(item) = pages.next().await {
            let item = item?;
            let is_past = needs_token
                && text(&item, "entry").is_some_and(|entry| entry < from.as_str())
                && integer(&item, "requestedAt")
                    .is_some_and(|at| at.saturating_add(SAME_TOKEN_WINDOW) < claim.requested_at);
            if is_past {
                break;
            }
            if text(&item, "entry") == Some(from.as_str()) {
                history.same = past_request(&item);
            } else if needs_token && history.same_token.is_none() {
                history.same_token = same_token(&item, claim);
            } else if is_ordered && history.newer_write.is_none() {
                history.newer_write = newer_write(&item, claim);
            }
        }
        Ok(history)
    }

    /// Keeps the body of a request that waits, at most `until` then.
    pub async fn keep_body(&self, thing: &str, name: &Name, body: &str, until: Millis) -> Result<(), Error> {
        self.put(thing, &format!("{BODY}{name}"))
            .item("body", string(body))
            .item("goneAt", number(until / 1_000))
            .send()
            .await?;
        Ok(())
    }

    /// Body of a request that waits.
    pub async fn body(&self, thing: &str, name: &Name) -> Result<Option<String>, Error> {
        let found = self.get(thing, &format!("{BODY}{name}"), Consistency::Strong).await?;
        Ok(found.as_ref().and_then(|item| text(item, "body").map(str::to_owned)))
    }

    /// Deletes the body of a request that no longer waits, as it may contain secrets.
    pub async fn delete_body(&self, thing: &str, name: &Name) -> Result<(), Error> {
        self.client
            .delete_item()
            .table_name(&self.table)
            .key("thing", string(thing))
            .key("entry", string(format!("{BODY}{name}")))
            .send()
            .await?;
        Ok(())
    }
}

/// The request in an item of the history.
fn ended_request(item: &Attributes) -> Option<EndedRequest> {
    let name = Name::parse(text(item, "entry")?.strip_prefix(REQUEST)?);
    let mut fields = Map::new();
    for field in ["operation", "status", "clientToken", "taskId", "updatedAt"] {
        if let Some(value) = text(item, field) {
            fields.insert(field.to_owned(), value.into());
        }
    }
    if let Some(code) = text(item, "code") {
        fields.insert(
            "reason".to_owned(),
            serde_json::json!({"code": code, "message": text(item, "message").unwrap_or_default()}),
        );
    }
    if let Some(properties) = text(item, "properties").and_then(|json| serde_json::from_str(json).ok()) {
        fields.insert("properties".to_owned(), properties);
    }
    let keys = item.get("keys").and_then(|keys| keys.as_l().ok()).into_iter().flatten();
    fields.insert("keys".to_owned(), keys.filter_map(|key| key.as_s().ok()).map(String::as_str).collect());
    Some(EndedRequest { name, fields })
}

/// Past request in an item of the history, as a claim needs it.
fn past_request(item: &Attributes) -> Option<PastRequest> {
    Some(PastRequest {
        status: Status::parse(text(item, "status")?)?,
        requested_at: integer(item, "requestedAt").unwrap_or(0),
        may_have_been_sent: was_sent(item),
        had_task: text(item, "taskId").is_some(),
    })
}

/// Whether the request in an item may have been sent to Coiote.
fn was_sent(item: &Attributes) -> bool {
    item.get("sent").is_some_and(|sent| sent == &AttributeValue::Bool(true))
}

/// Name of the request in an item, if it has the client token and content of the claim and was made at nearly the same time.
fn same_token(item: &Attributes, claim: &Claim) -> Option<Name> {
    let requested_at = integer(item, "requestedAt")?;
    let status = Status::parse(text(item, "status")?)?;
    let is_unsent_failure = status == Status::Failed && !was_sent(item);
    let is_same = text(item, "clientToken") == claim.client_token.as_deref()
        && text(item, "digest") == Some(request_digest(&claim.digest).as_str())
        && requested_at.abs_diff(claim.requested_at) <= SAME_TOKEN_WINDOW
        && status != Status::Rejected
        && !is_unsent_failure;
    is_same.then(|| Name::parse(text(item, "entry").unwrap_or_default().trim_start_matches(REQUEST)))
}

/// Name of the request in an item, if it wrote one of the claim's keys and may have been sent. One that is much older although
/// it has a newer version was made with a shadow that was deleted since.
fn newer_write(item: &Attributes, claim: &Claim) -> Option<Name> {
    if integer(item, "requestedAt").is_some_and(|requested_at| is_long_after(claim.requested_at, requested_at)) {
        return None;
    }
    let written = item.get("keys")?.as_l().ok()?;
    let overlaps = written
        .iter()
        .filter_map(|key| key.as_s().ok())
        .any(|written| claim.keys.iter().any(|key| keys_overlap(key, written)));
    let name = text(item, "entry")?.strip_prefix(REQUEST)?;
    let version = name.parse().ok()?;
    (overlaps && was_sent(item) && is_write(text(item, "operation")?)).then_some(Name::Version(version))
}
