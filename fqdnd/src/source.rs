//! Where pods, services and policies are read: directories of manifests, or a cluster.

use std::sync::Arc;

use anyhow::{Context, Result};
use kubernetes::{Cluster, Inventory, Manifests};
use model::Interface;
use tokio::sync::watch;

use crate::config::Config;
use crate::settings;

/// A source that is read as long as this lives.
pub enum Source {
    /// Directories.
    Manifests(Manifests),
    /// A cluster's API server, and the container runtime of this node.
    Cluster(Cluster),
}

impl Source {
    /// Begins with what the configuration names; it has been read whole once when this returns.
    pub async fn watch(config: &Config) -> Result<Self> {
        match settings::cluster(config) {
            Some(options) => {
                let cluster = Cluster::watch(options).await;
                Ok(Self::Cluster(cluster.context("the cluster cannot be watched")?))
            }
            None => {
                let options = settings::manifests(config);
                let manifests = Manifests::watch(&config.manifests, options).await;
                Ok(Self::Manifests(manifests.context("the manifests cannot be watched")?))
            }
        }
    }

    /// Has this node tell the cluster what became of its policies, where that is wanted.
    pub fn report(&mut self, config: &Config) {
        if let (Self::Cluster(cluster), Some(reports)) = (self, settings::reports(config)) {
            cluster.report(reports);
        }
    }

    /// Takes note that all of this is in force.
    pub fn is_in_force(&self, inventory: &Inventory) {
        if let Self::Cluster(cluster) = self {
            cluster.is_in_force(inventory);
        }
    }

    /// Whether it has said itself all that it says, and nothing stands only because an earlier daemon
    /// kept it.
    pub fn is_first_hand(&self) -> bool {
        self.subscribe().borrow().as_kept.is_empty()
    }

    /// What it says, now and later.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Inventory>> {
        match self {
            Self::Manifests(manifests) => manifests.subscribe(),
            Self::Cluster(cluster) => cluster.subscribe(),
        }
    }

    /// Tells it that the node's links have changed: the runtime may have made a pod.
    pub fn links_changed(&self) {
        if let Self::Cluster(cluster) = self {
            cluster.hints().notify_one();
        }
    }
}

/// The interfaces whose name says that they lead into pods: closed until it is known whose they
/// are.
#[derive(Clone, Debug, Default)]
pub struct PodInterfaces(Vec<String>);

impl PodInterfaces {
    /// Reads patterns of names, in which a star stands for any text.
    pub fn new(patterns: &[String]) -> Self {
        Self(patterns.to_vec())
    }

    /// Those among the node's links that nobody is bound to.
    pub fn unknown<'a>(
        &'a self,
        node: &'a host::Node,
        is_bound: impl Fn(Interface) -> bool + 'a,
    ) -> impl Iterator<Item = Interface> + 'a {
        let of_pods = node.links().filter(|link| self.matches(&link.name));
        of_pods.map(|link| link.index).filter(move |index| !is_bound(*index))
    }

    fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| fits(pattern, name))
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(start) else { return false };
    (0..=name.len()).any(|at| name.is_char_boundary(at) && fits(rest, &name[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, fit) in [
            ("veth*", "veth1a2b", true),
            ("veth*", "eth0", false),
            ("cali*", "cali", true),
            ("*pod*", "a-pod-b", true),
            ("lxc_health", "lxc_health", true),
            ("lxc_health", "lxc_healthy", false),
            ("*", "anything", true),
            ("a*b*c", "a-b-b", false),
        ] {
            assert_eq!(fits(pattern, name), fit, "{pattern} {name}");
        }
    }
}
