//! Pods, and plain interfaces that a manifest describes as one.
//!
//! How a pod is bound to an interface stands in its annotations:
//! `fqdnd.io/interface` names the host-side interface, `fqdnd.io/netns` the network namespace; at
//! most one of the two. `fqdnd.io/addresses` gives the addresses where no kubelet writes a status,
//! `fqdnd.io/extra-sources` further prefixes that it may send from.
//!
//! Where anybody may write annotations, as through an API server, only the last of them counts:
//! the others would let a pod claim what is another's.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::{Component, Path};

use model::{Attachment, EndpointName, Prefix, Protocol};
use policy::Problem;
use serde::Deserialize;

use crate::described::Described;
use crate::metadata::Metadata;
use crate::text::{self, Address, PortProtocol, plain};

const INTERFACE: &str = "fqdnd.io/interface";
const NETNS: &str = "fqdnd.io/netns";
const ADDRESSES: &str = "fqdnd.io/addresses";
const EXTRA_SOURCES: &str = "fqdnd.io/extra-sources";

/// What a kubelet writes to the API server's copy of a pod that it found in a file.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// How many addresses, and how many extra sources, one pod may have.
const MAX_ADDRESSES: usize = 64;
/// IFNAMSIZ, less the closing zero.
const MAX_INTERFACE: usize = 15;
/// PATH_MAX, less the closing zero.
const MAX_PATH: usize = 4095;

/// A pod by itself: what its own document says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub name: EndpointName,
    pub uid: String,
    /// Where the node's kubelet was told of the pod by a file of its own: the uid there.
    pub mirrored: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub service_account: String,
    pub addresses: Vec<IpAddr>,
    pub extra_sources: Vec<Prefix>,
    pub attachment: Option<Attachment>,
    pub host_network: bool,
    pub ports: BTreeMap<String, Vec<(Protocol, u16)>>,
    /// It has run to its end: its addresses may be another's by now.
    pub finished: bool,
}

/// A pod's document, pruned.
#[derive(Debug, Deserialize)]
struct PodDocument {
    metadata: Metadata,
    spec: Option<PodSpec>,
    status: Option<PodStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    host_network: Option<bool>,
    service_account_name: Option<String>,
    containers: Option<Vec<Container>>,
}

#[derive(Debug, Deserialize)]
struct Container {
    ports: Option<Vec<ContainerPort>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerPort {
    name: Option<String>,
    container_port: NonZeroU16,
    #[serde(default)]
    protocol: PortProtocol,
}

#[derive(Debug, Default, Deserialize)]
struct PodStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<Address>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodAddress>>,
}

#[derive(Debug, Deserialize)]
struct PodAddress {
    ip: Option<Address>,
}

impl Pod {
    /// Reads a pod's document; problems name every annotation that is wrong.
    pub fn read(document: &impl Described) -> Result<Self, Vec<Problem>> {
        let PodDocument { metadata, spec, status } =
            document.read().map_err(|problem| vec![problem])?;
        let (spec, status) = (spec.unwrap_or_default(), status.unwrap_or_default());
        let host_network = spec.host_network.unwrap_or(false);
        let mut annotations = Annotations { document, metadata: &metadata, problems: Vec::new() };
        let attachment = annotations.attachment(host_network);
        let addresses = annotations.addresses(status.addresses());
        let extra_sources = annotations.extra_sources();
        if !annotations.problems.is_empty() {
            return Err(annotations.problems);
        }
        let account = spec.service_account_name.filter(|account| !account.is_empty());
        Ok(Self {
            name: metadata.full_name(),
            labels: metadata.labels(),
            mirrored: metadata.annotation(MIRROR).map(str::to_owned),
            uid: metadata.uid.unwrap_or_default(),
            service_account: account.unwrap_or_else(|| "default".to_owned()),
            addresses,
            extra_sources,
            attachment,
            host_network,
            ports: named_ports(spec.containers.unwrap_or_default()),
            finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
        })
    }
}

impl PodStatus {
    fn addresses(&self) -> Vec<IpAddr> {
        let all = self.pod_ips.iter().flatten().filter_map(|address| address.ip);
        let mut addresses = Vec::new();
        for address in self.pod_ip.into_iter().chain(all).filter_map(|address| address.0) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }
}

fn named_ports(containers: Vec<Container>) -> BTreeMap<String, Vec<(Protocol, u16)>> {
    let mut named: BTreeMap<String, Vec<(Protocol, u16)>> = BTreeMap::new();
    for port in containers.into_iter().filter_map(|container| container.ports).flatten() {
        let Some(name) = port.name.filter(|name| !name.is_empty()) else { continue };
        named.entry(name).or_default().push((port.protocol.0, port.container_port.get()));
    }
    named
}

/// A pod's annotations while they are read, and what is wrong with them.
struct Annotations<'a, D> {
    document: &'a D,
    metadata: &'a Metadata,
    problems: Vec<Problem>,
}

impl<D: Described> Annotations<'_, D> {
    fn problem(&mut self, key: &str, message: impl Into<String>) {
        let problem = self.document.problem_at(&["metadata", "annotations", key], message);
        self.problems.push(problem);
    }

    fn attachment(&mut self, host_network: bool) -> Option<Attachment> {
        if !self.document.is_record() {
            return None;
        }
        let interface = self.metadata.annotation(INTERFACE);
        let netns = self.metadata.annotation(NETNS);
        let (key, attachment) = match (interface, netns) {
            (None, None) => return None,
            (Some(_), Some(_)) => {
                self.problem(NETNS, format!("stands beside `{INTERFACE}`; give one of the two"));
                return None;
            }
            (Some(text), None) => (INTERFACE, interface_name(text)),
            (None, Some(text)) => (NETNS, namespace_path(text)),
        };
        if host_network {
            self.problem(key, "a pod in its node's network has no interface of its own");
            return None;
        }
        attachment.map_err(|message| self.problem(key, message)).ok()
    }

    /// The addresses of the status and those of the annotation.
    fn addresses(&mut self, mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
        let written = self.metadata.annotation(ADDRESSES).filter(|_| self.document.is_record());
        for part in written.into_iter().flat_map(parts) {
            match text::address(part) {
                Err(error) => self.problem(ADDRESSES, error.to_string()),
                Ok(address) if addresses.contains(&address) => {}
                Ok(address) => addresses.push(address),
            }
            if addresses.len() > MAX_ADDRESSES {
                self.problem(ADDRESSES, format!("makes more than {MAX_ADDRESSES} addresses"));
                break;
            }
        }
        addresses
    }

    fn extra_sources(&mut self) -> Vec<Prefix> {
        let mut sources = Vec::new();
        for part in self.metadata.annotation(EXTRA_SOURCES).into_iter().flat_map(parts) {
            match text::source(part) {
                Err(message) => self.problem(EXTRA_SOURCES, message),
                Ok(source) if sources.contains(&source) => {}
                Ok(source) => sources.push(source),
            }
            if sources.len() > MAX_ADDRESSES {
                self.problem(EXTRA_SOURCES, format!("makes more than {MAX_ADDRESSES} sources"));
                break;
            }
        }
        sources
    }
}

fn interface_name(text: &str) -> Result<Attachment, String> {
    let legal = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':'));
    if text.is_empty() || text.len() > MAX_INTERFACE || !legal || matches!(text, "." | "..") {
        return Err(format!("`{}` is no interface's name", plain(text)));
    }
    Ok(Attachment::Interface(text.to_owned()))
}

fn namespace_path(text: &str) -> Result<Attachment, String> {
    let path = Path::new(text);
    let straight = path.components().all(|part| part != Component::ParentDir);
    if !path.is_absolute() || !straight || text.contains(char::is_control) || text.len() > MAX_PATH
    {
        return Err(format!("`{}` is no absolute path without `..`", plain(text)));
    }
    Ok(Attachment::Namespace(path.to_owned()))
}

fn parts(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|part| !part.is_empty())
}
