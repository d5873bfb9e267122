//! The LwM2M operation model: paths, values, attributes, operations, and the tasks that they become at Coiote.
//!
//! A device session is expensive: it costs minutes of waiting for a sleeping device, and battery. So a request is parsed once
//! into an [`Operation`], which is valid by construction, and all later steps work on that type:
//!
//! ```text
//! Request (JSON fields of the event)  →  Operation (typed)  →  Task (template name and parameters for Coiote)
//! ```
//!
//! The crate does no I/O, and knows neither AWS nor HTTP.

#![warn(missing_docs)]

pub mod arguments;
pub mod attributes;
mod check;
pub mod finding;
pub mod keys;
pub mod objects;
pub mod operation;
pub mod path;
pub mod request;
pub mod task;
mod time;
pub mod value;
mod value_fit;

pub use finding::{Code, Finding};
pub use operation::{Operation, OperationName};
pub use path::Path;
pub use request::{Accepted, Request, Strictness};
pub use task::Task;
