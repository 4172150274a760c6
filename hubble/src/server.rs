//! Listens for clients and serves them, a bounded number at once.
//!
//! A client that comes when all places are taken is turned away and counted: those that follow
//! stay for days, so that waiting for a place would be waiting for nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use crate::proto::observer::observer_server::ObserverServer;
use crate::recording::Recording;
use crate::service::Service;
use crate::tls::Tls;

/// The name under which Hubble's clients ask whether the service is well.
const HEALTH_NAME: &str = "hubble.server.Observer";
/// How many clients may be connected at once.
const CLIENTS: usize = 64;
/// How many requests a client may have open at once.
const REQUESTS: u32 = 8;
/// How long a request may be, in bytes.
const MAX_REQUEST: usize = 64 << 10;
/// How long a client may take to greet.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How often a client is asked whether it is still there, and how long it may take to say so.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// How long not to accept after accepting has failed, as it does without free descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Where clients come from.
#[derive(Debug)]
pub enum Listener {
    /// A unix socket: its mode says who may come.
    Unix(UnixListener),
    /// An address at which everybody is welcome; for the loopback.
    Tcp(TcpListener),
    /// An address at which those are welcome whose certificate is.
    Tls(TcpListener, Arc<Tls>),
}

/// Who is there.
#[derive(Debug)]
pub struct Clients {
    places: Arc<Semaphore>,
    refused: AtomicU64,
}

impl Default for Clients {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(CLIENTS)), refused: AtomicU64::new(0) }
    }
}

impl Clients {
    /// How many are connected.
    pub fn connected(&self) -> usize {
        CLIENTS - self.places.available_permits()
    }

    /// How many were turned away because all places were taken.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn admit(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        if place.is_none() && self.refused.fetch_add(1, Ordering::Relaxed) == 0 {
            warn!(clients = CLIENTS, "clients of the Hubble API are turned away: all places taken");
        }
        place
    }
}

/// Serves what is recorded to whoever comes, until the task is ended.
pub async fn serve<R: Recording>(
    recording: Arc<R>,
    listeners: Vec<Listener>,
    clients: Arc<Clients>,
) -> Result<(), tonic::transport::Error> {
    let (sender, connections) = mpsc::channel(1);
    for listener in listeners {
        tokio::spawn(accept(listener, Arc::clone(&clients), sender.clone()));
    }
    drop(sender);
    let incoming = stream::unfold(connections, |mut connections| async {
        Some((Ok::<_, io::Error>(connections.recv().await?), connections))
    });
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status(HEALTH_NAME, tonic_health::ServingStatus::Serving).await;
    let observer = ObserverServer::new(Service::new(recording));
    Server::builder()
        .concurrency_limit_per_connection(REQUESTS as usize)
        .max_concurrent_streams(REQUESTS)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .add_service(observer.max_decoding_message_size(MAX_REQUEST))
        .add_service(health_service)
        .serve_with_incoming(incoming)
        .await
}

/// Accepts until nobody takes connections any more.
async fn accept(listener: Listener, clients: Arc<Clients>, sender: mpsc::Sender<Connection>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sender.closed() => return,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                warn!(%error, "a client of the Hubble API could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(place) = clients.admit() else { continue };
        let sender = sender.clone();
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE, stream.greet()).await {
                Ok(Ok(stream)) => drop(sender.send(Connection { stream, _place: place }).await),
                Ok(Err(error)) => debug!(%error, "a client of the Hubble API broke off"),
                Err(_) => debug!("a client of the Hubble API did not greet"),
            }
        });
    }
}

/// A client's connection, before anything was said.
enum Accepted {
    Ready(Box<dyn Stream>),
    Tls(TcpStream, Arc<Tls>),
}

impl Listener {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted::Ready(Box::new(stream)))
            }
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Ready(Box::new(stream)))
            }
            Self::Tls(listener, tls) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Tls(stream, Arc::clone(tls)))
            }
        }
    }
}

impl Accepted {
    async fn greet(self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Ready(stream) => Ok(stream),
            Self::Tls(stream, tls) => Ok(Box::new(tls.acceptor().accept(stream).await?)),
        }
    }
}

/// Bytes both ways.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A client's connection, and its place, which is free again when the connection is closed.
struct Connection {
    stream: Box<dyn Stream>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
