//! The maps: what each must be, and all of them opened.
//!
//! [`SPECS`] is compared with every pinned map before it is used: the loader opens a map of another
//! layout without complaint.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bpf_abi as abi;

use crate::map::{Map, PerCpuMap};
use crate::sys::{self, kind};
use crate::{Error, Sizes};

/// What a map must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    pub name: &'static str,
    pub kind: u32,
    pub key_size: usize,
    pub value_size: usize,
    pub flags: u32,
    /// How many elements it takes.
    pub entries: fn(&Sizes) -> u32,
}

const fn spec<K, V>(name: &'static str, kind: u32, flags: u32, entries: fn(&Sizes) -> u32) -> Spec {
    Spec { name, kind, key_size: size_of::<K>(), value_size: size_of::<V>(), flags, entries }
}

/// Every pinned map.
pub(crate) const SPECS: [Spec; 16] = [
    spec::<u32, abi::Settings>("settings", kind::ARRAY, 0, |_| 1),
    spec::<u32, abi::Endpoint>("endpoints", kind::ARRAY, 0, |_| abi::ENDPOINT_PLACES),
    spec::<abi::EndpointAddress, u32>("sources", kind::LPM_TRIE, sys::NO_PREALLOC, |s| s.sources),
    spec::<abi::AddressPrefix, abi::PrefixEntry>(
        "prefixes",
        kind::LPM_TRIE,
        sys::NO_PREALLOC,
        |s| s.prefixes,
    ),
    spec::<abi::Frontend, u32>("frontends", kind::HASH, sys::NO_PREALLOC, |s| s.frontends),
    spec::<abi::Row, u32>("rows", kind::LPM_TRIE, sys::NO_PREALLOC, |s| s.rows),
    spec::<abi::EndpointAddress, abi::Lease>("leases", kind::LPM_TRIE, sys::NO_PREALLOC, |s| {
        s.leases
    }),
    spec::<abi::Shared, u64>("shared", kind::HASH, sys::NO_PREALLOC, |s| s.shared),
    spec::<abi::Pair, abi::Name>("names", kind::HASH, sys::NO_PREALLOC, |s| s.names),
    spec::<abi::Pair, abi::Digest>("numbers", kind::HASH, sys::NO_PREALLOC, |s| s.numbers),
    spec::<u32, u32>("flows4", kind::ARRAY_OF_MAPS, 0, tables_of_flows),
    spec::<u32, u32>("flows6", kind::ARRAY_OF_MAPS, 0, tables_of_flows),
    spec::<abi::Fragment, abi::FragmentEntry>("fragments", kind::LRU_HASH, 0, |s| s.fragments),
    spec::<u32, abi::Counters>("counters", kind::PERCPU_HASH, sys::NO_PREALLOC, |s| {
        s.endpoints.saturating_add(1)
    }),
    spec::<u32, abi::Budget>("budgets", kind::ARRAY, 0, |s| s.endpoints.saturating_add(1)),
    spec::<(), ()>("events", kind::RINGBUF, 0, |s| s.ring_bytes),
];

/// Two for each slot, nobody's included.
const fn tables_of_flows(sizes: &Sizes) -> u32 {
    sizes.endpoints.saturating_add(1).saturating_mul(2)
}

/// How a pinned map compares with what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    Same,
    OtherSize,
    OtherLayout,
}

impl Spec {
    /// How a map that was found fits.
    pub fn fit(&self, found: &sys::MapInfo, sizes: &Sizes) -> Fit {
        let layout = (found.kind, found.key_size, found.value_size, found.flags);
        let wanted = (self.kind, self.key_size as u32, self.value_size as u32, self.flags);
        if layout != wanted {
            Fit::OtherLayout
        } else if found.max_entries != (self.entries)(sizes) {
            Fit::OtherSize
        } else {
            Fit::Same
        }
    }
}

/// All typed maps.
#[derive(Debug)]
pub(crate) struct Maps {
    pub settings: Map<u32, abi::Settings>,
    pub endpoints: Map<u32, abi::Endpoint>,
    pub sources: Map<abi::EndpointAddress, u32>,
    pub prefixes: Map<abi::AddressPrefix, abi::PrefixEntry>,
    pub frontends: Map<abi::Frontend, u32>,
    pub rows: Map<abi::Row, u32>,
    pub leases: Map<abi::EndpointAddress, abi::Lease>,
    pub shared: Map<abi::Shared, u64>,
    pub names: Map<abi::Pair, abi::Name>,
    pub numbers: Map<abi::Pair, abi::Digest>,
    pub flows4: Map<u32, u32>,
    pub flows6: Map<u32, u32>,
    pub fragments: Map<abi::Fragment, abi::FragmentEntry>,
    pub counters: PerCpuMap<u32, abi::Counters>,
    budgets: Map<u32, abi::Budget>,
    events: OwnedFd,
}

impl Maps {
    /// Opens all of them in a directory.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        Ok(Self {
            settings: Map::open(directory, "settings")?,
            endpoints: Map::open(directory, "endpoints")?,
            sources: Map::open(directory, "sources")?,
            prefixes: Map::open(directory, "prefixes")?,
            frontends: Map::open(directory, "frontends")?,
            rows: Map::open(directory, "rows")?,
            leases: Map::open(directory, "leases")?,
            shared: Map::open(directory, "shared")?,
            names: Map::open(directory, "names")?,
            numbers: Map::open(directory, "numbers")?,
            flows4: Map::open(directory, "flows4")?,
            flows6: Map::open(directory, "flows6")?,
            fragments: Map::open(directory, "fragments")?,
            counters: PerCpuMap::open(directory, "counters")?,
            budgets: Map::open(directory, "budgets")?,
            events: sys::object_get(&directory.join("events")).map_err(|source| Error::Map {
                map: "events",
                action: "open",
                source,
            })?,
        })
    }

    /// The descriptor of one of [`SPECS`]' maps.
    pub fn descriptor(&self, name: &str) -> BorrowedFd<'_> {
        match name {
            "settings" => self.settings.fd().as_fd(),
            "endpoints" => self.endpoints.fd().as_fd(),
            "sources" => self.sources.fd().as_fd(),
            "prefixes" => self.prefixes.fd().as_fd(),
            "frontends" => self.frontends.fd().as_fd(),
            "rows" => self.rows.fd().as_fd(),
            "leases" => self.leases.fd().as_fd(),
            "shared" => self.shared.fd().as_fd(),
            "names" => self.names.fd().as_fd(),
            "numbers" => self.numbers.fd().as_fd(),
            "flows4" => self.flows4.fd().as_fd(),
            "flows6" => self.flows6.fd().as_fd(),
            "fragments" => self.fragments.fd().as_fd(),
            "counters" => self.counters.fd().as_fd(),
            "budgets" => self.budgets.fd().as_fd(),
            _ => self.events.as_fd(),
        }
    }

    /// Puts what a map of another size held into the one of its name. Tables of flows are linked
    /// by their own pins, and budgets and events are made anew.
    pub fn take_over(&self, name: &str, old: OwnedFd) -> Result<(), Error> {
        match name {
            "settings" => self.settings.take_over(old),
            "endpoints" => self.endpoints.take_over(old),
            "sources" => self.sources.take_over(old),
            "prefixes" => self.prefixes.take_over(old),
            "frontends" => self.frontends.take_over(old),
            "rows" => self.rows.take_over(old),
            "leases" => self.leases.take_over(old),
            "shared" => self.shared.take_over(old),
            "names" => self.names.take_over(old),
            "numbers" => self.numbers.take_over(old),
            "fragments" => self.fragments.take_over(old),
            "counters" => self.counters.take_over(old),
            _ => Ok(()),
        }
    }
}
