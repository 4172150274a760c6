//! The destination's side of an HTTP connection.
//!
//! Each client's connection has one of its own to the destination, made when the first request is
//! allowed, and made again when the destination closed it between two requests.

use std::sync::Arc;

use ::http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use l7proxy_core::Reason;
use tokio::sync::Mutex;

use super::{PING, Version};
use crate::session::Session;
use crate::tls::Ends;

/// The connection to a destination.
pub(super) struct Upstream {
    session: Arc<Session>,
    version: Version,
    is_tls: bool,
    state: Mutex<State>,
}

struct State {
    ends: Ends,
    sender: Option<Sender>,
    /// The host that the connection was made for, where that is what names the destination.
    host: Option<String>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Incoming>),
    Http2(http2::SendRequest<Incoming>),
}

impl Upstream {
    pub fn new(session: Arc<Session>, ends: Ends, version: Version) -> Self {
        let is_tls = ends.is_tls();
        let state = Mutex::new(State { ends, sender: None, host: None });
        Self { session, version, is_tls, state }
    }

    /// The scheme of what is sent.
    pub const fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }

    /// Sends a request, and waits for the head of its answer.
    pub async fn send(
        &self,
        mut request: Request<Incoming>,
        host: &str,
    ) -> Result<Response<Incoming>, Reason> {
        for is_last in [false, true] {
            let mut sender = self.sender(host).await?;
            let sent = match &mut sender {
                Sender::Http1(sender) => sender.try_send_request(request).await,
                Sender::Http2(sender) => sender.try_send_request(request).await,
            };
            match sent {
                Ok(response) => {
                    // Requests of HTTP/1 come one after another: the next may have it.
                    if let Sender::Http1(_) = sender {
                        self.state.lock().await.sender = Some(sender);
                    }
                    return Ok(response);
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !is_last => request = unsent,
                    Some(_) | None => return Err(failed(&error.into_error())),
                },
            }
        }
        Err(Reason::UpstreamFailed)
    }

    /// A connection that is ready for a request.
    async fn sender(&self, host: &str) -> Result<Sender, Reason> {
        let mut state = self.state.lock().await;
        // Where the host is what the destination proves, another one needs another connection.
        let named_by_host = self.is_tls && self.session.hello().is_none();
        if named_by_host && state.host.as_deref() != Some(host) {
            state.sender = None;
            state.host = Some(host.to_owned());
        }
        if let Some(mut sender) = state.sender.take()
            && sender.is_ready().await
        {
            state.sender = sender.share();
            return Ok(sender);
        }
        let io = match state.ends.take_ready() {
            Some(ready) => ready,
            None => state.ends.connect_anew(&self.session, Some(host)).await?,
        };
        let sender = self.shake_hands(TokioIo::new(io)).await.map_err(|error| failed(&error))?;
        state.sender = sender.share();
        Ok(sender)
    }

    async fn shake_hands(&self, io: TokioIo<crate::prefixed::Io>) -> hyper::Result<Sender> {
        match self.version {
            Version::Http1 => {
                let builder = &mut http1::Builder::new();
                let (sender, connection) = builder.preserve_header_case(true).handshake(io).await?;
                tokio::spawn(connection.with_upgrades());
                Ok(Sender::Http1(sender))
            }
            Version::Http2 => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder
                    .timer(TokioTimer::new())
                    .keep_alive_interval(PING.0)
                    .keep_alive_timeout(PING.1);
                let (sender, connection) = builder.handshake(io).await?;
                tokio::spawn(connection);
                Ok(Sender::Http2(sender))
            }
        }
    }
}

impl Sender {
    async fn is_ready(&mut self) -> bool {
        let ready = match self {
            Self::Http1(sender) => sender.ready().await,
            Self::Http2(sender) => sender.ready().await,
        };
        ready.is_ok()
    }

    /// Another sender on the same connection, where requests need not wait for each other.
    fn share(&self) -> Option<Self> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(sender) => Some(Self::Http2(sender.clone())),
        }
    }
}

fn failed(error: &hyper::Error) -> Reason {
    tracing::debug!(%error, "the destination failed");
    Reason::UpstreamFailed
}
