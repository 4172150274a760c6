//! Which policies decided a flow: the engine's own explanation, made once for all flows that are
//! decided alike.
//!
//! Names are decided alike that the same patterns match. So there are as many explanations as there
//! are patterns in use, whatever names pods ask for.
//!
//! Explaining asks every rule, so it has a budget of time. A flow over it goes without, which is
//! counted; what was explained before is still known. An explanation that does not come to what
//! happened (policy has changed meanwhile) is not shown.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::explain::{Explanation, Known, Outcome, Question, Resolved, Target, explain};
use flows::{PolicyKind, PolicyRef, Side};
use model::{EndpointName, Identity, Name, Protocol, TableId, Transport};
use policy::{Decision, Direction, SelectorId};

use crate::daemon::Shared;

/// How many explanations are kept. When there are more, all are forgotten.
const KEPT: usize = 8192;
/// The share of one core's time that explaining may take: one part of this many.
const SHARE: u32 = 50;
/// How much of it may be taken at once.
const BURST: Duration = Duration::from_millis(200);

/// What a flow is decided by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Case {
    /// The table that the sender is judged by.
    pub table: TableId,
    /// What the destination is.
    pub identity: Option<Identity>,
    /// The names that the sender resolved to it.
    pub names: Arc<[Name]>,
    /// The protocol.
    pub protocol: Protocol,
    /// The port; for ICMP, the type.
    pub port: u16,
    /// The name that is asked for.
    pub asks: Option<Name>,
}

/// What cases that are decided alike have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    table: TableId,
    identity: Option<Identity>,
    protocol: Protocol,
    port: u16,
    /// What matches the names that the sender resolved to the destination.
    selectors: Vec<SelectorId>,
    /// What matches the name that is asked for, if one is.
    patterns: Option<Vec<Vec<SelectorId>>>,
}

/// The policies that decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies {
    /// Those that allow it.
    pub allow: Arc<[PolicyRef]>,
    /// Those that deny it.
    pub deny: Arc<[PolicyRef]>,
}

/// What was explained, and what explanations are made from.
pub struct Explainer {
    shared: Arc<Shared>,
    explained: HashMap<Kind, Explained>,
    /// The same of single cases, which are found faster.
    known: HashMap<Case, Explained>,
    /// What the policies were when both were begun.
    manifests: Arc<kubernetes::Inventory>,
    grounds: Option<Grounds>,
    allowance: Allowance,
}

/// What the policies come to, and which of them.
#[derive(Clone)]
struct Explained {
    outcome: Outcome,
    policies: Policies,
}

/// The cluster at one revision.
struct Grounds {
    revision: u64,
    inventory: engine::Inventory,
    settings: engine::Settings,
}

impl Explainer {
    /// Nothing is explained yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        let manifests = shared.manifests.borrow().clone();
        let allowance = Allowance::new(Instant::now());
        Self {
            shared,
            explained: HashMap::new(),
            known: HashMap::new(),
            manifests,
            grounds: None,
            allowance,
        }
    }

    /// Forgets what new policies or services may have made wrong.
    pub fn refresh(&mut self) {
        let now = self.shared.manifests.borrow().clone();
        if Arc::ptr_eq(&now, &self.manifests) {
            return;
        }
        let same = now.policies.ptr_eq(&self.manifests.policies)
            && now.services.ptr_eq(&self.manifests.services);
        if !same {
            self.explained.clear();
            self.known.clear();
        }
        self.manifests = now;
        self.grounds = None;
    }

    /// The policies that decided a case as it was decided; none where there is no time to find out.
    pub fn policies(
        &mut self,
        case: &Case,
        from: &Side,
        to: IpAddr,
        outcome: Outcome,
    ) -> Option<Policies> {
        if let Some(known) = self.known.get(case) {
            return Some(known.if_it_came_to(outcome));
        }
        let explained = self.explain_kind(case, from, to)?;
        let policies = explained.if_it_came_to(outcome);
        keep(&mut self.known, case.clone(), explained);
        Some(policies)
    }

    fn explain_kind(&mut self, case: &Case, from: &Side, to: IpAddr) -> Option<Explained> {
        let kind = self.kind(case, from, to);
        if let Some(explained) = self.explained.get(&kind) {
            return Some(explained.clone());
        }
        let begun = Instant::now();
        if !self.allowance.has_any(begun) {
            return None;
        }
        let explained = self.explain(case, from.who.pod.as_ref()?, to);
        let now = Instant::now();
        self.allowance.spend(now - begun, now);
        let explained = explained?;
        keep(&mut self.explained, kind, explained.clone());
        Some(explained)
    }

    fn kind(&self, case: &Case, from: &Side, to: IpAddr) -> Kind {
        let Case { table, identity, protocol, port, .. } = *case;
        let names = &self.shared.names;
        let selectors = from.who.endpoint.map(|own| names.selectors_of(own, &case.names));
        let server = SocketAddr::new(to, port);
        let transport = if protocol == Protocol::TCP { Transport::Tcp } else { Transport::Udp };
        let asked = case.asks.as_ref().zip(from.address);
        let patterns =
            asked.map(|(name, own)| names.patterns_of(own, server, transport, name.as_ref()));
        let selectors = selectors.unwrap_or_default();
        Kind { table, identity, protocol, port, selectors, patterns }
    }

    fn explain(&mut self, case: &Case, from: &EndpointName, to: IpAddr) -> Option<Explained> {
        let shared = Arc::clone(&self.shared);
        let Grounds { revision, inventory, settings } = self.grounds()?;
        let known = Known { inventory, settings, guard: shared.names.guard() };
        let resolved = case.names.iter().cloned();
        let question = Question {
            from: from.clone(),
            to: Target::Address(to),
            protocol: case.protocol,
            port: case.port,
            asks: case.asks.clone(),
            resolved: resolved.map(|name| Resolved { name, address: to, expired: false }).collect(),
            closed: None,
        };
        let explanation = explain(known, &question).ok()?;
        let policies = Policies::of(&explanation, *revision);
        Some(Explained { outcome: explanation.outcome, policies })
    }

    /// The cluster as it is now, unless a revision is being carried out.
    fn grounds(&mut self) -> Option<&Grounds> {
        if self.grounds.is_none() {
            let reconciler = self.shared.reconciler.try_lock().ok()?;
            self.grounds = Some(Grounds {
                revision: reconciler.revisions().1,
                inventory: reconciler.inventory().clone(),
                settings: reconciler.node().settings().clone(),
            });
        }
        self.grounds.as_ref()
    }
}

impl Explained {
    /// The policies, unless it came to something else: then they have changed meanwhile.
    fn if_it_came_to(&self, outcome: Outcome) -> Policies {
        if self.outcome == outcome { self.policies.clone() } else { Policies::default() }
    }
}

impl Policies {
    fn of(explanation: &Explanation, revision: u64) -> Self {
        let of = |direction: Direction| {
            let decided = explanation.decided.iter().filter(|own| own.direction == direction);
            decided.map(|decision| describe(decision, revision)).collect()
        };
        Self { allow: of(Direction::Allow), deny: of(Direction::Deny) }
    }
}

/// Puts one more into a map. When there are more than are kept, all are forgotten.
fn keep<K: Eq + Hash>(map: &mut HashMap<K, Explained>, key: K, explained: Explained) {
    if map.len() >= KEPT {
        map.clear();
    }
    map.insert(key, explained);
}

fn describe(decision: &Decision, revision: u64) -> PolicyRef {
    let key = &decision.policy;
    let kind = match key.namespace {
        Some(_) => PolicyKind::Namespaced,
        None => PolicyKind::Clusterwide,
    };
    let namespace = key.namespace.clone().unwrap_or_default();
    let label = |name: &str, value: &str| format!("k8s:io.cilium.k8s.policy.{name}={value}");
    let mut labels = vec![label("derived-from", kind.as_str()), label("name", &key.name)];
    if !namespace.is_empty() {
        labels.push(label("namespace", &namespace));
    }
    PolicyRef {
        kind,
        namespace,
        name: key.name.clone(),
        labels,
        revision,
        file: decision.file.to_string_lossy().into(),
        line: decision.ports.as_ref().unwrap_or(&decision.entry).line,
    }
}

/// Time to spend, which comes back as time passes. What is spent over it is owed.
struct Allowance {
    /// When there will be as much as can be spent at once.
    full_at: Instant,
}

impl Allowance {
    const fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    fn has_any(&self, now: Instant) -> bool {
        self.full_at.saturating_duration_since(now) < BURST * SHARE
    }

    fn spend(&mut self, time: Duration, now: Instant) {
        self.full_at = self.full_at.max(now) + time * SHARE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_was_spent_comes_back_slowly_and_what_was_too_much_is_owed() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut allowance = Allowance::new(start);
        assert!(allowance.has_any(start));
        allowance.spend(BURST * 2, start);
        assert!(!allowance.has_any(after(9)));
        assert!(allowance.has_any(after(11)));
        allowance.spend(Duration::from_millis(30), after(11));
        assert!(!allowance.has_any(after(11)));
        assert!(allowance.has_any(after(12)));
    }

    #[test]
    fn no_more_than_the_burst_is_saved() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1000);
        let mut allowance = Allowance::new(start);
        allowance.spend(BURST, later);
        assert!(!allowance.has_any(later));
    }
}
