//! Maps of other sizes, and those of another version: the daemon moves over, what is allowed goes
//! on, and what is denied stays denied in every moment of it.

use std::{
    collections::BTreeMap,
    fs,
    net::UdpSocket,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use hickory_proto::rr::RecordType;
use integration::{
    Daemon, ECHO, FRESH_NAMES, Lab, LabOptions, Pod, Ports, Reach, Resolver, Topology, Transfer,
    begun, fresh_address, go_on, ip, soon,
};

const CLIENT: &str = "default/client";
const WEB: &str = "192.0.2.10";

/// What one address adds to [`FRESH_NAMES`]: it may be reached at port 80.
const ADDRESS: &str = r#"  - toCIDR: [192.0.2.10/32]
    toPorts:
    - ports: [{port: "80", protocol: TCP}]
"#;

/// What the policies and names come to in the kernel.
const MAPS: &[&str] =
    &["endpoints", "sources", "prefixes", "frontends", "rows", "leases", "names", "numbers"];

#[test]
fn maps_of_another_size_hold_what_the_first_held_and_nothing_notices() {
    for (topology, attach) in [(Topology::Routed, "tcx"), (Topology::Bridged, "clsact")] {
        let (lab, mut daemon) = begin(topology, &["--bpf-attach", attach]);
        let client = lab.pod(CLIENT);
        resolve(&lab, 1);
        let mut transfers = vec![begun(client, fresh_address(1)), begun(client, ip(WEB))];
        let caller = lab.outside("web").namespace();
        transfers.extend(client.addresses().map(|own| Transfer::start(caller, own).unwrap()));
        let before = daemon.maps(MAPS);
        let sizes = ["--bpf-attach", attach, "--bpf-leases", "4321", "--bpf-rows", "5432"];
        let sizes = sizes.into_iter().chain(["--bpf-flows-per-endpoint", "2048"]);
        while_knocking(client, || {
            daemon.restart_with(&sizes.collect::<Vec<_>>()).unwrap();
            go_on(&transfers);
        });
        assert_eq!(daemon.maps(MAPS), before);
        assert_eq!((room(&daemon, "leases"), room(&daemon, "rows")), (4321, 5432));
        let drops = daemon.drops(CLIENT);
        assert_eq!(drops.keys().collect::<Vec<_>>(), ["policy-denied"], "those of the knocking");
        assert_eq!(client.connect(fresh_address(1), Ports::HTTP), Reach::Open);
        assert_eq!(client.connect(fresh_address(2), Ports::HTTP), Reach::Silent);
        resolve(&lab, 2);
        assert_eq!(client.connect(fresh_address(2), Ports::HTTP), Reach::Open);
        assert_eq!(directories(&daemon).len(), 1);
        let aside = directories(&daemon)[0].join("leases-old");
        assert!(!aside.exists(), "nothing is left of the move");
    }
}

#[test]
fn a_size_too_small_for_what_is_held_stops_the_start_and_leaves_everything_in_force() {
    let (lab, mut daemon) = begin(Topology::Routed, &[]);
    let client = lab.pod(CLIENT);
    (1..4).for_each(|number| resolve(&lab, number));
    let transfer = begun(client, fresh_address(1));
    daemon.stop().unwrap();
    let configuration = daemon.configuration();
    let mut smaller = daemon.plain_command().unwrap();
    smaller.arg("--config").arg(configuration).args(["--bpf-leases", "2"]);
    let output = smaller.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the map `leases` is to have room for 2"), "{said}");

    transfer.goes_on().unwrap();
    assert_eq!(client.connect(fresh_address(2), Ports::HTTP), Reach::Open);
    assert_eq!(client.connect(fresh_address(9), Ports::HTTP), Reach::Silent);
    daemon.restart().unwrap();
    transfer.goes_on().unwrap();
    assert_eq!(daemon.learned(CLIENT).len(), 3);
}

#[test]
fn another_version_s_maps_are_moved_over_from_without_a_moment_open() {
    for (topology, attach) in [(Topology::Routed, "tcx"), (Topology::Bridged, "clsact")] {
        let (lab, mut daemon) = begin(topology, &["--bpf-attach", attach]);
        let client = lab.pod(CLIENT);
        resolve(&lab, 1);
        let learned = begun(client, fresh_address(1));
        let named = begun(client, ip(WEB));
        let own = directories(&daemon);
        let theirs = own[0].with_file_name("v1");
        while_knocking(client, || {
            daemon.kill9().unwrap();
            // What another version has left, this one does not read.
            fs::rename(&own[0], &theirs).unwrap();
            daemon.restart().unwrap();
            named.goes_on().unwrap();
        });
        assert_eq!(directories(&daemon), own, "the other version's is gone");
        assert_eq!(daemon.enforcement(CLIENT), "enforced");
        assert_eq!(daemon.learned(CLIENT).len(), 0);
        assert_eq!(client.connect(fresh_address(1), Ports::HTTP), Reach::Silent);
        assert_eq!(client.connect(ip(WEB), Ports::HTTP), Reach::Open);
        resolve(&lab, 1);
        assert_eq!(client.connect(fresh_address(1), Ports::HTTP), Reach::Open);
        // What was sent meanwhile is sent again, later each time.
        let before = learned.received();
        soon("the connection that waited for its name", || learned.received() > before);
    }
}

fn begin(topology: Topology, flags: &[&str]) -> (Lab, Daemon) {
    let lab = Lab::new(LabOptions::with_topology(topology)).unwrap();
    lab.policy("names", &[FRESH_NAMES, ADDRESS].concat()).unwrap();
    let daemon = Daemon::start(&lab, flags).unwrap();
    (lab, daemon)
}

fn resolve(lab: &Lab, number: u32) {
    let resolver = Resolver::new(lab.dns_service()[0]);
    let answer = lab.pod(CLIENT).ask(resolver, &format!("f{number}.fresh.example"), RecordType::A);
    assert_eq!(answer.addresses, [fresh_address(number)]);
}

fn room(daemon: &Daemon, map: &str) -> u64 {
    let list = daemon.ctl_json(&["map", "list"]).unwrap();
    let sizes: BTreeMap<_, _> = list
        .as_array()
        .expect("a list of maps")
        .iter()
        .map(|own| (own["name"].as_str().unwrap(), own["size"].as_u64().unwrap()))
        .collect();
    sizes[map]
}

/// What is under the daemon's pin directory.
fn directories(daemon: &Daemon) -> Vec<PathBuf> {
    let entries = fs::read_dir(daemon.pin_directory()).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Does something while the pod sends a datagram every few milliseconds to where it may not, and
/// none of them is answered.
fn while_knocking(pod: &Pod, work: impl FnOnce()) {
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    let (sent, answered) = thread::scope(|scope| {
        let knocking = scope.spawn(|| pod.namespace().run(|| knock(&over)).unwrap());
        let ends = Over(&over);
        work();
        drop(ends);
        knocking.join().unwrap()
    });
    println!("{sent} datagrams to where none may go, {answered} answered");
    assert!(sent > 20, "{sent}");
    assert_eq!(answered, 0, "of {sent}");
}

fn knock(over: &AtomicBool) -> (u32, u32) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let (mut sent, mut answered) = (0, 0);
    while !over.load(Ordering::Relaxed) {
        socket.send_to(b"?", (ip(WEB), Ports::ECHO)).unwrap();
        sent += 1;
        answered += u32::from(socket.recv(&mut [0; 8]).is_ok());
    }
    (sent, answered)
}

#[test]
fn whoever_knocks_is_answered_where_a_rule_lets_it() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("names", &[FRESH_NAMES, ADDRESS].concat()).unwrap();
    lab.policy("echo", ECHO).unwrap();
    let _daemon = Daemon::start(&lab, &[]).unwrap();
    let client = lab.pod(CLIENT);
    assert_eq!(Reach::udp(client.namespace(), ip(WEB)).unwrap(), Reach::Open);
}
