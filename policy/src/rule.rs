//! Checked policies: what a document means, with everything resolved that can be without knowing
//! the cluster.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use model::{Labels, Pattern, PortPrefix, Prefix};

use crate::problem::Problem;
use crate::selector::LabelSelector;

/// One CiliumNetworkPolicy or CiliumClusterwideNetworkPolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which one it is.
    pub key: PolicyKey,
    /// Its rules for egress: one for each `spec`, less those that say nothing of egress.
    pub rules: Vec<Arc<Rule>>,
    /// What is worth knowing, but is no error.
    pub warnings: Vec<Problem>,
    /// Whether private addresses of outside names may be learned by its toFQDNs rules.
    pub allow_private: bool,
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
    /// What is allowed.
    pub egress: Vec<Egress>,
}

/// Destinations and ports that are allowed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// The line of the entry, the first is 1.
    pub line: usize,
    /// The destinations.
    pub peers: Peers,
    /// The ports; none where the document names none, so that every protocol passes.
    pub ports: Option<Vec<PortRule>>,
}

/// The destinations of an entry. One of them only: Cilium takes no two kinds in one entry.
///
/// What is not enforced yet (entities, services, prefixes with exceptions, nodes) is refused when
/// it is read, and gets a kind of its own here when it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Every destination: the entry names no kind.
    All,
    /// Pods by label. Empty selects nothing, as do the others.
    Endpoints(Vec<EndpointPeer>),
    /// Addresses outside the cluster by prefix.
    Prefixes(Vec<Prefix>),
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

/// Ports, and what may be said there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRule {
    /// Protocols and ports; empty allows nothing.
    pub ports: Vec<PortPrefix>,
    /// Judged by a proxy, where there are such rules.
    pub application: Option<Application>,
}

/// Rules for what is said on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Application {
    /// The names that may be asked for; none where it is empty.
    Dns(Vec<Pattern>),
}

impl Rule {
    /// Whether the rule is about an endpoint with these labels.
    pub fn selects(&self, labels: &Labels) -> bool {
        self.subject.matches(labels)
    }

    /// Everything the rule means, as text: two rules with the same text are the same in effect,
    /// wherever they were read and in whatever order their parts stood.
    pub fn canonical(&self) -> String {
        let egress: BTreeSet<String> = self.egress.iter().map(Egress::canonical).collect();
        let mut text = format!(
            "subject({}) deny({}) private({})",
            self.subject, self.default_deny, self.allow_private
        );
        for entry in egress {
            text.push('\n');
            text.push_str(&entry);
        }
        text
    }
}

impl Egress {
    fn canonical(&self) -> String {
        let mut text = self.peers.canonical();
        let Some(ports) = &self.ports else { return text + " ports(all)" };
        for rule in ports.iter().map(PortRule::canonical).collect::<BTreeSet<_>>() {
            // Writing to a String cannot fail.
            let _ = write!(text, " {rule}");
        }
        text
    }
}

impl Peers {
    fn canonical(&self) -> String {
        match self {
            Self::All => "all".to_owned(),
            Self::Endpoints(peers) => format!("pods({})", sorted(peers)),
            Self::Prefixes(prefixes) => format!("prefixes({})", sorted(prefixes)),
            Self::Names(patterns) => format!("names({})", sorted(patterns)),
        }
    }
}

impl PortRule {
    fn canonical(&self) -> String {
        let ports = sorted(&self.ports);
        match &self.application {
            None => format!("ports({ports})"),
            Some(Application::Dns(patterns)) => format!("ports({ports}; dns {})", sorted(patterns)),
        }
    }
}

fn sorted(items: &[impl fmt::Display]) -> String {
    let items: BTreeSet<String> = items.iter().map(ToString::to_string).collect();
    items.into_iter().collect::<Vec<_>>().join(" | ")
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

impl fmt::Display for EndpointPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.unscoped {
            None => write!(f, "[{}]", self.selector),
            Some(unscoped) => write!(f, "[{}] dns [{unscoped}]", self.selector),
        }
    }
}
