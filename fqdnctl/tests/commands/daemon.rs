//! A daemon that gives the same answer to every request, and remembers what it was asked.

use std::convert::Infallible;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tempfile::TempDir;

/// A listening daemon. It ends with the test.
pub struct Daemon {
    directory: TempDir,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    /// A daemon that answers `body`.
    pub fn answering<T: Serialize + ?Sized>(body: &T) -> Self {
        Self::refusing(200, body)
    }

    /// A daemon that answers `body` with this status.
    pub fn refusing<T: Serialize + ?Sized>(status: u16, body: &T) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("fqdnd.sock")).unwrap();
        let body = Bytes::from(serde_json::to_vec(body).unwrap());
        let requests = Arc::default();
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || serve(&listener, status, &body, &seen));
        Self { directory, requests }
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("fqdnd.sock")
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// fqdnctl with these arguments, asking this daemon.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = super::fqdnctl();
        command.env("FQDND_SOCKET", self.socket()).args(arguments);
        command
    }

    /// What that prints.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

fn serve(listener: &UnixListener, status: u16, body: &Bytes, seen: &Mutex<Vec<String>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        stream.set_nonblocking(true).unwrap();
        runtime.block_on(async {
            let stream = TokioIo::new(tokio::net::UnixStream::from_std(stream).unwrap());
            let answer = service_fn(|request: Request<Incoming>| {
                seen.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
                let answer = Response::builder().status(status).body(Full::new(body.clone()));
                async { Ok::<_, Infallible>(answer.unwrap()) }
            });
            // A client that goes away early, as one does here on purpose, is an error.
            let _ = http1::Builder::new().serve_connection(stream, answer).await;
        });
    }
}
