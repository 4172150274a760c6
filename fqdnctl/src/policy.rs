//! `fqdnctl policy`.

mod answer;
mod check;
mod explain;
mod learn;
mod list;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::client::Client;
use crate::output::Output;

/// Check, explain and learn policies, and look at those in force.
///
/// `check`, and `explain` with --manifests, need no daemon: they are for the time before policies
/// are applied.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  fqdnctl policy check policies/
  fqdnctl policy explain --from prod/web --to api.example.com --port 443/TCP
  fqdnctl policy learn prod/web > web.yaml
  fqdnctl policy get")]
pub(crate) struct Policy {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Check),
    Explain(Box<explain::Explain>),
    Learn(Box<learn::Learn>),
    #[command(visible_alias = "list")]
    Get(list::Get),
    Selectors(list::Selectors),
}

impl Policy {
    /// Whether the daemon is asked.
    pub fn needs_daemon(&self) -> bool {
        match &self.command {
            Command::Check(_) => false,
            Command::Explain(command) => command.needs_daemon(),
            Command::Learn(_) | Command::Get(_) | Command::Selectors(_) => true,
        }
    }

    pub fn run(&self, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
        match &self.command {
            Command::Check(command) => return command.run(output),
            Command::Explain(command) => command.run(client, output)?,
            Command::Learn(command) => command.run(client, output)?,
            Command::Get(command) => command.run(client, output)?,
            Command::Selectors(command) => command.run(client, output)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
