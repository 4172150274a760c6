//! Typed access to a pinned map.
//!
//! The sizes of keys and values are compared once, when a map is taken; all that is unsafe here
//! relies on it.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use bpf_abi::Layout;

use crate::patience::patiently;
use crate::{Error, sys};

/// A pinned map with keys `K` and values `V`.
#[derive(Debug)]
pub(crate) struct Map<K, V> {
    name: &'static str,
    fd: OwnedFd,
    types: PhantomData<fn(K, V)>,
}

impl<K: Layout, V: Layout> Map<K, V> {
    /// Takes a map whose sizes are those of `K` and `V`; all that is unsafe here relies on it.
    pub fn new(name: &'static str, fd: OwnedFd) -> Result<Self, Error> {
        let info = sys::map_info(fd.as_fd()).map_err(|source| Error::Map {
            map: name,
            action: "read",
            source,
        })?;
        let sizes = [
            ("keys of size", info.key_size, size_of::<K>() as u32),
            ("values of size", info.value_size, size_of::<V>() as u32),
        ];
        for (what, found, wanted) in sizes {
            if found != wanted {
                return Err(Error::Layout { map: name, what, found, wanted });
            }
        }
        Ok(Self { name, fd, types: PhantomData })
    }

    /// Opens the map of this name in a directory.
    pub fn open(directory: &Path, name: &'static str) -> Result<Self, Error> {
        let fd = sys::object_get(&directory.join(name)).map_err(|source| Error::Map {
            map: name,
            action: "open",
            source,
        })?;
        Self::new(name, fd)
    }

    /// Its descriptor.
    pub const fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Puts a value.
    pub fn put(&self, key: &K, value: &V) -> io::Result<()> {
        let (map, value) = (self.fd.as_fd(), sys::value_address(value));
        // SAFETY: `new` has compared the sizes.
        patiently(|| unsafe { sys::map_update(map, key, value, 0) })
    }

    /// Puts several values at once. On failure, says how many were put.
    pub fn put_all(&self, keys: &[K], values: &[V]) -> Result<(), (usize, io::Error)> {
        let mut put = 0;
        let done = patiently(|| {
            let (keys, values) = (&keys[put..], &values[put..]);
            // SAFETY: `new` has compared the sizes.
            let done = unsafe { sys::map_update_batch(self.fd.as_fd(), keys, values) };
            done.map_err(|(more, error)| {
                // A count that is left as it was says that none was put.
                put += if more < keys.len() { more } else { 0 };
                error
            })
        });
        done.map_err(|error| (put, error))
    }

    /// Reads a value.
    pub fn lookup(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = V::default();
        // SAFETY: `new` has compared the sizes.
        let found = unsafe { sys::map_lookup(self.fd.as_fd(), key, &mut value) }?;
        Ok(found.then_some(value))
    }

    /// Takes a key out; true if it was there.
    pub fn delete(&self, key: &K) -> io::Result<bool> {
        // SAFETY: `new` has compared the sizes.
        unsafe { sys::map_delete(self.fd.as_fd(), key) }
    }

    /// Visits every element. Those that come and go meanwhile may be seen, missed or seen twice.
    pub fn for_each(&self, visit: impl FnMut(&K, &V)) -> Result<(), Error> {
        self.for_each_of(1, visit_first(visit))
    }

    /// Puts everything that another map of this layout holds.
    pub fn take_over(&self, old: OwnedFd) -> Result<(), Error> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        Self::new(self.name, old)?.for_each(|key, value| {
            keys.push(*key);
            values.push(*value);
        })?;
        for (keys, values) in keys.chunks(4096).zip(values.chunks(4096)) {
            self.put_all(keys, values).map_err(|(_, source)| self.not_taken_over(source))?;
        }
        Ok(())
    }

    /// Puts what another map of this layout holds and this one does not.
    pub fn take_missing(&self, old: &Self) -> Result<(), Error> {
        let mut failed = Ok(());
        old.for_each(|key, value| {
            let value = sys::value_address(value);
            // SAFETY: `new` has compared the sizes.
            let put = unsafe { sys::map_update(self.fd.as_fd(), key, value, sys::NOEXIST) };
            if let Err(error) = exists_is_false(put)
                && failed.is_ok()
            {
                failed = Err(error);
            }
        })?;
        failed.map_err(|source| self.not_taken_over(source))
    }

    fn not_taken_over(&self, source: io::Error) -> Error {
        match source.raw_os_error() {
            Some(libc::E2BIG | libc::ENOSPC) => {
                let room = sys::map_info(self.fd.as_fd()).map_or(0, |info| info.max_entries);
                Error::TooSmall { map: self.name, wanted: room }
            }
            _ => Error::Map { map: self.name, action: "copy into", source },
        }
    }

    /// How many elements there are.
    pub fn count(&self) -> Result<usize, Error> {
        let mut count = 0;
        self.for_each(|_, _| count += 1)?;
        Ok(count)
    }

    fn for_each_of(&self, width: usize, visit: impl FnMut(&K, &[V])) -> Result<(), Error> {
        self.walk(width, visit).map_err(|source| Error::Map {
            map: self.name,
            action: "read",
            source,
        })
    }

    /// Reads in batches of values that are `width` wide. A trie begins again when the key it stands
    /// at is taken out, so the number of steps has a bound.
    fn walk(&self, width: usize, mut visit: impl FnMut(&K, &[V])) -> io::Result<()> {
        let most = sys::map_info(self.fd.as_fd())?.max_entries as usize;
        let mut size = most.clamp(1, 4096);
        let (mut cursor, mut seen) = (None, 0);
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        loop {
            keys.resize(size, K::default());
            values.resize(size * width, V::default());
            // SAFETY: `new` has compared the sizes; `width` is 1, or the number of CPUs where each
            // has a value.
            let answer = unsafe {
                sys::map_lookup_batch(self.fd.as_fd(), &mut cursor, &mut keys, &mut values)
            };
            let found = match answer {
                Ok(found) => found,
                // A bucket holds more than the batch does.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && size < 1 << 20 => {
                    size *= 2;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let values = values.chunks_exact(width);
            keys[..found.count].iter().zip(values).for_each(|(key, value)| visit(key, value));
            seen += found.count;
            if !found.more {
                return Ok(());
            }
            if seen > most.saturating_mul(4).saturating_add(4096) {
                return Err(io::Error::other("it changes faster than it can be read"));
            }
        }
    }
}

fn visit_first<K, V>(mut visit: impl FnMut(&K, &V)) -> impl FnMut(&K, &[V]) {
    move |key, values| visit(key, &values[0])
}

fn exists_is_false(answer: io::Result<()>) -> io::Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A map with a value for each possible CPU.
#[derive(Debug)]
pub(crate) struct PerCpuMap<K, V> {
    map: Map<K, V>,
    cpus: usize,
}

impl<K: Layout, V: Layout> PerCpuMap<K, V> {
    /// Opens the map of this name in a directory. Values are a multiple of 8 bytes long, as the
    /// kernel lays them out for each CPU.
    pub fn open(directory: &Path, name: &'static str) -> Result<Self, Error> {
        const { assert!(size_of::<V>().is_multiple_of(8)) };
        let cpus = aya::util::nr_cpus().map_err(|(_, source)| Error::Map {
            map: name,
            action: "count the processors for",
            source,
        })?;
        Ok(Self { map: Map::open(directory, name)?, cpus })
    }

    /// Its descriptor.
    pub const fn fd(&self) -> &OwnedFd {
        &self.map.fd
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.map.name
    }

    /// Puts zeros, if the key is absent.
    pub fn put_zero(&self, key: &K) -> io::Result<bool> {
        let zeros = vec![V::default(); self.cpus];
        let value = sys::value_address(zeros.as_slice());
        // SAFETY: `Map::new` has compared the sizes, and there is a value for each CPU.
        exists_is_false(unsafe { sys::map_update(self.map.fd.as_fd(), key, value, sys::NOEXIST) })
    }

    /// Takes a key out; true if it was there.
    pub fn delete(&self, key: &K) -> io::Result<bool> {
        self.map.delete(key)
    }

    /// Reads the values of all CPUs; none if the key is absent.
    pub fn lookup(&self, key: &K) -> io::Result<Option<Vec<V>>> {
        let mut values = vec![V::default(); self.cpus];
        // SAFETY: `Map::new` has compared the sizes, and there is a value for each CPU.
        let found = unsafe { sys::map_lookup(self.map.fd.as_fd(), key, values.as_mut_slice()) }?;
        Ok(found.then_some(values))
    }

    /// Puts everything that another map of this layout holds.
    pub fn take_over(&self, old: OwnedFd) -> Result<(), Error> {
        let old = Self { map: Map::new(self.map.name, old)?, cpus: self.cpus };
        let mut failed = Ok(());
        old.for_each(|key, values| {
            let value = sys::value_address(values);
            // SAFETY: `Map::new` has compared the sizes, and there is a value for each CPU.
            let put = unsafe { sys::map_update(self.map.fd.as_fd(), key, value, 0) };
            if failed.is_ok() {
                failed = put;
            }
        })?;
        failed.map_err(|source| self.map.not_taken_over(source))
    }

    /// Visits every key with the values of all CPUs.
    pub fn for_each(&self, visit: impl FnMut(&K, &[V])) -> Result<(), Error> {
        self.map.for_each_of(self.cpus, visit)
    }
}
