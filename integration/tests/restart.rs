//! What outlives the daemon: while it is gone, what is enforced stays enforced and nothing opens;
//! when it is back, the kernel holds what it held, and nothing was disturbed.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, TcpListener, UdpSocket},
    path::Path,
    time::{Duration, Instant},
};

use hickory_proto::rr::RecordType;
use integration::{
    Binding, Daemon, Lab, LabOptions, Pod, PodSpec, Ports, Reach, Resolver, Topology, Transfer,
    begun, fresh_pair, go_on, ip, soon,
};
use serde_json::Value;

const CLIENT: &str = "default/client";
const OTHER: &str = "default/other";
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that the daemon writes, but for the ports of its own sockets.
const MAPS: &[&str] = &[
    "endpoints",
    "sources",
    "prefixes",
    "frontends",
    "rows",
    "leases",
    "shared",
    "names",
    "numbers",
];

type Maps = BTreeMap<String, Vec<(String, String)>>;

/// A policy that lets both pods look up these names and connect to port 80 of their addresses.
fn names(patterns: &[&str]) -> String {
    let names: String =
        patterns.iter().map(|pattern| format!("    - matchPattern: '{pattern}'\n")).collect();
    let asked = names.replace("    - ", "        - ");
    format!(
        "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: names, namespace: default}}
spec:
  endpointSelector:
    matchExpressions:
    - {{key: app, operator: In, values: [client, other]}}
  egress:
  - toEndpoints:
    - matchLabels: {{k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}}
    toPorts:
    - ports: [{{port: \"53\", protocol: ANY}}]
      rules:
        dns:
{asked}  - toFQDNs:
{names}    toPorts:
    - ports: [{{port: \"80\", protocol: TCP}}]
"
    )
}

#[test]
fn what_a_killed_daemon_enforced_stays_enforced_and_is_taken_up_again() {
    outlives(Topology::Routed, "tcx", |daemon| daemon.kill9().unwrap());
}

#[test]
fn what_a_killed_daemon_enforced_stays_enforced_on_a_bridge_by_clsact() {
    outlives(Topology::Bridged, "clsact", |daemon| daemon.kill9().unwrap());
}

#[test]
fn what_a_stopped_daemon_enforced_stays_enforced_and_is_taken_up_again() {
    outlives(Topology::Bridged, "tcx", |daemon| {
        let status = daemon.stop().unwrap().expect("it ends when it is told to");
        assert!(status.success(), "{status}");
    });
}

fn outlives(topology: Topology, attach: &str, end: impl Fn(&mut Daemon)) {
    let lab = Lab::new(LabOptions::with_topology(topology)).unwrap();
    lab.policy("names", &names(&["www.example.com", "**.fresh.example", "shop.example.com"]))
        .unwrap();
    let flags = ["--dns-min-ttl", "1s", "--dns-grace", "1s", "--bpf-attach", attach];
    let mut daemon = Daemon::start(&lab, &flags).unwrap();
    let (client, other) = (lab.pod(CLIENT), lab.pod(OTHER));
    let resolver = Resolver::new(lab.dns_service()[0]);
    let www = resolve(client, resolver, "www.example.com");
    let leased = resolve(client, resolver, "f1.fresh.example");
    client.ask(resolver, "shop.example.com", RecordType::A);
    let others = resolve(other, resolver, "f3.fresh.example");
    let mut transfers = Vec::from(www.map(|address| begun(client, address)));
    let caller = lab.outside("web").namespace();
    transfers.extend(client.addresses().map(|own| Transfer::start(caller, own).unwrap()));
    // Last, so that its end comes after the daemon's.
    let brief = resolve(client, resolver, "f2.t6.fresh.example");
    let (before, endpoint) = (daemon.maps(MAPS), daemon.endpoint(CLIENT));
    let questions = lab.questions().total();
    assert_eq!(daemon.drops(CLIENT), BTreeMap::new());

    end(&mut daemon);
    go_on(&transfers);
    assert_eq!(client.connect_all(&leased, Ports::HTTP), [Reach::Open; 2], "leased");
    assert_eq!(client.connect_all(&others, Ports::HTTP), [Reach::Silent; 2], "another pod's");
    assert_eq!(other.connect_all(&others, Ports::HTTP), [Reach::Open; 2]);
    assert_eq!(client.connect_all(&www, Ports::HTTP_ALT), [Reach::Silent; 2], "another port");
    let lookups = fail_to_resolve(&lab, client);
    soon("the brief lease over", || client.connect_all(&brief, Ports::HTTP) == [Reach::Silent; 2]);
    assert_eq!(lab.questions().total(), questions, "nobody was asked in between");
    go_on(&transfers);

    daemon.restart().unwrap();
    println!("ready again after {:?}", daemon.started_in());
    go_on(&transfers);
    let drops = daemon.drops(CLIENT);
    assert!(drops["policy-denied"] >= 4, "{drops:?}");
    assert!(drops["proxy-unavailable"] >= lookups, "{lookups} of {drops:?}");
    assert!(drops["lease-expired"] >= 2, "{drops:?}");
    assert_eq!(drops.len(), 3, "{drops:?}");
    let expected = without(before, "f2.t6.fresh.example.", brief, &endpoint);
    soon("the kernel's state as before, less the brief lease", || daemon.maps(MAPS) == expected);
    assert_eq!(client.connect_all(&leased, Ports::HTTP), [Reach::Open; 2]);
    assert_eq!(daemon.learned(CLIENT).len(), 6);
    assert_eq!(resolve(client, resolver, "f4.fresh.example"), fresh_pair(4));
    assert_eq!(client.connect_all(&fresh_pair(4), Ports::HTTP), [Reach::Open; 2]);
    go_on(&transfers);
}

#[test]
fn numbers_and_generations_last_over_many_restarts() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("names", &names(&["**.fresh.example", "f.example"])).unwrap();
    let mut daemon = Daemon::start(&lab, &[]).unwrap();
    let client = lab.pod(CLIENT);
    let resolver = Resolver::new(lab.dns_service()[0]);
    let mut number = 0;
    let enforced = |daemon: &Daemon| daemon.endpoint(CLIENT)["generation"].as_u64();
    for _ in 0..4 {
        let first = number;
        while number < first + 20 {
            resolve(client, resolver, &format!("f{number}.fresh.example"));
            number += 1;
        }
        // A name that is not allowed any more moves the generation on, and has all names judged anew.
        let generation = enforced(&daemon);
        lab.policy("names", &names(&["**.fresh.example", &format!("f{number}.example")])).unwrap();
        soon("the changed policy", || enforced(&daemon) > generation);
        let before = daemon.maps(MAPS);
        daemon.kill9().unwrap();
        daemon.restart().unwrap();
        assert_eq!(daemon.maps(MAPS), before);
        assert_eq!(daemon.learned(CLIENT).len(), 2 * number);
    }
}

#[test]
fn a_policy_that_changed_meanwhile_is_in_force_when_the_daemon_is_back() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("names", &names(&["www.example.com", "api.example.com"])).unwrap();
    let mut daemon = Daemon::start(&lab, &[]).unwrap();
    let client = lab.pod(CLIENT);
    let resolver = Resolver::new(lab.dns_service()[0]);
    let www = resolve(client, resolver, "www.example.com");
    let api = resolve(client, resolver, "api.example.com");
    let kept = www.map(|address| begun(client, address));
    let cut = api.map(|address| begun(client, address));

    daemon.kill9().unwrap();
    lab.policy("names", &names(&["*w.example.com", "payments.example.com"])).unwrap();
    go_on(&kept);
    go_on(&cut);
    let back = Instant::now();
    daemon.restart().unwrap();
    for transfer in &cut {
        transfer.ends(PATIENCE).unwrap();
        let last = transfer.last_arrival().saturating_duration_since(back);
        println!("cut: nothing arrived later than {last:?} after the start");
    }
    go_on(&kept);
    assert_eq!(client.connect_all(&www, Ports::HTTP), [Reach::Open; 2], "without asking again");
    assert_eq!(client.connect_all(&api, Ports::HTTP), [Reach::Silent; 2]);
    let payments = resolve(client, resolver, "payments.example.com");
    assert_eq!(client.connect_all(&payments, Ports::HTTP), [Reach::Open; 2]);
}

#[test]
fn a_pod_that_went_meanwhile_leaves_nothing_and_one_that_came_is_enforced() {
    let mut lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("names", &names(&["**.fresh.example"])).unwrap();
    let mut daemon = Daemon::start(&lab, &[]).unwrap();
    let resolver = Resolver::new(lab.dns_service()[0]);
    let bare = daemon.maps(MAPS);
    let mine = resolve(lab.pod(CLIENT), resolver, "f1.fresh.example");
    resolve(lab.pod(OTHER), resolver, "f2.fresh.example");
    let number = daemon.endpoint(OTHER)["id"].as_u64().unwrap();
    let held = |maps: &Maps| {
        let of_other = format!("endpoint {number} ");
        let rows = maps.values().flatten();
        rows.filter(|(key, _)| key.starts_with(&of_other)).count()
    };
    assert_eq!((held(&bare), held(&daemon.maps(MAPS))), (2, 5));

    daemon.kill9().unwrap();
    lab.remove_pod(OTHER).unwrap();
    let spec = PodSpec::new("default/newcomer").label("app", "other");
    lab.add_pod(spec.bound_by(Binding::Namespace)).unwrap();
    daemon.restart().unwrap();
    assert_eq!(daemon.enforcement(OTHER), "absent");
    soon("nothing left of the pod", || held(&daemon.maps(MAPS)) == 0);
    assert_eq!(lab.pod(CLIENT).connect_all(&mine, Ports::HTTP), [Reach::Open; 2]);
    assert_eq!(daemon.enforcement("default/newcomer"), "enforced");
    assert_ne!(daemon.endpoint("default/newcomer")["id"], number);
    let newcomer = lab.pod("default/newcomer");
    assert_eq!(newcomer.connect_all(&mine, Ports::HTTP), [Reach::Silent; 2]);
    resolve(newcomer, resolver, "f1.fresh.example");
    assert_eq!(newcomer.connect_all(&mine, Ports::HTTP), [Reach::Open; 2]);
}

/// Whoever takes a port that the daemon had is not the proxy.
#[test]
fn a_process_that_takes_the_dead_proxys_port_gets_no_question() {
    for topology in [Topology::Routed, Topology::Bridged] {
        let lab = Lab::new(LabOptions::with_topology(topology)).unwrap();
        lab.policy("names", &names(&["**.fresh.example"])).unwrap();
        let mut daemon = Daemon::start(&lab, &[]).unwrap();
        let (udp, tcp) = (listening(&lab, "udp"), listening(&lab, "tcp"));
        assert!(!udp.is_empty() && !tcp.is_empty());
        daemon.kill9().unwrap();
        // The L7 proxy, a process of its own, ends when it hears that the daemon is gone.
        let free = |port: &u16| !listening(&lab, "tcp").contains(port);
        soon("the ports are free", || tcp.iter().all(free));
        let (sockets, listeners) = lab.node().run(|| take(&udp, &tcp)).unwrap().unwrap();
        let resolver = Resolver::new(lab.dns_service()[0]).with_timeout(Duration::from_millis(300));
        for number in 0..8 {
            let name = format!("f{number}.fresh.example");
            let resolver = resolver.over_tcp(number % 2 == 1);
            let asked = lab.pod(CLIENT).namespace().run(|| resolver.ask(&name, RecordType::A));
            assert!(asked.unwrap().is_err());
        }
        let got = sockets.iter().filter(|socket| socket.recv(&mut [0; 512]).is_ok()).count();
        let accepted = listeners.iter().filter(|listener| listener.accept().is_ok()).count();
        assert_eq!((got, accepted), (0, 0), "{topology:?}");
        daemon.restart().unwrap();
        // A client on a busy machine sends its SYN again before it gives up.
        assert!(daemon.dropped(CLIENT, "proxy-unavailable") >= 8);
    }
}

fn take(udp: &[u16], tcp: &[u16]) -> io::Result<(Vec<UdpSocket>, Vec<TcpListener>)> {
    let udp = udp.iter().map(|&port| {
        let socket = UdpSocket::bind(("0.0.0.0", port))?;
        socket.set_nonblocking(true).map(|()| socket)
    });
    let tcp = tcp.iter().map(|&port| {
        let listener = TcpListener::bind(("0.0.0.0", port))?;
        listener.set_nonblocking(true).map(|()| listener)
    });
    Ok((udp.collect::<io::Result<_>>()?, tcp.collect::<io::Result<_>>()?))
}

#[test]
fn detach_takes_everything_away() {
    for (topology, attach) in [
        (Topology::Routed, "tcx"),
        (Topology::Routed, "clsact"),
        (Topology::Bridged, "tcx"),
        (Topology::Bridged, "clsact"),
    ] {
        let lab = Lab::new(LabOptions::with_topology(topology)).unwrap();
        lab.policy("names", &names(&["www.example.com"])).unwrap();
        let client = lab.pod(CLIENT);
        // Somebody else's qdisc at the same place is not ours to remove.
        let interface = lab.pod(OTHER).host_interface();
        said(&lab, "tc", &["qdisc", "add", "dev", interface, "clsact"]);
        let before = traces(&lab);

        let mut daemon = Daemon::start(&lab, &["--bpf-attach", attach]).unwrap();
        let www = resolve(client, Resolver::new(lab.dns_service()[0]), "www.example.com");
        let transfers = www.map(|address| begun(client, address));
        assert_eq!(client.connect_all(&fresh_pair(1), Ports::HTTP), [Reach::Silent; 2]);
        assert_ne!(traces(&lab), before);
        let refused = daemon.command("detach").unwrap().output().unwrap();
        assert_eq!(refused.status.code(), Some(1), "while the daemon runs: {refused:?}");

        daemon.stop().unwrap();
        assert_eq!(client.connect_all(&fresh_pair(1), Ports::HTTP), [Reach::Silent; 2]);
        let pins = daemon.pin_directory();
        assert!(Path::new(&pins).exists());
        let detached = daemon.command("detach").unwrap().output().unwrap();
        assert!(detached.status.success(), "{detached:?}");
        println!("{topology:?} {attach}: {}", String::from_utf8_lossy(&detached.stdout).trim());
        assert!(!Path::new(&pins).exists());
        assert_eq!(traces(&lab), before, "{topology:?} {attach}");
        assert_eq!(client.connect_all(&fresh_pair(1), Ports::HTTP), [Reach::Open; 2]);
        let answer = client.ask(Resolver::new(lab.dns_service()[0]), "example.org", RecordType::A);
        assert_eq!(answer.addresses, [ip("192.0.2.10")]);
        go_on(&transfers);
        let again = daemon.command("detach").unwrap().output().unwrap();
        assert!(again.status.success(), "what is gone is no error: {again:?}");
    }
}

/// What the daemon leaves in a node beside its pins: rules, routes, tables, filters.
fn traces(lab: &Lab) -> String {
    let mut traces = said(lab, "nft", &["list", "ruleset"]);
    for family in ["-4", "-6"] {
        traces += &said(lab, "ip", &[family, "rule"]);
        traces += &said(lab, "ip", &[family, "route", "show", "table", "all"]);
    }
    traces += &said(lab, "tc", &["qdisc", "show"]);
    let links = said(lab, "ip", &["-o", "link"]);
    let links = links.lines().filter_map(|line| line.split([':', '@']).nth(1));
    for link in links.map(str::trim) {
        for hook in ["ingress", "egress"] {
            // Without a qdisc there is no such hook, and tc says so by its exit status.
            let show = ["filter", "show", "dev", link, hook];
            let output = lab.node().command("tc").args(show).output().unwrap();
            traces += &format!("{link} {hook}: {}", String::from_utf8_lossy(&output.stdout));
        }
    }
    traces
}

fn said(lab: &Lab, program: &str, arguments: &[&str]) -> String {
    let output = lab.node().command(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The ports in use on the loopback address, as the node's own table has them.
fn listening(lab: &Lab, protocol: &str) -> Vec<u16> {
    let table = said(lab, "cat", &[&format!("/proc/net/{protocol}")]);
    let local = table.lines().filter_map(|line| line.split_whitespace().nth(1));
    let ports = local.filter_map(|local| local.strip_prefix("0100007F:"));
    ports.map(|port| u16::from_str_radix(port, 16).unwrap()).collect()
}

/// Asks every server over both transports, as often as it says: without the daemon, none answers.
fn fail_to_resolve(lab: &Lab, pod: &Pod) -> u64 {
    let servers = lab.dns_service().into_iter().chain(lab.dns_pod().addresses());
    let mut count = 0;
    for server in servers {
        for tcp in [false, true] {
            let resolver = Resolver::new(server).over_tcp(tcp);
            let resolver = resolver.with_timeout(Duration::from_millis(200));
            let asked = pod.namespace().run(|| resolver.ask("f1.fresh.example", RecordType::A));
            assert!(asked.unwrap().is_err(), "{server}");
            count += 1;
        }
    }
    count
}

/// The maps without this name and its addresses, which the endpoint has in no other way. That they
/// were taken from it has it judge its flows once more.
fn without(mut maps: Maps, name: &str, addresses: [IpAddr; 2], endpoint: &Value) -> Maps {
    let gone = |(key, value): &(String, String)| {
        value == name || addresses.iter().any(|address| key.ends_with(&format!(" {address}")))
    };
    for map in ["leases", "names"] {
        maps.get_mut(map).expect("a map that was dumped").retain(|row| !gone(row));
    }
    let own = format!("endpoint {} ", endpoint["id"]);
    let entries = maps.get_mut("endpoints").expect("a map that was dumped");
    let (_, entry) =
        entries.iter_mut().find(|(_, entry)| entry.starts_with(&own)).expect("its entry");
    let generation = |number: u64| format!(" generation {number}");
    let before = endpoint["generation"].as_u64().expect("a number");
    *entry = entry.replace(&generation(before), &generation(before + 1));
    maps
}

/// Has a pod resolve a name that has one address in each family.
fn resolve(pod: &Pod, resolver: Resolver, name: &str) -> [IpAddr; 2] {
    [RecordType::A, RecordType::AAAA].map(|kind| {
        let answer = pod.ask(resolver, name, kind);
        assert_eq!(answer.addresses.len(), 1, "{name}: {answer:?}");
        answer.addresses[0]
    })
}
