//! HTTP, request by request.
//!
//! hyper speaks it on both sides; HTTP/1 passes the screen before. A request is judged as it will
//! be sent on: without the headers of the hop, with one host and one path. One that is refused is
//! answered here, and never reaches the destination, not even as a connection.

use std::convert::Infallible;
use std::sync::Arc;

use ::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use l7proxy_core::Reason;
use std::time::Duration;

use crate::prefixed::Io;
use crate::screened::{Gate, Screened};
use crate::session::Session;
use crate::tls::Ends;

mod body;
mod exchange;
mod hop;
mod life;
mod reply;
mod upgrade;
mod upstream;

use exchange::Exchange;
use life::Life;
use reply::Reply;
use upstream::Upstream;

/// How often a silent HTTP/2 client is asked whether it is there, and how long it may take.
const PING: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));
/// How much an HTTP/2 client may send ahead: on one stream, and in all.
const WINDOWS: (u32, u32) = (256 * 1024, 1024 * 1024);
/// How many streams an HTTP/2 client may have reset before they are taken up.
const RESETS: usize = 20;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// HTTP/1.0 and 1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(
    session: Arc<Session>,
    io: Io,
    ends: Ends,
    version: Version,
) -> Result<(), Reason> {
    let life = Life::new(session.shared.options.idle_time());
    let upstream = Upstream::new(Arc::clone(&session), ends, version);
    let gate = (version == Version::Http1).then(|| Gate::new(session.shared.options.head()));
    let exchange = Exchange { session, upstream, gate: gate.clone(), life };
    let exchange = Arc::new(exchange);
    match gate {
        Some(gate) => serve_http1(exchange, io, gate).await,
        None => serve_http2(exchange, io).await,
    }
}

async fn serve_http1(exchange: Arc<Exchange>, io: Io, gate: Gate) -> Result<(), Reason> {
    let options = &exchange.session.shared.options;
    let screened = Screened::new(io, gate.clone(), options.head(), options.request_time());
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_headers(options.head_fields.saturating_add(1))
        .max_buf_size(options.head_bytes.saturating_add(64 * 1024));
    let handler = Arc::clone(&exchange);
    let service = service_fn(move |request| handle(Arc::clone(&handler), request));
    let connection = builder.serve_connection(TokioIo::new(screened), service).with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        result = &mut connection => log(&exchange, result),
        () = exchange.life.over() => {
            connection.as_mut().graceful_shutdown();
            log(&exchange, connection.await);
        }
    }
    if gate.was_slow() { Err(Reason::SlowClient) } else { Ok(()) }
}

async fn serve_http2(exchange: Arc<Exchange>, io: Io) -> Result<(), Reason> {
    let options = &exchange.session.shared.options;
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(options.streams)
        .max_header_list_size(u32::try_from(options.head_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(RESETS * 5)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1);
    let handler = Arc::clone(&exchange);
    let service = service_fn(move |request| handle(Arc::clone(&handler), request));
    let connection = builder.serve_connection(TokioIo::new(io), service);
    tokio::pin!(connection);
    tokio::select! {
        result = &mut connection => log(&exchange, result),
        () = exchange.life.over() => {
            connection.as_mut().graceful_shutdown();
            log(&exchange, connection.await);
        }
    }
    Ok(())
}

async fn handle(
    exchange: Arc<Exchange>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
    Ok(exchange.answer(request).await)
}

fn log(exchange: &Exchange, result: hyper::Result<()>) {
    if let Err(error) = result {
        let client = exchange.session.client;
        tracing::debug!(%client, %error, "an HTTP connection ended early");
    }
}
