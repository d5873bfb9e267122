//! The shadows of a thing, as both functions need them.
//!
//! - [`thing`]: the envelope that both rules put around an event: which thing, which version of its shadow.
//! - [`answer`]: the word that every request ends with.
//! - [`datamodel`]: a reported result as an update of the datamodel shadow, and the call that writes it.

pub mod answer;
pub mod datamodel;
pub mod thing;

pub use answer::{Answer, Reason, Status};
pub use thing::{Envelope, ThingName};
