//! The nodes of the cluster.
//!
//! Where a node is probed stands in its annotations, as Cilium's agents write it there.

use std::net::IpAddr;

use model::{ClusterNode, Label};
use policy::Problem;
use serde::Deserialize;

use crate::described::Described;
use crate::metadata::Metadata;
use crate::text::{self, Cidr, TextError};

/// By family: today's annotation, and its name before Cilium 1.13.
const HEALTH: [&str; 4] = [
    "network.cilium.io/ipv4-health-ip",
    "network.cilium.io/ipv6-health-ip",
    "io.cilium.network.ipv4-health-ip",
    "io.cilium.network.ipv6-health-ip",
];

/// A Node's document, pruned.
#[derive(Debug, Deserialize)]
struct NodeDocument {
    metadata: Metadata,
    spec: Option<NodeSpec>,
    status: Option<NodeStatus>,
}

#[derive(Debug, Default, Deserialize)]
struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<Cidr>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<Cidr>>,
}

#[derive(Debug, Default, Deserialize)]
struct NodeStatus {
    addresses: Option<Vec<NodeAddress>>,
}

/// An address where the node is met; none where the entry gives a name of the node's.
#[derive(Debug, Deserialize)]
#[serde(try_from = "NodeAddressDocument")]
struct NodeAddress(Option<IpAddr>);

#[derive(Debug, Deserialize)]
struct NodeAddressDocument {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

impl TryFrom<NodeAddressDocument> for NodeAddress {
    type Error = TextError;

    fn try_from(document: NodeAddressDocument) -> Result<Self, TextError> {
        match document.kind.as_str() {
            "InternalIP" | "ExternalIP" => text::address(&document.address).map(Some).map(Self),
            _ => Ok(Self(None)),
        }
    }
}

/// Reads a Node's document.
pub(crate) fn read(document: &impl Described) -> Result<ClusterNode, Problem> {
    let NodeDocument { metadata, spec, status } = document.read()?;
    let (spec, status) = (spec.unwrap_or_default(), status.unwrap_or_default());
    let labels = metadata.labels();
    let mut health_addresses = Vec::new();
    for key in HEALTH {
        let Some(written) = metadata.annotation(key) else { continue };
        health_addresses.push(text::address(written).map_err(|error| {
            document.problem_at(&["metadata", "annotations", key], error.to_string())
        })?);
    }
    let prefixes = spec.pod_cidr.into_iter().chain(spec.pod_cidrs.into_iter().flatten());
    let addresses = status.addresses.into_iter().flatten().filter_map(|address| address.0);
    Ok(ClusterNode {
        name: metadata.name(),
        labels: labels.iter().map(|(key, value)| Label::node(key, value)).collect(),
        addresses: without_repetition(addresses),
        health_addresses: without_repetition(health_addresses.into_iter()),
        pod_prefixes: without_repetition(prefixes.map(|cidr| cidr.0)),
    })
}

fn without_repetition<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut kept = Vec::new();
    for value in values {
        if !kept.contains(&value) {
            kept.push(value);
        }
    }
    kept
}
