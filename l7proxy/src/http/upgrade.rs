//! WebSocket: judged as the request that asks for it, then carried.

use std::sync::Arc;

use ::http::{HeaderMap, Method};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use l7proxy_core::http::{Facts, Target};

use super::exchange::Exchange;
use super::life::Busy;
use crate::admission::Permit;
use crate::splice;

/// What was judged when the protocol was changed, to be judged again when the rules change.
pub(super) struct Judged {
    pub method: Method,
    pub target: Target,
    pub headers: HeaderMap,
}

/// Carries a changed connection until it ends or the rules no longer allow it.
pub(super) async fn carry(
    exchange: Arc<Exchange>,
    client: OnUpgrade,
    destination: OnUpgrade,
    judged: Judged,
    _place: (Permit, Busy),
) {
    let (Ok(client), Ok(destination)) = tokio::join!(client, destination) else { return };
    let patience = exchange.session.shared.options.idle_time();
    tokio::select! {
        () = splice::both(TokioIo::new(client), TokioIo::new(destination), patience) => {}
        () = revoked(&exchange, &judged) => {
            tracing::debug!(client = %exchange.session.client, "a WebSocket is no longer allowed");
        }
    }
}

async fn revoked(exchange: &Exchange, judged: &Judged) {
    let mut changes = exchange.session.changes();
    loop {
        let Ok(standing) = exchange.session.standing().await else { return };
        let facts = Facts {
            method: judged.method.as_str(),
            path: &judged.target.path,
            host: &judged.target.host,
            headers: &judged.headers,
        };
        if standing.http(&facts).is_err() || changes.changed().await.is_err() {
            return;
        }
    }
}
