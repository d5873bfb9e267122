//! Ledger of requests: a DynamoDB table with one item for each device's requests, and one for each request that has ended.
//!
//! | item | `thing` | `entry` |
//! | --- | --- | --- |
//! | a device's requests | the thing's name | `device` |
//! | the final status of a request | the thing's name | `request#<name>` |
//! | the body of a request that waits | the thing's name | `body#<name>` |
//! | the thing of a device whose id at Coiote is another name | `#device:<id>` | `thing` |
//! | how Coiote answers, and how far its reports were read | `#coiote` | `circuit`, `reports` |
//!
//! A device's item holds its [`Device`](requests::Device) as JSON, and the events that were appended since. Appending is one
//! write without a condition. It returns the whole item, and every reader replays the events in their order, so the order of
//! the writes decides between concurrent events. All other changes are a compare-and-set, which applies the appended events to
//! the state.
//!
//! Attributes of a device's item:
//!
//! | attribute | holds |
//! | --- | --- |
//! | `state` | the requests, as JSON with the short names documented at the fields of [`requests`] |
//! | `events` | events that were appended since `state` was written, as a list of JSON texts |
//! | `version` | number of times `state` was written, for the compare-and-set |
//! | `look`, `lookAt` | shard and time in the index `looks`, by which `reconcile` finds the device |
//! | `handOver`, `handOverAt` | shard and place in the index `handOvers`, the oldest request first, while one waits |
//! | `jobs` | present where a change may concern a job's request, for the filter of the table's stream |

#![warn(missing_docs)]

mod coiote;
mod device;
mod due;
mod error;
mod history;
mod stream;
mod update;

pub use coiote::Circuit;
pub use device::Item;
pub use due::{DueIndex, ThingPages};
pub use error::Error;
pub use history::{EndedRequest, RequestSummary};
pub use stream::{Change, UnreadableRecord, changes};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use requests::Millis;

/// The table with the records of all requests.
#[derive(Debug, Clone)]
pub struct Ledger {
    client: Client,
    table: String,
    retention_days: u64,
}

impl Ledger {
    /// Ledger in the table. The item of a request that has ended is removed after `retention_days`.
    pub fn new(client: Client, table: impl Into<String>, retention_days: u64) -> Ledger {
        Ledger { client, table: table.into(), retention_days }
    }

    /// Ledger by the function's variables: `REQUESTS_TABLE`, and `REQUEST_RETENTION_DAYS` (30).
    pub fn from_env(client: Client) -> Ledger {
        Ledger::new(client, std::env::var("REQUESTS_TABLE").unwrap_or_default(), retention_days())
    }

    /// Reads an item.
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

    /// Call that replaces an item.
    fn put(&self, thing: &str, entry: &str) -> PutItemFluentBuilder {
        self.client.put_item().table_name(&self.table).item("thing", string(thing)).item("entry", string(entry))
    }

    /// Call that updates an item.
    fn update(&self, thing: &str, entry: &str) -> UpdateItemFluentBuilder {
        self.client.update_item().table_name(&self.table).key("thing", string(thing)).key("entry", string(entry))
    }

    /// Time to live of an item that is not changed after `at`, in seconds since 1970.
    fn gone_at(&self, at: Millis) -> AttributeValue {
        number(at / 1_000 + self.retention_days * 86_400)
    }
}

/// Time after which a request no longer reaches a device, by the function's variables `REQUEST_LIFETIME_HOURS` (168) and
/// `REQUEST_RETENTION_DAYS` (30). It never exceeds the retention of the request's record.
pub fn request_lifetime() -> Millis {
    const HOUR: Millis = 60 * 60 * 1_000;
    let hours = lambda_support::number_from_env("REQUEST_LIFETIME_HOURS", 168);
    hours.min(retention_days().saturating_mul(24)).saturating_mul(HOUR)
}

fn retention_days() -> u64 {
    lambda_support::number_from_env("REQUEST_RETENTION_DAYS", 30)
}

/// Consistency of a read. Strongly consistent reads see every earlier write, and cost twice as much.
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

/// Attributes of an item, by their names.
type Attributes = std::collections::HashMap<String, AttributeValue>;

/// Attribute of type string.
fn text<'a>(item: &'a Attributes, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

/// Attribute of type number.
fn integer(item: &Attributes, name: &str) -> Option<u64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

/// Number of partitions of each index, so that many devices can be due at once.
const SHARDS: u32 = 4;

/// Partition of the indexes for a thing.
fn shard(thing: &str) -> AttributeValue {
    string((requests::path_hash(thing) % SHARDS).to_string())
}
