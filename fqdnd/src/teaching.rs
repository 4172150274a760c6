//! Whose answers teach addresses, and who was told of those that do not.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::{Learning, Resolvers};
use model::EndpointId;
use tracing::warn;

/// Of how many endpoints and servers it is told that nothing is learned. What is over it is
/// counted like the rest.
const TOLD: usize = 1024;

/// From whom addresses are learned.
pub struct Teaching {
    learning: Learning,
    /// The endpoints and servers of which it was told.
    told: Mutex<BTreeSet<(EndpointId, IpAddr)>>,
}

impl Teaching {
    /// Nobody was told of anything yet.
    pub fn new(learning: Learning) -> Self {
        Self { learning, told: Mutex::default() }
    }

    /// Whether an answer that an endpoint got from this server may teach, where these are the
    /// cluster's own.
    pub fn admits(&self, endpoint: EndpointId, server: IpAddr, own: &Resolvers) -> bool {
        let admits = self.learning.admits(server, own);
        if !admits {
            self.tell(endpoint, server);
        }
        admits
    }

    fn tell(&self, endpoint: EndpointId, server: IpAddr) {
        let mut told = self.told();
        if told.len() < TOLD && told.insert((endpoint, server)) {
            warn!(
                %endpoint, %server,
                "a server that is not trusted is asked: its answers open nothing unless it is one \
                 of learning.resolvers"
            );
        }
    }

    /// Lets go of an endpoint.
    pub fn forget(&self, endpoint: EndpointId) {
        self.told().retain(|(own, _)| *own != endpoint);
    }

    /// The set is whole between any two statements, so a panic elsewhere does not spoil it.
    fn told(&self) -> MutexGuard<'_, BTreeSet<(EndpointId, IpAddr)>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
