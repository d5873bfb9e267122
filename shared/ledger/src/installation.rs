//! What is known of Coiote as a whole, and which devices are due.

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use requests::Millis;

use crate::device::ENTRY;
use crate::{Attributes, Consistency, Error, Ledger, SHARDS, integer, number, string, text};

const COIOTE: &str = "#coiote";

/// So many failures in a row open the circuit: Coiote counts as away, for all.
const FAILURES: u64 = 3;

/// An index by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DueIndex {
    /// Devices that time has to look at.
    Look,
    /// Devices with a request that is to be handed over.
    HandOver,
}

impl DueIndex {
    pub(crate) fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            DueIndex::Look => ("looks", "look", "lookAt"),
            DueIndex::HandOver => ("handOvers", "handOver", "handOverAt"),
        }
    }
}

/// Names of all things that have requests, page by page.
#[derive(Debug)]
pub struct ThingPages<'a> {
    ledger: &'a Ledger,
    /// Where the next page begins; nothing of the first one.
    from: Option<Attributes>,
    is_over: bool,
}

impl ThingPages<'_> {
    /// Names on the next page, perhaps none; nothing after the last one.
    pub async fn next(&mut self) -> Result<Option<Vec<String>>, Error> {
        if self.is_over {
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
            .set_exclusive_start_key(self.from.take())
            .send()
            .await?;
        self.from = page.last_evaluated_key;
        self.is_over = self.from.is_none();
        let names = page.items.unwrap_or_default();
        Ok(Some(names.iter().filter_map(|item| text(item, "thing").map(str::to_owned)).collect()))
    }
}

/// How Coiote answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Circuit {
    /// Failures in a row.
    pub failures: u64,
    /// Since when Coiote counts as away; 0 where it does not.
    pub open_since: Millis,
}

impl Circuit {
    pub fn is_open(self) -> bool {
        self.open_since > 0
    }

    fn read(item: &Attributes) -> Circuit {
        Circuit {
            failures: integer(item, "failures").unwrap_or(0),
            open_since: integer(item, "openSince").unwrap_or(0),
        }
    }
}

impl Ledger {
    /// All things that have requests. It reads the whole table.
    pub fn things(&self) -> ThingPages<'_> {
        ThingPages { ledger: self, from: None, is_over: false }
    }

    /// Names of the things that are due between these times (milliseconds since 1970, both included), earliest first, and when.
    pub async fn due(
        &self,
        due: DueIndex,
        from: Millis,
        to: Millis,
        most: i32,
    ) -> Result<Vec<(Millis, String)>, Error> {
        let (_, _, at) = due.names();
        let mut found = Vec::new();
        for number_of_shard in 0..SHARDS {
            let page = self.shard_of(due, number_of_shard, from, to).limit(most).send().await?;
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

    /// Number of things that are due at any time. At most those of one page, 1 MB of each shard, are counted: some 40,000.
    pub async fn count(&self, due: DueIndex) -> Result<u64, Error> {
        let mut count = 0;
        for number_of_shard in 0..SHARDS {
            let shard = self.shard_of(due, number_of_shard, 0, Millis::MAX >> 1);
            let counted = shard.select(aws_sdk_dynamodb::types::Select::Count).send().await?;
            count += u64::try_from(counted.count).unwrap_or_default();
        }
        Ok(count)
    }

    /// What is due between these times, in a shard of the index.
    fn shard_of(&self, due: DueIndex, number_of_shard: u32, from: Millis, to: Millis) -> QueryFluentBuilder {
        let (index, shard, at) = due.names();
        self.client
            .query()
            .table_name(&self.table)
            .index_name(index)
            .key_condition_expression("#shard = :shard AND #at BETWEEN :from AND :to")
            .expression_attribute_names("#shard", shard)
            .expression_attribute_names("#at", at)
            .expression_attribute_values(":shard", string(number_of_shard.to_string()))
            .expression_attribute_values(":from", number(from))
            .expression_attribute_values(":to", number(to))
    }

    /// How Coiote answers, as far as all runs know.
    pub async fn circuit(&self) -> Result<Circuit, Error> {
        let found = self.get(COIOTE, "circuit", Consistency::Eventual).await?;
        Ok(found.as_ref().map(Circuit::read).unwrap_or_default())
    }

    /// Notes that Coiote did not answer, or not as it should. After some in a row the circuit is open.
    pub async fn record_coiote_failure(&self, at: Millis) -> Result<Circuit, Error> {
        let counted = self
            .update(COIOTE, "circuit")
            .update_expression("ADD #failures :one")
            .expression_attribute_names("#failures", "failures")
            .expression_attribute_values(":one", number(1))
            .return_values(aws_sdk_dynamodb::types::ReturnValue::AllNew)
            .send()
            .await?;
        let circuit = counted.attributes.as_ref().map(Circuit::read).unwrap_or_default();
        if circuit.failures < FAILURES || circuit.is_open() {
            return Ok(circuit);
        }
        self.set_circuit(circuit.failures, at).await
    }

    /// Notes that Coiote answers again.
    pub async fn record_coiote_answer(&self) -> Result<Circuit, Error> {
        self.set_circuit(0, 0).await
    }

    async fn set_circuit(&self, failures: u64, open_since: Millis) -> Result<Circuit, Error> {
        self.put(COIOTE, "circuit")
            .item("failures", number(failures))
            .item("openSince", number(open_since))
            .send()
            .await?;
        Ok(Circuit { failures, open_since })
    }

    /// Up to when Coiote's reports were read, in its own form (ISO 8601).
    pub async fn reports_read_until(&self) -> Result<Option<String>, Error> {
        let found = self.get(COIOTE, "reports", Consistency::Strong).await?;
        Ok(found.as_ref().and_then(|item| text(item, "until").map(str::to_owned)))
    }

    pub async fn set_reports_read_until(&self, until: &str) -> Result<(), Error> {
        self.put(COIOTE, "reports").item("until", string(until)).send().await?;
        Ok(())
    }

    /// Notes which thing a device of Coiote is, where its id is another name.
    pub async fn remember_device(&self, device_id: &str, thing: &str) -> Result<(), Error> {
        self.put(&format!("#device:{device_id}"), "thing").item("name", string(thing)).send().await?;
        Ok(())
    }

    /// The thing of a device of Coiote whose id is another name.
    pub async fn thing_of_device(&self, device_id: &str) -> Result<Option<String>, Error> {
        let found = self.get(&format!("#device:{device_id}"), "thing", Consistency::Eventual).await?;
        Ok(found.as_ref().and_then(|item| text(item, "name").map(str::to_owned)))
    }
}
