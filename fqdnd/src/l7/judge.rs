//! Answers the proxy's questions from the snapshot that DNS is judged by, and from the names that
//! the endpoint itself resolved.
//!
//! A revision is told only after what it stands for is in force, and a judgement carries the
//! revision that was read before anything else: so whoever holds a judgement of the newest
//! revision holds the newest rules.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use engine::{L7Judgement, LocalEndpoint};
use kubernetes::Inventory;
use l7proxy_core::control::Judgement;
use l7proxy_core::{Reason, Unmatched};
use model::{EndpointId, Interface, L7Rule, L7Rules, Name, Objects, Requests};
use tokio::sync::watch;

use super::secrets::Secrets;
use crate::names::Names;

/// Judges connections.
pub struct Judge {
    names: Arc<Names>,
    secrets: ArcSwap<Secrets>,
    /// The bridge behind each of this node's pods' addresses that has one, where that matters.
    bridges: ArcSwap<HashMap<IpAddr, Interface>>,
    revision: watch::Sender<u64>,
    /// Whether destinations are to see pods' own addresses.
    from_pods: bool,
}

impl Judge {
    /// Judges by what `names` knows.
    pub fn new(names: Arc<Names>, secrets: Secrets, from_pods: bool) -> Self {
        let secrets = ArcSwap::from_pointee(secrets);
        let bridges = ArcSwap::default();
        Self { names, secrets, bridges, revision: watch::Sender::new(1), from_pods }
    }

    /// The revision of the rules, as it changes.
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Other rules are in force.
    pub fn changed(&self, inventory: &Inventory, endpoints: &Objects<EndpointId, LocalEndpoint>) {
        let secrets = self.secrets.load().with(inventory.secrets.clone());
        self.secrets.store(Arc::new(secrets));
        if self.from_pods {
            self.bridges.store(Arc::new(bridges(endpoints)));
        }
        self.revision.send_modify(|revision| *revision += 1);
    }

    /// The secrets there are.
    pub fn secrets(&self) -> Arc<Secrets> {
        self.secrets.load_full()
    }

    /// What may be said on a connection.
    pub fn judge(&self, client: SocketAddr, destination: SocketAddr) -> Result<Judgement, Reason> {
        let revision = *self.revision.borrow();
        let converse = self.names.converse(client.ip(), destination);
        let (endpoint, rules, unmatched) = match converse {
            L7Judgement::Unknown | L7Judgement::Refused(_) => return Err(Reason::NoRules),
            L7Judgement::Anything(endpoint) => (endpoint, vec![ANYTHING], Unmatched::Refused),
            L7Judgement::Audited(endpoint) => (endpoint, Vec::new(), Unmatched::Audited),
            L7Judgement::Limited(endpoint, alternatives, unmatched) => {
                let secrets = self.secrets.load();
                let all = alternatives.by_address.iter().chain(&alternatives.by_name);
                let unmatched = match unmatched {
                    engine::Unmatched::Refused => Unmatched::Refused,
                    engine::Unmatched::Audited => Unmatched::Audited,
                };
                (endpoint, all.map(|l7| secrets.fill(l7)).collect(), unmatched)
            }
        };
        Ok(Judgement {
            revision,
            endpoint,
            rules: L7Rules(rules.into_iter().collect()),
            unmatched,
            resolved: self.resolved(endpoint, destination),
            from_pod_address: self.from_pods && !self.are_neighbours(client, destination),
        })
    }

    /// Whether two pods hang on one bridge, so that answers to the one would never pass the node.
    fn are_neighbours(&self, one: SocketAddr, other: SocketAddr) -> bool {
        let bridges = self.bridges.load();
        bridges.get(&one.ip()).is_some_and(|own| bridges.get(&other.ip()) == Some(own))
    }

    /// The names that a server name has to be one of. Inside the cluster, where an address is
    /// somebody's whatever name it has, none is asked for.
    fn resolved(&self, endpoint: EndpointId, destination: SocketAddr) -> Option<Vec<String>> {
        if !self.names.is_outside(destination) {
            return None;
        }
        let names = self.names.names_of(endpoint, destination.ip());
        Some(names.iter().map(Name::to_string).collect())
    }
}

fn bridges(endpoints: &Objects<EndpointId, LocalEndpoint>) -> HashMap<IpAddr, Interface> {
    let bridged = endpoints.values().filter_map(|local| Some((local.entry.bridge?, local)));
    let each = bridged
        .flat_map(|(bridge, local)| local.addresses.iter().map(move |address| (*address, bridge)));
    each.collect()
}

/// What allows everything.
const ANYTHING: L7Rule =
    L7Rule { server_names: None, terminate: None, originate: None, requests: Requests::Any };
