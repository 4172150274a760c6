//! One client's TCP connection, from its first byte to its last.
//!
//! Every message is judged by itself. Answers may come in another order than their queries. What
//! a client may leave waiting is bounded: queries in flight, bytes that it does not take, and the
//! time for each; over a bound no more is read from it, and in time the connection is closed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use dnsproxy_core::{
    Answer, Client, Course, ExtendedError, FrameError, Frames, Limits, Outline, Pending, Rcode,
    Slot, set_id,
};
use model::{DnsFailure, EndpointId, Moment, Transport};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::admission::{Admission, Holder, Permit};
use super::backlog::Backlog;
use super::progress;
use super::upstream::{Event, Upstream};
use crate::clock;
use crate::gate::{Gate, Passage, Release, Route};
use crate::options::TcpOptions;
use crate::stats::Counter;

/// A connection has one upstream connection.
const SLOT: Slot = Slot(0);

/// A client's connection.
pub(crate) struct Connection {
    stream: TcpStream,
    frames: Frames,
    out: Backlog,
    upstream: Upstream,
    desk: Desk,
    /// The client will send no more.
    ended: bool,
    /// When something last came from the client or was taken by it.
    active: Moment,
    /// Since when a message has been in the making.
    message_since: Option<Moment>,
    /// Since when the client has taken nothing of what lies ready for it.
    unread_since: Option<Moment>,
}

/// What a connection judges and remembers by.
struct Desk {
    client: SocketAddr,
    server: SocketAddr,
    gate: Arc<Gate>,
    admission: Arc<Admission>,
    endpoint: Option<(EndpointId, Permit)>,
    pending: Pending,
    answer: Answer,
    rng: StdRng,
    /// Where messages are put together.
    draft: Vec<u8>,
}

/// Why a connection is closed.
#[derive(Debug)]
enum End {
    /// Both sides are done, or the client is gone.
    Done,
    /// The stream is no sequence of messages.
    Broken,
    /// Nothing was asked for a time.
    Idle,
    /// A message, or the taking of answers, took too long.
    Slow,
    /// The endpoint has too many connections.
    OverEndpoint,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Done
    }
}

impl From<FrameError> for End {
    fn from(_: FrameError) -> Self {
        Self::Broken
    }
}

/// What woke the connection.
enum Wake {
    Client,
    Upstream(Event),
    Time,
}

impl Connection {
    pub fn new(
        stream: TcpStream,
        client: SocketAddr,
        server: SocketAddr,
        gate: Arc<Gate>,
        admission: Arc<Admission>,
    ) -> Self {
        let TcpOptions { pipelined, max_query, .. } = gate.options.tcp;
        let timeout = gate.options.upstream_timeout;
        let limits = Limits { total: pipelined, per_endpoint: pipelined, timeout };
        let desk = Desk {
            client,
            server,
            gate,
            admission,
            endpoint: None,
            pending: Pending::new(limits),
            answer: Answer::default(),
            rng: StdRng::from_os_rng(),
            draft: Vec::new(),
        };
        // Answers are written whole; without this they wait for the client's acknowledgements.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            frames: Frames::new(max_query),
            out: Backlog::new(),
            upstream: Upstream::new(server),
            desk,
            ended: false,
            active: clock::now(),
            message_since: None,
            unread_since: None,
        }
    }

    /// Serves the connection until it ends, and counts why if somebody may ask.
    pub async fn serve(mut self) {
        let Err(end) = self.run().await;
        if let Some(counter) = self.counter(&end) {
            counter.count();
        }
    }

    fn counter(&self, end: &End) -> Option<&Counter> {
        let counters = &self.desk.gate.counters;
        match end {
            End::Done => None,
            End::Broken => Some(&counters.tcp_broken),
            End::Idle => Some(&counters.tcp_idle),
            End::Slow => Some(&counters.tcp_slow),
            End::OverEndpoint => Some(&counters.tcp_over_endpoint),
        }
    }

    async fn run(&mut self) -> Result<std::convert::Infallible, End> {
        loop {
            let wake = self.wake().await;
            let now = clock::now();
            match wake {
                Wake::Client => self.handle_client(now)?,
                Wake::Upstream(event) => self.handle_upstream(event),
                Wake::Time => self.handle_time(now)?,
            }
            // Room may have come about for queries that were read before.
            self.take_queries(now)?;
            let unread_since = self.unread_since.unwrap_or(now);
            self.unread_since = (!self.out.is_empty()).then_some(unread_since);
            if self.ended && self.desk.pending.is_empty() && self.out.is_empty() {
                return Err(End::Done);
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        let may_read = !self.ended && self.has_room();
        let may_write = !self.out.is_empty();
        let may_answer = self.out.has_room();
        let wait = self.deadline().since(clock::now());
        let Self { stream, upstream, .. } = self;
        tokio::select! {
            _ = stream.readable(), if may_read => Wake::Client,
            _ = stream.writable(), if may_write => Wake::Client,
            event = upstream.event(may_answer) => Wake::Upstream(event),
            () = sleep(wait) => Wake::Time,
        }
    }

    /// Whether another query can be taken.
    fn has_room(&self) -> bool {
        self.out.has_room() && self.desk.pending.len() < self.desk.gate.options.tcp.pipelined
    }

    /// When something has to be given up if nothing happens.
    fn deadline(&self) -> Moment {
        let TcpOptions { idle_time, message_time, .. } = self.desk.gate.options.tcp;
        let unread = self.unread_since.map(|since| since + message_time);
        let unwritten = self.message_since.map(|since| since + message_time);
        let idle = self.desk.pending.is_empty().then(|| self.active + idle_time);
        let times = [self.desk.pending.next_deadline(), unread, unwritten, idle];
        times.into_iter().flatten().min().unwrap_or(self.active + idle_time)
    }

    fn handle_client(&mut self, now: Moment) -> Result<(), End> {
        if !self.out.is_empty() && self.out.write(&self.stream)? {
            self.active = now;
            self.unread_since = None;
        }
        if self.ended || !self.has_room() {
            return Ok(());
        }
        match progress(self.stream.try_read(self.frames.space()))? {
            // Half a message will never be whole; what was asked before is still answered.
            Some(0) => self.ended = true,
            Some(count) => {
                self.frames.advance(count);
                self.active = now;
            }
            None => {}
        }
        Ok(())
    }

    fn handle_upstream(&mut self, event: Event) {
        let may_read = self.out.has_room();
        let mut alive = self.upstream.handle(event, may_read).is_ok();
        loop {
            match self.upstream.next_message() {
                Ok(Some(message)) => self.desk.take_answer(message, &mut self.out),
                Ok(None) => break,
                Err(_) => {
                    self.desk.gate.counters.malformed_answers.count();
                    alive = false;
                    break;
                }
            }
        }
        if !alive {
            self.upstream.close();
            self.desk.fail_all(&mut self.out);
        }
    }

    fn handle_time(&mut self, now: Moment) -> Result<(), End> {
        let TcpOptions { idle_time, message_time, .. } = self.desk.gate.options.tcp;
        let expired = self.desk.expire(now, &mut self.out);
        if expired && self.desk.pending.is_empty() {
            // The server is silent. A later query tries anew.
            self.upstream.close();
        }
        let over = |since: Moment, time| now.since(since) >= time;
        let unread = self.unread_since.is_some_and(|since| over(since, message_time));
        let unwritten = self.message_since.is_some_and(|since| over(since, message_time));
        if unread || unwritten {
            return Err(End::Slow);
        }
        let idle = self.desk.pending.is_empty() && self.out.is_empty();
        if idle && over(self.active, idle_time) { Err(End::Idle) } else { Ok(()) }
    }

    /// Judges the whole messages that were read, as far as there is room for them.
    fn take_queries(&mut self, now: Moment) -> Result<(), End> {
        let mut taken = false;
        while self.has_room() {
            let Some(message) = self.frames.next_message()? else {
                let waiting = self.frames.is_inside_message() && !self.ended;
                let since = self.message_since.filter(|_| !taken).unwrap_or(now);
                self.message_since = waiting.then_some(since);
                return Ok(());
            };
            taken = true;
            self.desk.take_query(message, now, &mut self.out, &mut self.upstream)?;
        }
        // It is not the client's fault that it is not read.
        self.message_since = None;
        Ok(())
    }
}

impl Desk {
    fn take_query(
        &mut self,
        message: &mut [u8],
        now: Moment,
        out: &mut Backlog,
        upstream: &mut Upstream,
    ) -> Result<(), End> {
        let gate = Arc::clone(&self.gate);
        match gate.query(self.route(), now, message) {
            Passage::Ignore => Ok(()),
            Passage::Refuse(endpoint, outline, rcode, reason) => {
                endpoint.map_or(Ok(()), |endpoint| self.belong_to(endpoint))?;
                self.refuse(&outline, rcode, reason, out);
                Ok(())
            }
            Passage::Forward(endpoint, outline, course) => {
                self.belong_to(endpoint)?;
                self.forward(endpoint, &outline, course, message, out, upstream);
                Ok(())
            }
        }
    }

    const fn route(&self) -> Route {
        Route { client: self.client, server: self.server, transport: Transport::Tcp }
    }

    /// Counts the connection for its endpoint.
    fn belong_to(&mut self, endpoint: EndpointId) -> Result<(), End> {
        if self.endpoint.as_ref().is_some_and(|(known, _)| *known == endpoint) {
            return Ok(());
        }
        let permit = self.admission.hold(Holder::Endpoint(endpoint)).ok_or(End::OverEndpoint)?;
        self.endpoint = Some((endpoint, permit));
        Ok(())
    }

    fn forward(
        &mut self,
        endpoint: EndpointId,
        outline: &Outline<'_>,
        course: Course,
        message: &[u8],
        out: &mut Backlog,
        upstream: &mut Upstream,
    ) {
        let client = Client { address: self.client, server: self.server, id: outline.id };
        let rng = &mut self.rng;
        let draw = || rng.random();
        match self.pending.admit(client, endpoint, outline, SLOT, draw, course) {
            Ok(key) => {
                self.draft.clear();
                self.draft.extend_from_slice(message);
                set_id(&mut self.draft, key.id);
                upstream.send(&self.draft);
            }
            Err(refused) => {
                self.gate.count_refused(refused);
                let route = self.route();
                self.gate.turn_away(endpoint, route, outline.question, DnsFailure::TooMany);
                self.refuse(outline, Rcode::SERVFAIL, ExtendedError::Other, out);
            }
        }
    }

    fn take_answer(&mut self, message: &mut [u8], out: &mut Backlog) {
        let asked = match self.pending.settle(SLOT, self.server, message) {
            Ok(asked) => asked,
            Err(unsolicited) => return self.gate.count_unsolicited(unsolicited),
        };
        match self.gate.answer(&asked, Transport::Tcp, message, &mut self.answer) {
            Release::Whole => {
                out.push(message);
            }
            Release::Fail(reason) => {
                self.refuse(&asked.outline(), Rcode::SERVFAIL, reason, out);
            }
            // Never so over TCP.
            Release::Truncated => {
                self.refuse(&asked.outline(), Rcode::SERVFAIL, ExtendedError::InvalidData, out);
            }
        }
    }

    /// Gives up what has waited too long, and says whether there was any.
    fn expire(&mut self, now: Moment, out: &mut Backlog) -> bool {
        let mut any = false;
        while let Some((_, asked)) = self.pending.poll_expired(now) {
            any = true;
            self.gate.give_up(&asked, Transport::Tcp, DnsFailure::Timeout);
            let reason = ExtendedError::NoReachableAuthority;
            self.refuse(&asked.outline(), Rcode::SERVFAIL, reason, out);
        }
        any
    }

    /// Gives up everything that waits, because the server is gone.
    fn fail_all(&mut self, out: &mut Backlog) {
        while let Some((_, asked)) = self.pending.poll_expired(Moment::MAX) {
            self.gate.give_up(&asked, Transport::Tcp, DnsFailure::Unreachable);
            let reason = ExtendedError::NoReachableAuthority;
            self.refuse(&asked.outline(), Rcode::SERVFAIL, reason, out);
        }
    }

    fn refuse(
        &mut self,
        outline: &Outline<'_>,
        rcode: Rcode,
        reason: ExtendedError,
        out: &mut Backlog,
    ) {
        self.draft.clear();
        outline.refuse(rcode, reason, &mut self.draft);
        out.push(&self.draft);
    }
}
