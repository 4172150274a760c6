//! Services, and the EndpointSlices that say what stands behind them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use model::{EndpointName, Protocol};
use policy::{Document, Problem};
use serde::Deserialize;

use crate::metadata::Metadata;
use crate::text::{Address, PortProtocol};

/// The label by which a slice names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A service by itself: what its own document says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub name: EndpointName,
    pub addresses: Vec<IpAddr>,
    pub ports: Vec<Port>,
}

/// A port of a service, or of a slice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
}

/// Ready backends of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub service: EndpointName,
    pub ports: Vec<Port>,
    pub ready: Vec<IpAddr>,
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
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<Address>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<Address>>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<Address>>,
    ports: Option<Vec<PortDocument>>,
}

/// A service's port, or a slice's, which may have no number.
#[derive(Debug, Deserialize)]
struct PortDocument {
    name: Option<String>,
    #[serde(default)]
    protocol: PortProtocol,
    port: Option<NonZeroU16>,
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

/// An EndpointSlice's content.
#[derive(Debug, Deserialize)]
struct SliceDocument {
    endpoints: Option<Vec<SliceEndpoint>>,
    ports: Option<Vec<PortDocument>>,
}

#[derive(Debug, Deserialize)]
struct SliceEndpoint {
    addresses: Option<Vec<Address>>,
    conditions: Option<Conditions>,
}

#[derive(Debug, Deserialize)]
struct Conditions {
    ready: Option<bool>,
}

/// What tells whether an EndpointSlice's content is read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SliceHeader {
    metadata: Metadata,
    address_type: Option<String>,
}

impl Service {
    /// Reads a service's document.
    pub fn read(document: &Document) -> Result<Self, Problem> {
        let ServiceDocument { metadata, spec, status } = document.read()?;
        let (spec, status) = (spec.unwrap_or_default(), status.unwrap_or_default());
        let mut addresses = spec.addresses(status.load_balancer.unwrap_or_default());
        addresses.sort_unstable();
        addresses.dedup();
        let ports = checked_ports(spec.ports.unwrap_or_default());
        Ok(Self { name: metadata.full_name(), addresses, ports })
    }

    /// The service with its backends: the ready addresses of its slices, at the slices' ports of
    /// the same name and protocol.
    pub fn join(&self, slices: &[&Slice]) -> model::Service {
        let mut backends: BTreeMap<(&str, Protocol), Vec<SocketAddr>> = BTreeMap::new();
        for slice in slices {
            for port in &slice.ports {
                let at = backends.entry((&port.name, port.protocol)).or_default();
                at.extend(slice.ready.iter().map(|address| SocketAddr::new(*address, port.port)));
            }
        }
        for backends in backends.values_mut() {
            backends.sort_unstable();
            backends.dedup();
        }
        let ports = self.ports.iter().map(|port| model::ServicePort {
            name: port.name.clone(),
            protocol: port.protocol,
            port: port.port,
            backends: backends
                .get(&(port.name.as_str(), port.protocol))
                .cloned()
                .unwrap_or_default(),
        });
        model::Service {
            name: self.name.clone(),
            addresses: self.addresses.clone(),
            ports: ports.collect(),
        }
    }
}

impl ServiceSpec {
    /// Every address of the service; an ExternalName service is a name and has none.
    fn addresses(&self, balancer: LoadBalancer) -> Vec<IpAddr> {
        if self.kind.as_deref() == Some("ExternalName") {
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

impl Slice {
    /// Reads an EndpointSlice's document to its name and content. There is no content if it names
    /// no service, or its addresses are names.
    pub fn read(document: &Document) -> Result<(EndpointName, Option<Self>), Problem> {
        let header: SliceHeader = document.read()?;
        let name = header.metadata.full_name();
        let of_names = header.address_type.as_deref() == Some("FQDN");
        let Some(service) = header.metadata.labels().remove(SERVICE_NAME).filter(|_| !of_names)
        else {
            return Ok((name, None));
        };
        let content: SliceDocument = document.read()?;
        let service = EndpointName { namespace: name.namespace.clone(), name: service };
        Ok((name, Some(content.slice(service))))
    }
}

impl SliceDocument {
    fn slice(self, service: EndpointName) -> Slice {
        let ready = self
            .endpoints
            .into_iter()
            .flatten()
            .filter(SliceEndpoint::is_ready)
            .flat_map(|endpoint| endpoint.addresses.unwrap_or_default())
            .filter_map(|address| address.0)
            .collect();
        Slice { service, ports: checked_ports(self.ports.unwrap_or_default()), ready }
    }
}

impl SliceEndpoint {
    /// Whether it takes new connections; unknown counts as yes.
    fn is_ready(&self) -> bool {
        self.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
    }
}

/// The ports that have a number: a slice's port without one stands for all, and no service has it.
fn checked_ports(ports: Vec<PortDocument>) -> Vec<Port> {
    let checked = ports.into_iter().filter_map(|port| {
        Some(Port {
            name: port.name.unwrap_or_default(),
            protocol: port.protocol.0,
            port: port.port?.get(),
        })
    });
    checked.collect()
}
