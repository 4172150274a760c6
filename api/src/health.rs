//! Whether a daemon does its work, for whoever starts and ends daemons.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether a daemon does its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// How far it has come.
    pub phase: Phase,
    /// Whether it enforces the newest policies, or would at once if the daemon before it ended.
    pub ready: bool,
    /// Whether it goes on; one that does not should be ended.
    pub live: bool,
    /// What it waits for, or why it knows or enforces less than there is.
    pub reasons: Vec<String>,
}

/// How far a daemon has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It opens what it needs.
    Starting,
    /// It waits for another daemon to end.
    StandingBy,
    /// It enforces.
    InCharge,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::StandingBy => "standing by",
            Self::InCharge => "in charge",
        })
    }
}
