//! Measures what fqdnd costs, beside what one would use instead: `make bench`.
//!
//! Everything runs in network namespaces and pin directories of its own, which go with it. A table
//! goes to the terminal, and all figures to `target/bench/figures.json`.

mod datapath;
mod dns;
mod empty;
mod figures;
mod l7;
mod learning;
mod policies;
mod process;
mod recording;
mod scale;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use serde::Serialize;

use figures::Table;

/// Measures what fqdnd costs: the DNS path beside dnsdist and a bare forwarder, recording flows, the
/// L7 proxy beside nginx, the datapath by the size of its tables, learning by the number of
/// selectors, policies by the number of rules, and large clusters. To be run as root.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// What is measured: everything if none is named
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// How many rounds the DNS proxies take turns in
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// How long each of a proxy's loads lasts in a round, in milliseconds; dnsperf's is rounded up
    /// to seconds
    #[arg(long, default_value_t = 1500)]
    time: u64,
    /// How many DNS workers the daemon has; the other proxies have one thread for queries
    #[arg(long, default_value_t = 1)]
    workers: u32,
    /// How many pods the largest cluster has
    #[arg(long, default_value_t = 150_000)]
    pods: u32,
    /// Where the figures go as JSON
    #[arg(long, default_value = "target/bench/figures.json")]
    json: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Forwards DNS queries and does nothing else
    #[command(hide = true)]
    Forward {
        /// Where to listen
        listen: SocketAddrV4,
        /// Where to forward to
        server: SocketAddrV4,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The DNS proxies
    Dns,
    /// The programs
    Datapath,
    /// Answers
    Learning,
    /// Policies
    Policies,
    /// Recording flows of DNS
    Recording,
    /// A large cluster
    Scale,
    /// The L7 proxy
    L7,
}

/// All figures, as the file has them.
#[derive(Debug, Default, Serialize)]
struct Figures {
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<BTreeMap<&'static str, dns::Figures>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datapath: Option<Vec<datapath::Figures>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    learning: Option<Vec<learning::Figures>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policies: Option<Vec<policies::Figures>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recording: Option<Vec<recording::Figures>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<Vec<scale::Figures>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    l7: Option<BTreeMap<&'static str, l7::Figures>>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Command::Forward { listen, server }) = arguments.command {
        return dns::forwarder::run(listen, server);
    }
    let wanted = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    let mut figures = Figures::default();
    if wanted(Part::Datapath) {
        figures.datapath = Some(show_datapath(datapath::run()?));
    }
    if wanted(Part::Learning) {
        figures.learning = Some(show_learning(learning::run()?));
    }
    if wanted(Part::Policies) {
        figures.policies = Some(show_policies(policies::run()?));
    }
    if wanted(Part::Scale) {
        figures.scale = Some(show_scale(scale::run(arguments.pods)?));
    }
    let Arguments { rounds, time, workers, .. } = arguments;
    if wanted(Part::Dns) {
        let plan = dns::Plan { rounds, time: Duration::from_millis(time), workers };
        figures.dns = Some(show_dns(dns::run(plan)?));
    }
    if wanted(Part::Recording) {
        // Many short turns disturb each other less than a few long ones.
        let plan = recording::Plan { rounds, time: Duration::from_millis(time / 2), workers };
        figures.recording = Some(show_recording(recording::run(plan)?));
    }
    if wanted(Part::L7) {
        let plan = l7::Plan { rounds, time: Duration::from_millis(time) };
        figures.l7 = Some(show_l7(l7::run(plan)?));
    }
    write(&arguments.json, &figures)
}

fn show_dns(figures: BTreeMap<&'static str, dns::Figures>) -> BTreeMap<&'static str, dns::Figures> {
    let mut table = Table::new(&[
        "DNS proxy",
        "CPU µs/query",
        "x floor",
        "max QPS",
        "by dnsperf",
        "at 5k QPS: CPU µs",
        "+p50 µs",
        "+p99 µs",
        "lost",
    ]);
    for (name, own) in &figures {
        table.row(vec![
            (*name).to_owned(),
            format!("{:.2}", own.cpu_us),
            format!("{:.2}", own.cpu_ratio),
            format!("{:.0}", own.qps),
            own.dnsperf_qps.map_or_else(|| "-".to_owned(), |qps| format!("{qps:.0}")),
            format!("{:.2}", own.paced_cpu_us),
            format!("{:.0}", own.added_p50_us),
            format!("{:.0}", own.added_p99_us),
            own.lost.to_string(),
        ]);
    }
    println!("{table}");
    figures
}

fn show_recording(figures: Vec<recording::Figures>) -> Vec<recording::Figures> {
    let mut table = Table::new(&["queries", "CPU µs, recorded", "unrecorded", "recording, %"]);
    for own in &figures {
        table.row(vec![
            own.pace.to_owned(),
            format!("{:.2}", own.recorded_us),
            format!("{:.2}", own.unrecorded_us),
            format!("{:+.1}", (own.ratio - 1.0) * 100.0),
        ]);
    }
    println!("{table}");
    figures
}

fn show_l7(figures: BTreeMap<&'static str, l7::Figures>) -> BTreeMap<&'static str, l7::Figures> {
    let mut table = Table::new(&[
        "exchanges",
        "CPU µs each",
        "a second",
        "alone, p50 µs",
        "+p50 µs",
        "KiB a connection",
    ]);
    for (name, own) in &figures {
        table.row(vec![
            (*name).to_owned(),
            format!("{:.1}", own.cpu_us),
            format!("{:.0}", own.per_second),
            format!("{:.0}", own.p50_us),
            format!("{:+.0}", own.added_us),
            format!("{:.1}", own.idle_kib),
        ]);
    }
    println!("{table}");
    figures
}

fn show_datapath((empty, figures): (f64, Vec<datapath::Figures>)) -> Vec<datapath::Figures> {
    println!("An empty program takes {empty:.0} ns; the datapath, over that:");
    let mut table = Table::new(&[
        "addresses",
        "established ns",
        "over IPv6",
        "reply",
        "serving",
        "first",
        "first, untold",
        "telling, %",
        "first, random",
        "counting, ms",
    ]);
    for own in &figures {
        let ns = |value: f64| format!("{value:.0}");
        table.row(vec![
            own.addresses.to_string(),
            ns(own.established_ns),
            ns(own.established6_ns),
            ns(own.reply_ns),
            ns(own.serving_ns),
            ns(own.first_hot_ns),
            ns(own.first_untold_ns),
            format!("{:+.1}", (own.first_hot_ns / own.first_untold_ns - 1.0) * 100.0),
            ns(own.first_random_ns),
            format!("{:.1}", own.count_ms),
        ]);
    }
    println!("{table}");
    figures
}

fn show_learning(figures: Vec<learning::Figures>) -> Vec<learning::Figures> {
    let mut table =
        Table::new(&["selectors", "fresh µs", "of it engine", "known µs", "fresh, all match µs"]);
    for own in &figures {
        let us = |value: f64| format!("{value:.2}");
        table.row(vec![
            own.selectors.to_string(),
            us(own.fresh_us),
            us(own.engine_us),
            us(own.known_us),
            us(own.wide_us),
        ]);
    }
    println!("{table}");
    figures
}

fn show_policies(figures: Vec<policies::Figures>) -> Vec<policies::Figures> {
    let mut table = Table::new(&[
        "rules",
        "pods",
        "read ms",
        "first ms",
        "policy ms",
        "for the same pod: prefix ms",
        "name ms",
        "pods ms",
        "gone ms",
        "rows",
        "pod ms",
        "pod with new labels ms",
        "memory KiB",
        "manifest to packet ms",
    ]);
    for figure in &figures {
        let (own, ms) = (&figure.growth, |value: f64| format!("{value:.3}"));
        table.row(vec![
            own.rules.to_string(),
            own.pods.to_string(),
            ms(own.read_ms),
            ms(own.first_ms),
            ms(own.policy_ms),
            ms(own.own_policy_ms),
            ms(own.own_name_ms),
            ms(own.own_pods_ms),
            ms(own.own_gone_ms),
            own.rows.to_string(),
            ms(own.pod_ms),
            ms(own.new_labels_ms),
            format!("{:.0}", own.memory_kib),
            figure.enforced_ms.map_or_else(|| "-".to_owned(), ms),
        ]);
    }
    println!("{table}");
    figures
}

fn show_scale(figures: Vec<scale::Figures>) -> Vec<scale::Figures> {
    let mut table = Table::new(&[
        "nodes",
        "pods",
        "start s",
        "restart s",
        "without API s",
        "memory MiB",
        "peak MiB",
        "kept MiB",
        "CPU at 100 pods a second, %",
    ]);
    for own in &figures {
        table.row(vec![
            own.nodes.to_string(),
            own.pods.to_string(),
            format!("{:.2}", own.start_s),
            format!("{:.2}", own.restart_s),
            format!("{:.2}", own.restart_away_s),
            format!("{:.0}", own.memory_mib),
            format!("{:.0}", own.peak_mib),
            format!("{:.1}", own.kept_mib),
            format!("{:.1}", own.cpu_percent),
        ]);
    }
    println!("{table}");
    figures
}

fn write(path: &Path, figures: &Figures) -> Result<()> {
    let directory = path.parent().context("the file for the figures has no directory")?;
    fs::create_dir_all(directory)?;
    fs::write(path, serde_json::to_string_pretty(figures)? + "\n")
        .with_context(|| format!("write {}", path.display()))?;
    println!("figures: {}", path.display());
    Ok(())
}
