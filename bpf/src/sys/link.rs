//! Links: programs on interfaces by tcx.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::{Command, Info, address_mut, bpf, owned, raw};

/// The tcx attach point for what comes in (6.6).
pub const TCX_INGRESS: u32 = 46;
/// The tcx attach point for what goes out (6.6).
pub const TCX_EGRESS: u32 = 47;
/// Link flag: before all others.
const BEFORE: u32 = 1 << 3;

/// What the kernel says of a tcx link.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkInfo {
    kind: u32,
    id: u32,
    /// The program that runs.
    pub program: u32,
    pad: u32,
    /// The interface, 0 if it is gone.
    pub interface: u32,
    /// The attach point.
    pub point: u32,
}

/// Asks what a tcx link is.
pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut found = LinkInfo::default();
    let length = size_of::<LinkInfo>() as u32;
    let mut info = Info { fd: raw(link), length, info: address_mut(&mut found) };
    bpf(Command::ObjectInfo, &mut info)?;
    Ok(found)
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    interface: u32,
    point: u32,
    flags: u32,
    relative: u32,
    pad: u32,
    revision: u64,
}

/// Attaches a program to an interface by tcx, before all others there.
pub fn link_create(program: BorrowedFd<'_>, interface: u32, point: u32) -> io::Result<OwnedFd> {
    let mut link = LinkCreate {
        program: raw(program),
        interface,
        point,
        flags: BEFORE,
        relative: 0,
        pad: 0,
        revision: 0,
    };
    bpf(Command::LinkCreate, &mut link).map(owned)
}

#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// Puts another program in a link's place, without a moment between.
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut update =
        LinkUpdate { link: raw(link), program: raw(program), flags: 0, old_program: 0 };
    bpf(Command::LinkUpdate, &mut update).map(drop)
}

#[repr(C)]
struct LinkDetach {
    link: u32,
}

/// Takes a link's program off. When this returns, no packet meets it any more; a link that only
/// loses its last pin is taken off by the kernel at some later time.
pub fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(Command::LinkDetach, &mut LinkDetach { link: raw(link) }).map(drop)
}
