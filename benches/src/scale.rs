//! What a large cluster costs a node: the real daemon, a lab's API server with 5,000 nodes and
//! 150,000 pods, and 100 pods a second that come and go elsewhere.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::{ContainerRuntime, Daemon, KubeApi, Lab, LabOptions};
use serde::Serialize;
use serde_json::{Value, json};

/// How many nodes and pods there are.
const SIZES: [(u32, u32); 3] = [(10, 300), (500, 15_000), (5_000, 150_000)];
/// How many pods share their labels, and a service.
const PODS_ALIKE: u32 = 30;
/// How many policies there are, and how many of them are for the node's own pod.
const POLICIES: u32 = 200;
const OWN_POLICIES: u32 = 20;
/// How many pods change a second, and for how long.
const CHANGES: u32 = 100;
const TIME: Duration = Duration::from_secs(10);
/// How often changes are made.
const STEP: Duration = Duration::from_millis(50);

const CLIENT: &str = "default/client";
const NODE: &str = "here";
/// What a pod's object holds that nobody reads: as much as is usual.
const REST: usize = 2_000;

/// What a cluster of this size costs.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    pub nodes: u32,
    pub pods: u32,
    /// Until policies are enforced: with nothing known, after a restart, and after a restart while
    /// the API server is away.
    pub start_s: f64,
    pub restart_s: f64,
    pub restart_away_s: f64,
    /// Memory after the first start, and the most that it took.
    pub memory_mib: f64,
    pub peak_mib: f64,
    /// What is kept on disk.
    pub kept_mib: f64,
    /// Of one core, while pods change.
    pub cpu_percent: f64,
}

/// Measures every size with no more pods than these.
pub fn run(largest: u32) -> Result<Vec<Figures>> {
    let sizes = SIZES.into_iter().filter(|(_, pods)| *pods <= largest);
    sizes.map(|(nodes, pods)| measure(nodes, pods)).collect()
}

fn measure(nodes: u32, pods: u32) -> Result<Figures> {
    eprintln!("scale: {nodes} nodes, {pods} pods");
    let lab = Lab::new(LabOptions::default())?;
    let api = KubeApi::start(Some(lab.node().clone()))?;
    fill(&api, &lab, nodes, pods)?;
    let runtime = ContainerRuntime::start(lab.directory().join("cri.sock"))?;
    runtime.put(CLIENT, "uid-client", lab.pod(CLIENT).namespace().path());
    let kubeconfig = api.write_kubeconfig(lab.directory())?;
    let path = |path: &std::path::Path| path.to_str().map(str::to_owned).context("a path");
    let (kubeconfig, socket) = (path(&kubeconfig)?, path(runtime.socket())?);
    let flags = ["--kubeconfig", &kubeconfig, "--kubernetes-runtime", &socket, "--kubernetes-node"];
    let flags = [&flags[..], &[NODE, "--kubernetes-spread", "0s"]].concat();

    let mut daemon = Daemon::start(&lab, &flags)
        .context("a large cluster takes time: FQDND_LAB_READY_SECONDS says how much")?;
    let start_s = enforced(&daemon)?;
    let (memory_mib, peak_mib) = (memory(&daemon, "VmRSS")?, memory(&daemon, "VmHWM")?);
    let journal = daemon.state_directory().join("cluster/journal");
    wait("all of it is kept", || {
        fs::read_to_string(&journal).is_ok_and(|own| own.contains(" =\n"))
    })?;
    let kept_mib = fs::metadata(&journal)?.len() as f64 / f64::from(1 << 20);
    let cpu_percent = change(&daemon, &api, pods)?;
    daemon.restart()?;
    let restart_s = enforced(&daemon)?;
    api.fault(|faults| faults.away = true);
    daemon.restart()?;
    let restart_away_s = enforced(&daemon)?;
    Ok(Figures {
        nodes,
        pods,
        start_s,
        restart_s,
        restart_away_s,
        memory_mib,
        peak_mib,
        kept_mib,
        cpu_percent,
    })
}

/// How long the last start took, if the node's own pod is enforced by now.
fn enforced(daemon: &Daemon) -> Result<f64> {
    let enforcement = daemon.enforcement(CLIENT);
    ensure!(enforcement == "enforced", "{CLIENT} is {enforcement}");
    Ok(daemon.started_in().as_secs_f64())
}

/// Changes pods elsewhere; the daemon's share of a core meanwhile.
fn change(daemon: &Daemon, api: &KubeApi, pods: u32) -> Result<f64> {
    // Whatever the start left behind is done.
    thread::sleep(Duration::from_secs(2));
    let (start, before) = (Instant::now(), cpu(daemon)?);
    let each = CHANGES / (1_000 / u32::try_from(STEP.as_millis())?);
    let mut number = 0;
    let mut next = start;
    while start.elapsed() < TIME {
        for _ in 0..each {
            number += 1;
            // A pod that was rescheduled: the same name, and all else new.
            let changed = pod(number % pods, pods + number, (number + 7) % 5);
            api.put(changed)?;
        }
        next += STEP;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let used = cpu(daemon)? - before;
    Ok(used / start.elapsed().as_secs_f64() * 100.0)
}

fn fill(api: &KubeApi, lab: &Lab, nodes: u32, pods: u32) -> Result<()> {
    for definition in kubernetes::crd::definitions() {
        api.put(definition)?;
    }
    let none = &json!({});
    for name in ["default", "apps"] {
        api.put(object("v1", "Namespace", &json!({"name": name}), none, none))?;
    }
    for number in 0..nodes {
        let name = if number == 0 { NODE.to_owned() } else { format!("node-{number}") };
        let address = format!("172.20.{}.{}", number / 250, number % 250 + 1);
        let status = json!({"addresses": [{"type": "InternalIP", "address": address}]});
        api.put(object("v1", "Node", &json!({"name": name}), none, &status))?;
    }
    for number in 0..pods {
        api.put(pod(number, number, 1 + number % (nodes - 1)))?;
    }
    for number in 0..pods / PODS_ALIKE {
        let (service, slice) = service(number);
        api.put(service)?;
        api.put(slice)?;
    }
    for number in 0..POLICIES {
        api.put(policy(number))?;
    }
    let addresses = lab.pod(CLIENT).addresses().map(|address| json!({"ip": address}));
    let metadata = json!({"name": "client", "namespace": "default", "uid": "uid-client",
        "labels": {"app": "client"}});
    let status = json!({"phase": "Running", "podIPs": addresses});
    let spec = json!({"nodeName": NODE, "containers": []});
    api.put(object("v1", "Pod", &metadata, &spec, &status))?;
    Ok(())
}

fn object(version: &str, kind: &str, metadata: &Value, spec: &Value, status: &Value) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec,
        "status": status})
}

/// A pod elsewhere; `address` and `node` are its own for now.
fn pod(number: u32, address: u32, node: u32) -> Value {
    let app = format!("service-{}", number / PODS_ALIKE);
    let metadata = json!({"name": format!("pod-{number}"), "namespace": "apps",
        "uid": format!("uid-{number}-{address}"), "labels": {"app": app, "tier": "backend"},
        "annotations": {"example.com/rest": "x".repeat(REST)}});
    let spec = json!({"nodeName": format!("node-{node}"), "serviceAccountName": "default",
        "containers": [{"name": "main", "image": "registry.example/app:1",
            "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]});
    let status = json!({"phase": "Running", "podIPs": [{"ip": ip(address)}]});
    object("v1", "Pod", &metadata, &spec, &status)
}

/// Out of the range for shared address space, which no lab uses.
fn ip(number: u32) -> String {
    std::net::Ipv4Addr::from_bits(0x6440_0001 + number).to_string()
}

fn service(number: u32) -> (Value, Value) {
    let name = format!("service-{number}");
    let address = format!("10.97.{}.{}", number / 250, number % 250 + 1);
    let spec = json!({"clusterIP": address, "selector": {"app": name},
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]});
    let metadata = json!({"name": name, "namespace": "apps"});
    let service = object("v1", "Service", &metadata, &spec, &json!({}));
    let backends = (number * PODS_ALIKE..(number + 1) * PODS_ALIKE)
        .map(|pod| json!({"addresses": [ip(pod)], "conditions": {"ready": true}}));
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{name}-a"), "namespace": "apps",
            "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4", "endpoints": backends.collect::<Vec<_>>(),
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]});
    (service, slice)
}

fn policy(number: u32) -> Value {
    let (namespace, app) = if number < OWN_POLICIES {
        ("default", "client".to_owned())
    } else {
        ("apps", format!("service-{number}"))
    };
    json!({"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
    "metadata": {"name": format!("policy-{number}"), "namespace": namespace},
    "spec": {"endpointSelector": {"matchLabels": {"app": app}}, "egress": [
        {"toFQDNs": [{"matchPattern": format!("*.zone-{number}.example.com")}]},
        {"toEndpoints": [{"matchLabels": {"app": format!("service-{}", number * 7 % 500),
            "k8s:io.kubernetes.pod.namespace": "apps"}}],
            "toPorts": [{"ports": [{"port": "8080", "protocol": "TCP"}]}]},
    ]}})
}

fn process(daemon: &Daemon, file: &str) -> Result<String> {
    let pid = daemon.pid().context("the daemon does not run")?;
    Ok(fs::read_to_string(format!("/proc/{pid}/{file}"))?)
}

fn memory(daemon: &Daemon, field: &str) -> Result<f64> {
    let status = process(daemon, "status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).context("no such field")?;
    Ok(kib.parse::<f64>()? / 1024.0)
}

/// Seconds of a core that the daemon has used.
fn cpu(daemon: &Daemon) -> Result<f64> {
    let stat = process(daemon, "stat")?;
    // The second field is a name in parentheses, which may hold spaces.
    let (_, rest) = stat.rsplit_once(") ").context("no name")?;
    let ticks = rest.split(' ').skip(11).take(2).map(str::parse::<f64>);
    let ticks: f64 = ticks.sum::<Result<f64, _>>()?;
    let each = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("no clock")?;
    Ok(ticks / each as f64)
}

fn wait(what: &'static str, holds: impl FnMut() -> bool) -> Result<()> {
    integration::wait_until(what, Duration::from_secs(60), holds)?;
    Ok(())
}
