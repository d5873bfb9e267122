//! The ledger: a DynamoDB table with one item for each device's requests, and one for each request that has ended.
//!
//! | item | `thing` | `entry` |
//! | --- | --- | --- |
//! | a device's requests | the thing's name | `device` |
//! | the last word of a request | the thing's name | `request#<name>` |
//! | the body of a request that waits | the thing's name | `body#<name>` |
//! | the thing of a device whose id at Coiote is another name | `#device:<id>` | `thing` |
//! | how Coiote answers, and how far its reports were read | `#coiote` | `circuit`, `reports` |
//!
//! A device's item holds its [`Device`](requests::Device) as JSON, and events that were only appended. Appending is one write
//! without a condition, which decides: whoever appends gets all that was there before, and everybody replays the events in
//! their order. Everything else is a compare-and-set, which takes the appended events into the state.

mod device;
mod error;
mod history;
mod installation;
mod stream;
mod update;

pub use device::Item;
pub use error::Error;
pub use history::{EndedRequest, RequestSummary};
pub use installation::{Circuit, DueIndex, ThingPages};
pub use stream::{Change, changes};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use requests::Millis;

/// The table, and how long what has ended stays in it.
#[derive(Debug, Clone)]
pub struct Ledger {
    client: Client,
    table: String,
    retention_days: u64,
}

impl Ledger {
    /// `retention_days`: after its last word.
    pub fn new(client: Client, table: impl Into<String>, retention_days: u64) -> Ledger {
        Ledger { client, table: table.into(), retention_days }
    }

    /// The ledger that the function's variables name: `REQUESTS_TABLE`, and `REQUEST_RETENTION_DAYS` (30).
    pub fn from_env(client: Client) -> Ledger {
        Ledger::new(client, std::env::var("REQUESTS_TABLE").unwrap_or_default(), retention_days())
    }

    async fn get(&self, thing: &str, entry: &str, consistency: Consistency) -> Result<Option<Attributes>, Error> {
        let got = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("thing", string(thing))
            .key("entry", string(entry))
            .consistent_read(consistency == Consistency::Strong)
            .send()
            .await?;
        Ok(got.item)
    }

    fn put(&self, thing: &str, entry: &str) -> PutItemFluentBuilder {
        self.client.put_item().table_name(&self.table).item("thing", string(thing)).item("entry", string(entry))
    }

    fn update(&self, thing: &str, entry: &str) -> UpdateItemFluentBuilder {
        self.client.update_item().table_name(&self.table).key("thing", string(thing)).key("entry", string(entry))
    }

    /// When an item that has its last content at that time goes, in seconds since 1970.
    fn gone_at(&self, at: Millis) -> AttributeValue {
        number(at / 1_000 + self.retention_days * 86_400)
    }
}

/// How long after it was made a request may reach a device, by the function's variables `REQUEST_LIFETIME_HOURS` (168) and
/// `REQUEST_RETENTION_DAYS` (30): no request outlives its record.
pub fn request_lifetime() -> Millis {
    const HOUR: Millis = 60 * 60 * 1_000;
    let hours = lambda_support::number_from_env("REQUEST_LIFETIME_HOURS", 168);
    hours.min(retention_days().saturating_mul(24)).saturating_mul(HOUR)
}

fn retention_days() -> u64 {
    lambda_support::number_from_env("REQUEST_RETENTION_DAYS", 30)
}

/// Whether a read has to see every write before it. Eventual reads cost half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consistency {
    Strong,
    Eventual,
}

fn string(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

fn number(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

type Attributes = std::collections::HashMap<String, AttributeValue>;

fn text<'a>(item: &'a Attributes, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

fn integer(item: &Attributes, name: &str) -> Option<u64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

/// Partitions of each index, so that many devices can be due at once.
const SHARDS: u32 = 4;

/// Partition of the indexes that a thing stands in.
fn shard(thing: &str) -> AttributeValue {
    string((requests::path_hash(thing) % SHARDS).to_string())
}
