//! The smallest change to policies that lets a denied connection pass.
//!
//! Small is what opens least: an entry for this destination and port, or one item more in an entry
//! that lacks nothing else; a deny rule that covers the connection gets an exception, or has to go.
//! Every change is tried on the rules before it is proposed, read back from the very text that
//! people are shown.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use model::{DropReason, Name, Prefix};
use policy::{Decision, Direction, Egress, Lack, Near, Peers, PolicyKey, PrefixBase, Rule, Spot};

use super::entry::{indented, inside, outside, plain, port_item, ports, read_entry, service};
use super::place::{Destination, Place};
use super::{Case, ExplainError, Judged, Outcome, Reason, Target};

/// The most changes that are proposed together.
const MAX_CHANGES: usize = 16;
/// A change to one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What to do.
    pub kind: ChangeKind,
    /// The policy.
    pub policy: PolicyKey,
    /// Its file.
    pub file: Arc<Path>,
    /// The line of what is changed, or after which to add.
    pub line: usize,
    /// The field: the list that gains an item, or the item itself.
    pub field: String,
    /// What to add, or to put in place of the field; empty where the field is taken out.
    pub yaml: String,
}

/// What to do with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Add an item to the list.
    Add,
    /// Put something else in its place.
    Replace,
    /// Take it out.
    Remove,
}

/// A change and the rules with it.
type Step = (Change, Vec<Arc<Rule>>);

impl Case<'_> {
    /// What would let everything pass that the question means, were no policy audited; nothing where
    /// no rule can, or where nothing is in the way.
    pub(super) fn changes(&self, rules: &[Arc<Rule>]) -> Result<Vec<Change>, ExplainError> {
        let (mut rules, mut changes) = (rules.to_vec(), Vec::new());
        while changes.len() < MAX_CHANGES && !rules.is_empty() {
            let examined = self.examine(&rules)?;
            let mut all = examined.destinations.iter().chain(&examined.lookup);
            let Some((to, judged)) =
                all.find(|(_, judged)| matches!(judged.outcome, Outcome::Audit | Outcome::Deny))
            else {
                return Ok(changes);
            };
            let Some((change, changed)) = self.step(&rules, to, judged) else { break };
            changes.push(change);
            rules = changed;
        }
        Ok(Vec::new())
    }

    fn step(&self, rules: &[Arc<Rule>], to: &Destination, judged: &Judged) -> Option<Step> {
        match judged.reason {
            Reason::NameRefused => {
                let near = judged.near.iter().find(|near| near.lacks == Lack::Name)?;
                add_name(rules, near, to.asks.as_ref()?)
            }
            Reason::Dropped(DropReason::DenyRule) => {
                let decided = judged.decided.iter().find(|own| own.direction == Direction::Deny)?;
                except(rules, decided, to).or_else(|| remove(rules, decided))
            }
            Reason::Dropped(DropReason::PolicyDenied) => {
                let near = judged.near.first().filter(|near| near.lacks == Lack::Port);
                let port = near.and_then(|near| add_port(rules, near, to));
                port.or_else(|| self.add_entry(rules, judged, to))
            }
            Reason::Dropped(_)
            | Reason::NoPolicy
            | Reason::NotEnforced
            | Reason::AllowRule
            | Reason::L7Rule
            | Reason::DnsRule => None,
        }
    }

    /// One entry more, for this destination and port alone.
    fn add_entry(&self, rules: &[Arc<Rule>], judged: &Judged, to: &Destination) -> Option<Step> {
        let own = |rule: &&Arc<Rule>| {
            judged.near.first().is_some_and(|near| near.rule.policy == rule.origin.policy)
        };
        let enforcing = |rule: &&Arc<Rule>| rule.default_deny;
        let index = position(rules, own).or_else(|| position(rules, enforcing)).unwrap_or(0);
        let rule = rules.get(index)?;
        let key = &rule.origin.policy;
        let (peers, ports) = self.destination(key, to)?;
        let yaml = indented(&format!("{peers}{ports}"), "  ");
        let yaml = format!("- {}", yaml.trim());
        let mut entry = read_entry(key, &yaml)?;
        let line = rule.egress.last().map_or(rule.origin.line, |entry| entry.at.line);
        // Nowhere in the file yet: after what is there, and mistaken for none of it.
        entry.at = Spot { line, column: 0, field: format!("{}[+]", entries_field(rule)).into() };
        let mut changed = rules.to_vec();
        let mut with = Rule::clone(rule);
        with.egress.push(entry);
        changed[index] = Arc::new(with);
        let change = Change {
            kind: ChangeKind::Add,
            policy: key.clone(),
            file: Arc::clone(&rule.origin.file),
            line,
            field: entries_field(rule),
            yaml,
        };
        Some((change, changed))
    }

    /// The destination's part of an entry, and the ports' part.
    fn destination(&self, key: &PolicyKey, to: &Destination) -> Option<(String, String)> {
        let asked = BTreeSet::from([to.port]);
        let (peers, numbers) = match (&self.question.to, &to.place) {
            (_, Place::NoService) => return None,
            (Target::Entity(entity), _) => (format!("toEntities:\n- {entity}\n"), asked),
            (_, Place::Inside(labels)) => (inside(key, labels), asked),
            (_, Place::Outside { address, labels, names, .. }) => {
                (outside(*address, labels, names), asked)
            }
            (_, Place::Frontend(port)) => service(key, port, to)?,
        };
        Some((peers, ports(to, &numbers)?))
    }
}

fn position(rules: &[Arc<Rule>], is: impl Fn(&&Arc<Rule>) -> bool) -> Option<usize> {
    rules.iter().position(|rule| is(&rule))
}

/// The field that holds the entries of a rule.
fn entries_field(rule: &Rule) -> String {
    let of = |entry: &Egress| entry.at.field.rsplit_once('[').map(|(list, _)| list.to_owned());
    let allowed = rule.egress.first().and_then(of);
    let denied = || rule.denied.first().and_then(of);
    let beside = || Some(denied()?.strip_suffix("Deny")?.to_owned());
    allowed.or_else(beside).unwrap_or_else(|| "spec.egress".to_owned())
}

/// One port more, in an entry for this destination alone and without rules for what is said.
fn add_port(rules: &[Arc<Rule>], near: &Near, to: &Destination) -> Option<Step> {
    if matches!(to.place, Place::Frontend(_)) || to.asks.is_some() {
        return None;
    }
    let ports = near.rule.ports.as_ref().filter(|spot| spot.field.contains("toPorts["))?;
    let yaml = port_item(to.port, to.protocol);
    let key = &near.rule.policy;
    let (peers, of) = ("toEntities:\n  - all", ports.field.as_ref());
    let read = read_entry(
        key,
        &format!("- {peers}\n  toPorts:\n  - ports:\n{}", indented(&yaml, "    ")),
    )?;
    let added = read.ports?.pop()?.ports;
    let changed = edit(rules, &near.rule, |entry| {
        let written = entry.ports.as_mut()?.iter_mut().find(|own| own.at == *ports)?;
        let simple = written.application.is_none() && is_single(&entry.peers);
        simple.then(|| written.ports.extend(added))
    })?;
    let change = Change {
        kind: ChangeKind::Add,
        policy: key.clone(),
        file: Arc::clone(&near.rule.file),
        line: ports.line,
        field: format!("{of}.ports"),
        yaml,
    };
    Some((change, changed))
}

/// Whether an entry names one destination only, so that a port more opens no other one.
fn is_single(peers: &Peers) -> bool {
    match peers {
        Peers::All => false,
        Peers::Endpoints(own) => own.len() == 1,
        Peers::Entities(own) => own.len() == 1,
        Peers::Services(own) => own.len() == 1,
        Peers::Nodes(own) => own.len() == 1,
        Peers::Prefixes(own) => own.len() == 1,
        Peers::Names(own) => own.len() == 1,
    }
}

/// One name more that may be asked for.
fn add_name(rules: &[Arc<Rule>], near: &Near, name: &Name) -> Option<Step> {
    let ports = near.rule.ports.as_ref()?;
    let pattern = model::Pattern::match_name(&plain(name)).ok()?;
    let changed = edit(rules, &near.rule, |entry| {
        let written = entry.ports.as_mut()?.iter_mut().find(|own| own.at == *ports)?;
        match &mut written.application {
            Some(policy::Application::Dns(patterns)) => {
                patterns.push(pattern);
                Some(())
            }
            Some(policy::Application::L7(_) | policy::Application::Unenforced(_)) | None => None,
        }
    })?;
    let change = Change {
        kind: ChangeKind::Add,
        policy: near.rule.policy.clone(),
        file: Arc::clone(&near.rule.file),
        line: ports.line,
        field: format!("{}.rules.dns", ports.field),
        yaml: format!("- matchName: \"{}\"", plain(name)),
    };
    Some((change, changed))
}

/// An exception for one address, where a deny rule names a prefix that is more than that.
fn except(rules: &[Arc<Rule>], decided: &Decision, to: &Destination) -> Option<Step> {
    let Place::Outside { address, .. } = to.place else { return None };
    let host = Prefix::host(to.address.filter(|own| *own == address)?);
    let mut yaml = None;
    let changed = edit(rules, decided, |entry| {
        let Peers::Prefixes(peers) = &mut entry.peers else { return None };
        let [peer] = peers.as_mut_slice() else { return None };
        let PrefixBase::Prefix(base) = peer.base else { return None };
        if base == host {
            return None;
        }
        peer.except.push(host);
        let excepts: String = peer.except.iter().map(|own| format!("\n  - \"{own}\"")).collect();
        yaml = Some(format!("toCIDRSet:\n- cidr: \"{base}\"\n  except:{excepts}"));
        Some(())
    })?;
    Some((change_of(ChangeKind::Replace, decided, &decided.peers, yaml?), changed))
}

fn remove(rules: &[Arc<Rule>], decided: &Decision) -> Option<Step> {
    let index = position(rules, |rule| is_of(rule, decided))?;
    let mut rule = Rule::clone(&rules[index]);
    rule.denied.retain(|entry| entry.at != decided.entry);
    let mut changed = rules.to_vec();
    changed[index] = Arc::new(rule);
    Some((change_of(ChangeKind::Remove, decided, &decided.entry, String::new()), changed))
}

fn change_of(kind: ChangeKind, decided: &Decision, at: &Spot, yaml: String) -> Change {
    Change {
        kind,
        policy: decided.policy.clone(),
        file: Arc::clone(&decided.file),
        line: at.line,
        field: at.field.to_string(),
        yaml,
    }
}

/// The rules with one entry edited, if it is there and can be.
fn edit(
    rules: &[Arc<Rule>],
    place: &Decision,
    change: impl FnOnce(&mut Egress) -> Option<()>,
) -> Option<Vec<Arc<Rule>>> {
    let index = position(rules, |rule| is_of(rule, place))?;
    let mut rule = Rule::clone(&rules[index]);
    let entries = match place.direction {
        Direction::Allow => &mut rule.egress,
        Direction::Deny => &mut rule.denied,
    };
    change(entries.iter_mut().find(|entry| entry.at == place.entry)?)?;
    let mut changed = rules.to_vec();
    changed[index] = Arc::new(rule);
    Some(changed)
}

fn is_of(rule: &Rule, place: &Decision) -> bool {
    let entries = match place.direction {
        Direction::Allow => &rule.egress,
        Direction::Deny => &rule.denied,
    };
    rule.origin.policy == place.policy
        && rule.origin.file == place.file
        && entries.iter().any(|entry| entry.at == place.entry)
}
