//! The shared nouns as the maps hold them, and back.
//!
//! Every conversion back checks: what no version of this program writes is an error, not a guess.

use std::net::{IpAddr, Ipv6Addr};

use bpf_abi as abi;
use model::{
    Digest, DropReason, EndpointEntry, EndpointId, Enforcement, Frontend, Identity, Interface,
    LeaseEntry, Moment, Name, NameNumber, NameRef, NumberKind, PortPrefix, Prefix, Protocol, Row,
    Ruling, TableId, Verdict,
};

use crate::error::Fault;

/// An address in 16 bytes, IPv4 in its mapped form.
pub fn address(address: IpAddr) -> abi::Address {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address of 16 bytes.
pub fn to_address(bytes: abi::Address) -> IpAddr {
    Ipv6Addr::from(bytes).to_canonical()
}

/// A prefix's address and length among 128 bits. A mapped prefix in IPv6's own notation is refused:
/// it would give IPv4 packets a meaning that no one would look for there.
pub fn prefix(prefix: Prefix) -> Result<(abi::Address, u32), Fault> {
    let length = u32::from(prefix.length());
    match prefix.address() {
        IpAddr::V4(v4) => Ok((v4.to_ipv6_mapped().octets(), abi::V4_BITS + length)),
        IpAddr::V6(v6) if length >= abi::V4_BITS && v6.to_ipv4_mapped().is_some() => {
            Err(Fault::Mapped(prefix))
        }
        IpAddr::V6(v6) => Ok((v6.octets(), length)),
    }
}

/// The prefix of an address and length among 128 bits.
pub fn to_prefix(bytes: abi::Address, bits: u32) -> Option<Prefix> {
    let v6 = Ipv6Addr::from(bytes);
    match v6.to_ipv4_mapped() {
        Some(v4) if bits >= abi::V4_BITS => {
            Prefix::new(v4.into(), u8::try_from(bits - abi::V4_BITS).ok()?)
        }
        _ => Prefix::new(v6.into(), u8::try_from(bits).ok()?),
    }
}

/// The key of a source prefix.
pub fn source_key(endpoint: EndpointId, source: Prefix) -> Result<abi::EndpointAddress, Fault> {
    let (address, bits) = prefix(source)?;
    Ok(abi::EndpointAddress { bits: 32 + bits, endpoint: endpoint.0, address })
}

/// The source prefix of a key.
pub fn to_source(key: &abi::EndpointAddress) -> Option<(EndpointId, Prefix)> {
    Some((EndpointId(key.endpoint), to_prefix(key.address, key.bits.checked_sub(32)?)?))
}

/// The key of a prefix.
pub fn prefix_key(of: Prefix) -> Result<abi::AddressPrefix, Fault> {
    let (address, bits) = prefix(of)?;
    Ok(abi::AddressPrefix { bits, address })
}

/// The key of a lease.
pub fn lease_key(endpoint: EndpointId, of: IpAddr) -> abi::EndpointAddress {
    abi::EndpointAddress { bits: 32 + 128, endpoint: endpoint.0, address: address(of) }
}

/// A lease.
pub fn lease(entry: &LeaseEntry) -> abi::Lease {
    abi::Lease {
        expires_ns: entry.expires.as_nanos(),
        sets: entry.sets.map(|set| set.map_or(0, |identity| identity.0)),
        name: entry.name.0,
        pad: 0,
    }
}

/// The lease of a value.
pub fn to_lease(lease: &abi::Lease) -> LeaseEntry {
    LeaseEntry {
        sets: lease.sets.map(|set| (set != 0).then_some(Identity(set))),
        name: NameNumber(lease.name),
        expires: Moment::from_nanos(lease.expires_ns),
    }
}

/// The key of a shared address.
pub fn shared_key(endpoint: EndpointId, of: IpAddr, name: NameNumber) -> abi::Shared {
    abi::Shared { endpoint: endpoint.0, name: name.0, address: address(of) }
}

/// The key of a frontend.
pub fn frontend_key(frontend: &Frontend) -> abi::Frontend {
    abi::Frontend {
        address: address(frontend.address),
        port_be: frontend.port.to_be(),
        protocol: frontend.protocol.0,
        pad: 0,
    }
}

/// The frontend of a key.
pub fn to_frontend(key: &abi::Frontend) -> Frontend {
    Frontend {
        address: to_address(key.address),
        protocol: Protocol(key.protocol),
        port: u16::from_be(key.port_be),
    }
}

/// The key of a row.
pub fn row_key(row: &Row) -> abi::Row {
    let (bits, protocol, port) = match row.ports {
        PortPrefix::Any => (64, 0, 0),
        PortPrefix::Protocol(protocol) => (72, protocol.0, 0),
        PortPrefix::Ports { protocol, port, bits } => (80 + u32::from(bits), protocol.0, port),
    };
    abi::Row {
        bits,
        table: row.table.0,
        identity: row.identity.0,
        protocol,
        pad: 0,
        port_be: port.to_be(),
    }
}

/// The row of a key.
pub fn to_row(key: &abi::Row) -> Option<Row> {
    let protocol = Protocol(key.protocol);
    let ports = match key.bits {
        64 => PortPrefix::Any,
        72 => PortPrefix::Protocol(protocol),
        bits @ 81..=96 => {
            let bits = u8::try_from(bits - 80).ok()?;
            PortPrefix::Ports { protocol, port: u16::from_be(key.port_be), bits }
        }
        _ => return None,
    };
    Some(Row { table: TableId(key.table), identity: Identity(key.identity), ports })
}

/// The verdict of a flow.
pub fn to_verdict(number: u32) -> Option<Verdict> {
    Verdict::from_number(u8::try_from(number).ok()?)
}

/// The ruling of a row's value.
pub fn to_ruling(number: u32) -> Option<Ruling> {
    Ruling::from_number(number)
}

/// An endpoint.
pub fn endpoint(interface: Interface, entry: &EndpointEntry, slot: u32) -> abi::Endpoint {
    let enforcement = match entry.enforcement {
        Enforcement::Open => abi::ENFORCEMENT_OPEN,
        Enforcement::Table(table) => table.0,
        Enforcement::Closed(reason) => abi::ENFORCEMENT_CLOSED | reason as u32,
    };
    abi::Endpoint {
        enforcement,
        generation: entry.generation,
        endpoint: entry.endpoint.0,
        bridge: entry.bridge.map_or(0, |bridge| bridge.0),
        interface: interface.0,
        slot,
    }
}

/// The endpoint of a value.
pub fn to_endpoint(value: &abi::Endpoint) -> Option<EndpointEntry> {
    let enforcement = match value.enforcement {
        abi::ENFORCEMENT_NONE => return None,
        abi::ENFORCEMENT_OPEN => Enforcement::Open,
        closed @ abi::ENFORCEMENT_CLOSED.. => {
            Enforcement::Closed(DropReason::from_number((closed & 0xff) as u8)?)
        }
        table if table < abi::ENFORCEMENT_OPEN => Enforcement::Table(TableId(table)),
        _ => return None,
    };
    Some(EndpointEntry {
        endpoint: EndpointId(value.endpoint),
        enforcement,
        generation: value.generation,
        bridge: (value.bridge != 0).then_some(Interface(value.bridge)),
    })
}

/// A name.
pub fn name(of: NameRef<'_>) -> abi::Name {
    let wire = of.as_wire();
    let mut value = abi::Name { length: wire.len() as u8, ..abi::Name::default() };
    value.wire[..wire.len()].copy_from_slice(wire);
    value
}

/// The name of a value.
pub fn to_name(value: &abi::Name) -> Option<Name> {
    let wire = value.wire.get(..usize::from(value.length))?;
    NameRef::from_wire(wire).ok().map(NameRef::to_name)
}

/// The key of a name.
pub fn name_key(endpoint: EndpointId, number: NameNumber) -> abi::Pair {
    abi::Pair { first: endpoint.0, second: number.0 }
}

/// The key of a number's meaning.
pub fn number_key(kind: NumberKind, number: u32) -> abi::Pair {
    abi::Pair { first: kind as u32, second: number }
}

/// A number's meaning.
pub fn digest(bytes: &Digest) -> abi::Digest {
    abi::Digest { bytes: *bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn prefixes_of_both_families_come_back_as_they_were() {
        for text in ["0.0.0.0/0", "10.1.0.0/16", "192.0.2.1/32", "::/0", "2001:db8::/33", "::/96"] {
            let (bytes, bits) = prefix(parsed(text)).unwrap();
            assert_eq!(to_prefix(bytes, bits), Some(parsed(text)), "{text}");
        }
    }

    #[test]
    fn ipv4_in_ipv6_notation_is_refused() {
        for text in ["::ffff:10.0.0.0/104", "::ffff:0.0.0.0/96", "::ffff:10.0.0.1/128"] {
            assert!(matches!(prefix(parsed(text)), Err(Fault::Mapped(_))), "{text}");
        }
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let ports = [
            PortPrefix::Any,
            PortPrefix::Protocol(Protocol::ICMP),
            PortPrefix::port(Protocol::TCP, 443),
            PortPrefix::Ports { protocol: Protocol::UDP, port: 0x8000, bits: 1 },
        ];
        for ports in ports {
            let row = Row { table: TableId(7), identity: Identity::WORLD, ports };
            assert_eq!(to_row(&row_key(&row)), Some(row));
        }
    }

    #[test]
    fn every_way_of_enforcing_comes_back_as_it_was() {
        let ways = [
            Enforcement::Open,
            Enforcement::Table(TableId(0xffff_fdff)),
            Enforcement::Closed(DropReason::EndpointConflict),
        ];
        for enforcement in ways {
            let entry = EndpointEntry {
                endpoint: EndpointId(9),
                enforcement,
                generation: 3,
                bridge: Some(Interface(4)),
            };
            assert_eq!(to_endpoint(&endpoint(Interface(5), &entry, 6)), Some(entry));
        }
    }

    #[test]
    fn what_was_never_written_is_not_guessed_at() {
        assert_eq!(to_row(&abi::Row { bits: 73, ..abi::Row::default() }), None);
        assert_eq!((to_ruling(0), to_ruling(6)), (None, None));
        assert_eq!(to_name(&abi::Name { length: 3, ..abi::Name::default() }), None);
        for enforcement in [0, 0xffff_fe01, 0xffff_ffff] {
            let odd = abi::Endpoint { enforcement, ..abi::Endpoint::default() };
            assert_eq!(to_endpoint(&odd), None, "{enforcement:#x}");
        }
    }
}
