//! What rules make of one destination.

use std::sync::Arc;

use model::{DropReason, Labels, Name, NameRef, Protocol, Verdict};
use policy::{Context, DefaultDeny, Direction, Egress, Entity, Packet, Peers, Rule, Wants};

use super::place::{Destination, Place, Port};
use super::{Judged, Outcome, Reason, unique};

/// The rules that select a pod.
pub(super) struct Judge<'a> {
    pub rules: &'a [Arc<Rule>],
    pub context: &'a Context,
}

/// What is asked of a place.
#[derive(Clone, Copy)]
struct Asked<'a> {
    protocol: Protocol,
    port: u16,
    name: Option<NameRef<'a>>,
}

impl Judge<'_> {
    /// What becomes of a connection to `to`.
    pub fn destination(&self, to: &Destination) -> Judged {
        let judged = |answer: Answer| answer.judged(to);
        if self.rules.is_empty() {
            return judged(Answer::of(Outcome::Allow, Reason::NoPolicy));
        }
        let asked = Asked {
            protocol: to.protocol,
            port: to.port,
            name: to.asks.as_ref().map(Name::as_ref),
        };
        judged(match &to.place {
            Place::Frontend(port) => self.frontend(port, asked),
            Place::NoService => self.no_service(asked),
            place => self.place(place, asked),
        })
    }

    /// The pod's interface is closed: no rule is asked.
    pub fn dropped(&self, to: &Destination, reason: DropReason) -> Judged {
        Answer::dropped(reason).judged(to)
    }

    /// What is denied wherever it goes is dropped there too.
    fn no_service(&self, asked: Asked<'_>) -> Answer {
        let denies =
            only(self.rules, |direction, entry| direction == Direction::Deny && !is_narrow(entry));
        let enforced: Vec<Arc<Rule>> = denies.into_iter().filter(|rule| !rule.audited).collect();
        let Asked { protocol, port, name: asks } = asked;
        let destination = policy::Destination::Inside(&Labels::default());
        let packet = Packet { destination, protocol, port, asks };
        match policy::explain(&enforced, self.context, &packet).verdict {
            Some(Verdict::Deny) => Answer::dropped(DropReason::NoService),
            None | Some(_) => self.by_default(DropReason::NoService),
        }
    }

    /// What no rule speaks of is dropped for this reason, unless it is only told.
    fn by_default(&self, reason: DropReason) -> Answer {
        let default_deny = self.rules.iter().map(|rule| rule.default_deny()).max();
        match default_deny.is_some_and(DefaultDeny::is_lenient) {
            true => Answer::of(Outcome::Audit, Reason::Dropped(reason)),
            false => Answer::dropped(reason),
        }
    }

    fn place(&self, place: &Place, asked: Asked<'_>) -> Answer {
        let (rules, protocol, port, asks) = (self.rules, asked.protocol, asked.port, asked.name);
        let explain = |rules: &[Arc<Rule>], destination| {
            let packet = Packet { destination, protocol, port, asks };
            Answer::from_rules(policy::explain(rules, self.context, &packet), protocol)
        };
        match place {
            Place::Inside(labels) => explain(rules, policy::Destination::Inside(labels)),
            Place::Outside { address, labels, names, expired } => {
                let outside = |names| {
                    let (address, labels) = (*address, labels);
                    explain(rules, policy::Destination::Outside { address, labels, names })
                };
                let answer = outside(names);
                let by_default = Reason::Dropped(DropReason::PolicyDenied);
                if answer.reason == by_default && !expired.is_empty() {
                    let all: Vec<Name> = names.iter().chain(expired).cloned().collect();
                    let before = outside(&all);
                    if matches!(before.outcome, Outcome::Allow | Outcome::Redirect) {
                        let reason = Reason::Dropped(DropReason::LeaseExpired);
                        return Answer { outcome: answer.outcome, reason, ..before };
                    }
                }
                answer
            }
            // What stands behind a service is never a service again; of such an address, only
            // rules for every destination speak.
            Place::Frontend(_) | Place::NoService => {
                let rules = only(rules, |_, entry| !is_narrow(entry));
                explain(&rules, policy::Destination::Inside(&Labels::default()))
            }
        }
    }

    /// A service's port lets through what all of its ready backends let through.
    fn frontend(&self, port: &Port, asked: Asked<'_>) -> Answer {
        if port.backends.is_empty() {
            return self.unready(port, asked);
        }
        let of = |(address, place): &(std::net::SocketAddr, Place)| {
            let backend = self.place(place, Asked { port: address.port(), ..asked });
            Answer { behind: Some(address.to_string()), ..backend }
        };
        let each: Vec<Answer> = port.backends.iter().map(of).collect();
        let worst = each.iter().rev().max_by_key(|own| own.rank()).cloned();
        let Some(worst) = worst else { return self.by_default(DropReason::PolicyDenied) };
        let deciding = || each.iter().filter(|own| own.rank() == worst.rank());
        Answer {
            decided: unique(deciding().flat_map(|own| &own.decided)),
            near: unique(deciding().flat_map(|own| &own.near)),
            behind: worst
                .behind
                .filter(|_| matches!(worst.outcome, Outcome::Deny | Outcome::Audit)),
            ..worst
        }
    }

    /// With no ready backend, only what rules for the service itself say counts, and what is denied
    /// wherever it goes.
    fn unready(&self, port: &Port, asked: Asked<'_>) -> Answer {
        let label = std::iter::once(Wants::service_label(&port.service)).collect();
        let rules = only(self.rules, |direction, entry| match direction {
            Direction::Allow => matches!(entry.peers, Peers::Services(_)),
            Direction::Deny => matches!(entry.peers, Peers::Services(_)) || !is_narrow(entry),
        });
        let answer = self.place_by(&rules, &label, asked);
        Answer { behind: Some("no ready backend".to_owned()), ..answer }
    }

    fn place_by(&self, rules: &[Arc<Rule>], labels: &Labels, asked: Asked<'_>) -> Answer {
        let destination = policy::Destination::Inside(labels);
        let Asked { protocol, port, name: asks } = asked;
        let packet = Packet { destination, protocol, port, asks };
        let explanation = policy::explain(rules, self.context, &packet);
        // No rule for the service: that none asks for default deny opens no port of it.
        let verdict = explanation.verdict.filter(|own| *own != Verdict::Unruled);
        Answer::from_rules(policy::Explanation { verdict, ..explanation }, protocol)
    }
}

/// Whether an entry is for some destinations only.
fn is_narrow(entry: &Egress) -> bool {
    match &entry.peers {
        Peers::All => false,
        Peers::Entities(entities) => !entities.contains(&Entity::All),
        Peers::Endpoints(_)
        | Peers::Services(_)
        | Peers::Nodes(_)
        | Peers::Prefixes(_)
        | Peers::Names(_) => true,
    }
}

/// The rules with some of their entries.
fn only(rules: &[Arc<Rule>], keep: impl Fn(Direction, &Egress) -> bool) -> Vec<Arc<Rule>> {
    let less = |rule: &Arc<Rule>| {
        let mut rule = Rule::clone(rule);
        rule.egress.retain(|entry| keep(Direction::Allow, entry));
        rule.denied.retain(|entry| keep(Direction::Deny, entry));
        Arc::new(rule)
    };
    rules.iter().map(less).collect()
}

/// What is decided of a place.
#[derive(Clone)]
struct Answer {
    outcome: Outcome,
    reason: Reason,
    decided: Vec<policy::Decision>,
    near: Vec<policy::Near>,
    /// The backend that decided.
    behind: Option<String>,
}

impl Answer {
    fn of(outcome: Outcome, reason: Reason) -> Self {
        Self { outcome, reason, decided: Vec::new(), near: Vec::new(), behind: None }
    }

    fn dropped(reason: DropReason) -> Self {
        Self::of(Outcome::Deny, Reason::Dropped(reason))
    }

    fn from_rules(explanation: policy::Explanation, protocol: Protocol) -> Self {
        let policy::Explanation { verdict, default_deny, asks, decided, audited, near } =
            explanation;
        let proxied = matches!(protocol, Protocol::UDP | Protocol::TCP);
        let unruled = |reason| match default_deny.is_lenient() {
            true => (Outcome::Audit, reason),
            false => (Outcome::Deny, reason),
        };
        let denied = |reason| unruled(Reason::Dropped(reason));
        let (outcome, reason) = match verdict {
            Some(Verdict::Unruled) => (Outcome::Allow, Reason::NotEnforced),
            Some(Verdict::Proxy) if protocol == Protocol::TCP => {
                (Outcome::Redirect, Reason::L7Rule)
            }
            Some(Verdict::Proxy) if protocol == Protocol::UDP => {
                denied(DropReason::QuicNotInspected)
            }
            Some(Verdict::Proxy) => denied(DropReason::PolicyDenied),
            Some(Verdict::Allow) => (Outcome::Allow, Reason::AllowRule),
            Some(Verdict::Dns) if !proxied => denied(DropReason::PolicyDenied),
            Some(Verdict::Dns) if asks == Some(false) && !default_deny.is_absent() => {
                unruled(Reason::NameRefused)
            }
            Some(Verdict::Dns) => (Outcome::Redirect, Reason::DnsRule),
            Some(Verdict::Deny) => (Outcome::Deny, Reason::Dropped(DropReason::DenyRule)),
            None => denied(DropReason::PolicyDenied),
        };
        if outcome != Outcome::Deny && !audited.is_empty() {
            let reason = Reason::Dropped(DropReason::DenyRule);
            return Self { decided: audited, near, ..Self::of(Outcome::Audit, reason) };
        }
        Self { outcome, reason, decided, near, behind: None }
    }

    /// How much it outweighs what other backends of a service say: what is denied at one is denied
    /// at all, and one that nothing allows leaves the service without a verdict.
    fn rank(&self) -> (Outcome, u8) {
        let weight = match self.reason {
            Reason::Dropped(DropReason::DenyRule) => 3,
            Reason::Dropped(DropReason::PolicyDenied) => 2,
            Reason::Dropped(_) => 1,
            Reason::NoPolicy
            | Reason::NotEnforced
            | Reason::AllowRule
            | Reason::L7Rule
            | Reason::NameRefused => 0,
            Reason::DnsRule => 1,
        };
        (self.outcome, weight)
    }

    fn judged(self, to: &Destination) -> Judged {
        let destination = match &self.behind {
            Some(behind) => format!("{}, {behind}", to.shown),
            None => to.shown.clone(),
        };
        Judged {
            destination,
            address: to.address,
            outcome: self.outcome,
            reason: self.reason,
            decided: self.decided,
            near: self.near,
        }
    }
}
