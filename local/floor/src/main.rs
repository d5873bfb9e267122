//! The smallest possible function: it returns each event as it came. `make bench` compares the others with it.

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::value::RawValue;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let echo = async |event: LambdaEvent<Box<RawValue>>| Ok::<_, Error>(event.payload);
    lambda_runtime::run(service_fn(echo)).await
}
