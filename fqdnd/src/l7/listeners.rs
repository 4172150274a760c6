//! The sockets that the datapath gives connections to. They are opened here, with rights that the
//! proxy does not have, and are the proxy's alone: when it ends, they end.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};

/// How many connections may wait for the proxy to take them.
const BACKLOG: i32 = 4096;
/// How often another port is tried when the IPv6 half of one is taken.
const PORT_DRAWS: usize = 8;

/// One listener of each family that the node has, at the same port.
pub struct Listeners {
    sockets: Vec<Socket>,
    port: u16,
}

impl Listeners {
    /// Opens them at a port of the kernel's choice. What is accepted carries `mark`.
    pub fn open(mark: u32) -> io::Result<Self> {
        let mut draws = 0;
        loop {
            draws += 1;
            let first = listen(Ipv4Addr::LOCALHOST.into(), 0, mark)?;
            let port = first.local_addr()?.as_socket().map_or(0, |address| address.port());
            match listen(Ipv6Addr::LOCALHOST.into(), port, mark) {
                Ok(second) => return Ok(Self { sockets: vec![first, second], port }),
                Err(error) if is_without_ipv6(&error) => {
                    return Ok(Self { sockets: vec![first], port });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && draws < PORT_DRAWS => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Their port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Their descriptors.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(AsFd::as_fd)
    }
}

fn listen(address: IpAddr, port: u16, mark: u32) -> io::Result<Socket> {
    let address = SocketAddr::new(address, port);
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_ip_transparent_v6(true)?;
        }
    }
    socket.set_mark(mark)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// IPv6 is not there, or is switched off on the loopback device.
fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}
