//! Indexes of the devices that are due, and the list of all things.

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::Select;
use requests::Millis;

use crate::device::ENTRY;
use crate::{Attributes, Error, Ledger, SHARDS, integer, number, string, text};

/// Index of devices that are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DueIndex {
    /// Devices that `reconcile` has to look at, by the time of the look.
    Look,
    /// Devices with a request that waits to be handed over, by the [order](requests::Device::hand_over_order) of the oldest.
    HandOver,
}

impl DueIndex {
    /// Names of the index, and of its attributes for shard and time or order.
    pub(crate) fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            DueIndex::Look => ("looks", "look", "lookAt"),
            DueIndex::HandOver => ("handOvers", "handOver", "handOverAt"),
        }
    }
}

/// Names of all things with requests, page by page.
#[derive(Debug)]
pub struct ThingPages<'a> {
    ledger: &'a Ledger,
    /// Key before the next page; `None` for the first one.
    start_after: Option<Attributes>,
    is_done: bool,
}

impl ThingPages<'_> {
    /// Names on the next page, possibly none; `None` after the last page.
    pub async fn next(&mut self) -> Result<Option<Vec<String>>, Error> {
        if self.is_done {
            return Ok(None);
        }
        let page = self
            .ledger
            .client
            .scan()
            .table_name(&self.ledger.table)
            .filter_expression("#entry = :device")
            .projection_expression("#thing")
            .expression_attribute_names("#entry", "entry")
            .expression_attribute_names("#thing", "thing")
            .expression_attribute_values(":device", string(ENTRY))
            .set_exclusive_start_key(self.start_after.take())
            .send()
            .await?;
        self.start_after = page.last_evaluated_key;
        self.is_done = self.start_after.is_none();
        let names = page.items.unwrap_or_default();
        Ok(Some(names.iter().filter_map(|item| text(item, "thing").map(str::to_owned)).collect()))
    }
}

impl Ledger {
    /// Things of the index between two times or places (both included), in their order, each with its own; at most `most`.
    pub async fn due(
        &self,
        due: DueIndex,
        from: Millis,
        to: Millis,
        most: i32,
    ) -> Result<Vec<(Millis, String)>, Error> {
        let (_, _, at) = due.names();
        let mut found = Vec::new();
        for shard_number in 0..SHARDS {
            let page = self.query_shard(due, shard_number, from, to).limit(most).send().await?;
            for item in page.items.unwrap_or_default() {
                if let (Some(at), Some(thing)) = (integer(&item, at), text(&item, "thing")) {
                    found.push((at, thing.to_owned()));
                }
            }
        }
        found.sort_unstable();
        found.truncate(usize::try_from(most).unwrap_or_default());
        Ok(found)
    }

    /// Number of things in the index. Only one page of each shard (1 MB) is counted, in all about 40,000 things.
    pub async fn count(&self, due: DueIndex) -> Result<u64, Error> {
        let mut count = 0;
        for shard_number in 0..SHARDS {
            let shard = self.query_shard(due, shard_number, 0, Millis::MAX >> 1);
            let counted = shard.select(Select::Count).send().await?;
            count += u64::try_from(counted.count).unwrap_or_default();
        }
        Ok(count)
    }

    /// Query of a shard of the index for the things that are due between two times.
    fn query_shard(&self, due: DueIndex, shard_number: u32, from: Millis, to: Millis) -> QueryFluentBuilder {
        let (index, shard, at) = due.names();
        self.client
            .query()
            .table_name(&self.table)
            .index_name(index)
            .key_condition_expression("#shard = :shard AND #at BETWEEN :from AND :to")
            .expression_attribute_names("#shard", shard)
            .expression_attribute_names("#at", at)
            .expression_attribute_values(":shard", string(shard_number.to_string()))
            .expression_attribute_values(":from", number(from))
            .expression_attribute_values(":to", number(to))
    }

    /// Lists all things with requests. It reads the whole table.
    pub fn things(&self) -> ThingPages<'_> {
        ThingPages { ledger: self, start_after: None, is_done: false }
    }
}
