//! DNS over TCP: one thread with a small runtime of its own, one task for each connection.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::net::{self, TcpStream};
use tokio::sync::Notify;
use tracing::{error, warn};

use crate::gate::Gate;
use crate::socket::Pair;

mod admission;
mod backlog;
mod connection;
mod upstream;

use admission::{Admission, Holder};
use connection::Connection;

/// How long accepting pauses after an error, such as too many open files.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// The TCP side, ready to run on a thread of its own.
pub(crate) struct Server {
    pub gate: Gate,
    pub listeners: Pair<TcpListener>,
    pub stop: Arc<Notify>,
}

impl Server {
    /// Serves until told to stop; every connection ends then.
    pub fn run(self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.serve()),
            Err(error) => error!(%error, "DNS over TCP is not served"),
        }
    }

    async fn serve(self) {
        let Self { gate, listeners, stop } = self;
        let admission = Admission::new(gate.options.tcp);
        let gate = Arc::new(gate);
        let first = tokio::spawn(accept(listeners.0, Arc::clone(&gate), Arc::clone(&admission)));
        let second = listeners.1.map(|listener| tokio::spawn(accept(listener, gate, admission)));
        stop.notified().await;
        first.abort();
        if let Some(second) = second {
            second.abort();
        }
    }
}

async fn accept(listener: TcpListener, gate: Arc<Gate>, admission: Arc<Admission>) {
    let listener = match net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            error!(%error, "DNS over TCP is not served");
            return;
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, client)) => admit(stream, client, &gate, &admission),
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(stream: TcpStream, client: SocketAddr, gate: &Arc<Gate>, admission: &Arc<Admission>) {
    gate.counters.tcp_accepted.count();
    // Whom the client meant to reach: the address that the accepted socket has taken on.
    let server = stream.local_addr();
    let permits = admission.enter().ok_or(&gate.counters.tcp_over_total).and_then(|total| {
        let client = admission.hold(Holder::Client(client.ip()));
        Ok((total, client.ok_or(&gate.counters.tcp_over_endpoint)?))
    });
    match (permits, server) {
        (Ok(permits), Ok(server)) => {
            let connection =
                Connection::new(stream, client, server, Arc::clone(gate), Arc::clone(admission));
            tokio::spawn(async move {
                let _permits = permits;
                connection.serve().await;
            });
        }
        (Err(counter), _) => counter.count(),
        (_, Err(_)) => gate.counters.unusable.count(),
    }
}

/// Tells an error that only means "not yet" from one that ends a stream. `Ok(0)` of a read is the
/// stream's end.
fn progress(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
