//! The local Coiote: a stand-in for Coiote IoT Device Management, to run and test the integration on one machine.
//!
//! It is a neighbour and not a mock: it shares no code with the integration, has decoders of its own, and refuses what
//! Coiote would refuse. README.md has its APIs and its modules. This file only starts things.

mod arguments;
mod attributes;
mod aws;
mod aws_command;
mod cli;
mod clock;
mod control;
mod credentials;
mod decoded_operation;
mod device;
mod external_certificate;
mod faults;
mod installation;
mod pem;
mod publication;
mod rest;
mod state_file;
mod task;
mod task_list;
mod template;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use clap::Parser;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tracing::info;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use aws_command::AwsCommand;
use cli::Options;
use installation::{Installation, InstallationOptions};
use rest::TlsListener;
use state_file::StateFileError;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = Options::parse();
    log_to_stderr();
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut stderr = std::io::stderr();
            // A closed stderr leaves no place to report that.
            let _ = writeln!(stderr, "coiote-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    // From here on signals end the process in order, even while it starts.
    let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (installation, commands) = install(options)?;
    let signal = tokio::select! {
        ended = serve(options, installation.clone(), commands) => return ended,
        _ = terminated.recv() => "SIGTERM",
        _ = interrupted.recv() => "SIGINT",
    };
    info!("stopped by {signal}");
    if let Some(file) = &options.state {
        // The listeners are gone with `serve`. Open connections cannot run before the process ends: there is one thread,
        // and nothing from here on waits. So everything that was answered is saved.
        state_file::write(file, &installation.saved())?;
        info!("state written to {}", file.display());
    }
    Ok(())
}

/// Makes the installation from the options and the state of an earlier run, and the channel of its commands to the
/// connection to AWS.
fn install(options: &Options) -> Result<(Arc<Installation>, UnboundedReceiver<AwsCommand>), Box<dyn Error>> {
    let mut client_certificates = Vec::new();
    for file in &options.client_cert {
        // The first is the client's own; a chain may follow it.
        client_certificates.extend(pem::certificates("--client-cert", file)?.into_iter().next());
    }
    let (to_aws, commands) = unbounded_channel();
    let to_aws = options.iot().is_some().then_some(to_aws);
    let installation_options = InstallationOptions {
        client_certificates,
        without_templates: options.without_template.clone(),
        external_certificate: options.external_certificate()?,
        announces: options.announce,
    };
    let installation = Installation::new(installation_options, to_aws)?;
    if let Some(file) = &options.state
        && let Some(saved) = state_file::read(file)?
    {
        installation.restore(saved).map_err(|refusal| StateFileError::unusable(file, refusal))?;
    }
    for device in options.fleet() {
        if !installation.has_device(&device.endpoint) {
            installation.add_device(device)?;
        }
    }
    installation.begin_integration();
    Ok((Arc::new(installation), commands))
}

async fn serve(
    options: &Options,
    installation: Arc<Installation>,
    commands: UnboundedReceiver<AwsCommand>,
) -> Result<(), Box<dyn Error>> {
    let credentials = options.credentials()?.map(Arc::new);
    let rest = TlsListener::bind(options, installation.clone()).await?;
    let control = TcpListener::bind(options.control).await.map_err(|error| {
        format!("--control {}: {error}. Choose another port, or 0 for a free one.", options.control)
    })?;
    if let Some(iot) = options.iot() {
        let connected = aws::connect(&iot, installation.clone(), commands)?;
        // Without one it connects when a set-up call gives the certificate.
        if installation.has_external_certificate() {
            connected.await?;
        }
    }
    installation.run_all_scheduled();
    print_ready_line(rest.port(), &control)?;
    tokio::select! {
        ended = rest::serve(rest, installation.clone(), credentials) => ended?,
        ended = control::serve(control, installation.clone()) => ended?,
        () = installation.keep_time() => {}
    }
    Ok(())
}

/// Prints the one line on stdout, which the starting process waits for.
fn print_ready_line(rest_port: u16, control: &TcpListener) -> std::io::Result<()> {
    let line = json!({
        "ready": true,
        "rest": format!("https://localhost:{rest_port}"),
        "control": format!("http://{}", control.local_addr()?),
    });
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

fn log_to_stderr() {
    let directives = std::env::var("RUST_LOG").ok().and_then(|directives| Targets::from_str(&directives).ok());
    let filter = directives.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false);
    tracing_subscriber::registry().with(lines).with(filter).init();
}
