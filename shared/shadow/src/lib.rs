//! The named shadows of a thing, and how results are folded into them.
//!
//! - [`thing`]: names of things, and the envelope that the rules put around an event.
//! - [`operation_shadow`]: the operation shadow, which holds the copies of records that authors of requests read.
//! - [`datamodel_shadow`]: the datamodel shadow, which holds the last known values of the device.
//! - [`folding`]: how a result changes the datamodel shadow. No I/O.
//! - [`shadows`]: the AWS IoT calls GetThingShadow and UpdateThingShadow.

#![warn(missing_docs)]

pub mod datamodel_shadow;
pub mod folding;
pub mod operation_shadow;
pub mod shadows;
pub mod thing;

pub use datamodel_shadow::DatamodelShadows;
pub use operation_shadow::OperationShadows;
pub use shadows::{Error, Shadows};
pub use thing::{Envelope, ThingName};
