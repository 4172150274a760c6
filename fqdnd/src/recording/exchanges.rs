//! The way from the DNS workers to the recorder: settled queries in records of one size, in queues
//! that are never waited for.
//!
//! A worker copies what it has seen into its queue and goes on. Where the queue is full the record
//! is lost, and counted.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;
use dnsproxy::{Answer, Ending, Settled};
use model::{DnsFailure, EndpointId, Moment, Name, NameRef, Transport};

use crate::clock;

/// How many records wait in one queue: at 40,000 queries a second, for 50 ms.
const LANE: usize = 2048;
/// How many addresses of an answer are kept.
const ADDRESSES: usize = 16;
/// How many bytes of aliases are kept, in wire format.
const ALIASES: usize = 256;

/// Queues, one for each thread that may note something.
pub struct Exchanges {
    lanes: Box<[ArrayQueue<Exchange>]>,
    /// The lane of the next thread.
    next: AtomicUsize,
    lost: AtomicU64,
}

thread_local! {
    static LANE_OF_THREAD: Cell<Option<usize>> = const { Cell::new(None) };
}

/// A settled query.
pub struct Exchange {
    /// When it was settled.
    pub at: Moment,
    /// When it went upstream, if it did.
    pub forwarded: Option<Moment>,
    /// Whose it was; none of a client that is no endpoint.
    pub endpoint: Option<EndpointId>,
    /// Who asked.
    pub client: SocketAddr,
    /// Who was asked.
    pub server: SocketAddr,
    /// How.
    pub transport: Transport,
    /// The type that was asked for.
    pub qtype: u16,
    /// What was answered.
    pub outcome: Outcome,
    /// The least TTL of the addresses.
    pub ttl: u32,
    /// Whether some of the answer is not here.
    pub cut: bool,
    name: Packed<{ Name::MAX_LEN }>,
    aliases: Packed<ALIASES>,
    addresses: [IpAddr; ADDRESSES],
    address_count: u8,
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A refusal by policy.
    Refused,
    /// A refusal of what policy allows, because the endpoint has asked too much.
    OverLimit,
    /// The server's answer, with this code.
    Answered(u16),
    /// SERVFAIL.
    Failed(DnsFailure),
}

/// Bytes in place.
struct Packed<const N: usize> {
    bytes: [u8; N],
    len: u16,
}

impl Exchanges {
    /// Queues for so many threads. Any further ones share them.
    pub fn new(threads: usize) -> Self {
        let lanes = (0..threads.max(1)).map(|_| ArrayQueue::new(LANE)).collect();
        Self { lanes, next: AtomicUsize::new(0), lost: AtomicU64::new(0) }
    }

    /// Takes down a settled query.
    pub fn note(&self, settled: &Settled<'_>) {
        let lane = LANE_OF_THREAD.get().unwrap_or_else(|| {
            let lane = self.next.fetch_add(1, Ordering::Relaxed);
            LANE_OF_THREAD.set(Some(lane));
            lane
        });
        let lane = &self.lanes[lane % self.lanes.len()];
        if lane.push(Exchange::new(settled)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes at most `limit` records out of each queue.
    pub fn take(&self, limit: usize) -> impl Iterator<Item = Exchange> {
        self.lanes.iter().flat_map(move |lane| std::iter::from_fn(|| lane.pop()).take(limit))
    }

    /// How many records found their queue full.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Exchange {
    fn new(settled: &Settled<'_>) -> Self {
        let Settled { endpoint, query, forwarded, ending } = *settled;
        let mut own = Self {
            at: clock::now(),
            forwarded,
            endpoint,
            client: query.client,
            server: query.server,
            transport: query.transport,
            qtype: query.qtype,
            outcome: match ending {
                Ending::Refused => Outcome::Refused,
                Ending::OverLimit => Outcome::OverLimit,
                Ending::Answered(answer, _) => Outcome::Answered(answer.rcode.0),
                Ending::Failed(failure) => Outcome::Failed(failure),
            },
            ttl: 0,
            cut: false,
            name: Packed::new(),
            aliases: Packed::new(),
            addresses: [IpAddr::V4(Ipv4Addr::UNSPECIFIED); ADDRESSES],
            address_count: 0,
        };
        own.name.add(query.name.as_wire());
        if let Ending::Answered(answer, message) = ending {
            own.take_answer(answer, message);
        }
        own
    }

    fn take_answer(&mut self, answer: &Answer, message: &[u8]) {
        let addresses = &answer.addresses;
        self.cut = addresses.len() > ADDRESSES || answer.truncated || answer.chain_cut;
        for (place, address) in self.addresses.iter_mut().zip(addresses) {
            *place = address.ip;
            self.address_count += 1;
        }
        self.ttl = addresses.iter().map(|address| address.ttl).min().unwrap_or(0);
        for alias in answer.cnames(message) {
            self.cut |= !self.aliases.add(alias.as_ref().as_wire());
        }
    }

    /// The name that was asked for.
    pub fn name(&self) -> Name {
        let name = NameRef::from_wire(self.name.as_slice());
        name.expect("a name's own bytes were put there").to_name()
    }

    /// The addresses in the answer.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses[..usize::from(self.address_count)]
    }

    /// The aliases in the answer.
    pub fn aliases(&self) -> Vec<Name> {
        let mut names = Vec::new();
        let mut rest = self.aliases.as_slice();
        while !rest.is_empty() {
            let end = end_of_name(rest);
            let (name, tail) = rest.split_at(end);
            names.extend(NameRef::from_wire(name).map(NameRef::to_name));
            rest = tail;
        }
        names
    }
}

/// Where the first of several names ends that stand one after the other in wire format.
fn end_of_name(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&length) = bytes.get(at) {
        at += 1 + usize::from(length);
        if length == 0 {
            break;
        }
    }
    at.min(bytes.len())
}

impl<const N: usize> Packed<N> {
    const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    /// Adds all of this, or nothing if there is no room for it.
    fn add(&mut self, more: &[u8]) -> bool {
        let start = usize::from(self.len);
        let Some(place) = self.bytes.get_mut(start..start + more.len()) else { return false };
        place.copy_from_slice(more);
        self.len += more.len() as u16;
        true
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use dnsproxy::Query;

    use super::*;

    fn settle(exchanges: &Exchanges, name: &str, ending: Ending<'_>) {
        let name: Name = name.parse().unwrap();
        let query = Query {
            client: "10.0.0.1:40000".parse().unwrap(),
            server: "10.96.0.10:53".parse().unwrap(),
            transport: Transport::Udp,
            name: name.as_ref(),
            qtype: 1,
        };
        let forwarded = Some(Moment::ZERO);
        exchanges.note(&Settled { endpoint: Some(EndpointId(3)), query, forwarded, ending });
    }

    /// An answer to `a.` with an alias `b.` and so many addresses.
    fn answer(addresses: u8) -> Vec<u8> {
        let mut message = b"\0\x01\x81\x80\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01".to_vec();
        message[7] = 1 + addresses;
        message.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x03\x01b\0");
        for address in 0..addresses {
            message.extend(b"\x01b\0\0\x01\0\x01\0\0\0\x1e\0\x04");
            message.extend([192, 0, 2, address]);
        }
        message
    }

    #[test]
    fn an_answer_is_kept_with_its_names_and_addresses() {
        let exchanges = Exchanges::new(1);
        let mut message = answer(2);
        let mut read = Answer::default();
        read.read(&mut message, 60).unwrap();
        settle(&exchanges, "a", Ending::Answered(&read, &message));
        let own = exchanges.take(9).next().unwrap();
        assert_eq!(own.name().to_string(), "a.");
        assert_eq!(own.outcome, Outcome::Answered(0));
        assert_eq!(own.addresses().len(), 2);
        assert_eq!((own.ttl, own.cut), (30, false));
        let aliases: Vec<String> = own.aliases().iter().map(ToString::to_string).collect();
        assert_eq!(aliases, ["b."]);
    }

    #[test]
    fn of_a_long_answer_the_beginning_is_kept_and_it_says_so() {
        let exchanges = Exchanges::new(1);
        let mut message = answer(40);
        let mut read = Answer::default();
        read.read(&mut message, 60).unwrap();
        settle(&exchanges, "a", Ending::Answered(&read, &message));
        let own = exchanges.take(9).next().unwrap();
        assert_eq!((own.addresses().len(), own.cut), (ADDRESSES, true));
    }

    #[test]
    fn names_of_any_length_fit_and_aliases_as_many_as_there_is_room_for() {
        let long = "abcdefg.".repeat(31);
        let exchanges = Exchanges::new(1);
        settle(&exchanges, &long, Ending::Refused);
        assert_eq!(exchanges.take(9).next().unwrap().name().to_string(), long);
        let mut aliases = Packed::<ALIASES>::new();
        let name: Name = long.parse().unwrap();
        assert!(aliases.add(name.as_ref().as_wire()));
        assert!(!aliases.add(name.as_ref().as_wire()));
        assert_eq!(aliases.as_slice(), name.as_ref().as_wire());
    }

    #[test]
    fn what_finds_its_queue_full_is_counted() {
        let exchanges = Exchanges::new(1);
        for _ in 0..LANE + 5 {
            settle(&exchanges, "a", Ending::Failed(DnsFailure::Timeout));
        }
        assert_eq!(exchanges.lost(), 5);
        assert_eq!(exchanges.take(100).count(), 100);
        assert_eq!(exchanges.take(LANE).count(), LANE - 100);
    }
}
