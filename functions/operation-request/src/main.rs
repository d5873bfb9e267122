//! `operation-request`: invoked by the rule of the same name for every request in an operation shadow, and by `reconcile` for
//! each that waits in the ledger and is due.
//!
//! ```text
//! event → Incoming → claim in the ledger → Task → Coiote: device, task → SCHEDULED in the ledger → Coiote: session
//!      (incoming.rs)      (claim.rs)      (lwm2m)     (forward.rs)          (hand_over.rs)
//! ```

mod body;
mod circuit;
mod claim;
mod forward;
mod forward_error;
mod hand_over;
mod handle;
mod incoming;
mod invocation;
mod logging;

use coiote_access::Access;
use lambda_runtime::Error;
use lambda_support::Function;
use ledger::Ledger;
use lwm2m::Strictness;

use crate::forward::Forwarder;
use crate::handle::{Service, Settings};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let function = Function::start()?;
    let aws = lambda_support::aws::config()?;
    let access = Access::from_env(aws_sdk_secretsmanager::Client::new(&aws));
    let ledger = Ledger::from_env(aws_sdk_dynamodb::Client::new(&aws));
    let settings = Settings {
        strictness: strictness(std::env::var("OBJECT_CHECKS").ok().as_deref()),
        lifetime: ledger::request_lifetime(),
        reads_reports: lambda_support::number_from_env("REPORT_INTERVAL", 5) > 0,
    };
    let service = Service::new(Forwarder::new(access), ledger, settings);
    service.warm_up();
    function.run(async |event| service.event(event).await).await
}

/// Treatment of a request that does not fit the objects' descriptions.
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
