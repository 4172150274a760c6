//! Who is behind an address, as pods come, go and move: with the real daemon and real packets.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use integration::{Pod, Ports, Reach, ip, soon};
use serde_json::{Value, json};

use crate::ground::yaml;
use crate::node::{CLIENT, Node};

const BACKEND: &str = "prod/backend";
/// How long strays are waited for.
const MOMENT: Duration = Duration::from_millis(500);

/// The client may send to what has a label, and nowhere else.
fn by_label(label: &str) -> Value {
    yaml(&format!(
        "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: by-label, namespace: default}}
spec:
  endpointSelector: {{matchLabels: {{app: client}}}}
  egress:
  - toEndpoints:
    - matchLabels: {{k8s:io.kubernetes.pod.namespace: prod, app: {label}}}
"
    ))
}

/// Datagrams of a pod to the echo service of an address, each a flow of its own, until this is
/// asked for what came back.
struct Probe {
    ends: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: thread::JoinHandle<io::Result<u64>>,
}

impl Probe {
    fn begin(pod: &Pod, to: IpAddr) -> Self {
        let (ends, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ended, count) = (Arc::clone(&ends), Arc::clone(&sent));
        let thread = pod.namespace().spawn("probe", move || {
            let mut echoed = 0;
            while !ended.load(Ordering::Relaxed) {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
                socket.send_to(b"?", SocketAddr::new(to, Ports::ECHO)).unwrap();
                echoed += u64::from(socket.recv(&mut [0]).is_ok());
                count.fetch_add(1, Ordering::Relaxed);
            }
            echoed
        });
        let thread = thread.unwrap();
        Self { ends, sent, thread }
    }

    /// How many were answered, of as many as were sent in some more time.
    fn answered(self) -> u64 {
        let before = self.sent.load(Ordering::Relaxed);
        thread::sleep(MOMENT);
        soon("some were sent", || self.sent.load(Ordering::Relaxed) > before + 3);
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap()
    }
}

/// A pod of the cluster as another one, at the same address.
fn another(node: &Node, of: &str, name: &str, app: &str) -> Value {
    let mut pod = node.described(of);
    pod["metadata"]["name"] = name.into();
    pod["metadata"]["uid"] = format!("uid-of-{name}").into();
    pod["metadata"]["labels"] = json!({ "app": app });
    // It lives elsewhere, so that nobody here is bound for it.
    pod["spec"]["nodeName"] = "there".into();
    pod
}

#[test]
fn an_address_that_passes_to_another_pod_takes_no_right_along() {
    for new_is_told_first in [true, false] {
        let node = Node::new(&[]);
        node.api.put(by_label("backend")).unwrap();
        soon("the policy is enforced", || node.enforcement(CLIENT) == "enforced");
        let (client, address) = (node.lab.pod(CLIENT), node.lab.pod(BACKEND).ipv4().into());
        let reaches = || client.echo(address) == Reach::Open;
        soon("the backend may be reached", reaches);

        // From the moment on in which the address is in doubt, nothing comes through.
        let put = |app| node.api.put(another(&node, BACKEND, "successor", app)).unwrap();
        let remove = || node.api.delete("pods", Some("prod"), "backend").unwrap();
        if new_is_told_first {
            put("other");
        } else {
            remove();
        }
        let drops = || node.daemon.drops(CLIENT).values().sum::<u64>();
        soon("it is not the backend's any more", || {
            let before = drops();
            !reaches() && drops() > before
        });
        let probe = Probe::begin(client, address);
        if new_is_told_first {
            remove();
        } else {
            put("other");
        }
        assert_eq!(probe.answered(), 0, "told first: {new_is_told_first}");
        put("backend");
        soon("what it is now may be reached", reaches);
    }
}

#[test]
fn a_pod_that_restarts_with_another_address_leaves_nothing_at_the_old_one() {
    const NEW: &str = "10.244.0.99";
    let node = Node::new(&["--kubernetes-interfaces", "v*"]);
    node.api.put(by_label("backend")).unwrap();
    soon("the policy is enforced", || node.enforcement(CLIENT) == "enforced");
    let backend = node.lab.pod(BACKEND);
    let (client, old) = (node.lab.pod(CLIENT), IpAddr::from(backend.ipv4()));
    soon("the backend may be reached", || client.echo(old) == Reach::Open);

    // Its namespace has both addresses; which one is the pod's, the cluster says.
    backend.namespace().ip(&format!("addr add {NEW}/32 dev eth0")).unwrap();
    let route = format!("route add {NEW}/32 dev {}", backend.host_interface());
    node.lab.node().ip(&route).unwrap();
    assert_eq!(client.echo(ip(NEW)), Reach::Silent, "it is nobody's yet");
    let mut restarted = node.described(BACKEND);
    restarted["status"]["podIP"] = NEW.into();
    restarted["status"]["podIPs"] = json!([{ "ip": NEW }]);
    node.api.put(restarted).unwrap();
    soon("the new address may be reached", || client.echo(ip(NEW)) == Reach::Open);
    // What grows is written before what shrinks.
    soon("the old one may not", || client.echo(old) == Reach::Silent);
    // Nor may it send by the old one.
    let spoofed = || node.daemon.dropped(BACKEND, "spoofed-source");
    let before = spoofed();
    let send = || {
        let socket = UdpSocket::bind((old, 0)).unwrap();
        socket.send_to(b"?", ("203.0.113.10", Ports::ECHO)).unwrap();
    };
    backend.namespace().run(send).unwrap();
    soon("it is dropped", || spoofed() > before);
}

#[test]
fn a_pod_on_the_nodes_network_is_the_node_and_is_bound_to_nothing() {
    let mut node = Node::new(&[]);
    node.lab.serve_on_node().unwrap();
    let (node4, node6) = node.lab.node_addresses();
    soon("the pods are bound", || node.enforcement(CLIENT) == "open");
    // The runtime's record of it leads into another pod, by mistake or malice.
    let mut agent = node.described(BACKEND);
    agent["metadata"]["name"] = "agent".into();
    agent["metadata"]["uid"] = "uid-of-agent".into();
    agent["metadata"]["labels"] = json!({"app": "agent"});
    agent["metadata"]["annotations"] = json!({});
    agent["spec"]["hostNetwork"] = true.into();
    agent["status"]["podIP"] = node4.to_string().into();
    agent["status"]["podIPs"] = json!([{ "ip": node4.to_string() }, { "ip": node6.to_string() }]);
    node.runtime.put("prod/agent", "uid-of-agent", node.lab.pod(CLIENT).namespace().path());
    node.api.put(agent).unwrap();
    node.api.put(by_label("agent")).unwrap();
    soon("the policy is enforced", || node.enforcement(CLIENT) == "enforced");
    assert_eq!(node.enforcement("prod/agent"), "absent");
    let client = node.lab.pod(CLIENT);
    assert_eq!(node.daemon.endpoint(CLIENT)["interface"], client.host_interface());
    for address in [IpAddr::from(node4), IpAddr::from(node6)] {
        assert_eq!(client.connect(address, Ports::HTTP), Reach::Silent, "its labels are not there");
    }
    let to_host = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: to-host, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toEntities: [host]
";
    node.api.put(yaml(to_host)).unwrap();
    for address in [IpAddr::from(node4), IpAddr::from(node6)] {
        soon("the node may be reached", || client.connect(address, Ports::HTTP) == Reach::Open);
    }
}
