//! A client's stream behind the [`Screen`]: whoever reads from it sees only what passed.
//!
//! A fault between two requests is told in band, by a request of our own that no client can make:
//! one of HTTP/1.1 without a Host. It comes behind the requests before it, so their answers are not
//! lost, and its answer is the fault's. A fault inside a body ends the stream.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use l7proxy_core::screen::{Fault, HeadLimits, Screen};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::prefixed::write_through;

/// What stands in for a request that cannot be read.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
/// How many bytes are read at once while they have to be looked at.
const READ: usize = 16 * 1024;

/// How long, and how much, is taken in from a client after the stream is ended.
const LINGER: Duration = Duration::from_secs(1);
const MAX_LINGERED: usize = 1 << 20;

/// The screen of a connection, shared between its stream and its requests.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    screen: Mutex<Screen>,
    slow: AtomicBool,
    /// Who reads again once a change of protocol is answered. Set under the screen's lock.
    reader: Mutex<Option<Waker>>,
}

/// A screened stream.
pub(crate) struct Screened<S> {
    stream: S,
    gate: Gate,
    /// Bytes that came in and did not pass yet.
    held: Vec<u8>,
    /// How much of `held` passed and waits for room.
    passed: usize,
    /// Whether the stand-in was given out.
    ended: bool,
    /// How long a head, or what is between two parts of a body, may take.
    patience: Duration,
    deadline: Pin<Box<Sleep>>,
    /// The most bytes that are held.
    most_held: usize,
    /// Whether the stream is ended, and how much came in since.
    shut: bool,
    lingered: usize,
}

impl Gate {
    pub fn new(limits: HeadLimits) -> Self {
        let screen = Mutex::new(Screen::new(limits));
        Self(Arc::new(Inner { screen, slow: AtomicBool::new(false), reader: Mutex::default() }))
    }

    /// The fault after which nothing passes.
    pub fn fault(&self) -> Option<Fault> {
        self.lock().fault()
    }

    /// The protocol was changed.
    pub fn open(&self) {
        self.lock().open();
        self.wake();
    }

    /// The protocol was not changed.
    pub fn resume(&self) {
        self.lock().resume();
        self.wake();
    }

    fn wake(&self) {
        let reader = self.0.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Whether the answer to a change of protocol has to come first; then `reader` is woken.
    fn waits_for_answer(&self, reader: &Waker) -> bool {
        let screen = self.lock();
        if screen.is_held() {
            let mut place = self.0.reader.lock().unwrap_or_else(PoisonError::into_inner);
            *place = Some(reader.clone());
        }
        screen.is_held()
    }

    /// Whether the client took too long over a request.
    pub fn was_slow(&self) -> bool {
        self.0.slow.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Screen> {
        self.0.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Screened<S> {
    /// A stream whose requests' parts may be so long apart.
    pub fn new(stream: S, gate: Gate, limits: HeadLimits, patience: Duration) -> Self {
        Self {
            stream,
            gate,
            held: Vec::new(),
            passed: 0,
            ended: false,
            patience,
            deadline: Box::pin(sleep(patience)),
            most_held: limits.bytes + READ,
            shut: false,
            lingered: 0,
        }
    }

    /// Lets what may pass of the held bytes into the buffer: whether anything did.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<bool> {
        if self.passed == 0 && !self.held.is_empty() {
            let passed = self.gate.lock().pass(&self.held);
            match passed {
                Ok(count) => self.passed = count,
                Err(_) => self.end()?,
            }
        }
        let count = self.passed.min(buffer.remaining());
        buffer.put_slice(&self.held[..count]);
        self.held.drain(..count);
        self.passed -= count;
        Ok(count > 0)
    }

    /// After a fault: the stand-in is the last that goes on.
    fn end(&mut self) -> io::Result<()> {
        if self.gate.fault().is_some_and(|fault| fault.in_body) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a body is not framed right"));
        }
        (self.held, self.passed) = (STAND_IN.to_vec(), STAND_IN.len());
        self.ended = true;
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> Screened<S> {
    /// Reads bytes that need not be looked at right into the buffer.
    fn poll_unseen(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        most: u64,
    ) -> Poll<io::Result<usize>> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        let result = Pin::new(&mut self.stream).poll_read(cx, &mut part);
        let count = part.filled().len();
        result.map_ok(|()| {
            buffer.advance(count);
            self.gate.lock().skip(count as u64);
            count
        })
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [0; READ];
        let mut part = ReadBuf::new(&mut space);
        match Pin::new(&mut self.stream).poll_read(cx, &mut part) {
            Poll::Ready(Ok(())) => {
                self.held.extend_from_slice(part.filled());
                Poll::Ready(Ok(part.filled().len()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// A client in the middle of a request that says nothing for too long is given up.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let screen = self.gate.lock();
        let waits = screen.is_between_requests() || screen.is_held() || screen.unseen() == u64::MAX;
        drop(screen);
        if waits && self.held.is_empty() {
            return Poll::Pending;
        }
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => {
                self.gate.0.slow.store(true, Ordering::Relaxed);
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Screened<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if buffer.remaining() == 0 || this.give(buffer)? {
                return Poll::Ready(Ok(()));
            }
            if this.ended {
                // Its answer closes the connection; nothing more is read.
                return Poll::Pending;
            }
            let waits = this.gate.waits_for_answer(cx.waker());
            if waits && this.held.len() > this.most_held {
                return Poll::Pending;
            }
            let unseen = this.gate.lock().unseen();
            let directly = unseen > 0 && this.held.is_empty();
            let in_section = this.gate.lock().is_in_section();
            let count =
                if directly { this.poll_unseen(cx, buffer, unseen) } else { this.poll_more(cx) };
            match count {
                Poll::Ready(Ok(count)) => {
                    // A head has its time as a whole, however it trickles in.
                    if !in_section {
                        this.deadline.as_mut().reset(Instant::now() + this.patience);
                    }
                    if directly || count == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return this.poll_patience(cx),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Screened<S> {
    write_through!();

    /// Ends the stream, and takes in what the client still sends for a moment: closing over unread
    /// bytes would have the last answer taken back.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.shut {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            this.shut = true;
            this.deadline.as_mut().reset(Instant::now() + LINGER);
        }
        loop {
            let mut space = [0; READ];
            let mut part = ReadBuf::new(&mut space);
            match Pin::new(&mut this.stream).poll_read(cx, &mut part) {
                Poll::Ready(Ok(()))
                    if !part.filled().is_empty() && this.lingered < MAX_LINGERED =>
                {
                    this.lingered += part.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return this.deadline.as_mut().poll(cx).map(Ok),
            }
        }
    }
}
