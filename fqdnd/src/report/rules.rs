//! Policies, what they select, and what they mean for a connection, in the words of the API.

use std::collections::{BTreeMap, BTreeSet};

use engine::{Meaning, explain};
use model::{DropReason, EndpointName, Enforcement, Labels, NameRef};
use policy::{Entity, LabelSelector, Peers, PolicyKey};

use super::problem;
use crate::clock;
use crate::daemon::Shared;
use crate::reconcile::Reconciler;

/// The policies in force, by name.
pub fn policies(shared: &Shared, reconciler: &Reconciler) -> Vec<api::Policy> {
    let manifests = shared.manifests.borrow().clone();
    let mut selected: BTreeMap<&PolicyKey, BTreeSet<&EndpointName>> = BTreeMap::new();
    for local in reconciler.endpoints().values() {
        for policy in local.policies.keys() {
            selected.entry(policy).or_default().insert(&local.name);
        }
    }
    let described = manifests.policies.values().map(|policy| {
        let endpoints = selected.get(&policy.key);
        let endpoints = endpoints.into_iter().flatten().map(|name| (*name).clone());
        describe(policy, endpoints.collect())
    });
    described.collect()
}

fn describe(policy: &policy::Policy, endpoints: Vec<EndpointName>) -> api::Policy {
    let file = policy.rules.first().map(|rule| rule.origin.file.display().to_string());
    let rules = policy.rules.iter().map(|rule| api::PolicyRule {
        line: rule.origin.line,
        subject: rule.subject.to_string(),
        default_deny: rule.default_deny,
        allows: rule.egress.len(),
        denies: rule.denied.len(),
    });
    api::Policy {
        namespace: policy.key.namespace.clone(),
        name: policy.key.name.clone(),
        file: file.unwrap_or_default(),
        audited: policy.audited,
        rules: rules.collect(),
        endpoints,
        unenforced: policy.unenforced.iter().map(problem).collect(),
        warnings: policy.warnings.iter().map(problem).collect(),
    }
}

/// What the rules in force name as destinations, by field and text.
pub fn selectors(shared: &Shared, reconciler: &Reconciler) -> Vec<api::Selector> {
    let identities = reconciler.node().identities();
    let mut resolved: BTreeSet<model::Name> = BTreeSet::new();
    shared.names.visit(|_, leases| resolved.extend(leases.names().map(NameRef::to_name)));
    let mut found: BTreeMap<(&'static str, String), Selector<'_>> = BTreeMap::new();
    let policies = &reconciler.inventory().policies;
    for (policy, rule) in policies.values().flat_map(|own| own.rules.iter().map(move |r| (own, r)))
    {
        for (_, entry) in rule.entries() {
            for (field, text, selects) in parts(&entry.peers) {
                let empty = || Selector { selects, policies: BTreeSet::new() };
                let own = found.entry((field, text)).or_insert_with(empty);
                own.policies.insert(policy.key.to_string());
            }
        }
    }
    let described = found.into_iter().map(|((field, selector), own)| {
        let selected = identities.iter().filter(|(_, meaning)| own.selects.includes(meaning));
        let names = resolved.iter().filter(|name| own.selects.matches(name.as_ref()));
        api::Selector {
            field: field.to_owned(),
            selector,
            policies: own.policies.into_iter().collect(),
            identities: selected.map(|(identity, _)| *identity).collect(),
            names: names.map(ToString::to_string).collect(),
        }
    });
    described.collect()
}

struct Selector<'a> {
    selects: Selects<'a>,
    policies: BTreeSet<String>,
}

/// How a selector selects.
#[derive(Clone, Copy)]
enum Selects<'a> {
    Labels(&'a LabelSelector),
    Entity(Entity),
    Prefix(model::Prefix),
    Names(&'a model::Pattern),
    /// By way of other objects: no identity is its own.
    Objects,
}

/// Each item of an entry's destinations: its field, its text, and how it selects.
fn parts(peers: &Peers) -> Vec<(&'static str, String, Selects<'_>)> {
    match peers {
        Peers::All => Vec::new(),
        Peers::Endpoints(own) => {
            let part = |own: &'_ policy::EndpointPeer| own.selector.to_string();
            own.iter()
                .map(|own| ("toEndpoints", part(own), Selects::Labels(&own.selector)))
                .collect()
        }
        Peers::Entities(own) => {
            own.iter().map(|own| ("toEntities", own.to_string(), Selects::Entity(*own))).collect()
        }
        Peers::Services(own) => {
            own.iter().map(|own| ("toServices", own.to_string(), Selects::Objects)).collect()
        }
        Peers::Nodes(own) => {
            own.iter().map(|own| ("toNodes", own.to_string(), Selects::Labels(own))).collect()
        }
        Peers::Prefixes(own) => own
            .iter()
            .map(|own| {
                let selects = match own.base {
                    policy::PrefixBase::Prefix(prefix) => Selects::Prefix(prefix),
                    policy::PrefixBase::Group(_) | policy::PrefixBase::Groups(_) => {
                        Selects::Objects
                    }
                };
                ("toCIDR", own.to_string(), selects)
            })
            .collect(),
        Peers::Names(own) => {
            own.iter().map(|own| ("toFQDNs", own.to_string(), Selects::Names(own))).collect()
        }
    }
}

impl Selects<'_> {
    fn includes(self, meaning: &Meaning) -> bool {
        match (self, meaning) {
            (Self::Labels(selector), Meaning::Labels(labels) | Meaning::Reserved(labels)) => {
                selector.matches(labels) && !is_world(labels)
            }
            (Self::Entity(entity), Meaning::Labels(labels) | Meaning::Reserved(labels)) => {
                match entity {
                    Entity::All => true,
                    Entity::None => false,
                    Entity::Cluster => !is_world(labels),
                    Entity::Reserved(name) => is_reserved(labels, name),
                }
            }
            (Self::Entity(entity), Meaning::Prefix(_, labels)) => match entity {
                Entity::All | Entity::Reserved("world") => true,
                Entity::None => false,
                Entity::Cluster => is_reserved(labels, "kube-apiserver"),
                Entity::Reserved(name) => is_reserved(labels, name),
            },
            (Self::Prefix(prefix), Meaning::Prefix(own, _)) => prefix.contains(*own),
            (Self::Labels(_) | Self::Entity(_) | Self::Prefix(_), _)
            | (Self::Names(_) | Self::Objects, _) => false,
        }
    }

    fn matches(self, name: NameRef<'_>) -> bool {
        match self {
            Self::Names(pattern) => pattern.matches(name),
            Self::Labels(_) | Self::Entity(_) | Self::Prefix(_) | Self::Objects => false,
        }
    }
}

fn is_world(labels: &Labels) -> bool {
    ["world", "world-ipv4", "world-ipv6"].iter().any(|name| is_reserved(labels, name))
}

fn is_reserved(labels: &Labels, name: &str) -> bool {
    labels.values(&model::Source::Reserved, name).next().is_some()
}

/// The identities in use, by number.
pub fn identities(reconciler: &Reconciler) -> Vec<api::Identity> {
    let text = |labels: &Labels| labels.iter().map(ToString::to_string).collect::<Vec<_>>();
    let described = reconciler.node().identities().into_iter().map(|(identity, meaning)| {
        let (kind, meaning) = match meaning {
            Meaning::Reserved(labels) => (api::IdentityKind::Reserved, text(&labels)),
            Meaning::Labels(labels) => (api::IdentityKind::Labels, text(&labels)),
            Meaning::Prefix(prefix, labels) => {
                let all = std::iter::once(prefix.to_string()).chain(text(&labels));
                (api::IdentityKind::Prefix, all.collect())
            }
            Meaning::Service { name, protocol, port, ipv6 } => {
                let family = if ipv6 { "IPv6" } else { "IPv4" };
                let meaning = format!("{name} {port}/{protocol} over {family}");
                (api::IdentityKind::Service, vec![meaning])
            }
            Meaning::Names(selectors) => (api::IdentityKind::Names, selectors),
        };
        api::Identity { identity, kind, meaning }
    });
    described.collect()
}

/// What is needed to answer a question without holding anything up.
pub struct Case {
    inventory: engine::Inventory,
    settings: engine::Settings,
    guard: engine::rebinding::Guard,
    question: explain::Question,
    stale: BTreeSet<String>,
}

/// Takes in what a question is about: the cluster as it is now, and what the pod has resolved.
pub fn case(shared: &Shared, reconciler: &Reconciler, mut question: explain::Question) -> Case {
    let now = clock::now();
    let own = reconciler.endpoints().iter().find(|(_, local)| local.name == question.from);
    question.closed = match own {
        Some((_, local)) => match local.entry.enforcement {
            Enforcement::Closed(reason) => Some(reason),
            Enforcement::Open | Enforcement::Table(_) => None,
        },
        None => unbound(reconciler, &question.from),
    };
    if let Some((id, _)) = own {
        shared.names.visit(|endpoint, leases| {
            let entries = leases.entries().filter(|entry| endpoint == *id && entry.selected);
            question.resolved.extend(entries.map(|entry| explain::Resolved {
                name: entry.name.to_name(),
                address: entry.address,
                expired: entry.expires <= now,
            }));
        });
    }
    let manifests = shared.manifests.borrow().clone();
    let is_stale = |state: &kubernetes::FileState| *state != kubernetes::FileState::Good;
    let stale = manifests.files.iter().filter(|(_, state)| is_stale(state));
    Case {
        inventory: reconciler.inventory().clone(),
        settings: reconciler.node().settings().clone(),
        guard: shared.names.guard().clone(),
        question,
        stale: stale.map(|(path, _)| path.display().to_string()).collect(),
    }
}

/// Why everything is dropped of a pod that claims an interface and is not bound to it.
fn unbound(reconciler: &Reconciler, name: &EndpointName) -> Option<DropReason> {
    match reconciler.inventory().bindings.problems.get(name)? {
        engine::BindingError::NotFound(_) => None,
        engine::BindingError::ClaimedTwice { .. }
        | engine::BindingError::Held { .. }
        | engine::BindingError::Moved { .. } => Some(DropReason::EndpointConflict),
    }
}

impl Case {
    /// The answer.
    pub fn explain(&self) -> Result<api::Explanation, explain::ExplainError> {
        let Self { inventory, settings, guard, question, stale } = self;
        let explanation =
            explain::explain(explain::Known { inventory, settings, guard }, question)?;
        let mut explanation = api::Explanation::from(explanation);
        let near = explanation.near.iter_mut().map(|near| &mut near.rule);
        for rule in explanation.rules.iter_mut().chain(near) {
            rule.stale = stale.contains(&rule.file);
        }
        Ok(explanation)
    }
}

/// What the policies mean that is probably not what was meant, given what there is to select.
pub fn audit(inventory: &engine::Inventory, settings: &engine::Settings) -> Vec<policy::Problem> {
    let context = inventory.context(&settings.dns_service);
    let addresses = engine::Addresses::all_labels(inventory, settings);
    let pods = inventory.pods.values().map(|pod| &pod.labels);
    let labels: Vec<&Labels> = pods.chain(&addresses).collect();
    let named = inventory.pods.values().flat_map(|pod| pod.ports.keys());
    let port_names = named.map(|name| name.to_ascii_lowercase()).collect();
    let population =
        policy::Population { context: &context, labels: &labels, port_names: &port_names };
    let policies: Vec<_> = inventory.policies.values().cloned().collect();
    policy::audit(&policies, &population)
}
