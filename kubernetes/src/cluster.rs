//! A cluster's API server as the source of pods, services and policies.
//!
//! Each list is followed by a task of its own; one more puts together what they say. While the
//! server is away, or refuses, what was read stands, and the inventory says since when and why.

mod access;
mod feed;
mod health;
mod kind;
mod object;
mod reporter;
mod store;

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

pub use access::{Access, AccessError};
pub use health::{WatchState, Watched};
pub use kind::Kind;
pub use reporter::Reports;
pub use store::{Verdict, Verdicts};

use crate::inventory::Inventory;
use crate::runtime::{self, RuntimeSource, Sandboxes};
use feed::{Feed, Ground};
use store::{Store, Update};

/// How long a change waits for others, and how long it waits at most.
const QUIET: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(100);
/// How many lists are read at once.
const LISTS: usize = 2;
/// How many updates may wait to be taken in; then the watches wait.
const UPDATES: usize = 1024;
/// How often what is still waited for at the start is told.
const TOLD: Duration = Duration::from_secs(10);

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
}

/// A watched cluster. Dropping it ends the watch.
#[derive(Debug)]
pub struct Cluster {
    inventory: watch::Receiver<Arc<Inventory>>,
    verdicts: watch::Receiver<Verdicts>,
    hints: Arc<Notify>,
    access: Access,
    tasks: JoinSet<()>,
}

impl Cluster {
    /// Reads all lists, and from then on whatever changes in them. It returns when every list was
    /// read whole once, however long that takes: before that, nobody knows what is to be enforced.
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
        };
        let turn = rand::rng().random_range(0.0..1.0);
        sleep(options.spread.mul_f64(turn)).await;
        let mut tasks = JoinSet::new();
        for kind in Kind::ALL {
            tasks.spawn(Feed::new(kind, ground.clone(), client.clone()).run());
        }
        drop(ground);
        tasks.spawn(runtime::follow(options.runtime, Arc::clone(&hints), records));
        let mut gathering = Gathering {
            store: Store::default(),
            updates: taken,
            records: read,
            hints: Arc::clone(&hints),
            due: None,
            unbound: 0,
        };
        let first = gathering.first().await;
        let (publish, inventory) = watch::channel(Arc::new(first));
        let (judge, verdicts) = watch::channel(gathering.store.verdicts());
        tasks.spawn(gathering.run(publish, judge));
        Ok(Self { inventory, verdicts, hints, access, tasks })
    }

    /// Has this node say what became of policies, from now on.
    pub fn report(&mut self, reports: Reports) {
        self.tasks.spawn(reporter::run(self.access.clone(), reports, self.verdicts()));
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

/// What puts together what the watches say.
struct Gathering {
    store: Store,
    updates: mpsc::Receiver<(Kind, Update)>,
    records: mpsc::Receiver<Result<Sandboxes, String>>,
    hints: Arc<Notify>,
    /// When what has changed is shown, and at the latest.
    due: Option<(Instant, Instant)>,
    unbound: usize,
}

impl Gathering {
    async fn first(&mut self) -> Inventory {
        let mut told = Instant::now() + TOLD;
        loop {
            if let Some(inventory) = self.store.inventory() {
                return inventory;
            }
            tokio::select! {
                Some((kind, update)) = self.updates.recv() => self.take_in(kind, update),
                Some(record) = self.records.recv() => self.take_in_record(record),
                () = sleep_until(told) => {
                    let unread = self.store.unread();
                    tracing::warn!(unread, "nothing is enforced anew before these are read");
                    told = Instant::now() + TOLD;
                }
            }
        }
    }

    async fn run(mut self, publish: watch::Sender<Arc<Inventory>>, judge: watch::Sender<Verdicts>) {
        loop {
            let due = self.due.map(|(due, latest)| due.min(latest));
            tokio::select! {
                biased;
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.due = None;
                    if let Some(inventory) = self.store.inventory() {
                        publish.send_replace(Arc::new(inventory));
                    }
                    let verdicts = self.store.verdicts();
                    judge.send_if_modified(|known| {
                        let changed = !known.ptr_eq(&verdicts);
                        *known = verdicts;
                        changed
                    });
                }
                update = self.updates.recv() => match update {
                    Some((kind, update)) => self.take_in(kind, update),
                    None => return,
                },
                Some(record) = self.records.recv() => self.take_in_record(record),
            }
        }
    }

    fn take_in(&mut self, kind: Kind, update: Update) {
        self.store.handle(kind, update);
        self.touch();
        // A pod that waits for its interface.
        if kind == Kind::LocalPods {
            let unbound = self.store.unbound();
            if unbound > self.unbound {
                self.hints.notify_one();
            }
            self.unbound = unbound;
        }
    }

    fn take_in_record(&mut self, record: Result<Sandboxes, String>) {
        self.store.handle_sandboxes(record);
        self.touch();
        self.unbound = self.store.unbound();
    }

    fn touch(&mut self) {
        let now = Instant::now();
        let latest = self.due.map_or(now + LONGEST, |(_, latest)| latest);
        self.due = Some((now + QUIET, latest));
    }
}
