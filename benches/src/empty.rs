//! A program that does nothing: what BPF_PROG_TEST_RUN itself costs.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use anyhow::{Context, Result};

/// bpf(2)'s command, and the type of tc programs.
const PROG_LOAD: libc::c_int = 5;
const SCHED_CLS: u32 = 3;

/// `r0 = -1` (let the packet go on) and `exit`.
const PROGRAM: [u64; 2] = [0xffff_ffff_0000_00b7, 0x0000_0000_0000_0095];
const LICENSE: &std::ffi::CStr = c"GPL";

/// The start of bpf(2)'s attributes for loading; what is left out is zero.
#[repr(C)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// Loads it.
pub fn load() -> Result<OwnedFd> {
    let attributes = Load {
        kind: SCHED_CLS,
        instruction_count: PROGRAM.len() as u32,
        instructions: PROGRAM.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the attributes and what they point to live until the call returns, and the kernel
    // only reads them.
    let answer = unsafe {
        libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const attributes, size_of::<Load>())
    };
    let fd = i32::try_from(answer).ok().filter(|fd| *fd >= 0);
    let fd = fd.ok_or_else(io::Error::last_os_error).context("load an empty program")?;
    // SAFETY: bpf(2) has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
