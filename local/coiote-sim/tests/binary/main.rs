//! Tests of the whole binary through HTTPS, its control API and a broker. Results in operation shadows are tested with
//! the integration, in tests/ of the repository.

// Clippy spares test functions only; what they call is test code too.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod broker;
mod coiote;
mod devices;
mod faults;
mod integration;
mod rest_and_control;
mod restart;
mod tasks;
