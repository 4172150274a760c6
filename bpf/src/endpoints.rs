//! Which interfaces are whose, and where each endpoint's flow tables are.
//!
//! The kernel's maps are the truth; what is kept of them here saves reading them whole for every
//! change. An interface stands at one of [`abi::ENDPOINT_PROBES`] places, an endpoint's tables at
//! its slot; both stay what they are until they are emptied and no running program can have seen
//! them, so that no program takes one endpoint's tables with another's rules.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bpf_abi as abi;
use model::{Direction, EndpointEntry, EndpointId, Interface, Prefix};

use crate::error::Fault;
use crate::flow_table::{Family, FlowTable, TableKind};
use crate::tables::Maps;
use crate::{Datapath, Error, Sizes, codec, sys};

/// The slot of interfaces that are bound to no endpoint: they have a budget and no flows.
const NOBODYS_SLOT: u32 = 0;

/// Keeps the places.
#[derive(Debug)]
pub(crate) struct Endpoints(Mutex<Bound>);

#[derive(Debug, Default)]
struct Bound {
    /// By interface.
    places: BTreeMap<Interface, Place>,
    taken: BTreeSet<u32>,
    /// By endpoint.
    homes: BTreeMap<EndpointId, Home>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    index: u32,
    endpoint: EndpointId,
}

#[derive(Debug)]
struct Home {
    slot: u32,
    tables: BTreeMap<TableKind, Arc<FlowTable>>,
}

impl Endpoints {
    /// Takes up what stands in the maps. A table that was pinned by a killed daemon and not yet
    /// linked is linked, one whose endpoint is gone is removed, and one of another size is replaced.
    pub fn restore(maps: &Maps, directory: &Path, sizes: &Sizes) -> Result<Self, Error> {
        let mut bound = Bound::default();
        maps.endpoints.for_each(|index, value| {
            if value.interface == 0 {
                return;
            }
            let endpoint = EndpointId(value.endpoint);
            bound.places.insert(Interface(value.interface), Place { index: *index, endpoint });
            bound.taken.insert(*index);
            let home = || Home { slot: value.slot, tables: BTreeMap::new() };
            bound.homes.entry(endpoint).or_insert_with(home);
        })?;
        for (endpoint, kind, path) in FlowTable::pinned(directory)? {
            let Some(home) = bound.homes.get_mut(&endpoint) else {
                FlowTable::unpin(&path)?;
                continue;
            };
            let mut table = FlowTable::open(&path, kind)?;
            link(maps, home.slot, kind, &table)?;
            if table.room()? != kind.room(sizes) {
                let resized = FlowTable::make(&path, kind, sizes)?;
                resized.take_over(&table)?;
                link(maps, home.slot, kind, &resized)?;
                // What has begun since.
                resized.take_over(&table)?;
                table = resized;
            }
            home.tables.insert(kind, Arc::new(table));
        }
        Ok(Self(Mutex::new(bound)))
    }

    fn lock(&self) -> MutexGuard<'_, Bound> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An endpoint's tables.
    pub fn tables(&self, endpoint: EndpointId) -> Vec<(TableKind, Arc<FlowTable>)> {
        let bound = self.lock();
        let tables = bound.homes.get(&endpoint).into_iter().flat_map(|home| &home.tables);
        tables.map(|(kind, table)| (*kind, Arc::clone(table))).collect()
    }

    /// All tables, with their endpoints and slots.
    pub fn all_tables(&self) -> Vec<(EndpointId, u32, TableKind, Arc<FlowTable>)> {
        let bound = self.lock();
        let homes = bound.homes.iter();
        homes
            .flat_map(|(endpoint, home)| {
                let own = home.tables.iter();
                own.map(|(kind, table)| (*endpoint, home.slot, *kind, Arc::clone(table)))
            })
            .collect()
    }
}

impl Bound {
    /// The place that an interface has, or could have.
    fn place_for(&self, interface: Interface) -> Option<u32> {
        if let Some(place) = self.places.get(&interface) {
            return Some(place.index);
        }
        let probes = 0..abi::ENDPOINT_PROBES;
        let mut places = probes.map(|i| interface.0.wrapping_add(i) & (abi::ENDPOINT_PLACES - 1));
        places.find(|index| !self.taken.contains(index))
    }

    fn free_slot(&self, slots: u32) -> Option<u32> {
        let taken: BTreeSet<u32> = self.homes.values().map(|home| home.slot).collect();
        (NOBODYS_SLOT + 1..=slots).find(|slot| !taken.contains(slot))
    }
}

impl Datapath {
    /// Binds an interface, or changes how it is judged.
    pub(crate) fn put_endpoint(
        &self,
        interface: Interface,
        entry: &EndpointEntry,
    ) -> Result<(), Fault> {
        let mut bound = self.endpoints.lock();
        let before = bound.places.get(&interface).map(|place| place.endpoint);
        if before.is_some_and(|before| before != entry.endpoint) {
            self.unbind(&mut bound, interface)?;
        }
        self.maps.counters.put_zero(&entry.endpoint.0).map_err(Fault::of_update)?;
        let slot = self.make_home(&mut bound, entry.endpoint)?;
        let index = bound.place_for(interface).ok_or(Fault::Full)?;
        let value = codec::endpoint(interface, entry, slot);
        self.maps.endpoints.put(&index, &value).map_err(Fault::of_update)?;
        bound.taken.insert(index);
        bound.places.insert(interface, Place { index, endpoint: entry.endpoint });
        Ok(())
    }

    /// Lets an interface go.
    pub(crate) fn delete_endpoint(&self, interface: Interface) -> Result<(), Fault> {
        self.unbind(&mut self.endpoints.lock(), interface)
    }

    /// Makes the table of a source's family, if the endpoint lives and has none.
    pub(crate) fn make_table_of(&self, endpoint: EndpointId, source: Prefix) -> Result<(), Fault> {
        let mut bound = self.endpoints.lock();
        match bound.homes.get_mut(&endpoint) {
            Some(home) => self.make_tables(endpoint, home, Family::of(source)),
            None => Ok(()),
        }
    }

    /// Empties an interface's place, and takes its endpoint's own maps away if that was the last.
    fn unbind(&self, bound: &mut Bound, interface: Interface) -> Result<(), Fault> {
        let Some(place) = bound.places.get(&interface).copied() else {
            return Ok(());
        };
        self.maps.endpoints.put(&place.index, &abi::Endpoint::default())?;
        self.wait_for_programs()?;
        bound.places.remove(&interface);
        bound.taken.remove(&place.index);
        let endpoint = place.endpoint;
        if bound.places.values().any(|other| other.endpoint == endpoint) {
            return Ok(());
        }
        if let Some(home) = bound.homes.get(&endpoint) {
            self.remove_tables(endpoint, home).map_err(Fault::of_maps)?;
            bound.homes.remove(&endpoint);
        }
        self.maps.counters.delete(&endpoint.0)?;
        Ok(())
    }

    /// The endpoint's slot, with a table for each family that it has a source of.
    fn make_home(&self, bound: &mut Bound, endpoint: EndpointId) -> Result<u32, Fault> {
        if let Some(home) = bound.homes.get(&endpoint) {
            return Ok(home.slot);
        }
        let slot = bound.free_slot(self.sizes.endpoints).ok_or(Fault::Full)?;
        let mut home = Home { slot, tables: BTreeMap::new() };
        // What a killed daemon may have left there.
        for kind in TableKind::ALL {
            kind.outer(&self.maps).delete(&kind.index(slot))?;
        }
        let mut families = BTreeSet::new();
        let visit = |key: &abi::EndpointAddress, _: &u32| {
            if key.endpoint == endpoint.0 {
                families.extend(codec::to_source(key).map(|(_, source)| Family::of(source)));
            }
        };
        self.maps.sources.for_each(visit).map_err(Fault::of_maps)?;
        for family in families {
            self.make_tables(endpoint, &mut home, family)?;
        }
        bound.homes.insert(endpoint, home);
        Ok(slot)
    }

    fn make_tables(
        &self,
        endpoint: EndpointId,
        home: &mut Home,
        family: Family,
    ) -> Result<(), Fault> {
        for direction in [Direction::Outbound, Direction::Inbound] {
            let kind = TableKind { family, direction };
            if home.tables.contains_key(&kind) {
                continue;
            }
            let path = self.flow_pin(endpoint, kind);
            let table = FlowTable::make(&path, kind, &self.sizes).map_err(Fault::of_maps)?;
            link(&self.maps, home.slot, kind, &table).map_err(Fault::of_maps)?;
            home.tables.insert(kind, Arc::new(table));
        }
        Ok(())
    }

    fn remove_tables(&self, endpoint: EndpointId, home: &Home) -> Result<(), Error> {
        for kind in home.tables.keys() {
            let deleted = kind.outer(&self.maps).delete(&kind.index(home.slot));
            deleted.map_err(|source| Error::Map { map: kind.map(), action: "write", source })?;
            FlowTable::unpin(&self.flow_pin(endpoint, *kind))?;
        }
        Ok(())
    }

    fn flow_pin(&self, endpoint: EndpointId, kind: TableKind) -> PathBuf {
        FlowTable::pin(&self.directory, endpoint, kind)
    }

    /// Returns when every program that runs now has ended: the kernel sees to that when a map of
    /// maps is written. The table that is written is nobody's.
    fn wait_for_programs(&self) -> Result<(), Fault> {
        let kind = TableKind { family: Family::V4, direction: Direction::Outbound };
        let table = FlowTable::nobodys(kind)?;
        let descriptor = table.fd().as_raw_fd().cast_unsigned();
        let written = self.maps.flows4.put(&kind.index(NOBODYS_SLOT), &descriptor);
        written.map_err(Fault::of_update)
    }
}

/// Puts a table at its place, unless it stands there.
fn link(maps: &Maps, slot: u32, kind: TableKind, table: &FlowTable) -> Result<(), Error> {
    let failed = |action| move |source| Error::Map { map: kind.map(), action, source };
    let outer = kind.outer(maps);
    let info = sys::map_info(table.fd().as_fd()).map_err(failed("read"))?;
    if outer.lookup(&kind.index(slot)).map_err(failed("read"))? == Some(info.id) {
        return Ok(());
    }
    let descriptor = table.fd().as_raw_fd().cast_unsigned();
    outer.put(&kind.index(slot), &descriptor).map_err(failed("write"))
}
