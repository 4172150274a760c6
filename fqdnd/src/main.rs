//! The node daemon: `fqdnd` watches pods and policies, answers their lookups, and keeps the
//! kernel's verdicts in step.
// Whether all that tasks hold may go from thread to thread is asked of every part of every part.
#![recursion_limit = "256"]

mod admin;
mod attached;
mod attachments;
mod bypass;
mod check;
mod clock;
mod daemon;
mod detach;
mod health;
mod l7;
mod listening;
mod logs;
mod memory;
mod metering;
mod metrics;
mod names;
mod observer;
mod page;
mod pending;
mod pins;
mod reconcile;
mod recording;
mod report;
mod settings;
mod source;
mod takeover;
mod teaching;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use fqdnd::config;
use fqdnd::config::{Config, Keys};

const LONG_ABOUT: &str = "\
fqdnd enforces the egress side of CiliumNetworkPolicy on this node: it answers each pod's DNS \
lookups through a transparent proxy that lets pass only the names its policies allow, puts the \
answers' addresses into the kernel before the pod has them, and judges the pod's packets at its \
veth.

Programs, maps and links are pinned. When the daemon stops or dies, what is enforced stays \
enforced; `fqdnd detach` takes everything away.";

const AFTER_HELP: &str = "\
Every key of the configuration file is a flag and the other way round: the key `dns.maxTtl` is
`--dns-max-ttl`. A flag beats the file, the file beats the default.

Files:
  /etc/fqdnd/fqdnd.yaml    the configuration, if --config names no other
  /run/fqdnd/fqdnd.sock    the admin socket
  /run/fqdnd/hubble.sock   the Hubble API, which serves flows
  /var/lib/fqdnd           what a restart needs beside what is pinned
  /sys/fs/bpf/fqdnd        pinned maps and links

Examples:
  fqdnd check                                what this machine has of what is needed
  fqdnd --manifests /etc/fqdnd/manifests     in the foreground; `systemctl start fqdnd` otherwise
  fqdnd detach                               nothing is enforced any more

Exit codes:
  0  a clean stop
  1  an error
  2  wrong usage";

#[derive(Parser)]
#[command(name = "fqdnd", version, about = "Enforce egress by names on this node")]
#[command(max_term_width = 100)]
#[command(long_about = LONG_ABOUT, after_long_help = AFTER_HELP)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", env = "FQDND_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    keys: Keys,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Test what this machine has of what fqdnd needs, and say what is missing.
    ///
    /// It says too what by the configuration would not be enforced: which policies are audited.
    #[command(after_long_help = "\
Examples:
  fqdnd check
  fqdnd check --config fqdnd.yaml
  fqdnd check -o json | jq '.[] | select(.status == \"missing\")'

Exit codes:
  0  all that is needed is there
  1  something is missing")]
    Check(Box<check::Args>),
    /// Take programs, maps, links, rules and routes away: nothing is enforced any more.
    ///
    /// The daemon must not be running. Of the configuration, what counts is where maps are pinned,
    /// and the marks, table and priority of redirects.
    #[command(after_long_help = "\
Examples:
  systemctl stop fqdnd && fqdnd detach")]
    Detach(Box<detach::Args>),
    /// Print a script that makes a shell complete fqdnd's commands.
    #[command(after_long_help = "\
Examples:
  source <(fqdnd completion bash)")]
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual's pages into a directory.
    #[command(hide = true)]
    Manual {
        /// The directory.
        directory: PathBuf,
    },
}

fn main() -> ExitCode {
    memory::keep_together();
    let cli = Cli::parse();
    let result = match cli.command {
        None => run(cli.config.as_deref(), cli.keys),
        Some(Command::Check(args)) => return check::run(*args),
        Some(Command::Detach(args)) => detach::run(*args),
        Some(Command::Completion { shell }) => complete(shell),
        Some(Command::Manual { directory }) => {
            manual::write(Cli::command(), manual::DAEMONS, &directory).map_err(Into::into)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fqdnd: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// Whether whoever read the output has seen enough, as `head` has.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn complete(shell: Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "fqdnd", &mut script);
    Ok(io::stdout().write_all(&script)?)
}

/// An error with its causes, each told once: some errors tell theirs themselves.
fn told(error: &anyhow::Error) -> String {
    error.chain().skip(1).map(ToString::to_string).fold(error.to_string(), |told, cause| {
        if told.ends_with(&cause) { told } else { format!("{told}: {cause}") }
    })
}

fn run(path: Option<&Path>, flags: Keys) -> anyhow::Result<()> {
    let config = Config::load(path, flags)?;
    logs::start(&config.log)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(daemon::run(config))
}
