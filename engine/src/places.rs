//! Identities of prefixes and frontends: what each means now, as the kernel's tries will have it.

use std::net::IpAddr;
use std::sync::Arc;

use model::{Identity, Labels, Prefix};

use crate::addresses::Meaning;
use crate::destinations::Destination;
use crate::inventory::Inventory;
use crate::node::Node;
use crate::plan::{InventoryProblem, PlanError};
use crate::world::Progress;

impl Node {
    /// Gives every touched prefix the identity of what it means.
    pub(crate) fn place_prefixes(&mut self, progress: &mut Progress) -> Result<(), PlanError> {
        for prefix in std::mem::take(&mut progress.prefixes) {
            if prefix.is_host() {
                self.note_claims(prefix.address(), progress);
            }
            let meaning = self.world.addresses.meaning(prefix);
            let old = self.ledger.prefixes.get(&prefix).copied();
            let new = match meaning {
                Some(meaning) => Some(self.identify(prefix, meaning, progress)?),
                None => None,
            };
            if let Some(old) = old {
                self.world.destinations.subtract(old);
                progress.identities.insert(old);
            }
            if new == old {
                continue;
            }
            progress.moved.insert(prefix);
            let snapshot = &mut self.world.snapshot;
            if let Some(identity) = new {
                self.ledger.prefixes.put(prefix, identity);
                snapshot.prefixes.insert(prefix, identity);
            } else {
                self.ledger.prefixes.remove(&prefix);
                snapshot.prefixes.remove(prefix);
            }
        }
        Ok(())
    }

    /// The identity of a meaning, with one prefix more.
    fn identify(
        &mut self,
        prefix: Prefix,
        meaning: Meaning,
        progress: &mut Progress,
    ) -> Result<Identity, PlanError> {
        let destination = match meaning {
            Meaning::Inside(labels) => Destination::Inside(labels),
            Meaning::Outside(labels) => Destination::Outside(prefix, labels),
            Meaning::NoService => return Ok(Identity::NO_SERVICE),
        };
        let identity = match destination.fixed_identity() {
            Some(identity) => identity,
            None => self.number(&destination)?,
        };
        if self.world.destinations.add(identity, destination) {
            progress.identities.insert(identity);
        }
        Ok(identity)
    }

    /// The number of a destination, which has one user as long as it is known.
    fn number(&mut self, destination: &Destination) -> Result<Identity, PlanError> {
        let (rosters, record) = (&mut self.rosters, &mut self.ledger.numbers);
        let number = match destination {
            Destination::Inside(labels) => match rosters.labels.number_in_use(labels) {
                Some(number) => number,
                None => {
                    let digest = || identity::digest("labels", [text_of(labels)]);
                    rosters.labels.acquire(labels, digest, record)?
                }
            },
            Destination::Outside(prefix, labels) => {
                let key = (*prefix, labels.clone());
                match rosters.cidrs.number_in_use(&key) {
                    Some(number) => number,
                    None => {
                        let parts = || [prefix.to_string(), text_of(labels)];
                        let digest = || identity::digest("cidr", parts());
                        rosters.cidrs.acquire(&key, digest, record)?
                    }
                }
            }
        };
        Ok(Identity(number))
    }

    /// No prefix has a destination any more: its number may be given up.
    pub(crate) fn forget_destination(&mut self, identity: Identity) {
        let Some(destination) = self.world.destinations.remove(identity) else { return };
        if destination.fixed_identity().is_some() {
            return;
        }
        let (rosters, record) = (&mut self.rosters, &mut self.ledger.numbers);
        match destination {
            Destination::Inside(labels) => rosters.labels.release(&labels, record),
            Destination::Outside(prefix, labels) => {
                let key = (prefix, labels);
                rosters.cidrs.release(&key, record);
            }
        }
    }

    /// An address that two pods claim is neither's, and people are told.
    fn note_claims(&mut self, address: IpAddr, progress: &mut Progress) {
        let world = &mut self.world;
        let mut owners = world.addresses.owners(address).peekable();
        let mut problems = Vec::new();
        while let Some(pod) = owners.next() {
            let second = owners.peek().map(|pod| pod.name.clone());
            problems.extend(second.map(|second| InventoryProblem::SharedAddress {
                address,
                first: pod.name.clone(),
                second,
            }));
        }
        if problems.is_empty() {
            world.shared.remove(&address);
        } else {
            world.shared.insert(address, problems);
        }
        for pod in world.addresses.owners(address) {
            progress.interfaces.extend(world.bound.get(&pod.name));
        }
    }

    /// Looks at what is met at touched frontends, and at what stands behind services anew.
    pub(crate) fn place_frontends(&mut self, new: &Inventory, progress: &mut Progress) {
        let world = &mut self.world;
        let affected = &mut progress.affected;
        for prefix in &progress.moved {
            world.services.behind(*prefix, &mut affected.services);
        }
        for name in &affected.services {
            let identities = &world.snapshot.prefixes;
            let (service, roster) = (new.services.get(name), &self.rosters.services);
            let changed = &mut progress.service_ports;
            world.services.refresh(name, service, roster, identities, changed);
        }
        for &identity in &progress.service_ports {
            let backends = &mut world.snapshot.backends;
            match world.services.get(identity) {
                Some(behind) => drop(backends.insert(identity, Arc::clone(&behind.ready))),
                None => drop(backends.remove(&identity)),
            }
        }
        for frontend in &affected.frontends {
            let key = world.services.at(frontend);
            match key.and_then(|key| self.rosters.services.number(key)).map(Identity) {
                Some(identity) => {
                    self.ledger.frontends.put(*frontend, identity);
                    world.snapshot.frontends.insert(*frontend, identity);
                }
                None => {
                    self.ledger.frontends.remove(frontend);
                    world.snapshot.frontends.remove(frontend);
                }
            }
        }
    }
}

fn text_of(labels: &Labels) -> String {
    labels.iter().map(|label| format!("{label}\n")).collect()
}
