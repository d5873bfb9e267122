//! Access of a function to Coiote: one connection, made from the secret and kept as long as the execution environment; and
//! retries of calls within an invocation.

#![warn(missing_docs)]

mod access;
mod credentials;
mod error;
mod retry;

use std::time::Duration;

pub use access::Access;
pub use credentials::{Credentials, CredentialsError};
pub use error::{Error, code};
pub use retry::{Call, FIND_DEVICE, START_SESSION, call_with_retries};

/// Time limit of a single call; Coiote answers in well under a second.
const CALL_LIMIT: Duration = Duration::from_secs(10);
