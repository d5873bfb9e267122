//! What every function of the stack needs of Lambda, in one place, so that all start and log alike.

pub mod attempts;
pub mod aws;
pub mod deadline;
pub mod logging;

pub use attempts::{Attempt, Attempts};
pub use deadline::Deadline;
