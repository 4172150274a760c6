//! Which interface is whose, by the runtime's record alone.
//!
//! A pod is bound to the interface that its record names, never to one where its address was seen:
//! whoever is root in a pod can add any address there. An interface that two pods claim binds
//! neither and is closed, and a binding never moves while its interface lives.

use std::collections::{BTreeMap, BTreeSet};

use model::{Attachment, EndpointName, Interface, Pod};
use thiserror::Error;

/// Bound pods, closed interfaces, and what went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    /// The interface of each bound pod; no interface stands twice.
    pub bound: BTreeMap<EndpointName, Interface>,
    /// Interfaces on which everything is dropped, because their claim is in doubt.
    pub closed: BTreeSet<Interface>,
    /// Pods that are not bound as their record says, and why.
    pub problems: BTreeMap<EndpointName, BindingError>,
}

/// Why a pod is not bound to the interface that its record names.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BindingError {
    /// The record leads to no interface.
    #[error("{0}")]
    NotFound(String),
    /// Other pods claim the same interface.
    #[error(
        "interface {interface} is claimed by {} too: it is closed until one claim is left",
        list(others)
    )]
    ClaimedTwice {
        /// The interface.
        interface: Interface,
        /// The other claimants.
        others: Vec<EndpointName>,
    },
    /// The interface is bound to another pod, which has since named another one.
    #[error("interface {interface} stays bound to {holder} while it lives")]
    Held {
        /// The interface.
        interface: Interface,
        /// The pod it is bound to.
        holder: EndpointName,
    },
    /// The pod is bound to another interface, which still lives.
    #[error("stays bound to interface {bound} while it lives; interface {claimed} is closed")]
    Moved {
        /// Where the pod is bound.
        bound: Interface,
        /// What its record names now.
        claimed: Interface,
    },
}

fn list(names: &[EndpointName]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Bindings {
    /// Binds `pods`; `resolve` tells the interface that a record leads to, and `lives` whether an
    /// interface of the `previous` bindings is still the same one.
    pub fn settle<'a>(
        previous: &Self,
        pods: impl IntoIterator<Item = &'a Pod>,
        resolve: impl Fn(&Attachment) -> Result<Interface, String>,
        lives: impl Fn(Interface) -> bool,
    ) -> Self {
        let mut next = Self::default();
        let mut claims: BTreeMap<Interface, Vec<EndpointName>> = BTreeMap::new();
        for pod in pods {
            let Some(attachment) = &pod.attachment else { continue };
            let held = previous.bound.get(&pod.name).copied().filter(|held| lives(*held));
            match (resolve(attachment), held) {
                (Ok(interface), Some(held)) if interface != held => {
                    next.closed.insert(interface);
                    claims.entry(held).or_default().push(pod.name.clone());
                    let moved = BindingError::Moved { bound: held, claimed: interface };
                    next.problems.insert(pod.name.clone(), moved);
                }
                (Ok(interface), _) => claims.entry(interface).or_default().push(pod.name.clone()),
                (Err(reason), Some(held)) => {
                    claims.entry(held).or_default().push(pod.name.clone());
                    next.problems.insert(pod.name.clone(), BindingError::NotFound(reason));
                }
                (Err(reason), None) => {
                    next.problems.insert(pod.name.clone(), BindingError::NotFound(reason));
                }
            }
        }
        for (interface, claimants) in claims {
            next.decide(previous, interface, &claimants);
        }
        next
    }

    fn decide(&mut self, previous: &Self, interface: Interface, claimants: &[EndpointName]) {
        let holder = claimants.iter().find(|name| self.has_moved(name)).cloned();
        if let Some(holder) = holder {
            for name in claimants.iter().filter(|name| **name != holder) {
                let held = BindingError::Held { interface, holder: holder.clone() };
                self.problems.insert(name.clone(), held);
            }
            self.closed.remove(&interface);
            self.bound.insert(holder, interface);
            return;
        }
        let [only] = claimants else {
            for name in claimants {
                let others = claimants.iter().filter(|other| *other != name).cloned().collect();
                let twice = BindingError::ClaimedTwice { interface, others };
                self.problems.insert(name.clone(), twice);
            }
            self.closed.insert(interface);
            return;
        };
        let kept = previous.bound.get(only) == Some(&interface);
        if kept || !self.closed.contains(&interface) {
            self.closed.remove(&interface);
            self.bound.insert(only.clone(), interface);
            return;
        }
        self.problems.insert(
            only.clone(),
            BindingError::ClaimedTwice { interface, others: self.movers_to(interface) },
        );
    }

    fn has_moved(&self, name: &EndpointName) -> bool {
        matches!(self.problems.get(name), Some(BindingError::Moved { .. }))
    }

    fn movers_to(&self, interface: Interface) -> Vec<EndpointName> {
        let moves = |error: &BindingError| matches!(error, BindingError::Moved { claimed, .. } if *claimed == interface);
        self.problems.iter().filter(|(_, e)| moves(e)).map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use model::Labels;

    use super::*;

    fn pod(name: &str, interface: &str) -> Pod {
        Pod {
            name: EndpointName { namespace: "default".into(), name: name.into() },
            uid: String::new(),
            labels: Labels::default(),
            addresses: Vec::new(),
            extra_sources: Vec::new(),
            attachment: Some(Attachment::Interface(interface.into())),
            host_network: false,
            ports: Default::default(),
        }
    }

    /// Interfaces are named by their index.
    fn settle(previous: &Bindings, pods: &[Pod], living: &[u32]) -> Bindings {
        let resolve = |attachment: &Attachment| match attachment {
            Attachment::Interface(name) => {
                let index: u32 = name.parse().unwrap();
                if living.contains(&index) {
                    Ok(Interface(index))
                } else {
                    Err(format!("no interface {name}"))
                }
            }
            Attachment::Namespace(path) => Err(format!("no namespace {}", path.display())),
        };
        Bindings::settle(previous, pods, resolve, |index| living.contains(&index.0))
    }

    fn bound(bindings: &Bindings) -> Vec<(&str, u32)> {
        bindings.bound.iter().map(|(name, index)| (name.name.as_str(), index.0)).collect()
    }

    #[test]
    fn binds_each_pod_to_the_interface_its_record_names() {
        let bindings = settle(&Bindings::default(), &[pod("a", "1"), pod("b", "2")], &[1, 2]);
        assert_eq!(bound(&bindings), [("a", 1), ("b", 2)]);
        assert!(bindings.closed.is_empty() && bindings.problems.is_empty());
    }

    #[test]
    fn two_claims_bind_neither_even_where_one_was_bound() {
        let first = settle(&Bindings::default(), &[pod("a", "1")], &[1]);
        let second = settle(&first, &[pod("a", "1"), pod("b", "1")], &[1]);
        assert!(second.bound.is_empty());
        assert_eq!(second.closed, BTreeSet::from([Interface(1)]));
        assert_eq!(second.problems.len(), 2);

        let third = settle(&second, &[pod("b", "1")], &[1]);
        assert_eq!(bound(&third), [("b", 1)]);
    }

    #[test]
    fn a_binding_does_not_move_while_its_interface_lives() {
        let first = settle(&Bindings::default(), &[pod("a", "1"), pod("b", "2")], &[1, 2]);
        let swapped = settle(&first, &[pod("a", "2"), pod("b", "1")], &[1, 2]);
        assert_eq!(bound(&swapped), [("a", 1), ("b", 2)]);
        assert_eq!(swapped.problems.len(), 2);

        let moved = settle(&first, &[pod("a", "3"), pod("b", "2")], &[1, 2, 3]);
        assert_eq!(bound(&moved), [("a", 1), ("b", 2)]);
        assert_eq!(moved.closed, BTreeSet::from([Interface(3)]));

        let gone = settle(&first, &[pod("a", "3"), pod("b", "2")], &[2, 3]);
        assert_eq!(bound(&gone), [("a", 3), ("b", 2)]);
    }

    #[test]
    fn a_pod_whose_interface_is_not_found_is_reported() {
        let bindings = settle(&Bindings::default(), &[pod("a", "1")], &[]);
        assert!(bindings.bound.is_empty() && bindings.closed.is_empty());
        let [(_, error)] = &bindings.problems.iter().collect::<Vec<_>>()[..] else { panic!() };
        assert_eq!(error.to_string(), "no interface 1");
    }

    #[test]
    fn an_interface_that_a_pod_moves_to_is_not_bound_to_another() {
        let first = settle(&Bindings::default(), &[pod("a", "1")], &[1, 2]);
        let second = settle(&first, &[pod("a", "2"), pod("b", "2")], &[1, 2]);
        assert_eq!(bound(&second), [("a", 1)]);
        assert_eq!(second.closed, BTreeSet::from([Interface(2)]));
    }
}
