//! Why a packet passes, or does not: every rule asked, one after the other.
//!
//! Nothing here is shared with the compiled [`Table`](crate::Table) but the rules themselves, so
//! that each shows whether the other is right. It is slow and obvious, and meant for people.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use model::{Labels, Name, NameRef, Prefix, Protocol, Requests, Source, Verdict};

use crate::context::{Context, SelectedService, Wants, named_ports};
use crate::rule::{
    Application, Direction, Egress, EndpointPeer, Entity, Peers, PolicyKey, PortRuleRef,
    PrefixPeer, Rule, Spot, Unenforced,
};
use crate::table::{API_SERVER, DefaultDeny, outside, own};

/// The most rules that are named because they nearly cover a packet.
const MAX_NEAR: usize = 10;

/// A packet that begins something, as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Where it goes.
    pub destination: Destination<'a>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its port; for ICMP, its type.
    pub port: u16,
    /// The name that it asks for, if it is a question of DNS.
    pub asks: Option<NameRef<'a>>,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug)]
pub enum Destination<'a> {
    /// To what carries these labels in the cluster, those that [`Wants`] names included.
    Inside(&'a Labels),
    /// Out of the cluster.
    Outside {
        /// The address.
        address: IpAddr,
        /// What it carries beside `reserved:world`.
        labels: &'a Labels,
        /// The names that the endpoint has resolved to it.
        names: &'a [Name],
    },
}

/// What the rules say of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The verdict; none where no rule covers the packet and one asks for default deny.
    /// [`Verdict::Proxy`] of UDP: its connections would be judged, and UDP is as if no rule
    /// covered it.
    pub verdict: Option<Verdict>,
    /// What becomes of what no rule allows.
    pub default_deny: DefaultDeny,
    /// Whether the name that the packet asks for may be asked, where the verdict is
    /// [`Verdict::Dns`] and it asks for one.
    pub asks: Option<bool>,
    /// The port rules that decided, in the order of the rules: those that deny if one does, else
    /// those that allow.
    pub decided: Vec<Decision>,
    /// The port rules that would deny it, were their policies not audited.
    pub audited: Vec<Decision>,
    /// Where no rule allows the packet and none denies it: those that nearly allow it, the nearest
    /// first.
    pub near: Vec<Near>,
}

/// A part of a rule that covers a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The policy.
    pub policy: PolicyKey,
    /// Its file.
    pub file: Arc<Path>,
    /// Whether it allows or denies.
    pub direction: Direction,
    /// The entry.
    pub entry: Spot,
    /// What names the destinations.
    pub peers: Spot,
    /// What names the ports; none where the entry is for all of them.
    pub ports: Option<Spot>,
}

/// A part of a rule that would allow a packet, were it not for one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Near {
    /// The part.
    pub rule: Decision,
    /// What is in the way.
    pub lacks: Lack,
}

/// What keeps a rule from allowing a packet. The first is the nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// It needs what is not enforced here.
    Enforcement(Unenforced),
    /// It does not let the name be asked for.
    Name,
    /// It is for other ports.
    Port,
    /// It is for other destinations.
    Destination,
}

/// Explains what these rules, which select the sender, say of a packet.
pub fn explain(rules: &[Arc<Rule>], context: &Context, packet: &Packet<'_>) -> Explanation {
    let default_deny = rules.iter().map(|rule| rule.default_deny()).max().unwrap_or_default();
    let (mut found, mut near) = (Found::default(), Vec::new());
    for rule in rules {
        for (direction, entry) in rule.entries() {
            for ports in entry.port_rules() {
                let decision = || Decision::new(rule, direction, entry, ports);
                match judge(context, packet, (direction, rule.audited), entry, ports) {
                    Judged::Covers(effect) => {
                        if let Effect::Dns(Some(false)) = effect {
                            near.push(Near { rule: decision(), lacks: Lack::Name });
                        }
                        found.add(effect, decision());
                    }
                    Judged::Lacks(lacks) => near.push(Near { rule: decision(), lacks }),
                    Judged::Far => {}
                }
            }
        }
    }
    let (verdict, asks) = found.verdict(default_deny);
    let audited = std::mem::take(&mut found.audited);
    let decided = found.decisions(verdict);
    let mut explanation =
        Explanation { verdict, default_deny, asks, decided, audited, near: Vec::new() };
    let protocol = packet.protocol;
    if explanation.is_unruled(protocol) && explanation.would_be_dropped(protocol) {
        near.sort_by_key(|near| near.lacks);
        near.truncate(MAX_NEAR);
        explanation.near = near;
    }
    explanation
}

/// What one part of a rule does with a packet.
#[derive(Clone, Copy)]
enum Effect {
    Allow,
    /// A rule for DNS: whether the name may be asked for, if one is.
    Dns(Option<bool>),
    /// Rules for what is said in other protocols.
    Proxy,
    Deny,
    /// It would be denied, were the policy not audited.
    AuditedDeny,
}

enum Judged {
    Covers(Effect),
    Lacks(Lack),
    Far,
}

#[derive(Default)]
struct Found {
    allow: Vec<Decision>,
    dns: Vec<(Decision, Option<bool>)>,
    proxy: Vec<Decision>,
    deny: Vec<Decision>,
    audited: Vec<Decision>,
}

impl Found {
    fn add(&mut self, effect: Effect, decision: Decision) {
        match effect {
            Effect::Allow => self.allow.push(decision),
            Effect::Dns(asks) => self.dns.push((decision, asks)),
            Effect::Proxy => self.proxy.push(decision),
            Effect::Deny => self.deny.push(decision),
            Effect::AuditedDeny => self.audited.push(decision),
        }
    }

    fn verdict(&self, default_deny: DefaultDeny) -> (Option<Verdict>, Option<bool>) {
        if !self.deny.is_empty() {
            return (Some(Verdict::Deny), None);
        }
        if self.dns.is_empty() {
            let verdict = match (self.allow.is_empty(), self.proxy.is_empty()) {
                (false, _) => Some(Verdict::Allow),
                (true, false) => Some(Verdict::Proxy),
                (true, true) => default_deny.is_absent().then_some(Verdict::Unruled),
            };
            return (verdict, None);
        }
        // A plain allow beside a rule for DNS lets every name be asked for.
        let mut asks = self.dns.iter().filter_map(|(_, asks)| *asks).reduce(|a, b| a || b);
        if !self.allow.is_empty() {
            asks = asks.map(|_| true);
        }
        (Some(Verdict::Dns), asks)
    }

    fn decisions(self, verdict: Option<Verdict>) -> Vec<Decision> {
        match verdict {
            Some(Verdict::Deny) => self.deny,
            Some(Verdict::Proxy) => self.proxy,
            Some(Verdict::Allow | Verdict::Dns | Verdict::Unruled) | None => {
                self.dns.into_iter().map(|(decision, _)| decision).chain(self.allow).collect()
            }
        }
    }
}

fn judge(
    context: &Context,
    packet: &Packet<'_>,
    (direction, audited): (Direction, bool),
    entry: &Egress,
    ports: PortRuleRef<'_>,
) -> Judged {
    let application = ports.application();
    let is_dns = matches!(application, Some(Application::Dns(_)));
    let reaches = reaches(context, &entry.peers, packet.destination, is_dns);
    let covers = covers(packet, ports, application);
    let is_allow = direction == Direction::Allow;
    match (reaches, covers) {
        (true, true) => {}
        (true, false) if is_allow && opens_something(ports) => return Judged::Lacks(Lack::Port),
        (false, true) if is_allow => return Judged::Lacks(Lack::Destination),
        _ => return Judged::Far,
    }
    match (direction, entry.unenforced, application) {
        (Direction::Deny, _, _) if audited => Judged::Covers(Effect::AuditedDeny),
        (Direction::Deny, _, _) => Judged::Covers(Effect::Deny),
        (Direction::Allow, Some(what), _) => Judged::Lacks(Lack::Enforcement(what)),
        (Direction::Allow, None, None) => Judged::Covers(Effect::Allow),
        (Direction::Allow, None, Some(Application::L7(_))) => Judged::Covers(Effect::Proxy),
        (Direction::Allow, None, Some(Application::Unenforced(what))) => {
            Judged::Lacks(Lack::Enforcement(*what))
        }
        (Direction::Allow, None, Some(Application::Dns(patterns))) => {
            let allows = |name| patterns.iter().any(|pattern| pattern.matches(name));
            Judged::Covers(Effect::Dns(packet.asks.map(allows)))
        }
    }
}

fn opens_something(ports: PortRuleRef<'_>) -> bool {
    !ports.ports().is_empty() || !ports.named().is_empty()
}

/// Whether a port rule is about a packet. Rules for what is said are about TCP; and about UDP to
/// the same port, unless they are for Kafka: that could be QUIC, and is not let through.
fn covers(packet: &Packet<'_>, ports: PortRuleRef<'_>, application: Option<&Application>) -> bool {
    let as_protocol = |protocol| has_port(packet, protocol, ports);
    let Some(Application::L7(l7)) = application else { return as_protocol(packet.protocol) };
    let is_kafka = matches!(l7.rule.requests, Requests::Kafka(_));
    match packet.protocol {
        Protocol::TCP => as_protocol(Protocol::TCP),
        Protocol::UDP => !is_kafka && (as_protocol(Protocol::TCP) || as_protocol(Protocol::UDP)),
        _ => false,
    }
}

/// Whether a port rule names a packet's port for a protocol.
fn has_port(packet: &Packet<'_>, protocol: Protocol, ports: PortRuleRef<'_>) -> bool {
    if ports.ports().iter().any(|own| own.covers(protocol, packet.port)) {
        return true;
    }
    let Destination::Inside(labels) = packet.destination else { return false };
    let named = named_ports(labels);
    named.iter().any(|(name, port)| {
        name.protocol == protocol && *port == packet.port && ports.named().contains(name)
    })
}

fn reaches(context: &Context, peers: &Peers, destination: Destination<'_>, is_dns: bool) -> bool {
    let labels = destination.labels();
    match peers {
        Peers::All => true,
        Peers::Endpoints(peers) => peers.iter().any(|peer| {
            peer.selector.matches(&labels) || is_dns && widens(context, peer, destination)
        }),
        Peers::Entities(entities) => entities.iter().any(|own| is_in(*own, destination, &labels)),
        Peers::Services(peers) => {
            let mut selected = peers.iter().flat_map(|peer| context.services_of(peer));
            selected.any(|service| match service {
                SelectedService::Backends(name) => {
                    let wanted = Wants::service_label(&name);
                    labels.iter().any(|label| *label == wanted)
                }
                SelectedService::External(pattern) => {
                    destination.names().iter().any(|name| pattern.matches(name.as_ref()))
                }
            })
        }
        Peers::Nodes(selectors) => selectors.iter().any(|own| own.matches(&labels)),
        Peers::Prefixes(peers) => {
            let Destination::Outside { address, .. } = destination else { return false };
            peers.iter().any(|peer| contains(context, peer, address))
        }
        Peers::Names(patterns) => {
            let names = destination.names();
            names.iter().any(|name| patterns.iter().any(|own| own.matches(name.as_ref())))
        }
    }
}

/// Whether a rule for DNS reaches a DNS pod in a namespace that its selector does not name.
fn widens(context: &Context, peer: &EndpointPeer, destination: Destination<'_>) -> bool {
    let (Destination::Inside(labels), Some(unscoped)) = (destination, &peer.unscoped) else {
        return false;
    };
    unscoped.matches(labels) && context.dns_pods.contains(&own(labels))
}

fn is_in(entity: Entity, destination: Destination<'_>, labels: &Labels) -> bool {
    let carries = |name: &str| labels.values(&Source::Reserved, name).next().is_some();
    match entity {
        Entity::All => true,
        Entity::None => false,
        Entity::Cluster => matches!(destination, Destination::Inside(_)) || carries(API_SERVER),
        Entity::Reserved(name) => carries(name),
    }
}

fn contains(context: &Context, peer: &PrefixPeer, address: IpAddr) -> bool {
    context.prefixes_of(&peer.base).iter().any(|prefix| prefix.covers(address))
        && !peer.except.iter().any(|prefix| prefix.covers(address))
}

impl<'a> Destination<'a> {
    fn labels(self) -> Labels {
        match self {
            Self::Inside(labels) => labels.clone(),
            Self::Outside { address, labels, .. } => outside(Prefix::host(address), labels),
        }
    }

    fn names(self) -> &'a [Name] {
        match self {
            Self::Inside(_) => &[],
            Self::Outside { names, .. } => names,
        }
    }
}

impl Decision {
    fn new(rule: &Rule, direction: Direction, entry: &Egress, ports: PortRuleRef<'_>) -> Self {
        Self {
            policy: rule.origin.policy.clone(),
            file: Arc::clone(&rule.origin.file),
            direction,
            entry: entry.at.clone(),
            peers: entry.peers_at.clone(),
            ports: match ports {
                PortRuleRef::Written(rule) => Some(rule.at.clone()),
                PortRuleRef::Every => None,
            },
        }
    }
}

impl Explanation {
    /// Whether the packet, of this protocol, passes, be it through a proxy.
    pub fn passes(&self, protocol: Protocol) -> bool {
        let is_denied = self.verdict == Some(Verdict::Deny);
        !is_denied && (self.default_deny.is_lenient() || self.passes_as_written(protocol))
    }

    /// Whether it would not pass, were no policy audited.
    pub fn would_be_dropped(&self, protocol: Protocol) -> bool {
        let is_denied = self.verdict == Some(Verdict::Deny) || !self.audited.is_empty();
        is_denied || !self.passes_as_written(protocol)
    }

    /// Whether it passes as policies are written, whatever is denied.
    fn passes_as_written(&self, protocol: Protocol) -> bool {
        if self.default_deny.is_absent() {
            // Every name may be asked for, whatever rules say of some; QUIC still hides what they
            // are about.
            return self.verdict != Some(Verdict::Proxy) || protocol == Protocol::TCP;
        }
        !self.is_unruled(protocol)
    }

    /// Whether no rule allows the packet, and none denies it.
    fn is_unruled(&self, protocol: Protocol) -> bool {
        match self.verdict {
            Some(Verdict::Allow | Verdict::Unruled | Verdict::Deny) => false,
            Some(Verdict::Proxy) => protocol != Protocol::TCP,
            Some(Verdict::Dns) => self.asks == Some(false),
            None => true,
        }
    }
}

#[cfg(test)]
mod tests;
