//! `operation-response`: invoked by the rule of the same name when Coiote has reported a result in an operation shadow, and by
//! `reconcile` when a device has deleted object instances.
//!
//! ```text
//! event → Response → registered in the ledger, which finds the request → datamodel shadow → outcome in the ledger
//! ```

mod handle;
mod logging;
mod response;

use lambda_runtime::Error;
use lambda_support::Function;
use ledger::Ledger;
use shadow::Shadows;

use crate::handle::Service;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let function = Function::start()?;
    let aws = lambda_support::aws::config()?;
    let ledger = Ledger::from_env(aws_sdk_dynamodb::Client::new(&aws));
    let service = Service::new(ledger, Shadows::new(aws_sdk_iotdataplane::Client::new(&aws)));
    function.run(async |event| service.event(event).await).await
}
