//! The ring of packet events. The programs wake nobody for them: whoever reads looks in from time to
//! time.

use std::net::SocketAddr;

use aya::maps::{Map, MapData, RingBuf};
use bpf_abi as abi;
use model::{
    Direction, DropReason, EndpointId, Identity, Interface, Moment, Outcome, PacketEvent,
    PacketHeaders, Protocol, TableId, TransportHeader,
};

use crate::{Datapath, Error, codec};

/// Reads packet events. Two rings at once would take events from each other.
pub struct EventRing {
    ring: RingBuf<MapData>,
}

impl Datapath {
    /// Opens the ring of packet events.
    pub fn events(&self) -> Result<EventRing, Error> {
        let descriptor = self.maps.descriptor("events").try_clone_to_owned();
        let failed = |source| Error::Map { map: "events", action: "open", source };
        let data = MapData::from_fd(descriptor.map_err(failed)?)?;
        Ok(EventRing { ring: RingBuf::try_from(Map::RingBuf(data))? })
    }
}

impl EventRing {
    /// The next event, if there is one.
    #[expect(clippy::should_implement_trait, reason = "none now does not mean none for ever")]
    pub fn next(&mut self) -> Option<PacketEvent> {
        loop {
            let item = self.ring.next()?;
            // A record that is none of ours carries nothing to tell; the counters stay exact.
            if let Some(event) = decode(&item) {
                return Some(event);
            }
        }
    }
}

/// Reads a record of the layout [`abi::Event`]; none if no program of ours writes such a one.
fn decode(record: &[u8]) -> Option<PacketEvent> {
    if record.len() != size_of::<abi::Event>() {
        return None;
    }
    let fields = Fields(record);
    let flags = fields.byte(68);
    let known = abi::EVENT_PARSED | abi::EVENT_TRANSPORT | abi::EVENT_FRONTEND | abi::EVENT_AGAIN;
    if flags & !known != 0 {
        return None;
    }
    let packet = match flags & abi::EVENT_PARSED {
        0 => None,
        _ => Some(headers(fields, flags)?),
    };
    let (endpoint, table) = (fields.word(8), fields.word(24));
    Some(PacketEvent {
        at: Moment::from_nanos(u64::from_ne_bytes(fields.array(0))),
        endpoint: (endpoint != 0).then_some(EndpointId(endpoint)),
        interface: Interface(fields.word(12)),
        direction: match fields.byte(67) {
            0 => Direction::Outbound,
            1 => Direction::Inbound,
            _ => return None,
        },
        outcome: outcome(fields.byte(65), fields.byte(66))?,
        again: flags & abi::EVENT_AGAIN != 0,
        length: fields.word(16),
        table: (table != 0).then_some(TableId(table)),
        packet,
    })
}

fn outcome(outcome: u8, reason: u8) -> Option<Outcome> {
    match (outcome, reason) {
        (abi::OUTCOME_FORWARDED, 0) => Some(Outcome::Forwarded),
        (abi::OUTCOME_REDIRECTED, 0) => Some(Outcome::Redirected),
        (abi::OUTCOME_INSPECTED, 0) => Some(Outcome::Inspected),
        (abi::OUTCOME_DROPPED, reason) => DropReason::from_number(reason).map(Outcome::Dropped),
        (abi::OUTCOME_AUDITED, reason) => DropReason::from_number(reason).map(Outcome::Audited),
        _ => None,
    }
}

fn headers(fields: Fields<'_>, flags: u8) -> Option<PacketHeaders> {
    let socket = |address, port| {
        SocketAddr::new(
            codec::to_address(fields.array(address)),
            u16::from_be_bytes(fields.array(port)),
        )
    };
    let protocol = Protocol(fields.byte(64));
    let transport = match flags & abi::EVENT_TRANSPORT {
        0 => None,
        _ => Some(transport(fields, protocol)?),
    };
    let identity = fields.word(20);
    Some(PacketHeaders {
        source: socket(32, 28),
        destination: socket(48, 30),
        protocol,
        transport,
        identity: (identity != 0).then_some(Identity(identity)),
        frontend: flags & abi::EVENT_FRONTEND != 0,
    })
}

fn transport(fields: Fields<'_>, protocol: Protocol) -> Option<TransportHeader> {
    match protocol {
        Protocol::TCP => Some(TransportHeader::Tcp(fields.byte(69))),
        Protocol::ICMP | Protocol::ICMPV6 => {
            Some(TransportHeader::Icmp { kind: fields.byte(70), code: fields.byte(71) })
        }
        Protocol::UDP | Protocol::SCTP => Some(TransportHeader::Ports),
        _ => None,
    }
}

/// Fields of a record, by the offsets that [`abi::Event`] asserts.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(self, offset: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.0[offset..offset + N]);
        bytes
    }

    fn byte(self, offset: usize) -> u8 {
        self.0[offset]
    }

    fn word(self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.array(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A SYN of endpoint 3's that was let through.
    fn record() -> [u8; 72] {
        let mut record = [0u8; 72];
        record[..8].copy_from_slice(&7u64.to_ne_bytes());
        record[8..12].copy_from_slice(&3u32.to_ne_bytes());
        record[12..16].copy_from_slice(&5u32.to_ne_bytes());
        record[16..20].copy_from_slice(&60u32.to_ne_bytes());
        record[24..28].copy_from_slice(&9u32.to_ne_bytes());
        record[28..32].copy_from_slice(&[0x12, 0x34, 1, 187]);
        record[32..48].copy_from_slice(&codec::address("10.0.0.1".parse().unwrap()));
        record[48..64].copy_from_slice(&codec::address("192.0.2.1".parse().unwrap()));
        record[64..72].copy_from_slice(&[6, 1, 0, 0, 3, 2, 0, 0]);
        record
    }

    fn event() -> PacketEvent {
        PacketEvent {
            at: Moment::from_nanos(7),
            endpoint: Some(EndpointId(3)),
            interface: Interface(5),
            direction: Direction::Outbound,
            outcome: Outcome::Forwarded,
            again: false,
            length: 60,
            table: Some(TableId(9)),
            packet: Some(PacketHeaders {
                source: "10.0.0.1:4660".parse().unwrap(),
                destination: "192.0.2.1:443".parse().unwrap(),
                protocol: Protocol::TCP,
                transport: Some(TransportHeader::Tcp(2)),
                identity: None,
                frontend: false,
            }),
        }
    }

    fn with(changes: &[(usize, u8)]) -> Option<PacketEvent> {
        let mut record = record();
        changes.iter().for_each(|(at, byte)| record[*at] = *byte);
        decode(&record)
    }

    #[test]
    fn reads_a_whole_record_and_no_part_of_one() {
        assert_eq!(decode(&record()), Some(event()));
        assert_eq!(decode(&record()[..71]), None);
        assert_eq!(decode(&[&record()[..], &[0]].concat()), None);
    }

    #[test]
    fn what_became_of_a_packet_is_one_of_five() {
        let outcome = |changes: &[_]| with(changes).map(|event| event.outcome);
        let dropped = Some(Outcome::Dropped(DropReason::PolicyDenied));
        assert_eq!(outcome(&[(65, 2)]), Some(Outcome::Redirected));
        assert_eq!(outcome(&[(65, 4)]), Some(Outcome::Inspected));
        assert_eq!(outcome(&[(65, 3), (66, 1)]), dropped);
        let audited = Some(Outcome::Audited(DropReason::DenyRule));
        assert_eq!(outcome(&[(65, 5), (66, 2)]), audited);
        for (became, reason) in [(0, 0), (6, 0), (3, 0), (3, 200), (5, 0), (5, 200), (1, 1)] {
            let odd = &[(65, became), (66, reason)];
            assert_eq!(with(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn a_header_that_was_not_read_is_not_told() {
        let headers = |changes: &[_]| with(changes).and_then(|event| event.packet);
        assert_eq!(headers(&[(68, 0)]), None);
        assert_eq!(headers(&[(68, 1)]).unwrap().transport, None);
        let echo = headers(&[(64, 1), (70, 8)]).unwrap().transport;
        assert_eq!(echo, Some(TransportHeader::Icmp { kind: 8, code: 0 }));
        assert_eq!(headers(&[(64, 17)]).unwrap().transport, Some(TransportHeader::Ports));
        assert!(headers(&[(68, 7)]).unwrap().frontend);
        assert!(with(&[(68, 11)]).unwrap().again);
    }

    #[test]
    fn what_no_program_writes_is_not_guessed_at() {
        for odd in [(68, 16), (67, 2), (64, 47)] {
            assert_eq!(with(&[odd]), None, "{odd:?}");
        }
    }
}
