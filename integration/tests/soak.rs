//! Loads that go on: short where everything is tested, full where `FQDND_SOAK` is 1 (`make soak`).

use std::{
    fs,
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, SystemTime},
};

use hickory_proto::rr::RecordType;
use integration::{
    Daemon, LOAD_PODS as PODS, Lab, LabOptions, Load, PodSpec, Ports, Reach, Resolver, Topology,
    Transfer, fresh_addresses, go_on, length, wait_until,
};
use model::{Moment, State};

/// Each pod's own numbers of fresh names; the lab's addresses repeat after 131,070.
const SHARE: u32 = 30_000;
/// A number that no load asks for.
const DENIED: u32 = 4 * SHARE + 1;

const POLICY: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: fresh, namespace: load}
spec:
  endpointSelector: {}
  egress:
  - toEndpoints:
    - matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}
    toPorts:
    - ports: [{port: "53", protocol: ANY}]
      rules:
        dns:
        - matchPattern: "*.fresh.example"
        - matchPattern: "*.example.com"
  - toFQDNs:
    - matchPattern: "*.fresh.example"
    toPorts:
    - ports: [{port: "443", protocol: TCP}]
  - toFQDNs:
    - matchPattern: "*.example.com"
    toPorts:
    - ports: [{port: "80", protocol: TCP}]
"#;

#[test]
fn eight_clients_look_up_fresh_names_over_every_transport_and_lose_no_first_packet() {
    let lab = lab(Topology::Bridged);
    let flags = ["--cache-names", "30000", "--cache-addresses", "60000"];
    let daemon = Daemon::start(&lab, &flags).unwrap();
    let lookups = length("lookups of each pod", 500, 25_000);
    let limit = Duration::from_secs(600);
    let loads = loads(&lab).map(|load| Load { lookups, limit, ..load });
    let reports = Load::run_each(&lab, &loads, || ());
    for (pod, report) in PODS.iter().zip(&reports) {
        println!("{pod}: {report}");
        assert!(report.is_clean(), "{pod}: {report}");
        assert_eq!((report.lookups, report.connected), (lookups, lookups));
        assert_eq!(daemon.drops(pod), [].into());
    }
    assert_eq!(daemon.count("dns", "learned"), 4 * u64::from(lookups));
}

#[test]
fn a_daemon_killed_again_and_again_under_load_breaks_nothing_and_lets_nothing_pass() {
    let lab = lab(Topology::Routed);
    let flags = [
        ["--cache-names", "30000"],
        ["--cache-addresses", "60000"],
        ["--bpf-leases", "1048576"],
        ["--bpf-names", "262144"],
    ];
    let mut daemon = Daemon::start(&lab, flags.as_flattened()).unwrap();
    let kills = length("kills", 3, 10);
    let transfers = fetch(&lab);
    // As a stub resolver with `options timeout:1` does, and for as long as a start may take.
    let (patience, attempts) = (Duration::from_secs(1), 60);
    let lookups = length("lookups of each pod", 3_000, 15_000);
    let limit = Duration::from_secs(240);
    let loads = loads(&lab).map(|load| Load { patience, attempts, lookups, limit, ..load });
    let ended = AtomicBool::new(false);
    let reports = thread::scope(|scope| {
        let denied = scope.spawn(|| try_what_is_denied(&lab, &ended));
        let reports = Load::run_each(&lab, &loads, || {
            let mut random = Random::now();
            for kill in 0..kills {
                kill_once(&lab, &mut daemon, kill, random.below(300));
                go_on(&transfers);
            }
        });
        ended.store(true, Ordering::Relaxed);
        let denied = denied.join().unwrap();
        println!("{} denied connections tried", denied.len());
        assert!(denied.len() > 3 && denied.iter().all(|own| *own == Reach::Silent), "{denied:?}");
        reports
    });
    for (pod, report) in PODS.iter().zip(&reports) {
        println!("{pod}: {report}");
        assert!(report.is_clean(), "{pod}: {report}");
        let drops = daemon.drops(pod);
        let expected = |reason: &String| {
            reason == "proxy-unavailable" || *pod == PODS[0] && reason == "policy-denied"
        };
        assert!(drops.keys().all(expected), "{pod}: {drops:?}");
    }
    go_on(&transfers);
    is_taken_up_as_it_was(&mut daemon);
}

/// Kills the daemon after so many questions more, and compares what it leaves with what the next
/// one leaves.
fn kill_once(lab: &Lab, daemon: &mut Daemon, kill: u32, questions: u64) {
    let asked = || lab.questions().total();
    let before = asked();
    // A load that is over asks no more: the kill comes all the same.
    let waited = wait_until("questions", Duration::from_secs(5), || asked() >= before + questions);
    println!("kill {kill}: {questions} questions after the last one ({})", waited.is_ok());
    daemon.kill9().unwrap();
    let left = dump(daemon);
    daemon.restart().unwrap();
    println!("{} leases left; ready after {:?}", left.leases.len(), daemon.started_in());
    let learned: usize = PODS.iter().map(|pod| daemon.learned(pod).len()).sum();
    assert!(learned >= still_valid(&left), "{learned} of {}", left.leases.len());
}

/// With nobody asking, what a start leaves is what it found, less what has run out: it computes
/// everything anew, and finds it right.
fn is_taken_up_as_it_was(daemon: &mut Daemon) {
    daemon.kill9().unwrap();
    let before = dump(daemon);
    daemon.restart().unwrap();
    daemon.kill9().unwrap();
    let (after, now) = (dump(daemon), now());
    println!("{} leases before, {} after", before.leases.len(), after.leases.len());
    assert!(!before.leases.is_empty());
    assert_eq!(after.sources, before.sources);
    assert_eq!(after.prefixes, before.prefixes);
    assert_eq!(after.frontends, before.frontends);
    assert_eq!(after.rows, before.rows);
    assert_eq!(after.numbers, before.numbers);
    for (key, lease) in &before.leases {
        assert!(lease.expires <= now || after.leases.get(key) == Some(lease), "{key:?}");
        let number = (key.0, lease.name);
        let kept = after.names.get(&number) == before.names.get(&number);
        assert!(lease.expires <= now || kept, "the name of {key:?}");
    }
    assert!(after.leases.iter().all(|(key, lease)| before.leases.get(key) == Some(lease)));
    assert!(after.names.iter().all(|(key, name)| before.names.get(key) == Some(name)));
    if after.leases.len() == before.leases.len() {
        assert_eq!(after, before);
    }
    daemon.restart().unwrap();
}

fn still_valid(state: &State) -> usize {
    let now = now();
    state.leases.values().filter(|lease| lease.expires > now).count()
}

/// What the pinned maps hold while no daemon has them.
fn dump(daemon: &Daemon) -> State {
    let pin = daemon.pin_directory().to_owned();
    let options = bpf::Options { pin, ..bpf::Options::default() };
    bpf::Datapath::open(&options).unwrap().dump().unwrap()
}

/// The time that leases are written in, to a hundredth of a second.
fn now() -> Moment {
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let (seconds, hundredths) = uptime.split_once(' ').unwrap().0.split_once('.').unwrap();
    let hundredths = Duration::from_millis(10 * hundredths.parse::<u64>().unwrap());
    Moment::from_secs(seconds.parse().unwrap()) + hundredths
}

/// Connections to an address that nobody looked up, and to a port that no policy has.
fn try_what_is_denied(lab: &Lab, ended: &AtomicBool) -> Vec<Reach> {
    let pod = lab.pod(PODS[0]);
    let (denied, www): (IpAddr, IpAddr) =
        (fresh_addresses(DENIED).0.into(), "203.0.113.10".parse().unwrap());
    let mut tried = Vec::new();
    while !ended.load(Ordering::Relaxed) && tried.len() < 10_000 {
        tried.push(pod.connect(denied, Ports::GREET));
        tried.push(pod.connect(www, Ports::GREET_ALT));
    }
    tried
}

fn lab(topology: Topology) -> Lab {
    let mut options = LabOptions::with_topology(topology);
    options.pods = PODS.map(PodSpec::new).to_vec();
    let lab = Lab::new(options).unwrap();
    lab.policy("fresh", POLICY).unwrap();
    lab
}

/// Two clients in each of the pods, and no name asked for twice.
fn loads(lab: &Lab) -> [Load; 4] {
    Load::each_way(lab, SHARE).map(|load| Load { clients: 2, ..load })
}

/// A transfer from each pod over each family.
fn fetch(lab: &Lab) -> Vec<Transfer> {
    let resolver = Resolver::new(lab.dns_service()[0]);
    let begin = |pod: &str| {
        [RecordType::A, RecordType::AAAA].map(|kind| {
            let from = lab.pod(pod).ask(resolver, "www.example.com", kind).addresses[0];
            Transfer::start(lab.pod(pod).namespace(), from).unwrap()
        })
    };
    let transfers: Vec<_> = PODS.into_iter().flat_map(begin).collect();
    go_on(&transfers);
    transfers
}

/// Moments that no run repeats; each is printed.
struct Random(u64);

impl Random {
    fn now() -> Random {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Random(u64::from(since.subsec_nanos()) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
