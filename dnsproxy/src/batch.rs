//! Many datagrams with one system call, each with its own source or original destination.
//!
//! This module is the only one with unsafe code. No library offers these calls with a control message
//! for each datagram. All pointers that the kernel gets are made right before the call from
//! buffers that outlive it, and every length that comes back is bounded before it is used.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

mod sockaddr;

use sockaddr::{CONTROL_LEN, Control, from_v4, from_v6, read_name, write_name, write_source};

/// The most datagrams of one call.
pub(crate) const BATCH: usize = 64;

/// No datagram is longer.
const MAX_DATAGRAM: usize = 65_535;

/// From one datagram's place to the next. Not near a power of two: the first bytes of all of them,
/// which are what is read, would share a few lines of the caches.
const STRIDE: usize = 65_536 + 3 * 64;

/// The fewest datagrams that a call has room for.
const LEAST: usize = 4;

/// How long a full send buffer is waited for, in milliseconds.
const SEND_WAIT: u16 = 5;

/// Datagrams received together.
pub(crate) struct Inbox {
    /// `BATCH` stretches of `STRIDE` bytes; pages that no datagram reaches stay untouched.
    payload: Box<[u8]>,
    /// How many datagrams the next call has room for. Making room costs where one comes at a time,
    /// so there is twice as much as was last used.
    room: usize,
    names: Box<[libc::sockaddr_storage; BATCH]>,
    controls: Box<[Control; BATCH]>,
    arrivals: Vec<Arrival>,
    /// What the kernel says it dropped at this socket since it was opened.
    dropped: u32,
}

/// Where a datagram came from and where it was going.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub from: SocketAddr,
    /// The original destination, if the socket asks for it.
    pub to: Option<SocketAddr>,
    len: usize,
}

/// Datagrams to be sent together.
pub(crate) struct Outbox {
    payload: Vec<u8>,
    departures: Vec<Departure>,
    names: Box<[libc::sockaddr_storage; BATCH]>,
    controls: Box<[Control; BATCH]>,
}

struct Departure {
    range: Range<usize>,
    to: Option<SocketAddr>,
    source: Option<IpAddr>,
}

impl Inbox {
    pub fn new() -> Self {
        Self {
            payload: vec![0; BATCH * STRIDE].into_boxed_slice(),
            room: LEAST,
            names: Box::new([EMPTY_NAME; BATCH]),
            controls: Box::new([Control([0; CONTROL_LEN]); BATCH]),
            arrivals: Vec::with_capacity(BATCH),
            dropped: 0,
        }
    }

    /// Receives what waits at a socket, up to [`BATCH`] datagrams, and says how many there are.
    /// Those whose sender cannot be told are empty. There may be more.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.arrivals.clear();
        self.dropped = 0;
        let room = self.room;
        let base = self.payload.as_mut_ptr();
        let mut pieces = [const { EMPTY_PIECE }; BATCH];
        let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
        for (index, header) in headers[..room].iter_mut().enumerate() {
            // SAFETY: `payload` has BATCH * STRIDE bytes and `index` is below BATCH.
            pieces[index].iov_base = unsafe { base.add(index * STRIDE) }.cast();
            pieces[index].iov_len = MAX_DATAGRAM;
            let header = &mut header.write(empty_header()).msg_hdr;
            header.msg_name = (&raw mut self.names[index]).cast();
            header.msg_namelen = NAME_LEN;
            header.msg_iov = &raw mut pieces[index];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut self.controls[index]).cast();
            header.msg_controllen = CONTROL_LEN;
        }
        // SAFETY: each of the first `room` headers is written and points to a name, a piece and a
        // control buffer of its own, of the lengths stated, all of which live until the call returns.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr().cast(),
                room as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for (index, header) in headers[..received.min(room)].iter().enumerate() {
            // SAFETY: the first `room` headers are written.
            self.take(index, unsafe { header.assume_init_ref() });
        }
        self.room = (received * 2).clamp(LEAST, BATCH);
        Ok(self.arrivals.len())
    }

    fn take(&mut self, index: usize, header: &libc::mmsghdr) {
        let mut arrival = Arrival {
            from: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            to: None,
            len: (header.msg_len as usize).min(MAX_DATAGRAM),
        };
        if header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) == 0 {
            arrival.from = read_name(&self.names[index]).unwrap_or(arrival.from);
            self.read_control(header, &mut arrival);
        } else {
            arrival.len = 0;
        }
        self.arrivals.push(arrival);
    }

    fn read_control(&mut self, header: &libc::mmsghdr, arrival: &mut Arrival) {
        // SAFETY: the kernel has filled `msg_control` up to the `msg_controllen` that it wrote,
        // and the buffer is still there. The macros' functions stay within that length, and each
        // payload is read, unaligned, only if its control message says it is long enough.
        unsafe {
            let mut control = libc::CMSG_FIRSTHDR(&raw const header.msg_hdr);
            while let Some(message) = control.as_ref() {
                let data = libc::CMSG_DATA(control);
                let len = message.cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
                match (message.cmsg_level, message.cmsg_type) {
                    (libc::SOL_IP, libc::IP_ORIGDSTADDR)
                        if len >= size_of::<libc::sockaddr_in>() =>
                    {
                        let name = data.cast::<libc::sockaddr_in>().read_unaligned();
                        arrival.to = Some(from_v4(&name));
                    }
                    (libc::SOL_IPV6, libc::IPV6_ORIGDSTADDR)
                        if len >= size_of::<libc::sockaddr_in6>() =>
                    {
                        let name = data.cast::<libc::sockaddr_in6>().read_unaligned();
                        arrival.to = Some(from_v6(&name));
                    }
                    (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) if len >= size_of::<u32>() => {
                        self.dropped = self.dropped.max(data.cast::<u32>().read_unaligned());
                    }
                    _ => {}
                }
                control = libc::CMSG_NXTHDR(&raw const header.msg_hdr, control);
            }
        }
    }

    /// How many datagrams the kernel has dropped at the socket since it was opened, as far as the
    /// last batch says.
    pub const fn dropped(&self) -> u32 {
        self.dropped
    }

    /// One of the datagrams last received.
    pub fn arrival(&mut self, index: usize) -> (Arrival, &mut [u8]) {
        let arrival = self.arrivals[index];
        let start = index * STRIDE;
        (arrival, &mut self.payload[start..start + arrival.len])
    }
}

impl Outbox {
    pub fn new() -> Self {
        Self {
            payload: Vec::new(),
            departures: Vec::with_capacity(BATCH),
            names: Box::new([EMPTY_NAME; BATCH]),
            controls: Box::new([Control([0; CONTROL_LEN]); BATCH]),
        }
    }

    /// Adds a datagram to `to`, or to whom the socket is connected, with `source` as its source
    /// address or else the socket's own. `write` appends its bytes.
    pub fn push(
        &mut self,
        to: Option<SocketAddr>,
        source: Option<IpAddr>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.payload.len();
        write(&mut self.payload);
        self.departures.push(Departure { range: start..self.payload.len(), to, source });
    }

    /// The bytes of the datagram added last.
    pub fn last_mut(&mut self) -> &mut [u8] {
        let range = self.departures.last().map_or(0..0, |departure| departure.range.clone());
        &mut self.payload[range]
    }

    /// Takes the datagram added last out again.
    pub fn discard_last(&mut self) {
        if let Some(departure) = self.departures.pop() {
            self.payload.truncate(departure.range.start);
        }
    }

    /// Sends everything and is empty then. `failed` hears of each datagram, by the order in which
    /// they were added, that could not be sent.
    pub fn flush(&mut self, socket: BorrowedFd<'_>, mut failed: impl FnMut(usize, io::Error)) {
        let mut next = 0;
        let mut patient = true;
        // A connected socket first reports, once, what became of a datagram sent before.
        let mut doubted = None;
        while next < self.departures.len() {
            match self.send_from(next, socket) {
                Ok(sent) => next += sent.max(1),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && patient => {
                    patient = wait_until_writable(socket);
                }
                Err(_) if doubted != Some(next) => doubted = Some(next),
                Err(error) => {
                    failed(next, error);
                    next += 1;
                }
            }
        }
        self.departures.clear();
        self.payload.clear();
    }

    fn send_from(&mut self, first: usize, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let batch = &self.departures[first..self.departures.len().min(first + BATCH)];
        let mut pieces = [const { EMPTY_PIECE }; BATCH];
        let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
        let base = self.payload.as_ptr();
        for (index, departure) in batch.iter().enumerate() {
            let Range { start, end } = departure.range;
            pieces[index] = libc::iovec {
                // SAFETY: every range lies within the payload. The kernel only reads from it.
                iov_base: unsafe { base.add(start) }.cast_mut().cast(),
                iov_len: end - start,
            };
            let header = &mut headers[index].write(empty_header()).msg_hdr;
            if let Some(to) = departure.to {
                header.msg_namelen = write_name(&mut self.names[index], to);
                header.msg_name = (&raw mut self.names[index]).cast();
            }
            header.msg_iov = &raw mut pieces[index];
            header.msg_iovlen = 1;
            if let Some(source) = departure.source {
                header.msg_control = (&raw mut self.controls[index]).cast();
                header.msg_controllen = write_source(&mut self.controls[index], source);
            }
        }
        // SAFETY: the first `batch.len()` headers are written and point to a piece of the payload
        // and, if at all, to a name and a control buffer of their own, of the lengths stated, all
        // of which live until the call returns.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr().cast(),
                batch.len() as u32,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// Lets datagrams be fragmented whatever the path's MTU is said to be.
pub(crate) fn set_path_mtu_discovery_off(socket: BorrowedFd<'_>, ipv6: bool) -> io::Result<()> {
    let (level, name, value) = if ipv6 {
        (libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_OMIT)
    } else {
        (libc::SOL_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT)
    };
    // SAFETY: the option takes an int, and `value` is one and outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Says whether there is room now.
fn wait_until_writable(socket: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::from(SEND_WAIT)).is_ok_and(|ready| ready > 0)
}

const NAME_LEN: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

const EMPTY_PIECE: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

// SAFETY: the struct is made of integers, for which zero is a value.
const EMPTY_NAME: libc::sockaddr_storage = unsafe { mem::zeroed() };

const fn empty_header() -> libc::mmsghdr {
    // SAFETY: the struct is made of integers and pointers, for which zero is a value.
    unsafe { mem::zeroed() }
}

#[cfg(test)]
mod tests;
