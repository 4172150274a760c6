//! Starting and stopping the proxy.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use nix::sys::eventfd::{EfdFlags, EventFd};
use thiserror::Error;
use tokio::sync::Notify;
use tracing::error;

use crate::authority::Authority;
use crate::gate::Gate;
use crate::latency::{Latency, Stage};
use crate::options::Options;
use crate::socket;
use crate::stats::{Counters, Stats};
use crate::tcp::Server;
use crate::worker::Worker;

/// A running proxy. It stops when this is dropped.
pub struct Proxy {
    udp_ports: Vec<u16>,
    tcp_ports: Vec<u16>,
    counters: Vec<Arc<Counters>>,
    threads: Vec<JoinHandle<()>>,
    stop: Stop,
}

/// Why the proxy does not start.
#[derive(Debug, Error)]
pub enum Error {
    /// A transparent UDP socket could not be opened.
    #[error("cannot open a transparent UDP socket")]
    UdpListener(#[source] io::Error),
    /// A transparent TCP listener could not be opened.
    #[error("cannot open a transparent TCP listener")]
    TcpListener(#[source] io::Error),
    /// A worker's other sockets could not be opened.
    #[error("cannot open the sockets of UDP worker {worker}")]
    Worker {
        /// Which one.
        worker: usize,
        /// Why.
        source: io::Error,
    },
    /// The signal that stops the workers could not be made.
    #[error("cannot make the signal that stops the workers")]
    Signal(#[source] io::Error),
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// Tells all threads to end.
struct Stop {
    /// Written once and never read, so that every worker sees it.
    workers: Arc<EventFd>,
    tcp: Arc<Notify>,
}

/// Starts the proxy with its sockets in the calling thread's network namespace.
pub fn start(options: Options, authority: Arc<dyn Authority>) -> Result<Proxy, Error> {
    let signal = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
        .map_err(|errno| Error::Signal(errno.into()))?;
    let stop = Stop { workers: Arc::new(signal), tcp: Arc::default() };
    let mut proxy = Proxy {
        udp_ports: Vec::new(),
        tcp_ports: Vec::new(),
        counters: Vec::new(),
        threads: Vec::new(),
        stop,
    };
    let options = Arc::new(options);
    for _ in 0..options.workers.get() {
        let gate = proxy.gate(&options, Arc::clone(&authority));
        proxy.start_worker(gate)?;
    }
    let gate = proxy.gate(&options, authority);
    proxy.start_tcp(gate)?;
    Ok(proxy)
}

impl Proxy {
    /// The UDP port of each worker, the same in both families.
    pub fn udp_ports(&self) -> &[u16] {
        &self.udp_ports
    }

    /// The TCP ports, the same in both families.
    pub fn tcp_ports(&self) -> &[u16] {
        &self.tcp_ports
    }

    /// The counts up to now.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for counters in &self.counters {
            stats.add(counters);
        }
        stats
    }

    /// How long a stage took up to now.
    pub fn latency(&self, stage: Stage) -> Latency {
        let mut latency = Latency::default();
        for counters in &self.counters {
            for (sum, own) in latency.iter_mut().zip(counters.latencies.read(stage)) {
                sum.count += own.count;
                sum.nanos += own.nanos;
            }
        }
        latency
    }

    /// Whether every thread still serves. One that does not has died of a defect; its queries
    /// are dropped by the datapath, so whoever sees this should end the process.
    pub fn is_healthy(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished())
    }

    /// Stops serving. UDP queries that wait are answered with SERVFAIL; TCP connections are closed.
    pub fn shutdown(self) {}

    /// A gate with counters of its own.
    fn gate(&mut self, options: &Arc<Options>, authority: Arc<dyn Authority>) -> Gate {
        let counters = Arc::new(Counters::default());
        self.counters.push(Arc::clone(&counters));
        Gate { authority, options: Arc::clone(options), counters }
    }

    fn start_worker(&mut self, gate: Gate) -> Result<(), Error> {
        let number = self.udp_ports.len();
        let listeners =
            socket::udp_listeners(gate.options.answer_mark).map_err(Error::UdpListener)?;
        let port = listeners.0.local_addr().map_err(Error::UdpListener)?.port();
        let worker = Worker::open(gate, listeners, &self.stop.workers)
            .map_err(|source| Error::Worker { worker: number, source })?;
        self.spawn(format!("dns-udp-{number}"), || worker.run())?;
        self.udp_ports.push(port);
        Ok(())
    }

    fn start_tcp(&mut self, gate: Gate) -> Result<(), Error> {
        let mark = gate.options.answer_mark;
        let listeners = socket::tcp_listeners(mark).map_err(Error::TcpListener)?;
        let port = listeners.0.local_addr().map_err(Error::TcpListener)?.port();
        let server = Server { gate, listeners, stop: Arc::clone(&self.stop.tcp) };
        self.spawn("dns-tcp".to_owned(), || server.run())?;
        self.tcp_ports.push(port);
        Ok(())
    }

    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let thread = Builder::new().name(name).spawn(run).map_err(Error::Thread)?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Written once to a counter of 64 bits, this cannot be refused.
        if let Err(error) = self.stop.workers.write(1) {
            error!(%error, "the DNS workers cannot be told to stop");
            return;
        }
        self.stop.tcp.notify_one();
        for thread in self.threads.drain(..) {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                error!(thread = name, "a thread of the DNS proxy had died");
            }
        }
    }
}
