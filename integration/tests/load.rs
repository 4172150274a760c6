//! Answers and the kernel keep step under load: whoever connects the moment an answer arrives
//! loses no packet, whatever else goes on.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hickory_proto::rr::RecordType;
use integration::{
    Daemon, LOAD_PODS as PODS, Lab, LabOptions, Load, PodSpec, Reach, Resolver, Topology, Transfer,
    fresh_addresses, soon,
};

/// A policy that lets the pods look up fresh names and connect to port 443 of their addresses.
fn fresh(selector: &str) -> String {
    format!(
        "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: fresh, namespace: load}}
spec:
  endpointSelector: {{}}
  egress:
  - toEndpoints:
    - matchLabels: {{k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}}
    toPorts:
    - ports: [{{port: \"53\", protocol: ANY}}]
      rules:
        dns:
        - matchPattern: '{selector}'
  - toFQDNs:
    - matchPattern: '{selector}'
    toPorts:
    - ports: [{{port: \"80\", protocol: TCP}}, {{port: \"443\", protocol: TCP}}]
"
    )
}

fn lab(topology: Topology) -> Lab {
    let mut options = LabOptions::with_topology(topology);
    options.pods = PODS.map(PodSpec::new).to_vec();
    let lab = Lab::new(options).unwrap();
    lab.policy("fresh", &fresh("*.fresh.example")).unwrap();
    lab
}

/// One client in each pod, and no name asked for twice.
fn loads(lab: &Lab, lookups: u32) -> [Load; 4] {
    Load::each_way(lab, 20_000).map(|load| Load { clients: 1, lookups, ..load })
}

#[test]
fn four_clients_look_up_twenty_thousand_fresh_names_and_lose_no_first_packet() {
    let lab = lab(Topology::Routed);
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let reports = Load::run_each(&lab, &loads(&lab, 5_000), || ());
    for (pod, report) in PODS.iter().zip(&reports) {
        println!("{pod}: {report}");
        assert!(report.is_clean(), "{pod}: {report}");
        assert_eq!((report.lookups, report.connected), (5_000, 5_000));
        assert_eq!(daemon.drops(pod), BTreeMap::new());
        assert_eq!(daemon.endpoint(pod)["names"], 5_000);
    }
    assert_eq!(lab.questions().total(), 20_000);
    assert_eq!(daemon.count("dns", "learned"), 20_000);
    let limits = daemon.ctl_json(&["status"]).unwrap()["limits"].clone();
    println!("limits: {limits}");
}

/// More names than an endpoint may have: the oldest give way, none that was just answered does.
#[test]
fn four_clients_of_one_pod_lose_no_first_packet_where_names_give_way_to_newer_ones() {
    let lab = lab(Topology::Bridged);
    let daemon = Daemon::start(&lab, &["--cache-names", "500"]).unwrap();
    let load = Load { lookups: 4_000, ..Load::new(lab.dns_service()[0]) };
    let report = load.run(lab.pod(PODS[0]).namespace()).unwrap();
    println!("{report}");
    assert!(report.is_clean(), "{report}");
    assert_eq!(daemon.drops(PODS[0]), BTreeMap::new());
    let names = daemon.endpoint(PODS[0])["names"].as_u64().unwrap();
    assert!(names <= 500, "{names}");
}

#[test]
fn a_policy_that_changes_under_load_costs_no_packet_of_what_it_still_allows() {
    let lab = lab(Topology::Routed);
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let loads = loads(&lab, 1_500);
    let reports = Load::run_each(&lab, &loads, || {
        for change in 0..20 {
            let selector = ["**.example", "*.fresh.example", "f*.fresh.example"][change % 3];
            let policy = fresh(selector);
            daemon.settle("the changed policy", || lab.policy("fresh", &policy).unwrap());
        }
    });
    for (pod, report) in PODS.iter().zip(&reports) {
        println!("{pod}: {report}");
        assert!(report.is_clean(), "{pod}: {report}");
        assert_eq!(daemon.drops(pod), BTreeMap::new());
    }
}

#[test]
fn a_daemon_killed_under_load_leaves_no_answer_that_the_kernel_does_not_know() {
    let lab = lab(Topology::Routed);
    let mut daemon = Daemon::start(&lab, &[]).unwrap();
    // Until the last daemon was asked, however long it takes to start one.
    let ends = Arc::new(AtomicBool::new(false));
    let limit = Duration::from_secs(300);
    let loads = loads(&lab, 20_000).map(|load| Load { ends: Arc::clone(&ends), limit, ..load });
    let asked = || lab.questions().total();
    let reports = Load::run_each(&lab, &loads, || {
        for _ in 0..2 {
            let before = asked();
            soon("500 questions", || asked() >= before + 500);
            daemon.kill9().unwrap();
            daemon.restart().unwrap();
        }
        let before = asked();
        soon("questions again", || asked() > before);
        ends.store(true, Ordering::Relaxed);
    });
    for (pod, report) in PODS.iter().zip(&reports) {
        println!("{pod}: {report}");
        assert_eq!(
            (report.first_packet_drops, report.failed_connections),
            (0, 0),
            "{pod}: {report}"
        );
        assert!(report.connected > 0, "{pod}: {report}");
        let drops = daemon.drops(pod);
        assert!(drops.keys().all(|reason| reason == "proxy-unavailable"), "{pod}: {drops:?}");
    }
    // A pod whose question is lost waits, while the others ask.
    assert!(reports.iter().map(|report| report.connected).sum::<u32>() > 500);
}

#[test]
fn restarts_under_load_with_another_configuration_and_policy_break_nothing_that_is_allowed() {
    let lab = lab(Topology::Routed);
    let mut daemon = Daemon::start(&lab, &[]).unwrap();
    let transfers = PODS.map(|pod| {
        let resolver = Resolver::new(lab.dns_service()[0]);
        let answer = lab.pod(pod).ask(resolver, "f131000.fresh.example", RecordType::A);
        Transfer::start(lab.pod(pod).namespace(), answer.addresses[0]).unwrap()
    });
    // As a stub resolver with `options timeout:1` does, and for as long as a start may take.
    let (patience, attempts) = (Duration::from_secs(1), 60);
    let loads = loads(&lab, 1_500).map(|load| Load { patience, attempts, ..load });
    let reports = Load::run_each(&lab, &loads, || {
        for (flags, selector) in [
            (&[][..], "*.fresh.example"),
            (&["--dns-min-ttl", "300s", "--dns-refusal", "nxdomain"], "**.example"),
            (&["--cache-recheck", "1s", "--dns-workers", "1"], "f*.fresh.example"),
        ] {
            daemon.stop().unwrap();
            lab.policy("fresh", &fresh(selector)).unwrap();
            daemon.restart_with(flags).unwrap();
            for transfer in &transfers {
                transfer.goes_on().unwrap();
            }
        }
    });
    for (pod, report) in PODS.iter().zip(&reports) {
        println!("{pod}: {report}");
        assert!(report.is_clean(), "{pod}: {report}");
        let drops = daemon.drops(pod);
        assert!(drops.keys().all(|reason| reason == "proxy-unavailable"), "{pod}: {drops:?}");
        assert_eq!(daemon.endpoint(pod)["names"], 1_501);
        assert_eq!(lab.pod(pod).connect(fresh_addresses(131_001).0.into(), 443), Reach::Silent);
    }
}
