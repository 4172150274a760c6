//! What becomes of a connection or a request, and of what no rule allows where that is only
//! audited.

use serde::{Deserialize, Serialize};

use crate::Reason;

/// What became of a connection or a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It went on.
    Passed,
    /// It went on, and would have been refused for this reason if its rules were enforced.
    Audited(Reason),
    /// It was refused.
    Refused(Reason),
}

/// What becomes of what no rule allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unmatched {
    /// It is refused.
    #[default]
    Refused,
    /// It goes on, and is told of.
    Audited,
}

impl Fate {
    /// Why it was refused, if it was.
    pub const fn refused(self) -> Option<Reason> {
        match self {
            Self::Refused(reason) => Some(reason),
            Self::Passed | Self::Audited(_) => None,
        }
    }

    /// What is against it, enforced or not.
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Refused(reason) | Self::Audited(reason) => Some(reason),
            Self::Passed => None,
        }
    }
}

/// What went on comes with what was against it, if anything was.
impl From<Option<Reason>> for Fate {
    fn from(breach: Option<Reason>) -> Self {
        breach.map_or(Self::Passed, Self::Audited)
    }
}

impl Unmatched {
    /// Whether what would be refused for this reason goes on.
    pub const fn lets_pass(self, reason: Reason) -> bool {
        matches!(self, Self::Audited) && reason.is_of_rules()
    }

    /// Lets what would be refused for this reason go on, or refuses it.
    pub const fn judge(self, reason: Reason) -> Result<Reason, Reason> {
        if self.lets_pass(reason) { Ok(reason) } else { Err(reason) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_lets_pass_what_rules_are_against_and_nothing_else() {
        let passes = |reason: &&Reason| Unmatched::Audited.lets_pass(**reason);
        let refused = Reason::ALL.iter().filter(|reason| !passes(reason));
        let refused: Vec<&str> = refused.map(|reason| reason.as_str()).collect();
        let kept = [
            "malformed-request",
            "ambiguous-length",
            "malformed-chunk",
            "ambiguous-host",
            "head-too-large",
            "connect-method",
            "ambiguous-path",
            "tls-handshake-failed",
            "upstream-unreachable",
            "upstream-untrusted",
            "upstream-failed",
            "no-judgement",
            "over-connections",
            "over-endpoint-connections",
            "over-requests",
            "slow-client",
            "rules-changed",
        ];
        assert_eq!(refused, kept);
        assert!(Reason::ALL.iter().all(|reason| !Unmatched::Refused.lets_pass(*reason)));
    }
}
