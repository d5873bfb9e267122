//! The shadows of a thing, as the functions need them.
//!
//! - [`thing`]: the envelope that both rules put around an event: which thing, which version of its shadow.
//! - [`operation`]: the operation shadow: the copies of records that authors of requests read.
//! - [`datamodel`]: a reported result as an update of the datamodel shadow.
//! - [`shadows`]: the two calls of AWS IoT that all of it is made with.

pub mod datamodel;
pub mod operation;
pub mod shadows;
pub mod thing;

pub use shadows::{Error, Shadows};
pub use thing::{Envelope, ThingName};
