//! A web server of the lab as they are in the world: HTTP/1 and HTTP/2, with TLS or without, on
//! connections that live on. It takes a port of a host's own services over.
//!
//! - `/drip` sends a line every 50 ms for ten minutes.
//! - Anything else says what was asked, by which protocol, from where, with which headers and body.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{Request, Response, body::Frame, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    authority::Identity,
    background::{Background, Ready, Stop},
    namespace::Namespace,
};

const DRIPS: u32 = 12_000;
const DRIP_PAUSE: Duration = Duration::from_millis(50);
/// What is kept of a request's body.
const SHOWN: usize = 64;

type Body = BoxBody<Bytes, Infallible>;

/// A running web server.
#[derive(Debug)]
pub struct WebServer {
    requests: Arc<Mutex<Vec<String>>>,
    _background: Background,
}

impl WebServer {
    /// Starts one in the place of what `namespace` serves at `port`, with TLS if it has a
    /// certificate.
    pub fn start(
        namespace: &Namespace,
        port: u16,
        certificate: Option<&Identity>,
    ) -> io::Result<WebServer> {
        let tls = certificate.map(acceptor).transpose()?;
        let requests = Arc::new(Mutex::default());
        let log = Arc::clone(&requests);
        let behind = 20_000 + port;
        let serve = move |ready, stop| run(behind, tls, log, ready, stop);
        let background = Background::start(namespace, "web", serve)?;
        take_over(namespace, port, behind)?;
        Ok(WebServer { requests, _background: background })
    }

    /// What was asked so far, as `METHOD PATH`.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Has connections to one port of the namespace's come to another.
pub fn take_over(namespace: &Namespace, port: u16, behind: u16) -> io::Result<()> {
    let table = format!("taken-{port}");
    let rules = format!(
        "add table inet {table}\n\
         delete table inet {table}\n\
         add table inet {table}\n\
         add chain inet {table} taken {{ type nat hook prerouting priority dstnat; }}\n\
         add rule inet {table} taken tcp dport {port} redirect to :{behind}\n\
         add chain inet {table} own {{ type nat hook output priority -100; }}\n\
         add rule inet {table} own fib daddr type local tcp dport {port} redirect to :{behind}\n"
    );
    let mut command: Command = namespace.command("nft");
    let status = command.arg(rules).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("nft: {status}"))) }
}

/// Ends TLS with a certificate.
pub(crate) fn acceptor(identity: &Identity) -> io::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_slice_iter(identity.chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(io::Error::other)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn run(
    port: u16,
    tls: Option<TlsAcceptor>,
    log: Arc<Mutex<Vec<String>>>,
    ready: Ready,
    stop: Stop,
) -> io::Result<()> {
    let listener = TcpListener::bind(("::", port)).await?;
    ready.say();
    let accept = async {
        let mut connections = JoinSet::new();
        loop {
            if let Ok((stream, peer)) = listener.accept().await {
                connections.spawn(serve(stream, peer, tls.clone(), Arc::clone(&log)));
            }
        }
    };
    tokio::select! {
        () = accept => Ok(()),
        () = stop.wait() => Ok(()),
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    log: Arc<Mutex<Vec<String>>>,
) {
    let service = service_fn(move |request| answer(request, peer, Arc::clone(&log)));
    let server = auto::Builder::new(TokioExecutor::new());
    // How a connection ends is its client's business.
    let _ = match tls {
        None => server.serve_connection_with_upgrades(TokioIo::new(stream), service).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => server.serve_connection(TokioIo::new(stream), service).await,
            Err(_) => return,
        },
    };
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
) -> Result<Response<Body>, hyper::Error> {
    let (head, body) = request.into_parts();
    let asked =
        format!("{} {}", head.method, head.uri.path_and_query().map_or("", |own| own.as_str()));
    log.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
    if head.uri.path() == "/drip" {
        return Ok(Response::new(drip()));
    }
    let body = body.collect().await?.to_bytes();
    let from = peer.ip().to_canonical();
    let mut text = format!("{:?} {asked} from {from}\n", head.version);
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    }
    let shown = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).into_owned();
    text.push_str(&format!("{} bytes: {shown}\n", body.len()));
    Ok(Response::new(Full::from(text).boxed()))
}

fn drip() -> Body {
    let lines = stream::unfold(0, |drop| async move {
        sleep(DRIP_PAUSE).await;
        let line = Frame::data(Bytes::from(format!("drop {drop}\n")));
        (drop < DRIPS).then_some((Ok(line), drop + 1))
    });
    StreamBody::new(lines).boxed()
}
