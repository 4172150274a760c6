//! One request to the daemon over its unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime;

/// How long the daemon may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer may be, in bytes.
const MAX_ANSWER: usize = 512 << 20;

/// Where the daemon listens.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon at `socket`. It connects when it is asked for something.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks for what stands at `path`.
    pub fn read<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.request(Method::GET, path, Bytes::new())
    }

    /// Asks for the answer to `question` at `path`.
    pub fn ask<Q: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        question: &Q,
    ) -> anyhow::Result<T> {
        self.request(Method::POST, path, serde_json::to_vec(question)?.into())
    }

    /// Asks for what stands at `path` to be deleted.
    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.request(Method::DELETE, path, Bytes::new())
    }

    /// The same as [`Client::read`], for those who wait for several things at once.
    pub async fn fetch<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let (status, body) = self.exchange_in_time(Method::GET, path, Bytes::new()).await?;
        understand(status, &body)
    }

    fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<T> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (status, body) = runtime.block_on(self.exchange_in_time(method, path, body))?;
        understand(status, &body)
    }

    async fn exchange_in_time(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        match tokio::time::timeout(TIMEOUT, self.exchange(method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => bail!("fqdnd gave no answer in {} s", TIMEOUT.as_secs()),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.unreachable(&e))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "fqdnd")
            .header(header::CONNECTION, "close")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let answer = sender.send_request(request).await.context("fqdnd gave no answer")?;
        let answer = collect(answer).await;
        connection.abort();
        answer
    }

    fn unreachable(&self, error: &io::Error) -> anyhow::Error {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => "Only root may use it; try sudo.",
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                "Is it running? If it listens elsewhere, use --socket or FQDND_SOCKET."
            }
            _ => "Is that fqdnd's socket?",
        };
        anyhow!("cannot reach fqdnd at {}: {error}. {hint}", self.socket.display())
    }
}

async fn collect(answer: Response<Incoming>) -> anyhow::Result<(StatusCode, Bytes)> {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| anyhow!("cannot read fqdnd's answer: {error}"))?;
    Ok((status, body.to_bytes()))
}

fn understand<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> anyhow::Result<T> {
    if !status.is_success() {
        bail!(refusal(status, body));
    }
    serde_json::from_slice(body)
        .context("cannot read fqdnd's answer; are fqdnd and fqdnctl of one version?")
}

/// What the daemon says about why it does not do what it was asked.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice::<api::Error>(body) {
        Ok(error) => error.message,
        Err(_) if status == StatusCode::NOT_FOUND => {
            "fqdnd does not know this request; are fqdnd and fqdnctl of one version?".to_owned()
        }
        Err(_) => format!("fqdnd answered {status}"),
    }
}
