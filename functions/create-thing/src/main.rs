//! `create-thing`: invoked by the rule of the same name when Coiote announces a device.
//!
//! ```text
//! event → Announcement → thing type, thing → operation shadow
//! ```
//!
//! It may run any number of times for a device, and for any number of devices of a new type at the same moment: every step
//! makes what is missing, and leaves what exists.

mod announcement;
mod handle;
mod registry;

use lambda_runtime::Error;
use lambda_support::Function;
use shadow::Shadows;
use shadow::operation_shadow::OperationShadows;

use crate::handle::Service;
use crate::registry::Registry;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let function = Function::start()?;
    let aws = lambda_support::aws::config()?;
    let registry = Registry::new(aws_sdk_iot::Client::new(&aws));
    let shadows = OperationShadows::new(Shadows::new(aws_sdk_iotdataplane::Client::new(&aws)));
    let service = Service::new(registry, shadows);
    function.run(async |event| service.event(event).await).await
}
