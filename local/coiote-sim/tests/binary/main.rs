//! The binary as a whole, over HTTPS and its control API. What it reports to AWS is tested with a broker elsewhere.

// Clippy spares test functions only; what they call is test code too.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod coiote;
mod faults;
mod rest_and_control;
mod restart;
