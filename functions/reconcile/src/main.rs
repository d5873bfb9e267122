//! `reconcile`: invoked every minute by a schedule, brings requests up to date with the time and with Coiote's reports.
//!
//! ```text
//! ledger: devices to look at ─▶ Coiote: report of a task, its removal ─┐
//! Coiote: reports since the last look ────────────────────────────────┴▶ outcomes in the ledger
//! ledger: requests that wait ─▶ operation-request, at a pace that Coiote bears
//! ```

mod coiote_calls;
mod contact;
mod counts;
mod due;
mod hand_over;
mod handle;
mod look;
mod operation_request;
mod outage;
mod outcome;
mod pace;
mod pass;
mod persistent_failures;
mod properties;
mod reports;
mod run;
mod save;

use std::time::Duration;

use coiote_access::Access;
use lambda_runtime::Error;
use lambda_support::Function;
use ledger::Ledger;

use crate::coiote_calls::CoioteCalls;
use crate::hand_over::HandOver;
use crate::handle::{Service, Settings};
use crate::operation_request::OperationRequest;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let function = Function::start()?;
    let aws = lambda_support::aws::config()?;
    let variable = |name: &str| std::env::var(name).ok();
    let access = Access::from_env(aws_sdk_secretsmanager::Client::new(&aws));
    let ledger = Ledger::from_env(aws_sdk_dynamodb::Client::new(&aws));
    let most_at_once = pace::limit(lambda_support::number_from_env("REQUEST_CONCURRENCY", 0));
    let settings = Settings {
        report_interval: Duration::from_secs(lambda_support::number_from_env("REPORT_INTERVAL", 5)),
        time: Duration::from_secs(lambda_support::number_from_env("RECONCILE_SECONDS", 55)),
        operation_response: variable("OPERATION_RESPONSE_FUNCTION").unwrap_or_default(),
        most_at_once,
    };
    let operation_request = OperationRequest::new(
        &aws_sdk_lambda::config::Builder::from(&aws),
        variable("OPERATION_REQUEST_FUNCTION").unwrap_or_default(),
    );
    let hand_over = HandOver::new(ledger.clone(), operation_request, most_at_once);
    let lambda = aws_sdk_lambda::Client::new(&aws);
    let service = Service::new(CoioteCalls::new(access), ledger, lambda, hand_over, settings);
    service.warm_up();
    function.run(async |event| service.event(event).await).await
}
