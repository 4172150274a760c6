//! The machine beside a kernel: every change is applied to a [`State`] as soon as it is emitted,
//! and what must hold in between is checked after each.

mod limits;
mod random;
mod restart;
mod script;
mod vectors;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use model::{
    Change, EndpointId, Identity, LeaseEntry, Moment, Name, NameNumber, NameRef, PortPrefix, Row,
    State, TableId, Verdict,
};

use super::{Leases, Limits, NameSets, SetsFull};

const POD: EndpointId = EndpointId(7);
const TABLE: TableId = TableId(1);

/// No floor, no grace, large bounds: what a test says is what happens.
const PLAIN: Limits = Limits {
    min_ttl: 0,
    max_ttl: 86_400,
    grace: Duration::ZERO,
    addresses_per_name: 1000,
    kept_per_name: 1000,
    names: 1000,
    addresses: 1000,
    recheck: Duration::from_secs(30),
    ahead: Duration::ZERO,
};

/// Name sets over selectors such as `a.b` and `*.b`.
#[derive(Clone, Default)]
struct Selectors {
    selectors: BTreeSet<String>,
    sets: BTreeMap<BTreeSet<String>, Identity>,
    limit: Option<usize>,
}

impl Selectors {
    fn new(selectors: &[&str]) -> Self {
        Self {
            selectors: selectors.iter().map(|text| (*text).to_owned()).collect(),
            ..Self::default()
        }
    }

    fn members(&self, name: NameRef<'_>) -> BTreeSet<String> {
        let text = name.to_string();
        let text = text.trim_end_matches('.');
        let matches = |selector: &&String| match selector.strip_prefix('*') {
            Some(suffix) => text.ends_with(suffix),
            None => text == *selector,
        };
        self.selectors.iter().filter(matches).cloned().collect()
    }

    fn members_of(&self, set: Identity) -> &BTreeSet<String> {
        self.sets.iter().find(|(_, identity)| **identity == set).expect("a set handed out").0
    }

    fn intern(
        &mut self,
        members: BTreeSet<String>,
        changes: &mut Vec<Change>,
    ) -> Result<Identity, SetsFull> {
        if let Some(&set) = self.sets.get(&members) {
            return Ok(set);
        }
        if self.limit.is_some_and(|limit| self.sets.len() >= limit) {
            return Err(SetsFull);
        }
        let set = set(u32::try_from(self.sets.len()).unwrap());
        self.sets.insert(members, set);
        changes.push(Change::PutRow(row(set), Verdict::Allow.into()));
        Ok(set)
    }
}

impl NameSets for Selectors {
    fn set_of(
        &mut self,
        name: NameRef<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<Option<Identity>, SetsFull> {
        let members = self.members(name);
        if members.is_empty() { Ok(None) } else { self.intern(members, changes).map(Some) }
    }

    fn union(
        &mut self,
        a: Identity,
        b: Identity,
        changes: &mut Vec<Change>,
    ) -> Result<Identity, SetsFull> {
        self.intern(self.members_of(a) | self.members_of(b), changes)
    }
}

/// A pod, its policy, and what the kernel has of it.
struct Pod {
    leases: Leases,
    sets: Selectors,
    kernel: State,
    /// What the last event emitted.
    changes: Vec<Change>,
}

impl Pod {
    fn new(limits: Limits, selectors: &[&str]) -> Self {
        Self {
            leases: Leases::new(POD, limits),
            sets: Selectors::new(selectors),
            kernel: State::default(),
            changes: Vec::new(),
        }
    }

    fn answer(
        &mut self,
        at: u64,
        name: &str,
        addresses: &[(u8, u32)],
    ) -> Result<super::Learned, SetsFull> {
        let addresses: Vec<(IpAddr, u32)> =
            addresses.iter().map(|&(last, ttl)| (address(last), ttl)).collect();
        let now = Moment::from_secs(at);
        let mut changes = Vec::new();
        let learned = self.leases.handle_answer(
            name_of(name).as_ref(),
            &addresses,
            now,
            &mut self.sets,
            &mut changes,
        );
        self.apply(changes);
        learned
    }

    /// Lets time pass to `at`, looking at it only then.
    fn wait(&mut self, at: u64, live: &[u8]) {
        let is_live = |candidate: &IpAddr| live.iter().any(|&last| address(last) == *candidate);
        let mut changes = Vec::new();
        self.leases.handle_timeout(Moment::from_secs(at), is_live, &mut self.sets, &mut changes);
        self.apply(changes);
    }

    fn forget(&mut self, name: &str) -> usize {
        let mut changes = Vec::new();
        let wanted = name_of(name);
        let count =
            self.leases.forget(|name| name == wanted.as_ref(), &mut self.sets, &mut changes);
        self.apply(changes);
        count
    }

    fn rejudge(&mut self, selectors: &[&str]) -> Result<(), SetsFull> {
        self.sets.selectors = Selectors::new(selectors).selectors;
        let mut changes = Vec::new();
        let result = self.leases.rejudge(&mut self.sets, &mut changes);
        self.apply(changes);
        result
    }

    fn settle(&mut self) {
        let mut changes = Vec::new();
        self.leases.settle(&mut changes);
        self.apply(changes);
    }

    /// Takes the changes over one by one, as the datapath does.
    fn apply(&mut self, changes: Vec<Change>) {
        for change in &changes {
            let before = self.kernel.clone();
            self.kernel.apply(change);
            assert!(before != self.kernel, "{change:?} changes nothing");
            check(&self.kernel, change);
        }
        self.changes = changes;
    }

    fn lease(&self, last: u8) -> Option<LeaseEntry> {
        self.kernel.leases.get(&(POD, address(last))).copied()
    }

    /// The last bytes of the addresses that the kernel has.
    fn addresses(&self) -> Vec<u8> {
        self.kernel
            .leases
            .keys()
            .map(|(_, address)| match address {
                IpAddr::V4(address) => address.octets()[3],
                IpAddr::V6(address) => address.octets()[15],
            })
            .collect()
    }

    fn names_of(&self, last: u8) -> Vec<String> {
        self.leases.names_of(address(last)).map(|name| name.to_string()).collect()
    }
}

/// What holds after every single change.
fn check(kernel: &State, change: &Change) {
    for (&(_, address), lease) in &kernel.leases {
        for set in lease.sets.into_iter().flatten() {
            assert!(kernel.rows.contains_key(&row(set)), "{change:?}: {address} has no rows");
        }
        assert!(lease.sets != [None; 2], "{change:?}: {address} has no set");
        if lease.name == NameNumber::SHARED {
            let rows = kernel.shared.keys().filter(|key| key.1 == address).count();
            assert!(rows >= 2, "{change:?}: {address} is shared by {rows}");
        } else {
            assert!(kernel.names.contains_key(&(POD, lease.name)), "{change:?}: unnamed {address}");
        }
    }
    for &(_, address, number) in kernel.shared.keys() {
        assert!(kernel.names.contains_key(&(POD, number)), "{change:?}: unnamed at {address}");
    }
}

/// What holds between two events.
fn check_settled(kernel: &State) {
    for &(endpoint, address, _) in kernel.shared.keys() {
        let lease = kernel.leases.get(&(endpoint, address));
        assert!(lease.is_some_and(|lease| lease.name == NameNumber::SHARED), "{address}");
        let expires = kernel.shared.iter().filter(|(key, _)| key.1 == address).map(|(_, at)| at);
        assert_eq!(lease.map(|lease| lease.expires), expires.max().copied());
    }
    for &(_, number) in kernel.names.keys() {
        let single = kernel.leases.values().any(|lease| lease.name == number);
        let shared = kernel.shared.keys().any(|key| key.2 == number);
        assert!(single || shared, "{number} names nothing");
    }
}

fn row(identity: Identity) -> Row {
    Row { table: TABLE, identity, ports: PortPrefix::Any }
}

fn set(index: u32) -> Identity {
    Identity(Identity::first(model::Scope::Names).0 + index)
}

/// Addresses from 128 on are IPv6.
fn address(last: u8) -> IpAddr {
    if last < 128 {
        Ipv4Addr::new(192, 0, 2, last).into()
    } else {
        std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()).into()
    }
}

fn name_of(text: &str) -> Name {
    text.parse().unwrap()
}

fn seconds(at: u64) -> Moment {
    Moment::from_secs(at)
}

fn lease(sets: &[u32], name: u32, expires: u64) -> LeaseEntry {
    let sets = [0, 1].map(|place| sets.get(place).map(|&index| set(index)));
    LeaseEntry { sets, name: NameNumber(name), expires: seconds(expires) }
}
