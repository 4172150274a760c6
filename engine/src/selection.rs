//! Which rules select which of this node's pods, and what they say there.
//!
//! A policy more is asked about each pod of the node, a pod more finds its rules by its labels. What
//! a rule says is found out when a pod first asks for it, and anew where it depends on something in
//! the cluster that is another one now.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use imbl::OrdMap;
use model::{Changed, CidrGroup, Digest, EndpointName, Labels, Service};
use policy::{Concerns, Context, LabelSelector, Policy, PolicyKey, Rule};

use crate::sayings::{Saying, Sayings};

/// A rule's policy, and which of that policy's rules it is.
type RuleKey = (PolicyKey, usize);

/// All rules, and what they select of this node.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    index: RuleIndex,
    /// Those whose meaning depends on the cluster.
    dependent: Rules,
    pods: BTreeMap<EndpointName, Selected>,
}

/// A rule, with what is found out about it when it is first asked for.
#[derive(Debug)]
struct KnownRule {
    rule: Arc<Rule>,
    concerns: Concerns,
    saying: OnceLock<Arc<Saying>>,
}

/// The rules of a pod.
#[derive(Debug)]
struct Selected {
    labels: Labels,
    rules: Rules,
    sayings: Sayings,
    policies: OrdMap<PolicyKey, usize>,
}

/// Something of the cluster that is another one now.
pub(crate) enum Concern<'a> {
    Service(Changed<'a, EndpointName, Service>),
    Group(Changed<'a, String, CidrGroup>),
    DnsPods,
}

impl KnownRule {
    fn new(rule: &Arc<Rule>) -> Self {
        Self { rule: Arc::clone(rule), concerns: rule.concerns(), saying: OnceLock::new() }
    }

    /// What it says in a cluster that is the same each time, in what it depends on.
    fn saying(&self, context: &Context) -> &Arc<Saying> {
        self.saying.get_or_init(|| {
            let cluster = context.canonical_for(std::slice::from_ref(&self.rule));
            let digest = identity::digest("rule", [self.rule.canonical(), cluster]);
            Arc::new(Saying { digest, meaning: self.rule.meaning(context) })
        })
    }
}

impl Concern<'_> {
    fn is_of(&self, concerns: &Concerns) -> bool {
        match self {
            Self::Service(changed) => {
                let facts = |own: &Arc<Service>| (own.labels.clone(), own.external_name.clone());
                changed.old.map(facts) != changed.new.map(facts)
                    && changed
                        .old
                        .into_iter()
                        .chain(changed.new)
                        .any(|own| concerns.with_service(own))
            }
            Self::Group(changed) => {
                changed.old.into_iter().chain(changed.new).any(|own| concerns.with_group(own))
            }
            Self::DnsPods => concerns.dns_pods,
        }
    }
}

impl Selection {
    /// Takes in a policy that came, went or changed; adds the pods whose rules are others now.
    pub(crate) fn take_policy(
        &mut self,
        changed: &Changed<'_, PolicyKey, Policy>,
        context: &Context,
        touched: &mut BTreeSet<EndpointName>,
    ) {
        let key = |number: usize| (changed.key.clone(), number);
        let old = changed.old.into_iter().flat_map(|policy| policy.rules.iter().enumerate());
        for (number, rule) in old {
            self.withdraw(&key(number), &rule.subject, touched);
        }
        let new = changed.new.into_iter().flat_map(|policy| policy.rules.iter().enumerate());
        for (number, rule) in new {
            self.enter(&key(number), &Arc::new(KnownRule::new(rule)), context, touched);
        }
    }

    /// Takes in what has become another thing in the cluster, whose state is `context` now.
    pub(crate) fn take_concern(
        &mut self,
        concern: &Concern<'_>,
        context: &Context,
        touched: &mut BTreeSet<EndpointName>,
    ) {
        let concerned = self.dependent.iter().filter(|(_, known)| concern.is_of(&known.concerns));
        let concerned: Vec<(RuleKey, Arc<Rule>)> =
            concerned.map(|(key, known)| (key.clone(), Arc::clone(&known.rule))).collect();
        for (key, rule) in concerned {
            self.withdraw(&key, &rule.subject, touched);
            self.enter(&key, &Arc::new(KnownRule::new(&rule)), context, touched);
        }
    }

    fn enter(
        &mut self,
        key: &RuleKey,
        known: &Arc<KnownRule>,
        context: &Context,
        touched: &mut BTreeSet<EndpointName>,
    ) {
        self.index.insert(key.clone(), known);
        if !known.concerns.is_empty() {
            self.dependent.insert(key.clone(), Arc::clone(known));
        }
        for (name, pod) in &mut self.pods {
            if known.rule.selects(&pod.labels) {
                pod.sayings.insert(known.saying(context));
                pod.rules.insert(key.clone(), Arc::clone(known));
                *pod.policies.entry(key.0.clone()).or_default() += 1;
                touched.insert(name.clone());
            }
        }
    }

    fn withdraw(
        &mut self,
        key: &RuleKey,
        subject: &LabelSelector,
        touched: &mut BTreeSet<EndpointName>,
    ) {
        self.index.remove(key, subject);
        self.dependent.remove(key);
        for (name, pod) in &mut self.pods {
            let Some(known) = pod.rules.remove(key) else { continue };
            if let Some(saying) = known.saying.get() {
                pod.sayings.remove(saying);
            }
            match pod.policies.get_mut(&key.0) {
                Some(rules) if *rules > 1 => *rules -= 1,
                Some(_) | None => drop(pod.policies.remove(&key.0)),
            }
            touched.insert(name.clone());
        }
    }

    /// Takes in a pod of this node, or what became of one.
    pub(crate) fn take_pod(
        &mut self,
        name: &EndpointName,
        labels: Option<&Labels>,
        context: &Context,
    ) {
        let Some(labels) = labels else {
            self.pods.remove(name);
            return;
        };
        if self.pods.get(name).is_none_or(|known| known.labels != *labels) {
            let rules = self.index.selecting(labels);
            let mut sayings = Sayings::default();
            rules.values().for_each(|known| sayings.insert(known.saying(context)));
            let mut policies: OrdMap<PolicyKey, usize> = OrdMap::new();
            rules.keys().for_each(|key| *policies.entry(key.0.clone()).or_default() += 1);
            let selected = Selected { labels: labels.clone(), rules, sayings, policies };
            self.pods.insert(name.clone(), selected);
        }
    }

    /// What the rules that select a pod say, and the digest that tells its table from others. None
    /// if no rule selects the pod.
    pub(crate) fn sayings(&self, pod: &EndpointName) -> Option<(Digest, &Sayings)> {
        let sayings = &self.pods.get(pod)?.sayings;
        Some((sayings.digest()?, sayings))
    }

    /// The policies whose rules select a pod, and how many of them do.
    pub(crate) fn policies(&self, pod: &EndpointName) -> OrdMap<PolicyKey, usize> {
        self.pods.get(pod).map(|own| own.policies.clone()).unwrap_or_default()
    }
}

/// Rules by what they select.
#[derive(Debug, Default)]
struct RuleIndex {
    /// By key and value of a label that the pod must carry.
    by_label: HashMap<String, HashMap<String, Rules>>,
    /// Those that require no label.
    others: Rules,
}

type Rules = BTreeMap<RuleKey, Arc<KnownRule>>;

impl RuleIndex {
    fn insert(&mut self, key: RuleKey, known: &Arc<KnownRule>) {
        let Some((label, values)) = known.rule.subject.narrowest() else {
            self.others.insert(key, Arc::clone(known));
            return;
        };
        let by_value = self.by_label.entry(label.to_owned()).or_default();
        for value in values {
            let rules = by_value.entry(value.clone()).or_default();
            rules.insert(key.clone(), Arc::clone(known));
        }
    }

    fn remove(&mut self, key: &RuleKey, subject: &LabelSelector) {
        let Some((label, values)) = subject.narrowest() else {
            self.others.remove(key);
            return;
        };
        let Some(by_value) = self.by_label.get_mut(label) else { return };
        for value in values {
            let Some(rules) = by_value.get_mut(value) else { continue };
            rules.remove(key);
            if rules.is_empty() {
                by_value.remove(value);
            }
        }
        if by_value.is_empty() {
            self.by_label.remove(label);
        }
    }

    fn selecting(&self, labels: &Labels) -> Rules {
        let by_label = labels.iter().filter_map(|label| {
            self.by_label.get(&label.key).and_then(|by_value| by_value.get(&label.value))
        });
        let candidates = by_label.chain([&self.others]).flatten();
        let selecting = candidates.filter(|(_, known)| known.rule.selects(labels));
        selecting.map(|(key, known)| (key.clone(), Arc::clone(known))).collect()
    }
}
