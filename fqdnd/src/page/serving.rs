//! Connections of browsers: so many at once, and only of those that read what they ask for.
//!
//! Nothing is kept for a client but its connection's buffer. Whoever is too slow for live flows is
//! told what he missed; whoever reads nothing any more is dropped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, error, warn};

use crate::config;
use crate::daemon::Shared;

/// How many connections there may be; a browser opens up to six for each page.
const CONNECTIONS: usize = 48;
/// How long a client may take for a request, or be idle.
const IDLE: Duration = Duration::from_secs(20);
/// How long a client may leave unread what was sent to it.
const UNREAD: Duration = Duration::from_secs(30);
/// What may wait for a client inside the daemon, in bytes.
const BUFFER: usize = 64 << 10;
/// How long not to accept after accepting has failed, as it does without free descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Who is connected, to all listeners together.
#[derive(Debug)]
pub struct Clients {
    places: Arc<Semaphore>,
    refused: AtomicU64,
}

/// The listeners, before anybody is served.
#[derive(Debug, Default)]
pub struct Listeners {
    open: Vec<TcpListener>,
    told: Vec<api::Listener>,
}

/// The tasks that serve; they end with this.
pub struct Serving {
    _tasks: JoinSet<()>,
}

impl Default for Clients {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(CONNECTIONS)), refused: AtomicU64::new(0) }
    }
}

impl Clients {
    /// How many were turned away because too many were connected.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Listeners {
    /// Opens them.
    pub async fn open(keys: &config::Page) -> Self {
        let mut listeners = Self::default();
        for &address in &keys.listen {
            let opened = TcpListener::bind(address).await.context("cannot listen");
            listeners.take(address, opened);
        }
        listeners
    }

    fn take(&mut self, address: SocketAddr, opened: Result<TcpListener>) {
        let failure = opened.map(|listener| self.open.push(listener)).err();
        let failure = failure.map(|failure| format!("{failure:#}"));
        if let Some(failure) = &failure {
            error!(%address, error = failure, "the page is not served there");
        }
        self.told.push(api::Listener { address: address.to_string(), failure });
    }

    /// Where the page is served, or should be.
    pub fn told(&self) -> Vec<api::Listener> {
        self.told.clone()
    }

    /// Serves until what this gives is dropped.
    pub fn serve(self, shared: &Arc<Shared>) -> Serving {
        let router = super::router(Arc::clone(shared));
        let mut tasks = JoinSet::new();
        for listener in self.open {
            tasks.spawn(accept(listener, Arc::clone(shared), router.clone()));
        }
        Serving { _tasks: tasks }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, router: Router) {
    let clients = &shared.page_clients;
    // They end with the listener.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "a reader of the page could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&clients.places).try_acquire_owned() else {
            clients.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let router = router.clone();
        connections.spawn(async move {
            if let Err(error) = serve(stream, router).await {
                debug!(error = format!("{error:#}"), "a reader of the page broke off");
            }
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, router: Router) -> Result<()> {
    stream.set_nodelay(true)?;
    let unread = u32::try_from(UNREAD.as_millis()).unwrap_or(u32::MAX);
    setsockopt(&stream, sockopt::TcpUserTimeout, &unread)?;
    let mut connection = http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(BUFFER);
    let service = TowerToHyperService::new(router);
    Ok(connection.serve_connection(TokioIo::new(stream), service).await?)
}
