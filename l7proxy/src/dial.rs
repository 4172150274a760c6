//! Connections to destinations.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};

/// After how much silence the other end is asked whether it is there, and how often then.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(15));

/// A connection that is being made.
pub type DialFuture = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Makes connections to destinations.
pub trait Dial: Send + Sync + 'static {
    /// Connects to exactly this address, from `source` if one is given.
    fn dial(&self, destination: SocketAddr, source: Option<IpAddr>) -> DialFuture;
}

/// Connections as the node itself makes them, or with a pod's address.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transparent {
    /// The firewall mark that keeps the connections from being judged again.
    pub mark: Option<u32>,
    /// The mark of those with a pod's address, so that their answers find back.
    pub pod_mark: Option<u32>,
}

impl Dial for Transparent {
    fn dial(&self, destination: SocketAddr, source: Option<IpAddr>) -> DialFuture {
        let mark = if source.is_some() { self.pod_mark.or(self.mark) } else { self.mark };
        Box::pin(async move {
            let socket = TcpSocket::from_std_stream(socket(destination, source, mark)?.into());
            let stream = socket.connect(destination).await?;
            tune(&stream)?;
            Ok(stream)
        })
    }
}

/// Sends small messages at once, and finds out when the other end is gone.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE.0).with_interval(KEEPALIVE.1);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

fn socket(
    destination: SocketAddr,
    source: Option<IpAddr>,
    mark: Option<u32>,
) -> io::Result<Socket> {
    let domain = Domain::for_address(destination);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if let Some(mark) = mark {
        SockRef::from(&socket).set_mark(mark)?;
    }
    if let Some(source) = source {
        // The address is none of the node's.
        match destination {
            SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
            SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
        }
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}
