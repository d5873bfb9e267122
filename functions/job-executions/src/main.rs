//! `job-executions`: the one function that speaks to AWS IoT Jobs. It is invoked by the stream of the ledger's table, as far as
//! jobs' requests change, by a schedule, and by the rule for jobs that were canceled.
//!
//! ```text
//! stream ─▶ jobs' requests that have changed ─▶ AWS IoT Jobs: IN_PROGRESS, SUCCEEDED, FAILED, REJECTED
//! schedule ─▶ AWS IoT Jobs: executions that are queued ─▶ ledger: no request ─▶ operation-request, as by its rule
//! schedule ─▶ AWS IoT Jobs: executions in progress ─▶ ledger: ended ─▶ AWS IoT Jobs: SUCCEEDED, FAILED
//! rule: job canceled ─▶ AWS IoT Jobs: executions that had begun ─▶ ledger: open ─▶ operation-request, which takes it back
//! ```

mod control_plane;
mod data_plane;
mod details;
mod event;
mod handle;
mod look;
mod update;

use lambda_support::Function;
use ledger::Ledger;

use crate::control_plane::ControlPlane;
use crate::data_plane::DataPlane;
use crate::handle::{Clients, Service, Settings};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let function = Function::start()?;
    let aws = lambda_support::aws::config()?;
    let iot = aws_sdk_iot::Client::new(&aws);
    let clients = Clients {
        ledger: Ledger::from_env(aws_sdk_dynamodb::Client::new(&aws)),
        jobs: DataPlane::new((&aws).into(), iot.clone()),
        lambda: aws_sdk_lambda::Client::new(&aws),
    };
    let settings = Settings {
        operation_request: std::env::var("OPERATION_REQUEST_FUNCTION").unwrap_or_default(),
        notified_within: lambda_support::number_from_env("JOBS_NOTIFIED_WITHIN_SECONDS", 120) * 1_000,
    };
    let service = Service::new(clients, ControlPlane::new(iot), settings);
    function.run(async |event| service.event(event).await).await
}
