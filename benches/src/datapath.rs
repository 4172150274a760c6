//! What the programs cost, by BPF_PROG_TEST_RUN: nanoseconds over a program that does nothing.
//!
//! A packet whose flow has idled out at once is a first packet every time, so one frame can be
//! repeated. Random addresses need a call for each packet; what such a call costs by itself is
//! measured with the empty program, and taken off.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bpf::{Datapath, Hook, Options, Settings, Sizes};
use integration::Namespace;
use model::{
    Change, EndpointEntry, EndpointId, Enforcement, Identity, Interface, LeaseEntry, Moment,
    NameNumber, PortPrefix, Protocol, Row, TableId, Verdict,
};
use serde::Serialize;

use crate::empty;
use crate::figures::median;

/// How many addresses the endpoint has resolved.
const SIZES: [u32; 3] = [1_000, 100_000, 1_000_000];
/// How often a frame is repeated in one call, and how many calls are made.
const REPEAT: u32 = 200_000;
const CALLS: u32 = 7;
/// How many packets to random addresses.
const RANDOM: u32 = 20_000;

/// The index of the loopback interface in every new namespace, from which test frames come.
const LOOPBACK: Interface = Interface(1);
const ENDPOINT: EndpointId = EndpointId(7);
const TABLE: TableId = TableId(3);
const NAMES: Identity = Identity(2 << 24);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The resolved addresses begin here.
const RESOLVED: u32 = Ipv4Addr::new(11, 0, 0, 0).to_bits();

/// What a table size costs, in nanoseconds over the empty program.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    pub addresses: u32,
    /// A packet of a flow that is known.
    pub established_ns: f64,
    /// A packet that reaches the endpoint on such a flow.
    pub reply_ns: f64,
    /// The first packet of a flow, always to the same address.
    pub first_hot_ns: f64,
    /// The first packet of a flow, to a random address.
    pub first_random_ns: f64,
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
        Ok((bench.repeated(bench.empty.as_fd(), &frame(address(0), OWN))?, figures))
    })?
}

struct Bench {
    datapath: Datapath,
    empty: std::os::fd::OwnedFd,
    pin: PathBuf,
}

impl Bench {
    fn new() -> Result<Self> {
        let pin = PathBuf::from(format!("/sys/fs/bpf/fqdnd-bench-{}", std::process::id()));
        let sizes = Sizes { leases: SIZES[SIZES.len() - 1], ..Sizes::default() };
        let options = Options { pin: pin.clone(), sizes, ..Options::default() };
        let datapath = Datapath::open(&options)?;
        let bench = Self { datapath, empty: empty::load()?, pin };
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
        let (there, back) = (frame(OWN, to), frame(to, OWN));

        self.configure(Duration::from_secs(3600))?;
        let established_ns = self.over_empty(sends, &there)?;
        let reply_ns = self.over_empty(receives, &back)?;
        self.configure(Duration::ZERO)?;
        let first_hot_ns = self.over_empty(sends, &there)?;
        let first_random_ns = self.random(sends, size)? - self.random(self.empty.as_fd(), size)?;
        Ok(Figures { addresses: size, established_ns, reply_ns, first_hot_ns, first_random_ns })
    }

    fn configure(&self, idle: Duration) -> Result<()> {
        let settings = Settings { udp_idle: idle, ..Settings::default() };
        Ok(self.datapath.configure(&settings)?)
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

    /// The median of packets to addresses all over the table.
    fn random(&self, program: BorrowedFd<'_>, size: u32) -> Result<f64> {
        let mut state = 0x9e37_79b9_u32;
        let mut runs = Vec::with_capacity(RANDOM as usize);
        for _ in 0..RANDOM {
            // Marsaglia's xorshift: any order that no prefetcher foresees does.
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            runs.push(one(program, &frame(OWN, address(state % size)), 1)?);
        }
        Ok(median(runs))
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
        Change::PutRow(row, Verdict::Allow),
        Change::PutPrefix(world, Identity::WORLD),
        Change::PutPrefix(world6, Identity::WORLD),
        Change::PutSource(ENDPOINT, known("10.0.0.2/32")),
        Change::PutSource(ENDPOINT, known("fd00::2/128")),
        Change::PutEndpoint(LOOPBACK, endpoint),
    ]
}

fn known(text: &str) -> model::Prefix {
    text.parse().expect("a prefix written in this file")
}

/// A UDP packet in an Ethernet frame.
fn frame(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 60, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    let (from, to) = if source == OWN { (40_000u16, 443u16) } else { (443, 40_000) };
    for word in [from, to, 40, 0] {
        frame.extend(word.to_be_bytes());
    }
    frame.extend([0; 32]);
    frame
}
