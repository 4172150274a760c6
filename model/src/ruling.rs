//! What a verdict row says, whole: a verdict, and what is audited instead of enforced.
//!
//! What only audited rules would drop passes, and is told. So a ruling holds two things beside its
//! verdict: whether an audited deny rule covers the packet, and whether default deny is audited.
//! Rulings of several rows unite part by part; what becomes of the packet depends on the union.

use std::fmt;

use crate::{DropReason, Protocol, Verdict};

/// What a row of a verdict table says of the packets it covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ruling {
    /// What rules and default deny decide; none where nothing speaks of the packet.
    pub verdict: Option<Verdict>,
    /// What would be enforced, were the policies that ask for it not audited.
    pub audited: Audited,
}

/// What audited policies would drop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Audited {
    /// A deny rule covers the packet.
    pub deny_rule: bool,
    /// What no rule allows is dropped: by audited policies alone, so that it passes. Stands in the
    /// rows for every destination only.
    pub default_deny: bool,
}

/// What becomes of a packet that begins something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fate {
    /// Where it goes.
    pub way: Way,
    /// Why it is dropped; where it goes on, why it would be, were no policy audited.
    pub reason: Option<DropReason>,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// On to where it is going.
    Direct,
    /// To the DNS proxy.
    DnsProxy,
    /// To the L7 proxy.
    L7Proxy,
    /// Nowhere.
    Dropped,
}

impl Ruling {
    const DENY_RULE: u32 = 1 << 8;
    const DEFAULT_DENY: u32 = 1 << 9;

    /// The ruling that stands when both do.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self { verdict: self.verdict.max(other.verdict), audited: self.audited.or(other.audited) }
    }

    /// The ruling that stands where each is of one of several destinations, any of which a packet
    /// may come to: what a deny rule or nothing at all drops at one of them is dropped, and what is
    /// judged by a proxy at one of them is judged.
    #[must_use]
    pub fn restrict(self, other: Self) -> Self {
        let verdict = match (self.verdict, other.verdict) {
            (Some(one), Some(other)) => Some(one.restrict(other)),
            // Even where what nothing allows passes, because it is audited.
            (Some(Verdict::Deny), None) | (None, Some(Verdict::Deny)) => Some(Verdict::Deny),
            (None, _) | (_, None) => None,
        };
        Self { verdict, audited: self.audited.or(other.audited) }
    }

    /// What becomes of a packet of this protocol, of which all rows together say this; `unruled` is
    /// why one is dropped that nothing speaks of.
    pub fn fate(self, protocol: Protocol, unruled: DropReason) -> Fate {
        let is_judged = [Protocol::TCP, Protocol::UDP].contains(&protocol);
        let denied = self.audited.deny_rule.then_some(DropReason::DenyRule);
        let going = |way| Fate { way, reason: denied };
        match self.verdict {
            Some(Verdict::Deny) => Fate::dropped(DropReason::DenyRule),
            Some(Verdict::Allow | Verdict::Unruled) => going(Way::Direct),
            Some(Verdict::Dns) if is_judged => going(Way::DnsProxy),
            Some(Verdict::Proxy) if protocol == Protocol::TCP => going(Way::L7Proxy),
            Some(Verdict::Proxy) if protocol == Protocol::UDP => {
                self.fate_by_default(DropReason::QuicNotInspected)
            }
            Some(Verdict::Proxy | Verdict::Dns) => self.fate_by_default(DropReason::PolicyDenied),
            None => self.fate_by_default(unruled),
        }
    }

    /// What becomes of what no rule allows and none denies.
    fn fate_by_default(self, reason: DropReason) -> Fate {
        match self.audited {
            Audited { default_deny: false, .. } => Fate::dropped(reason),
            Audited { deny_rule: true, .. } => Fate::audited(DropReason::DenyRule),
            Audited { deny_rule: false, .. } => Fate::audited(reason),
        }
    }

    /// Whether it says nothing, as if there were no row.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }

    /// The number in a map.
    pub fn number(self) -> u32 {
        let bit = |is: bool, bit: u32| if is { bit } else { 0 };
        self.verdict.map_or(0, |own| u32::from(own as u8))
            | bit(self.audited.deny_rule, Self::DENY_RULE)
            | bit(self.audited.default_deny, Self::DEFAULT_DENY)
    }

    /// The ruling of a number in a map. Nothing at all is no ruling that a row has.
    pub fn from_number(number: u32) -> Option<Self> {
        let [verdict, ..] = number.to_le_bytes();
        let audited = Audited {
            deny_rule: number & Self::DENY_RULE != 0,
            default_deny: number & Self::DEFAULT_DENY != 0,
        };
        let verdict = match verdict {
            0 => None,
            own => Some(Verdict::from_number(own)?),
        };
        let ruling = Self { verdict, audited };
        (ruling.number() == number && !ruling.is_nothing()).then_some(ruling)
    }
}

impl Audited {
    /// Nothing is audited.
    pub const NONE: Self = Self { deny_rule: false, default_deny: false };

    /// What one or the other is.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            deny_rule: self.deny_rule || other.deny_rule,
            default_deny: self.default_deny || other.default_deny,
        }
    }
}

impl Fate {
    /// It is dropped.
    pub const fn dropped(reason: DropReason) -> Self {
        Self { way: Way::Dropped, reason: Some(reason) }
    }

    /// It goes on, and would be dropped, were no policy audited.
    pub const fn audited(reason: DropReason) -> Self {
        Self { way: Way::Direct, reason: Some(reason) }
    }
}

impl From<Verdict> for Ruling {
    fn from(verdict: Verdict) -> Self {
        Self { verdict: Some(verdict), audited: Audited::NONE }
    }
}

impl fmt::Display for Ruling {
    /// Writes the verdict, and behind it what is audited: `allow, audited deny-rule`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = self.verdict.map(|own| own.to_string());
        let Audited { deny_rule, default_deny } = self.audited;
        let parts = [
            verdict,
            deny_rule.then(|| "audited deny-rule".to_owned()),
            default_deny.then(|| "audited default-deny".to_owned()),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() { f.write_str("nothing") } else { f.write_str(&parts.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Ruling> {
        let bits = [(false, false), (true, false), (false, true), (true, true)];
        let verdicts = (0..=5).map(Verdict::from_number);
        verdicts.flat_map(move |verdict| {
            bits.map(|(deny_rule, default_deny)| Ruling {
                verdict,
                audited: Audited { deny_rule, default_deny },
            })
        })
    }

    #[test]
    fn the_parts_of_rulings_unite_by_themselves() {
        let nothing = Ruling::default();
        for one in all() {
            assert_eq!(one.union(nothing), one);
            for other in all() {
                let union = one.union(other);
                assert_eq!(union, other.union(one));
                assert_eq!(union.verdict, one.verdict.max(other.verdict));
                assert_eq!(union.audited, one.audited.or(other.audited));
            }
        }
    }

    #[test]
    fn what_one_destination_forbids_is_forbidden_at_all() {
        let deny = Ruling::from(Verdict::Deny);
        for one in all() {
            assert_eq!(one.restrict(one), one);
            assert_eq!(one.restrict(deny).verdict, Some(Verdict::Deny));
            let unspoken = one.restrict(Ruling::default()).verdict;
            assert_eq!(unspoken, one.verdict.filter(|own| *own == Verdict::Deny));
            assert!(all().all(|other| one.restrict(other) == other.restrict(one)));
        }
    }

    #[test]
    fn numbers_come_back_as_they_were_and_others_are_no_ruling() {
        for own in all().filter(|own| !own.is_nothing()) {
            assert_eq!(Ruling::from_number(own.number()), Some(own));
        }
        for number in [0, 6, 6 | 1 << 8, 1 << 10, 3 | 1 << 10, 3 | 1 << 31] {
            assert_eq!(Ruling::from_number(number), None);
        }
    }

    #[test]
    fn what_audited_policies_alone_would_drop_goes_on_and_is_told() {
        use DropReason::{DenyRule, LeaseExpired, PolicyDenied, QuicNotInspected};
        let fate =
            |number, protocol| Ruling::from_number(number).unwrap().fate(protocol, LeaseExpired);
        let (tcp, udp, icmp) = (Protocol::TCP, Protocol::UDP, Protocol::ICMP);
        let going = |way| Fate { way, reason: None };
        let denied = |way| Fate { way, reason: Some(DenyRule) };
        let (deny_rule, default_deny) = (1 << 8, 1 << 9);
        for bits in [0, deny_rule, default_deny, deny_rule | default_deny] {
            assert_eq!(fate(5 | bits, tcp), Fate::dropped(DenyRule));
        }
        for (verdict, way) in
            [(1, Way::Direct), (3, Way::Direct), (2, Way::L7Proxy), (4, Way::DnsProxy)]
        {
            assert_eq!(fate(verdict, tcp), going(way));
            assert_eq!(fate(verdict | default_deny, tcp), going(way));
            assert_eq!(fate(verdict | deny_rule, tcp), denied(way));
        }
        assert_eq!(fate(deny_rule, tcp), Fate::dropped(LeaseExpired));
        assert_eq!(fate(default_deny, tcp), Fate::audited(LeaseExpired));
        assert_eq!(fate(deny_rule | default_deny, tcp), Fate::audited(DenyRule));
        assert_eq!(fate(2, udp), Fate::dropped(QuicNotInspected));
        assert_eq!(fate(2 | default_deny, udp), Fate::audited(QuicNotInspected));
        assert_eq!(fate(2 | deny_rule, udp), Fate::dropped(QuicNotInspected));
        assert_eq!(fate(2 | default_deny, icmp), Fate::audited(PolicyDenied));
        assert_eq!(fate(4, icmp), Fate::dropped(PolicyDenied));
        assert_eq!(fate(4, udp), going(Way::DnsProxy));
    }

    #[test]
    fn people_read_the_verdict_and_what_is_audited() {
        let shown = |number| Ruling::from_number(number).unwrap().to_string();
        assert_eq!(shown(3), "allow");
        assert_eq!(shown(3 | 1 << 8), "allow, audited deny-rule");
        assert_eq!(shown(1 << 9), "audited default-deny");
    }
}
