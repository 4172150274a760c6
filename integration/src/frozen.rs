//! A map that takes no more writes from user space, as if the kernel refused each of them.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::{
        fd::{AsRawFd, FromRawFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

const OBJECT_GET: libc::c_int = 7;
const MAP_FREEZE: libc::c_int = 22;

/// The part of `union bpf_attr` that opens what is pinned.
#[repr(C)]
struct Object {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// The part that freezes.
#[repr(C)]
struct Freeze {
    map: u32,
}

/// Freezes the pinned map at `pin` for the rest of its life: every update and removal is refused
/// with EPERM. Programs in the kernel write on.
pub fn freeze(pin: &Path) -> io::Result<()> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut object = Object { path: path.as_ptr() as u64, descriptor: 0, flags: 0 };
    let descriptor = bpf(OBJECT_GET, &mut object)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else has it.
    let map = unsafe { File::from_raw_fd(descriptor) };
    bpf(MAP_FREEZE, &mut Freeze { map: map.as_raw_fd().cast_unsigned() }).map(drop)
}

fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<RawFd> {
    let attributes: *mut T = attributes;
    // SAFETY: the attributes are initialised, as long as is said, and what they point to outlives
    // the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(answer).map_err(io::Error::other)
}
