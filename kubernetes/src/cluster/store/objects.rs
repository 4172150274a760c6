//! One object more, changed or less, and what it touches.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use model::{Attachment, EndpointName, Label, Labels};
use policy::{Policy, PolicyKey};

use super::{Held, Store};
use crate::backends::Slice;
use crate::cluster::kind::Kind;
use crate::cluster::object::{Name, Read};
use crate::cluster::verdict::Verdict;
use crate::join::namespace_labels;
use crate::reading::Object;
use crate::secret::meant;

impl Store {
    pub(super) fn replace(&mut self, kind: Kind, read: Vec<Read>) {
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

    pub(super) fn put(&mut self, kind: Kind, read: Read) {
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

    pub(super) fn remove(&mut self, kind: Kind, name: &Name) {
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
    pub(super) fn place_pod(&mut self, name: &EndpointName) {
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
