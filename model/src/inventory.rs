//! What exists around a node: pods, services, nodes and groups of prefixes, pruned to what
//! enforcement needs.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use imbl::ordmap::DiffItem;

use crate::{EndpointName, Labels, Name, Prefix, Protocol};

/// Objects by name, as they are at one moment.
///
/// A copy costs nothing and shares what it has with the original, so that the differences between
/// two moments are found by looking at what differs alone. Whoever follows a source changes one
/// map object by object, and gives out copies.
pub type Objects<K, V> = imbl::OrdMap<K, Arc<V>>;

/// An object that came, went, or is another one now.
#[derive(Debug)]
pub struct Changed<'a, K, V> {
    /// Its name.
    pub key: &'a K,
    /// What it was; none if it came.
    pub old: Option<&'a Arc<V>>,
    /// What it is; none if it went.
    pub new: Option<&'a Arc<V>>,
}

/// What differs between two moments, by name.
pub fn changes<'a, K: Ord, V: Eq>(
    old: &'a Objects<K, V>,
    new: &'a Objects<K, V>,
) -> impl Iterator<Item = Changed<'a, K, V>> {
    old.diff(new).map(|item| match item {
        DiffItem::Add(key, new) => Changed { key, old: None, new: Some(new) },
        DiffItem::Update { old: (key, old), new: (_, new) } => {
            Changed { key, old: Some(old), new: Some(new) }
        }
        DiffItem::Remove(key, old) => Changed { key, old: Some(old), new: None },
    })
}

/// A pod, or anything else with addresses and labels that a manifest describes as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub name: EndpointName,
    /// The object's uid, empty where the document has none.
    pub uid: String,
    /// Its own labels, its namespace's name and labels, service account and the like, as Cilium
    /// derives them (`k8s:io.kubernetes.pod.namespace=...`).
    pub labels: Labels,
    /// Its IP addresses; no two the same.
    pub addresses: Vec<IpAddr>,
    /// Further prefixes it may send from.
    pub extra_sources: Vec<Prefix>,
    /// How it is bound to an interface of this node; none for pods elsewhere.
    pub attachment: Option<Attachment>,
    /// Whether it shares its node's network namespace (its addresses are the node's).
    pub host_network: bool,
    /// Named container ports; pods alike have them in common.
    pub ports: Arc<BTreeMap<String, Vec<(Protocol, u16)>>>,
}

/// The runtime's record of which interface is a pod's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attachment {
    /// The name of the host-side interface.
    Interface(String),
    /// The path of the pod's network namespace, which one veth leads into.
    Namespace(PathBuf),
}

/// A service with what stands behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub name: EndpointName,
    /// Its own labels.
    pub labels: Labels,
    /// Whether it selects pods. The backends of one that does not are written by hand, and may lie
    /// anywhere.
    pub selects_pods: bool,
    /// The name that it stands for, if it is an ExternalName service; it then has no addresses,
    /// ports' backends or backends.
    pub external_name: Option<Name>,
    /// The addresses where clients meet it; empty for a headless one.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// The addresses of all ready backends, whatever the port, of both families, in order.
    pub backends: Vec<IpAddr>,
}

impl Service {
    /// A headless service without ports, and nothing behind it.
    pub fn new(name: EndpointName) -> Self {
        Self {
            name,
            labels: Labels::default(),
            selects_pods: true,
            external_name: None,
            addresses: Vec::new(),
            ports: Vec::new(),
            backends: Vec::new(),
        }
    }
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// The port's name, empty where it has none.
    pub name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The port at the service's addresses.
    pub port: u16,
    /// The port at every node's addresses, if it has one there.
    pub node_port: Option<u16>,
    /// The ready backends, each at its own port, of both families, in order.
    pub backends: Vec<SocketAddr>,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNode {
    /// Its name.
    pub name: String,
    /// Its labels, of source `node`.
    pub labels: Labels,
    /// Its addresses, inside the cluster and outside; no two the same.
    pub addresses: Vec<IpAddr>,
    /// The addresses where its health is probed, other than its own; no two the same.
    pub health_addresses: Vec<IpAddr>,
    /// The ranges that its pods' addresses come from.
    pub pod_prefixes: Vec<Prefix>,
}

/// A group of prefixes that rules refer to by its name or labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CidrGroup {
    /// Its name.
    pub name: String,
    /// Its own labels.
    pub labels: Labels,
    /// Its prefixes, in order; no two the same.
    pub prefixes: Vec<Prefix>,
}
