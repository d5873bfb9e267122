//! The circuit that the ledger keeps for all runs, as this execution environment knows it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use ledger::{Circuit, Ledger};
use requests::Reason;

use lambda_support::now;

/// Time until the circuit is read again.
const FRESH: Duration = Duration::from_secs(5);

/// Time limit for reading the circuit: a claim waits for it.
const READ_LIMIT: Duration = Duration::from_millis(500);

/// The circuit as it was last read or written.
#[derive(Default)]
pub(crate) struct KnownCircuit(Mutex<Option<(Circuit, Instant)>>);

impl KnownCircuit {
    /// Reason for a request to wait, as far as is known.
    pub(crate) fn reason_to_wait(&self) -> Option<Reason> {
        self.known().and_then(reason)
    }

    /// Reads the circuit again if it is due, and returns a new reason to wait. Errors are ignored: the claim meets them as well.
    pub(crate) async fn refresh(&self, ledger: &Ledger) -> Option<Reason> {
        if self.known().is_some() {
            return None;
        }
        let circuit = tokio::time::timeout(READ_LIMIT, ledger.circuit()).await.ok()?.ok()?;
        self.set(circuit);
        reason(circuit)
    }

    /// Notes for all runs that Coiote answers, if failures are known.
    pub(crate) async fn answered(&self, ledger: &Ledger) {
        let Some(before) = self.known().filter(|circuit| circuit.failures > 0) else { return };
        if let Ok(circuit) = ledger.record_coiote_answer().await {
            if before.is_open() {
                tracing::info!(failures = before.failures, "Coiote answers again");
            }
            self.set(circuit);
        }
    }

    /// Notes for all runs that Coiote does not answer.
    pub(crate) async fn failed(&self, ledger: &Ledger) {
        if let Ok(circuit) = ledger.record_coiote_failure(now()).await {
            if circuit.is_open() {
                tracing::warn!(failures = circuit.failures, "Coiote counts as away: requests wait in the ledger");
            }
            self.set(circuit);
        }
    }

    fn known(&self) -> Option<Circuit> {
        let known = *self.0.lock().ok()?;
        known.filter(|(_, at)| at.elapsed() < FRESH).map(|(circuit, _)| circuit)
    }

    fn set(&self, circuit: Circuit) {
        if let Ok(mut known) = self.0.lock() {
            *known = Some((circuit, Instant::now()));
        }
    }
}

fn reason(circuit: Circuit) -> Option<Reason> {
    let message = "Coiote does not answer; the request is handed over when it is back";
    circuit.is_open().then(|| Reason::new("COIOTE_AWAY", message))
}
