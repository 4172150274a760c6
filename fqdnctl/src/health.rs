//! `fqdnctl health`.

use std::process::ExitCode;

use clap::Args;

use crate::client::Client;
use crate::output::{Output, unless_closed};

/// Show whether the daemon does its work, as probes ask.
///
/// A daemon is ready when the newest policies are in force, or when it stands by for another one
/// that still enforces here, and has all that it needs to take over. Lists of a cluster that cannot
/// be followed are named; what was read of them stays in force, so that the daemon stays ready.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  fqdnctl health
  fqdnctl health --live

Exit codes:
  0  the daemon is ready; with --live: it goes on
  1  it is not, or it does not answer")]
pub(crate) struct Health {
    /// Ask only whether the daemon goes on; one that does not should be ended and started anew.
    #[arg(long)]
    live: bool,
}

impl Health {
    pub fn run(&self, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
        let health: api::Health = client.read(api::path::HEALTH)?;
        let reasons = health.reasons.iter().map(|reason| format!("  {reason}"));
        unless_closed(match output.is_data() {
            true => output.data(&health),
            false => output.lines(std::iter::once(line(&health)).chain(reasons)),
        })?;
        let good = if self.live { health.live } else { health.ready };
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn line(health: &api::Health) -> String {
    let readiness = match (health.live, health.ready) {
        (false, _) => "hangs",
        (true, false) => "not ready",
        (true, true) => "ready",
    };
    format!("{}, {readiness}", health.phase)
}
