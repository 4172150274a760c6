//! Keeps a snapshot of the node up to date from netlink notifications.
//!
//! One task, one socket at a time, no timer. When the kernel says that it lost notifications, a
//! new socket reads everything anew, and readers see one snapshot with all that has changed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc;
use rtnetlink::packet_core::{NLM_F_DUMP_INTR, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::follow::{Follower, Input};
use crate::message;
use crate::netlink::{self, Listener};
use crate::node::Node;

const GROUP_LINK: u32 = 1;
const GROUP_IPV4_ADDRESS: u32 = 5;
const GROUP_IPV6_ADDRESS: u32 = 9;

/// So many datagrams are taken in before a snapshot is shown, so that a burst makes few of them.
const BATCH: usize = 64;

/// Why watching could not start or came to an end.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The socket could not be opened, or broke.
    #[error("the netlink socket that watches links and addresses: {0}")]
    Socket(#[source] io::Error),
    /// The kernel did not want to say what is there.
    #[error("the kernel refused to list links or addresses: {0}")]
    Refused(#[source] io::Error),
    /// The task was ended from outside.
    #[error("the task that watches links and addresses was ended")]
    Ended,
}

/// How to watch.
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions {
    /// Bytes of notifications that may wait in the kernel; above it everything is read anew.
    pub receive_buffer: usize,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self { receive_buffer: 4 << 20 }
    }
}

/// A running watch; dropping it ends it.
#[derive(Debug)]
pub struct Watcher {
    snapshots: watch::Receiver<Arc<Node>>,
    overflows: Arc<AtomicU64>,
    task: JoinHandle<WatchError>,
}

impl Watcher {
    /// The snapshots from now on, the present one first. The channel closes if watching fails.
    pub fn snapshots(&self) -> watch::Receiver<Arc<Node>> {
        self.snapshots.clone()
    }

    /// How often notifications were lost and everything was read anew.
    pub fn overflows(&self) -> u64 {
        self.overflows.load(Ordering::Relaxed)
    }

    /// Waits until watching fails, and says why.
    pub async fn failed(&mut self) -> WatchError {
        (&mut self.task).await.unwrap_or(WatchError::Ended)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Watches the network namespace of the calling process; returns when the first snapshot is whole.
pub async fn watch(options: WatchOptions) -> Result<Watcher, WatchError> {
    let overflows = Arc::new(AtomicU64::new(0));
    let mut session = Session::open(options, Node::default(), overflows.clone())?;
    let node = session.first_snapshot().await?;
    let (sender, snapshots) = watch::channel(Arc::new(node));
    let task = tokio::spawn(async move {
        match session.run(&sender).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    });
    Ok(Watcher { snapshots, overflows, task })
}

/// A socket and the follower that reads it.
struct Session {
    options: WatchOptions,
    overflows: Arc<AtomicU64>,
    listener: Listener,
    follower: Follower,
}

impl Session {
    fn open(
        options: WatchOptions,
        earlier: Node,
        overflows: Arc<AtomicU64>,
    ) -> Result<Self, WatchError> {
        let groups = [GROUP_LINK, GROUP_IPV4_ADDRESS, GROUP_IPV6_ADDRESS];
        let listener =
            Listener::join(&groups, options.receive_buffer).map_err(WatchError::Socket)?;
        Ok(Self { options, overflows, listener, follower: Follower::after(earlier) })
    }

    async fn first_snapshot(&mut self) -> Result<Node, WatchError> {
        loop {
            self.step().await?;
            if let Some(node) = self.follower.poll_snapshot() {
                return Ok(node.clone());
            }
        }
    }

    async fn run(
        mut self,
        sender: &watch::Sender<Arc<Node>>,
    ) -> Result<std::convert::Infallible, WatchError> {
        loop {
            self.step().await?;
            if let Some(node) = self.follower.poll_snapshot() {
                sender.send_replace(Arc::new(node.clone()));
            }
        }
    }

    /// Sends what is to be asked, and takes in what is there, waiting for at least one datagram.
    async fn step(&mut self) -> Result<(), WatchError> {
        while let Some((sequence, request)) = self.follower.poll_request() {
            self.listener.send(sequence, request).await.map_err(WatchError::Socket)?;
        }
        let mut received = self.listener.receive().await;
        for taken in 1.. {
            match received {
                Ok(messages) => self.take_in(messages)?,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return self.reopen();
                }
                Err(error) => return Err(WatchError::Socket(error)),
            }
            if taken == BATCH {
                break;
            }
            let Some(more) = self.listener.receive_now() else { break };
            received = more;
        }
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), WatchError> {
        tracing::warn!(
            receive_buffer = self.options.receive_buffer,
            "netlink notifications were lost; reading links and addresses anew"
        );
        self.overflows.fetch_add(1, Ordering::Relaxed);
        let follower = std::mem::replace(&mut self.follower, Follower::after(Node::default()));
        *self = Self::open(self.options, follower.into_known(), self.overflows.clone())?;
        Ok(())
    }

    fn take_in(
        &mut self,
        messages: Vec<NetlinkMessage<RouteNetlinkMessage>>,
    ) -> Result<(), WatchError> {
        for message in messages {
            if message.header.flags & NLM_F_DUMP_INTR != 0 {
                self.follower.handle_input(Input::Disturbed).map_err(WatchError::Refused)?;
            }
            let Some(input) = input(&message) else { continue };
            self.follower.handle_input(input).map_err(WatchError::Refused)?;
        }
        Ok(())
    }
}

fn input(message: &NetlinkMessage<RouteNetlinkMessage>) -> Option<Input> {
    let sequence = message.header.sequence_number;
    match &message.payload {
        NetlinkPayload::InnerMessage(inner) => message::update(inner).map(Input::Update),
        NetlinkPayload::Done(done) if done.code == 0 => Some(Input::Done(sequence)),
        NetlinkPayload::Done(done) => {
            Some(Input::Refused(sequence, io::Error::from_raw_os_error(-done.code)))
        }
        other => netlink::refusal(other).map(|error| Input::Refused(sequence, error)),
    }
}

#[cfg(test)]
mod tests;
