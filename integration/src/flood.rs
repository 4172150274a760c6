//! Floods: as much as one pod can send in a bounded number of packets, or a bounded time.
//!
//! - What leaves the pod is counted, and what its own veth lost on the way: the rest has met the
//!   node.
//! - Ports and addresses follow from a seed, so that a flood can be sent again.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use hickory_proto::op::ResponseCode;
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{dns_wire::query, lab::Pod, packet::Packet, zones::FRESH_ZONE};

const SYN: u8 = 0x02;
const RAW: i32 = 255;
const WINDOW: u32 = 128;
const PAUSE: Duration = Duration::from_millis(500);

/// What a flood is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloodKind {
    /// TCP segments that ask for a connection.
    Syn,
    /// UDP datagrams.
    Udp,
}

/// Packets from random ports to random ports, of one family.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// What is sent.
    pub kind: FloodKind,
    /// Whether by IPv6.
    pub ipv6: bool,
    /// How many packets.
    pub packets: u32,
    /// What ports and addresses follow from.
    pub seed: u64,
    /// Where to: anywhere, or to the addresses that have these first octets.
    pub within: &'static [u8],
}

/// What became of a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flooded {
    /// Packets that the pod's system took.
    pub sent: u64,
    /// Those of them that the pod's end of the veth lost before any program saw them.
    pub lost: u64,
    /// How long it took.
    pub took: Duration,
}

impl Flood {
    /// Sends it from a pod.
    pub fn send(&self, pod: &Pod) -> io::Result<Flooded> {
        let before = lost(pod)?;
        let start = Instant::now();
        let sent = pod.namespace().run(|| self.send_here(pod)).map_err(io::Error::other)??;
        let took = start.elapsed();
        Ok(Flooded { sent, lost: lost(pod)? - before, took })
    }

    fn send_here(&self, pod: &Pod) -> io::Result<u64> {
        let domain = if self.ipv6 { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(RAW)))?;
        let own = pod.addresses()[usize::from(self.ipv6)];
        let mut random = Random(self.seed);
        let mut sent = 0;
        for _ in 0..self.packets {
            let source = SocketAddr::new(own, random.port());
            let destination = SocketAddr::new(self.address(&mut random), random.port());
            let packet = match self.kind {
                FloodKind::Syn => Packet::tcp(source, destination, SYN),
                FloodKind::Udp => Packet::udp(source, destination, b"flood"),
            };
            let target = SocketAddr::new(destination.ip(), 0).into();
            match socket.send_to(&packet.octets(), &target) {
                Ok(_) => sent += 1,
                // The socket's buffer is full: the flood is as fast as it can be.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    fn address(&self, random: &mut Random) -> IpAddr {
        let mut octets: [u8; 16] = std::array::from_fn(|_| random.octet());
        // Unicast, and not the sender's own.
        octets[0] = if self.ipv6 { 0x20 | octets[0] & 0x0f } else { 11 + octets[0] % 100 };
        octets[..self.within.len()].copy_from_slice(self.within);
        match self.ipv6 {
            true => Ipv6Addr::from(octets).into(),
            false => Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into(),
        }
    }
}

/// What the pod's interface could not hand over.
fn lost(pod: &Pod) -> io::Result<u64> {
    let mut command = pod.namespace().command("ip");
    let output = command.args(["-s", "-j", "link", "show", "dev", "eth0"]).output()?;
    let links: Value = serde_json::from_slice(&output.stdout)?;
    let dropped = links[0]["stats64"]["tx"]["dropped"].as_u64();
    dropped.ok_or_else(|| io::Error::other("ip shows no statistics of eth0"))
}

/// Lookups of names that nobody has asked before, as fast as they are answered.
#[derive(Clone, Copy, Debug)]
pub struct NameFlood {
    /// The DNS server.
    pub server: IpAddr,
    /// The number of the first name.
    pub first: u32,
    /// How long.
    pub time: Duration,
}

/// What became of a flood of names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamesFlooded {
    /// Questions sent.
    pub asked: u32,
    /// Answers without an error.
    pub answered: u32,
    /// Answers with one.
    pub refused: u32,
}

impl NameFlood {
    /// Asks from a pod: up to 128 questions wait for their answers at once, and what is not
    /// answered within half a second is given up.
    pub fn send(&self, pod: &Pod) -> io::Result<NamesFlooded> {
        pod.namespace().run(|| self.send_here()).map_err(io::Error::other)?
    }

    fn send_here(&self) -> io::Result<NamesFlooded> {
        let any: IpAddr = match self.server {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((self.server, 53))?;
        socket.set_read_timeout(Some(PAUSE))?;
        let (start, mut flooded, mut waiting) = (Instant::now(), NamesFlooded::default(), 0);
        let mut buffer = [0; 4_096];
        while start.elapsed() < self.time {
            while waiting < WINDOW {
                let number = self.first.wrapping_add(flooded.asked);
                let name = format!("f{number}.{FRESH_ZONE}");
                socket.send(&query(number as u16, &name, 1, 1))?;
                flooded.asked += 1;
                waiting += 1;
            }
            match socket.recv(&mut buffer) {
                Ok(length) if length > 3 && code(buffer[3]) == ResponseCode::NoError => {
                    flooded.answered += 1;
                    waiting -= 1;
                }
                Ok(_) => {
                    flooded.refused += 1;
                    waiting -= 1;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => waiting = 0,
                Err(error) => return Err(error),
            }
        }
        Ok(flooded)
    }
}

fn code(octet: u8) -> ResponseCode {
    ResponseCode::from(0, octet & 0x0f)
}

/// Numbers that look random (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn octet(&mut self) -> u8 {
        (self.next() >> 56) as u8
    }

    /// No port that the node gives to somebody else.
    fn port(&mut self) -> u16 {
        1_024 + (self.next() >> 49) as u16
    }
}
