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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn an_address_that_cannot_be_had_is_told_and_the_others_are_served() {
        let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let taken = holder.local_addr().unwrap();
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let listeners = Listeners::open(&[taken, free], "a test").await;
        let [first, second] = &listeners.told()[..] else { panic!("{listeners:?}") };
        assert_eq!(first.address, taken.to_string());
        assert!(first.failure.as_deref().is_some_and(|own| own.starts_with("cannot listen: ")));
        assert_eq!(second.failure, None);
        assert_eq!(listeners.into_open().len(), 1);
    }

    #[tokio::test]
    async fn a_client_that_cannot_be_accepted_keeps_no_other_away() {
        let tries = Cell::new(0);
        let accept = || {
            tries.set(tries.get() + 1);
            ready(if tries.get() < 3 { Err(io::ErrorKind::Other.into()) } else { Ok(("it", ())) })
        };
        assert_eq!(next("a test", accept).await, "it");
        assert_eq!(tries.get(), 3);
    }
}
