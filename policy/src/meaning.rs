//! What a rule says in one state of the cluster, statement by statement: what is granted where.
//!
//! Tables are made of statements, and rules go into a table and out of it by them. A rule says the
//! same as another where both have the same text and so has what they mean of the cluster
//! ([`Rule::canonical`], [`Context::canonical_for`]).

use std::sync::Arc;

use model::{EndpointName, Labels, Pattern, PortPrefix, Prefix};

use crate::context::{Context, SelectedService};
use crate::rule::{
    Application, Direction, Egress, EndpointPeer, Entity, L7, NamedPort, Peers, PortRuleRef,
    PrefixPeer, Rule, ServicePeer,
};
use crate::selector::LabelSelector;
use crate::table::DefaultDeny;

/// What a rule says in one state of the cluster.
#[derive(Debug, Default)]
pub struct Meaning {
    /// What it has become of what no rule allows.
    pub(crate) default_deny: DefaultDeny,
    pub(crate) statements: Vec<Statement>,
    /// Selectors of names, and whether private addresses may be learned by them. Those that are
    /// granted no port are among them too, so that their addresses are known.
    pub(crate) patterns: Vec<(Pattern, bool)>,
}

/// Something that is granted somewhere.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) place: Place,
    pub(crate) grant: Arc<Spoken>,
}

/// Ports, and what happens to their packets.
#[derive(Debug)]
pub(crate) struct Spoken {
    pub(crate) ports: Vec<PortPrefix>,
    pub(crate) named: Vec<NamedPort>,
    pub(crate) outcome: Outcome,
}

/// What happens to packets.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Allow,
    Deny,
    /// They would be denied, were the policy not audited.
    AuditedDeny,
    /// Their questions are judged by these names, in order and no two the same.
    Dns(Arc<Vec<Pattern>>),
    L7(Arc<L7>),
}

/// Where something is granted.
#[derive(Debug)]
pub(crate) enum Place {
    Everywhere,
    /// At everything in the cluster.
    Cluster,
    Labels(LabelSelector),
    /// At pods whose own labels are these.
    Pods(Labels),
    /// At the ready backends of a service.
    Backends(EndpointName),
    /// Under a prefix, but for these.
    Prefix(Prefix, Vec<Prefix>),
    Name(Pattern),
}

impl Rule {
    /// What it says in such a cluster.
    pub fn meaning(&self, context: &Context) -> Meaning {
        let mut meaning = Meaning { default_deny: self.default_deny(), ..Meaning::default() };
        for (direction, entry) in self.entries() {
            meaning.take(self, direction, entry, context);
        }
        meaning
    }

    /// What it has become of what no rule allows.
    pub fn default_deny(&self) -> DefaultDeny {
        match (self.default_deny, self.audited) {
            (false, true) => DefaultDeny::NoneAudited,
            (false, false) => DefaultDeny::None,
            (true, true) => DefaultDeny::Audited,
            (true, false) => DefaultDeny::Enforced,
        }
    }
}

impl Meaning {
    fn take(&mut self, own: &Rule, direction: Direction, entry: &Egress, context: &Context) {
        let allow_private = own.allow_private;
        if let Peers::Names(patterns) = &entry.peers {
            self.patterns.extend(patterns.iter().map(|own| (own.clone(), allow_private)));
        }
        if entry.unenforced.is_some() {
            return;
        }
        for rule in entry.port_rules() {
            let Some(outcome) = outcome(direction, own.audited, rule) else { continue };
            let is_dns = matches!(outcome, Outcome::Dns(_));
            let grant = Arc::new(Spoken::new(rule, outcome));
            for place in places(&entry.peers, is_dns, context) {
                if let (Place::Name(pattern), Peers::Services(_)) = (&place, &entry.peers) {
                    self.patterns.push((pattern.clone(), allow_private));
                }
                self.statements.push(Statement { place, grant: Arc::clone(&grant) });
            }
        }
    }
}

impl Spoken {
    fn new(rule: PortRuleRef<'_>, outcome: Outcome) -> Self {
        let (mut ports, mut named) = (rule.ports().to_vec(), rule.named().to_vec());
        ports.sort_unstable();
        ports.dedup();
        named.sort_unstable();
        named.dedup();
        Self { ports, named, outcome }
    }
}

fn outcome(direction: Direction, audited: bool, rule: PortRuleRef<'_>) -> Option<Outcome> {
    match (direction, rule.application()) {
        (Direction::Deny, _) if audited => Some(Outcome::AuditedDeny),
        (Direction::Deny, _) => Some(Outcome::Deny),
        (Direction::Allow, None) => Some(Outcome::Allow),
        (Direction::Allow, Some(Application::Dns(patterns))) => {
            let mut list = patterns.clone();
            list.sort();
            list.dedup();
            Some(Outcome::Dns(Arc::new(list)))
        }
        (Direction::Allow, Some(Application::L7(rules))) => Some(Outcome::L7(Arc::clone(rules))),
        (Direction::Allow, Some(Application::Unenforced(_))) => None,
    }
}

/// Where an entry speaks of.
fn places(peers: &Peers, is_dns: bool, context: &Context) -> Vec<Place> {
    match peers {
        Peers::All => vec![Place::Everywhere],
        Peers::Endpoints(peers) => {
            peers.iter().flat_map(|own| pods(own, is_dns, context)).collect()
        }
        Peers::Entities(all) => all.iter().filter_map(|own| entity(*own)).collect(),
        Peers::Services(all) => all.iter().flat_map(|own| services(own, context)).collect(),
        Peers::Nodes(all) => all.iter().cloned().map(Place::Labels).collect(),
        Peers::Prefixes(all) => all.iter().flat_map(|own| prefixes(own, context)).collect(),
        Peers::Names(all) => all.iter().cloned().map(Place::Name).collect(),
    }
}

/// Pods by label; rules for DNS are about the cluster's DNS pods in any namespace too.
fn pods(peer: &EndpointPeer, is_dns: bool, context: &Context) -> Vec<Place> {
    let unscoped = peer.unscoped.as_ref().filter(|_| is_dns);
    let widened = unscoped.into_iter().flat_map(|selector| {
        let pods = context.dns_pods.iter().filter(|labels| selector.matches(labels));
        pods.cloned().map(Place::Pods)
    });
    std::iter::once(Place::Labels(peer.selector.clone())).chain(widened).collect()
}

fn entity(entity: Entity) -> Option<Place> {
    match entity {
        Entity::All => Some(Place::Everywhere),
        Entity::Cluster => Some(Place::Cluster),
        Entity::None => None,
        Entity::Reserved(name) => Some(Place::Labels(LabelSelector::reserved(name))),
    }
}

fn services(peer: &ServicePeer, context: &Context) -> Vec<Place> {
    let place = |service| match service {
        SelectedService::Backends(name) => Place::Backends(name),
        SelectedService::External(pattern) => Place::Name(pattern),
    };
    context.services_of(peer).into_iter().map(place).collect()
}

fn prefixes(peer: &PrefixPeer, context: &Context) -> Vec<Place> {
    let mut except = peer.except.clone();
    except.sort_unstable();
    except.dedup();
    let prefixes = context.prefixes_of(&peer.base).into_iter();
    prefixes.map(|prefix| Place::Prefix(prefix, except.clone())).collect()
}
