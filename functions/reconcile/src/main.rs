#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let function = runtime::Function::start()?;
    function.run(async |_: lambda_runtime::LambdaEvent<serde_json::Value>| Ok(())).await
}
