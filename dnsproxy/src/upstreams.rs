//! A worker's sockets towards the servers of one family.
//!
//! All queries share a few sockets, because opening one for each costs more than everything else.
//! A forger has to guess the port as well as the ID, so sockets do not live long: after a time or
//! a number of queries one takes no more, and is closed when nothing waits for it.

use std::io;
use std::net::UdpSocket;
use std::time::Duration;

use dnsproxy_core::Slot;
use model::Moment;
use rand::Rng;

use crate::options::Options;
use crate::socket::{self, Family};

/// The sockets of one family.
pub(crate) struct Upstreams {
    family: Family,
    /// The slot of the first place.
    first: u16,
    /// Twice as many places as sockets take queries, so that each may have a successor while it
    /// drains.
    places: Vec<Option<Upstream>>,
    after_queries: u32,
    after: Duration,
}

/// One socket.
pub(crate) struct Upstream {
    pub socket: UdpSocket,
    opened: Moment,
    sent: u32,
    waiting: usize,
    retired: bool,
    /// What the kernel had dropped at it when last seen.
    pub dropped: u32,
}

impl Upstreams {
    /// How many slots the sockets of one family take.
    pub const fn slots(options: &Options) -> usize {
        options.upstream_sockets.get() * 2
    }

    /// Opens the sockets. Their slots begin at `first`.
    pub fn open(family: Family, first: u16, options: &Options, now: Moment) -> io::Result<Self> {
        let mut upstreams = Self {
            family,
            first,
            places: std::iter::repeat_with(|| None).take(Self::slots(options)).collect(),
            after_queries: options.rotate_after_queries.max(1),
            after: options.rotate_after,
        };
        for place in 0..options.upstream_sockets.get() {
            upstreams.places[place] = Some(Upstream::open(family, now)?);
        }
        Ok(upstreams)
    }

    /// All open sockets with their slots.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Upstream)> {
        let first = self.first;
        let numbered = self.places.iter().zip(first..);
        numbered.filter_map(|(place, slot)| Some((Slot(slot), place.as_ref()?)))
    }

    /// The socket at a slot.
    pub fn socket(&mut self, slot: Slot) -> Option<&mut Upstream> {
        let place = usize::from(slot.0.checked_sub(self.first)?);
        self.places.get_mut(place)?.as_mut()
    }

    /// A random one of the sockets that take queries.
    pub fn choose(&self, rng: &mut impl Rng) -> Option<Slot> {
        let open = || self.iter().filter(|(_, upstream)| !upstream.retired);
        let count = open().count();
        let nth = if count > 1 { rng.random_range(0..count) } else { 0 };
        open().nth(nth).map(|(slot, _)| slot)
    }

    /// Takes note that a query went out at `slot`.
    pub fn hold(&mut self, slot: Slot) {
        if let Some(upstream) = self.socket(slot) {
            upstream.sent = upstream.sent.saturating_add(1);
            upstream.waiting += 1;
        }
    }

    /// Takes note that a query no longer waits at `slot`.
    pub fn release(&mut self, slot: Slot) {
        if let Some(upstream) = self.socket(slot) {
            upstream.waiting = upstream.waiting.saturating_sub(1);
        }
    }

    /// Closes the sockets that have drained, and opens the successor of one that is old. Gives
    /// the slot of a newly opened one.
    ///
    /// While no place or no port is free the old socket goes on: a forger's odds are then as they
    /// were.
    pub fn rotate(&mut self, now: Moment) -> Option<Slot> {
        for place in &mut self.places {
            if place.as_ref().is_some_and(|upstream| upstream.retired && upstream.waiting == 0) {
                *place = None;
            }
        }
        let (after, after_queries) = (self.after, self.after_queries);
        let is_old = |upstream: &Upstream| {
            !upstream.retired
                && upstream.sent > 0
                && (upstream.sent >= after_queries || now.since(upstream.opened) >= after)
        };
        let old = self.places.iter().position(|place| place.as_ref().is_some_and(is_old))?;
        let free = self.places.iter().position(Option::is_none)?;
        let successor = Upstream::open(self.family, now).ok()?;
        self.places[old].as_mut()?.retired = true;
        self.places[free] = Some(successor);
        // There are at most 2 * 2^16 slots by construction of the worker.
        Some(Slot(self.first + free as u16))
    }
}

impl Upstream {
    fn open(family: Family, now: Moment) -> io::Result<Self> {
        let socket = socket::upstream_socket(family)?;
        Ok(Self { socket, opened: now, sent: 0, waiting: 0, retired: false, dropped: 0 })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn ports(upstreams: &Upstreams) -> Vec<u16> {
        upstreams.iter().map(|(_, open)| open.socket.local_addr().unwrap().port()).collect()
    }

    #[test]
    fn an_old_socket_gives_way_and_is_closed_once_it_has_drained() {
        let options = Options {
            upstream_sockets: NonZeroUsize::MIN,
            rotate_after_queries: 2,
            ..Options::default()
        };
        let mut rng = StdRng::seed_from_u64(1);
        let mut upstreams = Upstreams::open(Family::V4, 10, &options, Moment::ZERO).unwrap();
        let first = upstreams.choose(&mut rng).unwrap();
        assert_eq!(first, Slot(10));
        upstreams.hold(first);
        assert_eq!(upstreams.rotate(Moment::ZERO), None);
        upstreams.hold(first);
        assert_eq!(upstreams.rotate(Moment::ZERO), Some(Slot(11)));
        assert_eq!(upstreams.choose(&mut rng), Some(Slot(11)));
        assert_eq!(ports(&upstreams).len(), 2);
        upstreams.release(first);
        upstreams.rotate(Moment::ZERO);
        assert!(upstreams.socket(first).is_some(), "one query still waits");
        upstreams.release(first);
        upstreams.rotate(Moment::ZERO);
        assert!(upstreams.socket(first).is_none());
    }

    #[test]
    fn a_socket_gives_way_with_time_only_if_it_was_used() {
        let options = Options { upstream_sockets: NonZeroUsize::MIN, ..Options::default() };
        let mut upstreams = Upstreams::open(Family::V4, 0, &options, Moment::ZERO).unwrap();
        let later = Moment::ZERO + options.rotate_after;
        assert_eq!(upstreams.rotate(later), None);
        upstreams.hold(Slot(0));
        assert_eq!(upstreams.rotate(later), Some(Slot(1)));
    }
}
