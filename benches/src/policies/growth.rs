//! What one change costs the engine, by how much there is already.
//!
//! The rules are of all kinds: pods by labels, prefixes, names, entities. Every tenth is another
//! policy, and every other one brings a selector that no rule had before.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use engine::{Inventory, Node, Settings};
use model::{EndpointName, Interface, Label, Labels, Pod};
use policy::{Document, Policy, PolicyKey};
use serde::Serialize;

use crate::figures::median;

/// How many rules a policy has.
const RULES_A_POLICY: u32 = 10;
/// How many pods share their labels.
const PODS_ALIKE: u32 = 30;
/// How often a change is made.
const CHANGES: u32 = 9;

/// What so many rules for one pod of this node cost, among so many pods.
#[derive(Clone, Debug, Serialize)]
pub struct Growth {
    pub rules: u32,
    pub pods: u32,
    /// From text to checked policies.
    pub read_ms: f64,
    /// From these and the pods to the maps' content, the first time.
    pub first_ms: f64,
    /// One policy more, for another pod of this node.
    pub policy_ms: f64,
    /// One policy more, for the pod of all the others: of a prefix; of a name; of other pods.
    pub own_policy_ms: f64,
    pub own_name_ms: f64,
    pub own_pods_ms: f64,
    /// That policy less.
    pub own_gone_ms: f64,
    /// The rows in the maps, in the end.
    pub rows: usize,
    /// One pod more, elsewhere, with the labels of others.
    pub pod_ms: f64,
    /// One pod more with labels of its own.
    pub new_labels_ms: f64,
    /// Memory in use for all of it.
    pub memory_kib: f64,
}

/// Measures the engine alone.
pub fn measure(rules: u32, pods: u32) -> Result<Growth> {
    let texts: Vec<String> = texts(rules);
    let before = memory_in_use();
    let start = Instant::now();
    let policies = texts.iter().map(|text| read(text)).collect::<Result<Vec<_>>>()?;
    let read_ms = millis(start);
    let mut inventory = inventory(policies, pods);
    let mut node = Node::new(settings());
    let first_ms = settle(&mut node, &inventory)?;
    let memory_kib = (memory_in_use().saturating_sub(before)) as f64 / 1024.0;
    let mut change = |make: &dyn Fn(&mut Inventory, u32) -> Result<()>| -> Result<f64> {
        let mut times = Vec::new();
        for number in 0..CHANGES {
            make(&mut inventory, number)?;
            times.push(settle(&mut node, &inventory)?);
        }
        Ok(median(times))
    };
    let policy_ms = change(&|all, number| {
        add(all, &(header(&format!("other-{number}"), "other") + "  - toCIDR: [192.0.2.0/24]\n"))
    })?;
    let own_policy_ms = change(&|all, number| {
        let target = format!("  - toCIDR: [203.0.113.{number}/32]\n");
        add(all, &(header(&format!("own-{number}"), "client") + &target))
    })?;
    let own_name_ms = change(&|all, number| {
        let target = format!("  - toFQDNs: [{{matchName: late-{number}.example.net}}]\n");
        add(all, &(header(&format!("own-name-{number}"), "client") + &target))
    })?;
    let own_pods_ms = change(&|all, number| {
        let target = "  - toEndpoints: [{matchLabels: {app: service-1}}]\n";
        let port = 20_000 + number;
        let ports = format!("    toPorts: [{{ports: [{{port: '{port}', protocol: TCP}}]}}]\n");
        add(all, &(header(&format!("own-pods-{number}"), "client") + target + &ports))
    })?;
    let own_gone_ms = change(&|all, number| {
        let name = format!("own-pods-{number}");
        all.policies.remove(&PolicyKey { namespace: Some("default".into()), name });
        Ok(())
    })?;
    let pod_ms = change(&|all, number| {
        insert(all, pod(&format!("late-{number}"), "service-0", pods + 10 + number));
        Ok(())
    })?;
    let new_labels_ms = change(&|all, number| {
        let app = format!("new-{number}");
        insert(all, pod(&app, &app, pods + 100 + number));
        Ok(())
    })?;
    Ok(Growth {
        rules,
        pods,
        read_ms,
        first_ms,
        policy_ms,
        own_policy_ms,
        own_name_ms,
        own_pods_ms,
        own_gone_ms,
        rows: node.desired().rows.len(),
        pod_ms,
        new_labels_ms,
        memory_kib,
    })
}

/// Takes an inventory in until nothing is left to do; how long that took.
fn settle(node: &mut Node, inventory: &Inventory) -> Result<f64> {
    let start = Instant::now();
    loop {
        let plan = node.plan(inventory)?;
        node.applied(&plan);
        if node.is_settled() {
            return Ok(millis(start));
        }
    }
}

/// Policies with so many rules, for the pod `client`.
pub fn texts(rules: u32) -> Vec<String> {
    (0..rules / RULES_A_POLICY).map(policy_text).collect()
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

/// The beginning of a policy, up to its entries for egress.
pub fn header(name: &str, app: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
         metadata: {{name: {name}, namespace: default}}\n\
         spec:\n  endpointSelector: {{matchLabels: {{app: {app}}}}}\n  egress:\n"
    )
}

fn add(inventory: &mut Inventory, text: &str) -> Result<()> {
    let policy = read(text)?;
    inventory.policies.insert(policy.key.clone(), policy);
    Ok(())
}

fn read(text: &str) -> Result<Arc<Policy>> {
    let (documents, problems) = Document::read_all(&Arc::from(Path::new("bench.yaml")), text);
    ensure!(problems.is_empty(), "{problems:?}");
    let document = documents.first().context("no document")?;
    Ok(Arc::new(Policy::read(document).map_err(|problems| anyhow!("{problems:?}"))?))
}

fn inventory(policies: Vec<Arc<Policy>>, pods: u32) -> Inventory {
    let policies = policies.into_iter().map(|own| (own.key.clone(), own)).collect();
    let mut inventory = Inventory { policies, ..Inventory::default() };
    for (name, index) in [("client", 7), ("other", 8)] {
        let own = pod(name, name, index);
        inventory.bindings.bound.insert(own.name.clone(), Interface(index));
        insert(&mut inventory, own);
    }
    for number in 0..pods {
        let app = format!("service-{}", number / PODS_ALIKE);
        insert(&mut inventory, pod(&format!("pod-{number}"), &app, 10 + number));
    }
    inventory
}

fn insert(inventory: &mut Inventory, pod: Pod) {
    inventory.pods.insert(pod.name.clone(), Arc::new(pod));
}

fn pod(name: &str, app: &str, number: u32) -> Pod {
    let labels = [Label::kubernetes(Labels::NAMESPACE, "default"), Label::kubernetes("app", app)];
    let first = Ipv4Addr::new(10, 0, 0, 1).to_bits();
    Pod {
        name: EndpointName { namespace: "default".into(), name: name.into() },
        uid: String::new(),
        labels: labels.into_iter().collect(),
        addresses: vec![IpAddr::V4(Ipv4Addr::from_bits(first + number))],
        extra_sources: Vec::new(),
        attachment: None,
        host_network: false,
        ports: Arc::default(),
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
