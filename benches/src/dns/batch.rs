//! Up to 64 IPv4 datagrams received, changed in place and sent on, with one system call each way.
//!
//! The load client, the responder and the bare forwarder share it, so that what they cost beside a
//! proxy is as little as it can be. Everything that the kernel gets points into the batch itself,
//! made right before the call; every length that comes back is bounded before it is used.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd};

/// The most datagrams of one call.
pub const BATCH: usize = 64;
/// No datagram here is longer.
pub const SIZE: usize = 512;

/// Datagrams with the addresses that they came from.
pub struct Batch {
    bytes: Box<[[u8; SIZE]; BATCH]>,
    lengths: [usize; BATCH],
    peers: Box<[libc::sockaddr_in; BATCH]>,
    count: usize,
}

/// Where the datagrams of a batch go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// To whom the socket is connected.
    Connected,
    /// Each to its own peer.
    Peers,
}

impl Batch {
    pub fn new() -> Self {
        Self {
            bytes: Box::new([[0; SIZE]; BATCH]),
            lengths: [0; BATCH],
            peers: Box::new([NO_PEER; BATCH]),
            count: 0,
        }
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.count = 0;
    }

    /// A datagram's bytes, at full size, and its length, both to be changed at will.
    pub fn datagram(&mut self, index: usize) -> (&mut [u8; SIZE], &mut usize) {
        (&mut self.bytes[index], &mut self.lengths[index])
    }

    /// Adds a datagram that `write` writes; it returns the length.
    pub fn push(&mut self, write: impl FnOnce(&mut [u8; SIZE]) -> usize) {
        self.lengths[self.count] = write(&mut self.bytes[self.count]);
        self.count += 1;
    }

    /// Whom a datagram came from or goes to.
    pub fn peer(&self, index: usize) -> SocketAddrV4 {
        let peer = &self.peers[index];
        let address = Ipv4Addr::from(u32::from_be(peer.sin_addr.s_addr));
        SocketAddrV4::new(address, u16::from_be(peer.sin_port))
    }

    /// Says whom a datagram goes to.
    pub fn set_peer(&mut self, index: usize, peer: SocketAddrV4) {
        let s_addr = u32::from(*peer.ip()).to_be();
        self.peers[index] = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: peer.port().to_be(),
            sin_addr: libc::in_addr { s_addr },
            sin_zero: [0; 8],
        };
    }

    /// Receives what waits; nothing where nothing does.
    pub fn receive(&mut self, socket: impl AsFd) -> io::Result<usize> {
        self.count = 0;
        self.lengths = [SIZE; BATCH];
        let received = self.call(&socket, BATCH, To::Peers, |fd, headers, count| {
            // SAFETY: the headers point into this batch, with the lengths that its parts have.
            unsafe { libc::recvmmsg(fd, headers, count, libc::MSG_DONTWAIT, std::ptr::null_mut()) }
        });
        match received {
            Ok(count) => self.count = count,
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(self.count)
    }

    /// Sends everything; says how many the socket had no room for.
    pub fn send(&mut self, socket: impl AsFd, to: To) -> io::Result<usize> {
        let count = self.count;
        if count == 0 {
            return Ok(0);
        }
        let sent = self.call(&socket, count, to, |fd, headers, count| {
            // SAFETY: the headers point into this batch, with the lengths that its parts have.
            unsafe { libc::sendmmsg(fd, headers, count, libc::MSG_DONTWAIT) }
        });
        match sent {
            Ok(sent) => Ok(count - sent),
            Err(error) if is_transient(&error) => Ok(count),
            Err(error) => Err(error),
        }
    }

    fn call(
        &mut self,
        socket: &impl AsFd,
        count: usize,
        to: To,
        call: impl FnOnce(i32, *mut libc::mmsghdr, u32) -> i32,
    ) -> io::Result<usize> {
        let mut pieces: [libc::iovec; BATCH] = std::array::from_fn(|index| libc::iovec {
            iov_base: self.bytes[index].as_mut_ptr().cast(),
            iov_len: self.lengths[index].min(SIZE),
        });
        let mut headers: [libc::mmsghdr; BATCH] = std::array::from_fn(|index| {
            let mut header = EMPTY_HEADER;
            header.msg_hdr.msg_iov = &raw mut pieces[index];
            header.msg_hdr.msg_iovlen = 1;
            if to == To::Peers {
                header.msg_hdr.msg_name = (&raw mut self.peers[index]).cast();
                header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            header
        });
        let done = call(socket.as_fd().as_raw_fd(), headers.as_mut_ptr(), count as u32);
        let done = usize::try_from(done).map_err(|_| io::Error::last_os_error())?.min(count);
        for (length, header) in self.lengths.iter_mut().zip(&headers).take(done) {
            *length = (header.msg_len as usize).min(SIZE);
        }
        Ok(done)
    }
}

/// Nothing is there, or an old ICMP error is told of: both pass.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::EINTR | libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENOBUFS)
    )
}

const NO_PEER: libc::sockaddr_in = libc::sockaddr_in {
    sin_family: libc::AF_INET as libc::sa_family_t,
    sin_port: 0,
    sin_addr: libc::in_addr { s_addr: 0 },
    sin_zero: [0; 8],
};

// SAFETY: the struct is made of integers and pointers, for which zero is a value.
const EMPTY_HEADER: libc::mmsghdr = unsafe { std::mem::zeroed() };
