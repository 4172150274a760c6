//! `fqdnd-lab`: the lab from a shell.

mod demo;

use std::{net::IpAddr, thread, time::Duration};

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use integration::{Lab, LabOptions, Load, Topology};

use crate::demo::Demo;

/// A Kubernetes node, its pods and an outside world, in network namespaces of this machine.
#[derive(Debug, Parser)]
#[command(name = "fqdnd-lab", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what fqdnd does, step by step, on two of the examples; fails if a step does.
    Demo(DemoArguments),
    /// Make a lab, say what is in it and keep it until Ctrl-C.
    Up(LabArguments),
    /// Look up fresh names and connect to their addresses at once; fails if a first packet is lost.
    Load(LoadArguments),
}

#[derive(Debug, Args)]
struct LabArguments {
    /// How pods are connected.
    #[arg(long, value_enum, default_value_t = TopologyChoice::Routed)]
    topology: TopologyChoice,
    /// Let bridged packets bypass the IP hooks.
    #[arg(long)]
    no_br_netfilter: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TopologyChoice {
    Routed,
    Bridged,
}

#[derive(Debug, Args)]
struct DemoArguments {
    #[command(flatten)]
    lab: LabArguments,
    /// How programs are attached; auto is tcx where the kernel has it.
    #[arg(long, value_enum, default_value_t = AttachChoice::Auto)]
    attach: AttachChoice,
    /// Leave everything as it is at the end, until Ctrl-C.
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AttachChoice {
    Auto,
    Tcx,
    Clsact,
}

impl AttachChoice {
    fn as_configured(self) -> &'static str {
        match self {
            AttachChoice::Auto => "auto",
            AttachChoice::Tcx => "tcx",
            AttachChoice::Clsact => "clsact",
        }
    }
}

#[derive(Debug, Args)]
struct LoadArguments {
    #[command(flatten)]
    lab: LabArguments,
    /// Make no lab: run in the namespace this is started in and ask this server.
    #[arg(long, value_name = "ADDRESS")]
    server: Option<IpAddr>,
    /// Clients side by side.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    clients: u16,
    /// Lookups in all.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    lookups: u32,
    /// The number of the first name.
    #[arg(long, default_value_t = 0)]
    first: u32,
    /// Ask over TCP.
    #[arg(long)]
    tcp: bool,
    /// Ask for IPv6 addresses.
    #[arg(long)]
    ipv6: bool,
    /// Begin no further lookup after this many seconds.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    limit: u64,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Demo(arguments) => demo(&arguments),
        Command::Up(arguments) => up(&arguments),
        Command::Load(arguments) => load(&arguments),
    }
}

fn demo(arguments: &DemoArguments) -> Result<()> {
    let lab = options(&arguments.lab);
    Demo { lab, attach: arguments.attach.as_configured(), keep: arguments.keep }.run()
}

fn up(arguments: &LabArguments) -> Result<()> {
    let lab = make(arguments)?;
    println!("made in {:?}; Ctrl-C takes it away again\n", lab.setup_time());
    println!("node       {}", lab.node().path().display());
    println!("manifests  {}", lab.manifests().directory().display());
    for (path, pod) in lab.pods() {
        println!("pod        {path}: {} {} on {}", pod.ipv4(), pod.ipv6(), pod.host_interface());
        println!("           nsenter --net={}", pod.namespace().path().display());
    }
    let [service4, service6] = lab.dns_service();
    println!("dns        {service4} {service6}");
    loop {
        thread::park();
    }
}

fn load(arguments: &LoadArguments) -> Result<()> {
    let load = |server| Load {
        tcp: arguments.tcp,
        ipv6: arguments.ipv6,
        clients: usize::from(arguments.clients),
        lookups: arguments.lookups,
        first: arguments.first,
        limit: Duration::from_secs(arguments.limit),
        ..Load::new(server)
    };
    let report = match arguments.server {
        Some(server) => load(server).run_here(),
        None => {
            let lab = make(&arguments.lab)?;
            println!("lab made in {:?}", lab.setup_time());
            load(lab.dns_service()[0]).run(lab.pod("default/client").namespace())?
        }
    };
    println!("{report}");
    ensure!(report.is_clean(), "not every name was resolved and connected at once");
    Ok(())
}

fn make(arguments: &LabArguments) -> Result<Lab> {
    Ok(Lab::new(options(arguments))?)
}

fn options(arguments: &LabArguments) -> LabOptions {
    let topology = match arguments.topology {
        TopologyChoice::Routed => Topology::Routed,
        TopologyChoice::Bridged => Topology::Bridged,
    };
    let br_netfilter = !arguments.no_br_netfilter;
    LabOptions { br_netfilter, ..LabOptions::with_topology(topology) }
}
