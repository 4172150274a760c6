//! What explaining flows needs to know of the hot half.

use std::net::IpAddr;
use std::sync::Arc;

use engine::Snapshot;
use model::{EndpointId, Identity};

use super::Names;

impl Names {
    /// What workers judge by.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The name sets that an endpoint's leases give an address.
    pub fn sets_of(&self, endpoint: EndpointId, address: IpAddr) -> [Option<Identity>; 2] {
        let slot = self.slots.get(&endpoint);
        slot.map_or([None; 2], |slot| slot.leases.sets_of(address))
    }
}
