//! The floor: a forwarder that does nothing but forward, in batches.
//!
//! It gives each query an ID of its own, remembers whose it was, and sends everything on to one
//! server. It reads no name, knows no policy and checks nothing.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::batch::{Batch, To};
use super::sockets;

/// Forwards what comes to `listen`, for ever.
pub fn run(listen: SocketAddrV4, server: SocketAddrV4) -> Result<()> {
    let clients = sockets::bound(listen)?;
    let upstream = sockets::connected(server)?;
    let mut table = vec![(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), [0; 2]); 1 << 16];
    let mut batch = Batch::new();
    let mut next: u16 = 0;
    loop {
        let (asked, answered) = wait(&clients, &upstream)?;
        if asked {
            let count = batch.receive(&clients)?;
            for index in 0..count {
                let peer = batch.peer(index);
                let (bytes, _) = batch.datagram(index);
                table[usize::from(next)] = (peer, [bytes[0], bytes[1]]);
                bytes[..2].copy_from_slice(&next.to_be_bytes());
                next = next.wrapping_add(1);
            }
            batch.send(&upstream, To::Connected)?;
        }
        if answered {
            let count = batch.receive(&upstream)?;
            for index in 0..count {
                let (bytes, _) = batch.datagram(index);
                let (peer, id) = table[usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))];
                bytes[..2].copy_from_slice(&id);
                batch.set_peer(index, peer);
            }
            batch.send(&clients, To::Peers)?;
        }
    }
}

/// Waits until there is something at the clients' side, the server's, or both.
fn wait(clients: &UdpSocket, upstream: &UdpSocket) -> Result<(bool, bool)> {
    let mut fds = [clients, upstream].map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
    poll(&mut fds, PollTimeout::NONE)?;
    Ok((fds[0].any().unwrap_or(false), fds[1].any().unwrap_or(false)))
}
