//! A worker's sockets towards the servers of one family.
//!
//! All queries share a few sockets, because opening one for each costs more than everything else.
//! A server that is asked often gets sockets of its own, connected to it: the kernel then keeps the
//! way there, and drops what comes from elsewhere. There are few such lanes; the server that was
//! not asked for the longest time makes way.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use dnsproxy_core::{Key, Slot};
use model::Moment;
use rand::Rng;

use crate::options::Options;
use crate::socket::Family;

mod lane;
mod vote;

use lane::{Lane, Upstream};
use vote::Vote;

/// How many lanes there are: one for any server, and those of one server each.
const LANES: usize = 9;

/// By so many queries a server without a lane of its own leads over all others without one when
/// it gets one.
const OFTEN: u32 = 256;

/// The sockets of one family.
pub(crate) struct Upstreams {
    terms: Terms,
    /// The slot of the first place of the first lane.
    first: u16,
    /// The first is for any server.
    lanes: Vec<Lane>,
    vote: Vote,
    /// A server that is asked often and has no lane.
    candidate: Option<SocketAddr>,
    /// Whether [`Self::tend`] has something to do.
    untidy: bool,
}

/// How many sockets a lane has, and for how long.
struct Terms {
    family: Family,
    sockets: usize,
    after_queries: u32,
    after: Duration,
}

/// What [`Upstreams::tend`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tended {
    /// Sockets that gave way to others.
    pub rotations: u64,
    /// Servers that got a lane.
    pub connected: u64,
    /// Servers that could have had a lane, had there been one free.
    pub crowded: u64,
}

impl Upstreams {
    /// How many slots the sockets of one family take.
    pub const fn slots(options: &Options) -> usize {
        options.upstream_sockets.get() * 2 * LANES
    }

    /// Opens the sockets for any server. Their slots begin at `first`. `watch` hears of each socket
    /// when it is opened.
    pub fn open(
        family: Family,
        first: u16,
        options: &Options,
        now: Moment,
        mut watch: impl FnMut(Slot, &UdpSocket) -> io::Result<()>,
    ) -> io::Result<Self> {
        let terms = Terms {
            family,
            sockets: options.upstream_sockets.get(),
            after_queries: options.rotate_after_queries.max(1),
            after: options.rotate_after,
        };
        let watch = |place, socket: &UdpSocket| watch(slot(first, &terms, 0, place), socket);
        let lanes = vec![Lane::open(None, &terms, now, watch)?];
        let vote = Vote::default();
        Ok(Self { terms, first, lanes, vote, candidate: None, untidy: false })
    }

    /// The socket at a slot.
    pub fn at(&mut self, slot: Slot) -> Option<&mut Upstream> {
        let (lane, place) = self.place_of(slot)?;
        self.lanes.get_mut(lane)?.at(place)
    }

    /// The slot by which a query to `server` will leave.
    pub fn choose(&mut self, server: SocketAddr, rng: &mut impl Rng) -> Option<Slot> {
        let lane = self.lanes.iter().position(|lane| lane.is_for(server)).unwrap_or(0);
        if lane == 0
            && let Some(leader) = self.vote.count(server, OFTEN)
        {
            self.candidate = Some(leader);
            self.untidy = true;
        }
        let place = self.lanes[lane].choose(rng)?;
        Some(slot(self.first, &self.terms, lane, place))
    }

    /// Lays a query ready to leave by the slot of its key, which was chosen for it.
    pub fn push(&mut self, key: Key, server: SocketAddr, message: &[u8], now: Moment) {
        let Some((lane, _)) = self.place_of(key.slot) else { return };
        self.untidy |= self.lanes[lane].push(key, server, message, &self.terms, now);
    }

    /// Sends what is laid ready. `failed` hears of each query that could not be sent.
    pub fn flush(&mut self, mut failed: impl FnMut(Key)) {
        for lane in &mut self.lanes {
            lane.flush(&mut failed);
        }
    }

    /// Takes note that a query no longer waits at `slot`.
    pub fn release(&mut self, slot: Slot) {
        if let Some((lane, place)) = self.place_of(slot) {
            self.untidy |= self.lanes[lane].release(place);
        }
    }

    /// Whether a socket is due to give way or to be closed, or a server to get its own.
    pub const fn is_untidy(&self) -> bool {
        self.untidy
    }

    /// Lets old sockets give way, closes those that have drained, and opens a lane for a server
    /// that is asked often.
    pub fn tend(
        &mut self,
        now: Moment,
        mut watch: impl FnMut(Slot, &UdpSocket) -> io::Result<()>,
    ) -> Tended {
        self.untidy = false;
        let Self { terms, first, lanes, .. } = self;
        let mut tended = Tended::default();
        for (number, lane) in lanes.iter_mut().enumerate() {
            let watch =
                |place, socket: &UdpSocket| watch(slot(*first, terms, number, place), socket);
            tended.rotations += lane.rotate(terms, now, watch);
        }
        if let Some(server) = self.candidate.take() {
            match self.connect(server, now, watch) {
                true => tended.connected += 1,
                false => tended.crowded += 1,
            }
        }
        tended
    }

    /// Opens a lane for a server; false if none is free, or the kernel has no sockets for it.
    fn connect(
        &mut self,
        server: SocketAddr,
        now: Moment,
        mut watch: impl FnMut(Slot, &UdpSocket) -> io::Result<()>,
    ) -> bool {
        let Some(number) = self.free_lane(now) else { return false };
        let Self { terms, first, lanes, .. } = self;
        let watch = |place, socket: &UdpSocket| watch(slot(*first, terms, number, place), socket);
        let Ok(lane) = Lane::open(Some(server), terms, now, watch) else { return false };
        match lanes.get_mut(number) {
            Some(old) => *old = lane,
            None => lanes.push(lane),
        }
        true
    }

    /// The number of a lane that is not there yet, or else of the one unused for longest, if that
    /// is long enough.
    fn free_lane(&self, now: Moment) -> Option<usize> {
        if self.lanes.len() < LANES {
            return Some(self.lanes.len());
        }
        let idle = self.lanes.iter().enumerate().skip(1);
        let idle = idle.filter_map(|(number, lane)| Some((lane.idle_since()?, number)));
        idle.min().filter(|(since, _)| now.since(*since) >= self.terms.after).map(|(_, lane)| lane)
    }

    /// The lane and the place in it that a slot stands for.
    fn place_of(&self, slot: Slot) -> Option<(usize, usize)> {
        let index = usize::from(slot.0.checked_sub(self.first)?);
        Some((index / self.terms.places(), index % self.terms.places()))
    }
}

impl Terms {
    /// How many places a lane has.
    const fn places(&self) -> usize {
        self.sockets * 2
    }
}

/// The slot of a place in a lane. The worker has made sure that it is less than 2^16.
const fn slot(first: u16, terms: &Terms, lane: usize, place: usize) -> Slot {
    Slot(first + (lane * terms.places() + place) as u16)
}

#[cfg(test)]
mod tests;
