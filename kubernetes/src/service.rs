//! Services: what their own documents say, and what their backends make of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use model::{EndpointName, Label, Name, Protocol};
use policy::Problem;
use serde::Deserialize;

use crate::backends::Backends;
use crate::described::Described;
use crate::metadata::Metadata;
use crate::text::{Address, HostName, PortProtocol};

/// A service by itself: what its own document says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub name: EndpointName,
    pub labels: BTreeMap<String, String>,
    pub selects_pods: bool,
    pub external_name: Option<Name>,
    pub addresses: Vec<IpAddr>,
    pub ports: Vec<Port>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: Option<u16>,
}

/// A service's document, pruned.
#[derive(Debug, Deserialize)]
struct ServiceDocument {
    metadata: Metadata,
    spec: Option<ServiceSpec>,
    status: Option<ServiceStatus>,
}

#[derive(Debug, Default, Deserialize)]
struct ServiceSpec {
    #[serde(rename = "type")]
    kind: Option<String>,
    selector: Option<BTreeMap<String, String>>,
    #[serde(rename = "externalName")]
    external_name: Option<HostName>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<Address>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<Address>>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<Address>>,
    ports: Option<Vec<PortDocument>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PortDocument {
    name: Option<String>,
    #[serde(default)]
    protocol: PortProtocol,
    port: NonZeroU16,
    /// 0 where none is given out yet.
    node_port: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceStatus {
    load_balancer: Option<LoadBalancer>,
}

#[derive(Debug, Default, Deserialize)]
struct LoadBalancer {
    ingress: Option<Vec<Ingress>>,
}

#[derive(Debug, Deserialize)]
struct Ingress {
    ip: Option<Address>,
}

impl Service {
    /// Reads a service's document.
    pub fn read(document: &impl Described) -> Result<Self, Problem> {
        let ServiceDocument { metadata, spec, status } = document.read()?;
        let (spec, status) = (spec.unwrap_or_default(), status.unwrap_or_default());
        let external = spec.is_external();
        if external && spec.external_name.is_none() {
            let message = "must be set: the service is of type ExternalName";
            return Err(document.problem_at(&["spec", "externalName"], message));
        }
        let mut addresses = spec.addresses(status.load_balancer.unwrap_or_default());
        addresses.sort_unstable();
        addresses.dedup();
        let selector = spec.selector.filter(|selector| !selector.is_empty());
        Ok(Self {
            name: metadata.full_name(),
            labels: metadata.labels(),
            selects_pods: !external && selector.is_some(),
            external_name: spec.external_name.filter(|_| external).map(|name| name.0),
            addresses,
            ports: spec.ports.into_iter().flatten().map(PortDocument::port).collect(),
        })
    }

    /// The service with its backends: the ready addresses, at the backends' ports of the same
    /// name and protocol. A service that is only another name has none.
    pub fn join<'a>(&self, backends: impl Iterator<Item = &'a Backends> + Clone) -> model::Service {
        let backends = backends.filter(|_| self.external_name.is_none());
        let mut at: BTreeMap<(&str, Protocol), Vec<SocketAddr>> = BTreeMap::new();
        for some in backends.clone() {
            for port in &some.ports {
                let at = at.entry((&port.name, port.protocol)).or_default();
                at.extend(some.ready.iter().map(|address| SocketAddr::new(*address, port.port)));
            }
        }
        let ports = self.ports.iter().map(|port| model::ServicePort {
            name: port.name.clone(),
            protocol: port.protocol,
            port: port.port,
            node_port: port.node_port,
            backends: in_order(at.get(&(&*port.name, port.protocol)).cloned().unwrap_or_default()),
        });
        let labels = self.labels.iter().map(|(key, value)| Label::kubernetes(key, value));
        model::Service {
            name: self.name.clone(),
            labels: labels.collect(),
            selects_pods: self.selects_pods,
            external_name: self.external_name.clone(),
            addresses: self.addresses.clone(),
            ports: ports.collect(),
            backends: in_order(backends.flat_map(|some| &some.ready).copied().collect()),
        }
    }
}

impl ServiceSpec {
    /// Whether the service is only another name for what lies outside.
    fn is_external(&self) -> bool {
        self.kind.as_deref() == Some("ExternalName")
    }

    /// Every address of the service; one that is only a name has none.
    fn addresses(&self, balancer: LoadBalancer) -> Vec<IpAddr> {
        if self.is_external() {
            return Vec::new();
        }
        let ingress = balancer.ingress.into_iter().flatten().filter_map(|ingress| ingress.ip);
        self.cluster_ip
            .into_iter()
            .chain(self.cluster_ips.iter().flatten().copied())
            .chain(self.external_ips.iter().flatten().copied())
            .chain(ingress)
            .filter_map(|address| address.0)
            .collect()
    }
}

impl PortDocument {
    fn port(self) -> Port {
        Port {
            name: self.name.unwrap_or_default(),
            protocol: self.protocol.0,
            port: self.port.get(),
            node_port: self.node_port.filter(|port| *port != 0),
        }
    }
}

fn in_order<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort_unstable();
    values.dedup();
    values
}
