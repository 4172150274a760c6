//! The bpf(2) commands that the datapath needs beside aya's loader, on borrowed descriptors, so
//! that no handle needs a lock.
//!
//! Every command reads one `repr(C)` struct. What its pointers lead to is the duty of who fills it.

use std::ffi::{CString, c_int};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

mod link;
mod map;
pub mod program;

pub use link::{TCX_EGRESS, TCX_INGRESS, link_create, link_detach, link_info, link_update};
pub use map::{
    MapInfo, NO_PREALLOC, NOEXIST, kind, map_create, map_delete, map_info, map_lookup,
    map_lookup_batch, map_update, map_update_batch, value_address,
};

/// A command of bpf(2).
#[derive(Clone, Copy)]
#[repr(i32)]
pub enum Command {
    MapCreate = 0,
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    ProgramLoad = 5,
    ObjectPin = 6,
    ObjectGet = 7,
    ProgramTestRun = 10,
    ProgramById = 13,
    MapById = 14,
    ObjectInfo = 15,
    ProgramQuery = 16,
    MapLookupBatch = 24,
    MapUpdateBatch = 26,
    LinkCreate = 28,
    LinkUpdate = 29,
    LinkDetach = 34,
}

fn bpf<T>(command: Command, attributes: &mut T) -> io::Result<c_int> {
    // SAFETY: `attributes` is a live, fully initialised `repr(C)` struct of the size given; what
    // its pointers lead to is the caller's duty, stated at each of them.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as c_int,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    c_int::try_from(answer).ok().filter(|answer| *answer >= 0).ok_or_else(io::Error::last_os_error)
}

fn owned(fd: c_int) -> OwnedFd {
    // SAFETY: bpf(2) has just made this descriptor, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn address<T: ?Sized>(value: &T) -> u64 {
    std::ptr::from_ref(value).cast::<u8>() as u64
}

fn address_mut<T: ?Sized>(value: &mut T) -> u64 {
    std::ptr::from_mut(value).cast::<u8>() as u64
}

#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Opens what is pinned at a path.
pub fn object_get(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut object = Object { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    bpf(Command::ObjectGet, &mut object).map(owned)
}

/// Pins a map, program or link at a path.
pub fn object_pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut object = Object { path: path.as_ptr() as u64, fd: raw(fd), flags: 0 };
    bpf(Command::ObjectPin, &mut object).map(drop)
}

#[repr(C)]
struct Info {
    fd: u32,
    length: u32,
    info: u64,
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    answer: u32,
    data_in_size: u32,
    data_out_size: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_in_size: u32,
    context_out_size: u32,
    context_in: u64,
    context_out: u64,
}

/// Runs a program on a frame, `repeat` times, with the given `struct __sk_buff` (which becomes
/// what the program left of it). Returns its answer and the nanoseconds that one run took.
///
/// The frame comes from the loopback interface of the calling thread's network namespace. Tests
/// and benchmarks only: the daemon sends nothing through its programs.
pub fn test_run(
    program: BorrowedFd<'_>,
    frame: &[u8],
    context: &mut [u8],
    repeat: u32,
) -> io::Result<(i32, u32)> {
    let mut out = vec![0u8; frame.len() + 256];
    let context_in = context.to_vec();
    let mut run = TestRun {
        program: raw(program),
        data_in: address(frame),
        data_in_size: frame.len() as u32,
        data_out: address_mut(out.as_mut_slice()),
        data_out_size: out.len() as u32,
        repeat,
        context_in: address(context_in.as_slice()),
        context_in_size: context_in.len() as u32,
        context_out: address_mut(context),
        context_out_size: context_in.len() as u32,
        ..TestRun::default()
    };
    bpf(Command::ProgramTestRun, &mut run)?;
    Ok((run.answer.cast_signed(), run.duration))
}
