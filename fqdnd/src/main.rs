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
mod logs;
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

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

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
Every key of the configuration file is a flag and the other way round: the key `dns.maxTtl` is \
`--dns-max-ttl`. A flag beats the file, the file beats the default.

Files:
  /etc/fqdnd/fqdnd.yaml    the configuration, if --config names no other
  /run/fqdnd/fqdnd.sock    the admin socket
  /run/fqdnd/hubble.sock   the Hubble API, which serves flows
  /sys/fs/bpf/fqdnd        pinned maps and links

Examples:
  fqdnd --manifests /etc/fqdnd/manifests
  fqdnd check
  fqdnd detach

Exit status: 0 after a clean stop, 1 on an error, 2 on a wrong command line.";

#[derive(Parser)]
#[command(name = "fqdnd", version, about = "DNS-aware egress enforcement for this node")]
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
    /// Tests what this machine has of what fqdnd needs, and says what is missing.
    ///
    /// Exit status: 0 if all that is needed is there, 1 if not.
    Check(check::Args),
    /// Takes programs, maps, links, rules and routes away: nothing is enforced any more.
    ///
    /// The daemon must not be running.
    Detach(Box<detach::Args>),
    /// Prints a shell's completion script.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => run(cli.config.as_deref(), cli.keys),
        Some(Command::Check(args)) => return check::run(&args),
        Some(Command::Detach(args)) => detach::run(*args),
        Some(Command::Completion { shell }) => {
            clap_complete::generate(shell, &mut Cli::command(), "fqdnd", &mut std::io::stdout());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fqdnd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: Option<&Path>, flags: Keys) -> anyhow::Result<()> {
    let config = Config::load(path, flags)?;
    logs::start(&config.log)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(daemon::run(config))
}
