//! Which rules select which of this node's pods.
//!
//! A policy more is asked about each pod of the node, a pod more finds its rules by its labels.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use model::{Changed, CidrGroup, Digest, EndpointName, Labels, Service};
use policy::{Concerns, Context, LabelSelector, Policy, PolicyKey, Rule};

/// A rule's policy, and which of that policy's rules it is.
type RuleKey = (PolicyKey, usize);

/// All rules, and what they select of this node.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    index: RuleIndex,
    pods: BTreeMap<EndpointName, Selected>,
}

/// A rule, with what is found out about it when it is first asked for.
#[derive(Debug)]
struct KnownRule {
    rule: Arc<Rule>,
    digest: OnceLock<Digest>,
    concerns: Concerns,
}

/// The rules of a pod.
#[derive(Debug)]
struct Selected {
    labels: Labels,
    rules: BTreeMap<RuleKey, Arc<KnownRule>>,
}

impl KnownRule {
    fn new(rule: &Arc<Rule>) -> Self {
        Self { rule: Arc::clone(rule), digest: OnceLock::new(), concerns: rule.concerns() }
    }

    fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| identity::digest("rule", [self.rule.canonical()]))
    }
}

impl Selection {
    /// Takes in a policy that came, went or changed; adds the pods whose rules are others now.
    pub(crate) fn take_policy(
        &mut self,
        changed: &Changed<'_, PolicyKey, Policy>,
        touched: &mut BTreeSet<EndpointName>,
    ) {
        let rules = |policy: Option<&Arc<Policy>>| {
            let rules = policy.into_iter().flat_map(|policy| &policy.rules).map(KnownRule::new);
            rules.map(Arc::new).enumerate().collect::<Vec<_>>()
        };
        let (old, new) = (rules(changed.old), rules(changed.new));
        let key = |number: usize| (changed.key.clone(), number);
        for (number, known) in &old {
            self.index.remove(&key(*number), &known.rule.subject);
        }
        for (number, known) in &new {
            self.index.insert(key(*number), known);
        }
        for (name, selected) in &mut self.pods {
            let mut is_touched = false;
            for (number, _) in &old {
                is_touched |= selected.rules.remove(&key(*number)).is_some();
            }
            for (number, known) in new.iter().filter(|(_, own)| own.rule.selects(&selected.labels))
            {
                selected.rules.insert(key(*number), Arc::clone(known));
                is_touched = true;
            }
            if is_touched {
                touched.insert(name.clone());
            }
        }
    }

    /// Takes in a pod of this node, or what became of one.
    pub(crate) fn take_pod(&mut self, name: &EndpointName, labels: Option<&Labels>) {
        let Some(labels) = labels else {
            self.pods.remove(name);
            return;
        };
        if self.pods.get(name).is_none_or(|known| known.labels != *labels) {
            let rules = self.index.selecting(labels);
            self.pods.insert(name.clone(), Selected { labels: labels.clone(), rules });
        }
    }

    /// Adds the pods with a rule whose meaning depends on something.
    pub(crate) fn concerned(
        &self,
        depends: impl Fn(&Concerns) -> bool,
        touched: &mut BTreeSet<EndpointName>,
    ) {
        let concerned = |selected: &Selected| {
            let mut concerns = selected.rules.values().map(|known| &known.concerns);
            concerns.any(|own| !own.is_empty() && depends(own))
        };
        let pods = self.pods.iter().filter(|(_, selected)| concerned(selected));
        touched.extend(pods.map(|(name, _)| name.clone()));
    }

    /// The same for a service that came, went or is another one.
    pub(crate) fn concerned_with_service(
        &self,
        changed: &Changed<'_, EndpointName, Service>,
        touched: &mut BTreeSet<EndpointName>,
    ) {
        let facts = |own: &Arc<Service>| (own.labels.clone(), own.external_name.clone());
        if changed.old.map(facts) != changed.new.map(facts) {
            let any = |concerns: &Concerns| {
                changed.old.into_iter().chain(changed.new).any(|own| concerns.with_service(own))
            };
            self.concerned(any, touched);
        }
    }

    /// The same for a group of prefixes.
    pub(crate) fn concerned_with_group(
        &self,
        changed: &Changed<'_, String, CidrGroup>,
        touched: &mut BTreeSet<EndpointName>,
    ) {
        let any = |concerns: &Concerns| {
            changed.old.into_iter().chain(changed.new).any(|own| concerns.with_group(own))
        };
        self.concerned(any, touched);
    }

    /// The digests that tell a pod's table from others: of its rules, in order, and of what their
    /// meaning depends on. None if no rule selects the pod.
    pub(crate) fn key(&self, pod: &EndpointName, context: &Context) -> Option<Vec<Digest>> {
        let selected = self.pods.get(pod).filter(|selected| !selected.rules.is_empty())?;
        let rules = selected.rules.values();
        let mut key: Vec<Digest> = rules.map(|known| known.digest()).collect();
        key.sort_unstable();
        key.dedup();
        let concerned = selected.rules.values().filter(|known| !known.concerns.is_empty());
        let concerned: Vec<Arc<Rule>> = concerned.map(|known| Arc::clone(&known.rule)).collect();
        key.push(identity::digest("context", [context.canonical_for(&concerned)]));
        Some(key)
    }

    /// The rules that select a pod.
    pub(crate) fn rules(&self, pod: &EndpointName) -> Vec<Arc<Rule>> {
        let rules = self.pods.get(pod).into_iter().flat_map(|own| own.rules.values());
        rules.map(|known| Arc::clone(&known.rule)).collect()
    }

    /// The policies that they are of, in order.
    pub(crate) fn policies(&self, pod: &EndpointName) -> Vec<String> {
        let keys = self.pods.get(pod).into_iter().flat_map(|own| own.rules.keys());
        let mut policies: Vec<&PolicyKey> = keys.map(|(policy, _)| policy).collect();
        policies.dedup();
        policies.into_iter().map(ToString::to_string).collect()
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
