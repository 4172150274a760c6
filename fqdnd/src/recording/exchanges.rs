//! The way from the DNS workers to the recorder: settled queries in records of one size, in queues
//! that are never waited for.
//!
//! A worker copies what it has seen into its queue and goes on; it rings when the queue is half full.
//! Where the endpoint's budget is used up, nothing is copied; where the queue is full, the record is
//! lost. Both are counted.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;
use dnsproxy::{Answer, Breach, Ending, Settled};
use model::{DnsFailure, EndpointId, Moment, Name, NameRef, Transport};

use super::bell::{Bell, Call};
use super::budget::Budget;
use super::conversations::Conversation;
use super::losses::LeftOut;

/// How many records wait in one queue. At 40,000 queries a second, half of it is filled in 25 ms.
const LANE: usize = 2048;
/// At how many the recorder is rung for.
const HALF: usize = LANE / 2;
/// How many bytes of a record are for names and addresses. The name that was asked for always
/// fits. A record that is too large is one that two processors have to hand each other in pieces.
const ROOM: usize = 320;

/// Queues, one for each thread that may note something.
pub struct Exchanges {
    lanes: Box<[ArrayQueue<Exchange>]>,
    /// The lane of the next thread.
    next: AtomicUsize,
    budget: Budget,
    bell: Arc<Bell>,
    suppressed: AtomicU64,
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
    /// What is against it, where it went upstream all the same.
    pub breach: Option<Breach>,
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
    packed: Packed,
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

/// The name that was asked for, then addresses, then aliases: names in wire format, addresses as
/// their octets.
struct Packed {
    bytes: [u8; ROOM],
    /// Where the name ends, and the IPv4 addresses, and the IPv6 addresses, and the aliases.
    ends: [u16; 4],
}

impl Exchanges {
    /// Queues for so many threads. Any further ones share them. Who takes them out hears `bell`.
    pub fn new(threads: usize, budget: Budget, bell: Arc<Bell>) -> Self {
        let lanes = (0..threads.max(1)).map(|_| ArrayQueue::new(LANE)).collect();
        let (suppressed, lost) = Default::default();
        Self { lanes, next: AtomicUsize::new(0), budget, bell, suppressed, lost }
    }

    /// Takes down a settled query.
    pub fn note(&self, settled: &Settled<'_>) {
        if !self.budget.take(settled.endpoint, settled.at) {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let lane = LANE_OF_THREAD.get().unwrap_or_else(|| {
            let lane = self.next.fetch_add(1, Ordering::Relaxed);
            LANE_OF_THREAD.set(Some(lane));
            lane
        });
        let lane = &self.lanes[lane % self.lanes.len()];
        if lane.push(Exchange::new(settled)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        } else if lane.len() == HALF {
            self.bell.ring(Call::Now);
        }
    }

    /// Takes at most `limit` records out of each queue.
    pub fn take(&self, limit: usize) -> impl Iterator<Item = Exchange> {
        self.lanes.iter().flat_map(move |lane| std::iter::from_fn(|| lane.pop()).take(limit))
    }

    /// How many queries were left out.
    pub fn left_out(&self) -> LeftOut {
        let [suppressed, lost] =
            [&self.suppressed, &self.lost].map(|count| count.load(Ordering::Relaxed));
        LeftOut { suppressed, lost }
    }
}

impl Exchange {
    fn new(settled: &Settled<'_>) -> Self {
        let Settled { endpoint, query, forwarded, breach, at, ending } = *settled;
        let mut own = Self {
            at,
            forwarded,
            breach,
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
            packed: Packed::new(query.name),
        };
        if let Ending::Answered(answer, message) = ending {
            own.take_answer(answer, message);
        }
        own
    }

    fn take_answer(&mut self, answer: &Answer, message: &[u8]) {
        let addresses = || answer.addresses.iter().map(|address| address.ip);
        let packed = &mut self.packed;
        let mut whole = !answer.truncated && !answer.chain_cut;
        packed.begin(1);
        for address in addresses() {
            if let IpAddr::V4(address) = address {
                whole &= packed.add(1, &address.octets());
            }
        }
        packed.begin(2);
        for address in addresses() {
            if let IpAddr::V6(address) = address {
                whole &= packed.add(2, &address.octets());
            }
        }
        packed.begin(3);
        for alias in answer.cnames(message) {
            whole &= packed.add(3, alias.as_ref().as_wire());
        }
        self.ttl = answer.addresses.iter().map(|address| address.ttl).min().unwrap_or(0);
        self.cut = !whole;
    }

    /// Who spoke with whom.
    pub fn conversation(&self) -> Conversation {
        Conversation {
            endpoint: self.endpoint,
            client: self.client.ip(),
            protocol: self.transport.protocol(),
            server: self.server,
        }
    }

    /// The name that was asked for.
    pub fn name(&self) -> Name {
        let name = NameRef::from_wire(self.packed.part(0));
        name.expect("a name's own bytes were put there").to_name()
    }

    /// The addresses in the answer, those of IPv4 first.
    pub fn addresses(&self) -> Box<[IpAddr]> {
        let (v4, _) = self.packed.part(1).as_chunks::<4>();
        let (v6, _) = self.packed.part(2).as_chunks::<16>();
        v4.iter().map(|own| IpAddr::from(*own)).chain(v6.iter().map(|own| (*own).into())).collect()
    }

    /// The aliases in the answer.
    pub fn aliases(&self) -> Box<[Name]> {
        let mut rest = self.packed.part(3);
        let names = std::iter::from_fn(|| {
            let (name, tail) = rest.split_at(end_of_name(rest));
            rest = tail;
            NameRef::from_wire(name).ok().map(NameRef::to_name)
        });
        names.collect()
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

impl Packed {
    fn new(name: NameRef<'_>) -> Self {
        let mut own = Self { bytes: [0; ROOM], ends: [0; 4] };
        own.add(0, name.as_wire());
        own
    }

    /// The part begins where the one before it ends.
    fn begin(&mut self, part: usize) {
        self.ends[part] = self.ends[part - 1];
    }

    /// Adds all of this to the part that was begun last, or nothing if there is no room for it.
    fn add(&mut self, part: usize, more: &[u8]) -> bool {
        let start = usize::from(self.ends[part]);
        let Some(place) = self.bytes.get_mut(start..start + more.len()) else { return false };
        place.copy_from_slice(more);
        self.ends[part] += more.len() as u16;
        true
    }

    fn part(&self, part: usize) -> &[u8] {
        let start = part.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.bytes.get(start.into()..self.ends[part].into()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dnsproxy::Query;

    use super::*;

    fn exchanges() -> Exchanges {
        Exchanges::new(1, Budget::per_second(1_000_000), Arc::default())
    }

    fn settle(exchanges: &Exchanges, name: &str, ending: Ending<'_>) {
        let name: Name = name.parse().unwrap();
        let query = Query {
            client: "10.0.0.1:40000".parse().unwrap(),
            server: "10.96.0.10:53".parse().unwrap(),
            transport: Transport::Udp,
            name: name.as_ref(),
            qtype: 1,
        };
        let (forwarded, at) = (Some(Moment::from_secs(99)), Moment::from_secs(100));
        let (endpoint, breach) = (Some(EndpointId(3)), None);
        exchanges.note(&Settled { endpoint, query, forwarded, breach, at, ending });
    }

    /// An answer to `a.` with an alias `b.` and so many addresses of each family.
    fn answer(addresses: u8) -> Vec<u8> {
        let mut message = b"\0\x01\x81\x80\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01".to_vec();
        message[7] = 1 + 2 * addresses;
        message.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x03\x01b\0");
        for address in 0..addresses {
            message.extend(b"\x01b\0\0\x1c\0\x01\0\0\0\x1e\0\x10");
            message.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, address]);
            message.extend(b"\x01b\0\0\x01\0\x01\0\0\0\x1e\0\x04");
            message.extend([192, 0, 2, address]);
        }
        message
    }

    fn noted(name: &str, addresses: u8) -> Exchange {
        let exchanges = exchanges();
        let mut message = answer(addresses);
        let mut read = Answer::default();
        read.read(&mut message, 60).unwrap();
        settle(&exchanges, name, Ending::Answered(&read, &message));
        exchanges.take(9).next().unwrap()
    }

    fn texts<T: ToString>(all: &[T]) -> Vec<String> {
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_answer_is_kept_with_its_names_and_addresses() {
        let own = noted("a", 2);
        assert_eq!(own.name().to_string(), "a.");
        assert_eq!(own.outcome, Outcome::Answered(0));
        let addresses = ["192.0.2.0", "192.0.2.1", "2001:db8::", "2001:db8::1"];
        assert_eq!(texts(&own.addresses()), addresses);
        assert_eq!((own.ttl, own.cut), (30, false));
        assert_eq!(texts(&own.aliases()), ["b."]);
    }

    #[test]
    fn of_a_long_answer_the_beginning_is_kept_and_it_says_so() {
        let own = noted("a", 40);
        assert!(own.addresses().len() > 40 && own.cut, "{}", own.addresses().len());
        let long = "abcdefg.".repeat(31);
        let own = noted(&long, 5);
        assert_eq!(own.name().to_string(), long);
        assert_eq!((own.addresses().len(), own.cut), (8, true));
        assert_eq!(texts(&own.aliases()), ["b."]);
    }

    #[test]
    fn a_query_without_an_answer_has_a_name_and_nothing_else() {
        let exchanges = exchanges();
        let long = "abcdefg.".repeat(31);
        settle(&exchanges, &long, Ending::Refused);
        let own = exchanges.take(9).next().unwrap();
        assert_eq!(own.name().to_string(), long);
        assert!(own.addresses().is_empty() && own.aliases().is_empty());
    }

    #[test]
    fn what_finds_its_queue_full_is_counted() {
        let exchanges = exchanges();
        for _ in 0..LANE + 5 {
            settle(&exchanges, "a", Ending::Failed(DnsFailure::Timeout));
        }
        assert_eq!(exchanges.left_out().lost, 5);
        assert_eq!(exchanges.take(100).count(), 100);
        assert_eq!(exchanges.take(LANE).count(), LANE - 100);
    }

    #[test]
    fn the_recorder_is_rung_for_when_a_queue_is_half_full() {
        let (exchanges, soon) = (exchanges(), Duration::from_millis(1));
        for _ in 0..HALF - 1 {
            settle(&exchanges, "a", Ending::Refused);
        }
        assert_eq!(exchanges.bell.wait(soon, soon), Call::None);
        settle(&exchanges, "a", Ending::Refused);
        assert_eq!(exchanges.bell.wait(soon, soon), Call::Now);
    }

    #[test]
    fn what_is_over_the_endpoints_budget_is_counted_and_not_copied() {
        let exchanges = Exchanges::new(1, Budget::per_second(1), Arc::default());
        for _ in 0..5 {
            settle(&exchanges, "a", Ending::Refused);
        }
        assert_eq!(exchanges.take(9).count(), 2);
        assert_eq!(exchanges.left_out().suppressed, 3);
    }
}
