//! One record of what happened.
//!
//! A flow is made once and read by many, so whatever several flows have in common is shared: who
//! the ends are, the names of an address, the policies of a verdict. What follows from other
//! fields is a method, and costs nothing until somebody asks.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use model::{DropReason, EndpointId, EndpointName, Identity, Interface, Labels, Name, Source};

use crate::{Layer4, Layer7, Time};

/// A first packet of a flow, a dropped packet, or a message that a proxy judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// When it happened.
    pub time: Time,
    /// Which flow this is, among all of all nodes.
    pub uuid: Uuid,
    /// What became of it.
    pub verdict: Verdict,
    /// Why, where it was dropped.
    pub drop_reason: Option<DropReason>,
    /// Where the event came from.
    pub event: EventKind,
    /// The connection's direction, as the endpoint sees it that it was seen at.
    pub direction: Option<Direction>,
    /// Whether it goes back to where the connection came from; none where that is not known.
    pub is_reply: Option<bool>,
    /// Who sent it.
    pub source: Side,
    /// Who it was sent to.
    pub destination: Side,
    /// The service of the frontend that it was sent to, where it was sent to one.
    pub destination_service: Option<Arc<Service>>,
    /// The transport layer; none where the headers could not be read.
    pub l4: Option<Layer4>,
    /// The message, where a proxy read one.
    pub l7: Option<Box<Layer7>>,
    /// The policies that allow it, where it is known.
    pub allowed_by: Arc<[PolicyRef]>,
    /// The policies that deny it. None deny what is dropped because nothing allows it.
    pub denied_by: Arc<[PolicyRef]>,
    /// The interface where it was seen, with its name where that is known.
    pub interface: Option<(Interface, Option<Arc<str>>)>,
    /// The proxy's port, where it was redirected to one and that is known.
    pub proxy_port: Option<u16>,
    /// The node that saw it.
    pub node: Arc<str>,
}

/// A flow's own number: unique, and its text is a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(u128);

/// What became of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It went on.
    Forwarded,
    /// It did not.
    Dropped,
    /// It could not be handled: a server failed, or the proxy could not do its work.
    Error,
    /// It went on, and would have been dropped if its policies were enforced.
    Audit,
    /// It went to a proxy.
    Redirected,
    /// It was seen, and nothing was decided.
    Traced,
    /// An address of it was translated.
    Translated,
}

/// Where an event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// The programs dropped a packet.
    Drop,
    /// The programs let a flow's first packet pass, or sent it to a proxy.
    PolicyVerdict,
    /// A proxy read a message.
    L7,
}

/// A connection's direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the endpoint.
    Egress,
    /// To the endpoint.
    Ingress,
}

/// One end of a flow. Its port stands in [`Layer4`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Side {
    /// Its address; none where the headers could not be read.
    pub address: Option<IpAddr>,
    /// Who has the address.
    pub who: Arc<Who>,
    /// Names of the address: those that the other end, this pod, has resolved to it.
    pub names: Arc<[Name]>,
}

/// Somebody, as the node knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// The endpoint's number, if it is one of this node.
    pub endpoint: Option<EndpointId>,
    /// The identity, where it is known.
    pub identity: Option<Identity>,
    /// The pod's namespace and name, if it is a pod.
    pub pod: Option<EndpointName>,
    /// The identity's labels: a pod's own, `reserved:world` and the like for others.
    pub labels: Labels,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A policy, and the place in it that decided.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyRef {
    /// Its kind.
    pub kind: PolicyKind,
    /// Its namespace, empty for a clusterwide one.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The labels by which it is known: `k8s:io.cilium.k8s.policy.name=...` and the like.
    pub labels: Vec<String>,
    /// The revision since which policies and services are what they were when it decided.
    pub revision: u64,
    /// Its file.
    pub file: Arc<str>,
    /// The line in the file that decided, the first is 1.
    pub line: usize,
}

/// The kinds of policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// `CiliumNetworkPolicy`.
    Namespaced,
    /// `CiliumClusterwideNetworkPolicy`.
    Clusterwide,
}

impl Uuid {
    /// The number `sequence` of those that a recorder with a random `seed` gives.
    pub const fn new(seed: u128, sequence: u64) -> Self {
        const FIXED: u128 = 0xf000_c000_0000_0000_0000;
        const VERSION_AND_VARIANT: u128 = 0x4000_8000_0000_0000_0000;
        let number = seed ^ sequence as u128;
        Self(number & !FIXED | VERSION_AND_VARIANT)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0;
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            n >> 96,
            n >> 80 & 0xffff,
            n >> 64 & 0xffff,
            n >> 48 & 0xffff,
            n & 0xffff_ffff_ffff
        )
    }
}

impl Flow {
    /// The policies that decided: those that deny a flow, or those that allow it.
    pub fn decided_by(&self) -> &[PolicyRef] {
        if self.denied_by.is_empty() { &self.allowed_by } else { &self.denied_by }
    }
}

impl Side {
    /// The pod's namespace and name; empty where it is none.
    pub fn pod(&self) -> (&str, &str) {
        self.who.pod.as_ref().map_or(("", ""), |pod| (&pod.namespace, &pod.name))
    }

    /// The cluster that a pod is of, as its labels say; empty for others.
    pub fn cluster(&self) -> &str {
        const LABEL: &str = "io.cilium.k8s.policy.cluster";
        self.who.labels.values(&Source::Kubernetes, LABEL).next().unwrap_or_default()
    }

    /// The names as people write them, without the trailing dot.
    pub fn plain_names(&self) -> impl Iterator<Item = String> {
        self.names.iter().map(plain)
    }
}

impl PolicyKind {
    /// The kind, as documents write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Namespaced => "CiliumNetworkPolicy",
            Self::Clusterwide => "CiliumClusterwideNetworkPolicy",
        }
    }
}

/// A name without its trailing dot; the root stays a dot.
pub(crate) fn plain(name: &Name) -> String {
    let mut text = name.to_string();
    if text.len() > 1 {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_of_version_4_and_no_two_of_a_recorder_are_the_same() {
        let seed = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
        assert_eq!(Uuid::new(seed, 0).to_string(), "01234567-89ab-4def-8123-456789abcdef");
        assert_eq!(Uuid::new(seed, 1).to_string(), "01234567-89ab-4def-8123-456789abcdee");
    }
}
