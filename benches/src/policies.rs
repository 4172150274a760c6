//! What policies cost by the number of their rules: reading and compiling them, the memory they
//! take, one policy more, and the time from a written manifest to a packet that passes by it.
//!
//! The rules are of all kinds: pods by labels, prefixes, names, entities. Every tenth is another
//! policy, and every other one brings a selector that no rule had before.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use engine::{Inventory, Node, Settings};
use integration::{Daemon, Lab, LabOptions, Ports};
use model::{EndpointName, Interface, Label, Labels, Pod};
use policy::{Document, Policy};
use serde::Serialize;

use crate::figures::median;

/// How many rules there are.
const RULES: [u32; 3] = [100, 1_000, 10_000];
const RULES_A_POLICY: u32 = 10;
const POLICIES_A_FILE: usize = 50;
/// Pods beside the one that the rules are for.
const PODS: u32 = 200;
/// How often a change is made.
const CHANGES: u32 = 9;
const PATIENCE: Duration = Duration::from_secs(20);
/// Outside, in no rule but the changing one.
const TARGET: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);

/// What so many rules cost.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    pub rules: u32,
    /// From text to checked policies.
    pub read_ms: f64,
    /// From these to the maps' content, the first time.
    pub compile_ms: f64,
    /// With one policy more, which selects another pod.
    pub one_more_ms: f64,
    /// Memory in use for policies, tables and maps' content.
    pub memory_kib: f64,
    /// From a written manifest to the first packet that passes by it, with the daemon.
    pub enforced_ms: f64,
}

/// Measures every number of rules.
pub fn run() -> Result<Vec<Figures>> {
    RULES.into_iter().map(measure).collect()
}

fn measure(rules: u32) -> Result<Figures> {
    eprintln!("policies: {rules} rules");
    let texts: Vec<String> = (0..rules / RULES_A_POLICY).map(policy_text).collect();
    let before = memory_in_use();
    let start = Instant::now();
    let policies = texts.iter().map(|text| read(text)).collect::<Result<Vec<_>>>()?;
    let read_ms = millis(start);
    let mut inventory = inventory(policies);
    let mut node = Node::new(settings());
    let start = Instant::now();
    let plan = node.plan(&inventory)?;
    let compile_ms = millis(start);
    node.applied(&plan);
    let memory_kib = (memory_in_use().saturating_sub(before)) as f64 / 1024.0;
    let mut one_more = Vec::new();
    for number in 0..CHANGES {
        inventory.policies.push(read(&other_text(number))?);
        let start = Instant::now();
        let plan = node.plan(&inventory)?;
        one_more.push(millis(start));
        node.applied(&plan);
    }
    let enforced_ms = enforced(&texts)?;
    Ok(Figures {
        rules,
        read_ms,
        compile_ms,
        one_more_ms: median(one_more),
        memory_kib,
        enforced_ms,
    })
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

fn policy_text(number: u32) -> String {
    let mut text = header(&format!("bench-{number}"), "client");
    for rule in number * RULES_A_POLICY..(number + 1) * RULES_A_POLICY {
        let (port, octets) = (1 + rule % 1_000, (rule / 250 % 250, rule % 250));
        let peers = match rule % 5 {
            0 => format!("toEndpoints: [{{matchLabels: {{app: 'service-{}'}}}}]", rule / 2),
            1 => format!("toCIDR: [198.{}.{}.0/24]", 18 + octets.0 % 2, octets.1),
            2 => format!("toFQDNs: [{{matchName: 'host-{rule}.example.org'}}]"),
            3 => format!("toFQDNs: [{{matchPattern: '*.zone-{rule}.example.org'}}]"),
            _ => "toEntities: [cluster]".to_owned(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  - {peers}\n    toPorts: [{{ports: [{{port: '{port}', protocol: TCP}}]}}]"
        );
    }
    text
}

/// A policy for another pod than the one of all the others.
fn other_text(number: u32) -> String {
    header(&format!("other-{number}"), "pod-7") + "  - toCIDR: [192.0.2.0/24]\n"
}

fn probe_text(open: bool) -> String {
    let target = if open { "203.0.113.10/32" } else { "203.0.113.99/32" };
    header("probe", "client") + &format!("  - toCIDR: [{target}]\n")
}

fn header(name: &str, app: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
         metadata: {{name: {name}, namespace: default}}\n\
         spec:\n  endpointSelector: {{matchLabels: {{app: {app}}}}}\n  egress:\n"
    )
}

fn read(text: &str) -> Result<Arc<Policy>> {
    let (documents, problems) = Document::read_all(&Arc::from(Path::new("bench.yaml")), text);
    ensure!(problems.is_empty(), "{problems:?}");
    let document = documents.first().context("no document")?;
    Ok(Arc::new(Policy::read(document).map_err(|problems| anyhow!("{problems:?}"))?))
}

fn inventory(policies: Vec<Arc<Policy>>) -> Inventory {
    let mut inventory = Inventory { policies, ..Inventory::default() };
    let client = pod("client", 1);
    inventory.bindings.bound.insert(client.name.clone(), Interface(7));
    let pods = (0..PODS).map(|number| pod(&format!("pod-{number}"), 2 + number));
    inventory.pods = pods.chain([client]).map(|own| (own.name.clone(), own)).collect();
    let other = EndpointName { namespace: "default".into(), name: "pod-7".into() };
    inventory.bindings.bound.insert(other, Interface(8));
    inventory
}

fn pod(name: &str, number: u32) -> Pod {
    let labels = [Label::kubernetes(Labels::NAMESPACE, "default"), Label::kubernetes("app", name)];
    let first = Ipv4Addr::new(10, 0, 0, 1).to_bits();
    Pod {
        name: EndpointName { namespace: "default".into(), name: name.into() },
        uid: String::new(),
        labels: labels.into_iter().collect(),
        addresses: vec![IpAddr::V4(Ipv4Addr::from_bits(first + number))],
        extra_sources: Vec::new(),
        attachment: None,
        host_network: false,
        ports: BTreeMap::new(),
    }
}

fn settings() -> Settings {
    Settings {
        dns_service: EndpointName { namespace: "kube-system".into(), name: "kube-dns".into() },
        service_prefixes: Vec::new(),
        pod_prefixes: Vec::new(),
        api_servers: Vec::new(),
        sets_per_table: 4_096,
        identities: 1 << 20,
    }
}

/// The octets that this process has allocated and not freed.
fn memory_in_use() -> usize {
    // SAFETY: mallinfo2(3) only reads the allocator's own counters, under its own locks.
    let counters = unsafe { libc::mallinfo2() };
    counters.uordblks + counters.hblkhd
}

fn millis(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
