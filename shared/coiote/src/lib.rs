//! Client of Coiote's REST API v3: the calls of operations (find a device, create a task from a template, start a session, read
//! reports), and those that set the integration up (the certificates on both sides).
//!
//! TLS is always verified, against the public roots and those in the secret. A client keeps one connection alive,
//! so it should be kept for further calls.

#![warn(missing_docs)]

mod client;
mod connection;
mod error;
mod identity;
mod report;
mod setup;

pub use client::{Client, CreatedTask, MAX_REPORTS};
pub use connection::base_url;
pub use error::{Error, code};
pub use identity::{Identity, InvalidSecret, User, common_name, expires_at};
pub use report::{Reports, TaskReport, TaskStatus, iso8601_from_millis, millis_from_iso8601};
pub use setup::Setup;
