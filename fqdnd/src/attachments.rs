//! Where programs are attached: on the interfaces of endpoints, and on the bridges behind them.
//!
//! What an earlier daemon attached stands until the first plan is compared with it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bpf::{Datapath, Hook};
use engine::Plan;
use model::Interface;
use tracing::{debug, error, info, warn};

/// The attachments of this daemon, and those that it found.
pub struct Attachments {
    datapath: Arc<Datapath>,
    attached: BTreeSet<Interface>,
    bridges: BTreeSet<Interface>,
    /// Interfaces and bridges that an earlier daemon attached to, until they are gone through.
    left: BTreeSet<Interface>,
    bridges_left: BTreeSet<Interface>,
}

impl Attachments {
    /// Finds what an earlier daemon left.
    pub fn left_in(datapath: Arc<Datapath>) -> Result<Self, bpf::Error> {
        let found = datapath.attached()?;
        let on = |hook| {
            let by_hook = found.iter().filter(move |attached| attached.hook == hook);
            by_hook.map(|attached| attached.interface).collect::<BTreeSet<_>>()
        };
        Ok(Self {
            datapath,
            attached: BTreeSet::new(),
            bridges: BTreeSet::new(),
            left: &on(Hook::FromEndpoint) | &on(Hook::ToEndpoint),
            bridges_left: on(Hook::Bridge),
        })
    }

    /// The interfaces that an earlier daemon attached to.
    pub const fn left(&self) -> &BTreeSet<Interface> {
        &self.left
    }

    /// Whether this daemon has put programs on an interface.
    pub fn contains(&self, interface: Interface) -> bool {
        self.attached.contains(&interface)
    }

    /// The index is no device's or another one's now: the programs went with the old one, and what
    /// stands for them is left to take away.
    pub fn forget(&mut self, index: Interface) {
        if self.attached.remove(&index)
            && let Err(error) = self.datapath.detach(index)
        {
            debug!(interface = %index, %error, "nothing to detach");
        }
        if self.bridges.remove(&index)
            && let Err(error) = self.datapath.detach_bridge(index)
        {
            debug!(bridge = %index, %error, "nothing to detach from the bridge");
        }
    }

    /// Takes programs off interfaces that are nobody's any more.
    pub fn detach_gone(&mut self, plan: &Plan) {
        let wanted: BTreeSet<Interface> =
            plan.endpoints.values().map(|local| local.interface).collect();
        self.left.append(&mut self.attached.clone());
        for interface in &std::mem::take(&mut self.left) - &wanted {
            self.attached.remove(&interface);
            match self.datapath.detach(interface) {
                Ok(()) => info!(%interface, "programs detached"),
                Err(error) => debug!(%interface, %error, "nothing to detach"),
            }
        }
    }

    /// Puts programs on all interfaces of a plan, and on the bridges that they are ports of.
    pub fn attach(&mut self, plan: &Plan) {
        for local in plan.endpoints.values() {
            self.attach_one(local.interface);
        }
        let wanted: BTreeSet<Interface> =
            plan.endpoints.values().filter_map(|local| local.entry.bridge).collect();
        for bridge in &wanted - &self.bridges {
            match self.datapath.attach_bridge(bridge) {
                Ok(()) => {
                    self.bridges.insert(bridge);
                }
                Err(error) => {
                    error!(%bridge, %error, "DNS through the bridge cannot be redirected");
                }
            }
        }
        self.bridges_left.append(&mut self.bridges.clone());
        for bridge in &std::mem::take(&mut self.bridges_left) - &wanted {
            self.bridges.remove(&bridge);
            if let Err(error) = self.datapath.detach_bridge(bridge) {
                debug!(%bridge, %error, "nothing to detach from the bridge");
            }
        }
    }

    /// Puts programs on one interface, unless they are there.
    pub fn attach_one(&mut self, interface: Interface) {
        if self.attached.contains(&interface) {
            return;
        }
        match self.datapath.attach(interface) {
            Ok(()) => {
                info!(%interface, "programs attached");
                self.attached.insert(interface);
            }
            Err(error) => warn!(%interface, %error, "programs cannot be attached"),
        }
    }
}
