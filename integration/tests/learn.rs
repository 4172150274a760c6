//! `fqdnctl policy learn` on real traffic: what a pod was seen to do is what the policy lets pass,
//! and all that it lets pass.

use std::{
    fs,
    process::{Output, Stdio},
    time::Duration,
};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use integration::{BACKEND, Daemon, Lab, LabOptions, Reach, Resolver, ServiceSpec, ip, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const CLIENT: &str = "default/client";
const SOON: Duration = Duration::from_secs(60);
/// www.example.com, an address that no name of the client's has, the node, the API server's
/// service, and a service in front of prod/db.
const WWW: &str = "203.0.113.10";
const NAMELESS: &str = "198.51.100.77";
const HOST: &str = "172.20.0.2";
const API_SERVICE: &str = "10.96.0.1";
const DATABASE: [&str; 2] = ["10.96.0.20", "fd00:96::20"];

/// What the policy says of each, once all were seen.
const ENTRIES: [&str; 9] = [
    "  - toEndpoints:\n    - matchLabels:  # 1 lookup\n        app: coredns\n        k8s-app: \
     kube-dns\n        k8s:io.kubernetes.pod.namespace: kube-system\n",
    "      rules:\n        dns:\n        - matchName: www.example.com  # 1\n",
    "  - toFQDNs:\n    - matchName: www.example.com  # 1 flow\n    toPorts:\n    - ports:\n      - \
     port: \"443\"\n        protocol: TCP\n",
    "  - toCIDR:\n    - \"198.51.100.77/32\"  # 1 flow\n",
    "    - matchLabels:  # 1 flow\n        app: cache\n        role: cache\n        \
     k8s:io.kubernetes.pod.namespace: staging\n    toPorts:\n",
    "    - matchLabels:  # 1 flow\n        app: db\n    toPorts:\n    - ports:\n      - port: \
     \"5432\"\n        protocol: TCP\n",
    "        app: redis\n        tier: data\n    icmps:\n    - fields:\n      - family: IPv4\n        \
     type: 8\n",
    "    - host  # 1 flow\n",
    "    - kube-apiserver  # 1 flow\n    toPorts:\n    - ports:\n      - port: \"6443\"\n",
];

/// A cluster with a service in front of its database.
fn cluster() -> (Lab, Daemon) {
    let lab = Lab::cluster().unwrap();
    let database = ServiceSpec::new("prod/db", &DATABASE).selecting("app", "db");
    let database = database.port("TCP", 5433, 5432).backends(&lab.pod("prod/db").addresses());
    lab.service(&database).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    (lab, daemon)
}

/// Does what is learned, and tells what became of it.
fn live(lab: &Lab) -> Vec<Reach> {
    let client = lab.pod(BACKEND);
    let resolver = Resolver::new(lab.dns_service()[0]);
    assert_eq!(client.ask(resolver, "www.example.com", RecordType::A).addresses, [ip(WWW)]);
    let cache = lab.pod("staging/cache").ipv4().into();
    let places = [
        (ip(WWW), 443),
        (ip(NAMELESS), 443),
        (cache, 443),
        (ip(DATABASE[0]), 5433),
        (ip(HOST), 443),
        (ip(API_SERVICE), 443),
    ];
    let reached = places.map(|(address, port)| client.connect(address, port));
    let pinged = client.ping(lab.pod("prod/redis").ipv4().into());
    reached.into_iter().chain([pinged]).collect()
}

/// The policy that is learned, once it says all of this.
fn learn(daemon: &Daemon, arguments: &[&str], entries: &[&str]) -> String {
    let mut policy = String::new();
    let learned = wait_until("what was done is learned", SOON, || {
        let output = daemon.ctl_output(&[&["policy", "learn"], arguments].concat()).unwrap();
        policy = said(&output.stdout);
        output.status.success() && entries.iter().all(|entry| policy.contains(entry))
    });
    let missing: Vec<_> = entries.iter().filter(|entry| !policy.contains(**entry)).collect();
    assert!(learned.is_ok(), "{missing:#?} are not in\n{policy}");
    policy
}

#[test]
fn what_was_learned_lets_the_same_pass_and_nothing_else() {
    let (lab, daemon) = cluster();
    let idle = daemon.ctl_output(&["policy", "learn", BACKEND]).unwrap();
    assert_eq!((idle.status.code(), said(&idle.stdout)), (Some(1), String::new()));
    assert!(said(&idle.stderr).contains("prod/backend was not seen"), "{}", said(&idle.stderr));

    let seen = daemon.ctl(&["policy", "learn", BACKEND, "--prepare"]).unwrap();
    daemon.settle("lookups are seen", || lab.policy("seen", &seen).unwrap());
    let before = live(&lab);
    assert_eq!(before[..4], [Reach::Open; 4]);
    let policy = learn(&daemon, &[BACKEND], &ENTRIES);

    let file = lab.directory().join("learned.yaml");
    fs::write(&file, &policy).unwrap();
    let checked = daemon.ctl(&["policy", "check", file.to_str().unwrap()]).unwrap();
    assert_eq!(checked.lines().count(), 1, "{checked}");
    assert!(checked.starts_with("ok "), "{checked}");
    let json = daemon.ctl_json(&["policy", "learn", BACKEND]).unwrap();
    assert_eq!(json["metadata"]["name"], "learned-backend");
    assert_eq!(json["spec"]["endpointSelector"]["matchLabels"]["app"], "backend");
    // By the labels of the pod, the same is learned.
    let by_labels = learn(&daemon, &["-n", "prod", "-l", "app=backend"], &ENTRIES);
    assert_eq!(
        by_labels.lines().skip(1).collect::<Vec<_>>(),
        policy.lines().skip(1).collect::<Vec<_>>()
    );

    // In the same file: no moment is without a policy.
    daemon.settle("what was learned is enforced", || lab.policy("seen", &policy).unwrap());
    assert_eq!(daemon.enforcement(BACKEND), "enforced");
    assert_eq!(live(&lab), before);

    let client = lab.pod(BACKEND);
    let resolver = Resolver::new(lab.dns_service()[0]);
    let refused = client.ask(resolver, "secret.example.org", RecordType::A);
    assert_eq!(refused.code, ResponseCode::Refused);
    let cache = lab.pod("prod/cache").ipv4().into();
    let database = lab.pod("prod/db").ipv4().into();
    for (address, port) in
        [(ip(WWW), 80), (ip("198.51.100.78"), 443), (cache, 443), (database, 3306), (ip(HOST), 80)]
    {
        assert_eq!(client.connect(address, port), Reach::Silent, "{address}:{port}");
    }
    assert_eq!(client.ping(cache), Reach::Silent);
}

#[test]
fn what_happens_from_now_on_is_learned_until_it_is_interrupted() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let client = lab.pod(CLIENT);
    // Before, and so not learned.
    client.connect(ip(NAMELESS), 443);
    learn(&daemon, &[CLIENT], &["198.51.100.77/32"]);

    let clients = || daemon.ctl_json(&["status"]).unwrap()["hubble"]["clients"].as_u64().unwrap();
    wait_until("the last client is gone", SOON, || clients() == 0).unwrap();
    let mut command = daemon.ctl_command().unwrap();
    command.args(["policy", "learn", CLIENT, "--for", "5m"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the flows are followed", SOON, || clients() == 1).unwrap();
    client.ask(Resolver::new(lab.dns_service()[0]), "www.example.com", RecordType::A);
    assert_eq!(client.connect(ip(WWW), 443), Reach::Open);
    let after = ["203.0.113.10/32", "matchPattern: \"*\""];
    learn(&daemon, &[CLIENT], &after);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let (policy, notes) = (said(&stdout), said(&stderr));
    assert!(status.success(), "{notes}");
    assert!(after.iter().all(|entry| policy.contains(entry)), "{policy}");
    assert!(!policy.contains(NAMELESS), "{policy}");
    // No policy sends the lookups of such a pod to the proxy.
    assert!(notes.contains("--prepare"), "{notes}");
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
