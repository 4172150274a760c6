//! What becomes of a new flow's first packet, where no proxy is there to take it.

use model::{DropReason, Protocol, Ruling, Verdict};

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It went on; where it would not, were no policy audited, with the reason.
    Passed(Option<DropReason>),
    /// It did not.
    Dropped(DropReason),
}

/// What is said of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Judgement {
    /// By the rules; or why none is asked.
    pub ruling: Result<Ruling, DropReason>,
    /// Whether what no rule allows is only audited.
    pub audits_default_deny: bool,
}

impl Judgement {
    /// What it makes of a packet.
    pub fn fate(self, protocol: Protocol) -> Fate {
        let deny_rule = self.ruling.is_ok_and(|own| own.audited.deny_rule);
        let deny_rule = deny_rule.then_some(DropReason::DenyRule);
        match self.ruling.map(|own| own.verdict) {
            Ok(Some(Verdict::Deny)) => Fate::Dropped(DropReason::DenyRule),
            Ok(Some(Verdict::Allow | Verdict::Unruled)) => Fate::Passed(deny_rule),
            Ok(verdict) => self.unallowed(unallowed_for(verdict, protocol), deny_rule),
            Err(reason) => self.unallowed(reason, None),
        }
    }

    fn unallowed(self, reason: DropReason, deny_rule: Option<DropReason>) -> Fate {
        if self.audits_default_deny {
            Fate::Passed(deny_rule.or(Some(reason)))
        } else {
            Fate::Dropped(reason)
        }
    }
}

/// Why a packet goes nowhere that is neither denied nor allowed to go where it is going.
fn unallowed_for(verdict: Option<Verdict>, protocol: Protocol) -> DropReason {
    match (verdict, protocol) {
        // A test run is at no ingress, so no socket can be assigned, with a listener or without.
        (Some(Verdict::Proxy), Protocol::TCP)
        | (Some(Verdict::Dns), Protocol::TCP | Protocol::UDP) => DropReason::ProxyUnavailable,
        (Some(Verdict::Proxy), Protocol::UDP) => DropReason::QuicNotInspected,
        _ => DropReason::PolicyDenied,
    }
}
