//! Commands in pods: the server hands the client's stream on to whoever runs the pod, and copies
//! what goes over it, whichever protocol the two speak.

use std::{io, net::TcpStream, sync::Arc};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Method, StatusCode, header},
    response::Response,
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::error::ApiError;

/// How long the head of an answer may be.
const HEAD: usize = 16 << 10;

/// A command that a client wants to run in a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodCommand {
    /// The container; the pod's only one if it is empty.
    pub container: String,
    /// The program with its arguments.
    pub command: Vec<String>,
    /// Whether there is something to read.
    pub stdin: bool,
    /// Whether a terminal is wanted.
    pub tty: bool,
}

impl PodCommand {
    /// What the parameters of a request ask for.
    pub(crate) fn read(parameters: &[(String, String)]) -> Self {
        let values = |name: &'static str| {
            parameters.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.clone())
        };
        let is_set = |name| values(name).any(|value| value == "true" || value == "1");
        Self {
            container: values("container").next().unwrap_or_default(),
            command: values("command").collect(),
            stdin: is_set("stdin"),
            tty: is_set("tty"),
        }
    }
}

/// Prepares commands in a pod, as its node's kubelet does: whom to connect for one, and the path
/// to ask for there.
pub type Kubelet = dyn Fn(&PodCommand) -> io::Result<(TcpStream, String)> + Send + Sync;

/// A request that is to become a stream.
pub(crate) struct Upgrading {
    pub method: Method,
    pub headers: HeaderMap,
    pub upgrade: Option<OnUpgrade>,
}

/// Has the kubelet begin, and the two sides talk from then on.
pub(crate) async fn stream(
    kubelet: Arc<Kubelet>,
    command: PodCommand,
    asked: Upgrading,
) -> Result<Response, ApiError> {
    let failed = |error: io::Error| ApiError::new(500, format!("the node's kubelet: {error}"));
    let Upgrading { method, headers, upgrade } = asked;
    let upgrade = upgrade.ok_or_else(|| ApiError::new(400, "Upgrade request required"))?;
    let prepared = tokio::task::spawn_blocking(move || kubelet(&command)).await;
    let (kubelet, path) = prepared.map_err(io::Error::other).flatten().map_err(failed)?;
    kubelet.set_nonblocking(true).map_err(failed)?;
    let mut kubelet = tokio::net::TcpStream::from_std(kubelet).map_err(failed)?;
    kubelet.write_all(&request(&method, &path, &headers)).await.map_err(failed)?;
    let (response, rest) = answer(&mut kubelet).await.map_err(failed)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response.map(|()| Body::from(rest)));
    }
    tokio::spawn(async move {
        let client = upgrade.await.map_err(io::Error::other)?;
        let mut client = TokioIo::new(client);
        client.write_all(&rest).await?;
        tokio::io::copy_bidirectional(&mut client, &mut kubelet).await
    });
    Ok(response.map(|()| Body::empty()))
}

/// The client's request, but for what is between it and this server.
fn request(method: &Method, path: &str, headers: &HeaderMap) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: kubelet\r\n").into_bytes();
    for (name, value) in headers {
        if *name != header::AUTHORIZATION && *name != header::HOST {
            text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
    }
    text.extend(b"\r\n");
    text
}

/// The head of the kubelet's answer, and what it has said behind that.
async fn answer(kubelet: &mut tokio::net::TcpStream) -> io::Result<(Response<()>, Bytes)> {
    let malformed = || io::Error::other("its answer is no HTTP");
    let mut said = Vec::new();
    let end = loop {
        if let Some(end) = said.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if said.len() > HEAD || kubelet.read_buf(&mut said).await? == 0 {
            return Err(malformed());
        }
    };
    let rest = Bytes::copy_from_slice(&said[end + 4..]);
    let head = std::str::from_utf8(&said[..end]).map_err(|_| malformed())?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or_else(malformed)?;
    let mut response = Response::builder().status(status);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        response = response.header(name, value);
    }
    Ok((response.body(()).map_err(io::Error::other)?, rest))
}
