//! Limit for the calls about single tasks while Coiote is away.

/// Outages in a row after which a run asks Coiote for single tasks no more.
const MOST: usize = 2;

/// Number of outages in a row, in calls about single tasks.
#[derive(Debug, Default)]
pub(crate) struct Outages(usize);

impl Outages {
    /// Whether Coiote counts as away for the rest of the run.
    pub(crate) fn is_over_limit(&self) -> bool {
        self.0 >= MOST
    }

    /// Notes the error of a call.
    pub(crate) fn add(&mut self, error: &coiote_access::Error) {
        self.0 = if error.is_outage() { self.0 + 1 } else { 0 };
    }

    /// Notes a call that succeeded.
    pub(crate) fn reset(&mut self) {
        self.0 = 0;
    }
}
