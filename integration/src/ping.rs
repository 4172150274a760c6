//! Echo requests, as ping sends them.

use std::{
    io::{self, ErrorKind},
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    namespace::{Namespace, NamespaceError},
    packet::Packet,
    probe::Reach,
};

/// What tells our answers from those to others on the same machine.
const IDENTIFIER: u16 = 0xf9d4;
const LARGEST: usize = 2_048;
/// How long an answer may take, which the other side's kernel gives.
const ANSWER: Duration = Duration::from_millis(900);

impl Reach {
    /// Sends one echo request from inside `namespace`.
    pub fn ping(namespace: &Namespace, to: IpAddr) -> Result<Reach, NamespaceError> {
        namespace.run(|| Reach::of(ping(to)))
    }
}

fn ping(to: IpAddr) -> io::Result<()> {
    let (domain, protocol) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.connect(&SocketAddr::new(to, 0).into())?;
    // For IPv6 the system writes the checksum again, with the addresses that it chooses.
    socket.send(&Packet::echo_request(to, to, IDENTIFIER).payload)?;
    let start = Instant::now();
    let mut buffer = [MaybeUninit::uninit(); LARGEST];
    loop {
        let left = ANSWER.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut buffer)?;
        // SAFETY: the system has written the first `length` octets.
        let seen: Vec<u8> =
            buffer[..length].iter().map(|octet| unsafe { octet.assume_init() }).collect();
        if is_answer(to, &seen) {
            return Ok(());
        }
    }
}

/// Whether this is an echo reply to us; with IPv4 its header comes first.
fn is_answer(from: IpAddr, seen: &[u8]) -> bool {
    let (start, kind) = match from {
        IpAddr::V4(_) => (usize::from(seen.first().unwrap_or(&0) & 0x0f) * 4, 0),
        IpAddr::V6(_) => (0, 129),
    };
    let Some(message) = seen.get(start..) else { return false };
    message.first() == Some(&kind) && message.get(4..6) == Some(&IDENTIFIER.to_be_bytes())
}
