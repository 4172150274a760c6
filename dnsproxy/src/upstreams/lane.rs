//! The sockets towards one server, or towards any, and the queries about to leave by them.
//!
//! A forger has to guess the port as well as the ID, so sockets do not live long: after a time or
//! a number of queries one takes no more, and is closed when nothing waits for it. All queries that
//! are laid ready together leave by one of the sockets, with one call.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use dnsproxy_core::{Key, set_id};
use model::Moment;
use rand::Rng;

use super::Terms;
use crate::batch::Outbox;
use crate::socket;

/// Sockets towards one server, or towards any.
pub struct Lane {
    /// The server that the sockets are connected to.
    server: Option<SocketAddr>,
    /// Twice as many places as sockets take queries, so that each may have a successor while it
    /// drains.
    places: Vec<Option<Upstream>>,
    /// The place by which the queries laid ready leave.
    chosen: Option<usize>,
    ready: Outbox,
    keys: Vec<Key>,
    /// When a query was last laid ready.
    used: Moment,
}

/// One socket.
pub struct Upstream {
    pub socket: UdpSocket,
    opened: Moment,
    sent: u32,
    waiting: usize,
    retired: bool,
    /// What the kernel had dropped at it when last seen.
    pub dropped: u32,
}

impl Lane {
    /// Opens the sockets; `watch` hears of each and its place, and may turn it down.
    pub fn open(
        server: Option<SocketAddr>,
        terms: &Terms,
        now: Moment,
        mut watch: impl FnMut(usize, &UdpSocket) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut places = Vec::with_capacity(terms.places());
        for place in 0..terms.sockets {
            places.push(Some(Upstream::open(server, terms, now, |socket| watch(place, socket))?));
        }
        places.resize_with(terms.places(), || None);
        let (ready, keys) = (Outbox::new(), Vec::new());
        Ok(Self { server, places, chosen: None, ready, keys, used: now })
    }

    /// Whether this is the lane of that server alone.
    pub fn is_for(&self, server: SocketAddr) -> bool {
        self.server == Some(server)
    }

    /// The server, when a query was last laid ready for it, and whether none waits.
    pub fn idle_since(&self) -> Option<Moment> {
        let waits = self.places.iter().flatten().any(|upstream| upstream.waiting > 0);
        (!waits && self.keys.is_empty()).then_some(self.used)
    }

    /// The socket at a place.
    pub fn at(&mut self, place: usize) -> Option<&mut Upstream> {
        self.places.get_mut(place)?.as_mut()
    }

    /// The place by which the next query will leave: a random one, for all that leave together.
    pub fn choose(&mut self, rng: &mut impl Rng) -> Option<usize> {
        if self.chosen.is_none() {
            let open = || self.places.iter().enumerate().filter(|(_, place)| takes_queries(place));
            let count = open().count();
            let nth = if count > 1 { rng.random_range(0..count) } else { 0 };
            self.chosen = open().nth(nth).map(|(place, _)| place);
        }
        self.chosen
    }

    /// Lays a query ready to leave by the chosen socket. Says whether that is then due to give way.
    pub fn push(
        &mut self,
        key: Key,
        server: SocketAddr,
        message: &[u8],
        terms: &Terms,
        now: Moment,
    ) -> bool {
        let to = self.server.is_none().then_some(server);
        self.ready.push(to, None, |bytes| bytes.extend_from_slice(message));
        set_id(self.ready.last_mut(), key.id);
        self.keys.push(key);
        self.used = now;
        let Some(upstream) = self.chosen.and_then(|place| self.at(place)) else { return false };
        upstream.sent = upstream.sent.saturating_add(1);
        upstream.waiting += 1;
        upstream.is_old(terms, now)
    }

    /// Sends what is laid ready. `failed` hears of each query that could not be sent.
    pub fn flush(&mut self, mut failed: impl FnMut(Key)) {
        let Some(place) = self.chosen.take() else { return };
        let Some(upstream) = &self.places[place] else { return };
        self.ready.flush(upstream.socket.as_fd(), |at, _| failed(self.keys[at]));
        self.keys.clear();
    }

    /// Takes note that a query no longer waits at a place. Says whether its socket may be closed.
    pub fn release(&mut self, place: usize) -> bool {
        self.at(place).is_some_and(|upstream| {
            upstream.waiting = upstream.waiting.saturating_sub(1);
            upstream.has_drained()
        })
    }

    /// Closes the sockets that have drained, and opens successors of those that are old; how many.
    ///
    /// While no place or no port is free the old socket goes on: a forger's odds are then as they
    /// were.
    pub fn rotate(
        &mut self,
        terms: &Terms,
        now: Moment,
        mut watch: impl FnMut(usize, &UdpSocket) -> io::Result<()>,
    ) -> u64 {
        for place in &mut self.places {
            if place.as_ref().is_some_and(Upstream::has_drained) {
                *place = None;
            }
        }
        let mut rotations = 0;
        for old in 0..self.places.len() {
            let is_old = |upstream: &Upstream| upstream.is_old(terms, now);
            if !self.places[old].as_ref().is_some_and(is_old) {
                continue;
            }
            let Some(free) = self.places.iter().position(Option::is_none) else { break };
            let watch = |socket: &UdpSocket| watch(free, socket);
            let Ok(successor) = Upstream::open(self.server, terms, now, watch) else { break };
            self.places[free] = Some(successor);
            if let Some(upstream) = &mut self.places[old] {
                upstream.retired = true;
            }
            rotations += 1;
        }
        rotations
    }
}

fn takes_queries(place: &Option<Upstream>) -> bool {
    place.as_ref().is_some_and(|upstream| !upstream.retired)
}

impl Upstream {
    fn open(
        server: Option<SocketAddr>,
        terms: &Terms,
        now: Moment,
        watch: impl FnOnce(&UdpSocket) -> io::Result<()>,
    ) -> io::Result<Self> {
        let socket = socket::upstream_socket(terms.family)?;
        if let Some(server) = server {
            socket.connect(server)?;
        }
        watch(&socket)?;
        Ok(Self { socket, opened: now, sent: 0, waiting: 0, retired: false, dropped: 0 })
    }

    fn is_old(&self, terms: &Terms, now: Moment) -> bool {
        let worn = self.sent >= terms.after_queries || now.since(self.opened) >= terms.after;
        !self.retired && self.sent > 0 && worn
    }

    const fn has_drained(&self) -> bool {
        self.retired && self.waiting == 0
    }
}
