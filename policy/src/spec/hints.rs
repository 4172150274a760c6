//! Warnings about what the rules of one document mean together.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Pattern, PatternKind, PortPrefix};

use crate::rule::{Application, Egress, Entity, Peers, PortRuleRef, Rule};
use crate::spec::fields::Check;

/// How many pairs of patterns are compared before no more is told.
const MAX_COMPARED: usize = 100_000;

/// Warns of rules that do less, or more, than their author may think.
pub(super) fn warn(check: &mut Check, rules: &[Arc<Rule>]) {
    for rule in rules {
        warn_of_world(check, rule);
    }
    warn_of_names_never_asked(check, rules);
}

/// `world` opens what `toFQDNs` was to narrow.
fn warn_of_world(check: &mut Check, rule: &Rule) {
    let opens = |entry: &&Egress| match &entry.peers {
        Peers::Entities(entities) => entities.iter().any(|entity| opens_world(*entity)),
        _ => false,
    };
    let Some(world) = rule.egress.iter().find(opens) else { return };
    let named = rule.egress.iter().filter(|entry| matches!(&entry.peers, Peers::Names(_)));
    for entry in named.filter(|entry| opens_in_vain(entry, world)) {
        let line = world.at.line;
        let message = format!(
            "does not narrow what the entity in line {line} opens: that allows every address at \
             these ports already"
        );
        check.warn_at(&entry.peers_at, message);
    }
}

fn opens_world(entity: Entity) -> bool {
    entity == Entity::All || entity.as_str().starts_with("world")
}

/// Whether an entry opens ports, or limits what is said there, that a wider one opens anyway.
fn opens_in_vain(entry: &Egress, wider: &Egress) -> bool {
    let opens =
        |rule: &PortRuleRef<'_>| !matches!(rule.application(), Some(Application::Unenforced(_)));
    let opens_whatever_is_said =
        |rule: &PortRuleRef<'_>| matches!(rule.application(), None | Some(Application::Dns(_)));
    share_ports(&ports(entry, opens), &ports(wider, opens_whatever_is_said))
}

fn share_ports(one: &BTreeSet<PortPrefix>, other: &BTreeSet<PortPrefix>) -> bool {
    let within = |inner: &BTreeSet<PortPrefix>, outer: &BTreeSet<PortPrefix>| {
        inner
            .iter()
            .any(|ports| outer.contains(ports) || ports.wider().any(|wider| outer.contains(&wider)))
    };
    within(one, other) || within(other, one)
}

fn ports(entry: &Egress, of: impl Fn(&PortRuleRef<'_>) -> bool) -> BTreeSet<PortPrefix> {
    entry.port_rules().filter(of).flat_map(PortRuleRef::ports).copied().collect()
}

/// A name that may not be asked for never resolves, so its addresses are never learned.
fn warn_of_names_never_asked(check: &mut Check, rules: &[Arc<Rule>]) {
    let entries = || rules.iter().filter(|rule| rule.default_deny).flat_map(|rule| &rule.egress);
    let asked: Vec<&Pattern> = rules.iter().flat_map(|rule| &rule.egress).flat_map(asked).collect();
    let mut left = MAX_COMPARED;
    for entry in entries() {
        let Peers::Names(patterns) = &entry.peers else { continue };
        let never = patterns.iter().find(|pattern| {
            left = left.saturating_sub(asked.len());
            left > 0 && !asked.iter().any(|asked| lets_resolve(asked, pattern))
        });
        if let Some(pattern) = never {
            let message = format!(
                "no rules.dns of this policy lets `{pattern}` be asked for: unless another policy \
                 does, no address of it is ever learned"
            );
            check.warn_at(&entry.peers_at, message);
        }
    }
}

fn asked(entry: &Egress) -> impl Iterator<Item = &Pattern> {
    entry.ports.iter().flatten().flat_map(|rule| match &rule.application {
        Some(Application::Dns(patterns)) => patterns.as_slice(),
        Some(Application::L7(_) | Application::Unenforced(_)) | None => &[],
    })
}

/// Whether names that `wanted` matches may be asked for by `asked`, judged by one of them.
fn lets_resolve(asked: &Pattern, wanted: &Pattern) -> bool {
    if asked == wanted || *asked.kind() == PatternKind::All {
        return true;
    }
    let example = wanted.as_str().replace("**.", "x.").replace('*', "x");
    example.parse().is_ok_and(|name: model::Name| asked.matches(name.as_ref()))
}
