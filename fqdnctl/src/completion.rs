//! `fqdnctl completion`: needs no daemon.

use std::io::{self, Write};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Cli;

/// Print a script that makes a shell complete fqdnctl's commands.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  source <(fqdnctl completion bash)
  fqdnctl completion zsh > \"${fpath[1]}/_fqdnctl\"
  fqdnctl completion fish > ~/.config/fish/completions/fqdnctl.fish")]
pub(crate) struct Completion {
    /// The shell.
    shell: Shell,
}

impl Completion {
    pub fn run(&self) -> io::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "fqdnctl", &mut script);
        io::stdout().write_all(&script)
    }
}
