//! Sockets that lose nothing of their own accord.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use anyhow::{Context, Result};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBufForce, SndBufForce};

/// What a socket may hold that is not yet read, or not yet sent.
const BUFFER: usize = 8 << 20;

/// A socket at this address.
pub fn bound(address: SocketAddrV4) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(address).with_context(|| format!("bind {address}"))?;
    setsockopt(&socket, RcvBufForce, &BUFFER)?;
    setsockopt(&socket, SndBufForce, &BUFFER)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A socket that sends to `server` and hears nobody else.
pub fn connected(server: SocketAddrV4) -> Result<UdpSocket> {
    let socket = bound(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(server).with_context(|| format!("connect to {server}"))?;
    Ok(socket)
}
