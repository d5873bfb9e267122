//! `answers`: invoked by the stream of the ledger's table, and by the queue with the names of things whose copies could not be
//! written. It is the one function that writes `reported.requests` of the operation shadows.
//!
//! ```text
//! stream → changes, by thing → copies → operation shadow
//!                                 └── could not be written → queue → the device's item → copies → operation shadow
//! ```

mod copies;
mod event;
mod handle;

use lambda_runtime::Error;
use lambda_support::Function;
use ledger::Ledger;
use shadow::Shadows;
use shadow::operation_shadow::OperationShadows;

use crate::handle::Service;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let function = Function::start()?;
    let aws = lambda_support::aws::config()?;
    let service = Service::new(
        Ledger::from_env(aws_sdk_dynamodb::Client::new(&aws)),
        OperationShadows::new(Shadows::new(aws_sdk_iotdataplane::Client::new(&aws))),
        aws_sdk_sqs::Client::new(&aws),
        std::env::var("ANSWERS_QUEUE_URL").unwrap_or_default(),
    );
    function.run(async |event| service.event(event).await).await
}
