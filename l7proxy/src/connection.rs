//! A connection from its arrival to the protocol that it speaks.

use std::net::SocketAddr;
use std::sync::Arc;

use l7proxy_core::control::{Access, Asked, Judgement};
use l7proxy_core::hello::{Hello, looks_like_tls};
use l7proxy_core::{Admitted, Reason};
use model::EndpointId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::dial;
use crate::http::{self, Version};
use crate::kafka;
use crate::prefixed::{Io, Prefixed};
use crate::proxy::Shared;
use crate::session::{Handling, Newcomer, Session};
use crate::splice;
use crate::tls::{self, Ends};

/// How a connection of HTTP/2 begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A fatal alert of TLS: access denied.
const ACCESS_DENIED: [u8; 7] = [21, 3, 1, 0, 2, 2, 49];

/// A connection that came in.
pub(crate) struct Arrival {
    newcomer: Newcomer,
    stream: TcpStream,
}

/// Why a connection ended before a request could be refused by itself.
struct Refused {
    endpoint: Option<EndpointId>,
    server_name: Option<String>,
    reason: Reason,
}

impl Arrival {
    pub fn new(shared: &Arc<Shared>, stream: TcpStream, client: SocketAddr) -> Self {
        // Where the client was going: the address that the accepted socket has taken on.
        let destination = stream.local_addr().unwrap_or(client);
        let newcomer = Newcomer { shared: Arc::clone(shared), client, destination };
        Self { newcomer, stream }
    }

    /// Judges the connection and carries it until it ends.
    pub async fn serve(self) {
        let (client, destination) = (self.newcomer.client, self.newcomer.destination);
        let shared = Arc::clone(&self.newcomer.shared);
        let Err(Refused { endpoint, server_name, reason }) = self.carry().await else { return };
        tracing::debug!(%client, %destination, %reason, "a connection was refused");
        let request = Asked::Connection;
        let refused = Some(reason);
        let micros = None;
        let access =
            Access { endpoint, client, destination, server_name, request, refused, micros };
        shared.journal.write(access);
    }

    async fn carry(self) -> Result<(), Refused> {
        let Self { newcomer, mut stream } = self;
        let shared = Arc::clone(&newcomer.shared);
        let unknown = |reason| Refused { endpoint: None, server_name: None, reason };
        let _place = shared.admission.connection().map_err(unknown)?;
        let judgement =
            shared.control.ask(newcomer.client, newcomer.destination).await.map_err(unknown)?;
        let endpoint = Some(judgement.endpoint);
        let known = |reason| Refused { endpoint, server_name: None, reason };
        let _share = shared.admission.of_endpoint(judgement.endpoint).map_err(known)?;
        // A socket that cannot be tuned is one that its client has closed.
        let _ = dial::tune(&stream);
        let opening = Opening::read(&mut stream);
        let opening = timeout(shared.options.opening_time(), opening).await;
        let opening = opening.map_err(|_| known(Reason::SlowClient))?.map_err(known)?;
        let Some(opening) = opening else { return Ok(()) };
        let hello = opening.hello;
        let server_name = hello.as_ref().and_then(Hello::server_name_text);
        let is_tls = hello.is_some();
        let io = Box::new(Prefixed::new(opening.bytes, stream));
        let outcome = match begin(&newcomer, &judgement, hello) {
            Ok(session) => speak(session, io).await,
            Err(reason) => {
                refuse_openly(io, is_tls).await;
                Err(reason)
            }
        };
        outcome.map_err(|reason| Refused { endpoint, server_name, reason })
    }
}

fn begin(
    newcomer: &Newcomer,
    judgement: &Judgement,
    hello: Option<Hello>,
) -> Result<Arc<Session>, Reason> {
    Session::begin(newcomer, judgement, hello).map(Arc::new)
}

/// Tells a client of TLS that it is refused, so that it need not guess.
async fn refuse_openly(mut io: Io, is_tls: bool) {
    if is_tls {
        // The connection ends either way.
        let _ = io.write_all(&ACCESS_DENIED).await;
        let _ = io.shutdown().await;
    }
}

/// Carries a connection whose handling is known.
async fn speak(session: Arc<Session>, io: Io) -> Result<(), Reason> {
    match session.handling().clone() {
        Handling::Splice => splice::untouched(&session, io).await,
        Handling::Plain(originate) => {
            let admitted = session.rules().await?;
            talk(session, Inside { io, admitted, upstream: Ends::plain(originate), h2: None }).await
        }
        Handling::Terminate(terminate, originate) => {
            let admitted = session.rules().await?;
            let (io, upstream, h2) = tls::intercept(&session, io, &terminate, &originate).await?;
            talk(session, Inside { io, admitted, upstream, h2: Some(h2) }).await
        }
    }
}

/// A connection whose bytes can be read.
struct Inside {
    io: Io,
    admitted: Admitted,
    upstream: Ends,
    /// Whether HTTP/2 was agreed on, where there was a way to.
    h2: Option<bool>,
}

/// Finds out what is spoken, and speaks it.
async fn talk(session: Arc<Session>, inside: Inside) -> Result<(), Reason> {
    let Inside { mut io, admitted, upstream, h2 } = inside;
    let unlimited = admitted.allows_anything();
    if unlimited && !admitted.speaks_http() && !admitted.speaks_kafka() {
        return splice::opened(&session, io, upstream).await;
    }
    let patience = session.shared.options.opening_time();
    let begun = timeout(patience, beginning(&mut io)).await.map_err(|_| Reason::SlowClient)?;
    let Some(bytes) = begun else { return Ok(()) };
    let first = bytes[0];
    let is_h2 = bytes.starts_with(PREFACE);
    let io: Io = Box::new(Prefixed::new(bytes, io));
    // A Kafka request begins with its length, whose highest byte is 0; no method begins with one.
    if first == 0 && admitted.speaks_kafka() {
        return kafka::serve(&session, io, upstream).await;
    }
    if first.is_ascii_graphic() && admitted.speaks_http() {
        let version = if h2.unwrap_or(is_h2) { Version::Http2 } else { Version::Http1 };
        return http::serve(session, io, upstream, version).await;
    }
    if unlimited {
        return splice::opened(&session, io, upstream).await;
    }
    Err(Reason::UnknownProtocol)
}

/// The first bytes inside: as many as tell HTTP/2 from others. None where none come.
async fn beginning(io: &mut Io) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(PREFACE.len());
    while bytes.len() < PREFACE.len() && PREFACE.starts_with(&bytes) {
        let mut part = io.take((PREFACE.len() - bytes.len()) as u64);
        match part.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    (!bytes.is_empty()).then_some(bytes)
}

/// The first bytes of a connection.
struct Opening {
    bytes: Vec<u8>,
    /// The ClientHello, if it is TLS.
    hello: Option<Hello>,
}

impl Opening {
    /// Reads until it is known whether this is TLS, and for whom. None where no byte comes.
    async fn read(stream: &mut TcpStream) -> Result<Option<Self>, Reason> {
        let mut bytes = Vec::with_capacity(2048);
        loop {
            let count = stream.read_buf(&mut bytes).await.unwrap_or(0);
            let Some(first) = bytes.first() else { return Ok(None) };
            if !looks_like_tls(*first) {
                return Ok(Some(Self { bytes, hello: None }));
            }
            if let Some(hello) = Hello::read(&bytes)? {
                return Ok(Some(Self { bytes, hello: Some(hello) }));
            }
            if count == 0 {
                return Err(Reason::MalformedHello);
            }
        }
    }
}
