//! An authoritative DNS server of the lab: hickory-server on sockets inside a namespace.
//!
//! - UDP and TCP on port 53 of each address given; the sockets are open when it is ready.
//! - Every question that reaches it is logged before it is answered: a name that a policy refuses
//!   must never appear there.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Metadata},
    rr::{LowerName, Name, Record, RecordType},
};
use hickory_server::{
    Server,
    net::{runtime::Time, xfer::Protocol},
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::{Catalog, MessageResponseBuilder},
};
use tokio::net::{TcpListener, UdpSocket};

use crate::{
    background::{Background, Ready, Stop},
    namespace::Namespace,
    zones::{self, Fresh, ZoneError},
};

const PORT: u16 = 53;
const LOG_LIMIT: usize = 65_536;
const TCP_IDLE: Duration = Duration::from_secs(10);
const TCP_RESPONSES: usize = 64;
const RECEIVE_BUFFER: usize = 4 << 20;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum DnsServerError {
    /// The zones are broken.
    #[error(transparent)]
    Zone(#[from] ZoneError),
    /// Its sockets or its thread could not be made.
    #[error("start the dns server in {namespace}: {source}")]
    Start {
        /// Where it was to run.
        namespace: String,
        /// The system's reason.
        source: io::Error,
    },
}

/// A question as it reached the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who asked, as the server saw it.
    pub from: SocketAddr,
    /// Whether it came over TCP.
    pub tcp: bool,
    /// The name, in lower case with its trailing dot.
    pub name: String,
    /// The record type asked for.
    pub kind: RecordType,
}

/// The questions that reached a server; of more than 65,536 the oldest are forgotten.
#[derive(Clone, Debug, Default)]
pub struct QuestionLog(Arc<Mutex<Questions>>);

#[derive(Debug, Default)]
struct Questions {
    total: u64,
    latest: VecDeque<Question>,
}

impl QuestionLog {
    /// How many questions there were since the start, whatever was forgotten.
    pub fn total(&self) -> u64 {
        self.with(|questions| questions.total)
    }

    /// How often the log holds `name`, whose trailing dot may be left out.
    pub fn asked(&self, name: &str) -> usize {
        let wanted = name.trim_end_matches('.').to_ascii_lowercase();
        self.with(|questions| {
            let is_wanted = |question: &&Question| question.name.trim_end_matches('.') == wanted;
            questions.latest.iter().filter(is_wanted).count()
        })
    }

    /// The questions that the log holds, oldest first.
    pub fn questions(&self) -> Vec<Question> {
        self.with(|questions| questions.latest.iter().cloned().collect())
    }

    /// Forgets the questions so far, though not their number.
    pub fn clear(&self) {
        self.with(|questions| questions.latest.clear());
    }

    fn record(&self, question: Question) {
        self.with(|questions| {
            questions.total += 1;
            if questions.latest.len() == LOG_LIMIT {
                questions.latest.pop_front();
            }
            questions.latest.push_back(question);
        });
    }

    fn with<T>(&self, look: impl FnOnce(&mut Questions) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A running server; dropping it stops it.
#[derive(Debug)]
pub struct DnsServer {
    log: QuestionLog,
    _background: Background,
}

impl DnsServer {
    /// Starts a server inside `namespace` on port 53 of each of `addresses`.
    pub fn start(namespace: &Namespace, addresses: &[IpAddr]) -> Result<DnsServer, DnsServerError> {
        let log = QuestionLog::default();
        let authority = Authority::new(log.clone())?;
        let addresses = addresses.to_vec();
        let background = Background::start(namespace, "dns", move |ready, stop| {
            serve(authority, addresses, ready, stop)
        });
        match background {
            Ok(background) => Ok(DnsServer { log, _background: background }),
            Err(source) => {
                Err(DnsServerError::Start { namespace: namespace.name().to_owned(), source })
            }
        }
    }

    /// The questions that reached it.
    pub fn log(&self) -> &QuestionLog {
        &self.log
    }
}

async fn serve(
    authority: Authority,
    addresses: Vec<IpAddr>,
    ready: Ready,
    stop: Stop,
) -> io::Result<()> {
    let mut server = Server::new(authority);
    for address in addresses {
        let socket = UdpSocket::bind((address, PORT)).await?;
        socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
        server.register_socket(socket);
        let listener = TcpListener::bind((address, PORT)).await?;
        server.register_listener(listener, TCP_IDLE, TCP_RESPONSES);
    }
    ready.say();
    stop.wait().await;
    server.shutdown_gracefully().await.map_err(io::Error::other)
}

/// Answers from the zone files, and for fresh names out of their numbers.
struct Authority {
    catalog: Catalog,
    log: QuestionLog,
}

impl Authority {
    fn new(log: QuestionLog) -> Result<Authority, ZoneError> {
        let mut catalog = Catalog::new();
        catalog.upsert(LowerName::new(&Name::root()), vec![Arc::new(zones::load()?)]);
        Ok(Authority { catalog, log })
    }
}

#[async_trait::async_trait]
impl RequestHandler for Authority {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let Ok(info) = request.request_info() else {
            return self.catalog.handle_request::<R, T>(request, response).await;
        };
        let kind = info.query.query_type();
        self.log.record(Question {
            from: info.src,
            tcp: info.protocol == Protocol::Tcp,
            name: info.query.name().to_string(),
            kind,
        });
        let Some(fresh) = Fresh::read(info.query.name()) else {
            return self.catalog.handle_request::<R, T>(request, response).await;
        };
        let answers = fresh.records(info.query.original().name(), kind);
        match answer_fresh(request, &answers, &mut response).await {
            Some(sent) => sent,
            None => self.catalog.handle_request::<R, T>(request, response).await,
        }
    }
}

/// Sends the answer; nothing if it could not be sent.
async fn answer_fresh(
    request: &Request,
    answers: &[Record],
    response: &mut impl ResponseHandler,
) -> Option<ResponseInfo> {
    let edns = request.edns.as_ref().map(|asked| {
        let mut edns = Edns::new();
        edns.set_max_payload(asked.max_payload().max(512));
        edns
    });
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.authoritative = true;
    let soa = answers.is_empty().then(zones::fresh_soa);
    let message = MessageResponseBuilder::new(&request.queries, edns.as_ref()).build(
        metadata,
        answers,
        [],
        soa.as_ref(),
        [],
    );
    response.send_response(message).await.ok()
}
