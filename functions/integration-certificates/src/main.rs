//! `integration-certificates`: a CloudFormation custom resource, the certificates between Coiote and AWS.
//!
//! ```text
//! Create, Update, Delete → Properties → integration.rs: IoT Core, Coiote, Secrets Manager → response to the presigned URL
//! ```
//!
//! Two certificates make the integration: the one that Coiote connects to AWS IoT Core with, and the one that
//! operation-request calls Coiote with.

mod client_certificate;
mod coiote_setup;
mod handle;
mod integration;
mod iot;
mod issue;
mod properties;
mod secrets;
mod undo;

use lambda_runtime::Error;
use lambda_support::Function;

use crate::handle::Service;
use crate::iot::Iot;
use crate::secrets::Secrets;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let function = Function::start()?;
    let aws = lambda_support::aws::config()?;
    let iot = Iot::new(aws_sdk_iot::Client::new(&aws));
    let secrets = Secrets::new(aws_sdk_secretsmanager::Client::new(&aws));
    let service = Service::new(iot, secrets)?;
    function.run(async |event| service.event(event).await).await
}
