//! Headers as the model reads them: from the bytes of a frame, front to back.

use std::net::IpAddr;

use model::DropReason;

use super::FlowKey;

/// What a frame carries.
pub enum Frame {
    /// An IP packet.
    Ip(Header, Part),
    /// ARP.
    Arp,
    /// Anything else.
    Other,
}

/// Which part of its datagram a packet is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Part {
    /// In units of 8 bytes.
    pub offset: u16,
    /// Whether more follows.
    pub more: bool,
    /// The datagram's number, in the byte order of the machine: only equality counts.
    pub identification: u32,
}

/// Of a packet, what decides.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub hop_limit: u8,
    /// Whether there were extension headers.
    pub extended: bool,
    /// Where in the frame the transport header begins and the packet ends.
    pub transport: usize,
    pub end: usize,
    pub source_port: u16,
    pub destination_port: u16,
    pub icmp_type: u8,
    pub icmp_code: u8,
    pub identifier: u16,
    pub opens: bool,
    pub fin: bool,
    pub reset: bool,
}

impl Header {
    pub fn is_icmp(&self) -> bool {
        self.protocol == if self.source.is_ipv4() { 1 } else { 58 }
    }

    pub fn is_connected(&self) -> bool {
        matches!(self.protocol, 6 | 132)
    }

    fn is_icmp_of(&self, v4: &[u8], v6: &[u8]) -> bool {
        let kinds = if self.source.is_ipv4() { v4 } else { v6 };
        self.is_icmp() && kinds.contains(&self.icmp_type)
    }

    pub fn is_tracked(&self) -> bool {
        !self.is_icmp() || self.is_icmp_of(&[0, 8], &[128, 129])
    }

    pub fn is_error(&self) -> bool {
        self.is_icmp_of(&[3, 11, 12], &[1, 2, 3, 4])
    }

    pub fn is_router_message(&self) -> bool {
        self.is_icmp_of(&[], &[134, 137])
    }

    fn is_neighbour(&self) -> bool {
        self.is_icmp_of(&[], &[133, 135, 136])
    }

    fn is_group(&self) -> bool {
        self.is_icmp_of(&[], &[131, 132, 143])
    }

    /// Whether it is of a kind that only links need.
    pub fn is_control(&self) -> bool {
        self.is_error() || self.is_router_message() || self.is_neighbour() || self.is_group()
    }

    /// Neighbour discovery that stays on the link. The namespace forwards nothing, so any unicast
    /// address but a solicited router's does.
    pub fn is_neighbourly(&self) -> bool {
        let IpAddr::V6(to) = self.destination else { return false };
        let form = self.hop_limit == 255 && self.icmp_code == 0 && !self.extended;
        let narrow = to.octets()[1] & 0x0f <= 2;
        let place = match (to.is_multicast(), to.is_unicast_link_local()) {
            (true, _) => narrow,
            (false, true) => true,
            (false, false) => self.icmp_type != 133,
        };
        self.is_neighbour() && form && place
    }

    pub fn is_report(&self, part: Part) -> bool {
        let IpAddr::V6(to) = self.destination else { return false };
        self.is_group() && self.hop_limit == 1 && to.is_multicast() && !part.more
    }

    /// The flow, with the endpoint's own end first.
    pub fn flow(&self, sent: bool) -> FlowKey {
        let (mut own, mut other) = (self.source_port, self.destination_port);
        if self.is_icmp() {
            (own, other) = (self.identifier, 0);
        } else if !sent {
            (own, other) = (other, own);
        }
        let (local, remote) =
            if sent { (self.source, self.destination) } else { (self.destination, self.source) };
        (local, own, remote, other, self.protocol)
    }
}

/// Why a frame's packet cannot be read, and its source where that much was read.
type Unreadable = (DropReason, Option<IpAddr>);

const MALFORMED: Unreadable = (DropReason::Malformed, None);

/// Reads a frame up to its IP header and the extension headers behind it.
pub fn read_frame(frame: &[u8]) -> Result<Frame, Unreadable> {
    let mut at = 12;
    let mut ethertype = word(frame, at).ok_or(MALFORMED)?;
    for _ in 0..2 {
        if ethertype == 0x8100 || ethertype == 0x88a8 {
            at += 4;
            ethertype = word(frame, at).ok_or(MALFORMED)?;
        }
    }
    match ethertype {
        0x0806 => Ok(Frame::Arp),
        0x0800 => read_ipv4(frame, at + 2),
        0x86dd => read_ipv6(frame, at + 2),
        _ => Ok(Frame::Other),
    }
}

fn read_ipv4(frame: &[u8], at: usize) -> Result<Frame, Unreadable> {
    let ip: &[u8; 20] = frame.get(at..).and_then(<[u8]>::first_chunk).ok_or(MALFORMED)?;
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let words = usize::from(ip[0] & 0x0f);
    if ip[0] >> 4 != 4 || words < 5 || total < 20 || total > frame.len() - at {
        return Err(MALFORMED);
    }
    let source = IpAddr::from(<[u8; 4]>::try_from(&ip[12..16]).unwrap());
    let destination = IpAddr::from(<[u8; 4]>::try_from(&ip[16..20]).unwrap());
    if words > 5 {
        return Err((DropReason::UnsupportedHeader, Some(source)));
    }
    let fragment = u16::from_be_bytes([ip[6], ip[7]]);
    let part = Part {
        offset: fragment & 0x1fff,
        more: fragment & 0x2000 != 0,
        identification: u32::from(u16::from_be_bytes([ip[4], ip[5]])),
    };
    let header = header(source, destination, ip[9], ip[8], at + 20, at + total);
    Ok(Frame::Ip(header, part))
}

fn read_ipv6(frame: &[u8], at: usize) -> Result<Frame, Unreadable> {
    let ip: &[u8; 40] = frame.get(at..).and_then(<[u8]>::first_chunk).ok_or(MALFORMED)?;
    let payload = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
    if ip[0] >> 4 != 6 || payload > frame.len() - at - 40 {
        return Err(MALFORMED);
    }
    let ends = [8, 24].map(|from| <[u8; 16]>::try_from(&ip[from..from + 16]).unwrap());
    let [source, destination] = ends.map(std::net::Ipv6Addr::from);
    if source.to_ipv4_mapped().is_some() || destination.to_ipv4_mapped().is_some() {
        return Err(MALFORMED);
    }
    let (source, destination) = (IpAddr::V6(source), IpAddr::V6(destination));
    let mut header = header(source, destination, ip[6], ip[7], at + 40, at + 40 + payload);
    let part = skip_extensions(frame, &mut header).map_err(|reason| (reason, Some(source)))?;
    Ok(Frame::Ip(header, part))
}

/// Steps over up to six extension headers.
fn skip_extensions(frame: &[u8], header: &mut Header) -> Result<Part, DropReason> {
    let mut part = Part::default();
    for count in 0..=6 {
        match header.protocol {
            _ if part.offset > 0 => return Ok(part),
            0 if count > 0 => return Err(DropReason::UnsupportedHeader),
            43 | 51 | 135 | 139 | 140 | 253 | 254 => return Err(DropReason::UnsupportedHeader),
            0 | 44 | 60 => {}
            _ => return Ok(part),
        }
        let start = header.transport;
        let extension: &[u8; 8] = frame
            .get(start..header.end)
            .and_then(<[u8]>::first_chunk)
            .ok_or(DropReason::Malformed)?;
        let fragment = header.protocol == 44;
        header.transport += if fragment { 8 } else { (usize::from(extension[1]) + 1) * 8 };
        header.extended = true;
        if header.transport > header.end {
            return Err(DropReason::Malformed);
        }
        if fragment {
            if part.more || part.offset > 0 {
                return Err(DropReason::Malformed);
            }
            let bits = u16::from_be_bytes([extension[2], extension[3]]);
            let number = u32::from_be_bytes(*extension.last_chunk().unwrap());
            part = Part { offset: bits >> 3, more: bits & 1 != 0, identification: number };
        }
        header.protocol = extension[0];
    }
    Err(DropReason::UnsupportedHeader)
}

fn header(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    hop_limit: u8,
    transport: usize,
    end: usize,
) -> Header {
    Header {
        source,
        destination,
        protocol,
        hop_limit,
        extended: false,
        transport,
        end,
        source_port: 0,
        destination_port: 0,
        icmp_type: 0,
        icmp_code: 0,
        identifier: 0,
        opens: false,
        fin: false,
        reset: false,
    }
}

/// Reads the transport header.
pub fn read_transport(frame: &[u8], header: &mut Header, part: Part) -> Result<(), DropReason> {
    let bytes = &frame[header.transport..header.end];
    let least = match header.protocol {
        _ if header.is_icmp() => 8,
        6 => 20,
        17 => 8,
        132 => 16,
        _ => return Ok(()),
    };
    if bytes.len() < least {
        return Err(DropReason::Malformed);
    }
    let field = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    if header.is_icmp() {
        (header.icmp_type, header.icmp_code, header.identifier) = (bytes[0], bytes[1], field(4));
        header.opens = header.icmp_type == if header.source.is_ipv4() { 8 } else { 128 };
        return Ok(());
    }
    (header.source_port, header.destination_port) = (field(0), field(2));
    match header.protocol {
        6 => {
            let (length, flags) = (usize::from(bytes[12] >> 4) * 4, bytes[13]);
            if length < 20 || length > bytes.len() {
                return Err(DropReason::Malformed);
            }
            (header.fin, header.reset) = (flags & 1 != 0, flags & 4 != 0);
            header.opens = flags & 0x16 == 0x02;
        }
        17 => {
            let length = usize::from(field(4));
            if length < 8 || (length > bytes.len() && !part.more) {
                return Err(DropReason::Malformed);
            }
        }
        _ => header.opens = bytes[12] == 1,
    }
    Ok(())
}

/// The flow whose packet an ICMP error quotes: one that came from where the error goes.
pub fn quoted_flow(frame: &[u8], header: &Header) -> Option<FlowKey> {
    let quote = frame.get(header.transport + 8..)?;
    let (remote, local, protocol, length) = match header.source {
        IpAddr::V4(_) => {
            let ip: &[u8; 20] = quote.first_chunk()?;
            let later = u16::from_be_bytes([ip[6], ip[7]]) & 0x1fff != 0;
            if ip[0] >> 4 != 4 || ip[0] & 0x0f < 5 || later {
                return None;
            }
            let from = IpAddr::from(<[u8; 4]>::try_from(&ip[12..16]).ok()?);
            let to = IpAddr::from(<[u8; 4]>::try_from(&ip[16..20]).ok()?);
            (from, to, ip[9], usize::from(ip[0] & 0x0f) * 4)
        }
        IpAddr::V6(_) => {
            let ip: &[u8; 40] = quote.first_chunk()?;
            if ip[0] >> 4 != 6 {
                return None;
            }
            let from = IpAddr::from(<[u8; 16]>::try_from(&ip[8..24]).ok()?);
            let to = IpAddr::from(<[u8; 16]>::try_from(&ip[24..40]).ok()?);
            (from, to, ip[6], 40)
        }
    };
    let start = header.transport + 8 + length;
    let transport: &[u8; 8] = frame.get(start..header.end)?.first_chunk()?;
    let field = |at: usize| u16::from_be_bytes([transport[at], transport[at + 1]]);
    let (remote_port, local_port) = match protocol {
        own if own == if remote.is_ipv4() { 1 } else { 58 } => (0, field(4)),
        6 | 17 | 132 => (field(0), field(2)),
        _ => (0, 0),
    };
    (remote == header.destination).then_some((local, local_port, remote, remote_port, protocol))
}

fn word(frame: &[u8], at: usize) -> Option<u16> {
    frame.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}
