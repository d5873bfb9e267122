//! `operation-response`: invoked by the rule of the same name when Coiote has reported a result in an operation shadow.
//!
//! ```text
//! event → Envelope + result → Change → datamodel shadow → Answer in the operation shadow
//! ```

mod handle;

use aws_sdk_iotdataplane::Client;
use lambda_runtime::Error;
use runtime::Function;
use shadow::Shadows;

use crate::handle::Service;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let function = Function::start()?;
    let service = Service::new(Shadows::new(Client::new(&runtime::aws::config()?)));
    function.run(async |event| service.event(event).await).await
}
