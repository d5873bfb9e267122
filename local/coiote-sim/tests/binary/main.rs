//! The binary as a whole, over HTTPS and its control API, and what it tells a broker. What it reports of tasks to AWS
//! is tested elsewhere.

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
