//! The ring of drop events.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use aya::maps::{Map, MapData, RingBuf};
use bpf_abi as abi;
use model::{
    DropEvent, DropReason, DroppedPacket, EndpointId, Identity, Interface, Moment, Protocol,
};

use crate::{Datapath, Error, codec};

/// Reads drop events. Its descriptor becomes readable when there are some. Two rings at once would
/// take events from each other.
pub struct EventRing {
    ring: RingBuf<MapData>,
}

impl Datapath {
    /// Opens the ring of drop events.
    pub fn events(&self) -> Result<EventRing, Error> {
        let data = MapData::from_pin(self.directory.join("events"))?;
        Ok(EventRing { ring: RingBuf::try_from(Map::RingBuf(data))? })
    }
}

impl EventRing {
    /// The next event, if there is one.
    #[expect(clippy::should_implement_trait, reason = "none now does not mean none for ever")]
    pub fn next(&mut self) -> Option<DropEvent> {
        loop {
            let item = self.ring.next()?;
            // A record that is none of ours carries nothing to tell; the counters stay exact.
            if let Some(event) = decode(&item) {
                return Some(event);
            }
        }
    }
}

impl AsFd for EventRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl AsRawFd for EventRing {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

/// Reads a record of the layout [`abi::Event`].
fn decode(record: &[u8]) -> Option<DropEvent> {
    let fields = Fields(record.get(..size_of::<abi::Event>())?);
    let socket = |address, port| {
        SocketAddr::new(
            codec::to_address(fields.array(address)),
            u16::from_be_bytes(fields.array(port)),
        )
    };
    let (endpoint, identity) = (fields.word(8), fields.word(20));
    let packet = (fields.0[62] != 0).then(|| DroppedPacket {
        source: socket(24, 56),
        destination: socket(40, 58),
        protocol: Protocol(fields.0[60]),
        identity: (identity != 0).then_some(Identity(identity)),
    });
    Some(DropEvent {
        at: Moment::from_nanos(u64::from_ne_bytes(fields.array(0))),
        endpoint: (endpoint != 0).then_some(EndpointId(endpoint)),
        interface: Interface(fields.word(12)),
        reason: DropReason::from_number(fields.0[61])?,
        length: fields.word(16),
        packet,
    })
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

    fn word(self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.array(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_whole_record_and_no_part_of_one() {
        let mut record = [0u8; 72];
        record[..8].copy_from_slice(&7u64.to_ne_bytes());
        record[8..12].copy_from_slice(&3u32.to_ne_bytes());
        record[12..16].copy_from_slice(&5u32.to_ne_bytes());
        record[16..20].copy_from_slice(&60u32.to_ne_bytes());
        record[24..40].copy_from_slice(&codec::address("10.0.0.1".parse().unwrap()));
        record[40..56].copy_from_slice(&codec::address("192.0.2.1".parse().unwrap()));
        record[56..60].copy_from_slice(&[0x12, 0x34, 1, 187]);
        (record[60], record[61], record[62]) = (6, 1, 1);
        let packet = DroppedPacket {
            source: "10.0.0.1:4660".parse().unwrap(),
            destination: "192.0.2.1:443".parse().unwrap(),
            protocol: Protocol::TCP,
            identity: None,
        };
        let event = DropEvent {
            at: Moment::from_nanos(7),
            endpoint: Some(EndpointId(3)),
            interface: Interface(5),
            reason: DropReason::PolicyDenied,
            length: 60,
            packet: Some(packet),
        };
        assert_eq!(decode(&record), Some(event));
        assert_eq!(decode(&record[..71]), None);
        record[61] = 0;
        assert_eq!(decode(&record), None);
    }
}
