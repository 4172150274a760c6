//! What hosts and pods of the lab serve, on every address that they have.
//!
//! | port | what |
//! |---|---|
//! | 7, TCP and UDP | echo |
//! | 80, 8080 | HTTP, see `http.rs` |
//! | 443, 8443 | a greeting line, then echo |
//! | 3306, 5432, 6379, 6443, 9092 | the same, where databases, API servers and brokers are met |
//!
//! Connections are bounded in number and in time; beyond the bound they wait in the backlog.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{Ipv6Addr, SocketAddr},
    os::fd::AsRawFd,
    sync::Arc,
    time::Duration,
};

use nix::{
    cmsg_space,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt,
        sockopt::Ipv6RecvPacketInfo,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use crate::{
    background::{Background, Ready, Stop},
    http,
    namespace::Namespace,
};

const CONNECTIONS: usize = 8_192;
const BACKLOG: u32 = 4_096;
const LIFETIME: Duration = Duration::from_secs(660);

/// The ports that every host serves.
#[derive(Debug)]
pub struct Ports;

impl Ports {
    /// Echo, over TCP and UDP.
    pub const ECHO: u16 = 7;
    /// HTTP.
    pub const HTTP: u16 = 80;
    /// HTTP once more, on a port that policies leave out.
    pub const HTTP_ALT: u16 = 8080;
    /// A greeting, then echo.
    pub const GREET: u16 = 443;
    /// The same, on a port that policies leave out.
    pub const GREET_ALT: u16 = 8443;
    /// Greetings at the ports of MySQL, PostgreSQL, Redis, a Kubernetes API server and Kafka.
    pub const KNOWN: [u16; 5] = [3306, 5432, 6379, 6443, 9092];
}

/// Why a host's services did not start.
#[derive(Debug, thiserror::Error)]
#[error("start the services in {namespace}: {source}")]
pub struct HostServicesError {
    namespace: String,
    source: io::Error,
}

/// A host's running services; dropping them stops them.
#[derive(Debug)]
pub struct HostServices {
    _background: Background,
}

impl HostServices {
    /// Starts the services inside `namespace`; `banner` is how the host names itself.
    pub fn start(namespace: &Namespace, banner: &str) -> Result<HostServices, HostServicesError> {
        let banner: Arc<str> = banner.into();
        let background =
            Background::start(namespace, "services", move |ready, stop| run(banner, ready, stop));
        match background {
            Ok(background) => Ok(HostServices { _background: background }),
            Err(source) => {
                Err(HostServicesError { namespace: namespace.name().to_owned(), source })
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Service {
    Echo,
    Greet,
    Http,
}

async fn run(banner: Arc<str>, ready: Ready, stop: Stop) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut tasks = JoinSet::new();
    let services = [
        (Ports::ECHO, Service::Echo),
        (Ports::HTTP, Service::Http),
        (Ports::HTTP_ALT, Service::Http),
        (Ports::GREET, Service::Greet),
        (Ports::GREET_ALT, Service::Greet),
    ];
    let known = Ports::KNOWN.map(|port| (port, Service::Greet));
    for (port, service) in services.into_iter().chain(known) {
        tasks.spawn(accept(listen(port)?, service, Arc::clone(&banner), Arc::clone(&slots)));
    }
    let udp = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, Ports::ECHO)).await?;
    setsockopt(&udp, Ipv6RecvPacketInfo, &true)?;
    tasks.spawn(echo_datagrams(udp));
    ready.say();
    stop.wait().await;
    tasks.shutdown().await;
    Ok(())
}

/// Listens on both families at once.
fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, service: Service, banner: Arc<str>, slots: Arc<Semaphore>) {
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await;
        // A client that is gone again before it is accepted is none of our troubles.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let banner = Arc::clone(&banner);
        tokio::spawn(async move {
            let served = async {
                match service {
                    Service::Echo => echo(stream).await,
                    Service::Greet => greet(stream, &banner).await,
                    Service::Http => http::serve(stream, &banner).await,
                }
            };
            // However it ends, the client sees it on its side.
            let _ = timeout(LIFETIME, served).await;
            drop(slot);
        });
    }
}

async fn greet(mut stream: TcpStream, banner: &str) -> io::Result<()> {
    let address = stream.local_addr()?.ip().to_canonical();
    stream.write_all(format!("{banner} at {address}\n").as_bytes()).await?;
    echo(stream).await
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length]).await?;
    }
}

/// Sends every datagram back from the very address that it was sent to.
async fn echo_datagrams(socket: UdpSocket) {
    loop {
        // An answer that cannot be sent is as one that the network lost.
        let _ = socket.async_io(Interest::READABLE, || echo_datagram(&socket)).await;
    }
}

fn echo_datagram(socket: &UdpSocket) -> io::Result<()> {
    let mut buffer = [0; 65_535];
    let mut control = cmsg_space!(libc::in6_pktinfo);
    let mut into = [IoSliceMut::new(&mut buffer)];
    let descriptor = socket.as_raw_fd();
    let flags = MsgFlags::MSG_DONTWAIT;
    let received = recvmsg::<SockaddrIn6>(descriptor, &mut into, Some(&mut control), flags)?;
    let local = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(info),
        _ => None,
    });
    let (peer, length) = (received.address, received.bytes);
    let Some(local) = local else {
        return Err(io::Error::other("a datagram without its destination"));
    };
    let source = libc::in6_pktinfo { ipi6_ifindex: 0, ..local };
    let control = [ControlMessage::Ipv6PacketInfo(&source)];
    sendmsg(descriptor, &[IoSlice::new(&buffer[..length])], &control, flags, peer.as_ref())?;
    Ok(())
}
