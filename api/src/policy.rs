//! Policies and what they select, as the daemon has them in force.

use model::{EndpointName, Identity as Number};
use serde::{Deserialize, Serialize};

use crate::Problem;

/// One policy; [`POLICIES`](crate::path::POLICIES) answers with a list, ordered by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Its namespace; absent for a clusterwide policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its file; empty where it has no rule for egress.
    pub file: String,
    /// Whether it is audited: what it alone would drop passes, and is told.
    #[serde(default)]
    pub audited: bool,
    /// Its rules for egress.
    pub rules: Vec<PolicyRule>,
    /// The endpoints of this node that it selects.
    pub endpoints: Vec<EndpointName>,
    /// What it asks for and is not enforced here: the rules that need it allow nothing.
    pub unenforced: Vec<Problem>,
    /// What is legal, and perhaps not what was meant.
    pub warnings: Vec<Problem>,
}

/// A rule of a policy: one `spec`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRule {
    /// The line of the `spec`.
    pub line: usize,
    /// Whose egress it rules, as a label selector.
    pub subject: String,
    /// Whether what no rule allows is denied.
    pub default_deny: bool,
    /// How many entries allow.
    pub allows: usize,
    /// How many entries deny.
    pub denies: usize,
}

/// What rules name as destinations; [`SELECTORS`](crate::path::SELECTORS) answers with a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// The field that holds it, such as `toFQDNs`.
    pub field: String,
    /// The selector as text.
    pub selector: String,
    /// The policies that have it.
    pub policies: Vec<String>,
    /// The identities that it selects, but for those of names.
    pub identities: Vec<Number>,
    /// The names that it selects and that endpoints of this node have resolved.
    pub names: Vec<String>,
}

/// An identity; [`IDENTITIES`](crate::path::IDENTITIES) answers with a list, ordered by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Its number in the maps.
    pub identity: Number,
    /// What kind of thing it stands for.
    pub kind: IdentityKind,
    /// Labels, a prefix, a service's port, or selectors of names, as text.
    pub meaning: Vec<String>,
}

/// What kind of thing an identity stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdentityKind {
    /// A fixed meaning.
    Reserved,
    /// Pods and nodes with the same labels.
    Labels,
    /// Addresses outside under a prefix.
    Prefix,
    /// A port of a service.
    Service,
    /// Addresses of names that the same selectors match.
    Names,
}

impl IdentityKind {
    /// The kind as people and machines read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Labels => "labels",
            Self::Prefix => "prefix",
            Self::Service => "service",
            Self::Names => "names",
        }
    }
}

impl Policy {
    /// `namespace/name`, or the name alone for a clusterwide policy.
    pub fn full_name(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.clone(),
        }
    }
}
