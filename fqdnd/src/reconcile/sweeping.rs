//! What runs out or is forgotten goes: leases, names, and name sets that nobody uses.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::VerdictTable;
use model::EndpointId;
use rustc_hash::FxHashSet;
use tracing::{error, warn};

use super::Reconciler;
use crate::clock;

impl Reconciler {
    /// Has leases that ran out looked at, and name sets that none uses freed.
    pub fn sweep(&mut self) {
        let now = clock::now();
        let mut due = Vec::new();
        self.names.visit(|endpoint, leases| {
            if leases.poll_timeout().is_some_and(|time| time <= now) {
                due.push(endpoint);
            }
        });
        for endpoint in due {
            self.expire(endpoint);
        }
        self.collect_sets();
    }

    fn expire(&mut self, endpoint: EndpointId) {
        let now = clock::now();
        let mut live = FxHashSet::default();
        if let Err(error) = self.datapath.live_addresses(endpoint, now, &mut live) {
            warn!(%endpoint, %error, "flows cannot be read: no lease is taken");
            return;
        }
        let written = self.names.update(endpoint, |leases, sets, changes| {
            while leases.poll_timeout().is_some_and(|due| due <= now) {
                leases.handle_timeout(now, |address| live.contains(address), sets, changes);
            }
        });
        self.settle(endpoint, written);
    }

    /// Forgets names of one endpoint; how many.
    pub fn forget(
        &mut self,
        endpoint: EndpointId,
        matches: impl Fn(model::NameRef<'_>) -> bool,
    ) -> usize {
        let written = self
            .names
            .update(endpoint, |leases, sets, changes| leases.forget(matches, sets, changes));
        self.settle(endpoint, written).unwrap_or(0)
    }

    fn settle<T>(
        &mut self,
        endpoint: EndpointId,
        written: Option<Result<(T, bool), bpf::ApplyError>>,
    ) -> Option<T> {
        match written? {
            Ok((result, revoked)) => {
                if revoked
                    && let Some(change) = self.node.bump(endpoint)
                    && let Err(error) = self.datapath.apply(&[change])
                {
                    error!(%endpoint, %error, "an endpoint's generation cannot be written");
                }
                Some(result)
            }
            Err(error) => {
                error!(%endpoint, %error, "leases cannot be taken out of the kernel");
                None
            }
        }
    }

    fn collect_sets(&self) {
        let limit = self.set_limit();
        let tables = self.endpoints.values().filter_map(|local| local.table.as_ref());
        let crowded = |table: &&Arc<VerdictTable>| table.sets().len() * 2 > limit;
        let tables: BTreeMap<_, _> = tables.filter(crowded).map(|own| (own.id(), own)).collect();
        for table in tables.into_values() {
            table.sets().begin_collection();
            let used = self.names.sets_in_use(table);
            let mut changes = Vec::new();
            table.sets().collect(&used, &mut changes);
            if let Err(error) = self.datapath.apply(&changes) {
                error!(%error, "unused name sets cannot be taken out of the kernel");
            }
        }
    }

    fn set_limit(&self) -> usize {
        self.node.settings().sets_per_table
    }
}
