//! Destinations.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A server that tells what it was asked: one line with method, path and host, one for each header
/// that begins with `x-`, then the body.
pub struct Echo {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Echo {
    /// How many connections it took.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub async fn http1() -> Self {
        Self::start(false, None).await
    }

    pub async fn http2() -> Self {
        Self::start(true, None).await
    }

    /// In TLS, with the protocol that is agreed on.
    pub async fn tls(config: ServerConfig) -> Self {
        Self::start(false, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn start(http2: bool, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                stream.set_nodelay(true).unwrap();
                tokio::spawn(serve(stream, http2, tls.clone()));
            }
        });
        Self { address, connections }
    }
}

async fn serve(stream: TcpStream, http2: bool, tls: Option<TlsAcceptor>) {
    let Some(tls) = tls else { return speak(stream, http2).await };
    let Ok(stream) = tls.accept(stream).await else { return };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    speak(stream, http2).await;
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, http2: bool) {
    let io = TokioIo::new(stream);
    // How a connection ended is the test's affair.
    let _ = if http2 {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.serve_connection(io, service_fn(tell)).await
    } else {
        let builder = hyper::server::conn::http1::Builder::new();
        builder.serve_connection(io, service_fn(tell)).await
    };
}

async fn tell(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let host = parts.headers.get("host").map(|host| host.to_str().unwrap().to_owned());
    let host = parts.uri.authority().map(ToString::to_string).or(host).unwrap_or_default();
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let mut text = format!("{} {path} {host}\n", parts.method);
    let own = parts.headers.iter().filter(|(name, _)| name.as_str().starts_with("x-"));
    let mut lines: Vec<String> =
        own.map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
    lines.sort();
    text += &lines.concat();
    let Ok(body) = body.collect().await else { return Ok(Response::new(Full::default())) };
    if let Some(trailers) = body.trailers() {
        text += &format!("{} trailers\n", trailers.len());
    }
    text += &String::from_utf8_lossy(&body.to_bytes());
    Ok(Response::new(Full::from(text)))
}

/// A server that answers each connection's bytes, up to the first empty line, with these, and then
/// gives back what else it gets.
pub async fn scripted(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    head.push(byte);
                }
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    address
}
