//! Whom an entry of a policy is about, and how a service's address becomes that.

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::Prefix;

use super::kind::Kind;
use super::seen::{Port, Target};
use super::tree::Tree;

/// The service of the API server, which is an entity of its own.
const API_SERVER: (&str, &str) = ("default", "kubernetes");

/// Whom an entry is about, in the order of a policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    /// Whoever has the port.
    Anybody,
    Pods(Kind),
    Service {
        namespace: String,
        name: String,
    },
    Entity(&'static str),
    /// A name, or a pattern of names.
    Name(String),
    Address(IpAddr),
}

/// The services of the cluster, where the daemon has told of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Services(pub Vec<api::Service>);

impl Peer {
    /// The field of an entry that names it.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Anybody => None,
            Self::Pods(_) => Some("toEndpoints"),
            Self::Service { .. } => Some("toServices"),
            Self::Entity(_) => Some("toEntities"),
            Self::Name(_) => Some("toFQDNs"),
            Self::Address(_) => Some("toCIDR"),
        }
    }

    /// As an item of that field, in a policy of this namespace.
    pub fn item(&self, own_namespace: &str) -> Tree {
        match self {
            Self::Anybody => Tree::map([]),
            Self::Pods(kind) => kind.selector(own_namespace),
            Self::Service { namespace, name } => {
                let service =
                    [("serviceName", Tree::text(name)), ("namespace", Tree::text(namespace))];
                Tree::map([("k8sService", Tree::map(service))])
            }
            Self::Entity(name) => Tree::text(*name),
            Self::Name(name) => pattern(name),
            Self::Address(address) => Tree::text(Prefix::host(*address).to_string()),
        }
    }
}

/// A name or a pattern as rules for names have it.
pub(super) fn pattern(text: &str) -> Tree {
    let field = if text.contains('*') { "matchPattern" } else { "matchName" };
    Tree::map([(field, Tree::text(text))])
}

impl Services {
    /// Who is behind a target, and at which ports.
    ///
    /// Behind a service's address are the pods that serve it. Where some of them are no pods, the
    /// service itself is meant, at its backends' ports.
    pub fn behind(&self, target: &Target, port: Port) -> BTreeSet<(Peer, Port)> {
        let (namespace, name) = match target {
            Target::Pods(kind) => return [(Peer::Pods(kind.clone()), port)].into(),
            Target::Entity(entity) => return [(Peer::Entity(entity), port)].into(),
            Target::Outside(address) => return [(Peer::Address(*address), port)].into(),
            Target::Service { namespace, name } => (namespace, name),
        };
        let service = if (namespace.as_str(), name.as_str()) == API_SERVER {
            Peer::Entity("kube-apiserver")
        } else {
            Peer::Service { namespace: namespace.clone(), name: name.clone() }
        };
        let backends = self.backends(namespace, name, port);
        if backends.is_empty() {
            return [(service, port)].into();
        }
        let at = |own: &api::Backend| Port { number: own.address.port(), ..port };
        let pods = backends.iter().map(|own| Some((Peer::Pods(Kind::read(&own.labels)?), at(own))));
        let pods: Option<BTreeSet<(Peer, Port)>> = pods.collect();
        pods.unwrap_or_else(|| backends.iter().map(|own| (service.clone(), at(own))).collect())
    }

    /// Whether it is known who is behind a target.
    pub fn knows(&self, target: &Target, port: Port) -> bool {
        match target {
            Target::Service { namespace, name } => !self.backends(namespace, name, port).is_empty(),
            Target::Pods(_) | Target::Entity(_) | Target::Outside(_) => true,
        }
    }

    fn backends(&self, namespace: &str, name: &str, port: Port) -> &[api::Backend] {
        let mut services = self.0.iter();
        let service = services.find(|own| own.namespace == namespace && own.name == name);
        let mut ports = service.into_iter().flat_map(|service| &service.ports);
        let met = |own: &&api::ServicePort| {
            own.protocol == port.protocol
                && (own.port == port.number || own.node_port == Some(port.number))
        };
        ports.find(met).map_or(&[], |port| &port.backends)
    }
}
