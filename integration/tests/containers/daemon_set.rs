//! The daemon as a cluster runs it: the shipped image's root and the shipped manifests' container,
//! in a pod, by the container runtime; and `kubectl fqdn`, which asks it through kubectl.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use integration::{Container, ContainerSpec, Exposed, KubeApi, Pins, PodNetwork, WWW, soon};
use serde_json::{Value, json};

use crate::ground::{BESIDE, CLIENT, INTERFACES, NODE, Node, WEB, yaml};

const IMAGE: &str = "lab.invalid/fqdnd:1";
const DAEMON: &str = "kube-system/fqdnd-here";
/// Where a pod finds who it is, and whom it may trust.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[test]
fn kubectl_fqdn_asks_the_daemon_that_enforces_from_a_pod_as_it_is_shipped() {
    let node = Node::new(PodNetwork::Bridge);
    let pins = Pins::of(&node.lab);
    let daemon = deploy(&node, &pins);
    let kubectl = Kubectl::new(&node);
    soon("its probe succeeds", || {
        let probe = ["/usr/bin/fqdnctl", "health"];
        node.exec(&daemon, &probe).code == 0
    });

    node.api.put(yaml(WWW)).unwrap();
    let client = node.run(CLIENT, "uid-1");
    // Closed until the API server tells of it.
    node.fetches_nothing(&client, WEB);
    node.tell(CLIENT, "uid-1", &client);
    let endpoint = ["--pod", CLIENT, "endpoint", "get", CLIENT, "-o", "json"];
    let endpoint = || -> Value {
        let told = kubectl.fqdn(&endpoint);
        serde_json::from_slice(&told.stdout).unwrap_or_else(|_| json!({"said": told.stderr}))
    };
    soon("the policy is enforced", || endpoint()["enforcement"] == "enforced");
    assert_eq!(endpoint()["interface"], node.interface(&client));
    node.fetches(&client, "www.example.com");
    node.fetches(&client, WEB);
    node.fetches_nothing(&client, BESIDE);

    let dropped = || {
        let observed = ["--node", NODE, "observe", "--pod", CLIENT, "--verdict", "drop"];
        String::from_utf8(kubectl.fqdn(&observed).stdout).unwrap()
    };
    soon("the drop is told", || dropped().contains(BESIDE));
    let explained = ["policy", "explain", "--from", CLIENT, "--to", "www.example.com"];
    let explained = kubectl.fqdn(&[&explained[..], &["--port", "80/TCP"]].concat());
    assert!(explained.status.success(), "{explained:?}");

    let health = kubectl.fqdn(&["--all-nodes", "health"]);
    assert!(health.status.success(), "{health:?}");
    assert!(String::from_utf8_lossy(&health.stderr).contains("here:\n"), "{health:?}");
    let none = kubectl.fqdn(&["--context", "test", "cache", "list", "-e", "default/none"]);
    assert_eq!(none.status.code(), Some(1), "fqdnctl's own: {none:?}");
    let nowhere = kubectl.fqdn(&["--node", "there", "health"]);
    let told = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert!(told.contains("no fqdnd runs on the node there"), "{told}");

    // What needs no daemon runs on this machine, and asks nobody.
    let asked = node.api.asked().len();
    assert!(kubectl.fqdn(&["pattern", "*.example.com", "a.example.com"]).status.success());
    let pattern = kubectl.fqdn(&["pattern", "*.example.com", "a.example.org"]);
    assert_eq!(pattern.status.code(), Some(1), "{pattern:?}");
    assert_eq!(kubectl.fqdn(&["no-such-command"]).status.code(), Some(2));
    let own = |path: &str| path.starts_with("/api/v1/pods?labelSelector=app");
    assert!(node.api.asked()[asked..].iter().all(|(_, path)| !own(path)));
}

/// kubectl on the node, with the plugin where it looks for such.
struct Kubectl<'a> {
    node: &'a Node,
    path: String,
}

impl<'a> Kubectl<'a> {
    fn new(node: &'a Node) -> Self {
        let directory = node.lab.directory().join("bin");
        fs::create_dir(&directory).unwrap();
        symlink(programs().join("fqdnctl"), directory.join("kubectl-fqdn")).unwrap();
        let path = std::env::var("PATH").unwrap();
        Self { node, path: format!("{}:{path}", directory.display()) }
    }

    fn fqdn(&self, arguments: &[&str]) -> Output {
        let mut command = self.node.lab.node().command("kubectl");
        command.env("PATH", &self.path).env("KUBECONFIG", &self.node.kubeconfig);
        // What kubectl remembers of servers goes with this one.
        command.env("HOME", self.node.lab.directory());
        command.arg("fqdn").args(arguments).output().unwrap()
    }
}

/// Runs the shipped container as a kubelet would, and has the API server tell of its pod.
fn deploy(node: &Node, pins: &Pins) -> Container {
    let manifests: Vec<Value> = serde_saphyr::from_multiple(&manifests(node)).unwrap();
    let of_kind = |kind: &str| manifests.iter().find(|own| own["kind"] == kind).unwrap();

    let root = node.lab.directory().join("fqdnd");
    let mut command = Command::new(repository().join("deploy/image-root"));
    let output = command.arg(programs()).arg(&root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    node.runtime.take_image(&root, IMAGE).unwrap();

    let pod = &of_kind("DaemonSet")["spec"]["template"];
    let shipped = &pod["spec"]["containers"][0];
    let environment = environment(shipped, &node.api);
    let volumes = Volumes { node, configuration: configuration(of_kind("ConfigMap"), pins) };
    let mut exposed = volumes.of(pod);
    exposed.push(volumes.account());
    let command = [&shipped["command"], &shipped["args"]].map(strings);
    let spec = ContainerSpec {
        name: "fqdnd".to_owned(),
        image: IMAGE.to_owned(),
        command: command.concat().iter().map(|own| expanded(own, &environment)).collect(),
        environment: environment.into_iter().collect(),
        host_network: pod["spec"]["hostNetwork"] == true,
        exposed,
        rights: Some(strings(&shipped["securityContext"]["capabilities"]["add"])),
    };
    let uid = node.uid("uid-fqdnd");
    let container = node.runtime.run_as(DAEMON, &uid, &spec).unwrap();

    let (namespace, name) = DAEMON.split_once('/').unwrap();
    let mut told = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": pod["metadata"], "spec": pod["spec"],
        "status": {"phase": "Running"},
    });
    told["metadata"]["name"] = name.into();
    told["metadata"]["namespace"] = namespace.into();
    told["metadata"]["uid"] = uid.into();
    told["spec"]["nodeName"] = NODE.into();
    node.api.put(told).unwrap();
    node.api.run_commands(DAEMON, node.runtime.kubelet(&container));
    container
}

/// The shipped manifests, as the chart has them for the node's runtime: its socket in the place of
/// containerd's, and the directory in which that is.
fn manifests(node: &Node) -> String {
    let shipped = repository().join("deploy/kubernetes/fqdnd.yaml");
    let shipped = fs::read_to_string(shipped).unwrap();
    let containerd = Path::new("/run/containerd/containerd.sock");
    let own = node.runtime.socket();
    let places =
        [(containerd, own.as_path()), (containerd.parent().unwrap(), own.parent().unwrap())];
    places.into_iter().fold(shipped, |text, (from, to)| {
        text.replace(from.to_str().unwrap(), to.to_str().unwrap())
    })
}

/// The shipped configuration, with what the chart adds for such a network; it pins beside others.
fn configuration(shipped: &Value, pins: &Pins) -> String {
    let mut configuration = yaml(shipped["data"]["fqdnd.yaml"].as_str().unwrap());
    configuration["kubernetes"]["interfaces"] = json!([INTERFACES]);
    configuration["kubernetes"]["spread"] = "0s".into();
    configuration["bpf"]["pinDirectory"] = pins.path().to_str().unwrap().into();
    configuration.to_string()
}

/// The volumes of a pod.
struct Volumes<'a> {
    node: &'a Node,
    configuration: String,
}

impl Volumes<'_> {
    /// What the first container of a pod sees of the node's.
    fn of(&self, pod: &Value) -> Vec<Exposed> {
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array().unwrap();
        let exposed = mounts.iter().map(|mount| {
            let volume = volumes.iter().find(|own| own["name"] == mount["name"]).unwrap();
            Exposed {
                on_node: self.place(volume),
                inside: mount["mountPath"].as_str().unwrap().to_owned(),
                read_only: mount["readOnly"] == true,
                follows: mount["mountPropagation"] == "HostToContainer",
            }
        });
        exposed.collect()
    }

    /// Where a volume is on the node.
    fn place(&self, volume: &Value) -> PathBuf {
        if let Some(path) = volume["hostPath"]["path"].as_str() {
            if volume["hostPath"]["type"] == "DirectoryOrCreate" {
                self.node.runtime.make_directory(Path::new(path)).unwrap();
            }
            return path.into();
        }
        let own = self.directory(volume["name"].as_str().unwrap());
        if volume["configMap"].is_object() {
            fs::write(own.join("fqdnd.yaml"), &self.configuration).unwrap();
        } else {
            assert!(volume["emptyDir"].is_object(), "{volume}");
        }
        own
    }

    fn account(&self) -> Exposed {
        let own = self.directory("account");
        fs::write(own.join("token"), KubeApi::TOKEN).unwrap();
        fs::write(own.join("ca.crt"), self.node.api.authority()).unwrap();
        fs::write(own.join("namespace"), "kube-system").unwrap();
        Exposed { on_node: own, inside: ACCOUNT.to_owned(), read_only: true, follows: false }
    }

    fn directory(&self, name: &str) -> PathBuf {
        let own = self.node.lab.directory().join("volumes").join(name);
        fs::create_dir_all(&own).unwrap();
        own
    }
}

/// The shipped container's environment, and what each container is told of the API server.
fn environment(shipped: &Value, api: &KubeApi) -> BTreeMap<String, String> {
    let named = shipped["env"].as_array().unwrap().iter().map(|own| {
        let field = own["valueFrom"]["fieldRef"]["fieldPath"].as_str().unwrap();
        let value = match field {
            "spec.nodeName" => NODE,
            "metadata.namespace" => "kube-system",
            "status.hostIP" => "172.20.0.2",
            other => panic!("{other}"),
        };
        (own["name"].as_str().unwrap().to_owned(), value.to_owned())
    });
    let url = api.url();
    let (host, port) = url.strip_prefix("https://").unwrap().split_once(':').unwrap();
    let server = [("KUBERNETES_SERVICE_HOST", host), ("KUBERNETES_SERVICE_PORT", port)];
    let server = server.map(|(key, value)| (key.to_owned(), value.to_owned()));
    named.chain(server).collect()
}

/// A word of a command, in which `$(NAME)` stands for a variable.
fn expanded(word: &str, environment: &BTreeMap<String, String>) -> String {
    let replaced = |word: String, (name, value): (&String, &String)| {
        word.replace(&format!("$({name})"), value)
    };
    environment.iter().fold(word.to_owned(), replaced)
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|own| own.as_str().unwrap().to_owned()).collect()
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The directory of the workspace's programs, above that of the tests.
fn programs() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    here.parent().unwrap().parent().unwrap().to_owned()
}
