//! A node with a container runtime, an API server that tells of its pods, and a daemon between the
//! two.

use std::path::PathBuf;

use integration::{
    Container, Daemon, Executed, KubeApi, Lab, LabOptions, NodeRuntime, PodNetwork, soon,
};
use serde_json::{Value, json};

pub const NODE: &str = "here";
pub const CLIENT: &str = "default/client";
/// Where `www.example.com` is, and a neighbour of it that has no name.
pub const WEB: &str = "203.0.113.10";
pub const BESIDE: &str = "203.0.113.20";
/// How the plugins' interfaces are named.
pub const INTERFACES: &str = "veth*";

/// A node with a container runtime, and an API server that tells of its pods. The fields' order is the order
/// of the end; a daemon ends before.
pub struct Node {
    pub runtime: NodeRuntime,
    pub api: KubeApi,
    pub kubeconfig: PathBuf,
    pub lab: Lab,
}

impl Node {
    pub fn new(network: PodNetwork) -> Self {
        let lab = Lab::new(LabOptions { pods: Vec::new(), ..LabOptions::default() }).unwrap();
        // As kube-proxy asks of nodes whose pods are on a bridge.
        let filtered =
            ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"];
        lab.node().set_sysctls(&filtered.map(|key| (key, "1"))).unwrap();
        let runtime = NodeRuntime::start(&lab, network).unwrap();
        let api = cluster(&lab);
        let kubeconfig = api.write_kubeconfig(lab.directory()).unwrap();
        Self { runtime, api, kubeconfig, lab }
    }

    /// A daemon that finds the runtime by itself, or is told otherwise by `flags`.
    pub fn daemon(&self, flags: &[&str]) -> Daemon {
        let watched = [
            "--kubeconfig",
            self.kubeconfig.to_str().unwrap(),
            "--kubernetes-node",
            NODE,
            "--kubernetes-spread",
            "0s",
            "--kubernetes-interfaces",
            INTERFACES,
        ];
        let flags = [&watched, flags].concat();
        Daemon::start_among(&self.lab, &flags, self.runtime.files()).unwrap()
    }

    /// Makes a pod's containers, of which the API server does not tell yet.
    pub fn run(&self, pod: &str, uid: &str) -> Container {
        self.runtime.run(pod, &self.uid(uid)).unwrap()
    }

    /// Has the API server tell of a pod that runs.
    pub fn tell(&self, pod: &str, uid: &str, container: &Container) {
        let uid = self.uid(uid);
        let (namespace, name) = pod.split_once('/').unwrap();
        let addresses: Vec<Value> =
            container.addresses.iter().map(|own| json!({"ip": own.to_string()})).collect();
        let document = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "uid": uid, "labels": {"app": name}},
            "spec": {"nodeName": NODE, "containers": [{"name": "main", "image": "busybox"}]},
            "status": {"phase": "Running", "podIP": addresses[0]["ip"], "podIPs": addresses},
        });
        self.api.put(document).unwrap();
    }

    /// A uid that no other lab's pod has: their cgroups are the machine's.
    pub fn uid(&self, uid: &str) -> String {
        format!("{uid}-{}-{}", std::process::id(), self.lab.number())
    }

    /// Runs a command in a container.
    pub fn exec(&self, container: &Container, command: &[&str]) -> Executed {
        self.runtime.exec(container, command).unwrap()
    }

    /// Has the container fetch something, from a name or an address, and be served.
    pub fn fetches(&self, container: &Container, host: &str) {
        let ran = self.fetch(container, host, "60");
        assert!(ran.code == 0 && ran.said.contains("asked by"), "{host}: {ran:?}");
    }

    /// The same, and nothing comes back.
    pub fn fetches_nothing(&self, container: &Container, host: &str) {
        let ran = self.fetch(container, host, "2");
        assert!(ran.code != 0 && !ran.said.contains("asked by"), "{host}: {ran:?}");
    }

    fn fetch(&self, container: &Container, host: &str, seconds: &str) -> Executed {
        let url = format!("http://{host}/");
        self.exec(container, &["timeout", seconds, "wget", "-q", "-O", "-", &url])
    }

    /// What the container's look-up comes to.
    pub fn looks_up(&self, container: &Container, name: &str) -> Executed {
        self.exec(container, &["nslookup", "-type=a", name])
    }

    /// The node's end of the container's interface, as the kernel has it.
    pub fn interface(&self, container: &Container) -> String {
        let ran = self.exec(container, &["cat", "/sys/class/net/eth0/iflink"]);
        let index = ran.said.trim().to_owned();
        let output = self.lab.node().command("ip").args(["-o", "link"]).output().unwrap();
        let links = String::from_utf8(output.stdout).unwrap();
        let line = links.lines().find(|line| line.split(':').next() == Some(&index)).unwrap();
        line.split([':', '@']).nth(1).unwrap().trim().to_owned()
    }
}

/// Waits until a pod is enforced like this.
pub fn becomes(daemon: &Daemon, pod: &str, enforcement: &str) {
    soon(&format!("{pod} is {enforcement}"), || daemon.enforcement(pod) == enforcement);
}

/// The lab's cluster: its DNS service's pod is of another node.
fn cluster(lab: &Lab) -> KubeApi {
    let api = KubeApi::start(Some(lab.node().clone())).unwrap();
    for definition in kubernetes::crd::definitions() {
        api.put(definition).unwrap();
    }
    for node in [NODE, "there"] {
        api.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})).unwrap();
    }
    let mut paths: Vec<_> = std::fs::read_dir(lab.manifests().directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    for path in paths {
        let text = std::fs::read_to_string(path).unwrap();
        for mut document in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            if document["kind"] == "Pod" {
                document["spec"]["nodeName"] = "there".into();
            }
            api.put(document).unwrap();
        }
    }
    let namespace = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
        })
    };
    api.put(namespace("default")).unwrap();
    api.put(namespace("kube-system")).unwrap();
    api
}

/// A document as JSON.
pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}
