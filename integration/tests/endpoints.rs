//! Which interface is whose: bound by the record alone, when it appears and for as long as it
//! lives, and nobody's where the record is in doubt.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use aya::programs::{SchedClassifier, TcAttachType};
use hickory_proto::{op::ResponseCode, rr::RecordType};
use integration::{
    Binding, Daemon, Lab, LabOptions, Namespace, Packet, PodSpec, Ports, Reach, Resolver, Topology,
    ip, soon,
};
use nix::net::if_::if_nametoindex;

const CLIENT: &str = "default/client";
const OTHER: &str = "default/other";
const WEB: &str = "203.0.113.10";

/// Every pod of the namespace may ask for one name and reach it.
const POLICY: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: one-name
  namespace: default
spec:
  endpointSelector: {}
  egress:
  - toEndpoints:
    - matchLabels:
        k8s:io.kubernetes.pod.namespace: kube-system
        k8s-app: kube-dns
    toPorts:
    - ports:
      - {port: "53", protocol: ANY}
      rules:
        dns:
        - matchName: www.example.com
  - toFQDNs:
    - matchName: www.example.com
"#;

#[test]
fn a_pod_is_bound_by_its_interface_or_by_its_namespace() {
    for topology in [Topology::Routed, Topology::Bridged] {
        let (lab, daemon) = begin(LabOptions::with_topology(topology), &[]);
        for (path, binding) in [(CLIENT, Binding::Interface), (OTHER, Binding::Namespace)] {
            let pod = lab.pod(path);
            assert_eq!(pod.spec().binding, binding);
            let endpoint = daemon.endpoint(path);
            assert_eq!(endpoint["interface"], pod.host_interface());
            assert_eq!(endpoint["enforcement"], "enforced");
            assert_eq!(pod.connect(ip(WEB), 80), Reach::Silent);
            resolve(&lab, path);
            assert_eq!(pod.connect(ip(WEB), 80), Reach::Open);
        }
    }
}

#[test]
fn an_interface_that_appears_later_is_bound_when_it_appears() {
    for path in [CLIENT, OTHER] {
        let lab = Lab::new(LabOptions::default()).unwrap();
        lab.policy("one-name", POLICY).unwrap();
        lab.cut(path).unwrap();
        let daemon = Daemon::start(&lab, &["--log-level", "debug"]).unwrap();
        let problems = daemon.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(&format!("pod {path}: ")), "{problems:?}");
        println!("{}", problems[0]);
        assert!(daemon.enforcement(path).starts_with("denied ("), "{}", daemon.enforcement(path));

        let wired = std::time::Instant::now();
        lab.wire(path).unwrap();
        let laid = wired.elapsed();
        let took = soon("its interface is bound", || daemon.enforcement(path) == "enforced");
        println!("{path}: laid in {laid:?}, bound {took:?} later");
        assert_eq!(daemon.problems(), [""; 0]);
        assert_eq!(lab.pod(path).connect(ip(WEB), 80), Reach::Silent);
        resolve(&lab, path);
        assert_eq!(lab.pod(path).connect(ip(WEB), 80), Reach::Open);
    }
}

#[test]
fn programs_are_detached_when_the_pod_goes() {
    for mode in ["tcx", "clsact"] {
        let (lab, daemon) = begin(LabOptions::default(), &["--bpf-attach", mode]);
        let pod = lab.pod(CLIENT);
        let interface = pod.host_interface();
        let before = attached(lab.node(), interface);
        assert_eq!(before, Attached::of(mode, 2), "{mode}");
        assert_eq!(pod.connect(ip(WEB), 80), Reach::Silent);

        lab.manifests().remove("pod-default-client").unwrap();
        soon("the programs are gone", || attached(lab.node(), interface) == Attached::of(mode, 0));
        soon("the endpoint is gone", || daemon.enforcement(CLIENT) == "absent");
        assert_eq!(pod.connect(ip(WEB), 80), Reach::Open, "nobody's interface is let alone");
        assert_eq!(
            attached(lab.node(), lab.pod(OTHER).host_interface()),
            Attached::of(mode, 2),
            "the others' stay"
        );
    }
}

#[test]
fn a_pod_that_goes_with_its_interface_leaves_nothing() {
    let (mut lab, daemon) = begin(LabOptions::default(), &[]);
    resolve(&lab, CLIENT);
    let number = daemon.endpoint(CLIENT)["id"].to_string();
    lab.remove_pod(CLIENT).unwrap();
    soon("the endpoint is gone", || daemon.enforcement(CLIENT) == "absent");
    for map in ["leases", "names", "sources"] {
        let rows = &daemon.maps(&[map])[map];
        let own = |key: &str| key.split_whitespace().take(2).eq(["endpoint", number.as_str()]);
        assert!(rows.iter().all(|(key, _)| !own(key)), "{map}: {rows:?}");
    }
    assert_eq!(daemon.problems(), [""; 0]);
}

#[test]
fn an_interface_made_again_under_its_name_is_another_endpoint() {
    let (lab, daemon) = begin(LabOptions::default(), &[]);
    let pod = lab.pod(CLIENT);
    resolve(&lab, CLIENT);
    assert_eq!(pod.connect(ip(WEB), 80), Reach::Open);
    let first = daemon.endpoint(CLIENT)["id"].clone();

    // At once, so that both messages may be read together.
    lab.cut(CLIENT).unwrap();
    lab.wire(CLIENT).unwrap();
    soon("the new interface is bound", || {
        daemon.enforcement(CLIENT) == "enforced" && daemon.endpoint(CLIENT)["id"] != first
    });
    let second = daemon.endpoint(CLIENT)["id"].clone();
    assert!(daemon.learned_for(CLIENT, "www.example.com.").is_empty());
    assert_eq!(pod.connect(ip(WEB), 80), Reach::Silent, "what the old one learned is gone");
    resolve(&lab, CLIENT);
    assert_eq!(pod.connect(ip(WEB), 80), Reach::Open);

    // And with time between.
    lab.cut(CLIENT).unwrap();
    soon("the interface is missed", || daemon.enforcement(CLIENT).starts_with("denied ("));
    assert_eq!(daemon.problems().len(), 1);
    lab.wire(CLIENT).unwrap();
    soon("the third interface is bound", || daemon.enforcement(CLIENT) == "enforced");
    assert_ne!(daemon.endpoint(CLIENT)["id"], second);
    assert_eq!(pod.connect(ip(WEB), 80), Reach::Silent);
    assert_eq!(daemon.problems(), [""; 0]);
}

#[test]
fn interfaces_that_come_and_go_leave_nothing_behind() {
    for (topology, path) in [(Topology::Routed, CLIENT), (Topology::Bridged, OTHER)] {
        let (lab, daemon) = begin(LabOptions::with_topology(topology), &[]);
        let maps = ["endpoints", "sources", "prefixes", "rows", "numbers"];
        let sizes = || maps.map(|map| (map, daemon.maps(&[map])[map].len()));
        let others = |daemon: &Daemon| daemon.endpoint("prod/backend")["id"].clone();
        // The set of names stays with the table, for whoever resolves one next.
        resolve(&lab, path);
        let (before, other) = (sizes(), others(&daemon));
        for round in 0..20 {
            let old = index(&lab, path);
            lab.cut(path).unwrap();
            lab.wire(path).unwrap();
            assert_ne!(index(&lab, path), old);
            if round % 5 == 0 {
                soon("the new interface is bound", || is_bound(&lab, &daemon, path));
                resolve(&lab, path);
            }
        }
        let interface = lab.pod(path).host_interface();
        soon("the last interface is bound", || is_bound(&lab, &daemon, path));
        soon("its programs", || attached(lab.node(), interface) == Attached::of("tcx", 2));
        soon("nothing of the others is left", || sizes() == before);
        for map in ["leases", "names"] {
            soon(&format!("no {map}"), || daemon.maps(&[map])[map].is_empty());
        }
        assert_eq!(others(&daemon), other);
        assert_eq!(lab.pod(path).connect(ip(WEB), 80), Reach::Silent, "{topology:?}");
        resolve(&lab, path);
        assert_eq!(lab.pod(path).connect(ip(WEB), 80), Reach::Open, "{topology:?}");
        assert_eq!(daemon.problems(), [""; 0]);
    }
}

#[test]
fn an_interface_made_again_while_no_daemon_runs_is_another_endpoint() {
    for topology in [Topology::Routed, Topology::Bridged] {
        let (lab, mut daemon) = begin(LabOptions::with_topology(topology), &[]);
        resolve(&lab, CLIENT);
        let first = daemon.endpoint(CLIENT)["id"].clone();
        daemon.kill9().unwrap();
        lab.cut(CLIENT).unwrap();
        lab.wire(CLIENT).unwrap();
        daemon.restart().unwrap();
        assert_eq!(daemon.enforcement(CLIENT), "enforced");
        assert_ne!(daemon.endpoint(CLIENT)["id"], first);
        assert!(daemon.learned(CLIENT).is_empty());
        assert_eq!(daemon.maps(&["leases"])["leases"], []);
        assert_eq!(lab.pod(CLIENT).connect(ip(WEB), 80), Reach::Silent, "{topology:?}");
        resolve(&lab, CLIENT);
        assert_eq!(lab.pod(CLIENT).connect(ip(WEB), 80), Reach::Open, "{topology:?}");
        assert_eq!(daemon.problems(), [""; 0]);
    }
}

#[test]
fn an_interface_claimed_twice_is_nobodys_until_one_claim_is_left() {
    let (lab, daemon) = begin(LabOptions::default(), &[]);
    let pod = lab.pod(CLIENT);
    resolve(&lab, CLIENT);
    assert_eq!(pod.connect(ip(WEB), 80), Reach::Open);

    let usurper = claim("usurper", pod.host_interface(), "10.244.9.9");
    lab.manifests().write("usurper", &usurper).unwrap();
    for path in [CLIENT, "default/usurper"] {
        soon("both claims are denied", || daemon.enforcement(path) == "denied (endpoint-conflict)");
    }
    let told = daemon.problems();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().any(|told| told.contains("pod default/client: interface ")), "{told:?}");
    assert!(told.iter().any(|told| told.contains("pod default/usurper: interface ")), "{told:?}");
    assert!(told.iter().all(|told| told.contains("is claimed by default/")), "{told:?}");
    let before = daemon.count("drops", "endpoint-conflict");
    assert_eq!(pod.connect(ip(WEB), 80), Reach::Silent);
    assert!(daemon.count("drops", "endpoint-conflict") > before);
    assert!(daemon.dropped(CLIENT, "endpoint-conflict") > 0, "the claimants see the drops");

    lab.manifests().remove("usurper").unwrap();
    soon("the claim that is left is bound", || daemon.enforcement(CLIENT) == "enforced");
    assert_eq!(daemon.problems(), [""; 0]);
    resolve(&lab, CLIENT);
    assert_eq!(pod.connect(ip(WEB), 80), Reach::Open);
}

#[test]
fn an_interface_that_is_not_found_is_told_and_the_others_are_not_touched() {
    let (lab, daemon) = begin(LabOptions::default(), &[]);
    let number = daemon.endpoint(CLIENT)["id"].clone();
    resolve(&lab, CLIENT);
    lab.manifests().write("ghost", &claim("ghost", "nowhere0", "10.244.9.9")).unwrap();
    soon("it is told", || {
        daemon.problems() == ["pod default/ghost: the node has no interface `nowhere0`"]
    });
    assert!(daemon.enforcement("default/ghost").starts_with("denied ("));
    let counts = &daemon.ctl_json(&["status"]).unwrap()["endpoints"];
    assert_eq!(*counts, serde_json::json!({"open": 2, "enforced": 2, "audited": 0, "denied": 1}));
    assert_eq!(daemon.endpoint(CLIENT)["id"], number);
    assert_eq!(lab.pod(CLIENT).connect(ip(WEB), 80), Reach::Open);
    lab.manifests().remove("ghost").unwrap();
    soon("it is forgotten", || daemon.problems().is_empty());
    assert_eq!(daemon.enforcement("default/ghost"), "absent");
}

#[test]
fn swapped_annotations_move_no_binding() {
    let options = LabOptions {
        pods: vec![PodSpec::new(CLIENT), PodSpec::new("default/peer")],
        ..LabOptions::default()
    };
    let (lab, daemon) = begin(options, &[]);
    let (client, peer) = (lab.pod(CLIENT), lab.pod("default/peer"));
    let numbers = [CLIENT, "default/peer"].map(|path| daemon.endpoint(path)["id"].clone());
    resolve(&lab, CLIENT);
    let directory = lab.manifests().directory();
    let read = |name: &str| fs::read_to_string(directory.join(format!("{name}.yaml"))).unwrap();
    let (one, two) = (read("pod-default-client"), read("pod-default-peer"));
    let swap = |text: &str, from: &str, to: &str| text.replace(from, to);
    let (first, second) = (client.host_interface(), peer.host_interface());
    lab.manifests().write("pod-default-client", &swap(&one, first, second)).unwrap();
    lab.manifests().write("pod-default-peer", &swap(&two, second, first)).unwrap();
    soon("both are told", || daemon.problems().len() == 2);
    for told in daemon.problems() {
        assert!(told.contains("stays bound to interface "), "{told}");
    }
    for (path, number) in [CLIENT, "default/peer"].into_iter().zip(numbers) {
        let endpoint = daemon.endpoint(path);
        assert_eq!(endpoint["id"], number);
        assert_eq!(endpoint["interface"], lab.pod(path).host_interface());
        assert_eq!(endpoint["enforcement"], "enforced");
    }
    // What one has learned is still its own, and not the other's.
    assert_eq!(client.connect(ip(WEB), 80), Reach::Open);
    assert_eq!(peer.connect(ip(WEB), 80), Reach::Silent);

    lab.manifests().write("pod-default-client", &one).unwrap();
    lab.manifests().write("pod-default-peer", &two).unwrap();
    soon("all is well again", || daemon.problems().is_empty());
}

#[test]
fn a_plain_hosts_interface_is_an_endpoint_like_any_other() {
    let lab = Lab::new(LabOptions { pods: Vec::new(), ..LabOptions::default() }).unwrap();
    let runner = Namespace::new(format!("{}-runner", lab.node().name())).unwrap();
    lab.policy("plain-host", include_str!("../../examples/plain-host.yaml")).unwrap();
    let daemon = Daemon::start(&lab, &["--learning-resolvers", "9.9.9.9"]).unwrap();
    lay_runner(&lab, &runner);
    soon("it is bound", || daemon.enforcement("default/build-runner") == "enforced");

    let ask = |name: &str| {
        let resolver = Resolver::new(ip("9.9.9.9"));
        runner.run(|| resolver.ask(name, RecordType::A)).unwrap().unwrap()
    };
    let reach = |address: &str| Reach::tcp(&runner, address.parse().unwrap()).unwrap();
    assert_eq!(reach("203.0.113.60:443"), Reach::Silent);
    assert_eq!(ask("www.example.com").code, ResponseCode::Refused);
    assert_eq!(ask("github.com").addresses, [ip("203.0.113.60")]);
    assert_eq!(reach("203.0.113.60:443"), Reach::Open);
    assert_eq!(reach("203.0.113.60:80"), Reach::Silent);
    assert_eq!(reach("203.0.113.61:443"), Reach::Silent);
    assert_eq!(ask("api.github.com").addresses, [ip("203.0.113.61")]);
    assert_eq!(reach("203.0.113.61:443"), Reach::Open);
    assert_eq!(daemon.problems(), [""; 0]);
}

#[test]
fn an_address_that_two_pods_have_is_nobodys() {
    let (lab, daemon) = begin(LabOptions::default(), &[]);
    let to_other = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: to-other, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toEndpoints:
    - matchLabels: {app: other}
"#;
    lab.policy("to-other", to_other).unwrap();
    let (client, backend) = (lab.pod(CLIENT), lab.pod("prod/backend"));
    let shared = backend.addresses()[0];
    let other = lab.pod(OTHER);
    soon("the other is reached", || client.echo(other.addresses()[0]) == Reach::Open);
    assert_eq!(client.echo(shared), Reach::Silent);

    // A pod that says it has the backend's address does not open the backend to its friends.
    let file = lab.manifests().directory().join("pod-default-other.yaml");
    let own = fs::read_to_string(&file).unwrap();
    let claiming = own.replace("  podIPs:\n", &format!("  podIPs:\n  - ip: {shared}\n"));
    assert_ne!(own, claiming);
    lab.manifests().write("pod-default-other", &claiming).unwrap();
    soon("it is told", || {
        daemon.problems().iter().any(|told| {
            told == &format!(
                "address {shared} is claimed by default/other and prod/backend: it is nobody's"
            )
        })
    });
    assert_eq!(client.echo(shared), Reach::Silent);
    assert_eq!(client.echo(other.addresses()[0]), Reach::Open);
    lab.manifests().write("pod-default-other", &own).unwrap();
    soon("it is well again", || daemon.problems().is_empty());
}

#[test]
fn another_pods_address_inside_a_pod_gains_nothing() {
    for topology in [Topology::Routed, Topology::Bridged] {
        let (lab, daemon) = begin(LabOptions::with_topology(topology), &[]);
        let (client, other) = (lab.pod(CLIENT), lab.pod(OTHER));
        resolve(&lab, OTHER);
        assert_eq!(other.connect(ip(WEB), 80), Reach::Open);
        // The gateway is known by now: it would tell its address to no stranger.
        for target in [WEB, "2001:db8:1::10"] {
            assert_eq!(client.connect(ip(target), 80), Reach::Silent);
        }
        for address in other.addresses() {
            let length = if address.is_ipv4() { "32" } else { "128 nodad" };
            let (stolen, target) = if address.is_ipv4() {
                (SocketAddr::new(address, 0), SocketAddr::new(ip(WEB), Ports::ECHO))
            } else {
                (SocketAddr::new(address, 0), SocketAddr::new(ip("2001:db8:1::10"), Ports::ECHO))
            };
            let length =
                length.split_once(' ').map_or((length, ""), |(length, flag)| (length, flag));
            let script = format!("addr add {address}/{} dev eth0 {}\n", length.0, length.1);
            client.namespace().ip(&script).unwrap();
            let before = daemon.dropped(CLIENT, "spoofed-source");
            let answered = client.namespace().run(|| {
                let socket = UdpSocket::bind(stolen).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
                socket.connect(target).unwrap();
                socket.send(b"?").unwrap();
                socket.recv(&mut [0; 1]).is_ok()
            });
            assert!(!answered.unwrap(), "{topology:?} {address}");
            let drops = daemon.drops(CLIENT);
            assert_eq!(
                daemon.dropped(CLIENT, "spoofed-source"),
                before + 1,
                "{topology:?} {address} {drops:?}"
            );
        }
        // Nor does a question in the other's name: it would be the other's to learn.
        let server = SocketAddr::new(lab.dns_pod().addresses()[0], 53);
        let question =
            Packet::udp(SocketAddr::new(other.addresses()[0], 5353), server, b"question");
        let before = daemon.dropped(CLIENT, "spoofed-source");
        question.send(client.namespace()).unwrap();
        soon("it is dropped", || daemon.dropped(CLIENT, "spoofed-source") == before + 1);
        assert_eq!(daemon.endpoint(CLIENT)["enforcement"], "enforced");
    }
}

fn begin(options: LabOptions, flags: &[&str]) -> (Lab, Daemon) {
    let lab = Lab::new(options).unwrap();
    lab.policy("one-name", POLICY).unwrap();
    let daemon = Daemon::start(&lab, &[&["--log-level", "debug"], flags].concat()).unwrap();
    (lab, daemon)
}

/// Has a pod learn the one name.
fn resolve(lab: &Lab, path: &str) {
    let resolver = Resolver::new(lab.dns_service()[0]);
    let answer = lab.pod(path).ask(resolver, "www.example.com", RecordType::A);
    assert_eq!(answer.addresses, [ip(WEB)], "{answer:?}");
}

/// Whether the interface that a pod has now is the one that is enforced.
fn is_bound(lab: &Lab, daemon: &Daemon, path: &str) -> bool {
    let interface = format!("interface {}", index(lab, path));
    let entries = &daemon.maps(&["endpoints"])["endpoints"];
    daemon.enforcement(path) == "enforced" && entries.iter().any(|(key, _)| *key == interface)
}

/// The number of a pod's interface on the node.
fn index(lab: &Lab, path: &str) -> u32 {
    let interface = lab.pod(path).host_interface();
    lab.node().run(|| if_nametoindex(interface)).unwrap().unwrap()
}

/// A pod's manifest that claims an interface.
fn claim(name: &str, interface: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\n\
         kind: Pod\n\
         metadata:\n  name: {name}\n  namespace: default\n  labels: {{app: {name}}}\n  \
           annotations: {{fqdnd.io/interface: {interface}}}\n\
         status: {{phase: Running, podIP: {address}, podIPs: [{{ip: {address}}}]}}\n"
    )
}

/// The veth, addresses and routes that a machine's owner would give a build runner.
fn lay_runner(lab: &Lab, runner: &Namespace) {
    lab.node()
        .ip(&format!(
            "link add ve-runner type veth peer name eth0 netns {}\n\
             addr add 192.168.100.1/24 dev ve-runner\n\
             link set ve-runner up\n",
            runner.name()
        ))
        .unwrap();
    runner
        .ip("link set lo up\n\
             link set eth0 up\n\
             addr add 192.168.100.2/24 dev eth0\n\
             route add default via 192.168.100.1\n")
        .unwrap();
    let (node, _) = lab.node_addresses();
    lab.router().ip(&format!("route add 192.168.100.0/24 via {node}\n")).unwrap();
}

/// How many programs are on an interface, by the way they are attached.
#[derive(Debug, PartialEq, Eq)]
struct Attached {
    tcx: usize,
    filters: usize,
}

impl Attached {
    fn of(mode: &str, count: usize) -> Attached {
        match mode {
            "tcx" => Attached { tcx: count, filters: 0 },
            _ => Attached { tcx: 0, filters: count },
        }
    }
}

fn attached(node: &Namespace, interface: &str) -> Attached {
    let tcx = |direction| {
        let query = || SchedClassifier::query_tcx(interface, direction).unwrap().1.len();
        node.run(query).unwrap()
    };
    let filters = |direction: &str| {
        let arguments = ["filter", "show", "dev", interface, direction];
        let output = node.command("tc").args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(|line| line.contains(" bpf ") && line.contains(" handle ")).count()
    };
    Attached {
        tcx: tcx(TcAttachType::Ingress) + tcx(TcAttachType::Egress),
        filters: filters("ingress") + filters("egress"),
    }
}
