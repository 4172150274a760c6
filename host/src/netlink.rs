//! Route netlink: a socket that listens to groups and says when it has lost something, and a
//! connection for single requests. rtnetlink's own listener queues without bound, so it is used
//! for requests only.

use std::io;

use futures::{FutureExt, Stream, TryStreamExt};
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

use crate::follow::Request;

/// Larger than any single message of the kernel's (dumps come in at most 32 KiB).
const LARGEST_MESSAGE: usize = 128 * 1024;

/// A request to the kernel that failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct NetlinkError {
    /// What was asked for.
    pub what: String,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
}

impl NetlinkError {
    pub(crate) fn new(what: impl Into<String>, error: rtnetlink::Error) -> Self {
        let source = match error {
            rtnetlink::Error::NetlinkError(refusal) => refusal.to_io(),
            other => io::Error::other(other),
        };
        Self { what: what.into(), source }
    }

    /// The errno of the kernel's answer.
    pub(crate) fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

/// Opens a connection for requests in the caller's network namespace; it closes with its handle.
pub(crate) fn connect() -> Result<rtnetlink::Handle, NetlinkError> {
    let (connection, handle, _) = rtnetlink::new_connection_with_strict_check()
        .map_err(|source| NetlinkError { what: "opening a netlink socket".to_owned(), source })?;
    tokio::spawn(connection);
    Ok(handle)
}

/// Gathers a dump.
pub(crate) async fn collect<T>(
    what: &str,
    dump: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, NetlinkError> {
    dump.try_collect().await.map_err(|error| NetlinkError::new(what, error))
}

/// A socket that has joined groups.
pub(crate) struct Listener {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

impl Listener {
    /// A socket in the caller's network namespace. The size of its receive buffer bounds what may
    /// wait unread.
    pub(crate) fn join(groups: &[u32], receive_buffer: usize) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind_auto()?;
        setsockopt(socket.socket_ref(), sockopt::RcvBufForce, &receive_buffer)?;
        for group in groups {
            socket.socket_mut().add_membership(*group)?;
        }
        Ok(Self { socket, buffer: Vec::with_capacity(LARGEST_MESSAGE) })
    }

    /// Sends a request under a sequence number.
    pub(crate) async fn send(&self, sequence: u32, request: Request) -> io::Result<()> {
        let mut message = NetlinkMessage::from(request.message());
        message.header.sequence_number = sequence;
        message.header.flags = NLM_F_REQUEST;
        if !matches!(request, Request::ReadLink(_)) {
            message.header.flags |= NLM_F_DUMP;
        }
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0)).await.map(|_| ())
    }

    /// Waits for a datagram and gives its messages. ENOBUFS means that notifications were lost.
    pub(crate) async fn receive(&mut self) -> io::Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
        self.buffer.clear();
        let sender = self.socket.recv_from(&mut self.buffer).await?;
        Ok(if sender.port_number() == 0 { messages(&self.buffer) } else { Vec::new() })
    }

    /// The messages of a datagram that is there already, if one is.
    pub(crate) fn receive_now(
        &mut self,
    ) -> Option<io::Result<Vec<NetlinkMessage<RouteNetlinkMessage>>>> {
        self.receive().now_or_never()
    }
}

impl Request {
    fn message(self) -> RouteNetlinkMessage {
        let mut link = LinkMessage::default();
        match self {
            Self::DumpLinks => RouteNetlinkMessage::GetLink(link),
            Self::ReadLink(index) => {
                link.header.index = index.0;
                RouteNetlinkMessage::GetLink(link)
            }
            Self::DumpAddresses => {
                let mut address = AddressMessage::default();
                address.header.family = AddressFamily::Unspec;
                RouteNetlinkMessage::GetAddress(address)
            }
        }
    }
}

/// Takes a datagram apart. A message that cannot be read is left out: what it described is then
/// unknown, and what is unknown is denied.
fn messages(mut bytes: &[u8]) -> Vec<NetlinkMessage<RouteNetlinkMessage>> {
    let mut messages = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_ne_bytes(*length)).unwrap_or(usize::MAX);
        if length < 16 || length > rest.len() + 4 {
            break;
        }
        match NetlinkMessage::deserialize(&bytes[..length]) {
            Ok(message) => messages.push(message),
            Err(error) => tracing::warn!(%error, "a netlink message could not be read"),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    messages
}

/// The refusal in a message, if it is one.
pub(crate) fn refusal(message: &NetlinkPayload<RouteNetlinkMessage>) -> Option<io::Error> {
    match message {
        NetlinkPayload::Error(error) if error.code.is_some() => Some(error.to_io()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_whole_messages_and_leaves_what_is_broken() {
        let mut done =
            NetlinkMessage::<RouteNetlinkMessage>::new(Default::default(), NetlinkPayload::Noop);
        done.finalize();
        let mut bytes = vec![0; done.buffer_len()];
        done.serialize(&mut bytes);
        let twice = [bytes.clone(), bytes.clone()].concat();
        assert_eq!(messages(&twice).len(), 2);
        assert_eq!(messages(&twice[..twice.len() - 1]).len(), 1);
        assert_eq!(messages(&[0; 64]).len(), 0, "a length of nothing ends the datagram");
        assert_eq!(messages(&[255; 64]).len(), 0, "a length past the end too");
        assert_eq!(messages(&[]).len(), 0);
    }
}
