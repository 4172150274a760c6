//! Ways that packets of pods take past the programs that judge and record them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A way past the programs, or the sign of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bypass {
    /// What sort of way it is.
    pub kind: BypassKind,
    /// What makes it, by a name that stays while places come and go.
    pub subject: String,
    /// What makes it, and where.
    pub cause: String,
    /// What does not hold for that.
    pub effect: String,
    /// What to do about it.
    pub remedy: String,
}

/// What sort of way it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BypassKind {
    /// A program hands packets into pods past the node's end of their interface.
    IntoPod,
    /// A program of somebody else comes before ours on a pod's interface.
    First,
    /// A device leads into a pod whose own programs come before all others.
    Netkit,
    /// Connections of a pod ended without an answer that was seen.
    Unanswered,
    /// A program of somebody else cannot be read.
    Unread,
}

impl BypassKind {
    /// All sorts.
    pub const ALL: [Self; 5] =
        [Self::IntoPod, Self::First, Self::Netkit, Self::Unanswered, Self::Unread];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IntoPod => "into-pod",
            Self::First => "first",
            Self::Netkit => "netkit",
            Self::Unanswered => "unanswered",
            Self::Unread => "unread",
        }
    }

    /// Whether packets do take that way; else it is only not known that none do.
    pub const fn is_known(self) -> bool {
        !matches!(self, Self::Unread)
    }
}

impl fmt::Display for BypassKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Bypass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cause, effect, remedy, .. } = self;
        write!(f, "{cause}: {effect}. {remedy}")
    }
}
