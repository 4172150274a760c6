//! The client: queries in batches over a few sockets, either as fast as answers come or at a
//! steady rate.

use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::{TimeSpec, TimeValLike};

use super::batch::{BATCH, Batch, To};
use super::names::{Names, Queries};
use super::sockets;

/// How many sockets ask.
const SOCKETS: usize = 8;
/// After so long without any answer, queries on their way are given up.
const PATIENCE: Duration = Duration::from_millis(250);

/// How queries follow each other.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As many open at a time as this.
    Window(usize),
    /// As many a second as this, at even distances.
    Rate(u32),
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    pub answered: u64,
    /// Queries without an answer, or with an error for one.
    pub lost: u64,
    pub elapsed: Duration,
    /// How long each answer took, in order of length.
    pub latencies: Vec<Duration>,
}

struct Client {
    lines: Vec<Line>,
    queries: Queries,
    batch: Batch,
    outcome: Outcome,
}

/// A socket, and when each of its IDs was last used.
struct Line {
    socket: UdpSocket,
    next: u16,
    sent: Vec<Instant>,
    open: usize,
}

/// Asks `server` for `time`, from the calling thread's network namespace.
pub fn ask(server: SocketAddrV4, names: Names, pace: Pace, time: Duration) -> Result<Outcome> {
    let start = Instant::now();
    let mut client = Client {
        lines: (0..SOCKETS).map(|_| Line::open(server, start)).collect::<Result<_>>()?,
        queries: Queries::new(names),
        batch: Batch::new(),
        outcome: Outcome::default(),
    };
    match pace {
        Pace::Window(window) => client.keep_open(window, time)?,
        Pace::Rate(rate) => client.keep_pace(rate, time)?,
    }
    client.outcome.elapsed = start.elapsed();
    ensure!(client.outcome.answered > 0, "no answer came from {server}");
    client.outcome.latencies.sort_unstable();
    Ok(client.outcome)
}

impl Client {
    /// Asks another question for each answer that comes.
    fn keep_open(&mut self, window: usize, time: Duration) -> Result<()> {
        let (start, share) = (Instant::now(), window / SOCKETS);
        for line in 0..SOCKETS {
            self.send(line, share)?;
        }
        while start.elapsed() < time {
            if self.wait(PATIENCE)? {
                for line in 0..SOCKETS {
                    let came = self.take(line)?;
                    self.send(line, came)?;
                }
                continue;
            }
            for line in 0..SOCKETS {
                self.outcome.lost += std::mem::take(&mut self.lines[line].open) as u64;
                self.send(line, share)?;
            }
        }
        Ok(())
    }

    /// Asks at even distances, whatever comes back.
    fn keep_pace(&mut self, rate: u32, time: Duration) -> Result<()> {
        let (start, step) = (Instant::now(), Duration::from_secs(1) / rate);
        let mut due = start;
        for line in (0..SOCKETS).cycle() {
            if due.duration_since(start) >= time {
                break;
            }
            while let Some(early) = due.checked_duration_since(Instant::now()) {
                if self.wait(early)? {
                    self.take_all()?;
                }
            }
            self.send(line, 1)?;
            due += step;
        }
        let end = Instant::now() + PATIENCE;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if self.wait(left)? {
                self.take_all()?;
            }
        }
        self.outcome.lost += self.lines.iter().map(|line| line.open as u64).sum::<u64>();
        Ok(())
    }

    fn wait(&self, time: Duration) -> Result<bool> {
        let mut fds: Vec<PollFd<'_>> = self
            .lines
            .iter()
            .map(|line| PollFd::new(line.socket.as_fd(), PollFlags::POLLIN))
            .collect();
        let timeout = TimeSpec::nanoseconds(i64::try_from(time.as_nanos())?);
        Ok(ppoll(&mut fds, Some(timeout), None)? > 0)
    }

    fn take_all(&mut self) -> Result<()> {
        (0..SOCKETS).try_for_each(|line| self.take(line).map(drop))
    }

    /// Takes the answers of one socket.
    fn take(&mut self, line: usize) -> Result<usize> {
        let line = &mut self.lines[line];
        let count = self.batch.receive(&line.socket)?;
        let now = Instant::now();
        for index in 0..count {
            let (bytes, _) = self.batch.datagram(index);
            // The response code.
            if bytes[3] & 0xf != 0 {
                self.outcome.lost += 1;
                continue;
            }
            let id = u16::from_be_bytes([bytes[0], bytes[1]]);
            self.outcome.latencies.push(now - line.sent[usize::from(id)]);
            self.outcome.answered += 1;
        }
        line.open = line.open.saturating_sub(count);
        Ok(count)
    }

    fn send(&mut self, line: usize, count: usize) -> Result<()> {
        let line = &mut self.lines[line];
        let mut left = count;
        while left > 0 {
            let some = left.min(BATCH);
            let now = Instant::now();
            self.batch.clear();
            for _ in 0..some {
                let id = line.next;
                line.next = line.next.wrapping_add(1);
                line.sent[usize::from(id)] = now;
                self.batch.push(|bytes| self.queries.write(id, bytes));
            }
            let unsent = self.batch.send(&line.socket, To::Connected)?;
            line.open += some - unsent;
            self.outcome.lost += unsent as u64;
            left -= some;
        }
        Ok(())
    }
}

impl Line {
    fn open(server: SocketAddrV4, now: Instant) -> Result<Self> {
        let socket = sockets::connected(server)?;
        Ok(Self { socket, next: 0, sent: vec![now; 1 << 16], open: 0 })
    }
}

impl Outcome {
    /// Answers a second.
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that a share of the answers stays below.
    pub fn quantile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * share) as usize).copied().unwrap_or_default()
    }
}
