//! What becomes of connections: replies pass, a policy's change cuts what it no longer allows and
//! nothing else, and an address is open for as long as it is leased or in use.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use hickory_proto::rr::RecordType;
use integration::{
    Daemon, Lab, LabOptions, Namespace, Ports, Reach, Resolver, Topology, Transfer, begun,
    fresh_pair, go_on, ip, soon,
};
use socket2::{Domain, Socket, Type};

const CLIENT: &str = "default/client";
const PATIENCE: Duration = Duration::from_secs(60);
/// Leases that end soon, by the TTL and 1 s of grace; then connections are looked at every 2 s.
const BRIEF: &[&str] = &["--dns-min-ttl", "1s", "--dns-grace", "1s", "--cache-recheck", "2s"];

const DEFAULT_DENY: &str = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: default-deny, namespace: default}
spec:
  endpointSelector: {}
  egress:
  - {}
";

/// A policy that lets the client ask for any name and connect to what `selector` matches.
fn by_name(selector: &str, ports: &[u16]) -> String {
    let ports: Vec<_> =
        ports.iter().map(|port| format!("{{port: \"{port}\", protocol: TCP}}")).collect();
    format!(
        "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: by-name, namespace: default}}
spec:
  endpointSelector:
    matchLabels: {{app: client}}
  egress:
  - toEndpoints:
    - matchLabels: {{k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}}
    toPorts:
    - ports: [{{port: \"53\", protocol: ANY}}]
      rules:
        dns:
        - matchPattern: '*'
  - toFQDNs:
    - {selector}
    toPorts:
    - ports: [{}]
",
        ports.join(", ")
    )
}

/// A policy that lets the client send to these prefixes.
fn by_prefix(prefixes: &str) -> String {
    format!(
        "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: by-prefix, namespace: default}}
spec:
  endpointSelector:
    matchLabels: {{app: client}}
  egress:
  - toCIDR: [{prefixes}]
"
    )
}

#[test]
fn replies_of_inbound_connections_pass_although_nothing_may_leave() {
    for (topology, attach) in [(Topology::Routed, "tcx"), (Topology::Bridged, "clsact")] {
        let lab = Lab::new(LabOptions::with_topology(topology)).unwrap();
        lab.policy("default-deny", DEFAULT_DENY).unwrap();
        let daemon = Daemon::start(&lab, &["--bpf-attach", attach]).unwrap();
        let client = lab.pod(CLIENT);
        let callers = [lab.outside("web").namespace(), lab.pod("prod/backend").namespace()];
        for (address, caller) in pairs(client.addresses(), callers) {
            let http = SocketAddr::new(address, Ports::HTTP);
            assert_eq!(Reach::tcp(caller, http).unwrap(), Reach::Open, "{topology:?} {http}");
            assert_eq!(Reach::udp(caller, address).unwrap(), Reach::Open, "{topology:?} {address}");
            let transfer = Transfer::start(caller, address).unwrap();
            transfer.goes_on().unwrap();
            let closed = SocketAddr::new(address, 9);
            assert_eq!(Reach::tcp(caller, closed).unwrap(), Reach::Refused, "{topology:?}");
        }
        assert_eq!(daemon.dropped(CLIENT, "policy-denied"), 0);
        // Having been called opens nothing towards the caller.
        let back = ["203.0.113.1", "2001:db8:1::1"].map(ip);
        assert_eq!(client.connect_all(&back, Ports::HTTP), [Reach::Silent; 2]);
        let back = lab.pod("prod/backend").addresses();
        assert_eq!(client.connect_all(&back, Ports::HTTP), [Reach::Silent; 2]);
        assert_eq!(daemon.dropped(CLIENT, "policy-denied"), 4);
    }
}

#[test]
fn an_inbound_connection_lives_on_when_policies_change() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let client = lab.pod(CLIENT);
    let transfers = client
        .addresses()
        .map(|address| Transfer::start(lab.outside("web").namespace(), address).unwrap());
    let enforced = |word: &str| daemon.enforcement(CLIENT) == word;
    for _ in 0..2 {
        lab.policy("default-deny", DEFAULT_DENY).unwrap();
        soon("default deny", || enforced("enforced"));
        go_on(&transfers);
        lab.remove_policy("default-deny").unwrap();
        soon("no default deny", || enforced("open"));
        go_on(&transfers);
    }
    assert_eq!(daemon.dropped(CLIENT, "policy-denied"), 0);
}

#[test]
fn a_policys_removal_cuts_its_living_connections() {
    for (topology, attach) in [(Topology::Routed, "tcx"), (Topology::Bridged, "clsact")] {
        let lab = Lab::new(LabOptions::with_topology(topology)).unwrap();
        lab.policy("default-deny", DEFAULT_DENY).unwrap();
        lab.policy("by-name", &by_name("matchName: www.example.com", &[80])).unwrap();
        lab.policy("by-prefix", &by_prefix("198.51.100.0/24, '2001:db8:2::/64'")).unwrap();
        let daemon = Daemon::start(&lab, &["--bpf-attach", attach]).unwrap();
        let named =
            resolved(&lab, "www.example.com").map(|address| begun(lab.pod(CLIENT), address));
        let by_prefix = ["198.51.100.1", "2001:db8:2::1"].map(ip);
        let by_prefix = by_prefix.map(|address| begun(lab.pod(CLIENT), address));

        let removed = Instant::now();
        lab.remove_policy("by-name").unwrap();
        end(&named, removed);
        go_on(&by_prefix);

        let removed = Instant::now();
        lab.remove_policy("by-prefix").unwrap();
        end(&by_prefix, removed);
        assert!(daemon.dropped(CLIENT, "policy-denied") > 0);
        assert_eq!(daemon.enforcement(CLIENT), "enforced");
    }
}

#[test]
fn a_policy_that_still_allows_a_connection_does_not_disturb_it() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("by-name", &by_name("matchName: www.example.com", &[80])).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let addresses = resolved(&lab, "www.example.com");
    let transfers = addresses.map(|address| begun(lab.pod(CLIENT), address));
    let client = lab.pod(CLIENT);
    let opens = |port| client.connect_all(&addresses, port) == [Reach::Open; 2];
    assert!(!opens(Ports::GREET));
    // The same selector with more ports, other selectors of the same name, and back.
    let versions = [
        ("matchName: www.example.com", [80, Ports::GREET]),
        ("matchPattern: '*.example.com'", [80, Ports::HTTP_ALT]),
        ("matchPattern: 'w*.example.com'", [80, Ports::GREET_ALT]),
        ("matchName: www.example.com", [80, Ports::GREET]),
    ];
    for (selector, ports) in versions {
        lab.policy("by-name", &by_name(selector, &ports)).unwrap();
        soon(&format!("port {} by {selector}", ports[1]), || opens(ports[1]));
        go_on(&transfers);
    }
    // One that does not, though it is about the same address.
    let changed = Instant::now();
    lab.policy("by-name", &by_name("matchName: www.example.com", &[Ports::GREET])).unwrap();
    end(&transfers, changed);
    assert!(opens(Ports::GREET));
    assert_eq!(daemon.learned(CLIENT).len(), 2);
}

#[test]
fn datagrams_of_a_flow_are_judged_again_when_the_policy_goes() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("default-deny", DEFAULT_DENY).unwrap();
    lab.policy("by-prefix", &by_prefix("203.0.113.0/24, '2001:db8:1::/64'")).unwrap();
    let _daemon = Daemon::start(&lab, &[]).unwrap();
    let sockets = ["203.0.113.7", "2001:db8:1::7"].map(|text| {
        let address = ip(text);
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let bound = lab.pod(CLIENT).namespace().run(|| {
            let socket = UdpSocket::bind(any)?;
            socket.connect((address, Ports::ECHO))?;
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            Ok::<_, std::io::Error>(socket)
        });
        bound.unwrap().unwrap()
    });
    let echoes = |socket: &UdpSocket| {
        socket.send(b"?").unwrap();
        socket.recv(&mut [0; 1]).is_ok()
    };
    assert!(sockets.iter().all(echoes));
    lab.remove_policy("by-prefix").unwrap();
    soon("silence", || !sockets.iter().any(echoes));
    assert!(!sockets.iter().any(echoes));
    lab.policy("by-prefix", &by_prefix("203.0.113.0/24, '2001:db8:1::/64'")).unwrap();
    soon("echoes again", || sockets.iter().all(echoes));
}

#[test]
fn an_expired_address_stays_while_a_connection_lives_and_goes_without_one() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("by-name", &by_name("matchPattern: '**.fresh.example'", &[80])).unwrap();
    let daemon = Daemon::start(&lab, BRIEF).unwrap();
    let client = lab.pod(CLIENT);
    let used = resolved(&lab, "f41.t4.fresh.example");
    let unused = resolved(&lab, "f42.t4.fresh.example");
    assert_eq!(used, fresh_pair(41));
    let transfers = used.map(|address| begun(lab.pod(CLIENT), address));
    assert_eq!(client.connect_all(&unused, Ports::HTTP), [Reach::Open; 2]);

    soon("the unused addresses gone", || learned(&daemon) == BTreeSet::from(used));
    assert_eq!(client.connect_all(&unused, Ports::HTTP), [Reach::Silent; 2]);
    let drops = daemon.drops(CLIENT);
    assert!(drops.values().sum::<u64>() >= 2, "{drops:?}");
    assert!(drops.keys().all(|own| own == "policy-denied" || own == "lease-expired"), "{drops:?}");
    // Over several times of looking at it.
    for _ in 0..3 {
        thread::sleep(Duration::from_secs(1));
        go_on(&transfers);
        assert_eq!(learned(&daemon), BTreeSet::from(used));
    }
    // What is in use may be used: a client goes on to use what it was told.
    assert_eq!(client.connect_all(&used, Ports::HTTP), [Reach::Open; 2]);
    let list = daemon.ctl_json(&["cache", "list", "-p", "**.fresh.example"]).unwrap();
    assert!(list.as_array().unwrap().iter().all(|entry| entry["keptAlive"] == true), "{list:#}");

    drop(transfers);
    soon("the used addresses gone", || learned(&daemon).is_empty());
    assert_eq!(client.connect_all(&used, Ports::HTTP), [Reach::Silent; 2]);
    assert_eq!(daemon.endpoint(CLIENT)["names"], 0);
    // Asked again, everything is as at first.
    resolved(&lab, "f41.t4.fresh.example");
    assert_eq!(client.connect_all(&used, Ports::HTTP), [Reach::Open; 2]);
}

/// The kernel itself refuses, however late the daemon comes to take the address away.
#[test]
fn an_expired_address_opens_nothing_even_before_it_is_taken_away() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("by-name", &by_name("matchPattern: '**.fresh.example'", &[80])).unwrap();
    let mut daemon = Daemon::start(&lab, BRIEF).unwrap();
    let client = lab.pod(CLIENT);
    let addresses = resolved(&lab, "f43.t4.fresh.example");
    let transfers = addresses.map(|address| begun(lab.pod(CLIENT), address));
    daemon.kill9().unwrap();
    soon("closed to new connections", || {
        client.connect_all(&addresses, Ports::HTTP) == [Reach::Silent; 2]
    });
    go_on(&transfers);
    daemon.restart().unwrap();
    assert!(daemon.dropped(CLIENT, "lease-expired") >= 2, "{:?}", daemon.drops(CLIENT));
    go_on(&transfers);
    soon("kept by the new daemon", || learned(&daemon) == BTreeSet::from(addresses));
}

#[test]
fn a_closed_connections_port_is_judged_anew_when_it_is_used_again() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("by-name", &by_name("matchPattern: '**.fresh.example'", &[80])).unwrap();
    let daemon = Daemon::start(&lab, BRIEF).unwrap();
    let client = lab.pod(CLIENT).namespace();
    for (place, address) in (0..).zip(resolved(&lab, "f44.t4.fresh.example")) {
        let port = 40_000 + place;
        assert!(connects_from(client, port, address));
        assert!(connects_from(client, port, address), "while the lease runs");
    }
    soon("the addresses gone", || learned(&daemon).is_empty());
    let before = daemon.drops(CLIENT).values().sum::<u64>();
    for (place, address) in (0..).zip(fresh_pair(44)) {
        assert!(!connects_from(client, 40_000 + place, address));
    }
    assert!(daemon.drops(CLIENT).values().sum::<u64>() >= before + 2);
}

/// Connects from this very port, and resets the connection at once.
fn connects_from(namespace: &Namespace, port: u16, to: IpAddr) -> bool {
    let connected = namespace.run(|| {
        let (domain, any) = match to {
            IpAddr::V4(_) => (Domain::IPV4, ip("0.0.0.0")),
            IpAddr::V6(_) => (Domain::IPV6, ip("::")),
        };
        let socket = Socket::new(domain, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_linger(Some(Duration::ZERO)).unwrap();
        socket.bind(&SocketAddr::new(any, port).into()).unwrap();
        let target = SocketAddr::new(to, Ports::HTTP).into();
        socket.connect_timeout(&target, Duration::from_millis(900)).is_ok()
    });
    connected.unwrap()
}

/// Has the client resolve a name that has one address in each family.
fn resolved(lab: &Lab, name: &str) -> [IpAddr; 2] {
    [RecordType::A, RecordType::AAAA].map(|kind| {
        let answer = lab.pod(CLIENT).ask(Resolver::new(lab.dns_service()[0]), name, kind);
        assert_eq!(answer.addresses.len(), 1, "{name}: {answer:?}");
        answer.addresses[0]
    })
}

/// Waits for the transfers' end, and prints how long after `since` something last arrived.
fn end(transfers: &[Transfer], since: Instant) {
    for transfer in transfers {
        transfer.ends(PATIENCE).unwrap();
        let last = transfer.last_arrival().saturating_duration_since(since);
        println!("cut: nothing arrived later than after {last:?}");
    }
}

fn learned(daemon: &Daemon) -> BTreeSet<IpAddr> {
    daemon.learned(CLIENT).into_iter().map(|(_, address)| address).collect()
}

fn pairs(
    addresses: [IpAddr; 2],
    callers: [&Namespace; 2],
) -> impl Iterator<Item = (IpAddr, &Namespace)> {
    addresses.into_iter().flat_map(move |address| callers.map(|caller| (address, caller)))
}
