//! `fqdnctl identity`.

use anyhow::anyhow;
use clap::{Args, Subcommand};
use model::Identity as Number;

use crate::client::Client;
use crate::output::{Cell, Output};

/// Look at identities.
///
/// An identity is a number that stands for destinations which rules cannot tell apart: pods with
/// the same labels, addresses under a prefix, a port of a service, names that the same selectors
/// match. Flows and maps name destinations by it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  fqdnctl identity list
  fqdnctl identity get 257")]
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
    /// Show what one identity stands for.
    #[command(after_long_help = "\
Examples:
  fqdnctl identity get 257
  fqdnctl identity get 257 -o json | jq -r '.meaning[]'")]
    Get {
        /// The identity's number.
        identity: u32,
    },
}

impl Identity {
    pub fn run(&self, client: &Client, output: &Output) -> anyhow::Result<()> {
        let identities: Vec<api::Identity> = client.read(api::path::IDENTITIES)?;
        match self.command {
            Command::List => list(&identities, output),
            Command::Get { identity } => get(&identities, Number(identity), output),
        }
    }
}

fn list(identities: &[api::Identity], output: &Output) -> anyhow::Result<()> {
    if output.is_data() {
        return Ok(output.data(&identities)?);
    }
    let rows = identities.iter().map(|own| {
        vec![Cell::new(own.identity.0), Cell::new(own.kind.as_str()), Cell::list(&own.meaning)]
    });
    Ok(output.table(&["IDENTITY", "KIND", "MEANING"], rows.collect(), "No identities found.")?)
}

fn get(identities: &[api::Identity], wanted: Number, output: &Output) -> anyhow::Result<()> {
    let identity = identities.iter().find(|own| own.identity == wanted);
    let identity = identity.ok_or_else(|| anyhow!("no identity `{}` is in use here", wanted.0))?;
    if output.is_data() {
        return Ok(output.data(&identity)?);
    }
    Ok(output.pairs(vec![
        ("Identity", Cell::new(identity.identity.0)),
        ("Kind", Cell::new(identity.kind.as_str())),
        ("Meaning", Cell::list(&identity.meaning)),
    ])?)
}
