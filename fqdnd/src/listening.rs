//! Listeners that are gone without where they cannot be opened, and accepting that goes on
//! whatever becomes of one client.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tracing::{error, warn};

/// How long not to accept after accepting has failed, as it does without free descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Listeners before anybody is served.
#[derive(Debug, Default)]
pub struct Listeners {
    open: Vec<TcpListener>,
    told: Vec<api::Listener>,
}

impl Listeners {
    /// Opens one at each address, for `what` is served there.
    pub async fn open(addresses: &[SocketAddr], what: &'static str) -> Self {
        let mut listeners = Self::default();
        for &address in addresses {
            let opened = TcpListener::bind(address).await;
            let failure = opened.map(|listener| listeners.open.push(listener)).err();
            let failure = failure.map(|failure| format!("cannot listen: {failure}"));
            if let Some(failure) = &failure {
                error!(%address, what, error = failure, "this is not served there");
            }
            listeners.told.push(api::Listener { address: address.to_string(), failure });
        }
        listeners
    }

    /// Where it is served, or should be.
    pub fn told(&self) -> Vec<api::Listener> {
        self.told.clone()
    }

    /// Those that are open.
    pub fn into_open(self) -> Vec<TcpListener> {
        self.open
    }
}

/// The next client. Where none can be accepted, it is tried again after a pause.
pub async fn next<S, A, F>(who: &'static str, accept: impl Fn() -> F) -> S
where
    F: Future<Output = io::Result<(S, A)>>,
{
    loop {
        match accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                warn!(%error, who, "a client could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
