//! One table of an endpoint's flows: of a family and a direction, pinned under `flows/` beside its
//! place in the outer map, so that a restarted daemon finds it without leave to open maps by their
//! ids.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use bpf_abi as abi;
use model::{Direction, EndpointId, Prefix, Protocol};

use crate::map::Map;
use crate::sys::{self, kind};
use crate::tables::Maps;
use crate::{Error, Sizes, bpffs, codec};

/// The family of a flow's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// The family of a prefix.
    pub fn of(prefix: Prefix) -> Self {
        match prefix.address() {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// Which of an endpoint's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TableKind {
    pub direction: Direction,
    pub family: Family,
}

impl TableKind {
    /// All that an endpoint may have.
    pub const ALL: [Self; 4] = [
        Self { direction: Direction::Outbound, family: Family::V4 },
        Self { direction: Direction::Outbound, family: Family::V6 },
        Self { direction: Direction::Inbound, family: Family::V4 },
        Self { direction: Direction::Inbound, family: Family::V6 },
    ];

    /// The map of maps that it stands in.
    pub const fn map(self) -> &'static str {
        match self.family {
            Family::V4 => "flows4",
            Family::V6 => "flows6",
        }
    }

    /// The same, opened.
    pub const fn outer(self, maps: &Maps) -> &Map<u32, u32> {
        match self.family {
            Family::V4 => &maps.flows4,
            Family::V6 => &maps.flows6,
        }
    }

    /// Its place there.
    pub const fn index(self, slot: u32) -> u32 {
        slot * 2 + self.direction as u32
    }

    /// How many flows it takes.
    pub const fn room(self, sizes: &Sizes) -> u32 {
        match self.direction {
            Direction::Outbound => sizes.flows_out,
            Direction::Inbound => sizes.flows_in,
        }
    }

    /// What an endpoint's pin of it ends in.
    const fn suffix(self) -> &'static str {
        match (self.direction, self.family) {
            (Direction::Outbound, Family::V4) => "out4",
            (Direction::Outbound, Family::V6) => "out6",
            (Direction::Inbound, Family::V4) => "in4",
            (Direction::Inbound, Family::V6) => "in6",
        }
    }

    const fn key_size(self) -> usize {
        match self.family {
            Family::V4 => size_of::<abi::FlowKey4>(),
            Family::V6 => size_of::<abi::FlowKey6>(),
        }
    }
}

/// A flow's key, of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub protocol: Protocol,
}

/// A table.
#[derive(Debug)]
pub(crate) enum FlowTable {
    V4(Map<abi::FlowKey4, abi::Flow>),
    V6(Map<abi::FlowKey6, abi::Flow>),
}

impl FlowTable {
    /// Where an endpoint's table is pinned.
    pub fn pin(directory: &Path, endpoint: EndpointId, kind: TableKind) -> PathBuf {
        directory.join(format!("flows/{endpoint}-{}", kind.suffix()))
    }

    /// Every table that has a pin.
    pub fn pinned(directory: &Path) -> Result<Vec<(EndpointId, TableKind, PathBuf)>, Error> {
        let flows = directory.join("flows");
        let failed = |source| Error::Path { action: "read", path: flows.clone(), source };
        let mut found = Vec::new();
        for entry in fs::read_dir(&flows).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let pin = entry.file_name().to_str().and_then(Self::from_pin);
            found.extend(pin.map(|(endpoint, kind)| (endpoint, kind, entry.path())));
        }
        Ok(found)
    }

    fn from_pin(name: &str) -> Option<(EndpointId, TableKind)> {
        let (endpoint, suffix) = name.split_once('-')?;
        let kind = TableKind::ALL.into_iter().find(|kind| kind.suffix() == suffix)?;
        Some((EndpointId(endpoint.parse().ok()?), kind))
    }

    /// Opens a pinned table.
    pub fn open(path: &Path, kind: TableKind) -> Result<Self, Error> {
        let opened = sys::object_get(path);
        let fd = opened.map_err(|source| Error::Map { map: kind.map(), action: "open", source })?;
        Self::new(kind, fd)
    }

    /// Makes a table and pins it, in the place of what may be pinned there.
    pub fn make(path: &Path, kind: TableKind, sizes: &Sizes) -> Result<Self, Error> {
        let failed = |source| Error::Map { map: kind.map(), action: "make", source };
        let fd = create(kind, kind.room(sizes)).map_err(failed)?;
        let mut new = path.as_os_str().to_owned();
        new.push("-new");
        let new = PathBuf::from(new);
        Self::unpin(&new)?;
        bpffs::pin(fd.as_fd(), &new).and_then(|()| fs::rename(&new, path)).map_err(failed)?;
        Self::new(kind, fd)
    }

    /// Makes a table for no endpoint.
    pub fn nobodys(kind: TableKind) -> io::Result<Self> {
        Self::new(kind, create(kind, 1)?).map_err(io::Error::other)
    }

    /// Takes a pin away; one that is not there is no error.
    pub fn unpin(path: &Path) -> Result<(), Error> {
        match fs::remove_file(path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(Error::Path { action: "remove", path: path.to_owned(), source }),
        }
    }

    fn new(kind: TableKind, fd: OwnedFd) -> Result<Self, Error> {
        Ok(match kind.family {
            Family::V4 => Self::V4(Map::new(kind.map(), fd)?),
            Family::V6 => Self::V6(Map::new(kind.map(), fd)?),
        })
    }

    /// Its descriptor.
    pub const fn fd(&self) -> &OwnedFd {
        match self {
            Self::V4(map) => map.fd(),
            Self::V6(map) => map.fd(),
        }
    }

    /// How many flows it takes.
    pub fn room(&self) -> Result<u32, Error> {
        let info = sys::map_info(self.fd().as_fd());
        info.map(|info| info.max_entries).map_err(|source| Error::Map {
            map: "flows",
            action: "read",
            source,
        })
    }

    /// Puts the flows of another table that this one has not.
    pub fn take_over(&self, old: &Self) -> Result<(), Error> {
        match (self, old) {
            (Self::V4(own), Self::V4(old)) => own.take_missing(old),
            (Self::V6(own), Self::V6(old)) => own.take_missing(old),
            (Self::V4(_), Self::V6(_)) | (Self::V6(_), Self::V4(_)) => Ok(()),
        }
    }

    /// How many flows there are.
    pub fn count(&self) -> Result<usize, Error> {
        match self {
            Self::V4(map) => map.count(),
            Self::V6(map) => map.count(),
        }
    }

    /// Visits every flow.
    pub fn for_each(&self, mut visit: impl FnMut(&Key, &abi::Flow)) -> Result<(), Error> {
        match self {
            Self::V4(map) => map.for_each(|key, flow| visit(&Key::of_v4(key), flow)),
            Self::V6(map) => map.for_each(|key, flow| visit(&Key::of_v6(key), flow)),
        }
    }
}

impl Key {
    fn of_v4(key: &abi::FlowKey4) -> Self {
        let socket = |address, port: u16| {
            SocketAddr::new(Ipv4Addr::from_octets(address).into(), u16::from_be(port))
        };
        Self {
            local: socket(key.local, key.local_port_be),
            remote: socket(key.remote, key.remote_port_be),
            protocol: Protocol(key.protocol),
        }
    }

    fn of_v6(key: &abi::FlowKey6) -> Self {
        let socket =
            |address, port: u16| SocketAddr::new(codec::to_address(address), u16::from_be(port));
        Self {
            local: socket(key.local, key.local_port_be),
            remote: socket(key.remote, key.remote_port_be),
            protocol: Protocol(key.protocol),
        }
    }
}

fn create(kind: TableKind, entries: u32) -> io::Result<OwnedFd> {
    let (key, value) = (kind.key_size() as u32, size_of::<abi::Flow>() as u32);
    sys::map_create("flows", kind::LRU_HASH, key, value, entries, 0, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_names_the_table_that_it_is() {
        for kind in TableKind::ALL {
            let pin = FlowTable::pin(Path::new("/"), EndpointId(12), kind);
            let name = pin.file_name().and_then(|name| name.to_str()).unwrap();
            assert_eq!(FlowTable::from_pin(name), Some((EndpointId(12), kind)));
        }
        assert_eq!(FlowTable::from_pin("12-out5"), None);
        assert_eq!(FlowTable::from_pin("x-out4"), None);
    }
}
