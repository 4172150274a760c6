//! The admin API on a unix socket: what `fqdnctl` asks, answered from the daemon's own state.
//!
//! The socket is root's, mode 0660, and each peer's credentials are checked as well.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use axum::extract::{Path as RoutePath, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use model::{NameRef, Pattern};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tower::Service;
use tracing::{debug, warn};

use crate::daemon::Shared;
use crate::health::Health;
use crate::listening;
use crate::report;

/// How many clients may be connected at once.
const CLIENTS: usize = 64;

/// The socket, and whoever answers there now. Dropping it ends both.
#[derive(Debug)]
pub struct Admin {
    path: PathBuf,
    listener: Arc<UnixListener>,
    task: Option<JoinHandle<()>>,
}

impl Admin {
    /// Opens the socket, and answers what can be said before the daemon is in charge. Another
    /// daemon that listens there is an error.
    pub fn open(path: &Path, health: &Arc<Health>) -> Result<Self> {
        let listener = Arc::new(listen(path)?);
        let mut admin = Self { path: path.to_owned(), listener, task: None };
        admin.answer(waiting_room(Arc::clone(health)));
        Ok(admin)
    }

    /// Answers whatever may be asked of a daemon in charge.
    pub fn serve(&mut self, shared: &Arc<Shared>) {
        self.answer(router(Arc::clone(shared)));
    }

    fn answer(&mut self, router: Router) {
        let task = tokio::spawn(accept(Arc::clone(&self.listener), router));
        if let Some(before) = self.task.replace(task) {
            before.abort();
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            debug!(%error, "the socket was not there any more");
        }
    }
}

/// Whether another daemon listens there.
pub fn is_taken(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

/// Another daemon that listens there is an error.
pub fn refuse_second(path: &Path) -> Result<()> {
    if is_taken(path) {
        bail!("another fqdnd answers at {}", path.display());
    }
    Ok(())
}

/// Opens the socket; another daemon that listens there is an error.
pub fn listen(path: &Path) -> Result<UnixListener> {
    refuse_second(path)?;
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot replace {}", path.display()));
        }
    }
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let listener = with_umask(0o117, || UnixListener::bind(path))
        .with_context(|| format!("cannot listen at {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// The socket is never open to others, not even for a moment.
fn with_umask<T>(mask: u32, run: impl FnOnce() -> T) -> T {
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask));
    let result = run();
    nix::sys::stat::umask(before);
    result
}

/// Serves until the task is ended.
async fn accept(listener: Arc<UnixListener>, router: Router) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = listening::next("admin", || listener.accept()).await;
        if !is_trusted(&stream) {
            continue;
        }
        let router = router.clone();
        tokio::spawn(async move {
            let service =
                hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                    router.clone().call(request)
                });
            let connection = auto::Builder::new(TokioExecutor::new());
            if let Err(error) = connection.serve_connection(TokioIo::new(stream), service).await {
                debug!(%error, "an admin client broke off");
            }
            drop(place);
        });
    }
}

/// Only root is served, whatever the socket's mode has become.
fn is_trusted(stream: &UnixStream) -> bool {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw() => true,
        Ok(peer) => {
            warn!(uid = peer.uid(), "an admin client that is not root was turned away");
            false
        }
        Err(error) => {
            warn!(%error, "an admin client's credentials could not be read");
            false
        }
    }
}

/// What a daemon says that is not in charge yet.
fn waiting_room(health: Arc<Health>) -> Router {
    let reported = Arc::clone(&health);
    let health_route = get(async move || Json(reported.report()));
    Router::new().route(api::path::HEALTH, health_route).fallback(async move || {
        let health = health.report();
        let what = [format!("fqdnd is {}", health.phase)].into_iter().chain(health.reasons);
        Failure(StatusCode::SERVICE_UNAVAILABLE, what.collect::<Vec<_>>().join("; "))
    })
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route(api::path::HEALTH, get(health))
        .route(api::path::STATUS, get(status))
        .route(api::path::ENDPOINTS, get(endpoints))
        .route(api::path::CACHE, get(cache).delete(clean))
        .route(api::path::NAMES, get(names))
        .route(api::path::POLICIES, get(policies))
        .route(api::path::SELECTORS, get(selectors))
        .route(api::path::IDENTITIES, get(identities))
        .route(api::path::SERVICES, get(services))
        .route(api::path::EXPLAIN, post(explain))
        .route(api::path::MAPS, get(maps))
        .route(api::path::MAP, get(map))
        .fallback(|| async { Failure(StatusCode::NOT_FOUND, "no such path".into()) })
        .with_state(shared)
}

/// An answer that is not 2xx.
pub struct Failure(pub StatusCode, pub String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(api::Error { message: self.1 })).into_response()
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}"))
    }
}

async fn health(State(shared): State<Arc<Shared>>) -> Json<api::Health> {
    Json(shared.health.report())
}

/// How the daemon fares.
pub async fn status(State(shared): State<Arc<Shared>>) -> Result<Json<api::Status>, Failure> {
    let audit = shared.audit().await?;
    let reconciler = shared.reconciler.lock().await;
    Ok(Json(report::status(&shared, &reconciler, &audit)?))
}

/// This node's endpoints.
pub async fn endpoints(
    State(shared): State<Arc<Shared>>,
) -> Result<Json<Vec<api::Endpoint>>, Failure> {
    let reconciler = shared.reconciler.lock().await;
    Ok(Json(report::endpoints(&shared, &reconciler)?))
}

async fn cache(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<api::CacheQuery>,
) -> Result<Json<Vec<api::CacheEntry>>, Failure> {
    let pattern = pattern(query.pattern.as_deref())?;
    let reconciler = shared.reconciler.lock().await;
    let endpoint = match &query.endpoint {
        Some(endpoint) => Some(report::find(&reconciler, endpoint).ok_or_else(|| {
            Failure(StatusCode::NOT_FOUND, format!("no endpoint `{endpoint}` on this node"))
        })?),
        None => None,
    };
    Ok(Json(report::cache(&shared, &reconciler, endpoint, &selects(pattern))))
}

async fn clean(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<api::CleanQuery>,
) -> Result<Json<api::Cleaned>, Failure> {
    let selects = selects(pattern(query.pattern.as_deref())?);
    let mut reconciler = shared.reconciler.lock().await;
    let endpoints = shared.names.endpoints();
    let forgotten = endpoints.into_iter().map(|endpoint| reconciler.forget(endpoint, &selects));
    Ok(Json(api::Cleaned { count: forgotten.map(|count| count as u64).sum() }))
}

async fn names(State(shared): State<Arc<Shared>>) -> Json<Vec<api::NameEntry>> {
    let reconciler = shared.reconciler.lock().await;
    Json(report::names(&shared, &reconciler))
}

/// The policies in force.
pub async fn policies(State(shared): State<Arc<Shared>>) -> Json<Vec<api::Policy>> {
    let reconciler = shared.reconciler.lock().await;
    Json(report::rules::policies(&shared, &reconciler))
}

async fn selectors(State(shared): State<Arc<Shared>>) -> Json<Vec<api::Selector>> {
    let reconciler = shared.reconciler.lock().await;
    Json(report::rules::selectors(&shared, &reconciler))
}

async fn identities(State(shared): State<Arc<Shared>>) -> Json<Vec<api::Identity>> {
    let reconciler = shared.reconciler.lock().await;
    Json(report::rules::identities(&reconciler))
}

async fn services(State(shared): State<Arc<Shared>>) -> Json<Vec<api::Service>> {
    let inventory = shared.manifests.borrow().clone();
    Json(report::services::services(&inventory))
}

async fn explain(
    State(shared): State<Arc<Shared>>,
    Json(query): Json<api::ExplainQuery>,
) -> Result<Json<api::Explanation>, Failure> {
    explained(&shared, &query).await.map(Json)
}

/// Why a connection passes or does not.
pub async fn explained(
    shared: &Shared,
    query: &api::ExplainQuery,
) -> Result<api::Explanation, Failure> {
    let bad = |message: String| Failure(StatusCode::BAD_REQUEST, message);
    let question = query.question().map_err(|error| bad(error.to_string()))?;
    let case = {
        let reconciler = shared.reconciler.lock().await;
        report::rules::case(shared, &reconciler, question)
    };
    // Nothing waits for it: with many rules it takes a while.
    let explained = tokio::task::spawn_blocking(move || case.explain()).await;
    let explanation = explained.context("the explanation failed")?;
    let absent =
        |error: engine::explain::ExplainError| Failure(StatusCode::NOT_FOUND, error.to_string());
    explanation.map_err(absent)
}

async fn maps(State(shared): State<Arc<Shared>>) -> Result<Json<Vec<api::MapInfo>>, Failure> {
    let maps = shared.datapath.maps().context("the maps cannot be read")?;
    Ok(Json(maps.iter().map(report::map).collect()))
}

async fn map(
    State(shared): State<Arc<Shared>>,
    RoutePath(name): RoutePath<String>,
) -> Result<Json<Vec<api::MapRow>>, Failure> {
    let maps = shared.datapath.maps().context("the maps cannot be read")?;
    if !maps.iter().any(|map| map.name == name) {
        let known: BTreeMap<_, ()> = maps.iter().map(|map| (map.name.to_string(), ())).collect();
        let known = known.into_keys().collect::<Vec<_>>().join(", ");
        return Err(Failure(StatusCode::NOT_FOUND, format!("no map `{name}`; there are {known}")));
    }
    let rows = shared.datapath.dump_map(&name).context("the map cannot be read")?;
    Ok(Json(rows.into_iter().map(|(key, value)| api::MapRow { key, value }).collect()))
}

fn pattern(text: Option<&str>) -> Result<Option<Pattern>, Failure> {
    text.map(Pattern::match_pattern).transpose().map_err(|error| {
        Failure(StatusCode::BAD_REQUEST, format!("pattern `{}`: {error}", text.unwrap_or_default()))
    })
}

fn selects(pattern: Option<Pattern>) -> impl Fn(NameRef<'_>) -> bool {
    move |name| pattern.as_ref().is_none_or(|pattern| pattern.matches(name))
}
