//! The shadows of a thing, as the functions need them.
//!
//! - [`thing`]: the envelope that both rules put around an event: which thing, which version of its shadow.
//! - [`answer`]: the word that every request ends with.
//! - [`operation`]: the operation shadow: who deals with a request, and what became of it.
//! - [`datamodel`]: a reported result as an update of the datamodel shadow.
//! - [`shadows`]: the two calls of AWS IoT that all of it is made with.

pub mod answer;
pub mod datamodel;
pub mod operation;
pub mod shadows;
pub mod thing;

pub use answer::{Answer, Reason, Status};
pub use shadows::{Error, Shadows};
pub use thing::{Envelope, ThingName};
