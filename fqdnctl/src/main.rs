//! fqdnctl: looks into a running fqdnd, and answers questions about policies and patterns without
//! one.
//!
//! Exit codes: 0 all is well, 1 an error or a negative answer, 2 wrong usage.
#![forbid(unsafe_code)]

mod cache;
mod client;
mod completion;
mod crd;
mod endpoint;
mod health;
mod identity;
mod manual;
mod map;
mod observe;
mod output;
mod pattern;
mod plugin;
mod policy;
mod source;
mod status;
mod top;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};

use crate::client::Client;
use crate::output::{Color, Format, Output};

/// Look into a running fqdnd.
#[derive(Debug, Parser)]
#[command(name = "fqdnctl", version, max_term_width = 100)]
#[command(long_about = "\
Look into a running fqdnd.

fqdnd filters the egress of pods and other network interfaces by the names that they resolve. \
fqdnctl asks it, over a unix socket that only root may use, how it fares, which endpoints it \
enforces, which addresses they have resolved, and what stands in the kernel's maps. It never \
changes a policy: those are manifests, and fqdnd reads them as they change. Policies can be \
checked and explained before they are applied, without a daemon.")]
#[command(after_long_help = "\
Examples:
  fqdnctl status                       how the daemon fares, and what is wrong in manifests
  fqdnctl endpoint list -o wide        all endpoints with labels, tables and identities
  fqdnctl cache list -e prod/web       the addresses that one endpoint has resolved
  fqdnctl observe -f --verdict drop    drops as they happen, with their reasons
  fqdnctl top                          endpoints, names and drops, live
  fqdnctl policy check policies/       whether policies are valid, before they are applied
  fqdnctl policy explain --from prod/web --to api.example.com --port 443/TCP
                                       why a connection passes or does not
  fqdnctl policy learn prod/web > web.yaml   the policy that allows what a pod was seen to do
  fqdnctl crd install                  the definitions of policies, for a cluster's API server
  fqdnctl pattern '*.example.com' a.example.com
                                       whether a pattern of a policy matches a name

Exit codes:
  0  all is well; `pattern`: every name matches; `policy explain`: whatever the verdict
  1  an error; `health`: the daemon is not ready; `pattern`: a name does not match;
     `policy check`: a document is rejected
  2  wrong usage; `pattern`: the pattern or a name is invalid")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// The socket where fqdnd listens.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "FQDND_SOCKET",
        default_value = api::DEFAULT_SOCKET
    )]
    socket: PathBuf,
    /// How to print: a table, a table with more columns, or JSON or YAML for programs.
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "table",
        value_parser = PossibleValuesParser::new(Format::NAMES).try_map(|name| Format::named(&name))
    )]
    output: Format,
    /// When to use colour. `auto`: on a terminal, unless NO_COLOR is set.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Color,
}

#[derive(Debug, Subcommand)]
enum Command {
    Status(status::Status),
    Health(health::Health),
    Endpoint(endpoint::Endpoint),
    Cache(cache::Cache),
    Policy(policy::Policy),
    Identity(identity::Identity),
    Map(map::Map),
    Observe(Box<observe::Observe>),
    Top(top::Top),
    Pattern(pattern::Pattern),
    Crd(crd::Crd),
    Completion(completion::Completion),
    #[command(hide = true)]
    Complete(completion::Complete),
    #[command(hide = true)]
    Manual(manual::Manual),
}

fn main() -> ExitCode {
    if plugin::is_called(std::env::args_os().next().as_deref()) {
        return plugin::run(run_here).unwrap_or_else(|error| failure(&error));
    }
    run(Cli::parse())
}

/// Runs a command of the plugin's that needs no daemon.
fn run_here(arguments: &[String]) -> Option<ExitCode> {
    let name = "fqdnctl".to_owned();
    let cli = Cli::parse_from(std::iter::once(&name).chain(arguments));
    (!cli.command.needs_daemon()).then(|| run(cli))
}

fn run(Cli { global, command }: Cli) -> ExitCode {
    let output = Output::new(global.output, global.color);
    let client = Client::new(&global.socket);
    match command.run(&client, &output) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => failure(&error),
    }
}

fn failure(error: &anyhow::Error) -> ExitCode {
    eprintln!("Error: {error:#}");
    ExitCode::FAILURE
}

impl Command {
    /// Whether it asks the daemon, and so has to run beside it.
    fn needs_daemon(&self) -> bool {
        match self {
            Self::Policy(command) => command.needs_daemon(),
            Self::Pattern(_)
            | Self::Crd(_)
            | Self::Completion(_)
            | Self::Complete(_)
            | Self::Manual(_) => false,
            Self::Status(_)
            | Self::Health(_)
            | Self::Endpoint(_)
            | Self::Cache(_)
            | Self::Identity(_)
            | Self::Map(_)
            | Self::Observe(_)
            | Self::Top(_) => true,
        }
    }

    fn run(self, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Status(command) => command.run(client, output)?,
            Self::Health(command) => return command.run(client, output),
            Self::Endpoint(command) => command.run(client, output)?,
            Self::Cache(command) => command.run(client, output)?,
            Self::Policy(command) => return command.run(client, output),
            Self::Identity(command) => command.run(client, output)?,
            Self::Map(command) => command.run(client, output)?,
            Self::Observe(command) => return command.run(client, output),
            Self::Top(command) => return command.run(client, output),
            Self::Pattern(command) => return command.run(output),
            Self::Crd(command) => return command.run(output),
            Self::Completion(command) => command.run()?,
            Self::Complete(command) => command.run(client)?,
            Self::Manual(command) => command.run()?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Whether whoever read the output has seen enough, as `head` has.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
