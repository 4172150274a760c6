//! Frames built by hand. Checksums stay zero: the programs leave them to the stacks.

use std::net::IpAddr;

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;
pub const RST: u8 = 0x04;
pub const FIN: u8 = 0x01;

/// An Ethernet frame around a payload.
pub fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The same frame with a VLAN tag.
pub fn tagged(frame: &[u8]) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    tagged.extend([0x81, 0, 0, 5]);
    tagged.extend(&frame[12..]);
    tagged
}

/// Which part of a datagram a packet carries.
#[derive(Clone, Copy, Default)]
pub struct Part {
    pub identification: u32,
    /// In bytes.
    pub offset: u16,
    pub more: bool,
}

/// A packet of either family, in a frame.
pub fn ip(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(_), IpAddr::V4(_)) => {
            let part = Part::default();
            ethernet(0x0800, &ipv4(source, destination, protocol, part, payload))
        }
        _ => ethernet(0x86dd, &ipv6(source, destination, protocol, 64, payload)),
    }
}

/// A fragment of either family, in a frame.
pub fn fragment(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    part: Part,
    payload: &[u8],
) -> Vec<u8> {
    if source.is_ipv4() {
        return ethernet(0x0800, &ipv4(source, destination, protocol, part, payload));
    }
    let mut body = vec![protocol, 0];
    body.extend((part.offset | u16::from(part.more)).to_be_bytes());
    body.extend(part.identification.to_be_bytes());
    body.extend(payload);
    ethernet(0x86dd, &ipv6(source, destination, 44, 64, &body))
}

/// An IPv4 packet.
pub fn ipv4(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    part: Part,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + payload.len() as u16).to_be_bytes());
    packet.extend((part.identification as u16).to_be_bytes());
    packet.extend(((part.offset / 8) | (u16::from(part.more) << 13)).to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(octets(source));
    packet.extend(octets(destination));
    packet.extend(payload);
    packet
}

/// An IPv6 packet.
pub fn ipv6(
    source: IpAddr,
    destination: IpAddr,
    next: u8,
    hop_limit: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, hop_limit]);
    packet.extend(octets(source));
    packet.extend(octets(destination));
    packet.extend(payload);
    packet
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// An IPv6 extension header of 8 bytes before a payload.
pub fn extension(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![next, 0, 1, 4, 0, 0, 0, 0];
    header.extend(payload);
    header
}

/// A TCP segment without data.
pub fn tcp(source: u16, destination: u16, flags: u8) -> Vec<u8> {
    let mut segment = ports(source, destination);
    segment.extend([0; 8]);
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

/// A UDP datagram.
pub fn udp(source: u16, destination: u16, data: &[u8]) -> Vec<u8> {
    let mut datagram = ports(source, destination);
    datagram.extend((8 + data.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(data);
    datagram
}

/// The start of an SCTP packet with one chunk.
pub fn sctp(source: u16, destination: u16, chunk: u8) -> Vec<u8> {
    let mut packet = ports(source, destination);
    packet.extend([0; 8]);
    packet.extend([chunk, 0, 0, 4]);
    packet
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes()].concat()
}

/// An ICMP message of either family, with what comes after its first 8 bytes.
pub fn icmp(kind: u8, identifier: u16, rest: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend([0, 1]);
    message.extend(rest);
    message
}
