//! The programs' event ring, read into the log: of its events, those of dropped packets.
//!
//! The drop counters are exact; events are rate-limited in the kernel and only tell more of a few.

use std::sync::Arc;

use anyhow::{Context, Result};
use model::Outcome;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;
use tracing::{debug, error};

use crate::daemon::Shared;

/// Reads events until the task is ended.
pub fn watch(shared: &Arc<Shared>) -> Result<JoinHandle<()>> {
    let ring = shared.datapath.events().context("the event ring cannot be opened")?;
    // SAFETY: the ring owns its map's descriptor, which stays open and the same for as long as it
    // lives, and the AsyncFd owns the ring.
    let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
    let mut ring = ring.context("the event ring cannot be waited for")?;
    Ok(tokio::spawn(async move {
        loop {
            let mut ready = match ring.readable_mut().await {
                Ok(ready) => ready,
                Err(error) => {
                    error!(%error, "dropped packets are not logged any more");
                    return;
                }
            };
            while let Some(event) = ready.get_inner_mut().next() {
                log(&event);
            }
            ready.clear_ready();
        }
    }))
}

fn log(event: &model::PacketEvent) {
    let Outcome::Dropped(reason) = event.outcome else {
        return;
    };
    let endpoint = event.endpoint.map(|endpoint| endpoint.0);
    let interface = event.interface;
    match &event.packet {
        Some(packet) => debug!(
            endpoint,
            %interface,
            %reason,
            source = %packet.source,
            destination = %packet.destination,
            protocol = %packet.protocol,
            identity = packet.identity.map(tracing::field::display),
            "packet dropped"
        ),
        None => debug!(endpoint, %interface, %reason, "packet dropped"),
    }
}
