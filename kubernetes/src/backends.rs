//! What stands behind services: EndpointSlices, and the older Endpoints.
//!
//! Only what is ready counts. A port without a number stands for all ports; no service has such a
//! port, so it leads nowhere.

use std::net::IpAddr;
use std::num::NonZeroU16;

use model::{EndpointName, Protocol};
use policy::Problem;
use serde::Deserialize;

use crate::described::Described;
use crate::metadata::Metadata;
use crate::text::{Address, PortProtocol};

/// The label by which a slice names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Ready backends, and the ports that all of them have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backends {
    pub ports: Vec<BackendPort>,
    pub ready: Vec<IpAddr>,
}

/// A port of backends. It is the service's port of the same name and protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackendPort {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
}

/// A slice of a service's backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub service: EndpointName,
    pub backends: Backends,
}

/// All backends of the service that has the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoints {
    pub service: EndpointName,
    pub subsets: Vec<Backends>,
}

/// What tells whether an EndpointSlice's content is read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SliceHeader {
    metadata: Metadata,
    address_type: Option<String>,
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

#[derive(Debug, Deserialize)]
struct PortDocument {
    name: Option<String>,
    #[serde(default)]
    protocol: PortProtocol,
    port: Option<NonZeroU16>,
}

/// An Endpoints document, pruned.
#[derive(Debug, Deserialize)]
struct EndpointsDocument {
    metadata: Metadata,
    subsets: Option<Vec<Subset>>,
}

/// Backends with the same ports; those that are not ready stand apart and are not read.
#[derive(Debug, Deserialize)]
struct Subset {
    addresses: Option<Vec<SubsetAddress>>,
    ports: Option<Vec<PortDocument>>,
}

#[derive(Debug, Deserialize)]
struct SubsetAddress {
    ip: Address,
}

impl Slice {
    /// Reads an EndpointSlice's document to its name and content. There is no content if it names
    /// no service, or its addresses are names.
    pub fn read(document: &impl Described) -> Result<(EndpointName, Option<Self>), Problem> {
        let header: SliceHeader = document.read()?;
        let name = header.metadata.full_name();
        let of_names = header.address_type.as_deref() == Some("FQDN");
        let Some(service) = header.metadata.labels().remove(SERVICE_NAME).filter(|_| !of_names)
        else {
            return Ok((name, None));
        };
        let content: SliceDocument = document.read()?;
        let service = EndpointName { namespace: name.namespace.clone(), name: service };
        Ok((name, Some(Self { service, backends: content.backends() })))
    }
}

impl SliceDocument {
    fn backends(self) -> Backends {
        let ready = self.endpoints.into_iter().flatten().filter(SliceEndpoint::is_ready);
        let addresses = ready.flat_map(|endpoint| endpoint.addresses.unwrap_or_default());
        Backends {
            ports: numbered(self.ports.unwrap_or_default()),
            ready: addresses.filter_map(|address| address.0).collect(),
        }
    }
}

impl SliceEndpoint {
    /// Whether it takes new connections; unknown counts as yes.
    fn is_ready(&self) -> bool {
        self.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
    }
}

impl Endpoints {
    /// Reads an Endpoints document.
    pub fn read(document: &impl Described) -> Result<Self, Problem> {
        let EndpointsDocument { metadata, subsets } = document.read()?;
        let subsets = subsets.into_iter().flatten().map(Subset::backends).collect();
        Ok(Self { service: metadata.full_name(), subsets })
    }
}

impl Subset {
    fn backends(self) -> Backends {
        let addresses = self.addresses.into_iter().flatten();
        Backends {
            ports: numbered(self.ports.unwrap_or_default()),
            ready: addresses.filter_map(|address| address.ip.0).collect(),
        }
    }
}

fn numbered(ports: Vec<PortDocument>) -> Vec<BackendPort> {
    let numbered = ports.into_iter().filter_map(|port| {
        Some(BackendPort {
            name: port.name.unwrap_or_default(),
            protocol: port.protocol.0,
            port: port.port?.get(),
        })
    });
    numbered.collect()
}
