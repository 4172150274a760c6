//! Revisions as the daemon carries them out, with a look at every packet after every write.

use engine::leases::Leases;
use model::{Change, EndpointId, Way};

use super::{Day, NoSets, Slot, Ways};

impl Day {
    /// Brings what an earlier daemon left up to date, in the daemon's order.
    pub(super) fn begin(&mut self) {
        self.describe();
        let before = self.ways();
        let plan = self.node.plan(&self.inventory).unwrap();
        assert!(plan.problems.is_empty(), "{:?}", plan.problems);
        let mut desired = self.node.desired();
        for (id, local) in &plan.endpoints {
            let mut slot = Slot::restore(*id, &local.name.name, &self.kernel);
            slot.table.clone_from(&local.table);
            let mut changes: Vec<Change> = slot.leases.rows().collect();
            slot.rejudge(&mut changes);
            slot.leases.settle(&mut changes);
            changes.iter().for_each(|change| desired.apply(change));
            self.slots.insert(*id, slot);
        }
        let steps = engine::difference(&self.kernel, &desired);
        let is_hitless = !moves_prefixes(&steps.before);
        let seen = self.write(&steps.into_changes().collect::<Vec<_>>());
        self.node.applied(&plan);
        self.node.release_unclaimed();
        check_way(&before, &seen, &self.ways(), is_hitless);
    }

    /// Plans revisions and carries them out, until nothing is left to do.
    pub(super) fn commit(&mut self) {
        self.describe();
        self.revise();
        while !self.node.is_settled() {
            self.revise();
        }
    }

    /// Plans one revision and carries it out, in the daemon's order.
    fn revise(&mut self) {
        let before = self.ways();
        let plan = self.node.plan(&self.inventory).unwrap();
        assert!(plan.problems.is_empty(), "{:?}", plan.problems);
        let is_hitless = !moves_prefixes(&plan.difference.before);
        let mut seen = self.write(&plan.difference.before);
        let holds = |leases: &Leases| plan.enclosed.iter().any(|own| leases.may_hold(*own));
        let holders = self.slots.iter().filter(|(_, slot)| holds(&slot.leases));
        let holders: Vec<EndpointId> = holders.map(|(id, _)| *id).collect();
        let removed: Vec<Change> =
            plan.difference.endpoints.iter().filter(|own| own.is_removal()).cloned().collect();
        seen.extend(self.write(&removed));
        for (id, local) in &plan.endpoints {
            let (name, kernel) = (&local.name.name, &self.kernel);
            let slot = self.slots.entry(*id).or_insert_with(|| Slot::restore(*id, name, kernel));
            slot.table.clone_from(&local.table);
            let mut changes = Vec::new();
            slot.rejudge(&mut changes);
            changes.push(Change::PutEndpoint(local.interface, local.entry));
            slot.leases.settle(&mut changes);
            seen.extend(self.write(&changes));
        }
        seen.extend(self.bump(&holders));
        let mut after = Vec::new();
        for (endpoint, _) in &plan.gone {
            if let Some(mut slot) = self.slots.remove(endpoint) {
                slot.leases.forget(|_| true, &mut NoSets, &mut after);
            }
        }
        plan.replaced.iter().for_each(|(old, new)| old.retire_into(new, &mut after));
        plan.retired.iter().for_each(|table| table.sets().clear(&mut after));
        after.extend(plan.difference.after.iter().cloned());
        seen.extend(self.write(&after));
        seen.extend(self.bump(&plan.narrowed));
        self.node.applied(&plan);
        check_way(&before, &seen, &self.ways(), is_hitless);
    }

    /// Has these endpoints' flows judged again.
    fn bump(&mut self, endpoints: &[EndpointId]) -> Vec<(Change, Ways)> {
        let bumps = endpoints.iter().filter_map(|own| self.node.bump(*own));
        let bumps: Vec<Change> = bumps.collect();
        self.write(&bumps)
    }
}

/// Between two settled states nothing opens that neither allows, and, where prefixes stay as they
/// are, nothing closes that both allow.
///
/// A prefix comes, goes or becomes another's before the endpoints' tables change, and only the new
/// tables know what it now is: for that moment it is closed.
fn check_way(before: &Ways, seen: &[(Change, Ways)], after: &Ways, hitless: bool) {
    for (change, ways) in seen {
        for (index, now) in ways.iter().enumerate() {
            let ends = [before[index], after[index]];
            let closed = *now == Way::Dropped && !hitless;
            assert!(
                closed || ends.contains(now),
                "after {change:?}, packet {index}: {now:?}, not of {ends:?}"
            );
        }
    }
}

fn moves_prefixes(changes: &[Change]) -> bool {
    let moves = |own: &Change| matches!(own, Change::DeletePrefix(_) | Change::PutPrefix(..));
    changes.iter().any(moves)
}
