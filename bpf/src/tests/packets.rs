//! What becomes of packets: frames in, verdict and reason out, both families.
//!
//! Programs run by BPF_PROG_TEST_RUN in a network namespace of the test's own, whose loopback
//! interface stands for the endpoint's. What needs a real interface is in `attaching`.

mod audit;
mod control;
mod events;
mod fragments;
mod policy;
mod replies;

use std::net::IpAddr;

use model::{
    Change, DropReason, EndpointEntry, EndpointId, Enforcement, Frontend, Identity, Interface,
    LeaseEntry, Moment, NameNumber, PortPrefix, Prefix, Protocol, Row, TableId, Verdict,
};

use super::frames;
use super::{Fixture, settings};
use crate::{AttachMode, Datapath, Hook, sys};

/// Its index in every new namespace.
const LOOPBACK: Interface = Interface(1);
const ENDPOINT: EndpointId = EndpointId(7);
const TABLE: TableId = TableId(3);
const POD: Identity = Identity(300);
const CIDR: Identity = Identity(1 << 24);
const DENIED_CIDR: Identity = Identity((1 << 24) + 1);
const NAMES: Identity = Identity(2 << 24);
const NEW_NAMES: Identity = Identity((2 << 24) + 1);
const DNS: Identity = Identity(3 << 24);

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Pass,
    Redirect,
    Drop(DropReason),
}

use Outcome::{Drop as Dropped, Pass, Redirect};

/// An endpoint with a policy, and packets of both families to try on it.
struct World {
    fixture: Fixture,
    generation: u32,
}

/// The addresses that tests use, of one family.
#[derive(Clone, Copy)]
struct Family {
    /// The endpoint's.
    own: IpAddr,
    /// Of a pod that any protocol may go to.
    pod: IpAddr,
    /// Outside, in no rule.
    outside: IpAddr,
    /// Outside; TCP 443 may go there, and UDP and ICMP; 8443 is for the L7 proxy.
    cidr: IpAddr,
    /// Outside; denied, though UDP 80 may go anywhere.
    denied: IpAddr,
    /// Learned; TCP 443 may go there.
    leased: IpAddr,
    /// A service that the proxy serves, at port 53.
    dns: IpAddr,
    /// In the service range, but no service.
    unused: IpAddr,
    /// The numbers of ICMP echo requests and replies.
    echo: (u8, u8),
    /// ICMP's own number.
    icmp: u8,
}

fn families() -> [Family; 2] {
    let parse = |text: &str| text.parse::<IpAddr>().unwrap();
    let v4 = Family {
        own: parse("10.0.0.2"),
        pod: parse("10.0.0.9"),
        outside: parse("198.51.100.1"),
        cidr: parse("203.0.113.5"),
        denied: parse("203.0.113.200"),
        leased: parse("192.0.2.80"),
        dns: parse("10.96.0.10"),
        unused: parse("10.96.7.7"),
        echo: (8, 0),
        icmp: 1,
    };
    let v6 = Family {
        own: parse("fd00::2"),
        pod: parse("fd00::9"),
        outside: parse("2001:db8:1::1"),
        cidr: parse("2001:db8:2::5"),
        denied: parse("2001:db8:2::bad"),
        leased: parse("2001:db8:3::80"),
        dns: parse("fd96::10"),
        unused: parse("fd96::7"),
        echo: (128, 129),
        icmp: 58,
    };
    [v4, v6]
}

/// Runs a test in a network namespace of its own, with its loopback interface up.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        super::run("ip", &["link", "set", "lo", "up"]);
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a test for each family, each time in a world of its own.
fn for_each_family(test: fn(&mut World, Family)) {
    for family in families() {
        in_namespace(move || test(&mut World::new(Enforcement::Table(TABLE)), family));
    }
}

fn now() -> Moment {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap();
    Moment::from_nanos(std::time::Duration::from(now).as_nanos() as u64)
}

fn tcp_port(port: u16) -> PortPrefix {
    PortPrefix::port(Protocol::TCP, port)
}

impl World {
    fn new(enforcement: Enforcement) -> Self {
        let mut world = Self { fixture: Fixture::new(AttachMode::Auto), generation: 1 };
        world.apply(&policy());
        world.enforce(enforcement);
        world
    }

    fn datapath(&self) -> &Datapath {
        self.fixture.datapath()
    }

    fn apply(&self, changes: &[Change]) {
        self.datapath().apply(changes).unwrap();
    }

    /// Puts the endpoint under an enforcement, in a new generation.
    fn enforce(&mut self, enforcement: Enforcement) {
        self.put_endpoint(enforcement, None);
    }

    fn put_endpoint(&mut self, enforcement: Enforcement, bridge: Option<Interface>) {
        self.generation += 1;
        let generation = self.generation;
        let entry = EndpointEntry { endpoint: ENDPOINT, enforcement, generation, bridge };
        self.apply(&[Change::PutEndpoint(LOOPBACK, entry)]);
    }

    /// Has everything judged again.
    fn judge_again(&mut self) {
        self.enforce(Enforcement::Table(TABLE));
    }

    fn lease(&self, address: IpAddr, sets: [Option<Identity>; 2], expires: Moment) {
        let lease = LeaseEntry { sets, name: NameNumber(1), expires };
        self.apply(&[Change::PutLease(ENDPOINT, address, lease)]);
    }

    /// The endpoint sends a frame.
    fn send(&self, frame: &[u8]) -> Outcome {
        let before = self.datapath().drops().unwrap();
        let program = self.datapath().program(Hook::FromEndpoint);
        let (answer, _) = sys::test_run(program, frame, &mut [0; 192], 1).unwrap();
        let after = self.datapath().drops().unwrap();
        let mut counted = after.iter().filter(|(key, count)| before.get(key) != Some(count));
        match (answer, counted.next(), counted.next()) {
            (-1, None, None) => Pass,
            (7, None, None) => Redirect,
            (2, Some(((_, reason), _)), None) => Dropped(*reason),
            odd => panic!("{odd:?}"),
        }
    }

    /// A frame reaches the endpoint, with a mark.
    fn receive_marked(&self, frame: &[u8], mark: u32) {
        let program = self.datapath().program(Hook::ToEndpoint);
        let mut context = [0; 192];
        // `mark` is the third word of `struct __sk_buff`.
        context[8..12].copy_from_slice(&mark.to_ne_bytes());
        let (answer, _) = sys::test_run(program, frame, &mut context, 1).unwrap();
        assert_eq!(answer, -1);
    }

    fn receive(&self, frame: &[u8]) {
        self.receive_marked(frame, 0);
    }

    fn send_tcp(&self, family: Family, to: IpAddr, port: u16, flags: u8) -> Outcome {
        self.send(&frames::ip(family.own, to, frames::TCP, &frames::tcp(40_000, port, flags)))
    }

    fn receive_tcp(&self, family: Family, from: IpAddr, port: u16, flags: u8) {
        self.receive(&frames::ip(from, family.own, frames::TCP, &frames::tcp(port, 40_000, flags)));
    }

    fn send_udp(&self, family: Family, to: IpAddr, port: u16) -> Outcome {
        self.send(&frames::ip(family.own, to, frames::UDP, &frames::udp(40_000, port, b"data")))
    }

    fn receive_udp(&self, family: Family, from: IpAddr, port: u16) {
        self.receive(&frames::ip(
            from,
            family.own,
            frames::UDP,
            &frames::udp(port, 40_000, b"data"),
        ));
    }

    fn send_echo(&self, family: Family, to: IpAddr, reply: bool) -> Outcome {
        let kind = if reply { family.echo.1 } else { family.echo.0 };
        self.send(&frames::ip(family.own, to, family.icmp, &frames::icmp(kind, 77, &[])))
    }

    fn receive_echo(&self, family: Family, from: IpAddr, reply: bool) {
        let kind = if reply { family.echo.1 } else { family.echo.0 };
        self.receive(&frames::ip(from, family.own, family.icmp, &frames::icmp(kind, 77, &[])));
    }
}

/// The maps' content that [`Family`] describes.
fn policy() -> Vec<Change> {
    let prefix = |text: &str, identity| Change::PutPrefix(text.parse().unwrap(), identity);
    let source = |text: &str| Change::PutSource(ENDPOINT, text.parse().unwrap());
    let row = |identity, ports, verdict: Verdict| {
        Change::PutRow(Row { table: TABLE, identity, ports }, verdict.into())
    };
    let mut changes = vec![
        source("10.0.0.2/32"),
        source("fd00::2/128"),
        prefix("0.0.0.0/0", Identity::WORLD),
        prefix("::/0", Identity::WORLD),
        prefix("10.0.0.9/32", POD),
        prefix("fd00::9/128", POD),
        prefix("203.0.113.0/24", CIDR),
        prefix("2001:db8:2::/48", CIDR),
        prefix("203.0.113.200/32", DENIED_CIDR),
        prefix("2001:db8:2::bad/128", DENIED_CIDR),
        prefix("10.96.0.0/12", Identity::NO_SERVICE),
        prefix("fd96::/16", Identity::NO_SERVICE),
        row(POD, PortPrefix::Any, Verdict::Allow),
        row(CIDR, tcp_port(443), Verdict::Allow),
        row(CIDR, PortPrefix::Protocol(Protocol::UDP), Verdict::Allow),
        row(CIDR, PortPrefix::port(Protocol::ICMP, 8), Verdict::Allow),
        row(CIDR, PortPrefix::port(Protocol::ICMPV6, 128), Verdict::Allow),
        row(DENIED_CIDR, PortPrefix::Any, Verdict::Deny),
        row(Identity::ANY, PortPrefix::port(Protocol::UDP, 80), Verdict::Allow),
        row(NAMES, tcp_port(443), Verdict::Allow),
        row(NEW_NAMES, tcp_port(8443), Verdict::Allow),
        row(CIDR, tcp_port(8443), Verdict::Proxy),
        row(CIDR, PortPrefix::port(Protocol::UDP, 8443), Verdict::Proxy),
        row(CIDR, PortPrefix::port(Protocol::SCTP, 8443), Verdict::Proxy),
        row(DNS, PortPrefix::Any, Verdict::Dns),
    ];
    for family in families() {
        for protocol in [Protocol::UDP, Protocol::TCP] {
            let frontend = Frontend { address: family.dns, protocol, port: 53 };
            changes.push(Change::PutFrontend(frontend, DNS));
        }
    }
    changes
}
