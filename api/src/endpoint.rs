//! Endpoints as the daemon describes them, and the two ways to name one.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use model::{EndpointId, EndpointName, Identity, TableId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One endpoint; [`ENDPOINTS`](crate::path::ENDPOINTS) answers with a list, ordered by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Its number in the maps; absent while nothing stands there for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<EndpointId>,
    /// Its pod's name.
    pub name: String,
    /// Its pod's namespace.
    pub namespace: String,
    /// What other endpoints' policies know it as.
    pub identity: Identity,
    /// Its labels, `source:key=value`.
    pub labels: Vec<String>,
    /// The host-side interface; absent while none is bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The bridge that the interface is a port of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// How its packets are judged.
    pub enforcement: Enforcement,
    /// Why everything is dropped, where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The verdict table that it shares with endpoints of the same rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableId>,
    /// Counts up when verdicts given before are given again.
    pub generation: u32,
    /// The policies that select it, `namespace/name` or `name`.
    pub policies: Vec<String>,
    /// Those among them that are audited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audited_policies: Vec<String>,
    /// How many names it has asked for whose addresses it may reach.
    pub names: u64,
    /// How many addresses it has of them.
    pub leases: u64,
    /// Queries over a limit on what is asked under patterns, by limit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub over_limits: BTreeMap<String, u64>,
    /// How many connections it has begun that passed, but for those to the DNS proxy.
    #[serde(default)]
    pub connections: u64,
    /// Dropped packets by reason.
    #[serde(default)]
    pub drops: BTreeMap<String, u64>,
    /// Packets that passed only because policies are audited, by the reason for which they would
    /// have been dropped.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub audits: BTreeMap<String, u64>,
}

/// How an endpoint's packets are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// No policy selects it: everything passes.
    Open,
    /// By the policies that select it.
    Enforced,
    /// By the policies that select it, and all of them are audited: nothing is dropped.
    Audited,
    /// Everything is dropped, because it is not bound as its manifest says.
    Denied,
}

/// An endpoint as people name it: by number, or by `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointRef {
    /// By its number.
    Id(EndpointId),
    /// By its pod's namespace and name.
    Name(EndpointName),
}

/// Why a text names no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is neither an endpoint's number nor namespace/name")]
pub struct EndpointRefError(String);

impl Endpoint {
    /// Namespace and name.
    pub fn full_name(&self) -> EndpointName {
        EndpointName { namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

impl fmt::Display for Enforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Enforced => "enforced",
            Self::Audited => "audited",
            Self::Denied => "denied",
        })
    }
}

impl EndpointRef {
    /// Whether it names the endpoint of this number and name.
    pub fn names(&self, id: EndpointId, name: &EndpointName) -> bool {
        match self {
            Self::Id(wanted) => *wanted == id,
            Self::Name(wanted) => wanted == name,
        }
    }
}

impl FromStr for EndpointRef {
    type Err = EndpointRefError;

    fn from_str(text: &str) -> Result<Self, EndpointRefError> {
        let error = || EndpointRefError(text.to_owned());
        match text.split_once('/') {
            None => text.parse().map(|id| Self::Id(EndpointId(id))).map_err(|_| error()),
            Some((namespace, name))
                if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
            {
                Ok(Self::Name(EndpointName { namespace: namespace.into(), name: name.into() }))
            }
            Some(_) => Err(error()),
        }
    }
}

impl fmt::Display for EndpointRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl Serialize for EndpointRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EndpointRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_named_by_number_or_by_namespace_and_name() {
        assert_eq!("7".parse(), Ok(EndpointRef::Id(EndpointId(7))));
        let named = EndpointName { namespace: "prod".into(), name: "web".into() };
        assert_eq!("prod/web".parse(), Ok(EndpointRef::Name(named)));
        for text in ["", "web", "-1", "prod/", "/web", "a/b/c", "4294967296"] {
            let error = text.parse::<EndpointRef>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("`{text}` is neither an endpoint's number nor namespace/name")
            );
        }
    }
}
