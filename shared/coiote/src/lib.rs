//! Client of Coiote's REST API v3: what operations need (find a device, create a task from a template, start a session), and
//! what sets the integration up (the certificates on both sides).
//!
//! TLS is always verified, against the public roots and those that the secret adds. One client holds one kept-alive
//! connection; whoever makes a client keeps it.

mod client;
mod error;
mod http;
mod identity;
mod report;
mod setup;

pub use client::{Client, CreatedTask};
pub use error::Error;
pub use identity::{Identity, InvalidSecret, User, expires_at};
pub use report::{Reports, TaskReport, TaskStatus, iso8601_from_millis, millis_from_iso8601};
pub use setup::Setup;
