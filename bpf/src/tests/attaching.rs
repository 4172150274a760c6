//! Programs in the way of real packets: a node and a pod, each in a network namespace of its own.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::panic::AssertUnwindSafe;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use model::{
    Change, DropReason, EndpointEntry, EndpointId, Enforcement, Identity, Interface, PortPrefix,
    Row, TableId, Verdict,
};
use nix::sched::{CloneFlags, unshare};
use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::socket::{setsockopt, sockopt};

use super::{Fixture, run, settings};
use crate::{AttachMode, Attached, By, Hook};

pub(super) const ENDPOINT: EndpointId = EndpointId(5);
pub(super) const TABLE: TableId = TableId(2);
pub(super) const SERVERS: Identity = Identity(300);
pub(super) const MODES: [(AttachMode, By); 2] =
    [(AttachMode::Tcx, By::Tcx), (AttachMode::Clsact, By::Clsact)];

/// A thread in a network namespace of its own, which goes with it.
pub(super) struct Namespace {
    jobs: Option<mpsc::Sender<Box<dyn FnOnce() + Send>>>,
    thread: Option<thread::JoinHandle<()>>,
    id: u32,
}

impl Namespace {
    fn new() -> Self {
        let (jobs, queue) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (ready, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            run("ip", &["link", "set", "lo", "up"]);
            ready.send(nix::unistd::gettid().as_raw().cast_unsigned()).unwrap();
            queue.into_iter().for_each(|job| job());
        });
        let id = told.recv().unwrap();
        Self { jobs: Some(jobs), thread: Some(thread), id }
    }

    /// Runs something inside and hands its answer, or its panic, out.
    pub(super) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, told) = mpsc::channel();
        let job = move || {
            let caught = std::panic::catch_unwind(AssertUnwindSafe(job));
            // Nobody waits any more where the test is over.
            let _ = answer.send(caught);
        };
        self.jobs.as_ref().unwrap().send(Box::new(job)).unwrap();
        told.recv().unwrap().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(super) fn ip(line: &str) {
    run("ip", &line.split_whitespace().collect::<Vec<_>>());
}

/// Tries something for a minute, and says how long it took.
fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = attempt() {
            println!("{what}: {:?}", start.elapsed());
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The node's side runs on the test's own thread.
pub(super) struct Lab {
    pub(super) pod: Namespace,
    pub(super) interface: Interface,
}

/// The addresses of the node's and of the pod's side, by family.
const ADDRESSES: [(&str, &str); 2] = [("10.1.0.1", "10.1.0.2"), ("fd01::1", "fd01::2")];

impl Lab {
    /// Makes the pod and its veth. With a bridge, the node's side is a port of it.
    pub(super) fn new(bridged: bool) -> Self {
        let pod = Namespace::new();
        ip("link add pod0 type veth peer name eth0");
        ip(&format!("link set eth0 netns {}", pod.id));
        let holder = if bridged { "br0" } else { "pod0" };
        if bridged {
            ip("link add br0 type bridge");
            ip("link set pod0 master br0");
            ip("link set br0 up");
        }
        ip("link set pod0 up");
        ip(&format!("addr add 10.1.0.1/24 dev {holder}"));
        ip(&format!("addr add fd01::1/64 dev {holder} nodad"));
        pod.run(|| {
            ip("addr add 10.1.0.2/24 dev eth0");
            ip("addr add fd01::2/64 dev eth0 nodad");
            ip("link set eth0 up");
            ip("route add default via 10.1.0.1");
            ip("route add default via fd01::1");
        });
        Self { pod, interface: index("pod0") }
    }
}

pub(super) fn index(name: &str) -> Interface {
    Interface(nix::net::if_::if_nametoindex(name).unwrap())
}

/// Runs a test on a thread that is the node.
pub(super) fn on_a_node(test: impl FnOnce() + Send + 'static) {
    Namespace::new().run(test);
}

pub(super) fn policy(interface: Interface, bridge: Option<Interface>) -> Vec<Change> {
    let prefix = |text: &str, identity| Change::PutPrefix(text.parse().unwrap(), identity);
    let row = |port, verdict: Verdict| {
        [PortPrefix::port(model::Protocol::TCP, port), PortPrefix::port(model::Protocol::UDP, port)]
            .map(|ports| {
                Change::PutRow(Row { table: TABLE, identity: SERVERS, ports }, verdict.into())
            })
    };
    let mut changes = vec![
        Change::PutSource(ENDPOINT, "10.1.0.2/32".parse().unwrap()),
        Change::PutSource(ENDPOINT, "fd01::2/128".parse().unwrap()),
        prefix("0.0.0.0/0", Identity::WORLD),
        prefix("::/0", Identity::WORLD),
        prefix("10.1.0.1/32", SERVERS),
        prefix("fd01::1/128", SERVERS),
        prefix("192.0.2.53/32", SERVERS),
        prefix("2001:db8::53/128", SERVERS),
    ];
    changes.extend(row(443, Verdict::Allow));
    changes.extend(row(53, Verdict::Dns));
    let enforcement = Enforcement::Table(TABLE);
    let entry = EndpointEntry { endpoint: ENDPOINT, enforcement, generation: 1, bridge };
    changes.push(Change::PutEndpoint(interface, entry));
    changes
}

/// A pod on a routed veth, with programs that enforce the policy.
pub(super) fn enforced_on_a_veth(mode: AttachMode) -> (Lab, Fixture) {
    let lab = Lab::new(false);
    let fixture = Fixture::new(mode);
    fixture.datapath().apply(&policy(lab.interface, None)).unwrap();
    fixture.datapath().attach(lab.interface).unwrap();
    (lab, fixture)
}

/// A pod on a bridge, with programs on both that enforce the policy.
pub(super) fn enforced_on_a_bridge(mode: AttachMode) -> (Lab, Fixture, Interface) {
    let lab = Lab::new(true);
    let fixture = Fixture::new(mode);
    let bridge = index("br0");
    fixture.datapath().apply(&policy(lab.interface, Some(bridge))).unwrap();
    fixture.datapath().attach(lab.interface).unwrap();
    fixture.datapath().attach_bridge(bridge).unwrap();
    (lab, fixture, bridge)
}

/// Whether the pod reaches a TCP port of an address within a moment.
pub(super) fn connects(lab: &Lab, address: &str, port: u16) -> bool {
    let address = SocketAddr::new(address.parse().unwrap(), port);
    lab.pod.run(move || TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_ok())
}

pub(super) fn listen(address: &str, port: u16) -> TcpListener {
    TcpListener::bind(SocketAddr::new(address.parse().unwrap(), port)).unwrap()
}

pub(super) fn both_places(interface: Interface, by: By) -> Vec<Attached> {
    [Hook::FromEndpoint, Hook::ToEndpoint].map(|hook| Attached { interface, hook, by }).into()
}

#[test]
fn what_is_attached_enforces_without_the_process_and_goes_when_it_is_told() {
    for (mode, by) in MODES {
        on_a_node(move || {
            let (lab, mut fixture) = enforced_on_a_veth(mode);
            assert_eq!(fixture.datapath().attached().unwrap(), both_places(lab.interface, by));
            let servers = ADDRESSES.map(|(node, _)| (listen(node, 443), listen(node, 80)));
            let check = |lab: &Lab| {
                for (node, _) in ADDRESSES {
                    assert!(connects(lab, node, 443), "{node} {by}");
                    assert!(!connects(lab, node, 80), "{node} {by}");
                }
            };
            check(&lab);
            // The process is gone; what it put there is not.
            fixture.datapath = None;
            check(&lab);
            fixture.reopen();
            fixture.datapath().attach(lab.interface).unwrap();
            assert_eq!(fixture.datapath().attached().unwrap(), both_places(lab.interface, by));
            check(&lab);
            let drops = fixture.datapath().drops().unwrap();
            assert!(drops[&(ENDPOINT, DropReason::PolicyDenied)] >= 6, "{drops:?}");
            fixture.datapath().detach(lab.interface).unwrap();
            assert_eq!(fixture.datapath().attached().unwrap(), []);
            assert!(connects(&lab, "10.1.0.1", 80));
            drop(servers);
        });
    }
}

#[test]
fn a_restart_replaces_the_programs_where_they_are() {
    for (mode, _) in MODES {
        on_a_node(move || {
            let lab = Lab::new(false);
            let mut fixture = Fixture::new(mode);
            fixture.datapath().attach(lab.interface).unwrap();
            let before = places();
            fixture.reopen();
            fixture.datapath().attach(lab.interface).unwrap();
            let after = places();
            assert_eq!(before.len(), after.len(), "{before} {after}");
        });
    }
}

/// A signal that waits for its thread makes the verifier give up. Children of other threads' are
/// enough: one that ends before its parent, still in posix_spawn(3), takes signals again is told to
/// any thread.
#[test]
fn programs_are_loaded_while_signals_come() {
    extern "C" fn nothing(_: i32) {}
    let heeded = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler does nothing, which is safe wherever it is called.
    unsafe { sigaction(Signal::SIGUSR1, &heeded) }.unwrap();
    let mut fixture = Fixture::new(AttachMode::Auto);
    let loading = pthread_self();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                pthread_kill(loading, Signal::SIGUSR1).unwrap();
                thread::sleep(Duration::from_millis(1));
            }
        });
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| fixture.reopen()));
        over.store(true, Ordering::Relaxed);
        opened.unwrap();
    });
}

/// What tc knows of the pod's interface.
fn places() -> String {
    let show = |direction| tc(&["filter", "show", "dev", "pod0", direction]);
    show("ingress") + &show("egress")
}

fn tc(arguments: &[&str]) -> String {
    let output = Command::new("tc").args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn another_way_of_attaching_takes_over_from_the_first() {
    on_a_node(|| {
        let lab = Lab::new(false);
        let mut fixture = Fixture::new(AttachMode::Clsact);
        fixture.datapath().attach(lab.interface).unwrap();
        for (mode, by) in MODES.into_iter().chain(MODES) {
            fixture.options.attach = mode;
            fixture.reopen();
            fixture.datapath().attach(lab.interface).unwrap();
            assert_eq!(fixture.datapath().attached().unwrap(), both_places(lab.interface, by));
        }
    });
}

#[test]
fn others_filters_stay_and_ours_leave_nothing() {
    on_a_node(|| {
        let lab = Lab::new(false);
        let fixture = Fixture::new(AttachMode::Clsact);
        fixture.datapath().attach(lab.interface).unwrap();
        fixture.datapath().detach(lab.interface).unwrap();
        let qdiscs = || tc(&["qdisc", "show", "dev", "pod0"]);
        assert!(!qdiscs().contains("clsact"), "{}", qdiscs());
        fixture.datapath().attach(lab.interface).unwrap();
        // Any other classifier will do; not every kernel has more than this one.
        let pin = fixture.options.pin.join(bpf_abi::VERSION).join("links");
        let pin = pin.join(format!("{}-to_endpoint-clsact", lab.interface));
        let theirs = "filter add dev pod0 ingress prio 9 bpf direct-action object-pinned";
        let mut theirs: Vec<_> = theirs.split(' ').collect();
        theirs.push(pin.to_str().unwrap());
        run("tc", &theirs);
        fixture.datapath().detach(lab.interface).unwrap();
        assert!(places().contains("pref 9") && !places().contains("fqdnd/"), "{}", places());
        assert!(qdiscs().contains("clsact"));
    });
}

#[test]
fn removing_takes_everything_away() {
    for (mode, _) in MODES {
        on_a_node(move || {
            let (lab, mut fixture, bridge) = enforced_on_a_bridge(mode);
            let server = listen("10.1.0.1", 80);
            assert!(!connects(&lab, "10.1.0.1", 80));
            fixture.datapath = None;
            let removed = crate::remove(&fixture.options.pin).unwrap();
            assert_eq!(removed.interfaces, [bridge.min(lab.interface), bridge.max(lab.interface)]);
            assert!(removed.maps >= 18, "{removed:?}");
            assert!(!fixture.options.pin.exists());
            eventually("open again", || connects(&lab, "10.1.0.1", 80).then_some(()));
            assert!(!places().contains("fqdnd"), "{}", places());
            assert_eq!(crate::remove(&fixture.options.pin).unwrap(), crate::Removed::default());
            drop(server);
        });
    }
}

#[test]
fn pins_that_are_lost_open_nothing_while_the_process_runs() {
    for (mode, _) in MODES {
        on_a_node(move || {
            let (lab, mut fixture, _) = enforced_on_a_bridge(mode);
            let server = listen("10.1.0.1", 80);
            assert!(!connects(&lab, "10.1.0.1", 80));
            std::fs::remove_dir_all(&fixture.options.pin).unwrap();
            assert!(!connects(&lab, "10.1.0.1", 80));
            fixture.datapath().detach(lab.interface).unwrap();
            fixture.datapath = None;
            drop(server);
        });
    }
}

#[test]
fn an_interface_that_is_gone_is_no_trouble() {
    for (mode, _) in MODES {
        on_a_node(move || {
            let lab = Lab::new(false);
            let fixture = Fixture::new(mode);
            fixture.datapath().attach(lab.interface).unwrap();
            ip("link del pod0");
            assert_eq!(fixture.datapath().attached().unwrap(), []);
            fixture.datapath().detach(lab.interface).unwrap();
            assert!(fixture.datapath().attach(lab.interface).is_err());
            fixture.datapath().detach(lab.interface).unwrap();
        });
    }
}

#[test]
fn replies_to_connections_from_outside_pass() {
    for (mode, _) in MODES {
        on_a_node(move || {
            let (lab, _fixture) = enforced_on_a_veth(mode);
            for (_, pod) in ADDRESSES {
                let listener = lab.pod.run(move || listen(pod, 8080));
                let to = SocketAddr::new(pod.parse().unwrap(), 8080);
                let mut client = TcpStream::connect_timeout(&to, Duration::from_secs(60)).unwrap();
                let (mut server, _) = listener.accept().unwrap();
                client.write_all(b"question").unwrap();
                let mut said = [0; 8];
                server.read_exact(&mut said).unwrap();
                server.write_all(b"answer").unwrap();
                client.read_exact(&mut said[..6]).unwrap();
                assert_eq!(&said[..6], b"answer");
            }
        });
    }
}

/// The proxy's sockets, and the routes that lead redirected packets to them.
struct Proxy {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Proxy {
    fn new(v4: bool) -> Self {
        let loopback = if v4 { "127.0.0.1:0" } else { "[::1]:0" };
        let family = if v4 { "-4" } else { "-6" };
        ip(&format!("{family} rule add fwmark 0x2000/0x3000 table 77"));
        ip(&format!("{family} route add local default dev lo table 77"));
        let udp = UdpSocket::bind(loopback).unwrap();
        let tcp = TcpListener::bind(loopback).unwrap();
        udp.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // Of IPv6 sockets too: it is one bit of the socket's.
        setsockopt(&udp, sockopt::IpTransparent, &true).unwrap();
        setsockopt(&tcp, sockopt::IpTransparent, &true).unwrap();
        setsockopt(&udp, sockopt::Mark, &0x1000).unwrap();
        setsockopt(&tcp, sockopt::Mark, &0x1000).unwrap();
        Self { udp, tcp }
    }

    fn settings(&self) -> crate::Settings {
        crate::Settings {
            udp_ports: vec![self.udp.local_addr().unwrap().port()],
            tcp_ports: vec![self.tcp.local_addr().unwrap().port()],
            ..settings()
        }
    }
}

/// A query by UDP and one by TCP, to a server that does not exist, reach the proxy.
fn queries_reach_the_proxy(lab: &Lab, fixture: &Fixture, server: &'static str) {
    let v4 = server.parse::<IpAddr>().unwrap().is_ipv4();
    let proxy = Proxy::new(v4);
    fixture.datapath().configure(&proxy.settings()).unwrap();
    let to = SocketAddr::new(server.parse().unwrap(), 53);
    lab.pod.run(move || {
        let any = if v4 { "0.0.0.0:0" } else { "[::]:0" };
        UdpSocket::bind(any).unwrap().send_to(b"query", to).unwrap();
    });
    let mut query = [0; 16];
    let (length, from) = proxy.udp.recv_from(&mut query).unwrap();
    assert_eq!(&query[..length], b"query");
    assert!(ADDRESSES.iter().any(|(_, pod)| from.ip() == pod.parse::<IpAddr>().unwrap()));

    let tcp = proxy.tcp;
    let answering = thread::spawn(move || {
        let (mut stream, _) = tcp.accept().unwrap();
        let said = stream.local_addr().unwrap();
        let mut query = [0; 5];
        stream.read_exact(&mut query).unwrap();
        stream.write_all(b"answer").unwrap();
        said
    });
    lab.pod.run(move || {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(60)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(b"query").unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
    });
    assert_eq!(answering.join().unwrap(), to, "the proxy sees whom the pod asked");
}

#[test]
fn queries_reach_the_proxy_on_a_routed_veth() {
    for (mode, _) in MODES {
        on_a_node(move || {
            let (lab, fixture) = enforced_on_a_veth(mode);
            for server in ["192.0.2.53", "2001:db8::53"] {
                queries_reach_the_proxy(&lab, &fixture, server);
            }
            let drops = fixture.datapath().drops().unwrap();
            assert!(!drops.contains_key(&(ENDPOINT, DropReason::ProxyUnavailable)), "{drops:?}");
        });
    }
}

#[test]
fn queries_reach_the_proxy_through_a_bridge() {
    for (mode, _) in MODES {
        on_a_node(move || {
            let (lab, fixture, _bridge) = enforced_on_a_bridge(mode);
            for server in ["192.0.2.53", "2001:db8::53"] {
                queries_reach_the_proxy(&lab, &fixture, server);
            }
            let drops = fixture.datapath().drops().unwrap();
            assert!(drops.keys().all(|(id, _)| *id != EndpointId(0)), "{drops:?}");
        });
    }
}

#[test]
fn a_living_connection_that_must_go_to_the_proxy_is_reset() {
    on_a_node(|| {
        let lab = Lab::new(false);
        let fixture = Fixture::new(AttachMode::Auto);
        let mut changes = policy(lab.interface, None);
        fixture.datapath().apply(&changes).unwrap();
        fixture.datapath().attach(lab.interface).unwrap();
        let server = listen("10.1.0.1", 443);
        let to = server.local_addr().unwrap();
        let mut stream = lab.pod.run(move || TcpStream::connect(to).unwrap());
        let accepted = server.accept().unwrap();
        let proxy = Proxy::new(true);
        fixture.datapath().configure(&proxy.settings()).unwrap();
        for change in &mut changes {
            if let Change::PutRow(_, ruling) = change {
                *ruling = Verdict::Dns.into();
            }
            if let Change::PutEndpoint(_, entry) = change {
                entry.generation = 2;
            }
        }
        fixture.datapath().apply(&changes).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(b"more").unwrap();
        let error = stream.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        drop(accepted);
    });
}
