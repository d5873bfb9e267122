//! What every function of the stack needs of Lambda, in one place, so that all start and log alike.

pub mod attempts;
pub mod aws;
pub mod deadline;
pub mod logging;

use lambda_runtime::Diagnostic;

pub use attempts::{Attempt, Attempts};
pub use deadline::Deadline;

/// An error of the function. Its type is the code that the README explains, so that alarms can count it.
pub fn diagnostic(code: &str, message: impl Into<String>) -> Diagnostic {
    Diagnostic { error_type: code.to_owned(), error_message: message.into() }
}
