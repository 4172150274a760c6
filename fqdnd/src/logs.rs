//! Structured logs on standard error.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Logs};

/// Starts logging; colour only on a terminal, and times only where no journal adds them.
pub fn start(keys: &Logs) -> Result<()> {
    // The loader tells every relocation at debug; whoever wants that names it.
    let level = format!("aya=warn,aya_obj=warn,{}", keys.level);
    let filter = EnvFilter::try_new(level)
        .with_context(|| format!("log.level: `{}` is no filter", keys.level))?;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour);
    match (keys.format, std::env::var_os("JOURNAL_STREAM")) {
        (LogFormat::Json, _) => logs.json().init(),
        (LogFormat::Text, Some(_)) => logs.without_time().init(),
        (LogFormat::Text, None) => logs.init(),
    }
    Ok(())
}
