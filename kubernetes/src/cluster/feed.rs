//! One watched list: read page by page, then followed.
//!
//! - After a fault the watch goes on where it stopped; only where the server does not know that
//!   place any more is the list read anew. Until then, what was read stands.
//! - A server that has just begun remembers nothing, and says so to everybody: that is an answer,
//!   and not one fault more, so that the list is read at once.
//! - Waiting grows up to half a minute and is never the same twice, so that the nodes of a cluster
//!   do not come back all at once; what the server asks for is kept to.
//! - A connection over which nothing comes, not even a bookmark, counts as dead.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::{AsyncBufReadExt, TryStreamExt};
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::core::{ObjectList, Request, Status};
use model::EndpointName;
use rand::Rng;
use serde::Deserialize;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use crate::cluster::access::{Access, Remedy, reason, reason_of};
use crate::cluster::health::{WatchState, Watched};
use crate::cluster::kind::Kind;
use crate::cluster::object::{Name, Raw, Read};
use crate::cluster::pause::Pause;
use crate::cluster::store::Update;

/// Objects in one page of a list.
const PAGE: u32 = 500;
/// How long a page may take.
const PAGE_PATIENCE: Duration = Duration::from_secs(60);
/// How long the server is asked to keep a watch, in seconds: something between.
const WATCH: std::ops::Range<u32> = 240..290;
/// Bookmarks come every minute. Without any, the connection is dead.
const SILENCE: Duration = Duration::from_secs(150);

/// What all feeds have in common.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    pub access: Access,
    pub node: String,
    pub policies: policy::Options,
    /// Few lists are read at once: the server has other nodes to serve.
    pub lists: Arc<Semaphore>,
    pub updates: mpsc::Sender<(Kind, Update)>,
    /// Whether objects' texts are kept for the next start.
    pub keeps: bool,
}

/// A watched list.
pub(crate) struct Feed {
    kind: Kind,
    /// The one object that is meant, if it is one alone.
    only: Option<Name>,
    ground: Ground,
    client: Client,
    /// Where the watch goes on; none where the list has to be read.
    version: Option<String>,
    pause: Pause,
    /// The pause before the list is read anew, which grows where nothing comes of that.
    relist: Pause,
    watched: Watched,
}

/// A line of a watch.
#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: EventKind,
    object: Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum EventKind {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

/// Why following came to an end.
struct Fault {
    remedy: Remedy,
    reason: String,
}

/// Nobody listens any more.
struct Closed;

enum End {
    Fault(Fault),
    Closed,
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl From<kube::Error> for End {
    fn from(error: kube::Error) -> Self {
        Self::Fault(Fault { remedy: Remedy::of(&error), reason: reason(&error) })
    }
}

impl Feed {
    /// A list that is not read yet.
    pub fn new(kind: Kind, ground: Ground, client: Client) -> Self {
        let watched = Watched::listing();
        let (pause, relist) = (Pause::default(), Pause::default());
        Self { kind, only: None, ground, client, version: None, pause, relist, watched }
    }

    /// One Secret, which is not read yet.
    pub fn of_secret(name: &EndpointName, ground: Ground, client: Client) -> Self {
        let name = Name { namespace: Some(name.namespace.clone()), name: name.name.clone() };
        Self { only: Some(name), ..Self::new(Kind::Secrets, ground, client) }
    }

    fn path(&self) -> String {
        let namespace = self.only.as_ref().and_then(|name| name.namespace.as_deref());
        self.kind.resource().path_in(namespace)
    }

    fn field_selector(&self) -> Option<String> {
        match &self.only {
            Some(name) => Some(format!("metadata.name={}", name.name)),
            None => self.kind.field_selector(&self.ground.node),
        }
    }

    /// Reads and follows the list until nobody listens.
    pub async fn run(mut self) {
        while let Err(End::Fault(fault)) = self.follow().await {
            if self.mend(fault).await.is_err() {
                return;
            }
        }
    }

    /// Reads the list if need be, and follows it until the server ends the watch.
    async fn follow(&mut self) -> Result<(), End> {
        loop {
            let version = match self.version.clone() {
                Some(version) => version,
                None => self.list().await?,
            };
            self.watch(&version).await?;
        }
    }

    async fn list(&mut self) -> Result<String, End> {
        let lists = Arc::clone(&self.ground.lists);
        let _turn = lists.acquire().await.map_err(|_| Closed)?;
        let mut read = Vec::new();
        let mut params = ListParams {
            limit: Some(PAGE),
            field_selector: self.field_selector(),
            ..ListParams::default()
        };
        loop {
            let page = self.page(&params).await?;
            read.extend(page.items.iter().filter_map(|raw| self.read(raw)));
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_some() {
                continue;
            }
            let version = page.metadata.resource_version.unwrap_or_default();
            let update = match &self.only {
                None => Update::Listed(Some(read)),
                Some(name) => match read.pop() {
                    Some(read) => Update::Put(Box::new(read)),
                    None => Update::Gone(name.clone()),
                },
            };
            self.send(update).await?;
            self.version = Some(version.clone());
            self.pause = Pause::default();
            return Ok(version);
        }
    }

    async fn page(&self, params: &ListParams) -> Result<ObjectList<Raw>, End> {
        let request = Request::new(self.path());
        let request = request.list(params).map_err(kube::Error::BuildRequest)?;
        match timeout(PAGE_PATIENCE, self.client.request(request)).await {
            Ok(page) => Ok(page?),
            Err(_) => Err(slow("a page of the list", PAGE_PATIENCE)),
        }
    }

    async fn watch(&mut self, version: &str) -> Result<(), End> {
        let params = WatchParams {
            field_selector: self.field_selector(),
            timeout: Some(rand::rng().random_range(WATCH)),
            bookmarks: true,
            ..WatchParams::default()
        };
        let request = Request::new(self.path());
        let request = request.watch(&params, version).map_err(kube::Error::BuildRequest)?;
        let begun = timeout(PAGE_PATIENCE, self.client.request_stream(request)).await;
        let text = begun.map_err(|_| slow("the watch", PAGE_PATIENCE))??;
        self.fare(WatchState::Live).await?;
        let mut lines = std::pin::pin!(text.lines());
        let began = tokio::time::Instant::now();
        loop {
            let next = timeout(SILENCE, lines.try_next()).await;
            match next.map_err(|_| slow("any event", SILENCE))? {
                Ok(Some(line)) => self.handle(&line).await?,
                // A connection that is cut is as usual as one that is closed.
                Ok(None) | Err(_) => return ended(began.elapsed()),
            }
        }
    }

    async fn handle(&mut self, line: &str) -> Result<(), End> {
        let event: Event = serde_json::from_str(line).map_err(kube::Error::SerdeError)?;
        match event.kind {
            EventKind::Added | EventKind::Modified => {
                let read = self.read_whole(&event.object)?;
                self.version = Some(read.resource_version.clone());
                self.send(Update::Put(Box::new(read))).await?;
            }
            EventKind::Deleted => {
                let read = self.read_whole(&event.object)?;
                self.version = Some(read.resource_version.clone());
                self.send(Update::Gone(read.name)).await?;
            }
            EventKind::Bookmark => {
                self.version = event.object.version().or(self.version.take());
            }
            EventKind::Error => {
                let status: Status = event.object.parse().map_err(kube::Error::SerdeError)?;
                let (remedy, reason) = (Remedy::of_status(&status), reason_of(&status));
                return Err(End::Fault(Fault { remedy, reason }));
            }
        }
        self.pause = Pause::default();
        self.relist = Pause::default();
        Ok(())
    }

    fn read(&self, raw: &Raw) -> Option<Read> {
        let mut read = raw.read(self.kind, self.ground.policies)?;
        if self.ground.keeps && read.object.is_ok() {
            read.kept = raw.kept(self.kind);
        }
        Some(read)
    }

    /// An event without a name or a place to go on from cannot be followed.
    fn read_whole(&self, raw: &Raw) -> Result<Read, End> {
        let read = self.read(raw).filter(|read| !read.resource_version.is_empty());
        read.ok_or_else(|| {
            let reason = "the server sent an event without a name or version".to_owned();
            End::Fault(Fault { remedy: Remedy::Relist, reason })
        })
    }

    async fn mend(&mut self, fault: Fault) -> Result<(), Closed> {
        let Fault { mut remedy, mut reason } = fault;
        tracing::debug!(kind = %self.kind, reason, ?remedy, "a watch is interrupted");
        if remedy == Remedy::Relist {
            // As usual as the end of a watch, unless it comes again and again.
            self.version = None;
        }
        if remedy == Remedy::Unknown && self.kind.is_custom() {
            reason = format!("the cluster has no such kind of objects: {reason}");
            if self.version.take().is_none() {
                self.send(Update::Listed(None)).await?;
            }
            remedy = Remedy::Wait(None);
        }
        if remedy == Remedy::Reconnect {
            match self.ground.access.client().await {
                Ok(client) => self.client = client,
                Err(error) => reason = error.to_string(),
            }
        }
        if remedy != Remedy::Relist || self.relist.is_repeated() {
            self.fare(WatchState::Interrupted { reason }).await?;
        }
        let pause = match remedy {
            Remedy::Relist => self.relist.next(None),
            Remedy::Wait(asked) => self.pause.next(asked),
            Remedy::Reconnect | Remedy::Unknown => self.pause.next(None),
        };
        sleep(pause).await;
        Ok(())
    }

    async fn fare(&mut self, state: WatchState) -> Result<(), Closed> {
        if self.watched.state == state {
            return Ok(());
        }
        let went_on = matches!(
            (&self.watched.state, &state),
            (WatchState::Interrupted { .. }, WatchState::Interrupted { .. })
        );
        match &state {
            WatchState::Interrupted { reason } if !went_on => {
                tracing::warn!(kind = %self.kind, reason, "not watched: what was read stands");
            }
            WatchState::Live => tracing::info!(kind = %self.kind, "watched"),
            WatchState::Interrupted { .. } | WatchState::Listing => {}
        }
        let since = if went_on { self.watched.since } else { SystemTime::now() };
        self.watched = Watched { objects: 0, state, since };
        let watched = self.watched.clone();
        self.send(match &self.only {
            None => Update::Fares(watched),
            Some(Name { namespace, name }) => {
                let namespace = namespace.clone().unwrap_or_default();
                Update::SecretFares(EndpointName { namespace, name: name.clone() }, watched)
            }
        })
        .await
    }

    async fn send(&self, update: Update) -> Result<(), Closed> {
        self.ground.updates.send((self.kind, update)).await.map_err(|_| Closed)
    }
}

/// The server ended the watch, as it does now and then. Where it does so at once, it is a fault.
fn ended(lasted: Duration) -> Result<(), End> {
    if lasted > Duration::from_secs(1) {
        return Ok(());
    }
    let reason = "the server ends each watch at once".to_owned();
    Err(End::Fault(Fault { remedy: Remedy::Wait(None), reason }))
}

fn slow(what: &str, limit: Duration) -> End {
    let reason = format!("{what} did not come within {}s", limit.as_secs());
    End::Fault(Fault { remedy: Remedy::Wait(None), reason })
}
