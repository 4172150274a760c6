//! `fqdnctl top`.

mod activity;
mod board;
mod live;
mod once;
mod rate;
#[cfg(test)]
mod samples;
mod screen;
mod sources;
mod state;
mod view;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::runtime;

use crate::client::Client;
use crate::observe::server::Server;
use crate::output::Output;

use board::{Column, Order};
use state::State;
use view::Palette;

/// The exit code of flags that make no sense together.
const WRONG_USAGE: u8 = 2;
/// The width of text that goes to no terminal.
const WIDTH: u16 = 100;

/// Watch endpoints, names and drops, live.
///
/// Three lists: endpoints with their queries, connections and drops a second; the names that are
/// asked for and connected to most; and the latest drops with their reasons. An endpoint can be
/// opened to see the policies that select it, what they select, and its cache. `?` explains the
/// keys.
///
/// Rates are over the last 10 seconds. Connections and drops are counted by the kernel, each one;
/// queries and names are what flows tell, and what was lost of flows is said above. Times are UTC.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  fqdnctl top
  fqdnctl top --filter prod/ --sort drops
  fqdnctl top --once                   a frame as text
  fqdnctl top --once -o json | jq '.endpoints[] | select(.dropsPerSecond > 0)'

Exit codes:
  0  it was shown, until it was ended by a key, SIGINT, SIGTERM or SIGHUP
  1  the daemon cannot be reached (with --once), or the terminal cannot be used, or takes
     nothing any more when it is to be given back
  2  wrong usage")]
pub(crate) struct Top {
    /// Show one frame as text, or with -o json as JSON, and end.
    #[arg(long)]
    once: bool,
    /// How often to look; with --once, how long.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Show only what contains this text.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    filter: String,
    /// What endpoints are sorted by: the most first.
    #[arg(long, value_name = "COLUMN", value_enum, default_value_t)]
    sort: Column,
    /// Sort the other way round.
    #[arg(long)]
    reverse: bool,
    #[command(flatten)]
    server: Server,
}

impl Top {
    pub fn run(self, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
        if !self.once && output.is_data() {
            eprintln!("Error: JSON and YAML have an end: with -o json or yaml use --once");
            return Ok(ExitCode::from(WRONG_USAGE));
        }
        if !self.once && !io::stdout().is_terminal() {
            eprintln!("Error: standard output is no terminal: use --once");
            return Ok(ExitCode::from(WRONG_USAGE));
        }
        let order = Order { column: self.sort, reversed: self.reverse };
        let mut state = State::new(self.filter, order);
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        if self.once {
            runtime.block_on(once::look(&mut state, client, &self.server, self.interval))?;
            once::print(&state, width(), output)?;
        } else {
            let palette = Palette { colored: output.is_colored() };
            runtime.block_on(live::run(state, client, &self.server, self.interval, palette))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let sensible = Duration::from_millis(100)..=Duration::from_secs(60);
    if sensible.contains(&interval) { Ok(interval) } else { Err("write 100ms to 1m".to_owned()) }
}

/// The width of the terminal, if standard output is one.
fn width() -> u16 {
    let size = io::stdout().is_terminal().then(crossterm::terminal::size);
    size.and_then(Result::ok).map_or(WIDTH, |(width, _)| width.max(1))
}
