//! The kernel's half: maps and programs of this process alone, in namespaces of its own, so that
//! nothing stays behind however it ends.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use bpf::{Datapath, Hook, Marks, Options, Settings, Sizes};
use engine::difference;
use model::{
    Audited, Change, DropReason, EndpointEntry, EndpointId, Enforcement, Frontend, Identity,
    Interface, LeaseEntry, Moment, NameNumber, PortPrefix, Prefix, Protocol, Row, Ruling, State,
    TableId, Verdict,
};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};

use super::frame::{self, Cast};
use super::reference::{Outcome, Reference};

/// Its index in every new namespace.
const LOOPBACK: Interface = Interface(1);
const ENDPOINT: EndpointId = EndpointId(7);
const TABLES: [TableId; 2] = [TableId(3), TableId(4)];
const POD: Identity = Identity(300);
const CIDR: Identity = Identity(1 << 24);
const NAMES: [Identity; 2] = [Identity(2 << 24), Identity((2 << 24) + 1)];
const SERVICE: Identity = Identity(3 << 24);
const IDENTITIES: [Identity; 8] =
    [Identity::ANY, Identity::WORLD, Identity::NO_SERVICE, POD, CIDR, NAMES[0], NAMES[1], SERVICE];
const MAX_STEPS: usize = 48;

/// Packets, by whose they were and why they were counted.
type Counted = BTreeMap<(EndpointId, DropReason), u64>;

/// The programs and the model, in step.
pub struct World {
    datapath: Datapath,
    model: Reference,
    /// What every script begins with.
    base: State,
    /// Each script has addresses of its own, and may send from no others, not by a bent header
    /// either: the kernel's flow tables outlive it.
    scripts: u32,
    generation: u32,
    now: Moment,
    /// The proxy's, so that there is somebody to redirect to.
    _sockets: ([UdpSocket; 2], [TcpListener; 2]),
}

impl World {
    /// Loads the programs on maps of this process' own.
    pub fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("must be root");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
        assert!(up.success());
        let (udp, tcp) = sockets();
        let pin = PathBuf::from("/sys/fs/bpf/fqdnd-fuzz");
        let options = Options { pin, sizes: sizes(), ..Options::default() };
        let datapath = Datapath::open(&options).unwrap();
        let hour = Duration::from_secs(3600);
        let settings = Settings {
            marks: Marks::default(),
            tcp_idle: hour,
            handshake_idle: hour,
            udp_idle: hour,
            udp_ports: vec![udp[0].local_addr().unwrap().port()],
            tcp_ports: vec![tcp[0].local_addr().unwrap().port()],
            l7_ports: vec![tcp[0].local_addr().unwrap().port()],
            ..Settings::default()
        };
        datapath.configure(&settings).unwrap();
        let mut world = Self {
            datapath,
            model: Reference::new(LOOPBACK),
            base: State::default(),
            scripts: 0,
            generation: 1,
            now: now(),
            _sockets: (udp, tcp),
        };
        world.apply(&base());
        world.base = world.model.state.clone();
        world
    }

    fn apply(&mut self, changes: &[Change]) {
        self.datapath.apply(changes).unwrap();
        changes.iter().for_each(|change| self.model.state.apply(change));
    }

    /// Runs a script until its input ends.
    pub fn run(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        self.scripts += 1;
        self.now = now();
        let casts = casts(self.scripts);
        self.apply(&casts.map(|cast| Change::PutSource(ENDPOINT, Prefix::host(cast.own))));
        self.switch(input)?;
        for _ in 0..MAX_STEPS {
            match input.int_in_range(0..=15)? {
                0..=7 => self.send(&frame::sent(input, &casts)?),
                8..=12 => self.receive(&frame::received(input, &casts)?, input.ratio(1, 8)?),
                13 => self.switch(input)?,
                14 if input.ratio(1, 6)? => self.change_source(input, &casts)?,
                14 => self.change(input, &casts)?,
                _ => self.bump(),
            }
        }
        Ok(())
    }

    /// Takes every change back.
    pub fn reset(&mut self) {
        let steps = difference(&self.model.state, &self.base);
        let back: Vec<Change> = steps.into_changes().collect();
        self.apply(&back);
        self.model.forget();
    }

    fn send(&mut self, frame: &[u8]) {
        let counts = |world: &Self| {
            let datapath = &world.datapath;
            (datapath.drops().unwrap(), datapath.audits().unwrap())
        };
        let (drops, audits) = counts(self);
        let program = self.datapath.program(Hook::FromEndpoint);
        let Ok((answer, _)) = bpf::test_run(program, frame, &mut [0; 192], 1) else { return };
        let after = counts(self);
        let (dropped, told) = (counted(&drops, &after.0), counted(&audits, &after.1));
        let outcome = match (answer, dropped) {
            (-1, None) => Outcome::Pass,
            (7, None) => Outcome::Redirect,
            (2, Some(reason)) => Outcome::Drop(reason),
            odd => panic!("{odd:?} for {frame:02x?}"),
        };
        assert_eq!((outcome, told), self.model.send(frame, self.now), "sent: {frame:02x?}");
    }

    fn receive(&mut self, frame: &[u8], answer: bool) {
        let program = self.datapath.program(Hook::ToEndpoint);
        let mut context = [0; 192];
        if answer {
            // `mark` is the third word of `struct __sk_buff`.
            context[8..12].copy_from_slice(&Marks::default().answer.to_ne_bytes());
        }
        let Ok((said, _)) = bpf::test_run(program, frame, &mut context, 1) else { return };
        assert_eq!(said, -1, "received: {frame:02x?}");
        self.model.receive(frame, answer);
    }

    /// Puts the endpoint under another enforcement.
    fn switch(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let enforcement = match input.int_in_range(0..=7)? {
            0 => Enforcement::Open,
            1 => Enforcement::Closed(DropReason::EndpointPending),
            2..=5 => Enforcement::Table(TABLES[0]),
            _ => Enforcement::Table(TABLES[1]),
        };
        let bridge = input.arbitrary::<bool>()?.then_some(LOOPBACK);
        self.generation += 1;
        let generation = self.generation;
        let entry = EndpointEntry { endpoint: ENDPOINT, enforcement, generation, bridge };
        self.apply(&[Change::PutEndpoint(LOOPBACK, entry)]);
        Ok(())
    }

    /// Has everything judged again.
    fn bump(&mut self) {
        self.generation += 1;
        let mut entry = self.model.state.endpoints[&LOOPBACK];
        entry.generation = self.generation;
        self.apply(&[Change::PutEndpoint(LOOPBACK, entry)]);
    }

    /// Gives a source or takes it back, and begins a generation, as the engine does.
    fn change_source(&mut self, input: &mut Unstructured<'_>, casts: &[Cast; 2]) -> Result<()> {
        let source = *input.choose(&[casts[0].own, casts[1].own, casts[0].foreign])?;
        let source = Prefix::host(source);
        let change = if self.model.state.sources.contains_key(&(ENDPOINT, source)) {
            Change::DeleteSource(ENDPOINT, source)
        } else {
            Change::PutSource(ENDPOINT, source)
        };
        self.apply(&[change]);
        self.bump();
        Ok(())
    }

    fn change(&mut self, input: &mut Unstructured<'_>, casts: &[Cast; 2]) -> Result<()> {
        let cast = input.choose(casts)?;
        let address = *input.choose(&cast.others)?;
        let identity = *input.choose(&IDENTITIES)?;
        let change = match input.int_in_range(0..=9)? {
            0..=2 => {
                let table = *input.choose(&TABLES)?;
                Change::PutRow(
                    Row { table, identity, ports: ports(input)? },
                    ruling(input, identity)?,
                )
            }
            3 => match input.choose_iter(self.model.state.rows.keys()) {
                Ok(row) => Change::DeleteRow(*row),
                Err(_) => return Ok(()),
            },
            4 if identity != Identity::ANY => Change::PutPrefix(prefix(input, address)?, identity),
            5 => Change::DeletePrefix(prefix(input, address)?),
            6 => {
                let protocol = *input.choose(&[Protocol::TCP, Protocol::UDP, Protocol::SCTP])?;
                let port = *input.choose(&[53, 80, 443])?;
                let frontend = Frontend { address, protocol, port };
                if input.arbitrary()? {
                    Change::PutFrontend(frontend, SERVICE)
                } else {
                    Change::DeleteFrontend(frontend)
                }
            }
            7 | 8 => {
                let second = input.arbitrary::<bool>()?.then_some(NAMES[1]);
                let hour = Duration::from_secs(3600);
                let expires = if input.ratio(1, 3)? { self.now - hour } else { self.now + hour };
                let sets = [Some(NAMES[0]), second];
                let lease = LeaseEntry { sets, name: NameNumber(1), expires };
                Change::PutLease(ENDPOINT, address, lease)
            }
            _ => Change::DeleteLease(ENDPOINT, address),
        };
        self.apply(&[change]);
        Ok(())
    }
}

/// One port for both families and both transports, with the mark that makes sockets the proxy's.
fn sockets() -> ([UdpSocket; 2], [TcpListener; 2]) {
    let own = ["127.0.0.1:5300", "[::1]:5300"];
    let udp = own.map(|own| UdpSocket::bind(own).unwrap());
    let tcp = own.map(|own| TcpListener::bind(own).unwrap());
    let mark = Marks::default().answer;
    udp.iter().for_each(|socket| setsockopt(socket, sockopt::Mark, &mark).unwrap());
    tcp.iter().for_each(|socket| setsockopt(socket, sockopt::Mark, &mark).unwrap());
    (udp, tcp)
}

fn now() -> Moment {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap();
    Moment::from_nanos(Duration::from(now).as_nanos() as u64)
}

fn sizes() -> Sizes {
    let few = 1024;
    Sizes {
        endpoints: 16,
        sources: few,
        prefixes: few,
        frontends: few,
        rows: few,
        leases: few,
        shared: few,
        names: few,
        numbers: few,
        flows_out: 1 << 16,
        flows_in: 1 << 16,
        fragments: 1 << 14,
        ring_bytes: 1 << 16,
    }
}

fn casts(script: u32) -> [Cast; 2] {
    let parse = |text: &str| text.parse::<IpAddr>().unwrap();
    let [_, a, b, c] = script.to_be_bytes();
    [
        Cast {
            own: Ipv4Addr::new(10, a, b, c).into(),
            foreign: Ipv4Addr::new(11, a, b, c).into(),
            others: [
                "198.51.100.1",
                "203.0.113.5",
                "10.96.0.10",
                "10.96.7.7",
                "192.0.2.9",
                "224.0.0.1",
                "192.0.2.200",
            ]
            .map(parse),
        },
        Cast {
            own: Ipv6Addr::from((0xfd00_u128 << 112) + u128::from(script)).into(),
            foreign: parse("fe80::99"),
            others: [
                "2001:db8:1::1",
                "2001:db8:2::5",
                "fd96::10",
                "fd96::7",
                "2001:db8:3::9",
                "ff02::1",
                "fe80::5",
            ]
            .map(parse),
        },
    ]
}

fn prefix(input: &mut Unstructured<'_>, address: IpAddr) -> Result<Prefix> {
    let lengths: &[u8] = if address.is_ipv4() { &[0, 8, 24, 31, 32] } else { &[0, 16, 48, 128] };
    Ok(Prefix::new(address, *input.choose(lengths)?).unwrap())
}

fn ports(input: &mut Unstructured<'_>) -> Result<PortPrefix> {
    let protocol = Protocol(*input.choose(&[6, 17, 132, 1, 58, 47])?);
    let port = *input.choose(&[53, 80, 443, 8443, 40_000, 8, 128, 0])?;
    Ok(match input.int_in_range(0..=4)? {
        0 => PortPrefix::Any,
        1 => PortPrefix::Protocol(protocol),
        2 => PortPrefix::Ports { protocol, port: port & 0xff00, bits: 8 },
        _ => PortPrefix::port(protocol, port),
    })
}

/// What was counted once since it was last looked at.
fn counted(before: &Counted, after: &Counted) -> Option<DropReason> {
    let mut risen = after.iter().filter(|(key, count)| before.get(key) != Some(count));
    let reason = risen.next().map(|((_, reason), _)| *reason);
    assert_eq!(risen.next(), None);
    reason
}

/// A row's, which says something.
fn ruling(input: &mut Unstructured<'_>, identity: Identity) -> Result<Ruling> {
    let default_deny = identity == Identity::ANY && input.arbitrary()?;
    let audited = Audited { deny_rule: input.ratio(1, 4)?, default_deny };
    let nothing = (audited != Audited::NONE) && input.arbitrary()?;
    let verdict = if nothing { None } else { Some(verdict(input)?) };
    Ok(Ruling { verdict, audited })
}

fn verdict(input: &mut Unstructured<'_>) -> Result<Verdict> {
    Ok(*input.choose(&[
        Verdict::Allow,
        Verdict::Allow,
        Verdict::Proxy,
        Verdict::Unruled,
        Verdict::Dns,
        Verdict::Deny,
    ])?)
}

/// A policy for both families that lets a little of everything happen.
fn base() -> Vec<Change> {
    let prefix = |text: &str, identity| Change::PutPrefix(text.parse().unwrap(), identity);
    let row = |table, identity, ports, verdict: Verdict| {
        Change::PutRow(Row { table, identity, ports }, verdict.into())
    };
    let enforcement = Enforcement::Table(TABLES[0]);
    let entry = EndpointEntry { endpoint: ENDPOINT, enforcement, generation: 1, bridge: None };
    let mut changes = vec![
        Change::PutEndpoint(LOOPBACK, entry),
        prefix("0.0.0.0/0", Identity::WORLD),
        prefix("::/0", Identity::WORLD),
        prefix("203.0.113.0/24", CIDR),
        prefix("2001:db8:2::/48", CIDR),
        prefix("192.0.2.9/32", POD),
        prefix("2001:db8:3::9/128", POD),
        prefix("10.96.0.0/12", Identity::NO_SERVICE),
        prefix("fd96::/16", Identity::NO_SERVICE),
        row(TABLES[0], CIDR, PortPrefix::Protocol(Protocol::TCP), Verdict::Allow),
        row(TABLES[0], CIDR, PortPrefix::Protocol(Protocol::UDP), Verdict::Allow),
        row(TABLES[0], POD, PortPrefix::Any, Verdict::Allow),
        row(TABLES[0], NAMES[0], PortPrefix::port(Protocol::TCP, 443), Verdict::Allow),
        row(TABLES[0], SERVICE, PortPrefix::Any, Verdict::Dns),
        row(TABLES[1], POD, PortPrefix::port(Protocol::TCP, 80), Verdict::Allow),
        row(TABLES[1], SERVICE, PortPrefix::port(Protocol::UDP, 53), Verdict::Dns),
    ];
    // What the second table does not allow is only audited.
    let everything = Row { table: TABLES[1], identity: Identity::ANY, ports: PortPrefix::Any };
    let audited = Audited { default_deny: true, ..Audited::NONE };
    changes.push(Change::PutRow(everything, Ruling { verdict: None, audited }));
    for address in ["10.96.0.10", "fd96::10"] {
        for protocol in [Protocol::UDP, Protocol::TCP] {
            let address = address.parse().unwrap();
            changes.push(Change::PutFrontend(Frontend { address, protocol, port: 53 }, SERVICE));
        }
    }
    changes
}
