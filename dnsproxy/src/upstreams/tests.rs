use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

/// Sockets for IPv4, with all that is needed to use them.
struct Bench {
    upstreams: Upstreams,
    rng: StdRng,
    next: u16,
}

impl Bench {
    fn new(options: &Options) -> Self {
        let upstreams = Upstreams::open(Family::V4, 10, options, Moment::ZERO, |_, _| Ok(()));
        Self { upstreams: upstreams.unwrap(), rng: StdRng::seed_from_u64(1), next: 0 }
    }

    /// Lays a query to a server ready and lets it go unsent; the slot it would have left by.
    fn ask(&mut self, server: SocketAddr, now: Moment) -> Slot {
        let slot = self.upstreams.choose(server, &mut self.rng).unwrap();
        self.next = self.next.wrapping_add(1);
        self.upstreams.push(Key { slot, id: self.next }, server, &[0; 12], now);
        self.upstreams.flush(|key| panic!("{key:?} is not sent"));
        slot
    }

    /// Has a server asked so often that it gets a lane, if one is free, and answered.
    fn ask_often(&mut self, server: SocketAddr, now: Moment) -> Tended {
        // More than enough, because other servers may have been ahead.
        for _ in 0..OFTEN + 16 {
            let slot = self.ask(server, now);
            self.upstreams.release(slot);
        }
        assert!(self.upstreams.is_untidy());
        self.tend(now)
    }

    fn tend(&mut self, now: Moment) -> Tended {
        self.upstreams.tend(now, |_, _| Ok(()))
    }

    fn peer(&mut self, slot: Slot) -> Option<SocketAddr> {
        self.upstreams.at(slot)?.socket.peer_addr().ok()
    }
}

fn one_socket() -> Options {
    Options { upstream_sockets: NonZeroUsize::MIN, ..Options::default() }
}

/// A server on loopback, where nobody answers.
fn server(number: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 99, number], 9))
}

#[test]
fn an_old_socket_gives_way_and_is_closed_once_it_has_drained() {
    let mut bench = Bench::new(&Options { rotate_after_queries: 2, ..one_socket() });
    let first = bench.ask(server(1), Moment::ZERO);
    assert_eq!(first, Slot(10));
    assert_eq!(bench.tend(Moment::ZERO), Tended::default());
    bench.ask(server(1), Moment::ZERO);
    assert!(bench.upstreams.is_untidy());
    assert_eq!(bench.tend(Moment::ZERO), Tended { rotations: 1, ..Tended::default() });
    assert_eq!(bench.ask(server(1), Moment::ZERO), Slot(11));
    bench.upstreams.release(first);
    assert!(!bench.upstreams.is_untidy());
    bench.tend(Moment::ZERO);
    assert!(bench.upstreams.at(first).is_some(), "one query still waits");
    bench.upstreams.release(first);
    assert!(bench.upstreams.is_untidy());
    bench.tend(Moment::ZERO);
    assert!(bench.upstreams.at(first).is_none());
}

#[test]
fn a_socket_gives_way_with_time_only_if_it_was_used() {
    let mut bench = Bench::new(&one_socket());
    let later = Moment::ZERO + Options::default().rotate_after;
    assert_eq!(bench.tend(later).rotations, 0);
    bench.ask(server(1), Moment::ZERO);
    assert_eq!(bench.tend(later).rotations, 1);
}

#[test]
fn all_queries_that_leave_together_leave_by_one_socket_and_the_next_by_any() {
    let mut bench = Bench::new(&Options::default());
    let together: BTreeSet<Slot> =
        (0..64).filter_map(|_| bench.upstreams.choose(server(1), &mut bench.rng)).collect();
    assert_eq!(together.len(), 1);
    let apart: BTreeSet<Slot> = (0..64).map(|_| bench.ask(server(1), Moment::ZERO)).collect();
    assert_eq!(apart.len(), Options::default().upstream_sockets.get());
}

#[test]
fn a_server_asked_often_gets_sockets_that_hear_nobody_else() {
    let mut bench = Bench::new(&one_socket());
    let shared = bench.ask(server(2), Moment::ZERO);
    assert_eq!(bench.peer(shared), None);
    assert_eq!(bench.ask_often(server(1), Moment::ZERO).connected, 1);
    let own = bench.ask(server(1), Moment::ZERO);
    assert_eq!(bench.peer(own), Some(server(1)));
    assert_eq!(bench.ask(server(2), Moment::ZERO), shared);
}

#[test]
fn a_socket_of_a_servers_own_gives_way_to_one_of_its_own_too() {
    let mut bench = Bench::new(&one_socket());
    bench.ask_often(server(1), Moment::ZERO);
    bench.ask(server(1), Moment::ZERO);
    let later = Moment::ZERO + Options::default().rotate_after;
    assert!(bench.tend(later).rotations > 0);
    let own = bench.ask(server(1), later);
    assert_eq!(bench.peer(own), Some(server(1)));
}

#[test]
fn the_server_not_asked_for_longest_makes_way_but_not_soon() {
    let mut bench = Bench::new(&one_socket());
    let seconds = Moment::from_secs;
    for number in 1..LANES as u8 {
        assert_eq!(bench.ask_often(server(number), seconds(number.into())).connected, 1);
    }
    let soon = seconds(LANES as u64);
    assert_eq!(bench.ask_often(server(100), soon), Tended { crowded: 1, ..Tended::default() });
    let later = soon + Options::default().rotate_after;
    let waiting = bench.ask(server(1), seconds(1));
    assert_eq!(bench.ask_often(server(100), later).connected, 1);
    assert_eq!(bench.peer(waiting), Some(server(1)), "a query of it waits");
    let own = bench.ask(server(100), later);
    assert_eq!(bench.peer(own), Some(server(100)), "in the place of the next one");
    let other = bench.ask(server(2), later);
    assert_eq!(bench.peer(other), None);
}

#[test]
fn a_socket_that_cannot_be_watched_takes_no_queries() {
    let mut bench = Bench::new(&one_socket());
    let shared = bench.ask(server(1), Moment::ZERO);
    let later = Moment::ZERO + Options::default().rotate_after;
    let unwatched = |_, _: &UdpSocket| Err(io::Error::from(io::ErrorKind::OutOfMemory));
    assert_eq!(bench.upstreams.tend(later, unwatched), Tended::default());
    assert_eq!(bench.ask(server(1), later), shared);
}
