//! The Hubble API: what is recorded, for whoever may ask.
//!
//! A listener that cannot be opened is told of and gone without: policies are enforced and lookups
//! are answered whether or not anybody can watch.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use flows::Ring;
use hubble::tls::{Files, Tls};
use hubble::{Clients, Listener, Recording};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::error;

use crate::admin;
use crate::config::Hubble;
use crate::recording::Flows;

/// The API's listeners and clients.
pub struct Observer {
    listeners: Vec<api::Listener>,
    clients: Arc<Clients>,
    task: JoinHandle<()>,
}

impl Observer {
    /// Serves what `flows` records, wherever `keys` say.
    pub async fn start(keys: &Hubble, flows: Arc<Flows>) -> Self {
        let mut opened = vec![(address_of(&keys.socket), unix(&keys.socket))];
        if !keys.listen.is_empty() {
            let tls = tls(keys);
            for &address in &keys.listen {
                let listener = match &tls {
                    Ok(tls) => tcp(address, tls.clone()).await,
                    Err(error) => Err(anyhow::anyhow!("{error:#}")),
                };
                opened.push((address.to_string(), listener));
            }
        }
        let (mut listeners, mut told) = (Vec::new(), Vec::new());
        for (address, opened) in opened {
            let failure = opened.map(|listener| listeners.push(listener)).err();
            let failure = failure.map(|failure| format!("{failure:#}"));
            if let Some(failure) = &failure {
                error!(%address, error = failure, "the Hubble API is not served there");
            }
            told.push(api::Listener { address, failure });
        }
        let clients = Arc::new(Clients::default());
        let serving = hubble::serve(flows, listeners, Arc::clone(&clients));
        let task = tokio::spawn(async move {
            if let Err(failure) = serving.await {
                error!(error = %failure, "the Hubble API is not served any more");
            }
        });
        Self { listeners: told, clients, task }
    }

    /// How it fares.
    pub fn report(&self) -> api::Hubble {
        api::Hubble {
            listeners: self.listeners.clone(),
            clients: self.clients.connected() as u64,
            clients_refused: self.clients.refused(),
        }
    }

    /// Ends it.
    pub fn stop(&self, keys: &Hubble) {
        self.task.abort();
        // Of a socket that could not be opened, whoever has it is the owner.
        if self.listeners.first().is_some_and(|unix| unix.failure.is_none())
            && let Err(error) = std::fs::remove_file(&keys.socket)
        {
            tracing::debug!(%error, "the Hubble API's socket was not there any more");
        }
    }
}

fn address_of(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

fn unix(socket: &Path) -> Result<Listener> {
    admin::listen(socket).map(Listener::Unix)
}

async fn tcp(address: SocketAddr, tls: Option<Arc<Tls>>) -> Result<Listener> {
    let listener = TcpListener::bind(address).await.context("cannot listen")?;
    Ok(match tls {
        Some(tls) => Listener::Tls(listener, tls),
        None => Listener::Tcp(listener),
    })
}

/// None where no certificate is given: the configuration allows that on the loopback only.
fn tls(keys: &Hubble) -> Result<Option<Arc<Tls>>> {
    if keys.tls_certificate.as_os_str().is_empty() {
        return Ok(None);
    }
    let files = Files {
        certificate: keys.tls_certificate.clone(),
        key: keys.tls_key.clone(),
        client_ca: keys.tls_client_ca.clone(),
    };
    Ok(Some(Arc::new(Tls::read(files)?)))
}

impl Recording for Flows {
    fn look<T>(&self, look: impl FnOnce(&Ring) -> T) -> T {
        self.look(look)
    }

    async fn catch_up(&self) {
        self.catch_up().await;
    }

    fn added(&self) -> watch::Receiver<()> {
        self.added()
    }

    fn node(&self) -> &str {
        self.node()
    }

    fn uptime(&self) -> Duration {
        self.uptime()
    }
}
