//! The prefixes that a table's rules name, and what they grant to the addresses under each.

use std::sync::Arc;

use imbl::OrdMap;
use model::Prefix;

use crate::counted::Bag;
use crate::table::GrantId;

/// What the rules say of a prefix, unless an address lies in one of the exceptions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PrefixGrant {
    pub(super) grant: GrantId,
    pub(super) except: Arc<[Prefix]>,
}

/// Prefixes, those too that are named as exceptions alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefixes {
    all: OrdMap<Prefix, Named>,
    /// The lengths in use, by family.
    lengths: Bag<(bool, u8)>,
}

#[derive(Clone, Debug, Default)]
struct Named {
    /// How often it is named.
    times: usize,
    grants: Bag<PrefixGrant>,
}

impl PrefixGrant {
    fn is_about(&self, prefix: Prefix) -> bool {
        !self.except.iter().any(|own| own.contains(prefix))
    }
}

impl Prefixes {
    /// A prefix is named once more; whether it was not before.
    pub(super) fn acquire(&mut self, prefix: Prefix) -> bool {
        let named = self.all.entry(prefix).or_default();
        named.times += 1;
        let is_first = named.times == 1;
        if is_first {
            self.lengths.insert(shape(prefix));
        }
        is_first
    }

    /// A prefix to which nothing is granted is named once less; whether it is not any more.
    pub(super) fn release(&mut self, prefix: Prefix) -> bool {
        let Some(named) = self.all.get_mut(&prefix) else { return false };
        named.times -= 1;
        let is_last = named.times == 0;
        if is_last {
            self.all.remove(&prefix);
            self.lengths.remove(&shape(prefix));
        }
        is_last
    }

    /// Grants something once more to a prefix that is named; whether it was not granted before.
    pub(super) fn grant(&mut self, prefix: Prefix, grant: PrefixGrant) -> bool {
        self.all.get_mut(&prefix).is_some_and(|named| named.grants.insert(grant))
    }

    /// Takes that back once; whether it is not granted any more.
    pub(super) fn withdraw(&mut self, prefix: Prefix, grant: &PrefixGrant) -> bool {
        self.all.get_mut(&prefix).is_some_and(|named| named.grants.remove(grant))
    }

    /// What is granted to all addresses under a prefix.
    pub(super) fn grants_over(&self, prefix: Prefix) -> impl Iterator<Item = GrantId> {
        let (is_ipv6, length) = shape(prefix);
        let lengths = self.lengths.iter().filter(move |own| own.0 == is_ipv6 && own.1 <= length);
        let wider = lengths.filter_map(move |own| Prefix::new(prefix.address(), own.1));
        let named = wider.filter_map(|own| self.all.get(&own));
        let grants = named.flat_map(|named| named.grants.iter());
        grants.filter(move |own| own.is_about(prefix)).map(|own| own.grant)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Prefix> {
        self.all.keys().copied()
    }
}

fn shape(prefix: Prefix) -> (bool, u8) {
    (prefix.address().is_ipv6(), prefix.length())
}
