//! Frames to try: most of them whole, some bent in the ways that decoders fear.

use std::net::IpAddr;

use arbitrary::{Result, Unstructured};

/// Addresses of one family.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    /// The endpoint's own.
    pub own: IpAddr,
    /// Not the endpoint's.
    pub foreign: IpAddr,
    /// Where packets go to and come from.
    pub others: [IpAddr; 7],
}

impl Cast {
    fn other(&self, input: &mut Unstructured<'_>) -> Result<IpAddr> {
        Ok(*input.choose(&self.others)?)
    }
}

const PORTS: [u16; 5] = [53, 80, 443, 8443, 40_000];
const PROTOCOLS: [u8; 10] = [6, 6, 6, 17, 17, 17, 132, 1, 58, 47];
const EXTENSIONS: [u8; 8] = [0, 60, 44, 43, 51, 135, 139, 59];

/// A frame that the endpoint sends.
pub fn sent(input: &mut Unstructured<'_>, casts: &[Cast; 2]) -> Result<Vec<u8>> {
    let cast = input.choose(casts)?;
    let source = if input.ratio(1, 16)? { cast.foreign } else { cast.own };
    let destination = cast.other(input)?;
    frame(input, source, destination)
}

/// A frame that reaches the endpoint.
pub fn received(input: &mut Unstructured<'_>, casts: &[Cast; 2]) -> Result<Vec<u8>> {
    let cast = input.choose(casts)?;
    let source = cast.other(input)?;
    let destination = if input.ratio(1, 16)? { cast.foreign } else { cast.own };
    frame(input, source, destination)
}

fn frame(input: &mut Unstructured<'_>, source: IpAddr, destination: IpAddr) -> Result<Vec<u8>> {
    let mut protocol = *input.choose(&PROTOCOLS)?;
    // ICMP of the other family now and then only.
    if !input.ratio(1, 8)? {
        protocol = match (protocol, source.is_ipv4()) {
            (1, false) => 58,
            (58, true) => 1,
            (own, _) => own,
        };
    }
    let payload = transport(input, protocol, source, destination)?;
    let packet = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let ends = [source.octets(), destination.octets()].concat();
            ipv4(input, protocol, &ends, &payload)?
        }
        (source, destination) => {
            let ends = [octets(source), octets(destination)].concat();
            ipv6(input, protocol, &ends, &payload)?
        }
    };
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for _ in 0..if input.ratio(1, 12)? { input.int_in_range(1..=3)? } else { 0 } {
        frame.extend([0x81, 0, 0, 5]);
    }
    let ethertype: u16 = match (input.ratio(1, 40)?, source.is_ipv4()) {
        (true, _) => *input.choose(&[0x0806, 0x8847, 0x86dd, 0x0800])?,
        (false, true) => 0x0800,
        (false, false) => 0x86dd,
    };
    frame.extend(ethertype.to_be_bytes());
    frame.extend(packet);
    if input.ratio(1, 12)? {
        bend(input, &mut frame)?;
    }
    Ok(frame)
}

/// Changes a byte, cuts the end, or pads.
fn bend(input: &mut Unstructured<'_>, frame: &mut Vec<u8>) -> Result<()> {
    match input.int_in_range(0..=2)? {
        0 => {
            let at = input.int_in_range(12..=frame.len() - 1)?;
            frame[at] = input.arbitrary()?;
        }
        1 => frame.truncate(input.int_in_range(14..=frame.len())?),
        _ => frame.resize(frame.len() + input.int_in_range(0..=40)?, 0),
    }
    Ok(())
}

fn ipv4(
    input: &mut Unstructured<'_>,
    protocol: u8,
    ends: &[u8],
    payload: &[u8],
) -> Result<Vec<u8>> {
    let options = if input.ratio(1, 30)? { 4 } else { 0 };
    let total = (20 + options + payload.len()) as u16;
    let (offset, more) = part(input)?;
    let mut packet = vec![0x45 + (options / 4) as u8, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, input.int_in_range(0..=2)?]);
    packet.extend((offset | if more { 0x2000 } else { 0 }).to_be_bytes());
    packet.extend([*input.choose(&[64, 255, 1])?, protocol, 0, 0]);
    packet.extend(ends);
    packet.extend(vec![1; options]);
    packet.extend(payload);
    Ok(packet)
}

/// Where in its datagram a packet lies: its offset in units of 8 bytes, and whether more follows.
fn part(input: &mut Unstructured<'_>) -> Result<(u16, bool)> {
    if !input.ratio(1, 6)? {
        return Ok((0, false));
    }
    Ok((*input.choose(&[0, 0, 1, 2, 3, 200])?, input.arbitrary()?))
}

fn ipv6(
    input: &mut Unstructured<'_>,
    protocol: u8,
    ends: &[u8],
    payload: &[u8],
) -> Result<Vec<u8>> {
    let mut body = payload.to_vec();
    let mut next = protocol;
    if input.ratio(1, 4)? {
        for _ in 0..input.int_in_range(1..=8)? {
            let kind = *input.choose(&EXTENSIONS)?;
            let mut header = vec![next, 0, 1, 4, 0, 0, 0, 0];
            if kind == 44 {
                let (offset, more) = part(input)?;
                header[2..4].copy_from_slice(&(offset << 3 | u16::from(more)).to_be_bytes());
                header[7] = input.int_in_range(0..=2)?;
            } else if input.ratio(1, 8)? {
                header[1] = 1;
                header.extend([1, 6, 0, 0, 0, 0, 0, 0]);
            }
            header.extend(body);
            (body, next) = (header, kind);
        }
    }
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((body.len() as u16).to_be_bytes());
    packet.extend([next, *input.choose(&[64, 255, 1])?]);
    packet.extend(ends);
    packet.extend(body);
    Ok(packet)
}

fn transport(
    input: &mut Unstructured<'_>,
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
) -> Result<Vec<u8>> {
    let ports = [input.choose(&PORTS)?.to_be_bytes(), input.choose(&PORTS)?.to_be_bytes()].concat();
    Ok(match protocol {
        6 => {
            let flags = *input.choose(&[0x02, 0x12, 0x10, 0x11, 0x14, 0x04, 0x06, 0x00])?;
            [&ports[..], &[0; 8], &[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]].concat()
        }
        17 => {
            let data: usize = input.int_in_range(0..=24)?;
            [&ports[..], &(8 + data as u16).to_be_bytes(), &[0, 0], &vec![7; data]].concat()
        }
        132 => [&ports[..], &[0; 8], &[*input.choose(&[1, 2, 0])?, 0, 0, 4]].concat(),
        1 | 58 => icmp(input, protocol == 58, source, destination)?,
        _ => input.bytes(4)?.to_vec(),
    })
}

fn icmp(
    input: &mut Unstructured<'_>,
    v6: bool,
    source: IpAddr,
    destination: IpAddr,
) -> Result<Vec<u8>> {
    let kinds: &[u8] = if v6 {
        &[128, 128, 129, 1, 2, 3, 4, 133, 134, 135, 136, 137, 131, 143]
    } else {
        &[8, 8, 0, 3, 11, 12, 5, 13]
    };
    let kind = *input.choose(kinds)?;
    let error = if v6 { kind < 128 } else { [3, 11, 12].contains(&kind) };
    let mut message = vec![kind, 0, 0, 0, 0, input.int_in_range(0..=1)?, 0, 1];
    if error {
        // What is quoted came the other way.
        let protocol = *input.choose(&PROTOCOLS)?;
        let quoted = transport_start(input, protocol)?;
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let ends = [destination.octets(), source.octets()].concat();
                message.extend(ipv4(input, protocol, &ends, &quoted)?);
            }
            (source, destination) => {
                let ends = [octets(destination), octets(source)].concat();
                message.extend(ipv6(input, protocol, &ends, &quoted)?);
            }
        }
    }
    Ok(message)
}

/// As much of a quoted packet as an error carries at least.
fn transport_start(input: &mut Unstructured<'_>, protocol: u8) -> Result<Vec<u8>> {
    if matches!(protocol, 1 | 58) {
        return Ok(vec![
            *input.choose(&[8, 0, 128, 129])?,
            0,
            0,
            0,
            0,
            input.int_in_range(0..=1)?,
            0,
            1,
        ]);
    }
    let ports = [input.choose(&PORTS)?.to_be_bytes(), input.choose(&PORTS)?.to_be_bytes()].concat();
    Ok([&ports[..], &[0; 4]].concat())
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
