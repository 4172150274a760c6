//! Tries L7 rules without a node: a proxy on loopback, before one destination.
//!
//! ```text
//! cargo run -p fqdnd-l7proxy --example loopback -- 127.0.0.1:8080 127.0.0.1:80 rules.json
//! ```
//!
//! The rules are those of one destination and port, as the daemon would send them; a change of the
//! file counts from the next request on. Each record is printed as a line of JSON.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use l7proxy::{Dial, DialFuture, Options, Proxy};
use l7proxy_core::control::{FromProxy, Inbox, Judgement, ToProxy, encode};
use l7proxy_core::{Reason, Unmatched};
use model::EndpointId;
use tokio::net::TcpStream;

#[derive(Parser)]
struct Arguments {
    /// Where clients connect.
    listen: SocketAddr,
    /// Where allowed requests go.
    destination: SocketAddr,
    /// A file with the rules.
    rules: PathBuf,
}

struct Always(SocketAddr);

impl Dial for Always {
    fn dial(&self, _: SocketAddr, _: Option<IpAddr>) -> DialFuture {
        Box::pin(TcpStream::connect(self.0))
    }
}

fn main() -> anyhow::Result<()> {
    let Arguments { listen, destination, rules } = Arguments::parse();
    let listener = TcpListener::bind(listen).with_context(|| format!("cannot bind {listen}"))?;
    let (ours, theirs) = UnixStream::pair()?;
    let watched = ours.try_clone()?;
    let file = rules.clone();
    std::thread::spawn(move || watch(watched, &file));
    std::thread::spawn(move || answer(ours, &rules));
    let runtime = tokio::runtime::Runtime::new()?;
    let stopped = runtime.block_on(async {
        match Proxy::new(Options::default(), theirs, vec![listener], Always(destination)) {
            Ok(proxy) => proxy.run().await,
            Err(stopped) => stopped,
        }
    });
    Err(stopped.into())
}

/// When the file was last changed, in seconds: what stands for the rules' revision.
fn revision(file: &Path) -> u64 {
    let modified = file.metadata().and_then(|metadata| metadata.modified()).ok();
    let age = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    age.map_or(0, |age| age.as_secs())
}

/// Tells the proxy of changes.
fn watch(mut socket: UnixStream, file: &Path) -> anyhow::Result<()> {
    loop {
        socket.write_all(&encode(&ToProxy::Revision(revision(file)))?)?;
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn judge(file: &Path) -> anyhow::Result<Judgement> {
    let rules = serde_json::from_slice(&std::fs::read(file)?)?;
    let (revision, endpoint) = (revision(file), EndpointId(1));
    let unmatched = Unmatched::Refused;
    Ok(Judgement { revision, endpoint, rules, unmatched, resolved: None, from_pod_address: false })
}

/// Answers the proxy's questions, and prints its records.
fn answer(mut socket: UnixStream, file: &Path) -> anyhow::Result<()> {
    let (mut inbox, mut buffer) = (Inbox::default(), vec![0; 65536]);
    loop {
        let count = socket.read(&mut buffer)?;
        anyhow::ensure!(count > 0, "the proxy is gone");
        inbox.push(&buffer[..count]);
        while let Some(message) = inbox.take::<FromProxy>()? {
            match message {
                FromProxy::Ask { question, .. } => {
                    let judgement = judge(file).map_err(|error| {
                        eprintln!("{}: {error}", file.display());
                        Reason::NoRules
                    });
                    socket.write_all(&encode(&ToProxy::Judgement { question, judgement })?)?;
                }
                FromProxy::Access(access) => println!("{}", serde_json::to_string(&access)?),
                FromProxy::Lost(_) | FromProxy::Tally(_) => {}
            }
        }
    }
}
