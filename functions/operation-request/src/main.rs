//! `operation-request`: invoked by the rule of the same name for every request in an operation shadow.
//!
//! ```text
//! event → Envelope + Request → Operation → claim → Task → Coiote: device, task → Answer → Coiote: session
//!         (shadow, lwm2m)      (lwm2m)     (shadow) (lwm2m)  (forward.rs)        (shadow)
//! ```

mod credentials;
mod forward;
mod handle;

use lambda_runtime::Error;
use lwm2m::Strictness;
use runtime::Function;
use shadow::Shadows;
use shadow::operation::OperationShadows;

use crate::credentials::Credentials;
use crate::forward::Forwarder;
use crate::handle::Service;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let function = Function::start()?;
    let aws = runtime::aws::config()?;
    let strictness = strictness(std::env::var("OBJECT_CHECKS").ok().as_deref());
    let forwarder = Forwarder::new(
        std::env::var("COIOTE_URL").unwrap_or_default(),
        Credentials::new(aws_sdk_secretsmanager::Client::new(&aws), std::env::var("COIOTE_SECRET_ID").ok()),
    );
    let shadows = OperationShadows::new(Shadows::new(aws_sdk_iotdataplane::Client::new(&aws)));
    let service = Service::new(forwarder, shadows, strictness);
    service.warm_up();
    function.run(async |event| service.event(event).await).await
}

/// What the user wants done with a request that does not fit the objects' descriptions.
fn strictness(chosen: Option<&str>) -> Strictness {
    match chosen {
        Some("notice") => Strictness::Notice,
        Some("reject") | None => Strictness::Reject,
        Some(other) => {
            tracing::warn!(chosen = other, "OBJECT_CHECKS is neither reject nor notice; reject is taken");
            Strictness::Reject
        }
    }
}
