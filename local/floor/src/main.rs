//! Returns each event as it came, and does nothing else.

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::value::RawValue;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let answer = async |event: LambdaEvent<Box<RawValue>>| Ok::<_, Error>(event.payload);
    lambda_runtime::run(service_fn(answer)).await
}
