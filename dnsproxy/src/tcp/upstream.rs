//! A connection's own connection to the server that its client asked.
//!
//! It is opened with the first query that is allowed, kept as long as the server keeps it, and
//! opened again when a later query needs it.

use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use dnsproxy_core::{FrameError, Frames};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::backlog::Backlog;
use super::progress;

/// The link to one server.
pub(crate) struct Upstream {
    server: SocketAddr,
    link: Link,
    frames: Frames,
    out: Backlog,
}

enum Link {
    Closed,
    Opening(Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>),
    Open(TcpStream),
}

/// What happened at the link.
pub(crate) enum Event {
    Opened(io::Result<TcpStream>),
    Ready,
}

impl Upstream {
    pub const fn new(server: SocketAddr) -> Self {
        Self { server, link: Link::Closed, frames: Frames::new(u16::MAX), out: Backlog::new() }
    }

    /// Queues a query; the link is opened if it is not open. Says whether the query is one.
    pub fn send(&mut self, message: &[u8]) -> bool {
        if matches!(self.link, Link::Closed) {
            self.link = Link::Opening(Box::pin(TcpStream::connect(self.server)));
        }
        self.out.push(message)
    }

    /// Waits until something can be done: the link is open, or may be read (if `may_read`) or
    /// written. Never ends while there is nothing to wait for.
    pub async fn event(&mut self, may_read: bool) -> Event {
        let stream = match &mut self.link {
            Link::Closed => return pending().await,
            Link::Opening(connecting) => return Event::Opened(connecting.await),
            Link::Open(stream) => stream,
        };
        let interest = match (may_read, self.out.is_empty()) {
            (true, true) => Interest::READABLE,
            (true, false) => Interest::READABLE | Interest::WRITABLE,
            (false, false) => Interest::WRITABLE,
            (false, true) => return pending().await,
        };
        match stream.ready(interest).await {
            Ok(_) => Event::Ready,
            Err(error) => Event::Opened(Err(error)),
        }
    }

    /// Takes the event in: an opened link is kept; an open one is written and read.
    pub fn handle(&mut self, event: Event, may_read: bool) -> io::Result<()> {
        if let Event::Opened(opened) = event {
            let stream = opened?;
            // Without this small queries wait for each other; a failure costs time only.
            let _ = stream.set_nodelay(true);
            self.link = Link::Open(stream);
        }
        let Link::Open(stream) = &self.link else { return Ok(()) };
        if !self.out.is_empty() {
            self.out.write(stream)?;
        }
        if !may_read {
            return Ok(());
        }
        match progress(stream.try_read(self.frames.space()))? {
            Some(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(count) => {
                self.frames.advance(count);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The next whole answer.
    pub fn next_message(&mut self) -> Result<Option<&mut [u8]>, FrameError> {
        self.frames.next_message()
    }

    /// Closes the link and forgets what was under way.
    pub fn close(&mut self) {
        *self = Self::new(self.server);
    }
}
