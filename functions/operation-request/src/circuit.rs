//! What this execution environment knows of how Coiote answers the others.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use ledger::{Circuit, Ledger};
use requests::Reason;

use lambda_support::now;

/// How long that is good for.
const FRESH: Duration = Duration::from_secs(5);

/// Time limit for asking: a claim waits for it.
const ASK_LIMIT: Duration = Duration::from_millis(500);

/// The circuit as it was when it was asked for last.
#[derive(Default)]
pub(crate) struct KnownCircuit(Mutex<Option<(Circuit, Instant)>>);

impl KnownCircuit {
    /// Why a request should wait, as far as is known.
    pub(crate) fn reason_to_wait(&self) -> Option<Reason> {
        self.known().and_then(reason)
    }

    /// Asks again where that is due. Whatever is wrong with the ledger, the claim finds out.
    pub(crate) async fn refresh(&self, ledger: &Ledger) -> Option<Reason> {
        if self.known().is_some() {
            return None;
        }
        let asked = tokio::time::timeout(ASK_LIMIT, ledger.circuit()).await.ok()?.ok()?;
        self.set(asked);
        reason(asked)
    }

    /// Tells the others that Coiote answers, where they may think that it does not.
    pub(crate) async fn answered(&self, ledger: &Ledger) {
        let failures = self.known().map_or(0, |circuit| circuit.failures);
        if failures > 0
            && let Ok(circuit) = ledger.coiote_answered().await
        {
            tracing::info!(failures, "Coiote answers again");
            self.set(circuit);
        }
    }

    /// Tells the others that Coiote does not answer.
    pub(crate) async fn failed(&self, ledger: &Ledger) {
        if let Ok(circuit) = ledger.coiote_failed(now()).await {
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
