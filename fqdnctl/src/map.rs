//! `fqdnctl map`.

use api::{MapInfo, MapRow};
use clap::{Args, Subcommand};

use crate::client::Client;
use crate::output::{Cell, Output, Tone};

/// Look into the kernel's maps.
///
/// What the programs read to judge packets: rows of verdict tables, resolved addresses, prefixes,
/// services, flows. ENTRIES of `list` is yellow where a map is nearly full.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  fqdnctl map list
  fqdnctl map dump leases")]
pub(crate) struct Map {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the maps, their kinds, and how full they are.
    #[command(after_long_help = "\
Examples:
  fqdnctl map list")]
    List,
    /// Print the entries of one map, decoded.
    #[command(after_long_help = "\
Examples:
  fqdnctl map dump leases
  fqdnctl map dump rows -o json")]
    Dump {
        /// The map's name, as `map list` shows it.
        name: String,
    },
}

impl Map {
    pub fn run(&self, client: &Client, output: &Output) -> anyhow::Result<()> {
        match &self.command {
            Command::List => list(client, output),
            Command::Dump { name } => dump(client, output, name),
        }
    }
}

fn list(client: &Client, output: &Output) -> anyhow::Result<()> {
    let maps: Vec<MapInfo> = client.read(api::path::MAPS)?;
    if output.is_data() {
        return Ok(output.data(&maps)?);
    }
    let rows = maps.iter().map(|map| {
        let tone = if map.is_nearly_full() { Tone::Warning } else { Tone::Plain };
        vec![
            Cell::new(&map.name),
            Cell::new(&map.kind),
            Cell::toned(map.entries, tone),
            Cell::new(map.size),
        ]
    });
    Ok(output.table(&["NAME", "KIND", "ENTRIES", "SIZE"], rows.collect(), "No maps found.")?)
}

fn dump(client: &Client, output: &Output, name: &str) -> anyhow::Result<()> {
    let rows: Vec<MapRow> = client.read(&api::path::map(name))?;
    if output.is_data() {
        return Ok(output.data(&rows)?);
    }
    let rows = rows.iter().map(|row| vec![Cell::new(&row.key), Cell::new(&row.value)]).collect();
    Ok(output.table(&["KEY", "VALUE"], rows, "The map is empty.")?)
}
