//! Packets written octet by octet, as a pod's root could send them, and a look at what arrives.
//!
//! Packets leave by raw sockets that take the IP header as it is given: the system adds the frame
//! and nothing else. Checksums are right unless a test spoils them, so that what is not delivered
//! was dropped on purpose.

use std::{
    io::{self, ErrorKind},
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    time::{Duration, Instant},
};

use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::namespace::Namespace;

/// What raw sockets call a packet whose header is included.
const IPPROTO_RAW: i32 = 255;
const LARGEST: usize = 65_536;

/// Which part of a datagram a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What its fragments have in common.
    pub identification: u16,
    /// Where it begins, in octets: a multiple of 8.
    pub offset: u16,
    /// Whether others follow.
    pub more: bool,
}

/// An IP packet of either family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where it says it comes from.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// What follows the IP header.
    pub protocol: u8,
    /// Its hop limit.
    pub hop_limit: u8,
    /// The part of a datagram that it is, if it is a fragment.
    pub part: Option<Part>,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Packet {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP.
    pub const IPIP: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP.
    pub const IPV6: u8 = 41;
    /// The routing header of IPv6.
    pub const ROUTING: u8 = 43;
    /// GRE.
    pub const GRE: u8 = 47;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// The destination options of IPv6.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;

    /// A packet around a payload that is taken as it is.
    pub fn new(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Packet {
        let payload = payload.to_vec();
        Packet { source, destination, protocol, hop_limit: 64, part: None, payload }
    }

    /// A UDP datagram.
    pub fn udp(source: SocketAddr, destination: SocketAddr, data: &[u8]) -> Packet {
        let length = (8 + data.len()) as u16;
        let mut datagram = ports(source, destination);
        datagram.extend(length.to_be_bytes());
        datagram.extend([0, 0]);
        datagram.extend(data);
        Packet::new(source.ip(), destination.ip(), Packet::UDP, &datagram).checked(6)
    }

    /// A TCP segment without data and options, with these flags.
    pub fn tcp(source: SocketAddr, destination: SocketAddr, flags: u8) -> Packet {
        let mut segment = ports(source, destination);
        segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        Packet::new(source.ip(), destination.ip(), Packet::TCP, &segment).checked(16)
    }

    /// An echo request.
    pub fn echo_request(source: IpAddr, destination: IpAddr, identifier: u16) -> Packet {
        let (protocol, kind) =
            if source.is_ipv4() { (Packet::ICMP, 8) } else { (Packet::ICMPV6, 128) };
        Packet::icmp(source, destination, protocol, &[kind, 0, 0, 0], identifier)
    }

    /// A router advertisement for all nodes on the link.
    pub fn router_advertisement(source: Ipv6Addr) -> Packet {
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let body = [134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
        let packet = Packet::new(source.into(), all_nodes.into(), Packet::ICMPV6, &body);
        Packet { hop_limit: 255, ..packet.checked(2) }
    }

    fn icmp(from: IpAddr, to: IpAddr, protocol: u8, head: &[u8], identifier: u16) -> Packet {
        let message = [head, &identifier.to_be_bytes(), &[0, 1], b"abcdefgh"].concat();
        Packet::new(from, to, protocol, &message).checked(2)
    }

    /// The same with an extension header before what it carries.
    #[must_use]
    pub fn behind(self, header: u8, body: [u8; 6]) -> Packet {
        let payload = [&[self.protocol, 0][..], &body, &self.payload].concat();
        Packet { protocol: header, payload, ..self }
    }

    /// The same, cut into fragments that carry at most `size` octets, a multiple of 8.
    pub fn fragments(&self, identification: u16, size: u16) -> Vec<Packet> {
        let pieces = self.payload.chunks(usize::from(size));
        let last = pieces.len().saturating_sub(1);
        let part =
            |place: usize| Part { identification, offset: place as u16 * size, more: place < last };
        let fragment = |(place, piece): (usize, &[u8])| Packet {
            part: Some(part(place)),
            payload: piece.to_vec(),
            ..self.clone()
        };
        pieces.enumerate().map(fragment).collect()
    }

    /// Sends it from inside `namespace`.
    pub fn send(&self, namespace: &Namespace) -> io::Result<()> {
        namespace.run(|| self.send_here()).map_err(io::Error::other)?
    }

    fn send_here(&self) -> io::Result<()> {
        let domain = if self.source.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(IPPROTO_RAW)))?;
        socket.send_to(&self.octets(), &self.target()?).map(drop)
    }

    /// Where the system is told to send it; what is for the link alone leaves by `eth0`.
    fn target(&self) -> io::Result<SockAddr> {
        match self.destination {
            IpAddr::V4(_) => Ok(SocketAddr::new(self.destination, 0).into()),
            IpAddr::V6(v6) => {
                let link = v6.is_multicast() || v6.is_unicast_link_local();
                let scope = if link { if_nametoindex("eth0")? } else { 0 };
                Ok(SocketAddrV6::new(v6, 0, 0, scope).into())
            }
        }
    }

    /// The packet on the wire.
    pub fn octets(&self) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.octets_v4(source, destination),
            (source, destination) => self.octets_v6(mapped(source), mapped(destination)),
        }
    }

    fn octets_v4(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let part = self.part.unwrap_or(Part { identification: 0, offset: 0, more: false });
        let mut packet = vec![0x45, 0];
        packet.extend((20 + self.payload.len() as u16).to_be_bytes());
        packet.extend(part.identification.to_be_bytes());
        packet.extend(((part.offset / 8) | (u16::from(part.more) << 13)).to_be_bytes());
        packet.extend([self.hop_limit, self.protocol, 0, 0]);
        packet.extend(source.octets());
        packet.extend(destination.octets());
        let sum = checksum(&packet).to_be_bytes();
        packet[10..12].copy_from_slice(&sum);
        packet.extend(&self.payload);
        packet
    }

    fn octets_v6(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        let mut body = Vec::new();
        if let Some(part) = self.part {
            body.extend([self.protocol, 0]);
            body.extend((part.offset | u16::from(part.more)).to_be_bytes());
            body.extend(u32::from(part.identification).to_be_bytes());
        }
        body.extend(&self.payload);
        let next = if self.part.is_some() { 44 } else { self.protocol };
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend((body.len() as u16).to_be_bytes());
        packet.extend([next, self.hop_limit]);
        packet.extend(source.octets());
        packet.extend(destination.octets());
        packet.extend(body);
        packet
    }

    /// Writes the checksum of the transport at this place of the payload.
    fn checked(mut self, at: usize) -> Packet {
        let mut covered = Vec::new();
        if self.protocol != Packet::ICMP {
            covered.extend(octets(self.source));
            covered.extend(octets(self.destination));
            covered.extend((self.payload.len() as u32).to_be_bytes());
            covered.extend([0, 0, 0, self.protocol]);
        }
        covered.extend(&self.payload);
        // 0 would say that a datagram has none.
        let sum = match checksum(&covered) {
            0 => u16::MAX,
            sum => sum,
        };
        self.payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        self
    }
}

/// What arrives in a namespace, on all of its interfaces.
#[derive(Debug)]
pub struct Capture {
    socket: Socket,
}

impl Capture {
    /// Sees all IP packets in `namespace` from now on.
    pub fn start(namespace: &Namespace) -> io::Result<Capture> {
        let every = i32::from((libc::ETH_P_ALL as u16).to_be());
        let socket = namespace
            .run(|| Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(every))))
            .map_err(io::Error::other)??;
        Ok(Capture { socket })
    }

    /// The packets up to the first that ends with `marker`, which must arrive within `limit`.
    pub fn until(&self, marker: &[u8], limit: Duration) -> io::Result<Vec<Vec<u8>>> {
        let start = Instant::now();
        let mut seen = Vec::new();
        let mut buffer = vec![MaybeUninit::uninit(); LARGEST];
        loop {
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.socket.set_read_timeout(Some(left))?;
            let length = self.socket.recv(&mut buffer)?;
            // SAFETY: the system has written the first `length` octets.
            let packet: Vec<u8> =
                buffer[..length].iter().map(|octet| unsafe { octet.assume_init() }).collect();
            let marked = packet.ends_with(marker);
            seen.push(packet);
            if marked {
                return Ok(seen);
            }
        }
    }
}

fn ports(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// The Internet checksum (RFC 1071).
fn checksum(octets: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = octets.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_written_as_the_wire_has_it() {
        let packet =
            Packet::udp("10.0.0.1:5".parse().unwrap(), "10.0.0.2:7".parse().unwrap(), b"hi");
        let octets = packet.octets();
        assert_eq!(octets.len(), 30);
        assert_eq!(octets[..4], [0x45, 0, 0, 30]);
        assert_eq!(checksum(&octets[..20]), 0);
        assert_eq!(octets[20..26], [0, 5, 0, 7, 0, 10]);
    }

    #[test]
    fn fragments_cover_the_datagram() {
        let source = "[2001:db8::1]:5".parse().unwrap();
        let whole = Packet::udp(source, "[2001:db8::2]:7".parse().unwrap(), &[1; 100]);
        let fragments = whole.fragments(9, 64);
        let parts: Vec<_> = fragments.iter().filter_map(|fragment| fragment.part).collect();
        assert_eq!(
            parts,
            [
                Part { identification: 9, offset: 0, more: true },
                Part { identification: 9, offset: 64, more: false },
            ]
        );
        let joined: Vec<u8> = fragments.into_iter().flat_map(|fragment| fragment.payload).collect();
        assert_eq!(joined, whole.payload);
    }
}
