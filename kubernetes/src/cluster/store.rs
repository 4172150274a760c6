//! What the watched lists say together: objects in, inventories out.
//!
//! - There is no inventory before every list was read whole once, or an earlier daemon kept all of
//!   them and the server does not give them; and none before the runtime's record was read.
//! - A change costs what it touches: a pod's labels are joined anew when the pod or its namespace
//!   changes, a service when it or one of its slices does. What did not change stays the same
//!   object.
//! - An object that cannot be read leaves in force what it said before. If it never could be read,
//!   what it should have said is lost, and the inventory tells so; but not where all lists were
//!   kept, which tell that it never was in force.
//! - A pod's interface is what the runtime's record of a pod of that name and uid leads to.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use std::sync::Arc;

use imbl::OrdMap;
use model::{Attachment, EndpointName, Label, Labels, Pod, Protocol};
use policy::{Policy, PolicyKey, Problem};

use crate::backends::Slice;
use crate::cluster::alike::Alike;
use crate::cluster::health::{WatchState, Watched};
use crate::cluster::journal::{Changes, Names};
use crate::cluster::kind::Kind;
use crate::cluster::object::{Name, Read};
use crate::cluster::verdict::{Verdict, Verdicts};
use crate::inventory::Inventory;
use crate::join::namespace_labels;
use crate::reading::{MAX_PROBLEMS, Object};
use crate::runtime::Sandboxes;
use crate::secret::meant;
use crate::service::Service;

/// What a watch says.
#[derive(Debug)]
pub(crate) enum Update {
    /// The whole list; none where the cluster does not know such objects.
    Listed(Option<Vec<Read>>),
    /// An object that is new or has changed.
    Put(Box<Read>),
    /// An object that is gone.
    Gone(Name),
    /// How the watch fares.
    Fares(Watched),
}

type NamedPorts = Arc<BTreeMap<String, Vec<(Protocol, u16)>>>;

/// The watched objects.
#[derive(Debug, Default)]
pub(crate) struct Store {
    inventory: Inventory,
    verdicts: Verdicts,
    listed: BTreeSet<Kind>,
    /// The Secrets that policies name, and how often.
    named_secrets: BTreeMap<EndpointName, usize>,
    namespaces: HashMap<String, Arc<[Label]>>,
    /// Pods by list: labels without or with those of their namespace.
    local: HashMap<EndpointName, Held>,
    remote: HashMap<EndpointName, Held>,
    /// What the pods of one workload have in common.
    labels: Alike<Labels>,
    ports: Alike<NamedPorts>,
    sandboxes: Sandboxes,
    /// Whether the runtime's record was read once.
    recorded: bool,
    services: HashMap<EndpointName, Arc<Service>>,
    slices: HashMap<EndpointName, BTreeMap<String, Arc<Slice>>>,
    /// The service behind which each slice stands.
    service_of: HashMap<Name, EndpointName>,
    /// What is wrong, and what is worth a warning, by object.
    problems: BTreeMap<(Kind, Name), Vec<Problem>>,
    warnings: BTreeMap<(Kind, Name), Vec<Problem>>,
    /// Objects that could never be read.
    lost: BTreeMap<(Kind, Name), Arc<std::path::Path>>,
    /// Kinds that the cluster did not know when they were first asked for.
    unknown: BTreeSet<Kind>,
    names: Names,
    /// Whether what an earlier daemon kept is here, and all of it.
    restored: bool,
    /// What the next start is to find, by object, as far as nobody has taken it yet.
    changes: Changes,
}

/// A pod of a list.
#[derive(Clone, Debug)]
struct Held {
    pod: Arc<Pod>,
    mirrored: Option<Box<str>>,
}

impl Store {
    /// Takes in what the watch of one kind says.
    pub fn handle(&mut self, kind: Kind, update: Update) {
        if matches!(update, Update::Listed(_)) {
            self.inventory.as_kept.remove(&kind);
        }
        match update {
            Update::Listed(Some(read)) => {
                self.unknown.remove(&kind);
                self.replace(kind, read);
            }
            Update::Listed(None) => {
                // What was in force when the kind went stays in force.
                if self.listed.insert(kind) && !self.restored {
                    self.unknown.insert(kind);
                }
            }
            Update::Put(read) => self.put(kind, *read),
            Update::Gone(name) => self.remove(kind, &name),
            Update::Fares(watched) => {
                self.inventory.watched.insert(kind, watched);
            }
        }
    }

    /// Takes in the runtime's records. While they cannot be read, the last ones stand.
    pub fn handle_sandboxes(&mut self, sandboxes: Result<Sandboxes, String>) {
        match sandboxes {
            Ok(sandboxes) => {
                self.sandboxes = sandboxes;
                self.recorded = true;
                self.inventory.runtime = None;
            }
            Err(reason) => {
                tracing::warn!(reason, "the runtime's record cannot be read: what was read stands");
                self.inventory.runtime = Some(reason);
                return;
            }
        }
        let names: Vec<EndpointName> = self.local.keys().cloned().collect();
        for name in names {
            self.place_pod(&name);
        }
    }

    /// Pods of this node that have no record yet, and want one.
    pub fn unbound(&self) -> usize {
        let wants = |name: &&EndpointName| {
            let pod = self.inventory.pods.get(*name);
            pod.is_some_and(|pod| !pod.host_network && pod.attachment.is_none())
        };
        self.local.keys().filter(wants).count()
    }

    /// What is watched by now; nothing before every list was read whole.
    pub fn inventory(&mut self) -> Option<Inventory> {
        if self.listed.len() < Kind::ALL.len() || !self.recorded {
            return None;
        }
        for (kind, watched) in &mut self.inventory.watched {
            watched.objects = self.names.get(kind).map_or(0, BTreeSet::len);
        }
        self.inventory.problems = self.interruptions().chain(flat(&self.problems)).collect();
        self.inventory.warnings = flat(&self.warnings).collect();
        self.inventory.verdicts = self.verdicts.clone();
        self.inventory.revision += 1;
        let unknown =
            self.unknown.iter().map(|kind| Arc::from(std::path::Path::new(kind.as_str())));
        self.inventory.lost = self.lost.values().cloned().chain(unknown).collect();
        Some(self.inventory.clone())
    }

    /// What was taken in until now is what an earlier daemon kept: all of it.
    pub fn keep_as_restored(&mut self) {
        self.restored = true;
        self.changes.clear();
    }

    /// Whether what was kept may be in force in the place of lists that were not read: the server
    /// refuses one of them, or they are late.
    pub fn may_begin_as_kept(&self, is_late: bool) -> bool {
        let refused = |(kind, watched): (&Kind, &Watched)| {
            !self.listed.contains(kind) && matches!(watched.state, WatchState::Interrupted { .. })
        };
        let missing = self.listed.len() < Kind::ALL.len();
        self.restored && missing && (is_late || self.inventory.watched.iter().any(refused))
    }

    /// Whether no list was read yet.
    pub fn is_empty_handed(&self) -> bool {
        self.listed.is_empty()
    }

    /// Takes what was kept for lists that were not read.
    pub fn begin_as_kept(&mut self) {
        self.inventory.as_kept = &BTreeSet::from(Kind::ALL) - &self.listed;
        self.listed.extend(Kind::ALL);
    }

    /// What the next start is to find, as far as it has changed since this was asked last.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// The objects that there are.
    pub fn names(&self) -> Names {
        self.names.clone()
    }

    /// What is not followed, since when and why, for people to read.
    fn interruptions(&self) -> impl Iterator<Item = Problem> + use<'_> {
        let lists = self.inventory.watched.iter().filter_map(|(kind, watched)| {
            let WatchState::Interrupted { reason } = &watched.state else { return None };
            let since = humantime::format_rfc3339_seconds(watched.since);
            let why = format!("not followed since {since}: {reason}; what was read stands");
            Some(told(kind.as_str(), &why))
        });
        let runtime = self.inventory.runtime.iter();
        lists.chain(
            runtime.map(|reason| {
                told("the runtime's record", &format!("{reason}; what was read stands"))
            }),
        )
    }

    /// The Secrets that policies name, and how often.
    pub fn named_secrets(&self) -> &BTreeMap<EndpointName, usize> {
        &self.named_secrets
    }

    /// Counts what another version of a policy names, or its end.
    fn count_secrets(&mut self, key: &PolicyKey, new: Option<&Policy>) {
        for name in new.iter().flat_map(|policy| policy.secrets()).filter_map(meant) {
            *self.named_secrets.entry(name).or_default() += 1;
        }
        let old = self.inventory.policies.get(key).cloned();
        for name in old.iter().flat_map(|policy| policy.secrets()).filter_map(meant) {
            if let Entry::Occupied(mut count) = self.named_secrets.entry(name) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }

    /// The lists that were never read whole, and why the runtime's record is not read.
    pub fn unread(&self) -> String {
        let unread = Kind::ALL.into_iter().filter(|kind| !self.listed.contains(kind));
        let lists = unread.map(|kind| match self.inventory.watched.get(&kind) {
            Some(Watched { state: WatchState::Interrupted { reason }, .. }) => {
                format!("{kind}: {reason}")
            }
            _ => kind.to_string(),
        });
        let record = (!self.recorded).then(|| match &self.inventory.runtime {
            Some(reason) => format!("the runtime's record: {reason}"),
            None => "the runtime's record".to_owned(),
        });
        lists.chain(record).collect::<Vec<_>>().join("; ")
    }

    /// What became of each policy.
    pub fn verdicts(&self) -> Verdicts {
        self.verdicts.clone()
    }

    fn replace(&mut self, kind: Kind, read: Vec<Read>) {
        let names: BTreeSet<Name> = read.iter().map(|own| own.name.clone()).collect();
        let before = self.names.get(&kind).cloned().unwrap_or_default();
        for gone in before.difference(&names) {
            self.remove(kind, gone);
        }
        for own in read {
            self.put(kind, own);
        }
        self.listed.insert(kind);
    }

    fn put(&mut self, kind: Kind, read: Read) {
        let Read { name, source, uid, generation, object, told, kept, .. } = read;
        let key = (kind, name.clone());
        if object.is_err() && self.is_of_another(kind, &name, &uid) {
            self.remove(kind, &name);
        }
        if let Some(text) = kept {
            self.changes.insert(key.clone(), Some(text));
        }
        self.names.entry(kind).or_default().insert(name.clone());
        let mut audited = false;
        let problems = match object {
            Ok(object) => {
                audited = matches!(&object, Object::Policy(policy) if policy.audited);
                self.problems.remove(&key);
                self.lost.remove(&key);
                self.put_object(kind, &name, object);
                Vec::new()
            }
            Err(problems) => {
                // Without a Secret its rules let nothing pass: nothing is lost.
                let never = !self.listed.contains(&kind) && !self.restored;
                if never && kind != Kind::Secrets {
                    self.lost.insert(key.clone(), source);
                }
                self.problems.insert(key, problems.clone());
                problems
            }
        };
        if let Some(policy) = policy_key(kind, &name) {
            let verdict = Verdict { uid, generation, audited, problems, told };
            keep(&mut self.verdicts, policy, verdict);
        }
    }

    /// Whether what stands under a policy's name is another one, which has gone.
    fn is_of_another(&self, kind: Kind, name: &Name, uid: &str) -> bool {
        let known = policy_key(kind, name).and_then(|key| self.verdicts.get(&key));
        known.is_some_and(|known| known.uid != uid)
    }

    fn put_object(&mut self, kind: Kind, name: &Name, object: Object) {
        match object {
            Object::Namespace(labels) => self.put_namespace(&name.name, &labels),
            Object::Pod(pod) => self.put_pod(kind, &pod),
            Object::Service(service) => {
                let name = service.name.clone();
                self.services.insert(name.clone(), service);
                self.join_service(&name);
            }
            Object::Slice(slice) => self.put_slice(name, slice),
            Object::Node(node) => share(&mut self.inventory.nodes, node.name.clone(), node),
            Object::CidrGroup(group) => {
                share(&mut self.inventory.cidr_groups, group.name.clone(), group);
            }
            Object::Policy(policy) => {
                let warnings = policy.warnings.clone();
                let key = (kind, name.clone());
                if warnings.is_empty() {
                    self.warnings.remove(&key);
                } else {
                    self.warnings.insert(key, warnings);
                }
                self.count_secrets(&policy.key, Some(&policy));
                share(&mut self.inventory.policies, policy.key.clone(), policy);
            }
            Object::Secret(secret) => {
                share(&mut self.inventory.secrets, name.full(), secret);
            }
            // Slices are watched in their place.
            Object::Endpoints(_) => {}
        }
    }

    fn remove(&mut self, kind: Kind, name: &Name) {
        let key = (kind, name.clone());
        self.problems.remove(&key);
        self.warnings.remove(&key);
        self.lost.remove(&key);
        if let Some(names) = self.names.get_mut(&kind) {
            names.remove(name);
        }
        if kind != Kind::Secrets {
            self.changes.insert((kind, name.clone()), None);
        }
        match kind {
            Kind::NetworkPolicies | Kind::ClusterwideNetworkPolicies => {
                if let Some(key) = policy_key(kind, name) {
                    self.count_secrets(&key, None);
                    self.inventory.policies.remove(&key);
                    self.verdicts.remove(&key);
                }
            }
            Kind::Secrets => drop(self.inventory.secrets.remove(&name.full())),
            Kind::CidrGroups => drop(self.inventory.cidr_groups.remove(&name.name)),
            Kind::Nodes => drop(self.inventory.nodes.remove(&name.name)),
            // Its pods go before it; labels of one that is left do not change by its end.
            Kind::Namespaces => drop(self.namespaces.remove(&name.name)),
            Kind::Services => {
                let name = name.full();
                self.services.remove(&name);
                self.inventory.services.remove(&name);
            }
            Kind::EndpointSlices => self.remove_slice(name),
            Kind::LocalPods => {
                self.local.remove(&name.full());
                self.place_pod(&name.full());
            }
            Kind::RemotePods => {
                self.remote.remove(&name.full());
                self.place_pod(&name.full());
            }
        }
    }

    fn put_namespace(&mut self, name: &str, labels: &BTreeMap<String, String>) {
        let derived: Arc<[Label]> = namespace_labels(name, Some(labels)).into();
        if self.namespaces.get(name).is_some_and(|known| *known == derived) {
            return;
        }
        self.namespaces.insert(name.to_owned(), derived);
        let pods = self.local.keys().chain(self.remote.keys());
        let inside: Vec<_> = pods.filter(|pod| pod.namespace == name).cloned().collect();
        for pod in inside {
            self.place_pod(&pod);
        }
    }

    fn put_pod(&mut self, kind: Kind, pod: &crate::pod::Pod) {
        let list = if kind == Kind::LocalPods { &mut self.local } else { &mut self.remote };
        let name = pod.name.clone();
        if pod.finished {
            list.remove(&name);
        } else {
            let mirrored = pod.mirrored.as_deref().map(Box::from);
            list.insert(name.clone(), Held { pod: Arc::new(pod.join(&[])), mirrored });
        }
        self.place_pod(&name);
    }

    /// Brings a pod into the inventory as its list, its namespace and the runtime have it. One
    /// whose namespace is not known stays out: what its labels will be is not known either.
    fn place_pod(&mut self, name: &EndpointName) {
        let local = self.local.get(name);
        let held = local.or_else(|| self.remote.get(name));
        let namespace = self.namespaces.get(&name.namespace);
        let (Some(held), Some(namespace)) = (held, namespace) else {
            self.inventory.pods.remove(name);
            return;
        };
        let mut pod = (*held.pod).clone();
        pod.labels = self.labels.share(in_namespace(&pod.labels, namespace));
        pod.ports = self.ports.share(pod.ports);
        if local.is_some() && !pod.host_network {
            let record = self.sandboxes.of(name, &pod.uid, held.mirrored.as_deref());
            pod.attachment = record.cloned().map(Attachment::Namespace);
        }
        keep(&mut self.inventory.pods, name.clone(), pod);
        if local.is_none()
            && let Some(joined) = self.inventory.pods.get(name)
            && let Some(held) = self.remote.get_mut(name)
        {
            // Held once: of other nodes there are many.
            held.pod = Arc::clone(joined);
        }
    }

    fn put_slice(&mut self, name: &Name, slice: Option<Arc<Slice>>) {
        if self.service_of.get(name) != slice.as_ref().map(|slice| &slice.service) {
            self.remove_slice(name);
        }
        let Some(slice) = slice else { return };
        let service = slice.service.clone();
        self.service_of.insert(name.clone(), service.clone());
        self.slices.entry(service.clone()).or_default().insert(name.name.clone(), slice);
        self.join_service(&service);
    }

    fn remove_slice(&mut self, name: &Name) {
        let Some(service) = self.service_of.remove(name) else { return };
        if let Some(slices) = self.slices.get_mut(&service) {
            slices.remove(&name.name);
            if slices.is_empty() {
                self.slices.remove(&service);
            }
        }
        self.join_service(&service);
    }

    fn join_service(&mut self, name: &EndpointName) {
        let Some(service) = self.services.get(name) else { return };
        let slices = self.slices.get(name);
        let backends = slices.into_iter().flat_map(BTreeMap::values).map(|slice| &slice.backends);
        keep(&mut self.inventory.services, name.clone(), service.join(backends));
    }
}

impl Name {
    fn full(&self) -> EndpointName {
        EndpointName {
            namespace: self.namespace.clone().unwrap_or_default(),
            name: self.name.clone(),
        }
    }
}

fn policy_key(kind: Kind, name: &Name) -> Option<PolicyKey> {
    let namespace = match kind {
        Kind::NetworkPolicies => name.namespace.clone(),
        Kind::ClusterwideNetworkPolicies => None,
        Kind::CidrGroups
        | Kind::Namespaces
        | Kind::Services
        | Kind::EndpointSlices
        | Kind::Nodes
        | Kind::LocalPods
        | Kind::RemotePods
        | Kind::Secrets => return None,
    };
    Some(PolicyKey { namespace, name: name.name.clone() })
}

/// Puts an object in, unless it is what stands there.
fn keep<K: Ord + Clone, V: PartialEq>(objects: &mut OrdMap<K, Arc<V>>, key: K, object: V) {
    share(objects, key, Arc::new(object));
}

fn share<K: Ord + Clone, V: PartialEq>(objects: &mut OrdMap<K, Arc<V>>, key: K, object: Arc<V>) {
    if objects.get(&key) != Some(&object) {
        objects.insert(key, object);
    }
}

/// A pod's labels with those of its namespace in the place of any that it had.
fn in_namespace(labels: &Labels, namespace: &[Label]) -> Labels {
    let derived = |label: &&Label| label.key == Labels::NAMESPACE || is_of_namespace(&label.key);
    let own = labels.iter().filter(|label| !derived(label));
    own.chain(namespace).cloned().collect()
}

fn is_of_namespace(key: &str) -> bool {
    key.strip_prefix(Labels::NAMESPACE_LABELS).is_some_and(|rest| rest.starts_with('.'))
}

/// A problem of no object's.
pub(super) fn told(what: &str, why: &str) -> Problem {
    let file = Arc::from(std::path::Path::new(what));
    Problem { file, line: 0, column: 0, field: String::new(), message: why.to_owned() }
}

/// As many as can be told.
fn flat(
    by_object: &BTreeMap<(Kind, Name), Vec<Problem>>,
) -> impl Iterator<Item = Problem> + use<'_> {
    by_object.values().flatten().take(MAX_PROBLEMS).cloned()
}

#[cfg(test)]
mod tests;
