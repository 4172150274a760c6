//! Connections that go on as they are.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use l7proxy_core::Reason;
use l7proxy_core::control::Asked;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::Instant;

use crate::prefixed::{Io, write_through};
use crate::session::Session;
use crate::tls::Ends;

/// Carries what goes on as it came: TLS that was judged by its server name, and what rules are
/// against for this reason where that is only audited.
pub(crate) async fn untouched(
    session: &Session,
    io: Io,
    breach: Option<Reason>,
) -> Result<(), Reason> {
    let begun = Instant::now();
    let upstream = Ends::plain(None).connect(session, None).await?;
    let asked = if session.hello().is_some() { Asked::Tls } else { Asked::Connection };
    session.record(asked, breach.into(), micros(begun));
    carry(session, io, upstream).await
}

/// Carries a connection on which anything may be said, or goes on all the same for this reason.
pub(crate) async fn opened(
    session: &Session,
    io: Io,
    ends: Ends,
    breach: Option<Reason>,
) -> Result<(), Reason> {
    let begun = Instant::now();
    let upstream = ends.connect(session, None).await?;
    session.record(Asked::Connection, breach.into(), micros(begun));
    carry(session, io, upstream).await
}

/// Carries bytes both ways until both ends are done, nothing goes on for too long, or the rules
/// change so that it may not be.
async fn carry(session: &Session, io: Io, upstream: Io) -> Result<(), Reason> {
    tokio::select! {
        () = both(io, upstream, session.shared.options.idle_time()) => Ok(()),
        reason = session.revoked() => Err(reason),
    }
}

/// Carries bytes both ways until both ends are done, or nothing goes on for too long.
pub(crate) async fn both<A, B>(one: A, other: B, patience: Duration)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let pulse = Pulse::default();
    let mut one = Watched { stream: one, pulse: &pulse };
    let mut other = Watched { stream: other, pulse: &pulse };
    tokio::select! {
        // How it ended is the two ends' affair.
        _ = copy_bidirectional(&mut one, &mut other) => {}
        () = pulse.silence(patience) => {}
    }
}

/// Microseconds since then.
pub(crate) fn micros(begun: Instant) -> Option<u64> {
    u64::try_from(begun.elapsed().as_micros()).ok()
}

/// How many times bytes came.
#[derive(Default)]
struct Pulse(AtomicU64);

impl Pulse {
    /// Waits until no byte came for so long, or up to twice as long.
    async fn silence(&self, patience: Duration) {
        let mut seen = u64::MAX;
        loop {
            let now = self.0.load(Ordering::Relaxed);
            if now == seen {
                return;
            }
            seen = now;
            tokio::time::sleep(patience).await;
        }
    }
}

/// A stream whose reads are counted.
struct Watched<'p, S> {
    stream: S,
    pulse: &'p Pulse,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if result.is_ready() {
            self.pulse.0.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<'_, S> {
    write_through!();

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
