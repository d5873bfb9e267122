//! The LwM2M operation model that both functions share.
//!
//! A device session is expensive: minutes of waiting for a sleeping device, and its battery. So a request is parsed,
//! here and once, into an [`Operation`] that can only be valid, and everything after that works on the type. The way
//! is one-directional:
//!
//! ```text
//! Request (JSON fields of the event)  →  Operation (typed)  →  Task (template name and parameters for Coiote)
//! ```
//!
//! Nothing here does I/O or knows AWS or HTTP.

pub mod arguments;
pub mod attributes;
pub mod check;
pub mod finding;
pub mod keys;
pub mod objects;
pub mod operation;
pub mod path;
pub mod request;
pub mod task;
mod time;
pub mod value;

pub use finding::{Code, Finding};
pub use operation::{Operation, OperationName};
pub use path::Path;
pub use request::{Accepted, Request, Strictness};
pub use task::Task;
