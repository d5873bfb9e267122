//! Subcommands and options of the command line. The doc comments of variants and fields are its help texts.

use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use lwm2m::{OperationName, Strictness};
use shadow::ThingName;

use crate::{completion, redrive};

const EXIT_STATUSES: &str = "\
Exit status: 0 done or SUCCEEDED, 1 AWS refused or something is wrong, 2 no such command, 3 not valid and not sent, \
4 REJECTED, 5 FAILED, 6 TIMED_OUT, 7 CANCELED, 8 no last word yet.";

/// LwM2M devices behind AWS IoT Core and Coiote: requests and their answers, devices, and the stack itself.
///
/// Region, profile and credentials are found as by every AWS tool.
#[derive(Parser)]
#[command(name = "lwm2m", version, after_help = EXIT_STATUSES, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// Options of the connection to AWS, and of the output.
#[derive(Args)]
pub(crate) struct ConnectionArgs {
    /// The stack
    #[arg(long, global = true, env = "LWM2M_STACK", default_value = "coiote-aws-iot", value_name = "NAME")]
    pub(crate) stack: String,
    /// Profile of ~/.aws/config
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Region of AWS
    #[arg(long, global = true, value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Operation(Operation),
    /// Take requests back that no device has run yet
    Cancel {
        #[arg(value_parser = thing_name())]
        thing: ThingName,
        /// Shadow version or client token of a request; a number is a version
        #[arg(required_unless_present = "tokens", value_name = "REQUEST")]
        requests: Vec<String>,
        /// Client token of a request, also one that is a number
        #[arg(long = "token", value_name = "TOKEN")]
        tokens: Vec<String>,
        #[command(flatten)]
        waiting: WaitingArgs,
    },
    /// List a thing's requests: those that are open, and those that ended last
    Requests {
        #[arg(value_parser = thing_name())]
        thing: ThingName,
        /// Most of those that have ended
        #[arg(long, default_value_t = 20, value_name = "NUMBER")]
        most: usize,
    },
    /// One request for many devices, by AWS IoT Jobs
    #[command(subcommand)]
    Job(Job),
    /// List the devices, and when each was last heard of
    Devices,
    /// Look whether everything is as it should be, and what to do where it is not
    Doctor,
    /// Send the events in the failure queue through again
    Redrive(redrive::Options),
    /// Have the answers in all operation shadows written anew, from the ledger
    RewriteAnswers,
    /// Show what a device's datamodel shadow holds
    Datamodel {
        #[arg(value_parser = thing_name())]
        thing: ThingName,
        /// Only this, and what lies below it
        path: Option<String>,
    },
}

#[derive(Subcommand)]
pub(crate) enum Job {
    /// Make a job, as in: lwm2m job create reboot-all execute Device.0.Reboot --group thermometers
    Create(JobCreateArgs),
    /// Show how far a job is, until it has ended
    Watch(JobWatchArgs),
}

/// Arguments of `lwm2m job create`: the job, and the request that each of its things gets.
#[derive(Args)]
pub(crate) struct JobCreateArgs {
    /// Id that the job is to have
    pub(crate) job: String,
    #[arg(value_parser = operation_name)]
    pub(crate) operation: OperationName,
    /// As the subcommand of the operation takes it
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<String>,
    /// A thing that it is for
    #[arg(long = "thing", value_name = "THING", value_parser = thing_name())]
    pub(crate) things: Vec<ThingName>,
    /// A thing group that it is for, with the groups in it
    #[arg(long = "group", value_name = "GROUP")]
    pub(crate) groups: Vec<String>,
    /// Go on: things that join a group later get it as well
    #[arg(long)]
    pub(crate) continuous: bool,
    /// Most things that it reaches in a minute; AWS's most is 1000
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(1..=1000))]
    pub(crate) per_minute: Option<i32>,
    /// Cancel it when so many percent of at least 20 executions have failed
    #[arg(long, value_name = "PERCENT")]
    pub(crate) abort_at: Option<f64>,
    /// End an execution that is in progress for longer; seven days at most
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(i64).range(1..=10_080))]
    pub(crate) timeout_minutes: Option<i64>,
    #[command(flatten)]
    pub(crate) checks: CheckArgs,
}

/// Arguments of `lwm2m job watch`.
#[derive(Args)]
pub(crate) struct JobWatchArgs {
    /// Id of the job
    pub(crate) job: String,
    /// How long it is watched; without it until it has ended, which a continuous one never has
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
}

/// The operations of LwM2M, each as `lwm2m <operation> THING PATH…`.
#[derive(Subcommand)]
pub(crate) enum Operation {
    /// Read objects, object instances or resources; / is the whole data model
    Read(OperationArgs),
    /// Write resources: PATH=VALUE
    Write(OperationArgs),
    /// Execute a resource; arguments as in PATH=0='abc',1
    Execute(OperationArgs),
    /// Observe, with attributes as in PATH=pmin=5,gt=20.5
    Observe(OperationArgs),
    /// End observations; / ends all
    CancelObserve(OperationArgs),
    /// Set attributes, as in PATH=pmin=30,pmax=60; PATH=pmax= unsets one
    WriteAttributes(OperationArgs),
    /// Ask what is there, and which attributes are set
    Discover(OperationArgs),
    /// Make an object instance, bare or with values: PATH=VALUE
    Create(OperationArgs),
    /// Remove object instances or resource instances
    Delete(OperationArgs),
    /// Read in one message to the device (LwM2M 1.1)
    ReadComposite(OperationArgs),
    /// Write in one message to the device (LwM2M 1.1): PATH=VALUE
    WriteComposite(OperationArgs),
    /// Observe all paths together (LwM2M 1.1)
    ObserveComposite(OperationArgs),
    /// End an observation of several paths together (LwM2M 1.1)
    CancelObserveComposite(OperationArgs),
}

/// Arguments of an operation.
#[derive(Args)]
pub(crate) struct OperationArgs {
    #[arg(value_parser = thing_name())]
    pub(crate) thing: ThingName,
    /// By name or by number: "Device.0.UTC Offset", /3/0/14
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<String>,
    #[command(flatten)]
    pub(crate) waiting: WaitingArgs,
    #[command(flatten)]
    pub(crate) checks: CheckArgs,
}

/// Options of waiting for the answer.
#[derive(Args)]
pub(crate) struct WaitingArgs {
    /// Do not wait for the answer
    #[arg(long, conflicts_with = "timeout")]
    pub(crate) no_wait: bool,
    /// How long the answer is waited for; the request itself goes on
    #[arg(long, default_value = "60", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Duration,
    /// Token of the shadow update, at most 64 bytes; by default one that no other request has
    #[arg(long, value_name = "TOKEN", value_parser = client_token)]
    pub(crate) client_token: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum ObjectChecks {
    /// It is not sent
    #[default]
    Reject,
    /// It is sent, and told: devices deviate from the descriptions
    Notice,
}

/// Option of the checks before a request is sent.
#[derive(Args)]
pub(crate) struct CheckArgs {
    /// What becomes of a request that does not fit the objects' descriptions; as the stack's parameter ObjectChecks
    #[arg(long, value_enum, default_value_t, env = "LWM2M_OBJECT_CHECKS", value_name = "WHAT")]
    object_checks: ObjectChecks,
}

impl CheckArgs {
    pub(crate) fn strictness(&self) -> Strictness {
        match self.object_checks {
            ObjectChecks::Reject => Strictness::Reject,
            ObjectChecks::Notice => Strictness::Notice,
        }
    }
}

impl Operation {
    pub(crate) fn into_parts(self) -> (OperationName, OperationArgs) {
        match self {
            Operation::Read(args) => (OperationName::Read, args),
            Operation::Write(args) => (OperationName::Write, args),
            Operation::Execute(args) => (OperationName::Execute, args),
            Operation::Observe(args) => (OperationName::Observe, args),
            Operation::CancelObserve(args) => (OperationName::CancelObserve, args),
            Operation::WriteAttributes(args) => (OperationName::WriteAttributes, args),
            Operation::Discover(args) => (OperationName::Discover, args),
            Operation::Create(args) => (OperationName::Create, args),
            Operation::Delete(args) => (OperationName::Delete, args),
            Operation::ReadComposite(args) => (OperationName::ReadComposite, args),
            Operation::WriteComposite(args) => (OperationName::WriteComposite, args),
            Operation::ObserveComposite(args) => (OperationName::ObserveComposite, args),
            Operation::CancelObserveComposite(args) => (OperationName::CancelObserveComposite, args),
        }
    }
}

/// Builds the command line as it is parsed, and as a shell completes it.
pub(crate) fn command() -> clap::Command {
    completion::with_paths(Cli::command())
}

pub(crate) fn parse() -> Cli {
    let mut command = command();
    let matches = command.get_matches_mut();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
}

fn thing_name() -> impl TypedValueParser<Value = ThingName> {
    let parse =
        |name: String| ThingName::parse(&name).ok_or("a thing's name has 1 to 128 characters of a-z A-Z 0-9 : _ -");
    clap::builder::NonEmptyStringValueParser::new().try_map(parse)
}

/// Parses an operation that is named as its subcommand, such as `write-composite`.
fn operation_name(text: &str) -> Result<OperationName, String> {
    let named = |operation: &OperationName| completion::subcommand(*operation);
    let found = OperationName::ALL.iter().copied().find(|operation| named(operation) == text);
    found.ok_or_else(|| format!("one of {}", OperationName::ALL.iter().map(named).collect::<Vec<_>>().join(", ")))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "a number of seconds".to_owned())
}

/// Checks that AWS IoT takes the client token.
fn client_token(text: &str) -> Result<String, String> {
    if (1..=64).contains(&text.len()) { Ok(text.to_owned()) } else { Err("1 to 64 bytes".to_owned()) }
}
