//! `fqdnctl cache`.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::bail;
use api::{CacheEntry, CacheQuery, CleanQuery, Cleaned, EndpointRef, NameEntry};
use clap::{Args, Subcommand};
use model::Pattern;

use crate::client::Client;
use crate::output::{Cell, Output, Tone, duration};

/// Look at resolved names and addresses, and forget them.
///
/// Each address belongs to the endpoint that resolved it. `list` shows them with their names,
/// `names` shows which selectors of policies a name falls under.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  fqdnctl cache list -e prod/web
  fqdnctl cache names")]
pub(crate) struct Cache {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List resolved addresses.
    ///
    /// Every address belongs to the endpoint that resolved it; nobody else gains it. EXPIRES is
    /// the time until it opens no new connection, negative where that is past. STATE tells why it
    /// is there: `leased` while it may be used, `kept` where a living connection still uses it
    /// after its time, `expired` where it is about to go, and `pending` while it is not in the
    /// kernel's maps yet.
    #[command(after_long_help = "\
Examples:
  fqdnctl cache list
  fqdnctl cache list -e prod/web
  fqdnctl cache list -e 12 -p '*.example.com'
  fqdnctl cache list -o json | jq '.[] | select(.keptAlive)'")]
    List {
        /// Only what this endpoint resolved: its number, or NAMESPACE/NAME.
        #[arg(short, long)]
        endpoint: Option<EndpointRef>,
        /// Only names that this matchPattern matches.
        #[arg(short, long, visible_alias = "matchpattern", value_parser = pattern)]
        pattern: Option<String>,
    },
    /// Forget resolved addresses.
    ///
    /// Endpoints must resolve the names again before they open new connections to the addresses.
    /// Asks first, unless --force is given; without a terminal to ask on, --force is needed.
    #[command(after_long_help = "\
Examples:
  fqdnctl cache clean
  fqdnctl cache clean -p '**.example.com' -f")]
    Clean {
        /// Only names that this matchPattern matches.
        #[arg(short, long, visible_alias = "matchpattern", value_parser = pattern)]
        pattern: Option<String>,
        /// Do not ask.
        #[arg(short, long)]
        force: bool,
    },
    /// List resolved names and the selectors that they fall under.
    #[command(after_long_help = "\
Examples:
  fqdnctl cache names
  fqdnctl cache names -o json | jq '.[] | select(.selectors == [])'")]
    Names,
}

impl Cache {
    pub fn run(self, client: &Client, output: &Output) -> anyhow::Result<()> {
        match self.command {
            Command::List { endpoint, pattern } => {
                list(client, output, &CacheQuery { endpoint, pattern })
            }
            Command::Clean { pattern, force } => {
                clean(client, output, &CleanQuery { pattern }, force)
            }
            Command::Names => names(client, output),
        }
    }
}

/// Refuses a pattern here, with the reason, before the daemon is asked.
fn pattern(text: &str) -> Result<String, String> {
    match Pattern::match_pattern(text) {
        Ok(pattern) => Ok(pattern.as_str().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn list(client: &Client, output: &Output, query: &CacheQuery) -> anyhow::Result<()> {
    let entries: Vec<CacheEntry> = client.read(&api::path::cache(query))?;
    if output.is_data() {
        return Ok(output.data(&entries)?);
    }
    let mut header = vec!["ENDPOINT", "NAME", "ADDRESS", "EXPIRES", "STATE"];
    if output.is_wide() {
        header.extend(["TTL", "ENFORCED"]);
    }
    let rows = entries.iter().map(|entry| row(entry, output.is_wide())).collect();
    Ok(output.table(&header, rows, "No addresses found.")?)
}

fn row(entry: &CacheEntry, wide: bool) -> Vec<Cell> {
    let (word, tone) = state(entry);
    let mut row = vec![
        Cell::new(&entry.endpoint),
        Cell::new(&entry.name),
        Cell::new(entry.address),
        Cell::new(duration(entry.expires_in_seconds)),
        Cell::toned(word, tone),
    ];
    if wide {
        row.push(Cell::or_none(entry.ttl));
        row.push(Cell::new(if entry.enforced { "yes" } else { "no" }));
    }
    row
}

/// Why an address is there, in a word.
pub(crate) fn state(entry: &CacheEntry) -> (&'static str, Tone) {
    match (entry.enforced, entry.expires_in_seconds > 0, entry.kept_alive) {
        (false, _, _) => ("pending", Tone::Warning),
        (true, true, _) => ("leased", Tone::Good),
        (true, false, true) => ("kept", Tone::Warning),
        (true, false, false) => ("expired", Tone::Faint),
    }
}

fn clean(client: &Client, output: &Output, query: &CleanQuery, force: bool) -> anyhow::Result<()> {
    if !force && !confirmed(query)? {
        bail!("not confirmed, so nothing was forgotten");
    }
    let cleaned: Cleaned = client.delete(&api::path::clean(query))?;
    if output.is_data() {
        return Ok(output.data(&cleaned)?);
    }
    let noun = if cleaned.count == 1 { "address" } else { "addresses" };
    Ok(output.lines([format!("{} {noun} forgotten.", cleaned.count)])?)
}

fn confirmed(query: &CleanQuery) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("there is no terminal to ask on; use --force to forget addresses without a question");
    }
    match &query.pattern {
        Some(pattern) => eprint!("Forget the addresses of all names matching `{pattern}`? [y/N] "),
        None => eprint!("Forget all resolved addresses of all endpoints? [y/N] "),
    }
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn names(client: &Client, output: &Output) -> anyhow::Result<()> {
    let names: Vec<NameEntry> = client.read(api::path::NAMES)?;
    if output.is_data() {
        return Ok(output.data(&names)?);
    }
    let rows = names.iter().map(|entry| {
        vec![Cell::new(&entry.name), Cell::list(&entry.endpoints), Cell::list(&entry.selectors)]
    });
    Ok(output.table(&["NAME", "ENDPOINTS", "SELECTORS"], rows.collect(), "No names found.")?)
}
