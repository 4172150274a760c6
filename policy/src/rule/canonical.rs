//! Rules as text: two with the same text are the same in effect.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use model::{HeaderValue, Hidden, Requests};

use crate::rule::{
    Application, Egress, EndpointPeer, L7, NamedPort, Peers, PortRule, PrefixBase, PrefixPeer,
    Rule, ServicePeer,
};

impl Rule {
    /// Everything the rule means, as text: two rules with the same text are the same in effect,
    /// wherever they were read and in whatever order their parts stood.
    pub fn canonical(&self) -> String {
        let mut text = format!(
            "subject({}) deny({}) private({})",
            self.subject, self.default_deny, self.allow_private
        );
        // Numbers of rules that are enforced stay what they were before any could be audited.
        if self.audited {
            text.push_str(" audited");
        }
        for entry in self.egress.iter().map(Egress::canonical).collect::<BTreeSet<_>>() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n{entry}");
        }
        for entry in self.denied.iter().map(Egress::canonical).collect::<BTreeSet<_>>() {
            let _ = write!(text, "\nnot {entry}");
        }
        text
    }
}

impl Egress {
    fn canonical(&self) -> String {
        let mut text = self.peers.canonical();
        if let Some(unenforced) = self.unenforced {
            let _ = write!(text, " unenforced({unenforced})");
        }
        let Some(ports) = &self.ports else { return text + " ports(all)" };
        for rule in ports.iter().map(PortRule::canonical).collect::<BTreeSet<_>>() {
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
            Self::Entities(entities) => format!("entities({})", sorted(entities)),
            Self::Services(services) => format!("services({})", sorted(services)),
            Self::Nodes(selectors) => format!("nodes({})", sorted(selectors)),
            Self::Prefixes(prefixes) => format!("prefixes({})", sorted(prefixes)),
            Self::Names(patterns) => format!("names({})", sorted(patterns)),
        }
    }
}

impl PortRule {
    fn canonical(&self) -> String {
        let all: BTreeSet<String> = shown(&self.ports).chain(shown(&self.named)).collect();
        let ports = joined(all);
        match &self.application {
            None => format!("ports({ports})"),
            Some(Application::Dns(patterns)) => format!("ports({ports}; dns {})", sorted(patterns)),
            Some(Application::L7(l7)) => format!("ports({ports}; {})", l7.canonical()),
            Some(Application::Unenforced(what)) => format!("ports({ports}; unenforced {what})"),
        }
    }
}

impl L7 {
    /// What is said, whole: header values too, which are never printed to people.
    fn canonical(&self) -> String {
        let Self { field, rule, terminating, originating, headers } = self;
        let http = match &rule.requests {
            Requests::Http(rules) => rules.as_slice(),
            Requests::Any | Requests::Kafka(_) => &[],
        };
        let matches = http.iter().flat_map(|rule| &rule.header_matches);
        let hidden = matches.filter_map(|header| match &header.value {
            HeaderValue::Exactly(Hidden(value)) => Some(value),
            HeaderValue::Present | HeaderValue::Unavailable(_) => None,
        });
        let hidden: Vec<&String> = hidden.collect();
        format!("{field} {rule:?} {hidden:?} {terminating:?} {originating:?} {headers:?}")
    }
}

fn sorted(items: &[impl fmt::Display]) -> String {
    joined(shown(items).collect())
}

fn shown(items: &[impl fmt::Display]) -> impl Iterator<Item = String> {
    items.iter().map(ToString::to_string)
}

fn joined(items: BTreeSet<String>) -> String {
    items.into_iter().collect::<Vec<_>>().join(" | ")
}

impl fmt::Display for EndpointPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.unscoped {
            None => write!(f, "[{}]", self.selector),
            Some(unscoped) => write!(f, "[{}] dns [{unscoped}]", self.selector),
        }
    }
}

impl fmt::Display for ServicePeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |part: &Option<String>| part.clone().unwrap_or_else(|| "*".to_owned());
        write!(f, "{}/{}", part(&self.namespace), part(&self.name))?;
        match &self.selector {
            None => Ok(()),
            Some(selector) => write!(f, " [{selector}]"),
        }
    }
}

impl fmt::Display for PrefixPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.base {
            PrefixBase::Prefix(prefix) => write!(f, "{prefix}")?,
            PrefixBase::Group(name) => write!(f, "group {name}")?,
            PrefixBase::Groups(selector) => write!(f, "groups [{selector}]")?,
        }
        if self.except.is_empty() { Ok(()) } else { write!(f, " but {}", sorted(&self.except)) }
    }
}

impl fmt::Display for NamedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.protocol)
    }
}
