//! Maps: made, asked what they are, read and written.
//!
//! Where pointers lead to keys and values, their sizes must be the map's own: those functions are
//! unsafe, and [`crate::map::Map`], which checks the sizes once, is their only caller.

use std::ffi::c_int;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::{Command, Info, address, address_mut, bpf, owned, raw};

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
