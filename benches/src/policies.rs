//! What policies cost by the number of their rules and of the pods around: the engine alone, and the
//! time from a written manifest to a packet that passes by it.

mod growth;

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use integration::{Daemon, Lab, LabOptions, Ports};
use serde::Serialize;

use crate::figures::median;
use growth::{Growth, header};

/// How many rules and pods there are.
const SIZES: [(u32, u32); 4] = [(100, 200), (1_000, 200), (10_000, 200), (10_000, 150_000)];
/// How many pods there may be where a daemon reads them.
const PODS_IN_MANIFESTS: u32 = 200;
const POLICIES_A_FILE: usize = 50;
/// How often a change is made.
const CHANGES: u32 = 9;
const PATIENCE: Duration = Duration::from_secs(20);
/// Outside, in no rule but the changing one.
const TARGET: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);

/// What so many rules cost.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    #[serde(flatten)]
    pub growth: Growth,
    /// From a written manifest to the first packet that passes by it, with the daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforced_ms: Option<f64>,
}

/// Measures every size.
pub fn run() -> Result<Vec<Figures>> {
    SIZES.into_iter().map(|(rules, pods)| measure(rules, pods)).collect()
}

fn measure(rules: u32, pods: u32) -> Result<Figures> {
    eprintln!("policies: {rules} rules, {pods} pods");
    let growth = growth::measure(rules, pods)?;
    let by_daemon = pods <= PODS_IN_MANIFESTS;
    let enforced_ms = by_daemon.then(|| enforced(&growth::texts(rules))).transpose()?;
    Ok(Figures { growth, enforced_ms })
}

/// With all of these policies in force, from one manifest more to its first packet.
fn enforced(texts: &[String]) -> Result<f64> {
    let lab = Lab::new(LabOptions::default())?;
    for (number, texts) in texts.chunks(POLICIES_A_FILE).enumerate() {
        lab.policy(&format!("many-{number}"), &texts.join("---\n"))?;
    }
    lab.policy("probe", &probe_text(false))?;
    let _daemon = Daemon::start(&lab, &[])?;
    let client = lab.pod("default/client").namespace();
    let mut times = Vec::new();
    for _ in 0..CHANGES {
        client.run(|| wait_for_echo(false))??;
        let start = Instant::now();
        lab.policy("probe", &probe_text(true))?;
        client.run(|| wait_for_echo(true))??;
        times.push(millis(start));
        lab.policy("probe", &probe_text(false))?;
    }
    Ok(median(times))
}

/// Sends datagrams until one comes back, or until none does.
fn wait_for_echo(wanted: bool) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((TARGET, Ports::ECHO))?;
    // No echo within the longer time counts as none at all.
    socket.set_read_timeout(Some(Duration::from_millis(if wanted { 1 } else { 50 })))?;
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        socket.send(b"?")?;
        if socket.recv(&mut [0; 1]).is_ok() == wanted {
            return Ok(());
        }
    }
    Err(anyhow!("a policy was not enforced within {PATIENCE:?}"))
}

fn probe_text(open: bool) -> String {
    let target = if open { "203.0.113.10/32" } else { "203.0.113.99/32" };
    header("probe", "client") + &format!("  - toCIDR: [{target}]\n")
}

fn millis(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
