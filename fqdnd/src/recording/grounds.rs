//! What flows of one revision are explained by: the engine's own explanation, made once for all flows
//! that are decided alike.
//!
//! A flow is described when somebody reads it, and by then the pod may be gone and the policy
//! another. So a flow that has happened holds on to the grounds that were in force: the inventory of
//! its revision, whose maps share what did not change with those of others, and what the workers
//! judged by.
//!
//! Names are decided alike that the same patterns match. So there are as many explanations as there
//! are patterns in use, whatever names pods ask for.
//!
//! Explaining asks every rule, so it has a budget of time. A flow over it goes without, which is
//! counted; what was explained before is still known. An explanation that does not come to what
//! happened (policy was just changing) is not shown.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use engine::explain::{Known, Outcome, Question, Resolved, Target, explain};
use engine::rebinding::Guard;
use engine::{Inventory, LocalEndpoint, Settings, Snapshot, VerdictTable};
use flows::{Side, Who};
use model::{EndpointId, EndpointName, Identity, Labels, Name, Protocol, TableId, Transport};
use policy::SelectorId;
use rustc_hash::FxHashMap;

use super::allowance::Allowance;
use super::policies::Policies;
use crate::names::Names;

/// How many explanations are kept. When there are more, all are forgotten.
const KEPT: usize = 8192;

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

/// An endpoint of this node.
#[derive(Clone)]
pub struct Local {
    /// Who it is.
    pub who: Arc<Who>,
    /// The table that judges it; none if no policy selects it.
    pub table: Option<Arc<VerdictTable>>,
}

/// The node at one revision.
#[derive(Clone)]
pub struct Revision {
    /// Its number.
    pub number: u64,
    /// Everything that was known.
    pub inventory: Inventory,
    /// What workers judged by.
    pub snapshot: Arc<Snapshot>,
    /// The node's endpoints.
    pub endpoints: FxHashMap<EndpointId, Local>,
}

/// What explanations are made with at every revision.
pub struct Explainer {
    settings: Settings,
    guard: Guard,
    names: Weak<Names>,
    allowance: Mutex<Allowance>,
    /// Flows without the policies that decided, because explaining took too much time.
    unexplained: Arc<AtomicU64>,
}

/// What flows of one revision are explained by.
#[derive(Clone)]
pub struct Grounds {
    revision: Arc<Revision>,
    explainer: Arc<Explainer>,
    /// The number of the first revision with these policies and services.
    since: u64,
    memory: Arc<Mutex<Memory>>,
}

/// What was explained, by policies and services that did not change meanwhile.
#[derive(Default)]
struct Memory {
    explained: HashMap<Kind, Explained>,
    /// The same of single cases, which are found faster.
    known: HashMap<Case, Explained>,
}

/// What the policies come to, and which of them.
#[derive(Clone)]
struct Explained {
    outcome: Outcome,
    policies: Policies,
}

impl Local {
    /// An endpoint with its pod's labels, if that is still known.
    pub fn new(id: EndpointId, own: &LocalEndpoint, labels: Option<Labels>) -> Self {
        let who = Who {
            endpoint: Some(id),
            identity: own.identity,
            pod: Some(own.name.clone()),
            labels: labels.unwrap_or_default(),
        };
        Self { who: Arc::new(who), table: own.table.clone() }
    }
}

impl Explainer {
    /// Explains by what the engine and the workers were told once, within an allowance. What it
    /// does not suffice for is counted.
    pub fn new(
        settings: Settings,
        (guard, names): (Guard, Weak<Names>),
        allowance: Allowance,
        unexplained: Arc<AtomicU64>,
    ) -> Self {
        Self { settings, guard, names, allowance: Mutex::new(allowance), unexplained }
    }
}

impl Grounds {
    /// Of the first revision; nothing is explained yet.
    pub fn new(revision: Revision, explainer: Arc<Explainer>) -> Self {
        let since = revision.number;
        Self { revision: Arc::new(revision), explainer, since, memory: Arc::default() }
    }

    /// Of a later revision. What new policies or services may have made wrong is not known any more.
    pub fn followed_by(&self, revision: Revision) -> Self {
        let (before, now) = (&self.revision.inventory, &revision.inventory);
        let same = now.policies.ptr_eq(&before.policies)
            && now.services.ptr_eq(&before.services)
            && now.cidr_groups.ptr_eq(&before.cidr_groups);
        let explainer = Arc::clone(&self.explainer);
        if !same {
            return Self::new(revision, explainer);
        }
        let memory = Arc::clone(&self.memory);
        Self { revision: Arc::new(revision), explainer, since: self.since, memory }
    }

    /// The revision.
    pub fn revision(&self) -> &Revision {
        &self.revision
    }

    /// The policies that decided a case as it was decided.
    pub fn policies(&self, case: &Case, from: &Side, to: IpAddr, outcome: Outcome) -> Policies {
        let Some(pod) = &from.who.pod else { return Policies::default() };
        let Some(explained) = self.explained(case, from, pod, to) else {
            self.explainer.unexplained.fetch_add(1, Ordering::Relaxed);
            return Policies::default();
        };
        if explained.outcome == outcome { explained.policies } else { Policies::default() }
    }

    /// None where there is no time to find out.
    fn explained(
        &self,
        case: &Case,
        from: &Side,
        pod: &EndpointName,
        to: IpAddr,
    ) -> Option<Explained> {
        if let Some(known) = self.memory().known.get(case) {
            return Some(known.clone());
        }
        let kind = self.kind(case, from, to);
        let known = self.memory().explained.get(&kind).cloned();
        // Nobody waits meanwhile for what is known already.
        let explained = known.or_else(|| self.explain(case, pod, to))?;
        let mut memory = self.memory();
        keep(&mut memory.explained, kind, explained.clone());
        keep(&mut memory.known, case.clone(), explained.clone());
        Some(explained)
    }

    fn kind(&self, case: &Case, from: &Side, to: IpAddr) -> Kind {
        let Case { table, identity, protocol, port, .. } = *case;
        let server = SocketAddr::new(to, port);
        let asked = case.asks.as_ref().zip(from.address);
        let patterns = asked.map(|(name, own)| self.patterns(own, server, protocol, name));
        let selectors = self.selectors(from.who.endpoint, &case.names);
        Kind { table, identity, protocol, port, selectors, patterns }
    }

    /// The selectors of an endpoint's rules that match any of these names, in order.
    fn selectors(&self, endpoint: Option<EndpointId>, names: &[Name]) -> Vec<SelectorId> {
        let local = endpoint.and_then(|endpoint| self.revision.endpoints.get(&endpoint));
        let mut selectors = Vec::new();
        if let Some(table) = local.and_then(|local| local.table.as_ref()) {
            for name in names {
                table.rules().selectors_of(name.as_ref(), &mut selectors);
            }
        }
        selectors.sort_unstable();
        selectors.dedup();
        selectors
    }

    /// The patterns of the rules for DNS that match a name which is asked for at a server.
    fn patterns(
        &self,
        client: IpAddr,
        server: SocketAddr,
        protocol: Protocol,
        name: &Name,
    ) -> Vec<Vec<SelectorId>> {
        let transport = if protocol == Protocol::TCP { Transport::Tcp } else { Transport::Udp };
        let question = engine::Question { client, server, transport, name: name.as_ref() };
        self.revision.snapshot.patterns_of(&question, |endpoint, address| {
            let names = self.explainer.names.upgrade();
            names.map_or([None; 2], |names| names.sets_of(endpoint, address))
        })
    }

    fn explain(&self, case: &Case, from: &EndpointName, to: IpAddr) -> Option<Explained> {
        let begun = Instant::now();
        if !self.explainer.allowance().has_any(begun) {
            return None;
        }
        let Explainer { settings, guard, .. } = &*self.explainer;
        let known = Known { inventory: &self.revision.inventory, settings, guard };
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
        let explanation = explain(known, &question);
        let now = Instant::now();
        self.explainer.allowance().spend(now - begun, now);
        let explanation = explanation.ok()?;
        let policies = Policies::of(&explanation, self.since);
        Some(Explained { outcome: explanation.outcome, policies })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // An explanation is in it or not.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Explainer {
    fn allowance(&self) -> MutexGuard<'_, Allowance> {
        // It is one number.
        self.allowance.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts one more into a map. When there are more than are kept, all are forgotten.
fn keep<K: Eq + Hash>(map: &mut HashMap<K, Explained>, key: K, explained: Explained) {
    if map.len() >= KEPT {
        map.clear();
    }
    map.insert(key, explained);
}
