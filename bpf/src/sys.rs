//! The bpf(2) commands that the datapath needs beside aya's loader, on borrowed descriptors, so
//! that no handle needs a lock.
//!
//! Every command reads one `repr(C)` struct. Where its pointers lead to keys and values, their sizes
//! must be the map's own: those functions are unsafe, and [`crate::map::Map`], which checks the
//! sizes once, is their only caller.

use std::ffi::{CString, c_int};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub mod program;

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

/// Map types, by the kernel's numbers.
pub mod kind {
    /// Hash.
    pub const HASH: u32 = 1;
    /// Array.
    pub const ARRAY: u32 = 2;
    /// Array of programs to go on with.
    pub const PROGRAM_ARRAY: u32 = 3;
    /// Hash with a value for each CPU.
    pub const PERCPU_HASH: u32 = 5;
    /// Hash that evicts what was used least lately.
    pub const LRU_HASH: u32 = 9;
    /// Longest-prefix trie.
    pub const LPM_TRIE: u32 = 11;
    /// Array whose values are maps.
    pub const ARRAY_OF_MAPS: u32 = 12;
    /// Ring buffer.
    pub const RINGBUF: u32 = 27;
}

/// Map flag: memory is taken when an element is put.
pub const NO_PREALLOC: u32 = 1;
/// Update flag: only if the key is absent.
pub const NOEXIST: u64 = 1;
/// The tcx attach point for what comes in (6.6).
pub const TCX_INGRESS: u32 = 46;
/// The tcx attach point for what goes out (6.6).
pub const TCX_EGRESS: u32 = 47;
/// Link flag: before all others.
const BEFORE: u32 = 1 << 3;

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
#[derive(Default)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map: u32,
    numa_node: u32,
    name: [u8; 16],
}

/// Makes a map.
pub fn map_create(
    name: &str,
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner: Option<BorrowedFd<'_>>,
) -> io::Result<OwnedFd> {
    let mut attributes = MapCreate {
        kind,
        key_size,
        value_size,
        max_entries,
        flags,
        inner_map: inner.map_or(0, raw),
        ..MapCreate::default()
    };
    let length = name.len().min(15);
    attributes.name[..length].copy_from_slice(&name.as_bytes()[..length]);
    bpf(Command::MapCreate, &mut attributes).map(owned)
}

#[repr(C)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Element {
    fn new(map: BorrowedFd<'_>, key: u64, value: u64, flags: u64) -> Self {
        Self { map: raw(map), pad: 0, key, value, flags }
    }
}

/// Puts a value. `value` is as long as the map's values are (for each CPU, where it has one each).
///
/// # Safety
/// `K` and what `value` leads to are as long as the map's keys and values, the latter
/// for each CPU where it has one each.
pub unsafe fn map_update<K>(
    map: BorrowedFd<'_>,
    key: &K,
    value: u64,
    flags: u64,
) -> io::Result<()> {
    bpf(Command::MapUpdate, &mut Element::new(map, address(key), value, flags)).map(drop)
}

/// The address of a value, for [`map_update`].
pub fn value_address<V: ?Sized>(value: &V) -> u64 {
    address(value)
}

/// Reads a value into `value`; false if the key is absent.
///
/// # Safety
/// `K` and `V` are as long as the map's keys and values, the latter for each CPU where it
/// has one each.
pub unsafe fn map_lookup<K, V: ?Sized>(
    map: BorrowedFd<'_>,
    key: &K,
    value: &mut V,
) -> io::Result<bool> {
    let mut element = Element::new(map, address(key), address_mut(value), 0);
    absent_is_false(bpf(Command::MapLookup, &mut element))
}

/// Takes a key out; false if it was absent.
///
/// # Safety
/// `K` is as long as the map's keys.
pub unsafe fn map_delete<K>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    absent_is_false(bpf(Command::MapDelete, &mut Element::new(map, address(key), 0, 0)))
}

fn absent_is_false(answer: io::Result<c_int>) -> io::Result<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

#[repr(C)]
#[derive(Default)]
struct Batch {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Puts several values (hash 5.6, trie 5.13). On failure, says how many were put before it.
///
/// # Safety
/// `K` and `V` are as long as the map's keys and values.
pub unsafe fn map_update_batch<K, V>(
    map: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> Result<(), (usize, io::Error)> {
    let mut batch = Batch {
        keys: address(keys),
        values: address(values),
        count: u32::try_from(keys.len().min(values.len())).unwrap_or(u32::MAX),
        map: raw(map),
        ..Batch::default()
    };
    match bpf(Command::MapUpdateBatch, &mut batch) {
        Ok(_) => Ok(()),
        Err(error) => Err((batch.count as usize, error)),
    }
}

/// What one [`map_lookup_batch`] found.
pub struct Found {
    /// How many keys and values were written.
    pub count: usize,
    /// Whether there are more.
    pub more: bool,
}

/// Reads on from `cursor` (none: from the start) into `keys` and `values`, and moves the cursor.
/// `values` has `keys.len()` values, each as long as the map's (for each CPU, where it has one
/// each).
///
/// # Safety
/// `K` and `V` are as long as the map's keys and values, the latter for each CPU where it
/// has one each; `values` has room for as many as `keys`.
pub unsafe fn map_lookup_batch<K, V>(
    map: BorrowedFd<'_>,
    cursor: &mut Option<[u8; 64]>,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<Found> {
    let from = *cursor;
    let mut to = [0u8; 64];
    let mut batch = Batch {
        from: from.as_ref().map_or(0, address),
        to: address_mut(&mut to),
        keys: address_mut(keys),
        values: address_mut(values),
        count: u32::try_from(keys.len()).unwrap_or(u32::MAX),
        map: raw(map),
        ..Batch::default()
    };
    let answer = bpf(Command::MapLookupBatch, &mut batch);
    let count = batch.count as usize;
    match answer {
        Ok(_) => {
            *cursor = Some(to);
            Ok(Found { count, more: true })
        }
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT) => Ok(Found { count, more: false }),
            // A key went while it was read; what was read before it counts.
            Some(libc::EINTR) if count > 0 => {
                *cursor = Some(to);
                Ok(Found { count, more: true })
            }
            _ => Err(error),
        },
    }
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

/// What the kernel says of a map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapInfo {
    /// The type's number.
    pub kind: u32,
    /// Its id.
    pub id: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// How many elements it takes.
    pub max_entries: u32,
    /// The flags it was made with.
    pub flags: u32,
}

/// Asks what a map is.
pub fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut found = MapInfo::default();
    let length = size_of::<MapInfo>() as u32;
    let mut info = Info { fd: raw(map), length, info: address_mut(&mut found) };
    bpf(Command::ObjectInfo, &mut info)?;
    Ok(found)
}

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
