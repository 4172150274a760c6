//! What the programs cost, by BPF_PROG_TEST_RUN: nanoseconds over a program that does nothing.
//!
//! A packet of a known flow can be repeated within one call. First packets need a call each; what
//! such a call costs by itself is measured with the empty program, and taken off.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bpf::{Datapath, EventBudget, Hook, Options, Settings, Sizes};
use integration::Namespace;
use model::{
    Change, EndpointEntry, EndpointId, Enforcement, Identity, Interface, LeaseEntry, Moment,
    NameNumber, PortPrefix, Prefix, Protocol, Row, TableId, Verdict,
};
use serde::Serialize;

use crate::empty;
use crate::figures::median;

/// How many addresses the endpoint has resolved.
const SIZES: [u32; 3] = [1_000, 100_000, 1_000_000];
/// How often a frame is repeated in one call, and how many calls are made.
const REPEAT: u32 = 200_000;
const CALLS: u32 = 7;
/// How many first packets are told of, and as many are not.
const FIRST: u32 = 10_000;
/// How many of them come one after the other, before the others' turn: less than the ring of events
/// has room for.
const TURN: u32 = 250;

/// The index of the loopback interface in every new namespace, from which test frames come.
const LOOPBACK: Interface = Interface(1);
const ENDPOINT: EndpointId = EndpointId(7);
const TABLE: TableId = TableId(3);
const POD: Identity = Identity(300);
const NAMES: Identity = Identity(2 << 24);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const OWN6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
/// Reached over IPv6 by any UDP.
const OTHER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9);
/// The endpoint's port, and the other side's.
const PORTS: (u16, u16) = (40_000, 443);
/// The resolved addresses begin here.
const RESOLVED: u32 = Ipv4Addr::new(11, 0, 0, 0).to_bits();

/// What a table size costs, in nanoseconds over the empty program.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    pub addresses: u32,
    /// A packet of a flow that is known.
    pub established_ns: f64,
    /// The same over IPv6.
    pub established6_ns: f64,
    /// A packet that reaches the endpoint on such a flow.
    pub reply_ns: f64,
    /// A packet that the endpoint sends on a flow that came in.
    pub serving_ns: f64,
    /// The first packet of a flow, always to the same address, with an event told of it.
    pub first_hot_ns: f64,
    /// The same, with nothing told of first packets.
    pub first_untold_ns: f64,
    /// The first packet of a flow, to a random address, with an event told of it.
    pub first_random_ns: f64,
    /// Counting what is in the maps, as each scrape of the metrics does, in milliseconds.
    pub count_ms: f64,
}

/// Measures every size. The empty program's own nanoseconds come first.
pub fn run() -> Result<(f64, Vec<Figures>)> {
    let namespace = Namespace::new(format!("fqdnd-{}-0-datapath", std::process::id()))?;
    namespace.run(|| {
        let bench = Bench::new()?;
        let mut figures = Vec::new();
        let mut known = 0;
        for size in SIZES {
            eprintln!("datapath: {size} addresses");
            bench.learn(known..size)?;
            known = size;
            figures.push(bench.measure(size)?);
        }
        Ok((bench.repeated(bench.empty.as_fd(), &udp4(address(0), 443, OWN, 40_000))?, figures))
    })?
}

struct Bench {
    datapath: Datapath,
    empty: std::os::fd::OwnedFd,
    pin: PathBuf,
    /// Counts up the ports that first packets come from.
    ports: Cell<u32>,
}

impl Bench {
    fn new() -> Result<Self> {
        let pin = PathBuf::from(format!("/sys/fs/bpf/fqdnd-bench-{}", std::process::id()));
        let sizes = Sizes { leases: SIZES[SIZES.len() - 1], ..Sizes::default() };
        let options = Options { pin: pin.clone(), sizes, ..Options::default() };
        let datapath = Datapath::open(&options)?;
        let bench = Self { datapath, empty: empty::load()?, pin, ports: Cell::new(0) };
        bench.datapath.apply(&policy())?;
        Ok(bench)
    }

    fn learn(&self, numbers: std::ops::Range<u32>) -> Result<()> {
        let numbers: Vec<u32> = numbers.collect();
        for some in numbers.chunks(4096) {
            let leases: Vec<Change> = some.iter().map(|&number| lease(number)).collect();
            self.datapath.apply(&leases)?;
        }
        Ok(())
    }

    fn measure(&self, size: u32) -> Result<Figures> {
        let sends = self.datapath.program(Hook::FromEndpoint);
        let receives = self.datapath.program(Hook::ToEndpoint);
        let to = address(size / 2);
        let (own, other) = PORTS;
        let (there, back) = (udp4(OWN, own, to, other), udp4(to, other, OWN, own));
        let there6 = udp6(OWN6, own, OTHER6, other);
        // The other side begins one, from a port of a client's.
        let (request, answer) = (udp4(to, own, OWN, other), udp4(OWN, other, to, own));

        self.configure(&Settings::default())?;
        for (program, frame) in [(sends, &there), (receives, &back), (sends, &there6)] {
            one(program, frame, 1)?;
        }
        for (program, frame) in [(receives, &request), (sends, &answer)] {
            one(program, frame, 1)?;
        }
        let established_ns = self.over_empty(sends, &there)?;
        let established6_ns = self.over_empty(sends, &there6)?;
        let reply_ns = self.over_empty(receives, &back)?;
        let serving_ns = self.over_empty(sends, &answer)?;
        let (first_hot_ns, first_untold_ns) = self.first(|_| to)?;
        let (first_random_ns, _) = self.first(|random| address(random % size))?;
        Ok(Figures {
            addresses: size,
            established_ns,
            established6_ns,
            reply_ns,
            serving_ns,
            first_hot_ns,
            first_untold_ns,
            first_random_ns,
            count_ms: self.count_ms()?,
        })
    }

    fn count_ms(&self) -> Result<f64> {
        let time = |_| -> Result<f64> {
            let begun = Instant::now();
            self.datapath.maps()?;
            Ok(begun.elapsed().as_secs_f64() * 1e3)
        };
        Ok(median((0..3).map(time).collect::<Result<Vec<_>>>()?))
    }

    fn configure(&self, settings: &Settings) -> Result<()> {
        Ok(self.datapath.configure(settings)?)
    }

    /// Runs both programs in turns and takes the median of the differences.
    fn over_empty(&self, program: BorrowedFd<'_>, frame: &[u8]) -> Result<f64> {
        let difference = |_| -> Result<f64> {
            let floor = one(self.empty.as_fd(), frame, REPEAT)?;
            Ok(one(program, frame, REPEAT)? - floor)
        };
        let differences: Result<Vec<f64>> = (0..CALLS).map(difference).collect();
        Ok(median(differences?))
    }

    fn repeated(&self, program: BorrowedFd<'_>, frame: &[u8]) -> Result<f64> {
        let runs: Result<Vec<f64>> = (0..CALLS).map(|_| one(program, frame, REPEAT)).collect();
        Ok(median(runs?))
    }

    /// Packets that begin flows, each from another port, with an event told of each and with none,
    /// in turns: medians over the empty program's.
    fn first(&self, to: impl Fn(u32) -> Ipv4Addr) -> Result<(f64, f64)> {
        let mut ring = self.datapath.events()?;
        // What was told of other packets.
        while ring.next().is_some() {}
        let (mut told, mut untold) = (Runs::default(), Runs::default());
        for _ in 0..FIRST / TURN {
            self.tell(EventBudget { per_second: 1_000_000_000, burst: u32::MAX })?;
            self.begin_flows(&to, &mut told)?;
            let events = std::iter::from_fn(|| ring.next()).count();
            ensure!(events == TURN as usize, "{events} events of {TURN} first packets");
            self.tell(EventBudget::OFF)?;
            self.begin_flows(&to, &mut untold)?;
        }
        Ok((told.over_empty(), untold.over_empty()))
    }

    fn tell(&self, flow_events: EventBudget) -> Result<()> {
        self.configure(&Settings { flow_events, ..Settings::default() })
    }

    fn begin_flows(&self, to: impl Fn(u32) -> Ipv4Addr, runs: &mut Runs) -> Result<()> {
        let sends = self.datapath.program(Hook::FromEndpoint);
        let mut state = 0x9e37_79b9_u32 ^ self.ports.get();
        for _ in 0..TURN {
            // Marsaglia's xorshift: any order that no prefetcher foresees does.
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let port = 1024 + (self.ports.get() % 60_000) as u16;
            self.ports.set(self.ports.get() + 1);
            let frame = udp4(OWN, port, to(state), 8443);
            runs.empty.push(one(self.empty.as_fd(), &frame, 1)?);
            runs.own.push(one(sends, &frame, 1)?);
        }
        Ok(())
    }
}

/// Nanoseconds of the program and, in turns with it, of the empty one.
#[derive(Default)]
struct Runs {
    own: Vec<f64>,
    empty: Vec<f64>,
}

impl Runs {
    fn over_empty(self) -> f64 {
        median(self.own) - median(self.empty)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Err(error) = bpf::remove(&self.pin) {
            eprintln!("remove {}: {error}", self.pin.display());
        }
    }
}

/// The nanoseconds of a run whose packet passes.
fn one(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> Result<f64> {
    let run = bpf::test_run(program, frame, &mut [0; 192], repeat);
    let (answer, nanos) = run.context("run a program")?;
    ensure!(answer == -1, "the program answered {answer}, not that the packet may go on");
    Ok(f64::from(nanos))
}

/// The address with this number, all over a range so that the trie is deep.
fn address(number: u32) -> Ipv4Addr {
    // An odd factor reaches every address of the 24 bits once.
    Ipv4Addr::from_bits(RESOLVED + (number.wrapping_mul(0x9e_3779) & 0xff_ffff))
}

fn lease(number: u32) -> Change {
    let entry = LeaseEntry { sets: [Some(NAMES), None], name: NameNumber(1), expires: Moment::MAX };
    Change::PutLease(ENDPOINT, IpAddr::V4(address(number)), entry)
}

/// One endpoint, a world, and names that any UDP may go to.
fn policy() -> Vec<Change> {
    let enforcement = Enforcement::Table(TABLE);
    let endpoint = EndpointEntry { endpoint: ENDPOINT, enforcement, generation: 1, bridge: None };
    let ports = PortPrefix::Protocol(Protocol::UDP);
    let row = Row { table: TABLE, identity: NAMES, ports };
    let [world, world6] = ["0.0.0.0/0", "::/0"].map(known);
    vec![
        Change::PutRow(row, Verdict::Allow.into()),
        Change::PutRow(Row { identity: POD, ..row }, Verdict::Allow.into()),
        Change::PutPrefix(Prefix::host(IpAddr::V6(OTHER6)), POD),
        Change::PutPrefix(world, Identity::WORLD),
        Change::PutPrefix(world6, Identity::WORLD),
        Change::PutSource(ENDPOINT, known("10.0.0.2/32")),
        Change::PutSource(ENDPOINT, known("fd00::2/128")),
        Change::PutEndpoint(LOOPBACK, endpoint),
    ]
}

fn known(text: &str) -> Prefix {
    text.parse().expect("a prefix written in this file")
}

/// A UDP packet over IPv4 in an Ethernet frame.
fn udp4(source: Ipv4Addr, from: u16, destination: Ipv4Addr, to: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 60, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    datagram(frame, from, to)
}

/// The same over IPv6.
fn udp6(source: Ipv6Addr, from: u16, destination: Ipv6Addr, to: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd];
    frame.extend([0x60, 0, 0, 0, 0, 40, 17, 64]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    datagram(frame, from, to)
}

fn datagram(mut frame: Vec<u8>, from: u16, to: u16) -> Vec<u8> {
    for word in [from, to, 40, 0] {
        frame.extend(word.to_be_bytes());
    }
    frame.extend([0; 32]);
    frame
}
