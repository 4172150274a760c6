//! Connections of browsers: so many at once, and only of those that read what they ask for.
//!
//! Nothing is kept for a client but its connection's buffer. Whoever is too slow for live flows is
//! told what he missed; whoever reads nothing any more is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::debug;

use crate::daemon::Shared;
use crate::listening::{self, Listeners};

/// How many connections there may be; a browser opens up to six for each page.
const CONNECTIONS: usize = 48;
/// How long a client may take for a request, or be idle.
const IDLE: Duration = Duration::from_secs(20);
/// How long a client may leave unread what was sent to it.
const UNREAD: Duration = Duration::from_secs(30);
/// What may wait for a client inside the daemon, in bytes.
const BUFFER: usize = 64 << 10;

/// Who is connected, to all listeners together.
#[derive(Debug)]
pub struct Clients {
    places: Arc<Semaphore>,
    refused: AtomicU64,
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

/// Serves until what this gives is dropped.
pub fn serve(listeners: Listeners, shared: &Arc<Shared>) -> Serving {
    let router = super::router(Arc::clone(shared));
    let mut tasks = JoinSet::new();
    for listener in listeners.into_open() {
        tasks.spawn(accept(listener, Arc::clone(shared), router.clone()));
    }
    Serving { _tasks: tasks }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, router: Router) {
    let clients = &shared.page_clients;
    // They end with the listener.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let stream = listening::next("page", || listener.accept()).await;
        let Ok(place) = Arc::clone(&clients.places).try_acquire_owned() else {
            clients.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let router = router.clone();
        connections.spawn(async move {
            if let Err(error) = serve_one(stream, router).await {
                debug!(error = format!("{error:#}"), "a reader of the page broke off");
            }
            drop(place);
        });
    }
}

async fn serve_one(stream: TcpStream, router: Router) -> Result<()> {
    stream.set_nodelay(true)?;
    let unread = u32::try_from(UNREAD.as_millis()).unwrap_or(u32::MAX);
    setsockopt(&stream, sockopt::TcpUserTimeout, &unread)?;
    let mut connection = http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(BUFFER);
    let service = TowerToHyperService::new(router);
    Ok(connection.serve_connection(TokioIo::new(stream), service).await?)
}
