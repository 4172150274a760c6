//! The Secrets that policies name, each followed by itself: nothing else of what a cluster keeps
//! secret is ever asked for.

use std::collections::BTreeMap;

use kube::Client;
use model::EndpointName;
use tokio::task::{AbortHandle, JoinSet};

use crate::cluster::feed::{Feed, Ground};

/// How many are followed. Rules that need more of them have none.
const MOST: usize = 512;

/// What is followed.
pub(crate) struct Secrets {
    ground: Ground,
    client: Client,
    followed: BTreeMap<EndpointName, AbortHandle>,
    tasks: JoinSet<()>,
}

impl Secrets {
    /// Nothing yet.
    pub fn new(ground: Ground, client: Client) -> Self {
        Self { ground, client, followed: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Follows these and no others; which are not followed any more.
    pub fn want(&mut self, wanted: &BTreeMap<EndpointName, usize>) -> Vec<EndpointName> {
        while self.tasks.try_join_next().is_some() {}
        let left = |own: &EndpointName| !wanted.contains_key(own);
        let gone: Vec<EndpointName> =
            self.followed.keys().filter(|own| left(own)).cloned().collect();
        for name in &gone {
            if let Some(task) = self.followed.remove(name) {
                task.abort();
            }
        }
        for name in wanted.keys() {
            if self.followed.contains_key(name) {
                continue;
            }
            if self.followed.len() >= MOST {
                tracing::warn!(%name, MOST, "too many Secrets are named: this one is not read");
                break;
            }
            let feed = Feed::of_secret(name, self.ground.clone(), self.client.clone());
            self.followed.insert(name.clone(), self.tasks.spawn(feed.run()));
        }
        gone
    }
}
