//! A cluster's API server as the source of pods, services and policies.
//!
//! Each list is followed by a task of its own; one more puts together what they say. While the
//! server is away, or refuses, what was read stands, and the inventory says since when and why.
//! What was read is kept in a state directory, so that it stands over a restart, too.

mod access;
mod alike;
mod condition;
mod feed;
mod gathering;
mod health;
mod journal;
mod keeping;
mod kept;
mod kind;
mod object;
mod pause;
mod reporter;
mod secrets;
mod store;
mod tally;
mod verdict;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

pub use access::{Access, AccessError};
pub use health::{WatchState, Watched};
pub use kind::Kind;
pub use reporter::Reports;
pub use verdict::{Verdict, Verdicts};

use crate::inventory::Inventory;
use crate::runtime::{self, RuntimeSource};
use feed::{Feed, Ground};
use gathering::Gathering;
use journal::Place;
use secrets::Secrets;
use store::Store;

/// How many lists are read at once.
const LISTS: usize = 2;
/// How many updates may wait to be taken in; then the watches wait.
const UPDATES: usize = 1024;

/// Which cluster is watched, and from where.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// How the API server is reached.
    pub access: Access,
    /// The name of this node.
    pub node: String,
    /// Where the runtime's record of this node's pods is.
    pub runtime: RuntimeSource,
    /// How policies are read.
    pub policies: policy::Options,
    /// The nodes of a cluster begin within this time of one another.
    pub spread: Duration,
    /// A directory of the daemon's own, where what the server gave outlives it.
    pub state: Option<PathBuf>,
}

/// A watched cluster. Dropping it ends the watch.
#[derive(Debug)]
pub struct Cluster {
    inventory: watch::Receiver<Arc<Inventory>>,
    verdicts: watch::Receiver<Verdicts>,
    in_force: watch::Sender<Option<Verdicts>>,
    hints: Arc<Notify>,
    access: Access,
    tasks: JoinSet<()>,
}

impl Cluster {
    /// Reads all lists, and from then on whatever changes in them. It returns when every list was
    /// read whole once, or the server does not give them and an earlier daemon kept them, however
    /// long that takes: before that, nobody knows what is to be enforced.
    pub async fn watch(options: ClusterOptions) -> Result<Self, AccessError> {
        let access = options.access.clone();
        let client = access.client().await?;
        let (updates, taken) = mpsc::channel(UPDATES);
        let (records, read) = mpsc::channel(1);
        let hints = Arc::new(Notify::new());
        let ground = Ground {
            access: options.access,
            node: options.node,
            policies: options.policies,
            lists: Arc::new(Semaphore::new(LISTS)),
            updates,
            keeps: options.state.is_some(),
        };
        let place = options.state.map(|state| Place::new(&state, &ground.node));
        let store = restored(place.clone(), ground.policies).await;
        let turn = rand::rng().random_range(0.0..1.0);
        sleep(options.spread.mul_f64(turn)).await;
        let mut tasks = JoinSet::new();
        for kind in Kind::ALL {
            tasks.spawn(Feed::new(kind, ground.clone(), client.clone()).run());
        }
        tasks.spawn(runtime::follow(options.runtime, Arc::clone(&hints), records));
        let secrets = Secrets::new(ground, client);
        let mut gathering = Gathering::new(store, place, secrets, taken, read, Arc::clone(&hints));
        let first = gathering.first().await;
        let (publish, inventory) = watch::channel(Arc::new(first));
        let (judge, verdicts) = watch::channel(gathering.verdicts());
        tasks.spawn(gathering.run(publish, judge));
        let in_force = watch::channel(None).0;
        Ok(Self { inventory, verdicts, in_force, hints, access, tasks })
    }

    /// Has this node say what became of policies, from now on.
    pub fn report(&mut self, reports: Reports) {
        let (access, inventory) = (self.access.clone(), self.subscribe());
        let words = reporter::tell(access, reports.clone(), self.in_force.subscribe(), inventory);
        self.tasks.spawn(words);
        let (access, inventory) = (self.access.clone(), self.subscribe());
        self.tasks.spawn(reporter::run(access, reports, self.verdicts(), inventory));
    }

    /// Takes note that all of this is in force on this node.
    pub fn is_in_force(&self, inventory: &Inventory) {
        self.in_force.send_if_modified(|known| {
            let same = known.as_ref().is_some_and(|known| known.ptr_eq(&inventory.verdicts));
            if !same {
                *known = Some(inventory.verdicts.clone());
            }
            !same
        });
    }

    /// The newest inventory, and all later ones. It closes if the watch fails.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Inventory>> {
        self.inventory.clone()
    }

    /// What became of each policy, now and later.
    pub fn verdicts(&self) -> watch::Receiver<Verdicts> {
        self.verdicts.clone()
    }

    /// What is to be told when the node's links have changed: a pod may have been made.
    pub fn hints(&self) -> Arc<Notify> {
        Arc::clone(&self.hints)
    }
}

async fn restored(place: Option<Place>, policies: policy::Options) -> Store {
    let Some(place) = place else { return Store::default() };
    let restore = move || gathering::restore(&place, policies);
    // A panic would be a bug in reading what was kept; it is then as if nothing were.
    tokio::task::spawn_blocking(restore).await.unwrap_or_default()
}
