//! What a pod can reach, as its packets tell: single connections, and transfers that go on while
//! something happens to the node.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    hosts::Ports,
    namespace::{Namespace, NamespaceError},
    wait::{TimedOut, wait_until},
};

/// What is not open by then has lost its first packet. The kernels of both sides open a connection,
/// so it takes no time; and it is given up long before the second after which TCP would send its SYN
/// again, so that a probe is one packet on a busy machine, too.
const FIRST_PACKET: Duration = Duration::from_millis(500);
/// How long the program on the other side may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a transfer has stood still when it is over.
const STALLED: Duration = Duration::from_millis(1_500);
/// How long the rest of a transfer may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of trying to reach an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It answered.
    Open,
    /// It said no: nothing listens there, and the packets went both ways.
    Refused,
    /// Nothing came back.
    Silent,
    /// The system knew no way, or was told of none.
    Unreachable,
}

impl Reach {
    /// Opens a TCP connection from inside `namespace`.
    pub fn tcp(namespace: &Namespace, to: SocketAddr) -> Result<Reach, NamespaceError> {
        namespace.run(|| Reach::of(TcpStream::connect_timeout(&to, FIRST_PACKET).map(drop)))
    }

    /// Sends one datagram to the echo service of `to` from inside `namespace`.
    pub fn udp(namespace: &Namespace, to: IpAddr) -> Result<Reach, NamespaceError> {
        namespace.run(|| Reach::of(echo_datagram(to)))
    }

    pub(crate) fn of(outcome: io::Result<()>) -> Reach {
        match outcome.map_err(|error| error.kind()) {
            Ok(()) => Reach::Open,
            Err(ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset) => Reach::Refused,
            Err(ErrorKind::TimedOut | ErrorKind::WouldBlock) => Reach::Silent,
            Err(_) => Reach::Unreachable,
        }
    }
}

fn echo_datagram(to: IpAddr) -> io::Result<()> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(ANSWER))?;
    socket.connect((to, Ports::ECHO))?;
    socket.send(b"?")?;
    socket.recv(&mut [0; 1]).map(drop)
}

/// A transfer that goes on for ten minutes: the other side sends a line every 100 ms.
#[derive(Debug)]
pub struct Transfer {
    stream: TcpStream,
    received: Arc<AtomicU64>,
    last: Arc<Mutex<Instant>>,
    reader: Option<JoinHandle<()>>,
}

impl Transfer {
    /// Opens a connection from inside `namespace` to the HTTP service of `from`.
    pub fn start(namespace: &Namespace, from: IpAddr) -> io::Result<Transfer> {
        let target = SocketAddr::new(from, Ports::HTTP);
        let mut stream = namespace
            .run(|| TcpStream::connect_timeout(&target, FIRST_PACKET))
            .map_err(io::Error::other)??;
        stream.write_all(b"GET /drip HTTP/1.1\r\nhost: lab\r\n\r\n")?;
        let received = Arc::new(AtomicU64::new(0));
        let last = Arc::new(Mutex::new(Instant::now()));
        let reader = std::thread::spawn({
            let mut stream = stream.try_clone()?;
            let (received, last) = (Arc::clone(&received), Arc::clone(&last));
            move || count(&mut stream, &received, &last)
        });
        Ok(Transfer { stream, received, last, reader: Some(reader) })
    }

    /// The octets that have arrived.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// When something last arrived.
    pub fn last_arrival(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until more has arrived than by now: 10 lines a second are sent.
    pub fn goes_on(&self) -> Result<Duration, TimedOut> {
        let before = self.received();
        wait_until("more of the transfer", PATIENCE, || self.received() > before)
    }

    /// Waits, within `limit`, for a moment from which nothing arrives any more.
    pub fn ends(&self, limit: Duration) -> Result<Duration, TimedOut> {
        wait_until("the end of the transfer", limit, || self.last_arrival().elapsed() >= STALLED)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn count(stream: &mut TcpStream, received: &AtomicU64, last: &Mutex<Instant>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        // A buffer's length fits.
        received.fetch_add(length as u64, Ordering::Relaxed);
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}
