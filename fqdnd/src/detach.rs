//! `fqdnd detach`: takes everything away again.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::config::{Config, Keys};

/// What to detach.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration file of the daemon whose state is to go.
    #[arg(short, long, value_name = "FILE", env = "FQDND_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    keys: Keys,
}

/// Takes programs, maps, links, rules and routes away.
pub fn run(args: Args) -> Result<()> {
    let config = Config::load(args.config.as_deref(), args.keys)?;
    if std::os::unix::net::UnixStream::connect(&config.socket).is_ok() {
        bail!("fqdnd answers at {}: stop it first", config.socket.display());
    }
    let pin = &config.bpf.pin_directory;
    let _lock = bpf::lock(pin)?;
    let redirect = crate::settings::redirect(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(redirect.remove()).context("rules and routes cannot be removed")?;
    let removed = bpf::remove(pin)
        .with_context(|| format!("what is pinned at {} cannot be removed", pin.display()))?;
    let interfaces = counted(removed.interfaces.len(), "interface");
    let (maps, told) = (counted(removed.maps, "map"), "nothing is enforced any more");
    Ok(writeln!(io::stdout(), "detached: {interfaces}, {maps}; {told}")?)
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
