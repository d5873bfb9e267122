//! `lwm2m`, the command line for people: makes requests to devices and shows their answers, and does an operator's tasks with a
//! deployed stack.
//!
//! It shares the operation model with the functions, so mistakes in a request are reported before anything is sent.

mod answer;
mod cli;
mod completion;
mod connection;
mod data_model;
mod devices;
mod doctor;
mod exit;
mod job;
mod list_requests;
mod output;
mod redrive;
mod request;
mod rewrite_answers;
mod run_request;
mod shadows;

use std::process::ExitCode;

use clap_complete::CompleteEnv;

use cli::{Cli, Command, Job};
use connection::Aws;
use exit::{Exit, Failure};

fn main() -> ExitCode {
    // Ends the process where a shell asks for completions.
    CompleteEnv::with_factory(cli::command).shells(completion::SHELLS).complete();
    let cli = cli::parse();
    let json = cli.connection.json;
    let result = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Err(Failure::new(error.to_string())),
    };
    let exit = result.unwrap_or_else(|failure| {
        failure.print(json);
        failure.exit
    });
    if let Some(error) = output::write_error() {
        output::note(&format!("could not write to standard output: {error}"));
        return Exit::Failed.into();
    }
    exit.into()
}

async fn run(cli: Cli) -> Result<Exit, Failure> {
    let Cli { command, connection } = cli;
    match command {
        Command::Operation(operation) => {
            // Before AWS is connected to: a mistake is reported at once, and without credentials.
            let checked = run_request::check(operation)?;
            run_request::run(&Aws::connect(&connection).await?, checked).await
        }
        Command::Cancel { thing, requests, tokens, waiting } => {
            let desired = request::cancel(&requests, &tokens);
            run_request::cancel(&Aws::connect(&connection).await?, &thing, desired, &waiting).await
        }
        Command::Job(Job::Create(job)) => {
            let checked = job::check(job)?;
            job::create(&Aws::connect(&connection).await?, checked).await
        }
        Command::Job(Job::Watch(job)) => job::watch(&Aws::connect(&connection).await?, job).await,
        Command::Requests { thing, most } => list_requests::run(&Aws::connect(&connection).await?, &thing, most).await,
        Command::Doctor => doctor::run(&Aws::connect(&connection).await?).await,
        Command::Redrive(options) => redrive::run(&Aws::connect(&connection).await?, options).await,
        Command::RewriteAnswers => rewrite_answers::run(&Aws::connect(&connection).await?).await,
        Command::Devices => devices::run(&Aws::connect(&connection).await?).await,
        Command::Datamodel { thing, path } => {
            data_model::run(&Aws::connect(&connection).await?, &thing, path.as_deref()).await
        }
    }
}
