//! `fqdnctl manual`: needs no daemon.

use std::io;
use std::path::PathBuf;

use clap::{Args, CommandFactory};

use crate::Cli;

/// Write the manual's pages into a directory.
#[derive(Debug, Args)]
pub(crate) struct Manual {
    /// The directory.
    directory: PathBuf,
}

impl Manual {
    pub fn run(&self) -> io::Result<()> {
        ::manual::write(Cli::command(), ::manual::COMMANDS, &self.directory)
    }
}
