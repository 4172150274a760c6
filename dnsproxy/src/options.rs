//! What can be set about the proxy, with the defaults that suit a node.

use std::num::NonZeroUsize;
use std::thread;
use std::time::Duration;

/// The proxy's settings.
#[derive(Clone, Debug)]
pub struct Options {
    /// The firewall mark of what the proxy sends to clients, and of the sockets that intercepted
    /// packets may be given to. It must not lead back to the proxy.
    pub answer_mark: u32,
    /// How many threads serve UDP; each has a port of its own.
    pub workers: NonZeroUsize,
    /// How long an upstream server may take; then the client gets SERVFAIL. Stay below the 5 s
    /// after which common resolvers give up.
    pub upstream_timeout: Duration,
    /// The longest TTL, in seconds, that a client gets to see.
    pub max_ttl: u32,
    /// The code for names that policy does not allow.
    pub refusal: Refusal,
    /// The most UDP queries that one worker has in flight.
    pub in_flight: usize,
    /// The most of them that belong to one endpoint.
    pub in_flight_per_endpoint: usize,
    /// How many upstream sockets a worker has for each family.
    pub upstream_sockets: NonZeroUsize,
    /// After so many queries an upstream socket gives way to one with another port.
    pub rotate_after_queries: u32,
    /// After so long it does so too.
    pub rotate_after: Duration,
    /// What bounds TCP.
    pub tcp: TcpOptions,
}

/// The bounds of TCP.
#[derive(Clone, Copy, Debug)]
pub struct TcpOptions {
    /// The most connections.
    pub connections: usize,
    /// The most connections of one endpoint, and of one client address.
    pub connections_per_endpoint: usize,
    /// The most queries of one connection that wait for answers; more are left unread.
    pub pipelined: usize,
    /// How long a connection may stay open without a query.
    pub idle_time: Duration,
    /// How long one message may take to arrive, and the client may take to accept answers.
    pub message_time: Duration,
    /// The longest query, in bytes.
    pub max_query: u16,
}

/// How a name that is not allowed is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusal {
    /// REFUSED. Some resolvers end their search list there.
    #[default]
    Refused,
    /// NXDOMAIN, as if the name did not exist.
    NxDomain,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            answer_mark: 0x1000,
            workers: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            upstream_timeout: Duration::from_secs(4),
            max_ttl: 3600,
            refusal: Refusal::default(),
            in_flight: 16_384,
            in_flight_per_endpoint: 1024,
            upstream_sockets: NonZeroUsize::MIN.saturating_add(3),
            rotate_after_queries: 20_000,
            rotate_after: Duration::from_secs(60),
            tcp: TcpOptions::default(),
        }
    }
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            connections: 2048,
            connections_per_endpoint: 64,
            pipelined: 64,
            idle_time: Duration::from_secs(20),
            message_time: Duration::from_secs(5),
            max_query: 4096,
        }
    }
}
