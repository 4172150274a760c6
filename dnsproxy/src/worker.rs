//! One thread of the UDP path: a query and its answer stay on the worker that received the query.
//!
//! The worker reads what is there in batches, judges it, sends the original bytes upstream under
//! another ID, and releases an answer once the authority has learned from it. At steady state it
//! allocates nothing and waits for nobody but the authority.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use dnsproxy_core::{
    Answer, Asked, Client, Course, ExtendedError, Key, Limits, Outline, Pending, Rcode, Slot,
    set_id,
};
use model::{DnsFailure, EndpointId, Moment, Transport};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use socket2::Socket;
use tracing::error;

use crate::alarm::Alarm;
use crate::batch::{Inbox, Outbox};
use crate::clock;
use crate::datagram::{self, UDP_HEADER_LEN};
use crate::gate::{Gate, Passage, Release, Route};
use crate::socket::{self, Family, Pair};
use crate::upstreams::Upstreams;

/// Epoll's token for the end.
const STOP: u64 = u64::MAX;
/// The token of the timer.
const ALARM: u64 = u64::MAX - 1;
/// The tokens of the listeners are this and the family's index.
const LISTENERS: u64 = 1 << 32;

/// The longest time without a look at the sockets, so that old ones give way even when nothing
/// comes.
const LOOK: Duration = Duration::from_secs(10);

/// A worker, ready to run.
pub(crate) struct Worker {
    epoll: Epoll,
    alarm: Alarm,
    /// When the sockets are to be looked at again.
    look: Moment,
    inbox: Inbox,
    answer: Answer,
    desk: Desk,
}

/// Everything of a worker but what it reads into, so that both can be borrowed together.
struct Desk {
    gate: Gate,
    pending: Pending,
    rng: StdRng,
    /// IPv4, then IPv6 where the machine has it.
    ends: Vec<End>,
    now: Moment,
    /// A query that goes upstream again.
    repetition: Vec<u8>,
}

/// The sockets of one family, and what is about to leave by them.
struct End {
    listener: UdpSocket,
    listener_dropped: u32,
    answers: Socket,
    answers_out: Outbox,
    upstreams: Upstreams,
    /// The queries of a batch that could not be sent.
    unsent: Vec<Key>,
}

impl Worker {
    /// Opens what the worker needs beside its listeners.
    pub fn open(gate: Gate, listeners: Pair<UdpSocket>, stop: &EventFd) -> io::Result<Self> {
        let now = clock::now();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        let alarm = Alarm::new()?;
        epoll.add(&alarm, EpollEvent::new(EpollFlags::EPOLLIN, ALARM))?;
        let mut ends = vec![End::open(Family::V4, listeners.0, &gate, &epoll, now)?];
        if let Some(listener) = listeners.1 {
            ends.push(End::open(Family::V6, listener, &gate, &epoll, now)?);
        }
        let limits = Limits {
            total: gate.options.in_flight,
            per_endpoint: gate.options.in_flight_per_endpoint,
            timeout: gate.options.upstream_timeout,
        };
        let (pending, rng) = (Pending::new(limits), StdRng::from_os_rng());
        let desk = Desk { gate, pending, rng, ends, now, repetition: Vec::new() };
        let (inbox, answer) = (Inbox::new(), Answer::default());
        Ok(Self { epoll, alarm, look: now + LOOK, inbox, answer, desk })
    }

    /// Serves until told to stop.
    pub fn run(mut self) {
        let mut events = [EpollEvent::empty(); 32];
        loop {
            let ready = match self.wait(&mut events) {
                Ok(ready) => ready,
                Err(nix::Error::EINTR) => 0,
                Err(error) => {
                    error!(%error, "a worker cannot wait for packets and ends");
                    return;
                }
            };
            self.desk.now = clock::now();
            for event in &events[..ready] {
                match event.data() {
                    STOP => return self.desk.stop(),
                    ALARM => self.look(),
                    token if token >= LISTENERS => self.take_queries((token - LISTENERS) as usize),
                    token => self.take_answers(Slot(token as u16)),
                }
            }
            self.desk.tend(&self.epoll, false);
        }
    }

    /// Waits for a packet, or for what is due without one.
    fn wait(&mut self, events: &mut [EpollEvent]) -> nix::Result<usize> {
        let deadline = self.desk.pending.next_deadline();
        self.alarm.ring_by(deadline.map_or(self.look, |deadline| deadline.min(self.look)))?;
        self.epoll.wait(events, EpollTimeout::NONE)
    }

    /// Does what is due without a packet.
    fn look(&mut self) {
        self.alarm.heard();
        self.look = self.desk.now + LOOK;
        self.desk.expire();
        self.desk.tend(&self.epoll, true);
    }

    fn take_queries(&mut self, index: usize) {
        let Self { inbox, desk, .. } = self;
        let end = &mut desk.ends[index];
        let Ok(count) = inbox.receive(end.listener.as_fd()) else { return };
        let overrun = overrun(&mut end.listener_dropped, inbox.dropped());
        desk.gate.counters.overruns.add(overrun);
        for at in 0..count {
            let (arrival, message) = inbox.arrival(at);
            match arrival.to {
                Some(server) if !message.is_empty() => {
                    desk.query(index, arrival.from, server, message);
                }
                _ => desk.gate.counters.unusable.count(),
            }
        }
        desk.send_queries(index);
        desk.send_answers();
    }

    fn take_answers(&mut self, slot: Slot) {
        let Self { inbox, desk, answer, .. } = self;
        let index = desk.end_of(slot);
        let Some(upstream) = desk.ends[index].upstreams.at(slot) else { return };
        // An error here is an old ICMP message; the queries concerned will time out.
        let Ok(count) = inbox.receive(upstream.socket.as_fd()) else { return };
        let overrun = overrun(&mut upstream.dropped, inbox.dropped());
        desk.gate.counters.overruns.add(overrun);
        for at in 0..count {
            let (arrival, message) = inbox.arrival(at);
            match desk.pending.settle(slot, arrival.from, message) {
                Ok(asked) => {
                    desk.ends[index].upstreams.release(slot);
                    desk.answer(&asked, message, answer);
                }
                Err(unsolicited) => desk.gate.count_unsolicited(unsolicited),
            }
        }
        desk.send_answers();
    }
}

impl Desk {
    fn query(&mut self, end: usize, client: SocketAddr, server: SocketAddr, message: &[u8]) {
        let route = Route { client, server, transport: Transport::Udp };
        match self.gate.query(route, self.now, message) {
            Passage::Ignore => {}
            Passage::Refuse(_, outline, rcode, reason) => {
                self.refuse(client, server, &outline, rcode, reason);
            }
            Passage::Forward(endpoint, outline, course) => {
                let client = Client { address: client, server, id: outline.id };
                self.forward(end, client, endpoint, &outline, course, message);
            }
        }
    }

    fn forward(
        &mut self,
        end: usize,
        client: Client,
        endpoint: EndpointId,
        outline: &Outline<'_>,
        course: Course,
        message: &[u8],
    ) {
        if let Some(key) = self.pending.repeated(&client, outline.question) {
            self.gate.counters.repeated.count();
            return self.repeat(end, key, client.server, message);
        }
        let slot = self.ends[end].upstreams.choose(client.server, &mut self.rng);
        let route =
            Route { client: client.address, server: client.server, transport: Transport::Udp };
        let Some(slot) = slot else {
            self.gate.turn_away(endpoint, route, outline.question, DnsFailure::Unreachable);
            return self.fail(&client, outline, ExtendedError::NoReachableAuthority);
        };
        let rng = &mut self.rng;
        let admitted = self.pending.admit(client, endpoint, outline, slot, || rng.random(), course);
        let key = match admitted {
            Ok(key) => key,
            Err(refused) => {
                self.gate.count_refused(refused);
                self.gate.turn_away(endpoint, route, outline.question, DnsFailure::TooMany);
                return self.fail(&client, outline, ExtendedError::Other);
            }
        };
        self.ends[end].upstreams.push(key, client.server, message, self.now);
    }

    /// Sends a query again as it went before. If that fails, the first may still be answered.
    fn repeat(&mut self, end: usize, key: Key, server: SocketAddr, message: &[u8]) {
        let end = &mut self.ends[end];
        let Some(upstream) = end.upstreams.at(key.slot) else { return };
        // What is laid ready may leave by another socket. Repetitions are rare enough to be sent
        // alone.
        self.repetition.clear();
        self.repetition.extend_from_slice(message);
        set_id(&mut self.repetition, key.id);
        let _ = upstream.socket.send_to(&self.repetition, server);
    }

    fn answer(&mut self, asked: &Asked, message: &mut [u8], answer: &mut Answer) {
        let Client { address, server, .. } = asked.client;
        match self.gate.answer(asked, Transport::Udp, message, answer) {
            Release::Whole => self.reply(address, server, |out| out.extend_from_slice(message)),
            Release::Truncated => self.reply(address, server, |out| asked.outline().truncate(out)),
            Release::Fail(reason) => self.fail(&asked.client, &asked.outline(), reason),
        }
    }

    fn fail(&mut self, client: &Client, outline: &Outline<'_>, reason: ExtendedError) {
        self.refuse(client.address, client.server, outline, Rcode::SERVFAIL, reason);
    }

    fn refuse(
        &mut self,
        client: SocketAddr,
        server: SocketAddr,
        outline: &Outline<'_>,
        rcode: Rcode,
        reason: ExtendedError,
    ) {
        self.reply(client, server, |out| outline.refuse(rcode, reason, out));
    }

    /// Lays a datagram from `server` to `client` ready.
    fn reply(&mut self, client: SocketAddr, server: SocketAddr, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(end) = self.ends.get_mut(index_of(Family::of(client))) else { return };
        // A raw socket has no ports: they stand in the header that is written here.
        let mut to = client;
        to.set_port(0);
        end.answers_out.push(Some(to), Some(server.ip()), |out| {
            out.extend_from_slice(&[0; UDP_HEADER_LEN]);
            write(out);
        });
        if !datagram::complete(end.answers_out.last_mut(), server, client) {
            end.answers_out.discard_last();
            self.gate.counters.unsent.count();
        }
    }

    fn send_queries(&mut self, index: usize) {
        let end = &mut self.ends[index];
        end.upstreams.flush(|key| end.unsent.push(key));
        while let Some(key) = self.ends[index].unsent.pop() {
            self.abandon(key);
        }
    }

    /// Gives up a query that could not be sent.
    fn abandon(&mut self, key: Key) {
        let Some(asked) = self.pending.abandon(key) else { return };
        let index = self.end_of(key.slot);
        self.ends[index].upstreams.release(key.slot);
        self.gate.give_up(&asked, Transport::Udp, DnsFailure::Unreachable);
        self.fail(&asked.client, &asked.outline(), ExtendedError::NoReachableAuthority);
    }

    fn send_answers(&mut self) {
        for end in &mut self.ends {
            let unsent = &self.gate.counters.unsent;
            end.answers_out.flush(end.answers.as_fd(), |_, _| unsent.count());
        }
    }

    fn expire(&mut self) {
        while let Some((key, asked)) = self.pending.poll_expired(self.now) {
            self.gate.give_up(&asked, Transport::Udp, DnsFailure::Timeout);
            self.give_up(key, &asked);
        }
        self.send_answers();
    }

    /// Answers whoever still waits.
    fn stop(mut self) {
        while let Some((key, asked)) = self.pending.poll_expired(Moment::MAX) {
            self.gate.give_up(&asked, Transport::Udp, DnsFailure::Stopped);
            self.give_up(key, &asked);
        }
        self.send_answers();
    }

    fn give_up(&mut self, key: Key, asked: &Asked) {
        let index = self.end_of(key.slot);
        self.ends[index].upstreams.release(key.slot);
        self.fail(&asked.client, &asked.outline(), ExtendedError::NoReachableAuthority);
    }

    /// Sees to the upstream sockets: where something is to be done, or everywhere.
    fn tend(&mut self, epoll: &Epoll, all: bool) {
        let counters = &self.gate.counters;
        for end in self.ends.iter_mut().filter(|end| all || end.upstreams.is_untidy()) {
            let tended =
                end.upstreams.tend(self.now, |slot, socket| watch_upstream(epoll, slot, socket));
            counters.rotations.add(tended.rotations);
            counters.servers_connected.add(tended.connected);
            counters.servers_crowded.add(tended.crowded);
        }
    }

    /// The family whose sockets a slot belongs to.
    fn end_of(&self, slot: Slot) -> usize {
        usize::from(usize::from(slot.0) >= Upstreams::slots(&self.gate.options))
    }
}

impl End {
    fn open(
        family: Family,
        listener: UdpSocket,
        gate: &Gate,
        epoll: &Epoll,
        now: Moment,
    ) -> io::Result<Self> {
        let options = &gate.options;
        let index = index_of(family);
        let first = u16::try_from(Upstreams::slots(options) * index)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let watch_it = |slot, socket: &UdpSocket| watch_upstream(epoll, slot, socket);
        let upstreams = Upstreams::open(family, first, options, now, watch_it)?;
        watch(epoll, &listener, LISTENERS + index as u64)?;
        Ok(Self {
            listener,
            listener_dropped: 0,
            answers: socket::answer_socket(family, options.answer_mark)?,
            answers_out: Outbox::new(),
            upstreams,
            unsent: Vec::new(),
        })
    }
}

fn watch_upstream(epoll: &Epoll, slot: Slot, socket: &UdpSocket) -> io::Result<()> {
    watch(epoll, socket, u64::from(slot.0)).inspect_err(|error| {
        error!(%error, "a new upstream socket cannot be watched and is not used");
    })
}

fn watch(epoll: &Epoll, socket: &UdpSocket, token: u64) -> io::Result<()> {
    Ok(epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
}

const fn index_of(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

/// What the kernel dropped since it was last seen. Its count wraps, and is zero in a batch that
/// does not speak of it.
fn overrun(seen: &mut u32, dropped: u32) -> u64 {
    if dropped == 0 {
        return 0;
    }
    let overrun = dropped.wrapping_sub(*seen);
    *seen = dropped;
    u64::from(overrun)
}
