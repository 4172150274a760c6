//! The cold half's shell: plans revisions from what is known and carries them out in the kernel.
//!
//! One task owns this. A revision that cannot be written leaves what is enforced as it stands; the
//! kernel's state is then read back, and the next change tries again.

mod carrying_out;
mod sweeping;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result};
use bpf::Datapath;
use engine::leases::Leases;
use engine::{Bindings, Inventory, LocalEndpoint, Node, difference};
use model::{Attachment, EndpointId, Identity, Interface, Labels, Objects, State};
use tracing::{debug, error};

use crate::attached::Attached;
use crate::attachments::Attachments;
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
