//! Time limits of a run, and its failures.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lambda_support::Deadline;

/// Time after which a run with much to do leaves the rest to the next one.
const LONGEST: Duration = Duration::from_secs(55);

/// Errors in a row, on different devices, that show trouble with the ledger as a whole.
const LEDGER_ERRORS: usize = 3;

/// One run.
pub(crate) struct Run {
    pub(crate) deadline: Deadline,
    /// When it stops to look again.
    until: Instant,
    /// When it leaves the rest to the next run.
    end: Instant,
    /// Codes of trouble that it has logged.
    warned: Mutex<HashSet<String>>,
}

/// Errors of the ledger in a row.
#[derive(Debug, Default)]
pub(crate) struct LedgerErrors(usize);

impl Run {
    /// A run that begins now. `time`: how long it looks again and again.
    pub(crate) fn new(deadline: Deadline, time: Duration) -> Run {
        let begun = Instant::now();
        let after = |time: Duration| begun.checked_add(time).unwrap_or(begun);
        Run { deadline, until: after(time), end: after(time.max(LONGEST)), warned: Mutex::default() }
    }

    /// Whether there is no time for anything more.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.end || self.deadline.left().is_zero()
    }

    /// Time that is left for looking again.
    pub(crate) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now()).min(self.deadline.left())
    }

    /// Pauses between two looks. Returns whether there is time for another one.
    pub(crate) async fn pause(&self, pause: Duration) -> bool {
        if self.left() < pause {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }

    /// Counts trouble with one device, and logs the first of each code.
    pub(crate) fn trouble(&self, thing: &str, code: &str, reason: &str) {
        metrics::counter!("Failures", "code" => code.to_owned()).increment(1);
        if self.warned.lock().is_ok_and(|mut warned| warned.insert(code.to_owned())) {
            tracing::warn!(thing, code, reason, "not done, for now; others like it in this run are only counted");
        }
    }
}

impl LedgerErrors {
    /// Notes a call that succeeded.
    pub(crate) fn reset(&mut self) {
        self.0 = 0;
    }

    /// Notes an error with one device. The error comes back when the ledger as a whole is in trouble.
    pub(crate) fn add(&mut self, run: &Run, thing: &str, error: ledger::Error) -> Result<(), ledger::Error> {
        self.0 += 1;
        run.trouble(thing, error.code(), &error.to_string());
        let may_be_any_device = matches!(error, ledger::Error::Unavailable(_) | ledger::Error::Refused(_));
        if self.0 >= LEDGER_ERRORS && may_be_any_device { Err(error) } else { Ok(()) }
    }
}
