//! Commands that the installation gives the connection to AWS IoT Core.
//!
//! They stand apart from the connection so that the installation does not depend on it.

use serde_json::Value;

use crate::external_certificate::ExternalCertificate;

/// Command to the connection to AWS IoT Core.
#[derive(Debug)]
pub(crate) enum AwsCommand {
    /// Connect with this certificate in place of an earlier one; `None` disconnects.
    UseCertificate(Option<ExternalCertificate>),
    /// Subscribe to the responses of AWS to updates of the device's operation shadow.
    Subscribe { endpoint: String },
    /// End that subscription.
    Unsubscribe { endpoint: String },
    /// Write the result of a task into the operation shadow.
    UpdateShadow(OperationShadowUpdate),
    /// Send a publication that waits in the installation.
    Publish { number: u64 },
}

/// Update of an operation shadow with the result of a task.
#[derive(Debug)]
pub(crate) struct OperationShadowUpdate {
    pub(crate) endpoint: String,
    /// Also the client token, by which the response is matched.
    pub(crate) task_id: String,
    pub(crate) payload: String,
}

impl OperationShadowUpdate {
    pub(crate) fn new(endpoint: &str, task_id: &str, payload: &Value) -> Self {
        Self { endpoint: endpoint.to_owned(), task_id: task_id.to_owned(), payload: payload.to_string() }
    }
}
