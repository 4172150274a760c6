//! Addresses and control messages in the layouts of the system calls, read and written within
//! buffers that are always large enough for every family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for the control messages of one datagram: an address and a count, or an address.
pub const CONTROL_LEN: usize = 128;

/// Control messages, aligned as their headers must be.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct Control(pub [u8; CONTROL_LEN]);

pub fn read_name(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let name: *const libc::sockaddr_storage = name;
    // SAFETY: a sockaddr_storage is large enough and aligned for every family's address, and
    // made of integers, so each may be read from it.
    unsafe {
        match i32::from((*name).ss_family) {
            libc::AF_INET => Some(from_v4(&*name.cast())),
            libc::AF_INET6 => Some(from_v6(&*name.cast())),
            _ => None,
        }
    }
}

pub fn from_v4(name: &libc::sockaddr_in) -> SocketAddr {
    let address = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
    SocketAddrV4::new(address, u16::from_be(name.sin_port)).into()
}

pub fn from_v6(name: &libc::sockaddr_in6) -> SocketAddr {
    let address = Ipv6Addr::from(name.sin6_addr.s6_addr);
    SocketAddrV6::new(address, u16::from_be(name.sin6_port), 0, name.sin6_scope_id).into()
}

pub fn write_name(name: &mut libc::sockaddr_storage, address: SocketAddr) -> libc::socklen_t {
    let name: *mut libc::sockaddr_storage = name;
    match address {
        SocketAddr::V4(address) => {
            let value = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: a sockaddr_storage is large enough and aligned for every family's address.
            unsafe { name.cast::<libc::sockaddr_in>().write(value) };
            size_of_val(&value) as libc::socklen_t
        }
        SocketAddr::V6(address) => {
            let value = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: as above.
            unsafe { name.cast::<libc::sockaddr_in6>().write(value) };
            size_of_val(&value) as libc::socklen_t
        }
    }
}

/// Writes the control message that sets a source address, and gives its length.
pub fn write_source(control: &mut Control, source: IpAddr) -> usize {
    match source {
        IpAddr::V4(address) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(address).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            write_control(control, libc::SOL_IP, libc::IP_PKTINFO, info)
        }
        IpAddr::V6(address) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: address.octets() },
                ipi6_ifindex: 0,
            };
            write_control(control, libc::SOL_IPV6, libc::IPV6_PKTINFO, info)
        }
    }
}

fn write_control<T: Copy>(control: &mut Control, level: i32, kind: i32, data: T) -> usize {
    const { assert!(size_of::<T>() <= CONTROL_LEN - 32) };
    let size = size_of::<T>() as u32;
    let header: *mut libc::cmsghdr = (&raw mut control.0).cast();
    // SAFETY: the buffer is aligned for a header and, as asserted, has room for it and the data,
    // which is written unaligned right behind the header.
    unsafe {
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(size) as usize;
        libc::CMSG_DATA(header).cast::<T>().write_unaligned(data);
        libc::CMSG_SPACE(size) as usize
    }
}
