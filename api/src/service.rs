//! Services, and what stands behind them.

use std::net::SocketAddr;

use model::Protocol;
use serde::{Deserialize, Serialize};

/// A service with ports; [`SERVICES`](crate::path::SERVICES) answers with a list, ordered by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// The protocol.
    pub protocol: Protocol,
    /// Its number at the service's addresses.
    pub port: u16,
    /// Its number at every node's addresses, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_port: Option<u16>,
    /// The ready backends.
    pub backends: Vec<Backend>,
}

/// A backend of a service's port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    /// The pod's labels; empty for what is no pod with an address of its own.
    pub labels: Vec<String>,
}
