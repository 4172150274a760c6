//! What a verdict row says, whole: a verdict, and what is audited instead of enforced.
//!
//! What only audited rules would drop passes, and is told. So a ruling holds two things beside its
//! verdict: whether an audited deny rule covers the packet, and whether default deny is audited.
//! Rulings of several rows unite part by part; what becomes of the packet depends on the union.

use std::fmt;

use crate::Verdict;

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
    fn people_read_the_verdict_and_what_is_audited() {
        let shown = |number| Ruling::from_number(number).unwrap().to_string();
        assert_eq!(shown(3), "allow");
        assert_eq!(shown(3 | 1 << 8), "allow, audited deny-rule");
        assert_eq!(shown(1 << 9), "audited default-deny");
    }
}
