//! The proxy as a whole: listeners, limits, and the connection to the daemon.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use l7proxy_core::{CompiledRules, Options, Reason};
use model::L7Rules;
use thiserror::Error;
use tokio::net;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::access::Journal;
use crate::admission::Admission;
use crate::cache::Cache;
use crate::connection::Arrival;
use crate::control::{Control, ControlEnded, Wire};
use crate::dial::Dial;
use crate::tls::Certificates;

/// How long accepting pauses after an error, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A proxy that is ready to serve.
pub struct Proxy {
    shared: Arc<Shared>,
    listeners: Vec<net::TcpListener>,
    wire: Wire,
}

/// What all connections share.
pub(crate) struct Shared {
    pub options: Options,
    pub control: Arc<Control>,
    pub journal: Arc<Journal>,
    pub admission: Arc<Admission>,
    pub compiled: Cache<L7Rules, Arc<CompiledRules>>,
    pub certificates: Certificates,
    pub dial: Box<dyn Dial>,
}

impl Shared {
    /// Connects to where a client was going, with its own address if the destination is to see it.
    pub async fn reach(
        &self,
        client: SocketAddr,
        destination: SocketAddr,
        from_pod_address: bool,
    ) -> Result<net::TcpStream, Reason> {
        let source = from_pod_address.then(|| client.ip());
        let dialing = self.dial.dial(destination, source);
        match timeout(self.options.connect_time(), dialing).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => {
                tracing::debug!(%destination, %error, "not reached");
                Err(Reason::UpstreamUnreachable)
            }
            Err(_) => Err(Reason::UpstreamUnreachable),
        }
    }
}

/// Why the proxy stopped.
#[derive(Debug, Error)]
pub enum Stopped {
    /// The connection to the daemon ended.
    #[error(transparent)]
    Control(#[from] ControlEnded),
    /// A socket cannot be used.
    #[error("a socket cannot be used: {0}")]
    Socket(#[from] std::io::Error),
}

impl Proxy {
    /// A proxy that takes connections from these listeners, asks over this connection, and reaches
    /// destinations by `dial`. Has to be made inside a runtime.
    ///
    /// A listener is transparent: the address that an accepted socket has taken on is where its
    /// client was going.
    pub fn new(
        options: Options,
        control: UnixStream,
        listeners: Vec<TcpListener>,
        dial: impl Dial,
    ) -> Result<Self, Stopped> {
        control.set_nonblocking(true)?;
        let stream = net::UnixStream::from_std(control)?;
        let listeners = listeners.into_iter().map(into_tokio).collect::<Result<_, _>>()?;
        let (sender, records) = mpsc::channel(options.records.max(1));
        let (control, questions) = Control::new(options.judgement_time());
        let shared = Shared {
            control,
            journal: Arc::new(Journal::new(sender)),
            admission: Admission::new(&options),
            compiled: Cache::new(options.cached),
            certificates: Certificates::new(options.cached),
            dial: Box::new(dial),
            options,
        };
        let wire = Wire { stream, questions, records };
        Ok(Self { shared: Arc::new(shared), listeners, wire })
    }

    /// Serves until the connection to the daemon ends.
    pub async fn run(self) -> Stopped {
        let Self { shared, listeners, wire } = self;
        let mut tasks = tokio::task::JoinSet::new();
        for listener in listeners {
            tasks.spawn(accept(listener, Arc::clone(&shared)));
        }
        let control = Arc::clone(&shared.control);
        let ended = control.serve(wire, Arc::clone(&shared.journal)).await;
        tasks.abort_all();
        ended.into()
    }
}

fn into_tokio(listener: TcpListener) -> std::io::Result<net::TcpListener> {
    listener.set_nonblocking(true)?;
    net::TcpListener::from_std(listener)
}

async fn accept(listener: net::TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => {
                    shared.journal.opened();
                    connections.spawn(Arrival::new(&shared, stream, client).serve());
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => {
                shared.journal.closed();
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection's task failed");
                }
            }
        }
    }
}
