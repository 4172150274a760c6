//! What the watched lists say together: objects in, inventories out.
//!
//! - There is no inventory before every list was read whole once, or an earlier daemon kept all of
//!   them and the server does not give them; and none before the runtime's record was read.
//! - A change costs what it touches: a pod's labels are joined anew when the pod or its namespace
//!   changes, a service when it or one of its slices does. What did not change stays the same
//!   object.
//! - An object that cannot be read leaves in force what it said before. If it never could be read,
//!   what it should have said is lost, and the inventory tells so; but not where all lists were
//!   kept, which tell that it never was in force.
//! - A pod's interface is what the runtime's record of a pod of that name and uid leads to.

mod objects;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use model::{EndpointName, Label, Labels, Pod, Protocol};
use policy::Problem;

use crate::backends::Slice;
use crate::cluster::alike::Alike;
use crate::cluster::health::{SecretWatches, WatchState, Watched};
use crate::cluster::journal::{Changes, Names};
use crate::cluster::kind::Kind;
use crate::cluster::object::{Name, Read};
use crate::cluster::verdict::Verdicts;
use crate::inventory::Inventory;
use crate::reading::MAX_PROBLEMS;
use crate::runtime::Sandboxes;
use crate::service::Service;

/// What a watch says.
#[derive(Debug)]
pub(crate) enum Update {
    /// The whole list; none where the cluster does not know such objects.
    Listed(Option<Vec<Read>>),
    /// An object that is new or has changed.
    Put(Box<Read>),
    /// An object that is gone.
    Gone(Name),
    /// How the watch fares.
    Fares(Watched),
    /// The watch of one Secret fares otherwise.
    SecretFares(EndpointName, Watched),
}

type NamedPorts = Arc<BTreeMap<String, Vec<(Protocol, u16)>>>;

/// The watched objects.
#[derive(Debug, Default)]
pub(crate) struct Store {
    inventory: Inventory,
    verdicts: Verdicts,
    listed: BTreeSet<Kind>,
    /// The Secrets that policies name, and how often.
    named_secrets: BTreeMap<EndpointName, usize>,
    secret_watches: SecretWatches,
    namespaces: HashMap<String, Arc<[Label]>>,
    /// Pods by list: labels without or with those of their namespace.
    local: HashMap<EndpointName, Held>,
    remote: HashMap<EndpointName, Held>,
    /// What the pods of one workload have in common.
    labels: Alike<Labels>,
    ports: Alike<NamedPorts>,
    sandboxes: Sandboxes,
    /// Whether the runtime's record was read once.
    recorded: bool,
    services: HashMap<EndpointName, Arc<Service>>,
    slices: HashMap<EndpointName, BTreeMap<String, Arc<Slice>>>,
    /// The service behind which each slice stands.
    service_of: HashMap<Name, EndpointName>,
    /// What is wrong, and what is worth a warning, by object.
    problems: BTreeMap<(Kind, Name), Vec<Problem>>,
    warnings: BTreeMap<(Kind, Name), Vec<Problem>>,
    /// Objects that could never be read.
    lost: BTreeMap<(Kind, Name), Arc<std::path::Path>>,
    /// Kinds that the cluster did not know when they were first asked for.
    unknown: BTreeSet<Kind>,
    names: Names,
    /// Whether what an earlier daemon kept is here, and all of it.
    restored: bool,
    /// What the next start is to find, by object, as far as nobody has taken it yet.
    changes: Changes,
}

/// A pod of a list.
#[derive(Clone, Debug)]
struct Held {
    pod: Arc<Pod>,
    mirrored: Option<Box<str>>,
}

impl Store {
    /// Takes in what the watch of one kind says.
    pub fn handle(&mut self, kind: Kind, update: Update) {
        if matches!(update, Update::Listed(_)) {
            self.inventory.as_kept.remove(&kind);
        }
        if kind == Kind::Secrets && !self.is_of_named_secret(&update) {
            // What a watch still said that has been given up.
            return;
        }
        match update {
            Update::Listed(Some(read)) => {
                self.unknown.remove(&kind);
                self.replace(kind, read);
            }
            Update::Listed(None) => {
                // What was in force when the kind went stays in force.
                if self.listed.insert(kind) && !self.restored {
                    self.unknown.insert(kind);
                }
            }
            Update::Put(read) => self.put(kind, *read),
            Update::Gone(name) => self.remove(kind, &name),
            Update::Fares(watched) => {
                self.inventory.watched.insert(kind, watched);
            }
            Update::SecretFares(name, watched) => {
                self.secret_watches.insert(name, watched);
                self.sum_up_secrets();
            }
        }
    }

    fn is_of_named_secret(&self, update: &Update) -> bool {
        let name = match update {
            Update::Put(read) => &read.name,
            Update::Gone(name) => name,
            Update::SecretFares(name, _) => return self.named_secrets.contains_key(name),
            Update::Listed(_) | Update::Fares(_) => return true,
        };
        let namespace = name.namespace.clone().unwrap_or_default();
        self.named_secrets.contains_key(&EndpointName { namespace, name: name.name.clone() })
    }

    /// Forgets a Secret that is not watched any more.
    pub fn forget_secret(&mut self, name: &EndpointName) {
        self.secret_watches.remove(name);
        self.sum_up_secrets();
        let name = Name { namespace: Some(name.namespace.clone()), name: name.name.clone() };
        self.remove(Kind::Secrets, &name);
    }

    fn sum_up_secrets(&mut self) {
        match self.secret_watches.outline() {
            Some(watched) => drop(self.inventory.watched.insert(Kind::Secrets, watched.clone())),
            None => drop(self.inventory.watched.remove(&Kind::Secrets)),
        }
    }

    /// Takes in the runtime's records. While they cannot be read, the last ones stand.
    pub fn handle_sandboxes(&mut self, sandboxes: Result<Sandboxes, String>) {
        match sandboxes {
            Ok(sandboxes) => {
                self.sandboxes = sandboxes;
                self.recorded = true;
                self.inventory.runtime = None;
            }
            Err(reason) => {
                tracing::warn!(reason, "the runtime's record cannot be read: what was read stands");
                self.inventory.runtime = Some(reason);
                return;
            }
        }
        let names: Vec<EndpointName> = self.local.keys().cloned().collect();
        for name in names {
            self.place_pod(&name);
        }
    }

    /// Pods of this node that have no record yet, and want one.
    pub fn unbound(&self) -> usize {
        let wants = |name: &&EndpointName| {
            let pod = self.inventory.pods.get(*name);
            pod.is_some_and(|pod| !pod.host_network && pod.attachment.is_none())
        };
        self.local.keys().filter(wants).count()
    }

    /// What is watched by now; nothing before every list was read whole.
    pub fn inventory(&mut self) -> Option<Inventory> {
        if self.listed.len() < Kind::ALL.len() || !self.recorded {
            return None;
        }
        for (kind, watched) in &mut self.inventory.watched {
            watched.objects = self.names.get(kind).map_or(0, BTreeSet::len);
        }
        self.inventory.problems = self.interruptions().chain(flat(&self.problems)).collect();
        self.inventory.warnings = flat(&self.warnings).collect();
        self.inventory.verdicts = self.verdicts.clone();
        self.inventory.revision += 1;
        let unknown =
            self.unknown.iter().map(|kind| Arc::from(std::path::Path::new(kind.as_str())));
        self.inventory.lost = self.lost.values().cloned().chain(unknown).collect();
        Some(self.inventory.clone())
    }

    /// What was taken in until now is what an earlier daemon kept: all of it.
    pub fn keep_as_restored(&mut self) {
        self.restored = true;
        self.changes.clear();
    }

    /// Whether what was kept may be in force in the place of lists that were not read: the server
    /// refuses one of them, or they are late. A Secret that is refused is none of them.
    pub fn may_begin_as_kept(&self, is_late: bool) -> bool {
        let mut unread = Kind::ALL.iter().filter(|kind| !self.listed.contains(kind)).peekable();
        let missing = unread.peek().is_some();
        let refused = |kind| {
            let watched = self.inventory.watched.get(kind);
            watched.is_some_and(|own| matches!(own.state, WatchState::Interrupted { .. }))
        };
        self.restored && missing && (is_late || unread.any(refused))
    }

    /// Whether no list was read yet.
    pub fn is_empty_handed(&self) -> bool {
        self.listed.is_empty()
    }

    /// Takes what was kept for lists that were not read.
    pub fn begin_as_kept(&mut self) {
        self.inventory.as_kept = &BTreeSet::from(Kind::ALL) - &self.listed;
        self.listed.extend(Kind::ALL);
    }

    /// What the next start is to find, as far as it has changed since this was asked last.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// The objects that there are.
    pub fn names(&self) -> Names {
        self.names.clone()
    }

    /// What is not followed, since when and why, for people to read.
    fn interruptions(&self) -> impl Iterator<Item = Problem> + use<'_> {
        let lists = self.inventory.watched.iter().filter_map(|(kind, watched)| {
            let WatchState::Interrupted { reason } = &watched.state else { return None };
            let since = humantime::format_rfc3339_seconds(watched.since);
            let why = format!("not followed since {since}: {reason}; what was read stands");
            Some(told(kind.as_str(), &why))
        });
        let runtime = self.inventory.runtime.iter();
        lists.chain(
            runtime.map(|reason| {
                told("the runtime's record", &format!("{reason}; what was read stands"))
            }),
        )
    }

    /// The Secrets that policies name, and how often.
    pub fn named_secrets(&self) -> &BTreeMap<EndpointName, usize> {
        &self.named_secrets
    }

    /// The lists that were never read whole, and why the runtime's record is not read.
    pub fn unread(&self) -> String {
        let unread = Kind::ALL.into_iter().filter(|kind| !self.listed.contains(kind));
        let lists = unread.map(|kind| match self.inventory.watched.get(&kind) {
            Some(Watched { state: WatchState::Interrupted { reason }, .. }) => {
                format!("{kind}: {reason}")
            }
            _ => kind.to_string(),
        });
        let record = (!self.recorded).then(|| match &self.inventory.runtime {
            Some(reason) => format!("the runtime's record: {reason}"),
            None => "the runtime's record".to_owned(),
        });
        lists.chain(record).collect::<Vec<_>>().join("; ")
    }

    /// What became of each policy.
    pub fn verdicts(&self) -> Verdicts {
        self.verdicts.clone()
    }
}

/// A problem of no object's.
pub(super) fn told(what: &str, why: &str) -> Problem {
    let file = Arc::from(std::path::Path::new(what));
    Problem { file, line: 0, column: 0, field: String::new(), message: why.to_owned() }
}

/// As many as can be told.
fn flat(
    by_object: &BTreeMap<(Kind, Name), Vec<Problem>>,
) -> impl Iterator<Item = Problem> + use<'_> {
    by_object.values().flatten().take(MAX_PROBLEMS).cloned()
}

#[cfg(test)]
mod tests;
