//! Clients: connections that live on, over which requests and answers go to and fro.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustls::crypto::ring;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// The name that is asked for in TLS.
pub const NAME: &str = "bench.example";
/// How many clients ask at once.
const CLIENTS: usize = 2;
const REQUEST: &[u8] = b"GET /v1/bench HTTP/1.1\r\nhost: bench.example\r\n\r\n";
const END: &[u8] = b"\r\n\r\nok";
const MESSAGE: [u8; 64] = [7; 64];
const PATIENCE: Duration = Duration::from_secs(10);

/// What is said on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// Small requests of HTTP/1.
    Http,
    /// A ClientHello, and then messages that come back as they are.
    Tcp,
}

/// A connection.
pub struct Connection {
    stream: TcpStream,
    spoken: Spoken,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects, and has one exchange.
    pub fn open(to: SocketAddr, spoken: Spoken) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE).context("connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut own = Self { stream, spoken, buffer: vec![0; 4096] };
        match spoken {
            Spoken::Http => own.exchange()?,
            Spoken::Tcp => {
                let hello = hello()?;
                own.stream.write_all(&hello)?;
                let mut back = vec![0; hello.len()];
                own.stream.read_exact(&mut back).context("the ClientHello does not come back")?;
            }
        }
        Ok(own)
    }

    /// Asks, and waits for the answer.
    pub fn exchange(&mut self) -> Result<()> {
        self.ask()?;
        self.hear()
    }

    fn ask(&mut self) -> Result<()> {
        let message = match self.spoken {
            Spoken::Http => REQUEST,
            Spoken::Tcp => &MESSAGE,
        };
        Ok(self.stream.write_all(message)?)
    }

    fn hear(&mut self) -> Result<()> {
        let mut length = 0;
        loop {
            let count = self.stream.read(&mut self.buffer[length..]).context("no answer")?;
            ensure!(count > 0, "the connection ended");
            length += count;
            let heard = &self.buffer[..length];
            let is_whole = match self.spoken {
                Spoken::Http => heard.ends_with(END),
                Spoken::Tcp => length == MESSAGE.len(),
            };
            if is_whole {
                ensure!(
                    self.spoken == Spoken::Tcp || heard.starts_with(b"HTTP/1.1 200"),
                    "refused"
                );
                return Ok(());
            }
            ensure!(length < self.buffer.len(), "the answer is too long");
        }
    }
}

/// Keeps so many connections busy for so long; how many exchanges there were.
pub fn crowd(to: SocketAddr, spoken: Spoken, connections: usize, time: Duration) -> Result<u64> {
    let client = || -> Result<u64> {
        let open = |_| Connection::open(to, spoken);
        let mut own = (0..connections / CLIENTS).map(open).collect::<Result<Vec<_>>>()?;
        let (begun, mut count) = (Instant::now(), 0);
        while begun.elapsed() < time {
            own.iter_mut().try_for_each(Connection::ask)?;
            own.iter_mut().try_for_each(Connection::hear)?;
            count += own.len() as u64;
        }
        Ok(count)
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let counts = clients.into_iter().map(|own| own.join().map_err(|_| anyhow!("a panic"))?);
        counts.sum()
    })
}

/// The median of so many exchanges, one after the other.
pub fn alone(to: SocketAddr, spoken: Spoken, exchanges: usize) -> Result<Duration> {
    let mut connection = Connection::open(to, spoken)?;
    let mut times = Vec::with_capacity(exchanges);
    for _ in 0..exchanges {
        let begun = Instant::now();
        connection.exchange()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[exchanges / 2])
}

/// The bytes with which a client of TLS begins.
fn hello() -> Result<Vec<u8>> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), NAME.try_into()?)?;
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes)?;
    Ok(bytes)
}
