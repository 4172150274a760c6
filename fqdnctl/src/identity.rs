//! `fqdnctl identity`.

use clap::{Args, Subcommand};

use crate::client::Client;
use crate::output::{Cell, Output};

/// Look at identities.
///
/// An identity is a number that stands for destinations which rules cannot tell apart: pods with
/// the same labels, addresses under a prefix, a port of a service, names that the same selectors
/// match.
#[derive(Debug, Args)]
pub(crate) struct Identity {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the identities in use, and those with fixed meanings.
    #[command(after_long_help = "\
Examples:
  fqdnctl identity list
  fqdnctl identity list -o json | jq '.[] | select(.kind == \"prefix\")'")]
    List,
}

impl Identity {
    pub fn run(&self, client: &Client, output: &Output) -> anyhow::Result<()> {
        match self.command {
            Command::List => list(client, output),
        }
    }
}

fn list(client: &Client, output: &Output) -> anyhow::Result<()> {
    let identities: Vec<api::Identity> = client.read(api::path::IDENTITIES)?;
    if output.is_json() {
        return Ok(output.json(&identities)?);
    }
    let rows = identities.iter().map(|own| {
        vec![Cell::new(own.identity.0), Cell::new(own.kind.as_str()), Cell::list(&own.meaning)]
    });
    Ok(output.table(&["IDENTITY", "KIND", "MEANING"], rows.collect(), "No identities found.")?)
}
