//! Metrics for Prometheus, on a listener of their own.
//!
//! - Everything is counted where it happens, whoever looks; it is read when it is asked for, and
//!   told to the `metrics` facade, whose recorder is the scrape's own. No label has a value that pods could choose: no names, no addresses, no pods.
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

use std::net::SocketAddr;
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
use tracing::{debug, error, warn};

use crate::config;
use crate::daemon::Shared;
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

/// The listeners, before anybody is served.
#[derive(Default)]
pub struct Listeners {
    open: Vec<TcpListener>,
    told: Vec<api::Listener>,
}

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

impl Listeners {
    /// Opens them.
    pub async fn open(keys: &config::Metrics) -> Self {
        let mut listeners = Self::default();
        for &address in &keys.listen {
            listeners.add(address).await;
        }
        listeners
    }

    async fn add(&mut self, address: SocketAddr) {
        let address_text = address.to_string();
        let failure = match TcpListener::bind(address).await {
            Ok(listener) => {
                self.open.push(listener);
                None
            }
            Err(error) => {
                error!(%address, %error, "metrics are not served there");
                Some(format!("cannot listen: {error}"))
            }
        };
        self.told.push(api::Listener { address: address_text, failure });
    }

    /// Where metrics are served, or should be.
    pub fn told(&self) -> Vec<api::Listener> {
        self.told.clone()
    }

    /// Serves until what this gives is dropped.
    pub fn serve(self, shared: &Arc<Shared>) -> Serving {
        let mut tasks = JoinSet::new();
        if !self.open.is_empty() {
            let metrics = Arc::new(Metrics { shared: Arc::clone(shared), hot: Mutex::default() });
            tasks.spawn(look(Arc::clone(&metrics)));
            let router = router(metrics);
            for listener in self.open {
                tasks.spawn(accept(listener, router.clone()));
            }
        }
        Serving { _tasks: tasks }
    }
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
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "a reader of metrics could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
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
