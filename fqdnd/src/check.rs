//! `fqdnd check`: what this machine has of what the daemon needs, and what would not be enforced
//! by the configuration.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use kubernetes::Inventory;
use serde::Serialize;

use crate::config::{Config, Keys};
use crate::{bypass, settings};

/// How many audited policies are named.
const MAX_NAMED: usize = 8;

/// What to look at, and how to print.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", env = "FQDND_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    keys: Keys,
    /// The form of the report.
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Lines for people.
    Table,
    /// An array of JSON objects.
    Json,
}

/// One line of the report.
#[derive(Serialize)]
struct Line {
    status: &'static str,
    subject: String,
    detail: String,
}

/// Prints the report; fails if anything needed is missing.
pub fn run(args: Args) -> ExitCode {
    let found = Config::load(args.config.as_deref(), args.keys).and_then(|config| lines(&config));
    let lines = match found {
        Ok(lines) => lines,
        Err(error) => {
            eprintln!("fqdnd: {}", crate::told(&error));
            return ExitCode::FAILURE;
        }
    };
    let printed = match args.output {
        Output::Table => print_table(&lines),
        Output::Json => print_json(&lines),
    };
    if let Err(error) = printed.map_err(anyhow::Error::from)
        && !crate::is_broken_pipe(&error)
    {
        eprintln!("fqdnd: {error}");
        return ExitCode::FAILURE;
    }
    let missing = lines.iter().any(|line| line.status == MISSING);
    if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

const OK: &str = "ok";
const NOTE: &str = "note";
const MISSING: &str = "missing";

fn lines(config: &Config) -> anyhow::Result<Vec<Line>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (machine, node) = runtime.block_on(async {
        let watcher = host::watch(host::WatchOptions::default()).await;
        let node = watcher.map(|watcher| watcher.snapshots().borrow().clone());
        (host::Machine::observe().await, node)
    });
    let node = node?;
    let findings = machine.findings().into_iter().map(|finding| Line {
        status: match finding.severity {
            host::Severity::Good => OK,
            host::Severity::Note => NOTE,
            host::Severity::Fault => MISSING,
        },
        subject: finding.subject.to_owned(),
        detail: finding.text,
    });
    let features = bpf::features().into_iter().map(|feature| Line {
        status: match (feature.present, feature.required) {
            (true, _) => OK,
            (false, false) => NOTE,
            (false, true) => MISSING,
        },
        subject: feature.name.to_owned(),
        detail: match feature.present {
            true => feature.detail,
            false => format!("{}; since kernel {}", feature.detail, feature.since),
        },
    });
    let past = ways_past(&node, config);
    Ok(findings.chain(features).chain(past).chain([audited(config)]).collect())
}

/// What of the policies is audited, so that it drops nothing.
fn audited(config: &Config) -> Line {
    let line = |status, detail| Line { status, subject: "audit".to_owned(), detail };
    if config.audit {
        return line(NOTE, "every policy is audited: nothing is enforced".to_owned());
    }
    if config.kubernetes.is_watched() {
        let told = "by their annotation alone; `fqdnctl policy list` tells which of the cluster's";
        return line(OK, format!("policies are audited {told}"));
    }
    let policies = match Inventory::read(&config.manifests, settings::policies(config)) {
        Ok(inventory) => inventory.policies,
        Err(error) => return line(NOTE, format!("policies cannot be looked at: {error}")),
    };
    let audited = policies.values().filter(|policy| policy.audited);
    let names: Vec<String> = audited.map(|policy| policy.key.to_string()).collect();
    if names.is_empty() {
        return line(OK, "no policy is audited".to_owned());
    }
    line(NOTE, format!("audited, so that they drop nothing: {}", named(&names)))
}

fn named(names: &[String]) -> String {
    let shown = names.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(MAX_NAMED) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

/// Ways that packets of pods take past the programs, by what stands on the node's interfaces now.
fn ways_past(node: &host::Node, config: &Config) -> Vec<Line> {
    let line = |status, detail| Line { status, subject: "other programs".to_owned(), detail };
    let mut survey = bpf::Survey::of_pins(&config.bpf.pin_directory);
    let sight = match survey.look(node.links().map(|link| link.index)) {
        Ok(sight) => sight,
        Err(error) => return vec![line(NOTE, format!("they cannot be looked at: {error}"))],
    };
    let found = bypass::judge(&sight, node, &bypass::Unanswered::new());
    if found.is_empty() {
        return vec![line(OK, "none leads packets of pods past fqdnd".to_owned())];
    }
    found.iter().map(|own| line(NOTE, own.to_string())).collect()
}

fn print_json(lines: &[Line]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, lines)?;
    writeln!(out)
}

fn print_table(lines: &[Line]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let width = lines.iter().map(|line| line.subject.len()).max().unwrap_or(0);
    for line in lines {
        let (on, off) = match (colour, line.status) {
            (false, _) => ("", ""),
            (true, OK) => ("\x1b[32m", "\x1b[0m"),
            (true, NOTE) => ("\x1b[33m", "\x1b[0m"),
            (true, _) => ("\x1b[31m", "\x1b[0m"),
        };
        writeln!(out, "{on}{:<8}{off}{:<width$}  {}", line.status, line.subject, line.detail)?;
    }
    let missing = lines.iter().filter(|line| line.status == MISSING).count();
    match missing {
        0 => writeln!(out, "\nfqdnd can run here."),
        1 => writeln!(out, "\n1 thing that fqdnd needs is missing."),
        _ => writeln!(out, "\n{missing} things that fqdnd needs are missing."),
    }
}
