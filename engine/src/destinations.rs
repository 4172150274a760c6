//! What the identities of addresses stand for, and which of them a selector or prefix is about.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::{Identity, Label, Labels, Prefix, Source};
use policy::{Altered, LabelSelector, Subject};

/// What an identity stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Addresses in the cluster that carry these labels.
    Inside(Labels),
    /// Addresses outside under a prefix, and what they carry.
    Outside(Prefix, Labels),
}

impl Destination {
    pub(crate) fn subject(&self) -> Subject<'_> {
        match self {
            Self::Inside(labels) => Subject::Labels(labels),
            Self::Outside(prefix, labels) => Subject::Outside { prefix: *prefix, labels },
        }
    }

    /// The identity that it has in every cluster, if it has one.
    pub(crate) fn fixed_identity(&self) -> Option<Identity> {
        match self {
            Self::Inside(labels) => fixed(labels),
            Self::Outside(prefix, labels) if labels.is_empty() => {
                let roots = [
                    (Prefix::all_ipv4(), Identity::WORLD_IPV4),
                    (Prefix::all_ipv6(), Identity::WORLD_IPV6),
                ];
                roots.into_iter().find(|(root, _)| root == prefix).map(|(_, identity)| identity)
            }
            Self::Outside(..) => None,
        }
    }
}

/// The identity that label sets of one reserved label have in every cluster.
fn fixed(labels: &Labels) -> Option<Identity> {
    let mut all = labels.iter();
    let (label, None) = (all.next()?, all.next()) else { return None };
    if label.source != Source::Reserved {
        return None;
    }
    match label.key.as_str() {
        "health" => Some(Identity::HEALTH),
        "host" => Some(Identity::HOST),
        "remote-node" => Some(Identity::REMOTE_NODE),
        "kube-apiserver" => Some(Identity::KUBE_APISERVER),
        "unmanaged" => Some(Identity::UNMANAGED),
        _ => None,
    }
}

/// All destinations that addresses have.
#[derive(Debug, Default)]
pub(crate) struct Destinations {
    all: BTreeMap<Identity, Known>,
    inside: Carriers,
    /// The identities of prefixes outside.
    outside: BTreeMap<Prefix, BTreeSet<Identity>>,
    /// Those that carry labels.
    marked: BTreeSet<Identity>,
}

#[derive(Debug)]
struct Known {
    destination: Destination,
    /// How many prefixes have it.
    prefixes: usize,
    /// Whether tables have been asked about it.
    served: bool,
}

impl Destinations {
    pub(crate) fn get(&self, identity: Identity) -> Option<&Destination> {
        self.all.get(&identity).map(|known| &known.destination)
    }

    /// Whether some prefix has it.
    pub(crate) fn is_used(&self, identity: Identity) -> bool {
        self.all.get(&identity).is_some_and(|known| known.prefixes > 0)
    }

    /// One prefix more has it; whether it is the only one.
    pub(crate) fn add(&mut self, identity: Identity, destination: Destination) -> bool {
        if let Some(known) = self.all.get_mut(&identity) {
            known.prefixes += 1;
            return known.prefixes == 1;
        }
        match &destination {
            Destination::Inside(labels) => self.inside.insert(identity, labels),
            Destination::Outside(prefix, labels) => {
                self.outside.entry(*prefix).or_default().insert(identity);
                if !labels.is_empty() {
                    self.marked.insert(identity);
                }
            }
        }
        self.all.insert(identity, Known { destination, prefixes: 1, served: false });
        true
    }

    /// Whether tables are to be asked about it for the first time.
    pub(crate) fn serve(&mut self, identity: Identity) -> bool {
        let Some(known) = self.all.get_mut(&identity) else { return false };
        let first = known.prefixes > 0 && !known.served;
        known.served |= first;
        first
    }

    /// One prefix less has it. It stays known until it is [removed](Self::remove).
    pub(crate) fn subtract(&mut self, identity: Identity) {
        if let Some(known) = self.all.get_mut(&identity) {
            known.prefixes = known.prefixes.saturating_sub(1);
        }
    }

    pub(crate) fn remove(&mut self, identity: Identity) -> Option<Destination> {
        let known = self.all.remove(&identity)?;
        match &known.destination {
            Destination::Inside(labels) => self.inside.remove(identity, labels),
            Destination::Outside(prefix, _) => {
                if let Some(identities) = self.outside.get_mut(prefix) {
                    identities.remove(&identity);
                    if identities.is_empty() {
                        self.outside.remove(prefix);
                    }
                }
                self.marked.remove(&identity);
            }
        }
        Some(known.destination)
    }

    /// The destinations of which a table may say something else, beside what it says of all.
    pub(crate) fn concerning(&self, altered: &Altered) -> BTreeSet<Identity> {
        let mut found: BTreeSet<Identity> = if altered.inside {
            self.inside.all.clone()
        } else {
            let selectors = altered.selectors.iter();
            selectors.flat_map(|selector| self.inside.candidates(selector)).collect()
        };
        if altered.is_about_all_outside() {
            found.extend(self.outside.values().flatten());
            return found;
        }
        if altered.inside || !altered.selectors.is_empty() {
            found.extend(&self.marked);
        }
        found.extend(altered.prefixes.iter().flat_map(|prefix| self.within(*prefix)));
        found
    }

    fn within(&self, prefix: Prefix) -> impl Iterator<Item = Identity> {
        let from = self.outside.range(prefix..);
        let within = from.take_while(move |(own, _)| prefix.covers(own.address()));
        within.filter(move |(own, _)| prefix.contains(**own)).flat_map(|(_, own)| own).copied()
    }
}

/// Identities by the labels that they stand for.
#[derive(Debug, Default)]
struct Carriers {
    all: BTreeSet<Identity>,
    /// By key and value.
    by_label: HashMap<String, HashMap<String, BTreeSet<Identity>>>,
}

impl Carriers {
    fn insert(&mut self, identity: Identity, labels: &Labels) {
        self.all.insert(identity);
        for Label { key, value, .. } in labels.iter() {
            let by_value = match self.by_label.get_mut(key) {
                Some(by_value) => by_value,
                None => self.by_label.entry(key.clone()).or_default(),
            };
            match by_value.get_mut(value) {
                Some(identities) => drop(identities.insert(identity)),
                None => drop(by_value.insert(value.clone(), [identity].into())),
            }
        }
    }

    fn remove(&mut self, identity: Identity, labels: &Labels) {
        self.all.remove(&identity);
        for Label { key, value, .. } in labels.iter() {
            let Some(by_value) = self.by_label.get_mut(key) else { continue };
            let Some(identities) = by_value.get_mut(value) else { continue };
            identities.remove(&identity);
            if identities.is_empty() {
                by_value.remove(value);
            }
            if by_value.is_empty() {
                self.by_label.remove(key);
            }
        }
    }

    /// All that a selector may match: those that carry one of the values of its narrowest key.
    fn candidates<'a>(
        &'a self,
        selector: &'a LabelSelector,
    ) -> Box<dyn Iterator<Item = Identity> + 'a> {
        let Some((key, values)) = selector.narrowest() else {
            return Box::new(self.all.iter().copied());
        };
        let by_value = self.by_label.get(key);
        let found = values.iter().filter_map(move |value| by_value?.get(value));
        Box::new(found.flatten().copied())
    }
}
