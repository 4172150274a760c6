//! Why a connection passes, or does not: what the datapath does with it, which lines of which
//! policies decide that, and the smallest change that would let it pass.
//!
//! Rules are asked one by one ([`policy::explain`]); what a destination is, is told by the same
//! inventory, in the same order, as where the kernel's maps come from: service ports first, then
//! addresses in the cluster, then ranges, then the outside with the names resolved to it. A change
//! is proposed only where the same judgement says that it helps.

mod change;
mod entry;
mod judge;
mod place;
mod target;

use std::net::IpAddr;
use std::sync::Arc;

use model::{DropReason, EndpointName, Name, Protocol};
use policy::{Context, Decision, DefaultDeny, Entity, Near, Policy, Rule};
use thiserror::Error;

pub use change::{Change, ChangeKind};
pub use target::{Target, TargetError};

use crate::inventory::Inventory;
use crate::node::Settings;
use crate::rebinding::Guard;
use judge::Judge;
use place::{Destination, Map};

/// What explanations are made from.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Pods, services, nodes and policies.
    pub inventory: &'a Inventory,
    /// What the engine was told once.
    pub settings: &'a Settings,
    /// Which addresses a name may bring.
    pub guard: &'a Guard,
}

/// A connection that somebody wonders about.
#[derive(Clone, Debug)]
pub struct Question {
    /// The pod that sends.
    pub from: EndpointName,
    /// Where it sends to.
    pub to: Target,
    /// By which protocol.
    pub protocol: Protocol,
    /// To which port; for ICMP, the type.
    pub port: u16,
    /// The name it asks for, if it is a question of DNS.
    pub asks: Option<Name>,
    /// What the pod has resolved.
    pub resolved: Vec<Resolved>,
    /// Why everything of the pod is dropped, where its interface is closed.
    pub closed: Option<DropReason>,
}

/// A name's address, as the pod has it from an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The name.
    pub name: Name,
    /// The address.
    pub address: IpAddr,
    /// Whether its time is over, so that it opens no new connection.
    pub expired: bool,
}

/// What becomes of a connection, and why.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// What becomes of it.
    pub outcome: Outcome,
    /// Why, in a word.
    pub reason: Reason,
    /// What becomes of what no rule of this pod's allows.
    pub default_deny: DefaultDeny,
    /// The policies that select the pod, in order.
    pub policies: Vec<String>,
    /// Those of them that are audited.
    pub audited: Vec<String>,
    /// What decided: where it is denied, or would be, what denies; else what allows.
    pub decided: Vec<Decision>,
    /// Rules that would allow it, were it not for one thing, the nearest first.
    pub near: Vec<Near>,
    /// Each address that was meant.
    pub destinations: Vec<Judged>,
    /// Where a name was meant: whether the pod may ask the cluster's DNS for it.
    pub lookup: Option<Judged>,
    /// What would let it pass; nothing where no rule can.
    pub changes: Vec<Change>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// What becomes of a connection to one destination.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The destination, for people.
    pub destination: String,
    /// Its address, if one is known.
    pub address: Option<IpAddr>,
    /// What becomes of it.
    pub outcome: Outcome,
    /// Why, in a word.
    pub reason: Reason,
    /// What decided.
    pub decided: Vec<Decision>,
    /// What nearly allows it.
    pub near: Vec<Near>,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It passes.
    Allow,
    /// It goes to a proxy, which judges each name or request.
    Redirect,
    /// It passes, and would be dropped or refused, were none of the pod's policies audited.
    Audit,
    /// It is dropped, or refused by the proxy.
    Deny,
}

/// Why, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// No policy selects the pod.
    NoPolicy,
    /// No rule covers it, and none of the pod's policies asks for default deny.
    NotEnforced,
    /// A rule allows it.
    AllowRule,
    /// Rules for HTTP, Kafka or TLS cover it.
    L7Rule,
    /// A rule for DNS covers it.
    DnsRule,
    /// A rule for DNS covers it, and none lets the name be asked for.
    NameRefused,
    /// The datapath drops it.
    Dropped(DropReason),
}

/// Why nothing can be explained.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ExplainError {
    /// No such pod.
    #[error("there is no pod `{0}`")]
    NoPod(EndpointName),
    /// No such service.
    #[error("there is no service `{0}`")]
    NoService(EndpointName),
    /// The service has neither an address nor a backend.
    #[error("service `{0}` has no address and no ready backend, so nothing can be sent to it")]
    EmptyService(EndpointName),
    /// The entity has no members.
    #[error("entity `{0}` stands for nothing, so nothing can be sent to it")]
    EmptyEntity(Entity),
}

/// Explains what becomes of a connection.
pub fn explain(known: Known<'_>, question: &Question) -> Result<Explanation, ExplainError> {
    let pod = known.inventory.pods.get(&question.from);
    let pod = pod.ok_or_else(|| ExplainError::NoPod(question.from.clone()))?;
    let (rules, selecting) = known.inventory.rules_for(&pod.labels);
    let case =
        Case { known, question, context: known.inventory.context(&known.settings.dns_service) };
    let Examined { destinations, lookup, notes } = case.examine(&rules)?;
    let changes = case.changes(&rules)?;
    let destinations: Vec<Judged> = destinations.into_iter().map(|(_, own)| own).collect();
    let (outcome, reason) = combined(&destinations);
    let deciding = || destinations.iter().filter(|own| own.outcome == outcome);
    let keys = |wanted: &dyn Fn(&Policy) -> bool| {
        let policies = selecting.iter().filter(|policy| wanted(policy));
        policies.map(|policy| policy.key.to_string()).collect()
    };
    Ok(Explanation {
        outcome,
        reason,
        default_deny: rules.iter().map(|rule| rule.default_deny()).max().unwrap_or_default(),
        policies: keys(&|_| true),
        audited: keys(&|policy| policy.audited),
        decided: unique(deciding().flat_map(|own| &own.decided)),
        near: unique(deciding().flat_map(|own| &own.near)),
        destinations,
        lookup: lookup.map(|(_, own)| own),
        changes,
        notes,
    })
}

/// All destinations are meant: what one of them does not let pass decides.
fn combined(destinations: &[Judged]) -> (Outcome, Reason) {
    let worst = destinations.iter().rev().max_by_key(|own| own.outcome);
    // There is always a destination: a target without any is an error.
    worst.map_or((Outcome::Deny, Reason::Dropped(DropReason::PolicyDenied)), |own| {
        (own.outcome, own.reason)
    })
}

fn unique<'a, T: Clone + PartialEq + 'a>(all: impl Iterator<Item = &'a T>) -> Vec<T> {
    let mut seen: Vec<T> = Vec::new();
    for one in all {
        if !seen.contains(one) {
            seen.push(one.clone());
        }
    }
    seen
}

/// A question with everything that does not depend on the rules.
struct Case<'a> {
    known: Known<'a>,
    question: &'a Question,
    context: Context,
}

/// What some rules make of a case.
struct Examined {
    destinations: Vec<(Destination, Judged)>,
    lookup: Option<(Destination, Judged)>,
    notes: Vec<String>,
}

impl Case<'_> {
    /// Judges every destination by these rules.
    fn examine(&self, rules: &[Arc<Rule>]) -> Result<Examined, ExplainError> {
        let map = Map::new(self.known, &self.context, rules, &self.question.resolved);
        let (places, mut notes) = map.places(self.question)?;
        let judge = Judge { rules, context: &self.context };
        let judged = |to: Destination| {
            let judged = match self.question.closed {
                Some(reason) => judge.dropped(&to, reason),
                None => judge.destination(&to),
            };
            (to, judged)
        };
        let destinations = places.into_iter().map(judged).collect();
        let lookup = self.lookup(&map, &mut notes).map(judged);
        Ok(Examined { destinations, lookup, notes })
    }

    /// The question that the pod asks before it can send to a name.
    fn lookup(&self, map: &Map<'_>, notes: &mut Vec<String>) -> Option<Destination> {
        let Target::Name(name) = &self.question.to else { return None };
        let lookup = map.lookup(name);
        if lookup.is_none() {
            let service = &self.known.settings.dns_service;
            notes.push(format!(
                "whether {name} may be asked for is not known: there is no service `{service}`"
            ));
        }
        lookup
    }
}

impl Outcome {
    /// The outcome as people and machines read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Redirect => "redirect",
            Self::Audit => "audit",
            Self::Deny => "deny",
        }
    }
}

impl Reason {
    /// The reason as people and machines read it; of what is dropped, the datapath's own word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoPolicy => "no-policy",
            Self::NotEnforced => "not-enforced",
            Self::AllowRule => "allow-rule",
            Self::L7Rule => "l7-rule",
            Self::DnsRule => "dns-rule",
            Self::NameRefused => "name-refused",
            Self::Dropped(reason) => reason.as_str(),
        }
    }
}

#[cfg(test)]
mod tests;
