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

pub use device::Item;
pub use error::Error;
pub use installation::{Circuit, Due};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;

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
        let variable = |name: &str| std::env::var(name).ok();
        let days = variable("REQUEST_RETENTION_DAYS").and_then(|days| days.parse().ok()).unwrap_or(30);
        Ledger::new(client, variable("REQUESTS_TABLE").unwrap_or_default(), days)
    }

    /// When an item that has its last content at that time goes, in seconds since 1970.
    fn gone_at(&self, at: requests::Millis) -> AttributeValue {
        number(at / 1_000 + self.retention_days * 86_400)
    }
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
