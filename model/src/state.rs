//! The content of all maps as values: what a dump of the kernel gives, and what changes make of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::{
    Change, Digest, EndpointEntry, EndpointId, Frontend, Identity, Interface, LeaseEntry, Moment,
    Name, NameNumber, NumberKind, Prefix, Row, Ruling,
};

/// The content of the kernel's maps, but for flows and counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Interfaces and their endpoints.
    pub endpoints: BTreeMap<Interface, EndpointEntry>,
    /// Legal source addresses.
    pub sources: BTreeMap<(EndpointId, Prefix), ()>,
    /// Identities of prefixes.
    pub prefixes: BTreeMap<Prefix, Identity>,
    /// Identities of service frontends.
    pub frontends: BTreeMap<Frontend, Identity>,
    /// Verdict tables.
    pub rows: BTreeMap<Row, Ruling>,
    /// Names by endpoint and number.
    pub names: BTreeMap<(EndpointId, NameNumber), Name>,
    /// Resolved addresses.
    pub leases: BTreeMap<(EndpointId, IpAddr), LeaseEntry>,
    /// The names of addresses that several names share, with each one's expiry.
    pub shared: BTreeMap<(EndpointId, IpAddr, NameNumber), Moment>,
    /// What numbers stand for.
    pub numbers: BTreeMap<(NumberKind, u32), Digest>,
}

impl State {
    /// Carries out one change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::PutEndpoint(interface, entry) => {
                self.endpoints.insert(*interface, *entry);
            }
            Change::DeleteEndpoint(interface) => {
                self.endpoints.remove(interface);
            }
            Change::PutSource(endpoint, prefix) => {
                self.sources.insert((*endpoint, *prefix), ());
            }
            Change::DeleteSource(endpoint, prefix) => {
                self.sources.remove(&(*endpoint, *prefix));
            }
            Change::PutPrefix(prefix, identity) => {
                self.prefixes.insert(*prefix, *identity);
            }
            Change::DeletePrefix(prefix) => {
                self.prefixes.remove(prefix);
            }
            Change::PutFrontend(frontend, identity) => {
                self.frontends.insert(*frontend, *identity);
            }
            Change::DeleteFrontend(frontend) => {
                self.frontends.remove(frontend);
            }
            Change::PutRow(row, ruling) => {
                self.rows.insert(*row, *ruling);
            }
            Change::DeleteRow(row) => {
                self.rows.remove(row);
            }
            Change::PutName(endpoint, number, name) => {
                self.names.insert((*endpoint, *number), name.clone());
            }
            Change::DeleteName(endpoint, number) => {
                self.names.remove(&(*endpoint, *number));
            }
            Change::PutLease(endpoint, address, lease) => {
                self.leases.insert((*endpoint, *address), *lease);
            }
            Change::DeleteLease(endpoint, address) => {
                self.leases.remove(&(*endpoint, *address));
            }
            Change::PutShared(endpoint, address, number, expires) => {
                self.shared.insert((*endpoint, *address, *number), *expires);
            }
            Change::DeleteShared(endpoint, address, number) => {
                self.shared.remove(&(*endpoint, *address, *number));
            }
            Change::PutNumber(kind, number, digest) => {
                self.numbers.insert((*kind, *number), *digest);
            }
            Change::DeleteNumber(kind, number) => {
                self.numbers.remove(&(*kind, *number));
            }
        }
    }
}
