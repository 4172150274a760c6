//! Floods from one pod: others notice nothing, every packet is counted, and memory has its bounds.

use std::{collections::BTreeMap, fs, net::IpAddr, thread, time::Duration};

use hickory_proto::rr::RecordType;
use integration::{
    Daemon, Flood, FloodKind, Lab, LabOptions, Load, NameFlood, Pod, Resolver, Transfer, go_on,
    length, soon,
};

const CLIENT: &str = "default/client";
const FLOODER: &str = "prod/backend";
const PACKETS: u32 = 20_000;
/// What the daemon may grow by while names come and go that it has no room for.
const GROWTH: u64 = 8 << 20;

/// Both may look names up and fetch what they lead to; the flooder may also send what it likes to
/// the addresses of `web`.
const POLICIES: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: names}
spec:
  endpointSelector:
    matchExpressions:
    - {key: app, operator: In, values: [client, backend]}
  egress:
  - toEndpoints:
    - matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}
    toPorts:
    - ports: [{port: "53", protocol: ANY}]
      rules:
        dns:
        - matchPattern: "**.example"
        - matchPattern: "*.example.com"
  - toFQDNs:
    - matchPattern: "**.fresh.example"
    - matchPattern: "*.example.com"
    toPorts:
    - ports: [{port: "80", protocol: TCP}, {port: "443", protocol: TCP}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: prod}
spec:
  endpointSelector: {matchLabels: {app: backend}}
  egress:
  - toCIDR: [203.0.113.0/24]
"#;

#[test]
fn what_a_flood_may_not_send_is_counted_to_the_packet_and_others_go_on() {
    let (lab, daemon) = begin(&[]);
    let (client, flooder) = (lab.pod(CLIENT), lab.pod(FLOODER));
    let transfers = fetch(&lab, client);
    // Whom it sends through is known before it begins.
    let resolver = Resolver::new(lab.dns_service()[0]);
    flooder.ask(resolver, "www.example.com", RecordType::A);
    flooder.ask(Resolver::new(lab.dns_service()[1]), "www.example.com", RecordType::A);
    for (seed, (kind, ipv6)) in (0..).zip([
        (FloodKind::Syn, false),
        (FloodKind::Udp, false),
        (FloodKind::Syn, true),
        (FloodKind::Udp, true),
    ]) {
        let flood = Flood { kind, ipv6, packets: PACKETS, seed, within: &[] };
        let before = daemon.drops(FLOODER);
        let report = meanwhile(&lab, seed as u32, || flood.send(flooder).unwrap());
        let counted = total(&daemon.drops(FLOODER)) - total(&before);
        println!("{kind:?} ipv6 {ipv6}: {report:?}, counted {counted}");
        assert_eq!(counted, report.sent - report.lost);
        assert_eq!(daemon.drops(FLOODER).keys().collect::<Vec<_>>(), ["policy-denied"]);
        go_on(&transfers);
    }
    assert_eq!(daemon.drops(CLIENT), BTreeMap::new());
}

#[test]
fn what_a_flood_may_send_takes_room_from_its_own_pod_alone() {
    let (lab, daemon) = begin(&["--bpf-flows-per-endpoint", "4096"]);
    let (client, flooder) = (lab.pod(CLIENT), lab.pod(FLOODER));
    let transfers = fetch(&lab, client);
    flooder.ask(Resolver::new(lab.dns_service()[0]), "www.example.com", RecordType::A);
    for (seed, kind) in [(7, FloodKind::Syn), (8, FloodKind::Udp)] {
        let flood = Flood { kind, ipv6: false, packets: PACKETS, seed, within: &[203, 0, 113] };
        let before = daemon.count("limits", "outbound-flows-evicted");
        let report = meanwhile(&lab, seed as u32, || flood.send(flooder).unwrap());
        let evicted = daemon.count("limits", "outbound-flows-evicted") - before;
        println!("{kind:?}: {report:?}, {evicted} flows evicted");
        assert!(evicted > u64::from(PACKETS) / 4, "{evicted}");
        assert_eq!(daemon.drops(FLOODER), BTreeMap::new());
        go_on(&transfers);
    }
    assert_eq!(daemon.drops(CLIENT), BTreeMap::new());
}

#[test]
fn fresh_names_as_fast_as_they_are_answered_take_no_more_than_their_bounds() {
    let (lab, daemon) =
        begin(&["--cache-names", "1000", "--cache-addresses", "2000", "--flows-capacity", "255"]);
    let time = length("a flood of names", Duration::from_secs(5), Duration::from_secs(60));
    let flood = |first, time| NameFlood { server: lab.dns_service()[0], first, time };
    let send = |flood: NameFlood| flood.send(lab.pod(FLOODER)).unwrap();
    let (mut asked, mut answered) = (0, 0);
    soon("every bound is met", || {
        let warm = send(flood(asked, Duration::from_secs(2)));
        (asked, answered) = (asked + warm.asked, answered + warm.answered);
        answered > 2_000
    });
    let evicted = daemon.count("limits", "names-evicted");
    let before = memory(&daemon);
    let flooded = meanwhile_for(&lab, 0, time, || send(flood(asked, time)));
    let after = memory(&daemon);
    let newly = daemon.count("limits", "names-evicted") - evicted;
    println!(
        "{flooded:?}, {:.0} a second, {newly} names evicted; memory {} KiB before, {} KiB after",
        f64::from(flooded.answered) / time.as_secs_f64(),
        before >> 10,
        after >> 10
    );
    assert!(after < before + GROWTH, "{before} to {after}");
    assert!(evicted > 0 && newly >= u64::from(flooded.answered) * 9 / 10, "{newly}");
    assert!(daemon.endpoint(FLOODER)["names"].as_u64().unwrap() <= 1_000);
}

fn begin(flags: &[&str]) -> (Lab, Daemon) {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("all", POLICIES).unwrap();
    let daemon = Daemon::start(&lab, flags).unwrap();
    assert_eq!(daemon.problems(), [""; 0]);
    (lab, daemon)
}

/// Runs a flood while another pod looks names up and connects, from its first packet to its last.
fn meanwhile<T>(lab: &Lab, number: u32, flood: impl FnOnce() -> T) -> T {
    meanwhile_for(lab, number, Duration::from_secs(1), flood)
}

fn meanwhile_for<T>(lab: &Lab, number: u32, limit: Duration, flood: impl FnOnce() -> T) -> T {
    let load = Load {
        clients: 1,
        lookups: 1_000_000,
        first: 50_000 + 5_000 * number,
        limit,
        ..Load::new(lab.dns_service()[0])
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| load.run(lab.pod(CLIENT).namespace()).unwrap());
        let done = flood();
        let report = other.join().unwrap();
        println!("meanwhile {report}");
        assert!(report.is_clean(), "{report}");
        done
    })
}

/// A transfer over each family.
fn fetch(lab: &Lab, pod: &Pod) -> Vec<Transfer> {
    let resolver = Resolver::new(lab.dns_service()[0]);
    let begin = |kind| {
        let from: IpAddr = pod.ask(resolver, "www.example.com", kind).addresses[0];
        Transfer::start(pod.namespace(), from).unwrap()
    };
    let transfers = vec![begin(RecordType::A), begin(RecordType::AAAA)];
    go_on(&transfers);
    transfers
}

fn total(drops: &BTreeMap<String, u64>) -> u64 {
    drops.values().sum()
}

/// The daemon's resident memory, in octets.
fn memory(daemon: &Daemon) -> u64 {
    let pid = daemon.pid().expect("it runs");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}
