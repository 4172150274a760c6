//! Metrics for Prometheus, on a listener of their own.
//!
//! - Everything is counted where it happens, whoever looks; it is read when it is asked for, and
//!   told to the `metrics` facade, whose recorder is the scrape's own. No label has a value that
//!   pods could choose: no names, no addresses, no pods.
//! - A listener that cannot be opened is told of and gone without, as the Hubble API's.
//! - A scrape that cannot be whole fails, so that nothing old or partial is taken for the state.

mod cold;
mod dns;
mod family;
mod hot;
mod l7;
mod process;
mod sheet;
mod totals;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tower::Service;
use tracing::{debug, warn};

use crate::daemon::Shared;
use crate::listening::{self, Listeners};
use cold::Cold;
use hot::Hot;
use sheet::Sheet;

/// How many clients may be connected at once, to each listener.
const CLIENTS: usize = 8;
/// How long a client may take for its one request.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the endpoints' own counts are looked at: what one counts after the last look before
/// it goes is not in the sums.
const LOOK: Duration = Duration::from_secs(1);

/// The tasks that serve; they end with this.
pub struct Serving {
    _tasks: JoinSet<()>,
}

/// What a scrape reads.
struct Metrics {
    shared: Arc<Shared>,
    /// Locked for one reading at a time.
    hot: Mutex<Hot>,
}

/// Serves until what this gives is dropped.
pub fn serve(listeners: Listeners, shared: &Arc<Shared>) -> Serving {
    let mut tasks = JoinSet::new();
    let open = listeners.into_open();
    if !open.is_empty() {
        let metrics = Arc::new(Metrics { shared: Arc::clone(shared), hot: Mutex::default() });
        tasks.spawn(look(Arc::clone(&metrics)));
        let router = router(metrics);
        for listener in open {
            tasks.spawn(accept(listener, router.clone()));
        }
    }
    Serving { _tasks: tasks }
}

async fn look(metrics: Arc<Metrics>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let metrics = Arc::clone(&metrics);
        let looked = tokio::task::spawn_blocking(move || metrics.look()).await;
        if let Err(error) = looked.context("the look failed").and_then(|looked| looked) {
            warn!(error = format!("{error:#}"), "the endpoints' counts cannot be read");
        }
    }
}

async fn accept(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = listening::next("metrics", || listener.accept()).await;
        let router = router.clone();
        tokio::spawn(async move {
            match tokio::time::timeout(PATIENCE, serve_one(stream, router)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "a reader of metrics broke off"),
                Err(_) => debug!("a reader of metrics took too long"),
            }
            drop(place);
        });
    }
}

/// One request a connection, so that nobody keeps a place.
async fn serve_one(stream: TcpStream, router: Router) -> hyper::Result<()> {
    let service =
        hyper::service::service_fn(move |request: Request<Incoming>| router.clone().call(request));
    http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service).await
}

fn router(metrics: Arc<Metrics>) -> Router {
    Router::new().route("/metrics", get(scrape)).with_state(metrics)
}

async fn scrape(State(metrics): State<Arc<Metrics>>) -> Response {
    match metrics.scrape().await {
        Ok(text) => ([(header::CONTENT_TYPE, sheet::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            warn!(error = format!("{error:#}"), "metrics cannot be read");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")).into_response()
        }
    }
}

impl Metrics {
    async fn scrape(self: Arc<Self>) -> Result<String> {
        let cold = {
            let reconciler = self.shared.reconciler.lock().await;
            Cold::read(&reconciler)
        };
        // Walking through the maps takes a while.
        let read = tokio::task::spawn_blocking(move || self.read(&cold));
        read.await.context("the reading failed")?
    }

    fn read(&self, cold: &Cold) -> Result<String> {
        let sheet = Sheet::new(dns::bounds());
        metrics::with_local_recorder(&sheet, || self.tell(cold))?;
        Ok(sheet.write())
    }

    /// Tells the thread's recorder of everything.
    fn tell(&self, cold: &Cold) -> Result<()> {
        cold.tell(&self.shared);
        dns::tell(&self.shared);
        l7::tell(&self.shared);
        let mut hot = self.hot.lock().unwrap_or_else(PoisonError::into_inner);
        hot.look(&self.shared)?;
        hot.tell(&self.shared)?;
        process::tell(self.shared.started_at);
        Ok(())
    }

    fn look(&self) -> Result<()> {
        self.hot.lock().unwrap_or_else(PoisonError::into_inner).look(&self.shared)
    }
}
