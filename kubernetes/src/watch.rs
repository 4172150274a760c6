//! The shell around it all: waits for events, reads, publishes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use inotify::Inotify;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::inventory::Inventory;
use crate::last_good::{Batch, LastGood};
use crate::scan::Scan;
use crate::settle::Settling;
use crate::sources::Sources;
use crate::watches::Watches;

/// How many scans are made at once because each found directories that were not watched yet.
const MAX_SCANS: usize = 4;
/// Space for events of names of any length.
const BUFFER: usize = 64 << 10;

/// How manifests are read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A directory of the daemon's own, where last good versions outlive it.
    pub state: Option<PathBuf>,
    /// How policies are read.
    pub policies: policy::Options,
}

/// Watched directories of manifests. Dropping it ends the watch.
#[derive(Debug)]
pub struct Manifests {
    inventory: watch::Receiver<Arc<Inventory>>,
    task: JoinHandle<()>,
}

/// Why directories cannot be watched at all.
#[derive(Debug, Error)]
pub enum WatchError {
    /// The kernel gives no inotify instance.
    #[error("cannot use inotify: {0}; see fs.inotify.max_user_instances")]
    Inotify(#[source] io::Error),
    /// A relative path, and no current directory to complete it.
    #[error("cannot make {0} an absolute path: {1}")]
    Relative(PathBuf, #[source] io::Error),
    /// Reading panicked.
    #[error("reading the manifests failed: {0}")]
    Read(#[source] tokio::task::JoinError),
}

impl Manifests {
    /// Reads the directories, and from then on whatever changes in them. A directory that is
    /// missing is a problem in the inventory, not an error: it is read as soon as it is there.
    ///
    /// In the state directory it keeps what each file has in force, and finds it there after a
    /// restart.
    pub async fn watch(directories: &[PathBuf], options: Options) -> Result<Self, WatchError> {
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|e| WatchError::Relative(path.into(), e))
        };
        let roots: Vec<PathBuf> =
            directories.iter().map(|path| absolute(path)).collect::<Result<_, _>>()?;
        let state = options.state.as_deref().map(absolute).transpose()?;
        let inotify = Inotify::init().map_err(WatchError::Inotify)?;
        let watches = Watches::new(inotify.watches());
        let events = inotify.into_event_stream(vec![0; BUFFER]).map_err(WatchError::Inotify)?;
        let open = move || {
            let sources = Sources::restore(&roots, state.as_deref(), options.policies);
            Reader { roots, watches, sources, again: false }
        };
        let reader = tokio::task::spawn_blocking(open).await.map_err(WatchError::Read)?;
        let (reader, inventory) = reader.read().await.map_err(WatchError::Read)?;
        let (publish, inventory) = watch::channel(Arc::new(inventory.unwrap_or_default()));
        let task = tokio::spawn(run(reader, events, publish));
        Ok(Self { inventory, task })
    }

    /// The newest inventory, and all later ones. It closes if the watch fails.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Inventory>> {
        self.inventory.clone()
    }
}

impl Drop for Manifests {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Events = inotify::EventStream<Vec<u8>>;

async fn run(mut reader: Reader, mut events: Events, publish: watch::Sender<Arc<Inventory>>) {
    let mut settling = Settling::default();
    let mut writing = None;
    loop {
        if std::mem::take(&mut reader.again) {
            settling.handle_other(Instant::now());
        }
        let due = reader.sources.last_good().and_then(|kept| kept.due(Instant::now()));
        let mut written = None;
        tokio::select! {
            biased;
            event = events.next() => match event {
                Some(Ok(event)) => {
                    reader.watches.handle_event(&event, Instant::now(), &mut settling);
                }
                Some(Err(error)) => return tracing::error!(%error, "inotify failed"),
                None => return tracing::error!("inotify ended"),
            },
            ended = ended(&mut writing) => match ended {
                Ok(batch) => written = Some(batch),
                Err(error) => return tracing::error!(%error, "writing last good versions failed"),
            },
            () = sleep_until(settling.due()) => {}
            () = sleep_until(due) => {}
        }
        let told =
            reader.sources.last_good().is_some_and(|kept| write(kept, written, &mut writing));
        let settled = settling.poll(Instant::now());
        let mut inventory = None;
        if settled {
            (reader, inventory) = match reader.read().await {
                Ok(read) => read,
                Err(error) => return tracing::error!(%error, "reading the manifests failed"),
            };
        }
        if let Some(inventory) = inventory.or_else(|| told.then(|| reader.sources.inventory())) {
            publish.send_replace(Arc::new(inventory));
        }
    }
}

/// Takes back what was written, and begins to write what waits. Tells whether the problems are
/// others than before.
fn write(kept: &mut LastGood, written: Option<Batch>, writing: &mut Writing) -> bool {
    let now = Instant::now();
    let mut told = written.is_some_and(|batch| kept.end(batch, now));
    told |= kept.look(now);
    if let Some(batch) = kept.begin(now) {
        *writing = Some(tokio::task::spawn_blocking(|| batch.write()));
    }
    told
}

/// What writes, if anything does.
type Writing = Option<JoinHandle<Batch>>;

async fn ended(writing: &mut Writing) -> Result<Batch, tokio::task::JoinError> {
    match writing {
        Some(task) => {
            let batch = task.await;
            *writing = None;
            batch
        }
        None => std::future::pending().await,
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// What reads files, on a thread that may block.
struct Reader {
    roots: Vec<PathBuf>,
    watches: Watches,
    sources: Sources,
    /// Whether something may have changed before it was watched.
    again: bool,
}

impl Reader {
    /// Reads what changed; an inventory comes out if anything did.
    async fn read(mut self) -> Result<(Self, Option<Inventory>), tokio::task::JoinError> {
        let work = move || {
            let scan = self.scan();
            let inventory = self.sources.refresh(scan).then(|| self.sources.inventory());
            (self, inventory)
        };
        tokio::task::spawn_blocking(work).await
    }

    /// Scans until every directory was watched before it was scanned, or, where new ones keep
    /// coming, often enough for now.
    fn scan(&mut self) -> Scan {
        let mut scans = 1;
        loop {
            let mut scan = Scan::new(&self.roots);
            let new = self.watches.set(&scan.places, &mut scan.problems);
            if !new || scans == MAX_SCANS {
                self.again = new;
                return scan;
            }
            scans += 1;
        }
    }
}
