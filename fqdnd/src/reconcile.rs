//! The cold half's shell: plans revisions from what is known and carries them out in the kernel.
//!
//! One task owns this. A revision that cannot be written leaves what is enforced as it stands; the
//! kernel's state is then read back, and the next change tries again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result};
use bpf::Datapath;
use engine::leases::Leases;
use engine::{Bindings, Inventory, LocalEndpoint, Node, Plan, VerdictTable, difference};
use model::{
    Attachment, Change, DropReason, EndpointEntry, EndpointId, Enforcement, Identity, Interface,
    Labels, Objects, Row, Ruling, Scope, State, TableId, changes,
};
use rustc_hash::FxHashSet;
use tracing::{debug, error, warn};

use crate::attached::Attached;
use crate::attachments::Attachments;
use crate::clock;
use crate::names::Names;
use crate::pending::Pending;
use crate::source::PodInterfaces;

/// Plans and carries out revisions.
pub struct Reconciler {
    node: Node,
    datapath: Arc<Datapath>,
    names: Arc<Names>,
    inventory: Inventory,
    /// What was in force when a revision was last written whole.
    endpoints: Objects<EndpointId, LocalEndpoint>,
    /// The same; nothing, where a revision has since been written in part.
    placed: Objects<EndpointId, LocalEndpoint>,
    attachments: Attachments,
    /// What must not be opened, because it is not known whether it may be.
    pending: Pending,
    /// What leads into pods, and is not to be open before it is known into which.
    of_pods: PodInterfaces,
    /// Whether every policy is audited: nothing is closed for what is not known.
    audits: bool,
    /// Which device each index meant when it was last looked at.
    incarnations: BTreeMap<Interface, u64>,
    problems: Vec<String>,
    /// The revision of the manifests that were taken in last.
    read: u64,
    planned: u64,
    applied: u64,
    applied_at: SystemTime,
    /// How many revisions could not be decided or written.
    failed: u64,
}

impl Reconciler {
    /// Takes up what `dump` says an earlier daemon left.
    pub fn new(
        mut node: Node,
        datapath: Arc<Datapath>,
        names: Arc<Names>,
        dump: &State,
    ) -> Result<Self> {
        node.restore(dump);
        let attachments = Attachments::left_in(Arc::clone(&datapath))
            .context("cannot tell where programs are attached")?;
        Ok(Self {
            node,
            pending: Pending::of(dump, attachments.left()),
            attachments,
            datapath,
            names,
            inventory: Inventory::default(),
            endpoints: Objects::default(),
            placed: Objects::default(),
            of_pods: PodInterfaces::default(),
            audits: false,
            incarnations: BTreeMap::new(),
            problems: Vec::new(),
            read: 0,
            planned: 0,
            applied: 0,
            applied_at: SystemTime::UNIX_EPOCH,
            failed: 0,
        })
    }

    /// Has these interfaces closed as long as nobody is bound to them.
    pub fn close_unknown(&mut self, of_pods: PodInterfaces) {
        self.of_pods = of_pods;
    }

    /// Every policy is audited, so that a pod that is not known yet loses nothing.
    pub fn audit(&mut self) {
        self.audits = true;
        self.pending.clear();
    }

    /// Whether every policy is audited.
    pub fn audits(&self) -> bool {
        self.audits
    }

    /// The first revision: the kernel's state becomes the desired one by difference, leases that
    /// an earlier daemon left included, and what is right already is not touched.
    pub fn start(&mut self, known: Known<'_>, dump: &State) -> Result<()> {
        self.take_in(known);
        let plan = self.node.plan(&self.inventory).context("cannot plan the first revision")?;
        let limits = self.names.limits();
        let mut desired = self.node.desired();
        let mut changes = Vec::new();
        for (id, local) in &plan.endpoints {
            let leases = Leases::restore(*id, *limits, dump);
            self.names.insert(*id, leases, local.table.clone());
            self.names.adopt(*id, &mut changes);
        }
        changes.iter().for_each(|change| desired.apply(change));
        let steps = difference(dump, &desired);
        let (before, rest) = (steps.before.len(), steps.endpoints.len() + steps.after.len());
        debug!(before, rest, "the kernel's state is brought up to date");
        self.datapath.apply(&steps.before).context("cannot write the first revision")?;
        self.attachments.detach_gone(&plan);
        self.datapath.apply(&steps.endpoints).context("cannot write the endpoints")?;
        self.attachments.attach(&plan);
        self.datapath.apply(&steps.after).context("cannot remove what is not wanted any more")?;
        self.names.publish(Arc::clone(&plan.snapshot));
        self.node.applied(&plan);
        self.node.release_unclaimed();
        self.pending.settle(&desired);
        self.finish(&plan);
        Ok(())
    }

    /// Brings the kernel up to what is known now.
    pub fn update(&mut self, known: Known<'_>) {
        self.take_in(known);
        while self.revise() && !self.node.is_settled() {}
    }

    /// Decides the next revision and carries it out; whether it is in force.
    fn revise(&mut self) -> bool {
        let plan = match self.node.plan(&self.inventory) {
            Ok(plan) => plan,
            Err(error) => {
                error!(%error, "the next revision cannot be decided: what is enforced stays");
                self.problems = vec![error.to_string()];
                self.failed += 1;
                return false;
            }
        };
        self.planned = plan.revision.0;
        if let Err(error) = self.carry_out(&plan) {
            error!(%error, revision = plan.revision.0, "a revision could not be written");
            self.problems = vec![format!("revision {} is not in force: {error}", plan.revision.0)];
            self.failed += 1;
            self.fall_back(&plan);
            return false;
        }
        self.node.applied(&plan);
        self.finish(&plan);
        true
    }

    fn take_in(&mut self, known: Known<'_>) {
        let Known { manifests, node, attached } = known;
        let resolve = |attachment: &Attachment| match attachment {
            Attachment::Interface(name) => match node.link_named(name) {
                Some(link) => Ok(link.index),
                None => Err(format!("the node has no interface `{name}`")),
            },
            Attachment::Namespace(path) => attached
                .namespaces()
                .get(path)
                .cloned()
                .unwrap_or_else(|| Err(format!("{} was not looked at", path.display()))),
        };
        self.forget_replaced(node);
        self.read = manifests.revision;
        if manifests.lost.is_empty() {
            self.pending.clear();
        }
        self.pending.retain(|interface| node.link(interface).is_some());
        let lives = |interface| self.incarnations.contains_key(&interface);
        let previous = &self.inventory.bindings;
        let bindings = Bindings::settle(previous, attached.pods(), resolve, lives);
        let mut pending = self.pending.interfaces().clone();
        let bound: BTreeSet<Interface> = bindings.bound.values().copied().collect();
        let unknown = self.of_pods.unknown(node, |interface| bound.contains(&interface));
        pending.extend(unknown.map(|interface| (interface, None)));
        self.inventory = Inventory {
            pods: manifests.pods.clone(),
            services: manifests.services.clone(),
            nodes: manifests.nodes.clone(),
            cidr_groups: manifests.cidr_groups.clone(),
            policies: manifests.policies.clone(),
            host_addresses: node.addresses(),
            bridges: node
                .links()
                .filter_map(|link| Some((link.index, node.bridge_of(link.index)?.index)))
                .collect(),
            bindings,
            pending,
        };
        self.incarnations = node.links().map(|link| (link.index, link.incarnation)).collect();
    }

    /// A new device under an index that another one had is another interface: no program is on
    /// it, and no binding of the old one holds.
    fn forget_replaced(&mut self, node: &host::Node) {
        let attachments = &mut self.attachments;
        let pending = &mut self.pending;
        self.incarnations.retain(|index, incarnation| {
            let same = node.link(*index).is_some_and(|link| link.incarnation == *incarnation);
            if !same {
                attachments.forget(*index);
                pending.retain(|interface| interface != *index);
            }
            same
        });
    }

    /// Carries out a plan; see [`engine::difference`] for why in this order.
    fn carry_out(&mut self, plan: &Plan) -> Result<(), bpf::ApplyError> {
        self.datapath.apply(&plan.difference.before)?;
        let holders = self.names.holders(&plan.enclosed);
        self.attachments.detach_gone(plan);
        let mut entries: BTreeMap<EndpointId, &Change> = BTreeMap::new();
        for change in &plan.difference.endpoints {
            match change {
                Change::PutEndpoint(_, entry) => {
                    entries.insert(entry.endpoint, change);
                }
                other => self.datapath.apply(std::slice::from_ref(other))?,
            }
        }
        for changed in changes(&self.placed, &plan.endpoints) {
            if let Some(local) = changed.new {
                self.place(*changed.key, local, entries.get(changed.key).copied())?;
            }
        }
        // Names no longer lead to addresses that have become the cluster's.
        for endpoint in holders {
            let change = self.node.bump(endpoint);
            self.datapath.apply(change.as_slice())?;
        }
        self.attachments.attach(plan);
        self.names.publish(Arc::clone(&plan.snapshot));
        let mut after = Vec::new();
        for (endpoint, _) in &plan.gone {
            self.names.remove(*endpoint, &mut after);
        }
        for (old, new) in &plan.replaced {
            old.retire_into(new, &mut after);
        }
        for table in &plan.retired {
            table.sets().clear(&mut after);
        }
        self.datapath.apply(&after)?;
        self.datapath.apply(&plan.difference.after)?;
        for endpoint in &plan.narrowed {
            let change = self.node.bump(*endpoint);
            self.datapath.apply(change.as_slice())?;
        }
        Ok(())
    }

    fn place(
        &self,
        id: EndpointId,
        local: &LocalEndpoint,
        entry: Option<&Change>,
    ) -> Result<(), bpf::ApplyError> {
        if !self.names.contains(id) {
            let leases = Leases::new(id, *self.names.limits());
            self.names.insert(id, leases, local.table.clone());
        }
        match (entry, self.names.goes_on_under(id, local.table.as_ref())) {
            (None, true) => Ok(()),
            (Some(entry), true) => self.datapath.apply(std::slice::from_ref(entry)),
            (Some(entry), false) => self.names.switch(id, local.table.as_ref(), entry),
            (None, false) => {
                let entry = Change::PutEndpoint(local.interface, local.entry);
                self.names.switch(id, local.table.as_ref(), &entry)
            }
        }
    }

    /// After a failed write: new endpoints stay closed, and the kernel tells what is in force.
    fn fall_back(&mut self, plan: &Plan) {
        let new = plan.endpoints.values().filter(|_| !self.audits);
        for local in new {
            if self.attachments.contains(local.interface) {
                continue;
            }
            let enforcement = Enforcement::Closed(DropReason::EndpointPending);
            let entry = EndpointEntry { enforcement, ..local.entry };
            if let Err(error) = self.datapath.apply(&[Change::PutEndpoint(local.interface, entry)])
            {
                error!(%error, pod = %local.name, "a new endpoint could not be closed");
            }
            self.attachments.attach_one(local.interface);
        }
        self.placed = Objects::default();
        let rows = self.node.rows_in_force();
        let known = self.datapath.dump().and_then(|dump| {
            if self.take_back(plan, &rows, &dump) { self.datapath.dump() } else { Ok(dump) }
        });
        match known {
            Ok(dump) => self.node.resync(&dump),
            Err(error) => error!(%error, "the kernel's state cannot be read back"),
        }
    }

    /// Brings tables that were to go on to other rules back to those in force before; whether
    /// there was anything to take back.
    fn take_back(
        &mut self,
        plan: &Plan,
        rows: &BTreeMap<TableId, BTreeMap<Row, Ruling>>,
        dump: &State,
    ) -> bool {
        let is_new = |row: &&Row| {
            let known = rows.get(&row.table).filter(|_| row.identity.scope() != Scope::Names);
            known.is_some_and(|known| !known.contains_key(*row))
        };
        // What is taken out makes room for what comes back.
        let mut changes: Vec<Change> =
            dump.rows.keys().filter(is_new).map(|row| Change::DeleteRow(*row)).collect();
        let gone = rows.values().flatten().filter(|(row, own)| dump.rows.get(row) != Some(*own));
        changes.extend(gone.map(|(row, ruling)| Change::PutRow(*row, *ruling)));
        if changes.is_empty() {
            return false;
        }
        // What was let through meanwhile is judged again.
        let judged = |local: &LocalEndpoint| {
            local.table.as_ref().is_some_and(|table| rows.contains_key(&table.id()))
        };
        let judged = plan.endpoints.iter().filter(|(_, local)| judged(local));
        changes.extend(judged.filter_map(|(id, _)| self.node.bump(*id)));
        if let Err(error) = self.datapath.apply(&changes) {
            error!(%error, "a policy that could not be written whole is in force in part");
        }
        true
    }

    fn finish(&mut self, plan: &Plan) {
        self.planned = plan.revision.0;
        self.applied = plan.revision.0;
        self.applied_at = SystemTime::now();
        let problems: Vec<String> = plan.problems.iter().map(ToString::to_string).collect();
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            warn!(problem, "the inventory cannot be enforced as it stands");
        }
        self.problems = problems;
        self.placed = self.node.endpoints().clone();
        self.endpoints = self.placed.clone();
        debug!(revision = self.applied, endpoints = self.endpoints.len(), "a revision is in force");
    }

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

    /// This node's endpoints.
    pub fn endpoints(&self) -> &Objects<EndpointId, LocalEndpoint> {
        &self.endpoints
    }

    /// What is known.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// What decides revisions.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// What the policies of other endpoints know pods with these labels as.
    pub fn identity_of(&self, labels: &Labels) -> Identity {
        self.node.identity_of(labels).unwrap_or(Identity::INIT)
    }

    /// What is wrong with the inventory, or with the last revision.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The revision of the manifests that the last revision was decided by.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// The last revision decided, and the last one in force.
    pub fn revisions(&self) -> (u64, u64) {
        (self.planned, self.applied)
    }

    /// When the last one came into force.
    pub fn applied_at(&self) -> SystemTime {
        self.applied_at
    }

    /// How many revisions could not be decided or written.
    pub fn failed(&self) -> u64 {
        self.failed
    }
}

/// What the sources know at one moment.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// Pods, services and policies.
    pub manifests: &'a kubernetes::Inventory,
    /// The node's links and addresses.
    pub node: &'a host::Node,
    /// This node's pods, and where their records lead.
    pub attached: &'a Attached,
}
