//! State of Coiote as a whole: the circuit, the position in its reports, and devices whose ids differ from their things' names.

use aws_sdk_dynamodb::types::ReturnValue;
use requests::Millis;

use crate::{Attributes, Consistency, Error, Ledger, integer, number, string, text};

/// Partition key of the items about Coiote as a whole.
const COIOTE: &str = "#coiote";

/// Failures in a row that open the circuit, so that Coiote counts as away for all requests.
const FAILURES_TO_OPEN: u64 = 3;

/// Circuit breaker of the calls to Coiote, which all invocations share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Circuit {
    /// Failures in a row.
    pub failures: u64,
    /// Time since which Coiote counts as away; 0 if it does not.
    pub open_since: Millis,
}

impl Circuit {
    /// Whether Coiote counts as away.
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
    /// Reads the circuit.
    pub async fn circuit(&self) -> Result<Circuit, Error> {
        let found = self.get(COIOTE, "circuit", Consistency::Eventual).await?;
        Ok(found.as_ref().map(Circuit::read).unwrap_or_default())
    }

    /// Counts a failure of Coiote; several in a row open the circuit.
    pub async fn record_coiote_failure(&self, at: Millis) -> Result<Circuit, Error> {
        let counted = self
            .update(COIOTE, "circuit")
            .update_expression("ADD #failures :one")
            .expression_attribute_names("#failures", "failures")
            .expression_attribute_values(":one", number(1))
            .return_values(ReturnValue::AllNew)
            .send()
            .await?;
        let circuit = counted.attributes.as_ref().map(Circuit::read).unwrap_or_default();
        if circuit.failures < FAILURES_TO_OPEN || circuit.is_open() {
            return Ok(circuit);
        }
        self.set_circuit(circuit.failures, at).await
    }

    /// Closes the circuit, after an answer of Coiote.
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

    /// Time up to which Coiote's reports were read, in Coiote's form (ISO 8601). It may be an earlier one, and then some are
    /// read again.
    pub async fn reports_read_until(&self) -> Result<Option<String>, Error> {
        let found = self.get(COIOTE, "reports", Consistency::Eventual).await?;
        Ok(found.as_ref().and_then(|item| text(item, "until").map(str::to_owned)))
    }

    /// Records the time up to which Coiote's reports were read.
    pub async fn set_reports_read_until(&self, until: &str) -> Result<(), Error> {
        self.put(COIOTE, "reports").item("until", string(until)).send().await?;
        Ok(())
    }

    /// Records the thing of a device whose id at Coiote differs from the thing's name.
    pub async fn remember_device(&self, device_id: &str, thing: &str) -> Result<(), Error> {
        self.put(&format!("#device:{device_id}"), "thing").item("name", string(thing)).send().await?;
        Ok(())
    }

    /// Thing of a device whose id at Coiote differs from the thing's name.
    pub async fn thing_of_device(&self, device_id: &str) -> Result<Option<String>, Error> {
        let found = self.get(&format!("#device:{device_id}"), "thing", Consistency::Eventual).await?;
        Ok(found.as_ref().and_then(|item| text(item, "name").map(str::to_owned)))
    }
}
