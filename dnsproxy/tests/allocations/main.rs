//! A worker that has seen its traffic allocates nothing for more of it.

#[path = "../transparent/lab.rs"]
#[allow(dead_code, reason = "this test needs a part of the lab")]
mod lab;
#[path = "../transparent/server.rs"]
#[allow(dead_code, reason = "this test needs a part of the server")]
mod server;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::UdpSocket;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use dnsproxy::{Address, Authority, Judgement, LearnError, Options, Query};
use model::EndpointId;

/// Counts the allocations of the threads that have judged a query.
struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static JUDGES: Cell<bool> = const { Cell::new(false) };
}

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if JUDGES.try_with(Cell::get).unwrap_or(false) {
            COUNT.fetch_add(1, SeqCst);
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Always;

impl Authority for Always {
    fn judge(&self, query: &Query<'_>) -> Judgement {
        JUDGES.set(true);
        let denied = query.name.labels().next() == Some(b"denied");
        if denied { Judgement::Refuse(EndpointId(1)) } else { Judgement::Forward(EndpointId(1)) }
    }

    fn learn(&self, _: EndpointId, _: &Query<'_>, _: &[Address]) -> Result<(), LearnError> {
        Ok(())
    }
}

/// Sends queries in bursts and takes their answers.
fn ask(socket: &UdpSocket, bursts: u16) {
    let mut buffer = [0; 512];
    for burst in 0..bursts {
        for index in 0..16 {
            let label: &[u8] = if index % 4 == 0 { b"\x06denied" } else { b"\x03www" };
            let mut query = (burst * 16 + index).to_be_bytes().to_vec();
            query.extend(b"\x01\0\0\x01\0\0\0\0\0\0");
            query.extend(label);
            query.extend(b"\x04test\0\0\x01\0\x01");
            socket.send(&query).unwrap();
        }
        for _ in 0..16 {
            socket.recv(&mut buffer).expect("an answer");
        }
    }
}

#[test]
fn a_worker_at_steady_state_allocates_nothing() {
    let lab = lab::Lab::new();
    server::start(&lab.server);
    let options = Options { workers: NonZeroUsize::MIN, ..Options::default() };
    let proxy = lab.node.run(|| dnsproxy::start(options, Arc::new(Always)).unwrap());
    lab.intercept(proxy.udp_ports()[0], proxy.tcp_ports()[0]);
    lab.pod.run(|| {
        let socket = UdpSocket::bind("10.0.0.2:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        socket.connect("192.0.2.53:53").unwrap();
        let made_while = |bursts| {
            let before = COUNT.load(SeqCst);
            ask(&socket, bursts);
            COUNT.load(SeqCst) - before
        };
        assert!(made_while(200) > 0, "the worker's first allocations are seen");
        // What a queue holds at most depends on how the threads take turns: it may still grow once.
        let rounds = [0; 5].map(|_| made_while(200));
        assert!(rounds.contains(&0), "3,200 queries in a round: {rounds:?}");
    });
    assert_eq!(proxy.stats().answered, 6 * 2400);
}
