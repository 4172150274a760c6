//! What a UDP query costs: CPU time of the proxy's worker for each query, at full load.
//!
//! A pod keeps a window of queries open, the node's one worker judges and forwards them over
//! veths, and a bare responder answers. Judging and learning cost nothing here. All of it shares
//! the machine's cores, so queries a second say little; the worker's own CPU time counts.

#[path = "../tests/transparent/lab.rs"]
#[allow(dead_code, reason = "the benchmark needs a part of the lab")]
mod lab;

use std::fs;
use std::net::UdpSocket;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dnsproxy::{Address, Authority, Judgement, LearnError, Options, Query};
use model::EndpointId;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;

/// How many queries are asked in all.
const QUERIES: u32 = 300_000;
/// How many are open at a time, over all clients.
const WINDOW: u32 = 256;
/// How many clients ask; each is a thread with a socket.
const CLIENTS: u32 = 4;

struct Always;

impl Authority for Always {
    fn judge(&self, _: &Query<'_>) -> Judgement {
        Judgement::Forward(EndpointId(1))
    }

    fn learn(&self, _: EndpointId, _: &Query<'_>, _: &[Address]) -> Result<(), LearnError> {
        Ok(())
    }
}

fn main() {
    let lab = lab::Lab::new();
    lab.server.run(|| {
        let socket = UdpSocket::bind("192.0.2.53:53").unwrap();
        // It must not be the responder that loses queries.
        setsockopt(&socket, RcvBufForce, &(8 << 20)).unwrap();
        std::thread::spawn(move || respond(&socket));
    });
    let options = Options { workers: NonZeroUsize::MIN, ..Options::default() };
    let proxy = lab.node.run(|| dnsproxy::start(options, Arc::new(Always)).unwrap());
    lab.intercept(proxy.udp_ports()[0], proxy.tcp_ports()[0]);
    let clients: Vec<_> = (0..CLIENTS).map(|_| lab.pod.run(|| std::thread::spawn(ask))).collect();
    let (start, cpu) = (Instant::now(), worker_time());
    clients.into_iter().for_each(|client| client.join().unwrap());
    let (elapsed, cpu) = (start.elapsed(), worker_time() - cpu);
    let answered = proxy.stats().answered;
    println!(
        "{answered} queries in {elapsed:.1?}: {:.0} a second, {:.2} µs of worker CPU each",
        answered as f64 / elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / answered as f64,
    );
    println!("{:?}", proxy.stats());
}

/// Answers every query for a name of fixed length with two addresses.
fn respond(socket: &UdpSocket) {
    let mut buffer = [0; 512];
    loop {
        let (length, client) = socket.recv_from(&mut buffer).unwrap();
        let mut answer = buffer[..length].to_vec();
        answer[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 2]);
        for host in 1..=2 {
            answer.extend(b"\xc0\x0c\0\x01\0\x01\0\0\x01\x2c\0\x04\xc6\x33\x64");
            answer.push(host);
        }
        let _ = socket.send_to(&answer, client);
    }
}

fn ask() {
    let socket = UdpSocket::bind("10.0.0.2:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.connect("192.0.2.53:53").unwrap();
    let mut buffer = [0; 512];
    let send = |number: u32| {
        let mut query = (number as u16).to_be_bytes().to_vec();
        query.extend(b"\x01\0\0\x01\0\0\0\0\0\0\x08");
        query.extend(format!("{number:08}").bytes());
        query.extend(b"\x07example\x03com\0\0\x01\0\x01");
        let _ = socket.send(&query);
    };
    let window = WINDOW / CLIENTS;
    (0..window).for_each(send);
    for number in window..QUERIES / CLIENTS {
        if socket.recv(&mut buffer).is_ok() {
            send(number);
        }
    }
}

/// The CPU time that the worker has used, as the scheduler counts it.
fn worker_time() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let worker = tasks
        .map(|task| task.path())
        .find(|path| fs::read_to_string(path.join("comm")).unwrap().trim() == "dns-udp-0")
        .expect("the worker runs");
    let times = fs::read_to_string(worker.join("schedstat")).unwrap();
    Duration::from_nanos(times.split(' ').next().unwrap().parse().unwrap())
}
