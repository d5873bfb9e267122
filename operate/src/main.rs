//! `lwm2m`, the command line for people: makes requests to devices and shows their answers, and does what an operator does
//! with a deployed stack.
//!
//! It shares the operation model with the functions, so a request that is not valid is told before anything is sent.

mod answer;
mod cli;
mod completion;
mod connection;
mod data_model;
mod devices;
mod doctor;
mod exit;
mod job;
mod output;
mod redrive;
mod request;
mod requests_of;
mod rewrite_answers;
mod shadows;

use std::process::ExitCode;

use clap_complete::CompleteEnv;

use cli::{Cli, Command, Job};
use connection::Aws;
use exit::{Exit, Failure};

fn main() -> ExitCode {
    // Ends here where a shell asks for completions.
    CompleteEnv::with_factory(cli::command).shells(completion::SHELLS).complete();
    let cli = cli::parse();
    let json = cli.connection.json;
    let ended = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Err(Failure::new(error.to_string())),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.tell(json);
            failure.exit.into()
        }
    }
}

async fn run(cli: Cli) -> Result<Exit, Failure> {
    let Cli { command, connection } = cli;
    match command {
        Command::Operation(operation) => {
            // Before AWS is looked for: a mistake is told at once, and to everybody.
            let checked = answer::check(operation)?;
            answer::ask(&Aws::connect(&connection).await?, checked).await
        }
        Command::Cancel { thing, requests, waiting } => {
            answer::cancel(&Aws::connect(&connection).await?, &thing, &requests, &waiting).await
        }
        Command::Job(Job::Create(job)) => {
            let checked = job::check(job)?;
            job::create(&Aws::connect(&connection).await?, checked).await
        }
        Command::Job(Job::Watch(job)) => job::watch(&Aws::connect(&connection).await?, job).await,
        Command::Requests { thing, most } => requests_of::list(&Aws::connect(&connection).await?, &thing, most).await,
        Command::Doctor => doctor::run(&Aws::connect(&connection).await?).await,
        Command::Redrive(options) => redrive::run(&Aws::connect(&connection).await?, options).await,
        Command::RewriteAnswers => rewrite_answers::run(&Aws::connect(&connection).await?).await,
        Command::Devices => devices::list(&Aws::connect(&connection).await?).await,
        Command::Datamodel { thing, path } => {
            data_model::show(&Aws::connect(&connection).await?, &thing, path.as_deref()).await
        }
    }
}
