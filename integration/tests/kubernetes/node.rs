//! The real daemon on a real node of a cluster: pods told of by the API server, their interfaces
//! by the container runtime or by cgroups.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use hickory_proto::rr::RecordType;
use integration::{
    ContainerRuntime, Daemon, KubeApi, Lab, LabOptions, Pod, PodSpec, Reach, Resolver, WWW, ip,
    soon, wait_until,
};
use serde_json::{Value, json};

use crate::ground::{NODE, PATIENCE, yaml};

pub const CLIENT: &str = "default/client";
const OTHER: &str = "default/other";
const WEB: &str = "203.0.113.10";

/// A node whose pods a cluster and a runtime tell of.
pub struct Node {
    pub daemon: Daemon,
    pub runtime: ContainerRuntime,
    pub api: KubeApi,
    pub lab: Lab,
    flags: Vec<String>,
}

impl Node {
    pub fn new(flags: &[&str]) -> Self {
        Self::begin(flags, |lab, flags| Daemon::start(lab, flags).unwrap())
    }

    /// A node whose daemon is started by `start`.
    pub fn begin(flags: &[&str], start: impl FnOnce(&Lab, &[&str]) -> Daemon) -> Self {
        let lab = Lab::new(LabOptions::default()).unwrap();
        let api = KubeApi::start(Some(lab.node().clone())).unwrap();
        for definition in kubernetes::crd::definitions() {
            api.put(definition).unwrap();
        }
        api.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})).unwrap();
        let runtime = ContainerRuntime::start(lab.directory().join("cri.sock")).unwrap();
        for document in documents(lab.manifests().directory()) {
            api.put(document).unwrap();
        }
        for (path, pod) in lab.pods() {
            runtime.put(path, &uid(path), pod.namespace().path());
        }
        let kubeconfig = api.write_kubeconfig(lab.directory()).unwrap();
        let kubeconfig = kubeconfig.to_str().unwrap();
        let socket = runtime.socket().to_str().unwrap();
        let cluster = [
            "--kubeconfig",
            kubeconfig,
            "--kubernetes-node",
            NODE,
            "--kubernetes-spread",
            "0s",
            "--log-level",
            "debug",
        ];
        let by_runtime = ["--kubernetes-runtime", socket];
        let flags =
            if flags.contains(&by_runtime[0]) { flags } else { &[flags, &by_runtime].concat() };
        let flags = [&cluster, flags].concat();
        let daemon = start(&lab, &flags);
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Self { daemon, runtime, api, lab, flags }
    }

    pub fn enforcement(&self, path: &str) -> String {
        self.daemon.enforcement(path)
    }

    /// What describes a pod of the lab, as the API server shows it.
    pub fn described(&self, path: &str) -> Value {
        let documents = documents(self.lab.manifests().directory());
        let is_it = |own: &Value| {
            let name = own["metadata"]["name"].as_str().unwrap_or_default();
            let namespace = own["metadata"]["namespace"].as_str().unwrap_or_default();
            own["kind"] == "Pod" && format!("{namespace}/{name}") == path
        };
        documents.into_iter().find(is_it).expect("a pod of the lab")
    }

    /// Whether the next start would find this of the cluster.
    fn keeps(&self, text: &str) -> bool {
        let journal = self.daemon.state_directory().join("cluster/journal");
        fs::read_to_string(journal).is_ok_and(|kept| kept.contains(text))
    }

    pub fn resolves(&self, path: &str) {
        let resolver = Resolver::new(self.lab.dns_service()[0]);
        let answer = self.lab.pod(path).ask(resolver, "www.example.com", RecordType::A);
        assert_eq!(answer.addresses, [ip(WEB)], "{answer:?}");
    }
}

/// What describes the lab, with the pods bound to the node, as the API server shows it.
fn documents(directory: &Path) -> Vec<Value> {
    let mut documents = Vec::new();
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "yaml")) {
        let text = fs::read_to_string(path).unwrap();
        documents.extend(serde_saphyr::from_multiple::<Value>(&text).unwrap());
    }
    documents.into_iter().map(on_node).collect()
}

fn on_node(mut document: Value) -> Value {
    if document["kind"] == "Pod" {
        let metadata = &document["metadata"];
        let path = format!(
            "{}/{}",
            metadata["namespace"].as_str().unwrap(),
            metadata["name"].as_str().unwrap()
        );
        document["metadata"]["uid"] = uid(&path).into();
        document["spec"]["nodeName"] = NODE.into();
    }
    document
}

fn uid(path: &str) -> String {
    format!("uid-{}", path.replace('/', "-"))
}

#[test]
fn a_policy_of_the_cluster_is_enforced_on_the_pod_that_the_runtime_binds() {
    let node = Node::new(&[]);
    for path in [CLIENT, OTHER] {
        soon("the pod is bound", || node.enforcement(path) == "open");
    }
    node.api.put(yaml(WWW)).unwrap();
    soon("the policy is enforced", || node.enforcement(CLIENT) == "enforced");
    soon("its status says so", || {
        let policies = node.api.all("ciliumnetworkpolicies");
        policies.iter().any(|own| own["status"].to_string().contains("on 1 of 1 nodes"))
    });
    let client = node.lab.pod(CLIENT);
    assert_eq!(node.daemon.endpoint(CLIENT)["interface"], client.host_interface());
    assert_eq!(client.connect(ip(WEB), 80), Reach::Silent);
    node.resolves(CLIENT);
    assert_eq!(client.connect(ip(WEB), 80), Reach::Open);
    assert_eq!(node.lab.pod(OTHER).connect(ip(WEB), 80), Reach::Open);

    // The server goes: what is enforced stays, names are still learned, and status says why.
    node.api.fault(|faults| faults.away = true);
    soon("it is told", || {
        let problems = node.daemon.problems();
        problems.iter().any(|own| {
            own.starts_with("ciliumnetworkpolicies") && own.contains("not followed since")
        })
    });
    assert_eq!(node.enforcement(CLIENT), "enforced");
    node.resolves(CLIENT);
    assert_eq!(client.connect(ip(WEB), 80), Reach::Open);
    assert_eq!(client.connect(ip("203.0.113.20"), 80), Reach::Silent);
    node.api.delete("ciliumnetworkpolicies", Some("default"), "one-name").unwrap();
    node.api.fault(|faults| faults.away = false);
    soon("the policy's end is in force", || node.enforcement(CLIENT) == "open");
    soon("nothing is wrong", || node.daemon.problems().is_empty());
}

#[test]
fn an_interface_that_leads_into_a_pod_is_closed_until_its_pod_is_known() {
    let mut node = Node::new(&["--kubernetes-interfaces", "v*"]);
    soon("the pods are bound", || node.enforcement(CLIENT) == "open");
    let before = fs::read_dir(node.lab.manifests().directory()).unwrap().count();
    node.lab.add_pod(PodSpec::new("default/late")).unwrap();
    assert!(fs::read_dir(node.lab.manifests().directory()).unwrap().count() > before);
    let late = || node.lab.pod("default/late");
    soon("the new interface is closed", || late().connect(ip(WEB), 80) == Reach::Silent);

    // The API server alone does not open it, nor does the runtime alone.
    let documents = documents(node.lab.manifests().directory());
    let pod = documents.into_iter().find(|own| own["metadata"]["name"] == "late").unwrap();
    node.api.put(pod).unwrap();
    let known = || {
        let endpoints = node.daemon.ctl_json(&["endpoint", "list"]).unwrap();
        endpoints.to_string().contains(late().host_interface())
    };
    soon("it is listed", known);
    // One that was closed for long has given up its neighbours, and says so at once.
    assert_ne!(late().connect(ip(WEB), 80), Reach::Open);
    // A record of the same name and another uid is that of a pod before it.
    node.runtime.put("default/late", "uid-of-another", late().namespace().path());
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_ne!(late().connect(ip(WEB), 80), Reach::Open);
    node.runtime.remove("uid-of-another");
    node.runtime.put("default/late", &uid("default/late"), late().namespace().path());
    soon("it is open", || late().connect(ip(WEB), 80) == Reach::Open);
    soon("it is bound", || node.enforcement("default/late") == "open");
}

#[test]
fn a_new_pod_of_an_old_ones_name_and_address_has_nothing_that_the_old_one_learned() {
    let node = Node::new(&["--kubernetes-interfaces", "v*"]);
    node.api.put(yaml(WWW)).unwrap();
    soon("the policy is enforced", || node.enforcement(CLIENT) == "enforced");
    let client = node.lab.pod(CLIENT);
    node.resolves(CLIENT);
    assert_eq!(client.connect(ip(WEB), 80), Reach::Open);

    // The old one's end and the new one's beginning come as one change.
    let documents = documents(node.lab.manifests().directory());
    let named = |own: &&Value| own["kind"] == "Pod" && own["metadata"]["name"] == "client";
    let mut pod = documents.iter().find(named).unwrap().clone();
    pod["metadata"]["uid"] = "uid-of-the-new".into();
    node.api.put(pod).unwrap();
    soon("the old one's interface is nobody's", || client.connect(ip(WEB), 80) == Reach::Silent);

    // At worst the new one lives where the old one did. It has to ask for itself.
    node.runtime.remove(&uid(CLIENT));
    node.runtime.put(CLIENT, "uid-of-the-new", client.namespace().path());
    soon("the new one is bound", || node.enforcement(CLIENT) == "enforced");
    assert_ne!(client.connect(ip(WEB), 80), Reach::Open);
    node.resolves(CLIENT);
    assert_eq!(client.connect(ip(WEB), 80), Reach::Open);
}

/// A pod's cgroup with a process in the pod's network, as a kubelet and a runtime make them.
struct Cgroup {
    process: Child,
    directories: [PathBuf; 2],
}

impl Cgroup {
    fn new(pod: &Pod, uid: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let root = mounts.find(|mount| mount[2] == "cgroup2").expect("cgroups are mounted");
        let pods = Path::new(root[1]).join(format!("kubepods-lab{}.slice", std::process::id()));
        let own = pods.join(format!("kubepods-burstable-pod{}.slice", uid.replace('-', "_")));
        fs::create_dir_all(&own).unwrap();
        let process = pod.command("sleep").arg("1000").spawn().unwrap();
        let cgroup = Self { process, directories: [own, pods] };
        let procs = cgroup.directories[0].join("cgroup.procs");
        fs::write(procs, cgroup.process.id().to_string()).unwrap();
        cgroup
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        for directory in &self.directories {
            // A process that has ended leaves its cgroup a moment later.
            let _ = wait_until("it is empty", PATIENCE, || fs::remove_dir(directory).is_ok());
        }
    }
}

#[test]
fn a_pod_is_bound_by_the_process_in_its_cgroup_where_no_runtime_is_asked() {
    let flags = ["--kubernetes-runtime", "cgroups", "--kubernetes-interfaces", "v*"];
    let node = Node::new(&flags);
    let client = node.lab.pod(CLIENT);
    node.api.put(yaml(WWW)).unwrap();
    soon("its interface is closed", || client.connect(ip(WEB), 80) == Reach::Silent);
    // Another pod's cgroup, with the same process inside, binds nobody.
    let foreign = Cgroup::new(client, "uid-of-another");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(node.enforcement(CLIENT), "absent");
    drop(foreign);
    let _own = Cgroup::new(client, &uid(CLIENT));
    // Nothing hints at a process that joins a cgroup: it is found when one looks again.
    let enforced = || node.enforcement(CLIENT) == "enforced";
    wait_until("the policy is enforced", PATIENCE, enforced).unwrap();
    assert_eq!(node.daemon.endpoint(CLIENT)["interface"], client.host_interface());
    // Not with each packet: while it was closed, its neighbours may have given it up.
    soon("what it sends is judged", || {
        assert_ne!(client.connect(ip(WEB), 80), Reach::Open);
        node.daemon.drops(CLIENT).contains_key("policy-denied")
    });
    assert_eq!(node.enforcement(OTHER), "absent");
}

#[test]
fn a_restart_while_the_server_is_away_goes_on_under_the_rules_as_they_were() {
    let mut node = Node::new(&["--kubernetes-interfaces", "v*"]);
    node.api.put(yaml(WWW)).unwrap();
    soon("the policy is enforced", || node.enforcement(CLIENT) == "enforced");
    soon("it is kept", || node.keeps("matchName"));
    node.api.fault(|faults| faults.away = true);
    node.daemon.restart().unwrap();
    soon("the policy is in force again", || node.enforcement(CLIENT) == "enforced");
    node.resolves(CLIENT);
    let client = node.lab.pod(CLIENT);
    assert_eq!(client.connect(ip(WEB), 80), Reach::Open);
    assert_eq!(client.connect(ip("203.0.113.20"), 80), Reach::Silent);
    assert_eq!(node.lab.pod(OTHER).connect(ip(WEB), 80), Reach::Open);
    let told = node.daemon.problems();
    assert!(told.iter().any(|own| own.contains("not followed since")), "{told:?}");

    // A pod that the server never told of is nobody's, whatever the runtime says of it.
    node.lab.add_pod(PodSpec::new("default/late")).unwrap();
    let late = || node.lab.pod("default/late");
    node.runtime.put("default/late", &uid("default/late"), late().namespace().path());
    soon("the new interface is closed", || late().connect(ip(WEB), 80) == Reach::Silent);
    // Once it is back, the pod is known. Whoever was away for long is not asked at once.
    node.api.fault(|faults| faults.away = false);
    let documents = documents(node.lab.manifests().directory());
    let pod = documents.into_iter().find(|own| own["metadata"]["name"] == "late").unwrap();
    node.api.put(pod).unwrap();
    wait_until("it is open", PATIENCE, || late().connect(ip(WEB), 80) == Reach::Open).unwrap();
    node.resolves(CLIENT);
}

/// Another daemon on the same node, as an update begins one; it is killed with this.
struct Next {
    child: Child,
    socket: PathBuf,
}

impl Next {
    fn start(node: &Node) -> Self {
        let directory = node.lab.directory();
        let socket = directory.join("next.sock");
        let mut command = node.daemon.plain_command().unwrap();
        command.arg("--config").arg(node.daemon.configuration()).args(&node.flags).arg("--wait");
        command.arg("--socket").arg(&socket);
        command.arg("--hubble-socket").arg(directory.join("next-hubble.sock"));
        let log = fs::File::create(directory.join("next.log")).unwrap();
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Self { child, socket }
    }

    /// What it says of itself; nothing while it does not answer.
    fn health(&self, node: &Node) -> Value {
        let mut command = Command::new(node.daemon.ctl_command().unwrap().get_program());
        let output = command.arg("--socket").arg(&self.socket).args(["health", "-o", "json"]);
        serde_json::from_slice(&output.output().unwrap().stdout).unwrap_or_default()
    }
}

impl Drop for Next {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_daemon_that_is_refused_the_lists_stands_by_and_is_not_ready() {
    let node = Node::new(&[]);
    node.api.put(yaml(WWW)).unwrap();
    soon("the policy is enforced", || node.enforcement(CLIENT) == "enforced");
    soon("it is kept", || node.keeps("matchName"));
    node.api.fault(|faults| faults.refuse("/ciliumnetworkpolicies", 403, None));
    let next = Next::start(&node);
    let says = |what: &str| {
        let health = next.health(&node);
        (health["phase"] == "standing-by" && health.to_string().contains(what)).then_some(health)
    };
    let kept = "has not given this one all lists";
    wait_until("it has what was kept", PATIENCE, || says(kept).is_some()).unwrap();
    assert_eq!(next.health(&node)["ready"], false);
    assert_eq!(node.enforcement(CLIENT), "enforced");
    node.api.fault(|faults| faults.refusals.clear());
    let is_ready = || says("").is_some_and(|health| health["ready"] == true);
    wait_until("it has the lists", PATIENCE, is_ready).unwrap();
    node.resolves(CLIENT);
}
