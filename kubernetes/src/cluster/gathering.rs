//! What puts together what the watches say, and shows it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::cluster::journal::{Kept, Place};
use crate::cluster::keeping::Keeping;
use crate::cluster::kind::Kind;
use crate::cluster::object::Raw;
use crate::cluster::secrets::Secrets;
use crate::cluster::store::{Store, Update};
use crate::cluster::verdict::Verdicts;
use crate::inventory::Inventory;
use crate::runtime::Sandboxes;

/// How long a change waits for others, and how long it waits at most.
const QUIET: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(100);
/// How often what is still waited for at the start is told.
const TOLD: Duration = Duration::from_secs(10);
/// How long lists may take at the start before what was kept of them is in force. A server that
/// refuses is not waited for that long.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same while the server has given no list at all. What was kept is then all that there is, as
/// it was in force before, and nothing of it is judged by anything newer; a server that does give
/// lists is given the time to give the others.
const SILENCE: Duration = Duration::from_secs(3);

/// What puts together what the watches say.
pub(super) struct Gathering {
    store: Store,
    keeping: Option<Keeping>,
    secrets: Secrets,
    updates: mpsc::Receiver<(Kind, Update)>,
    records: mpsc::Receiver<Result<Sandboxes, String>>,
    hints: Arc<Notify>,
    /// When what has changed is shown, and at the latest.
    due: Option<(Instant, Instant)>,
    unbound: usize,
}

impl Gathering {
    pub fn new(
        store: Store,
        place: Option<Place>,
        secrets: Secrets,
        updates: mpsc::Receiver<(Kind, Update)>,
        records: mpsc::Receiver<Result<Sandboxes, String>>,
        hints: Arc<Notify>,
    ) -> Self {
        let keeping = place.map(Keeping::new);
        Self { store, keeping, secrets, updates, records, hints, due: None, unbound: 0 }
    }

    /// What became of each policy.
    pub fn verdicts(&self) -> Verdicts {
        self.store.verdicts()
    }

    /// The first inventory: every list and the runtime's record were read whole, or, where the
    /// server does not give its lists, were kept by an earlier daemon.
    pub async fn first(&mut self) -> Inventory {
        let start = Instant::now();
        let mut told = start + TOLD;
        self.want_secrets();
        loop {
            if let Some(inventory) = self.store.inventory() {
                return inventory;
            }
            let patience = start + if self.store.is_empty_handed() { SILENCE } else { PATIENCE };
            let is_late = Instant::now() >= patience;
            if self.store.may_begin_as_kept(is_late) {
                let unread = self.store.unread();
                tracing::warn!(
                    unread,
                    "the API server does not give its lists: what it gave before is in force"
                );
                self.store.begin_as_kept();
                continue;
            }
            tokio::select! {
                Some((kind, update)) = self.updates.recv() => self.take_in(kind, update),
                Some(record) = self.records.recv() => self.take_in_record(record),
                () = sleep_until(patience), if !is_late => {}
                () = sleep_until(told) => {
                    let unread = self.store.unread();
                    tracing::warn!(unread, "nothing is enforced anew before these are read");
                    told = Instant::now() + TOLD;
                }
            }
        }
    }

    /// Shows what changes, until nobody watches any more.
    pub async fn run(
        mut self,
        publish: watch::Sender<Arc<Inventory>>,
        judge: watch::Sender<Verdicts>,
    ) {
        loop {
            self.keep();
            let due = self.due.map(|(due, latest)| due.min(latest));
            let Self { store, keeping, updates, records, .. } = &mut self;
            let kept = async {
                match keeping {
                    Some(keeping) => keeping.work(|| store.names()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.due = None;
                    self.show(&publish, &judge);
                }
                update = updates.recv() => match update {
                    Some((kind, update)) => self.take_in(kind, update),
                    None => return,
                },
                Some(record) = records.recv() => self.take_in_record(record),
                changed = kept => if changed {
                    self.touch();
                },
            }
        }
    }

    fn show(&mut self, publish: &watch::Sender<Arc<Inventory>>, judge: &watch::Sender<Verdicts>) {
        if let Some(mut inventory) = self.store.inventory() {
            let problem = self.keeping.as_ref().and_then(Keeping::problem);
            inventory
                .problems
                .extend(problem.map(|why| crate::cluster::store::told("state", &why)));
            publish.send_replace(Arc::new(inventory));
        }
        let verdicts = self.store.verdicts();
        judge.send_if_modified(|known| {
            let changed = !known.ptr_eq(&verdicts);
            *known = verdicts;
            changed
        });
    }

    fn keep(&mut self) {
        let changes = self.store.take_changes();
        if let Some(keeping) = &mut self.keeping {
            keeping.keep(changes);
        }
    }

    fn take_in(&mut self, kind: Kind, update: Update) {
        self.store.handle(kind, update);
        self.touch();
        if kind.is_policy() {
            self.want_secrets();
        }
        // A pod that waits for its interface.
        if kind == Kind::LocalPods {
            let unbound = self.store.unbound();
            if unbound > self.unbound {
                self.hints.notify_one();
            }
            self.unbound = unbound;
        }
    }

    fn want_secrets(&mut self) {
        for name in self.secrets.want(self.store.named_secrets()) {
            self.store.forget_secret(&name);
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

/// What an earlier daemon kept; an empty store if it kept nothing, or nothing that can be read.
pub(super) fn restore(place: &Place, policies: policy::Options) -> Store {
    let mut store = Store::default();
    let read = place.read(|kind, kept| match kept {
        Kept::Put(text) => {
            let raw: Result<Raw, _> = serde_json::from_str(text);
            if let Some(read) = raw.ok().and_then(|raw| raw.read(kind, policies)) {
                store.handle(kind, Update::Put(Box::new(read)));
            }
        }
        Kept::Gone(name) => store.handle(kind, Update::Gone(name)),
    });
    match read {
        Ok(true) => {
            store.keep_as_restored();
            store
        }
        Ok(false) => Store::default(),
        Err(error) => {
            let directory = place.directory().display();
            tracing::warn!(%directory, %error, "what the API server gave before cannot be read");
            Store::default()
        }
    }
}
