//! Objects to what they mean together: pods with their namespace's labels, services with their
//! backends.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use model::{CidrGroup, ClusterNode, EndpointName, Label, Labels};
use policy::Problem;

use crate::backends::{Backends, Endpoints, Slice};
use crate::inventory::Inventory;
use crate::pod::Pod;
use crate::reading::{Found, Object, ObjectKey};
use crate::secret::{Secret, meant};
use crate::service::Service;

/// The key of a pod's service account.
const SERVICE_ACCOUNT: &str = "io.cilium.k8s.policy.serviceaccount";
/// The key of a pod's cluster, and its value here.
const CLUSTER: (&str, &str) = ("io.cilium.k8s.policy.cluster", "default");
/// What the API server adds to every namespace's labels: its name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// Keys that only derived labels have: a pod that sets one itself would pass for another's.
const DERIVED: &str = "io.cilium.k8s.";

/// Objects by kind.
#[derive(Default)]
pub(crate) struct Join<'a> {
    namespaces: HashMap<&'a str, &'a BTreeMap<String, String>>,
    pods: Vec<Placed<'a, Pod>>,
    services: Vec<&'a Service>,
    slices: HashMap<&'a EndpointName, Vec<&'a Slice>>,
    endpoints: HashMap<&'a EndpointName, &'a Endpoints>,
    nodes: Vec<&'a Arc<ClusterNode>>,
    cidr_groups: Vec<&'a Arc<CidrGroup>>,
    secrets: HashMap<&'a EndpointName, &'a Arc<Secret>>,
    policies: Vec<&'a Arc<policy::Policy>>,
}

/// An object that problems may have to name.
struct Placed<'a, T> {
    object: &'a T,
    found: &'a Found,
    file: &'a Arc<Path>,
}

impl<'a> Join<'a> {
    /// Takes an object; of each name, only one may come.
    pub fn add(&mut self, key: &'a ObjectKey, file: &'a Arc<Path>, found: &'a Found) {
        match &found.object {
            Object::Namespace(labels) => {
                if let ObjectKey::Namespace(name) = key {
                    self.namespaces.insert(name, labels);
                }
            }
            Object::Pod(pod) if pod.finished => {}
            Object::Pod(pod) => self.pods.push(Placed { object: pod, found, file }),
            Object::Service(service) => self.services.push(service),
            Object::Slice(None) => {}
            Object::Slice(Some(slice)) => {
                self.slices.entry(&slice.service).or_default().push(slice);
            }
            Object::Endpoints(endpoints) => {
                self.endpoints.insert(&endpoints.service, endpoints);
            }
            Object::Secret(secret) => {
                if let ObjectKey::Secret(name) = key {
                    self.secrets.insert(name, secret);
                }
            }
            Object::Node(node) => self.nodes.push(node),
            Object::CidrGroup(group) => self.cidr_groups.push(group),
            Object::Policy(policy) => self.policies.push(policy),
        }
    }

    /// Fills in what the objects mean together.
    pub fn finish(self, inventory: &mut Inventory) {
        self.warn_of_shared_addresses(&mut inventory.warnings);
        let namespaces = NamespaceLabels::new(&self.namespaces, &self.pods);
        for pod in &self.pods {
            warn_of_derived_labels(pod, &mut inventory.warnings);
            let joined = pod.object.join(namespaces.of(&pod.object.name.namespace));
            inventory.pods.insert(joined.name.clone(), Arc::new(joined));
        }
        for service in &self.services {
            let joined = service.join(self.backends(&service.name));
            inventory.services.insert(service.name.clone(), Arc::new(joined));
        }
        for node in self.nodes {
            inventory.nodes.insert(node.name.clone(), Arc::clone(node));
        }
        for group in self.cidr_groups {
            inventory.cidr_groups.insert(group.name.clone(), Arc::clone(group));
        }
        for policy in self.policies {
            for name in policy.secrets().filter_map(meant) {
                if let Some(secret) = self.secrets.get(&name) {
                    inventory.secrets.insert(name, Arc::clone(secret));
                }
            }
            inventory.policies.insert(policy.key.clone(), Arc::clone(policy));
        }
    }

    /// What stands behind a service. Slices are the newer record and may say more: Endpoints count
    /// where there are none.
    fn backends(&self, service: &EndpointName) -> impl Iterator<Item = &'a Backends> + Clone {
        let slices = self.slices.get(service).map(Vec::as_slice).unwrap_or_default();
        let endpoints = self.endpoints.get(service).filter(|_| slices.is_empty());
        let subsets = endpoints.map(|endpoints| &endpoints.subsets[..]).unwrap_or_default();
        slices.iter().map(|slice| &slice.backends).chain(subsets)
    }

    fn warn_of_shared_addresses(&self, warnings: &mut Vec<Problem>) {
        let mut owners: HashMap<IpAddr, &Pod> = HashMap::new();
        for pod in self.pods.iter().filter(|pod| !pod.object.host_network) {
            for address in &pod.object.addresses {
                let Some(owner) = owners.insert(*address, pod.object) else { continue };
                let message = format!("has the address {address}, which is {}'s too", owner.name);
                warnings.push(pod.found.problem(pod.file, message));
            }
        }
    }
}

fn warn_of_derived_labels(pod: &Placed<'_, Pod>, warnings: &mut Vec<Problem>) {
    for key in pod.object.labels.keys().filter(|key| is_derived(key)) {
        let message = format!("its label `{key}` is ignored: only derived labels have such keys");
        warnings.push(pod.found.problem(pod.file, message));
    }
}

fn is_derived(key: &str) -> bool {
    key == Labels::NAMESPACE || key.starts_with(DERIVED)
}

/// The labels that all pods of a namespace get from it.
struct NamespaceLabels<'a>(HashMap<&'a str, Vec<Label>>);

impl<'a> NamespaceLabels<'a> {
    fn new(
        namespaces: &HashMap<&'a str, &'a BTreeMap<String, String>>,
        pods: &[Placed<'a, Pod>],
    ) -> Self {
        let mut labels = HashMap::new();
        for pod in pods {
            let name = pod.object.name.namespace.as_str();
            let of = |name| namespace_labels(name, namespaces.get(name).copied());
            labels.entry(name).or_insert_with_key(|name| of(name));
        }
        Self(labels)
    }

    fn of(&self, namespace: &str) -> &[Label] {
        self.0.get(namespace).map_or(&[], Vec::as_slice)
    }
}

/// The labels that each pod of a namespace gets from it.
pub(crate) fn namespace_labels(
    namespace: &str,
    labels: Option<&BTreeMap<String, String>>,
) -> Vec<Label> {
    let own = labels.into_iter().flatten().filter(|(key, _)| *key != NAMESPACE_NAME);
    let own = own.map(|(key, value)| (key.as_str(), value.as_str()));
    let mut derived = vec![Label::kubernetes(Labels::NAMESPACE, namespace)];
    derived.extend(own.chain([(NAMESPACE_NAME, namespace)]).map(|(key, value)| {
        Label::kubernetes(format!("{}.{key}", Labels::NAMESPACE_LABELS), value)
    }));
    derived
}

impl Pod {
    /// The pod with the labels of its namespace.
    pub fn join(&self, namespace: &[Label]) -> model::Pod {
        let own = self.labels.iter().filter(|(key, _)| !is_derived(key));
        let labels = own
            .map(|(key, value)| Label::kubernetes(key, value))
            .chain(namespace.iter().cloned())
            .chain([
                Label::kubernetes(SERVICE_ACCOUNT, &self.service_account),
                Label::kubernetes(CLUSTER.0, CLUSTER.1),
            ]);
        model::Pod {
            name: self.name.clone(),
            uid: self.uid.clone(),
            labels: labels.collect(),
            addresses: self.addresses.clone(),
            extra_sources: self.extra_sources.clone(),
            attachment: self.attachment.clone(),
            host_network: self.host_network,
            ports: Arc::new(self.ports.clone()),
        }
    }
}
