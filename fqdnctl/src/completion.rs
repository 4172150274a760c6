//! `fqdnctl completion`: needs no daemon. The scripts ask one for names by `fqdnctl complete`, and
//! do without where none answers.

mod names;
mod script;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Cli;
use crate::client::Client;
use names::Asked;

/// How many names are offered.
const MAX_NAMES: usize = 1000;

/// Print a script that makes a shell complete fqdnctl's commands.
///
/// In bash, zsh and fish, names of endpoints, policies and namespaces are completed too, as fqdnd
/// knows them, where it answers at once.
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

/// Print the names that may stand for the last of these words, one a line.
#[derive(Debug, Args)]
pub(crate) struct Complete {
    /// The words behind the program's name.
    #[arg(last = true)]
    words: Vec<OsString>,
}

impl Completion {
    pub fn run(&self) -> io::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "fqdnctl", &mut script);
        let script = script::asking(self.shell, &String::from_utf8_lossy(&script), &built());
        io::stdout().write_all(script.as_bytes())
    }
}

impl Complete {
    /// Whatever goes wrong, nothing is said: a shell would show it in the middle of a line.
    pub fn run(&self, client: &Client) -> io::Result<()> {
        let words: Vec<_> = self.words.iter().map(|word| word.to_string_lossy()).collect();
        let root = built();
        let Some(asked) = Asked::of(&root, &words) else { return Ok(()) };
        let client = asked.socket.map_or_else(|| client.clone(), |own| Client::new(own.as_ref()));
        let names = asked.names.known(&client).unwrap_or_default();
        let fitting = names.iter().filter(|name| name.starts_with(asked.beginning));
        let mut out = io::stdout().lock();
        fitting.take(MAX_NAMES).try_for_each(|name| writeln!(out, "{name}"))
    }
}

/// The commands, each with what all of them take.
fn built() -> clap::Command {
    let mut root = Cli::command();
    root.build();
    root
}
