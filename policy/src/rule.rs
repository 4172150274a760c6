//! Checked policies: what a document means, with everything resolved that can be without knowing
//! the cluster.
//!
//! An entry or port rule that needs what is not enforced here stays in its place and says so
//! ([`Unenforced`]): it allows nothing, and explanations can name it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use model::{Labels, Pattern, PortPrefix, Prefix, Protocol};

use crate::problem::Problem;
use crate::selector::LabelSelector;

mod canonical;
mod entity;
mod l7;

pub use entity::Entity;
pub use l7::{HeaderSecret, L7, SecretKey, TlsContext};

/// One CiliumNetworkPolicy or CiliumClusterwideNetworkPolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which one it is.
    pub key: PolicyKey,
    /// Its rules for egress: one for each `spec`, less those that say nothing of egress.
    pub rules: Vec<Arc<Rule>>,
    /// What is worth knowing, but is no error.
    pub warnings: Vec<Problem>,
    /// What is valid and not enforced here, so that the rule which needs it allows nothing. Each
    /// of them is one of the warnings too.
    pub unenforced: Vec<Problem>,
    /// Whether private addresses of outside names may be learned by its toFQDNs rules.
    pub allow_private: bool,
    /// Whether what it would drop passes, and is told.
    pub audited: bool,
}

/// The name of a policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyKey {
    /// The namespace, none for a clusterwide policy.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

/// Where a rule was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The policy.
    pub policy: PolicyKey,
    /// The file.
    pub file: Arc<Path>,
    /// The line of its `spec`, the first is 1.
    pub line: usize,
}

/// The place of a part of a rule in its file.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    /// The line, the first is 1.
    pub line: usize,
    /// The column in characters, the first is 1.
    pub column: usize,
    /// The path of the field, such as `spec.egress[0].toPorts[1]`.
    pub field: Arc<str>,
}

/// What the endpoints that a policy selects may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where it was read.
    pub origin: Origin,
    /// Whose egress it rules, the policy's namespace included.
    pub subject: LabelSelector,
    /// Whether what no rule allows is denied.
    pub default_deny: bool,
    /// Whether its policy lets private addresses of outside names be learned.
    pub allow_private: bool,
    /// Whether its policy is audited: what it allows is allowed; what it denies, or its default
    /// deny, passes and is told.
    pub audited: bool,
    /// What is allowed.
    pub egress: Vec<Egress>,
    /// What is denied, whatever else allows it.
    pub denied: Vec<Egress>,
}

/// What an entry does with the packets that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// An entry of `egress`.
    Allow,
    /// An entry of `egressDeny`.
    Deny,
}

/// Destinations and ports that are allowed, or denied, together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// The entry.
    pub at: Spot,
    /// The field that names the destinations; the entry where there is none.
    pub peers_at: Spot,
    /// The destinations.
    pub peers: Peers,
    /// The ports; none where the document names none, so that every protocol is meant.
    pub ports: Option<Vec<PortRule>>,
    /// What the entry as a whole needs and is not enforced here: it allows nothing then.
    pub unenforced: Option<Unenforced>,
}

/// The destinations of an entry. One of them only: Cilium takes no two kinds in one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Every destination: the entry names no kind.
    All,
    /// Pods by label. Empty selects nothing, as do the others.
    Endpoints(Vec<EndpointPeer>),
    /// Parts of the cluster and of the world by fixed names.
    Entities(Vec<Entity>),
    /// The ready backends of services.
    Services(Vec<ServicePeer>),
    /// Other nodes by label: the selectors require `reserved:remote-node` too.
    Nodes(Vec<LabelSelector>),
    /// Addresses outside the cluster by prefix.
    Prefixes(Vec<PrefixPeer>),
    /// Addresses outside the cluster by the names that resolved to them.
    Names(Vec<Pattern>),
}

/// Pods by label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointPeer {
    /// The pods, the policy's namespace included where the document names none.
    pub selector: LabelSelector,
    /// The selector as it was written, where the namespace was added: by this one, rules for DNS
    /// select the cluster's DNS pods.
    pub unscoped: Option<LabelSelector>,
}

/// Services: all that fulfil what is set. Where nothing is set, none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePeer {
    /// The name.
    pub name: Option<String>,
    /// The namespace; without it, all of them.
    pub namespace: Option<String>,
    /// The service's own labels.
    pub selector: Option<LabelSelector>,
}

/// Prefixes, less others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrefixPeer {
    /// The prefixes.
    pub base: PrefixBase,
    /// What is taken away from them, and from nothing else.
    pub except: Vec<Prefix>,
}

/// Where the prefixes of an entry stand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PrefixBase {
    /// In the entry.
    Prefix(Prefix),
    /// In the group of this name.
    Group(String),
    /// In all groups with these labels.
    Groups(LabelSelector),
}

/// Ports, and what may be said there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRule {
    /// The item of `toPorts` or `icmps`.
    pub at: Spot,
    /// Protocols and ports, types in the place of ports for ICMP; empty allows nothing.
    pub ports: Vec<PortPrefix>,
    /// Ports that each destination pod names itself.
    pub named: Vec<NamedPort>,
    /// Judged by a proxy, where there are such rules.
    pub application: Option<Application>,
}

/// A port by the name that a pod's containers give it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPort {
    /// The protocol.
    pub protocol: Protocol,
    /// The name, in lower case.
    pub name: String,
}

/// Rules for what is said on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Application {
    /// The names that may be asked for; none where it is empty.
    Dns(Vec<Pattern>),
    /// What may be said in other protocols.
    L7(Arc<L7>),
    /// Rules that nothing here judges: the ports are not opened by them.
    Unenforced(Unenforced),
}

impl Application {
    /// The same rules where there is a proxy for other protocols than DNS, or none.
    pub(crate) fn judged_where(self, there_is_a_proxy: bool) -> Self {
        match self {
            Self::L7(l7) if !there_is_a_proxy => Self::Unenforced(l7.field),
            own => own,
        }
    }

    /// The field for which the ports are not opened, if they are not.
    pub fn unenforced(&self) -> Option<Unenforced> {
        match self {
            Self::Dns(_) | Self::L7(_) => None,
            Self::Unenforced(what) => Some(*what),
        }
    }
}

/// What Cilium knows, a document may say, and is not enforced here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unenforced {
    /// `authentication`, but for the mode `disabled`.
    Authentication,
    /// `toGroups`.
    Groups,
    /// `listener`.
    Listener,
    /// `serverNames`.
    ServerNames,
    /// `terminatingTLS` or `originatingTLS`.
    Tls,
    /// `rules.http`.
    Http,
    /// `rules.kafka`.
    Kafka,
}

impl Rule {
    /// Whether the rule is about an endpoint with these labels.
    pub fn selects(&self, labels: &Labels) -> bool {
        self.subject.matches(labels)
    }

    /// Its entries, what is allowed first.
    pub fn entries(&self) -> impl Iterator<Item = (Direction, &Egress)> {
        let allowed = self.egress.iter().map(|entry| (Direction::Allow, entry));
        allowed.chain(self.denied.iter().map(|entry| (Direction::Deny, entry)))
    }
}

impl Egress {
    /// The port rules; where the document names no ports, one for all of them.
    pub(crate) fn port_rules(&self) -> impl Iterator<Item = PortRuleRef<'_>> {
        let named = self.ports.iter().flatten().map(PortRuleRef::Written);
        named.chain(self.ports.is_none().then_some(PortRuleRef::Every))
    }
}

/// A port rule of an entry, or what its absence stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PortRuleRef<'a> {
    Written(&'a PortRule),
    /// Every protocol and port.
    Every,
}

impl<'a> PortRuleRef<'a> {
    pub(crate) fn ports(self) -> &'a [PortPrefix] {
        match self {
            Self::Written(rule) => &rule.ports,
            Self::Every => &[PortPrefix::Any],
        }
    }

    pub(crate) fn named(self) -> &'a [NamedPort] {
        match self {
            Self::Written(rule) => &rule.named,
            Self::Every => &[],
        }
    }

    pub(crate) fn application(self) -> Option<&'a Application> {
        match self {
            Self::Written(rule) => rule.application.as_ref(),
            Self::Every => None,
        }
    }
}

impl PrefixPeer {
    /// One prefix, whole.
    pub fn whole(prefix: Prefix) -> Self {
        Self { base: PrefixBase::Prefix(prefix), except: Vec::new() }
    }
}

impl Unenforced {
    /// The field that asks for it.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Groups => "toGroups",
            Self::Listener => "listener",
            Self::ServerNames => "serverNames",
            Self::Tls => "terminatingTLS or originatingTLS",
            Self::Http => "rules.http",
            Self::Kafka => "rules.kafka",
        }
    }
}

impl fmt::Display for Unenforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field())
    }
}

impl Direction {
    /// The direction as people and machines read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PolicyKey {
    /// Whether the policy is for all namespaces.
    pub fn is_clusterwide(&self) -> bool {
        self.namespace.is_none()
    }
}

impl fmt::Display for PolicyKey {
    /// Writes `namespace/name`, or the name alone for a clusterwide policy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}
