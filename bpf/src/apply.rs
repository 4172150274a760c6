//! Carries the engine's changes into the maps, in their order.
//!
//! But for endpoints and their sources, nothing is locked and nothing allocated: each change is one
//! bpf(2) call on the caller's thread, and a run of leases is one call for up to [`BATCH`] of them.
//! An endpoint's flow tables, counters and budget are made before its first interface and go with
//! its last.

use std::net::IpAddr;

use bpf_abi as abi;
use model::{Change, EndpointEntry, EndpointId, Enforcement, LeaseEntry, TableId};

use crate::error::{ApplyError, Fault};
use crate::{Datapath, codec};

/// How many leases are put by one call.
const BATCH: usize = 32;

impl Datapath {
    /// Makes the changes, in order. Those before a failed one stay made; making them again does no
    /// harm.
    ///
    /// Any change may come from any thread at any time.
    pub fn apply(&self, changes: &[Change]) -> Result<(), ApplyError> {
        let mut index = 0;
        while let Some(change) = changes.get(index) {
            let leases = changes[index..].iter().map_while(as_lease).take(BATCH).count();
            if leases > 1 {
                self.put_leases(&changes[index..index + leases]).map_err(|(put, fault)| {
                    ApplyError { index: index + put, map: "leases", fault }
                })?;
                index += leases;
                continue;
            }
            self.apply_one(change).map_err(|fault| ApplyError {
                index,
                map: map_of(change),
                fault,
            })?;
            index += 1;
        }
        Ok(())
    }

    fn apply_one(&self, change: &Change) -> Result<(), Fault> {
        let maps = &self.maps;
        match change {
            Change::PutEndpoint(interface, entry) => {
                check_numbers(entry)?;
                self.put_endpoint(*interface, entry)
            }
            Change::DeleteEndpoint(interface) => self.delete_endpoint(*interface),
            Change::PutSource(endpoint, prefix) => {
                let key = codec::source_key(*endpoint, *prefix)?;
                put(maps.sources.put(&key, &key.bits))?;
                self.make_table_of(*endpoint, *prefix)
            }
            Change::DeleteSource(endpoint, prefix) => {
                deleted(maps.sources.delete(&codec::source_key(*endpoint, *prefix)?))
            }
            Change::PutPrefix(prefix, identity) => {
                let key = codec::prefix_key(*prefix)?;
                put(maps
                    .prefixes
                    .put(&key, &abi::PrefixEntry { identity: identity.0, bits: key.bits }))
            }
            Change::DeletePrefix(prefix) => {
                deleted(maps.prefixes.delete(&codec::prefix_key(*prefix)?))
            }
            Change::PutFrontend(frontend, identity) => {
                put(maps.frontends.put(&codec::frontend_key(frontend), &identity.0))
            }
            Change::DeleteFrontend(frontend) => {
                deleted(maps.frontends.delete(&codec::frontend_key(frontend)))
            }
            Change::PutRow(row, ruling) => {
                put(maps.rows.put(&codec::row_key(row), &ruling.number()))
            }
            Change::DeleteRow(row) => deleted(maps.rows.delete(&codec::row_key(row))),
            Change::PutName(endpoint, number, name) => {
                let key = codec::name_key(*endpoint, *number);
                put(maps.names.put(&key, &codec::name(name.as_ref())))
            }
            Change::DeleteName(endpoint, number) => {
                deleted(maps.names.delete(&codec::name_key(*endpoint, *number)))
            }
            Change::PutLease(endpoint, address, entry) => {
                put(maps.leases.put(&codec::lease_key(*endpoint, *address), &codec::lease(entry)))
            }
            Change::DeleteLease(endpoint, address) => {
                deleted(maps.leases.delete(&codec::lease_key(*endpoint, *address)))
            }
            Change::PutShared(endpoint, address, number, expires) => {
                let key = codec::shared_key(*endpoint, *address, *number);
                put(maps.shared.put(&key, &expires.as_nanos()))
            }
            Change::DeleteShared(endpoint, address, number) => {
                deleted(maps.shared.delete(&codec::shared_key(*endpoint, *address, *number)))
            }
            Change::PutNumber(kind, number, digest) => {
                put(maps.numbers.put(&codec::number_key(*kind, *number), &codec::digest(digest)))
            }
            Change::DeleteNumber(kind, number) => {
                deleted(maps.numbers.delete(&codec::number_key(*kind, *number)))
            }
        }
    }

    /// Puts a run of leases; on failure, says how many were put.
    fn put_leases(&self, changes: &[Change]) -> Result<(), (usize, Fault)> {
        let mut keys = [abi::EndpointAddress::default(); BATCH];
        let mut values = [abi::Lease::default(); BATCH];
        let mut count = 0;
        for (endpoint, address, entry) in changes.iter().map_while(as_lease) {
            keys[count] = codec::lease_key(endpoint, address);
            values[count] = codec::lease(entry);
            count += 1;
        }
        self.maps
            .leases
            .put_all(&keys[..count], &values[..count])
            .map_err(|(put, error)| (put.min(count - 1), Fault::of_update(error)))
    }
}

/// Numbers that mean something else in the kernel.
fn check_numbers(entry: &EndpointEntry) -> Result<(), Fault> {
    if entry.endpoint == EndpointId(0) {
        return Err(Fault::Reserved("endpoint"));
    }
    match entry.enforcement {
        Enforcement::Table(TableId(abi::ENFORCEMENT_NONE | abi::ENFORCEMENT_OPEN..)) => {
            Err(Fault::Reserved("table"))
        }
        Enforcement::Open | Enforcement::Table(_) | Enforcement::Closed(_) => Ok(()),
    }
}

fn as_lease(change: &Change) -> Option<(EndpointId, IpAddr, &LeaseEntry)> {
    match change {
        Change::PutLease(endpoint, address, entry) => Some((*endpoint, *address, entry)),
        _ => None,
    }
}

fn put(answer: std::io::Result<()>) -> Result<(), Fault> {
    answer.map_err(Fault::of_update)
}

/// What is not there need not be taken out.
fn deleted(answer: std::io::Result<bool>) -> Result<(), Fault> {
    answer.map(drop).map_err(Fault::Kernel)
}

const fn map_of(change: &Change) -> &'static str {
    match change {
        Change::PutEndpoint(..) | Change::DeleteEndpoint(..) => "endpoints",
        Change::PutSource(..) | Change::DeleteSource(..) => "sources",
        Change::PutPrefix(..) | Change::DeletePrefix(..) => "prefixes",
        Change::PutFrontend(..) | Change::DeleteFrontend(..) => "frontends",
        Change::PutRow(..) | Change::DeleteRow(..) => "rows",
        Change::PutName(..) | Change::DeleteName(..) => "names",
        Change::PutLease(..) | Change::DeleteLease(..) => "leases",
        Change::PutShared(..) | Change::DeleteShared(..) => "shared",
        Change::PutNumber(..) | Change::DeleteNumber(..) => "numbers",
    }
}
