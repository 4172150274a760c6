//! What the manifests describe together, as the rest of the daemon sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use model::{CidrGroup, ClusterNode, EndpointName, Objects, Pod, Service};
use policy::{Document, Policy, PolicyKey, Problem};

use crate::cluster::{Kind, Verdicts, Watched};
use crate::secret::Secret;

/// Everything that the manifests describe at one moment.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Grows with each change of what is read.
    pub revision: u64,
    /// Pods that have not run to their end.
    pub pods: Objects<EndpointName, Pod>,
    /// Services with their ready backends.
    pub services: Objects<EndpointName, Service>,
    /// The cluster's nodes, by name.
    pub nodes: Objects<String, ClusterNode>,
    /// Groups of prefixes, by name.
    pub cidr_groups: Objects<String, CidrGroup>,
    /// Policies.
    pub policies: Objects<PolicyKey, Policy>,
    /// Secrets that policies name, and no others.
    pub secrets: Objects<EndpointName, Secret>,
    /// What is wrong, in the order of files and lines.
    pub problems: Vec<Problem>,
    /// What is legal, and perhaps not what was meant.
    pub warnings: Vec<Problem>,
    /// Objects of kinds that are not read.
    pub skipped: Vec<Skipped>,
    /// How each file stands.
    pub files: BTreeMap<Arc<Path>, FileState>,
    /// Files and directories of which something may be missing here that was in force before the
    /// daemon started: they could not be read whole since, and nothing was kept of them.
    pub lost: BTreeSet<Arc<Path>>,
    /// What became of each policy of a cluster.
    pub verdicts: Verdicts,
    /// How the watched lists of a cluster fare.
    pub watched: BTreeMap<Kind, Watched>,
    /// Lists of a cluster that the server has not given since the start: what it gave an earlier
    /// daemon stands for them.
    pub as_kept: BTreeSet<Kind>,
    /// Why the runtime's record of this node's pods cannot be read.
    pub runtime: Option<String>,
}

/// How a file stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// All of it was read.
    Good,
    /// Some of it could not be read. What the file gave before, and does not give anew, is in
    /// force as it was at this time.
    Stale {
        /// When all of the file could be read last.
        last_good: SystemTime,
    },
    /// Some of it could not be read, and never could as far as is known.
    Broken,
}

/// An object of a kind that is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The file.
    pub file: Arc<Path>,
    /// The line where the object begins.
    pub line: usize,
    /// Its `apiVersion`.
    pub api_version: String,
    /// Its `kind`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl Skipped {
    pub(crate) fn new(document: &Document) -> Self {
        Self {
            file: Arc::clone(&document.file),
            line: document.line,
            api_version: crate::text::plain(&document.api_version),
            kind: crate::text::plain(&document.kind),
            name: crate::text::plain(&document.name),
        }
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, api_version, kind, name } = self;
        write!(f, "{}:{line}: skipped {kind} `{name}` of {api_version}", file.display())
    }
}
