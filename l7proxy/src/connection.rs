//! A connection from its arrival to the protocol that it speaks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use l7proxy_core::control::{Access, Asked, Judgement};
use l7proxy_core::hello::{Hello, looks_like_tls};
use l7proxy_core::{Fate, Protocol, Reason, Unmatched};
use model::EndpointId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::dial;
use crate::http::{self, Version};
use crate::kafka;
use crate::prefixed::{Io, Prefixed};
use crate::proxy::Shared;
use crate::session::{Handling, Newcomer, Opening, Session, Standing};
use crate::splice;
use crate::tls::{self, Ends};

/// How a connection of HTTP/2 begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a client says nothing before it is thought to wait for its server, where that may be.
const RETICENCE: Duration = Duration::from_secs(1);
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
        let (request, fate, micros) = (Asked::Connection, Fate::Refused(reason), None);
        let access = Access { endpoint, client, destination, server_name, request, fate, micros };
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
        let beginning = Beginning::wait(&mut stream, &newcomer, &judgement).await;
        let Some(beginning) = beginning.map_err(known)? else { return Ok(()) };
        let Beginning { bytes, opening, dialed } = beginning;
        let hello = match &opening {
            Opening::Tls(hello) => Some(hello),
            Opening::Plain | Opening::Unreadable(_) => None,
        };
        let (server_name, is_tls) = (hello.and_then(Hello::server_name_text), hello.is_some());
        let io = Box::new(Prefixed::new(bytes, stream));
        let outcome = match Session::begin(&newcomer, &judgement, opening, dialed) {
            Ok(session) => speak(Arc::new(session), io).await,
            Err(reason) => {
                refuse_openly(io, is_tls).await;
                Err(reason)
            }
        };
        outcome.map_err(|reason| Refused { endpoint, server_name, reason })
    }
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
    let standing = session.standing().await?;
    match session.handling().clone() {
        Handling::Splice => splice::untouched(&session, io, standing.breach).await,
        Handling::Plain(originate) => {
            let upstream = Ends::plain(originate);
            talk(session, Inside { io, standing, upstream, h2: None }).await
        }
        Handling::Terminate(terminate, originate) => {
            let (io, upstream, h2) = tls::intercept(&session, io, &terminate, &originate).await?;
            talk(session, Inside { io, standing, upstream, h2: Some(h2) }).await
        }
    }
}

/// A connection whose bytes can be read.
struct Inside {
    io: Io,
    standing: Standing,
    upstream: Ends,
    /// Whether HTTP/2 was agreed on, where there was a way to.
    h2: Option<bool>,
}

/// Finds out what is spoken, and speaks it.
async fn talk(session: Arc<Session>, inside: Inside) -> Result<(), Reason> {
    let Inside { mut io, standing, upstream, h2 } = inside;
    let Some(admitted) = standing.admitted else {
        return splice::opened(&session, io, upstream, standing.breach).await;
    };
    let unlimited = admitted.allows_anything();
    if unlimited && !admitted.speaks_http() && !admitted.speaks_kafka() {
        return splice::opened(&session, io, upstream, None).await;
    }
    let audits = standing.unmatched == Unmatched::Audited;
    let mut bytes = Vec::with_capacity(PREFACE.len());
    let patience = session.shared.options.opening_time();
    let begun = timeout(patience, first_bytes(&mut io, &mut bytes, audits)).await;
    let in_time = begun.is_ok();
    if !in_time && !audits {
        return Err(Reason::SlowClient);
    }
    if in_time && bytes.is_empty() {
        return Ok(());
    }
    // Where rules are enforced, the protocols' readers refuse what only begins like theirs.
    let could_be = |protocol| !audits || Protocol::of(&bytes) == Some(protocol);
    let first = bytes.first().copied().unwrap_or_default();
    // A Kafka request begins with its length, whose highest byte is 0; no method begins with one.
    let is_kafka = first == 0 && admitted.speaks_kafka() && could_be(Protocol::Kafka);
    let is_http = first.is_ascii_graphic() && admitted.speaks_http() && could_be(Protocol::Http);
    let is_h2 = h2.unwrap_or(bytes.starts_with(PREFACE));
    let io: Io = Box::new(Prefixed::new(bytes, io));
    if is_kafka {
        return kafka::serve(&session, io, upstream).await;
    }
    if is_http {
        let version = if is_h2 { Version::Http2 } else { Version::Http1 };
        return http::serve(session, io, upstream, version).await;
    }
    let breach = match unlimited {
        true => None,
        false => Some(standing.unmatched.judge(Reason::UnknownProtocol)?),
    };
    splice::opened(&session, io, upstream, breach).await
}

/// Reads the first bytes inside: as many as tell HTTP/2 from others, and any protocol from any
/// other where that matters. None come where the client is done.
async fn first_bytes(io: &mut Io, bytes: &mut Vec<u8>, any: bool) {
    let is_enough = |bytes: &[u8]| {
        let tells_http2 = bytes.len() >= PREFACE.len() || !PREFACE.starts_with(bytes);
        tells_http2 && (!any || Protocol::of(bytes).is_some())
    };
    while !is_enough(bytes) {
        match io.read_buf(bytes).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
}

/// The first bytes of a connection.
struct Beginning {
    bytes: Vec<u8>,
    opening: Opening,
    /// The connection to the destination, where it had to be made to know who begins.
    dialed: Option<TcpStream>,
}

impl Beginning {
    /// Waits until it is known how a connection opens. None where no byte comes.
    async fn wait(
        stream: &mut TcpStream,
        newcomer: &Newcomer,
        judgement: &Judgement,
    ) -> Result<Option<Self>, Reason> {
        let mut bytes = Vec::with_capacity(2048);
        let options = &newcomer.shared.options;
        let patience = match judgement.unmatched {
            Unmatched::Refused => options.opening_time(),
            Unmatched::Audited => options.opening_time().min(RETICENCE),
        };
        let mut dialed = None;
        let opening = match timeout(patience, open(stream, &mut bytes)).await {
            Ok(opening) => opening,
            Err(_) if judgement.unmatched == Unmatched::Refused => return Err(Reason::SlowClient),
            Err(_) => {
                let Newcomer { shared, client, destination } = newcomer;
                let server = shared.reach(*client, *destination, judgement.from_pod_address).await;
                let server = dialed.insert(server?);
                tokio::select! {
                    biased;
                    opening = open(stream, &mut bytes) => opening,
                    _ = server.readable() => Some(Opening::Unreadable(Reason::UnknownProtocol)),
                    () = tokio::time::sleep(options.idle_time()) => None,
                }
            }
        };
        Ok(opening.map(|opening| Self { bytes, opening, dialed }))
    }
}

/// Reads until it is known whether this is TLS, and for whom. None where no byte comes.
async fn open(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Opening> {
    loop {
        let count = stream.read_buf(bytes).await.unwrap_or(0);
        let first = bytes.first()?;
        if !looks_like_tls(*first) {
            return Some(Opening::Plain);
        }
        match Hello::read(bytes) {
            Ok(Some(hello)) => return Some(Opening::Tls(hello)),
            Ok(None) if count > 0 => {}
            Ok(None) => return Some(Opening::Unreadable(Reason::MalformedHello)),
            Err(reason) => return Some(Opening::Unreadable(reason)),
        }
    }
}
