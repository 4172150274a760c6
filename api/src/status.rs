//! How the daemon fares: the answer of [`STATUS`](crate::path::STATUS).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Bypass;

/// The daemon's state at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// When the daemon started, in seconds since 1970.
    pub started: u64,
    /// For how long it has run.
    pub uptime_seconds: u64,
    /// The kernel's release.
    pub kernel: String,
    /// How programs are attached to interfaces.
    pub attach_mode: AttachMode,
    /// Whether the configuration has every policy audited: nothing is enforced.
    #[serde(default)]
    pub audit: bool,
    /// Grows with each change of policies, pods, services and nodes that was read, and only with
    /// those; the policy revision counts the node's own links and addresses as well.
    #[serde(default)]
    pub read_revision: u64,
    /// The last revision of what is to be enforced; what was read up to `read_revision` is in it.
    pub policy_revision: u64,
    /// The revision that the kernel enforces.
    pub applied_revision: u64,
    /// How many endpoints are in which state.
    pub endpoints: EndpointCounts,
    /// How many policies are in force.
    pub policies: u64,
    /// How many manifest files are read.
    pub files: u64,
    /// Files of which an earlier version is in force.
    #[serde(default)]
    pub stale_files: Vec<StaleFile>,
    /// What is wrong in the manifests.
    #[serde(default)]
    pub problems: Vec<Problem>,
    /// What is legal in the manifests, and perhaps not what was meant.
    #[serde(default)]
    pub warnings: Vec<Problem>,
    /// What is valid in the policies and not enforced here: the rules that need it allow nothing.
    /// Each is one of the warnings, too.
    #[serde(default)]
    pub unenforced: Vec<Problem>,
    /// Ways that packets of pods take past the programs, or may.
    #[serde(default)]
    pub bypasses: Vec<Bypass>,
    /// The DNS proxy's counters.
    #[serde(default)]
    pub dns: BTreeMap<String, u64>,
    /// How often each limit refused or evicted something; absent where it never did.
    #[serde(default)]
    pub limits: BTreeMap<String, u64>,
    /// What is recorded of flows, and what was lost of it; nothing where flows are not recorded.
    #[serde(default)]
    pub flows: BTreeMap<String, u64>,
    /// Dropped packets by reason.
    #[serde(default)]
    pub drops: BTreeMap<String, u64>,
    /// Packets that passed only because policies are audited, by the reason for which they would
    /// have been dropped.
    #[serde(default)]
    pub audits: BTreeMap<String, u64>,
    /// The Hubble API; none where flows are not recorded.
    #[serde(default)]
    pub hubble: Option<Hubble>,
    /// The L7 proxy, if there is one.
    #[serde(default)]
    pub l7: Option<L7Proxy>,
    /// Where metrics are served, or should be; nowhere where none is asked for.
    #[serde(default)]
    pub metrics: Vec<Listener>,
    /// Where the page is served, or should be; nowhere where it is not asked for.
    #[serde(default)]
    pub page: Vec<Listener>,
}

/// How the L7 proxy fares, and what it has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct L7Proxy {
    /// Its process, while it is well.
    pub pid: Option<u32>,
    /// Why it does not judge anything, if it does not: what it should judge is dropped.
    pub failure: Option<String>,
    /// How often it was started again.
    pub restarts: u64,
    /// Connections that are open.
    pub connections: u64,
    /// Connections that were taken in.
    pub accepted: u64,
    /// Requests and untouched connections that passed.
    pub forwarded: u64,
    /// Those that passed only because what is against them is not enforced.
    #[serde(default)]
    pub audited: u64,
    /// Requests and connections that were refused.
    pub refused: u64,
    /// What reached a bound, and how often.
    pub limits: BTreeMap<String, u64>,
}

/// How the API fares that serves flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hubble {
    /// Where it is served, or should be.
    pub listeners: Vec<Listener>,
    /// How many clients are connected.
    pub clients: u64,
    /// How many clients were turned away because too many were connected.
    pub clients_refused: u64,
}

/// One place where something is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// `unix://PATH`, or an address and port.
    pub address: String,
    /// Why it is not served there, if it is not.
    #[serde(default)]
    pub failure: Option<String>,
}

/// How programs are attached to interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachMode {
    /// TCX links, on kernels from 6.6.
    Tcx,
    /// Filters of a clsact qdisc.
    Clsact,
}

/// How many endpoints are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointCounts {
    /// No policy selects them.
    pub open: u64,
    /// Judged by policies.
    pub enforced: u64,
    /// Judged by policies that are all audited.
    #[serde(default)]
    pub audited: u64,
    /// Not bound as their manifest says, so everything is dropped.
    pub denied: u64,
}

/// A file whose newest content is broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StaleFile {
    /// The file's path.
    pub file: String,
    /// When the version in force was read, in seconds since 1970.
    pub last_good: u64,
}

/// Something wrong at a place in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The file's path.
    pub file: String,
    /// The line, from 1; 0 where the whole file is meant.
    pub line: u64,
    /// The column, from 1; 0 where the whole line is meant.
    pub column: u64,
    /// The field's path in its document; empty where none is meant.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl From<&policy::Problem> for Problem {
    fn from(own: &policy::Problem) -> Self {
        Self {
            file: own.file.display().to_string(),
            line: own.line as u64,
            column: own.column as u64,
            field: own.field.clone(),
            message: own.message.clone(),
        }
    }
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line != 0 {
            write!(f, ":{}", self.line)?;
            if self.column != 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        f.write_str(": ")?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_only_the_places_it_knows() {
        let mut problem = Problem {
            file: "a.yaml".into(),
            line: 3,
            column: 7,
            field: "spec".into(),
            message: "is missing".into(),
        };
        assert_eq!(problem.to_string(), "a.yaml:3:7: spec: is missing");
        problem.column = 0;
        assert_eq!(problem.to_string(), "a.yaml:3: spec: is missing");
        problem.line = 0;
        problem.field.clear();
        assert_eq!(problem.to_string(), "a.yaml: is missing");
    }
}
