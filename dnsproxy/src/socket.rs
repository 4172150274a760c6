//! The sockets that the proxy opens, all in the network namespace of the calling thread.
//!
//! Three kinds: transparent ones that intercepted packets are given to, plain ones towards
//! upstream servers, and raw ones that answer with the address of the server that was asked. A
//! raw socket needs no address of its own, so it neither collides with a resolver on the node nor
//! steals from it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{
    Ipv4OrigDstAddr, Ipv6OrigDstAddr, RcvBufForce, RxqOvfl, SndBufForce,
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

/// What a socket may hold that is not yet read, or not yet sent.
const BUFFER: usize = 4 << 20;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 512;

/// How often a port is drawn that must be free for both families.
const PORT_DRAWS: u32 = 32;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// A pair of sockets at one port, of which the second is missing on a machine without IPv6.
pub(crate) type Pair<T> = (T, Option<T>);

impl Family {
    const fn domain(self) -> Domain {
        match self {
            Self::V4 => Domain::IPV4,
            Self::V6 => Domain::IPV6,
        }
    }

    const fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }

    const fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    /// An address that no packet is ever sent to: in the loopback range where no one listens,
    /// and in the discard-only range (RFC 6666).
    const fn nowhere(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(127, 255, 255, 254)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1)),
        }
    }

    /// The family of an address.
    pub const fn of(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Self::V4,
            SocketAddr::V6(_) => Self::V6,
        }
    }
}

/// Transparent UDP sockets at one port of both loopback addresses. `mark` tells that they are the
/// proxy's.
pub(crate) fn udp_listeners(mark: u32) -> io::Result<Pair<UdpSocket>> {
    pair(|family, port| udp_listener(family, port, mark), UdpSocket::local_addr)
}

/// Transparent TCP listeners at one port of both loopback addresses. They, and what they accept,
/// carry `mark`.
pub(crate) fn tcp_listeners(mark: u32) -> io::Result<Pair<TcpListener>> {
    pair(|family, port| tcp_listener(family, port, mark), TcpListener::local_addr)
}

fn pair<T>(
    open: impl Fn(Family, u16) -> io::Result<T>,
    address: impl Fn(&T) -> io::Result<SocketAddr>,
) -> io::Result<Pair<T>> {
    let mut draws = 0;
    loop {
        draws += 1;
        let first = open(Family::V4, 0)?;
        match open(Family::V6, address(&first)?.port()) {
            Ok(second) => return Ok((first, Some(second))),
            Err(error) if is_without_ipv6(&error) => return Ok((first, None)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && draws < PORT_DRAWS => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_without_ipv6(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

fn udp_listener(family: Family, port: u16, mark: u32) -> io::Result<UdpSocket> {
    let socket = transparent(family, Type::DGRAM, Protocol::UDP)?;
    socket.set_mark(mark)?;
    match family {
        Family::V4 => setsockopt(&socket, Ipv4OrigDstAddr, &true)?,
        Family::V6 => setsockopt(&socket, Ipv6OrigDstAddr, &true)?,
    }
    setsockopt(&socket, RxqOvfl, &1)?;
    grow_buffers(&socket);
    socket.bind(&SocketAddr::new(family.loopback(), port).into())?;
    Ok(socket.into())
}

fn tcp_listener(family: Family, port: u16, mark: u32) -> io::Result<TcpListener> {
    let socket = transparent(family, Type::STREAM, Protocol::TCP)?;
    socket.set_mark(mark)?;
    socket.bind(&SocketAddr::new(family.loopback(), port).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A raw socket that sends UDP datagrams from any address and receives nothing.
///
/// The kernel offers a raw socket a copy of every UDP packet to its address. Bound to an address
/// that none is sent to, it costs the receive path nothing; the filter keeps out what might come
/// all the same.
pub(crate) fn answer_socket(family: Family, mark: u32) -> io::Result<Socket> {
    const REJECT_ALL: SockFilter = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);
    let socket = transparent(family, Type::RAW, Protocol::UDP)?;
    socket.attach_filter(&[REJECT_ALL])?;
    socket.set_mark(mark)?;
    ignore_path_mtu(&socket, family)?;
    grow_buffers(&socket);
    socket.bind(&SocketAddr::new(family.nowhere(), 0).into())?;
    Ok(socket)
}

/// A socket towards upstream servers, at a random port.
pub(crate) fn upstream_socket(family: Family) -> io::Result<UdpSocket> {
    let socket = open(family, Type::DGRAM, Protocol::UDP)?;
    ignore_path_mtu(&socket, family)?;
    setsockopt(&socket, RxqOvfl, &1)?;
    grow_buffers(&socket);
    socket.bind(&SocketAddr::new(family.unspecified(), 0).into())?;
    Ok(socket.into())
}

fn transparent(family: Family, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = open(family, kind, protocol)?;
    match family {
        Family::V4 => socket.set_ip_transparent_v4(true)?,
        Family::V6 => socket.set_ip_transparent_v6(true)?,
    }
    Ok(socket)
}

fn open(family: Family, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(family.domain(), kind.nonblocking(), Some(protocol))?;
    // A raw socket has one family anyway, and the kernel refuses to be told.
    if family == Family::V6 && kind != Type::RAW {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Datagrams that do not fit are cut into fragments on the way; forged reports of a small path
/// are not believed (as DNS servers do since the fragmentation attacks on caches).
fn ignore_path_mtu(socket: &Socket, family: Family) -> io::Result<()> {
    crate::batch::set_path_mtu_discovery_off(socket.as_fd(), family == Family::V6)
}

/// Larger buffers are better, but smaller ones work: a machine that grants none is still served.
fn grow_buffers(socket: &Socket) {
    if setsockopt(socket, RcvBufForce, &BUFFER).is_err() {
        let _ = socket.set_recv_buffer_size(BUFFER);
    }
    if setsockopt(socket, SndBufForce, &BUFFER).is_err() {
        let _ = socket.set_send_buffer_size(BUFFER);
    }
}
