//! `fqdnctl endpoint`.

use std::collections::BTreeMap;

use anyhow::anyhow;
use api::EndpointRef;
use clap::{Args, Subcommand};

use crate::client::Client;
use crate::output::{Cell, Output, Tone};

/// Look at endpoints.
///
/// An endpoint is a pod, or a plain network interface that a manifest describes as one. It is
/// open while no policy with egress rules selects it, enforced as soon as one does, audited if all
/// that do are audited, and denied while its interface cannot be bound as the manifest says.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  fqdnctl endpoint list
  fqdnctl endpoint get prod/web")]
pub(crate) struct Endpoint {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List all endpoints.
    ///
    /// NAMES counts the names that the endpoint has resolved, LEASES the addresses that these opened
    /// for it, and DROPS its packets that were dropped, for all reasons together. AUDITS of -o wide
    /// counts those that passed only because policies are audited.
    #[command(after_long_help = "\
Examples:
  fqdnctl endpoint list
  fqdnctl endpoint list -o wide
  fqdnctl endpoint list -o json | jq '.[] | select(.enforcement == \"denied\")'")]
    List,
    /// Show one endpoint with all that is known of it.
    #[command(after_long_help = "\
Examples:
  fqdnctl endpoint get prod/web
  fqdnctl endpoint get 7 -o json")]
    Get {
        /// The endpoint: its number, or NAMESPACE/NAME.
        endpoint: EndpointRef,
    },
}

impl Endpoint {
    pub fn run(&self, client: &Client, output: &Output) -> anyhow::Result<()> {
        match &self.command {
            Command::List => list(client, output),
            Command::Get { endpoint } => get(client, output, endpoint),
        }
    }
}

fn list(client: &Client, output: &Output) -> anyhow::Result<()> {
    let endpoints: Vec<api::Endpoint> = client.read(api::path::ENDPOINTS)?;
    if output.is_data() {
        return Ok(output.data(&endpoints)?);
    }
    let mut header = vec!["ID", "NAMESPACE", "NAME", "ENFORCEMENT", "INTERFACE", "ADDRESSES"];
    header.extend(["POLICIES", "NAMES", "LEASES", "DROPS"]);
    if output.is_wide() {
        header.extend(["AUDITS", "IDENTITY", "TABLE", "GENERATION", "BRIDGE", "LABELS"]);
    }
    let rows = endpoints.iter().map(|endpoint| row(endpoint, output.is_wide())).collect();
    Ok(output.table(&header, rows, "No endpoints found.")?)
}

fn get(client: &Client, output: &Output, wanted: &EndpointRef) -> anyhow::Result<()> {
    let endpoints: Vec<api::Endpoint> = client.read(api::path::ENDPOINTS)?;
    let is_wanted = |endpoint: &&api::Endpoint| match wanted {
        EndpointRef::Id(id) => endpoint.id == Some(*id),
        EndpointRef::Name(name) => endpoint.full_name() == *name,
    };
    let endpoint = endpoints.iter().find(is_wanted);
    let endpoint = endpoint.ok_or_else(|| anyhow!("no endpoint `{wanted}` on this node"))?;
    if output.is_data() {
        return Ok(output.data(&endpoint)?);
    }
    let drops = counts(&endpoint.drops);
    let audits = counts(&endpoint.audits);
    let over_limits = counts(&endpoint.over_limits);
    Ok(output.pairs(vec![
        ("Name", Cell::new(endpoint.full_name())),
        ("ID", Cell::or_none(endpoint.id)),
        ("Enforcement", enforcement(endpoint)),
        ("Interface", Cell::or_none(endpoint.interface.as_ref())),
        ("Bridge", Cell::or_none(endpoint.bridge.as_ref())),
        ("Addresses", Cell::list(&endpoint.addresses)),
        ("Identity", Cell::new(endpoint.identity)),
        ("Labels", Cell::list(&endpoint.labels)),
        ("Policies", Cell::list(&endpoint.policies)),
        ("Audited", Cell::list(&endpoint.audited_policies)),
        ("Table", Cell::or_none(endpoint.table)),
        ("Generation", Cell::new(endpoint.generation)),
        ("Names", Cell::new(endpoint.names)),
        ("Leases", Cell::new(endpoint.leases)),
        ("Over limits", Cell::list(over_limits)),
        ("Drops", Cell::list(drops)),
        ("Audits", Cell::list(audits)),
    ])?)
}

fn counts(counts: &BTreeMap<String, u64>) -> impl Iterator<Item = String> {
    counts.iter().map(|(name, count)| format!("{name}={count}"))
}

fn row(endpoint: &api::Endpoint, wide: bool) -> Vec<Cell> {
    let mut row = vec![
        Cell::or_none(endpoint.id),
        Cell::new(&endpoint.namespace),
        Cell::new(&endpoint.name),
        enforcement(endpoint),
        Cell::or_none(endpoint.interface.as_ref()),
        Cell::list(&endpoint.addresses),
        Cell::new(endpoint.policies.len()),
        Cell::new(endpoint.names),
        Cell::new(endpoint.leases),
        Cell::bad_count(endpoint.drops.values().sum()),
    ];
    if wide {
        row.extend([
            Cell::new(endpoint.audits.values().sum::<u64>()),
            Cell::new(endpoint.identity),
            Cell::or_none(endpoint.table),
            Cell::new(endpoint.generation),
            Cell::or_none(endpoint.bridge.as_ref()),
            Cell::list(&endpoint.labels),
        ]);
    }
    row
}

fn enforcement(endpoint: &api::Endpoint) -> Cell {
    let tone = match endpoint.enforcement {
        api::Enforcement::Open => Tone::Faint,
        api::Enforcement::Enforced => Tone::Good,
        api::Enforcement::Audited => Tone::Warning,
        api::Enforcement::Denied => Tone::Bad,
    };
    match &endpoint.reason {
        Some(reason) => Cell::toned(format!("{} ({reason})", endpoint.enforcement), tone),
        None => Cell::toned(endpoint.enforcement, tone),
    }
}
