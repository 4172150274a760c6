//! What can be set about the proxy, with the defaults that suit a node.
//!
//! The daemon gives it to the process that it starts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::screen::HeadLimits;

/// The proxy's bounds. Times are in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The most connections.
    pub connections: usize,
    /// The most connections of one endpoint.
    pub connections_per_endpoint: usize,
    /// The most requests that one endpoint has in flight.
    pub requests_per_endpoint: usize,
    /// The most bytes of a request's head.
    pub head_bytes: usize,
    /// The most header fields of a request.
    pub head_fields: usize,
    /// The most requests that one HTTP/2 connection has in flight.
    pub streams: u32,
    /// How long the daemon may take to judge a connection.
    pub judgement_time: u64,
    /// How long a client may take to begin: its first bytes, a whole ClientHello, a handshake.
    pub opening_time: u64,
    /// How long a client may take over a request's head, or between two parts of its body.
    pub request_time: u64,
    /// How long a connection may stay open with nothing going on.
    pub idle_time: u64,
    /// How long connecting to a destination, its TLS handshake included, may take.
    pub connect_time: u64,
    /// The most records that wait for the daemon.
    pub records: usize,
    /// The most compiled rules, certificates and TLS configurations that are kept.
    pub cached: usize,
}

impl Default for Options {
    fn default() -> Self {
        let head = HeadLimits::default();
        Self {
            connections: 16_384,
            connections_per_endpoint: 1024,
            requests_per_endpoint: 4096,
            head_bytes: head.bytes,
            head_fields: head.fields,
            streams: 100,
            judgement_time: 5_000,
            opening_time: 10_000,
            request_time: 30_000,
            idle_time: 3_600_000,
            connect_time: 10_000,
            records: 8192,
            cached: 1024,
        }
    }
}

impl Options {
    /// The bounds of a request's head.
    pub fn head(&self) -> HeadLimits {
        HeadLimits { bytes: self.head_bytes, fields: self.head_fields }
    }

    /// [`Self::judgement_time`], as a time.
    pub const fn judgement_time(&self) -> Duration {
        Duration::from_millis(self.judgement_time)
    }

    /// [`Self::opening_time`], as a time.
    pub const fn opening_time(&self) -> Duration {
        Duration::from_millis(self.opening_time)
    }

    /// [`Self::request_time`], as a time.
    pub const fn request_time(&self) -> Duration {
        Duration::from_millis(self.request_time)
    }

    /// [`Self::idle_time`], as a time.
    pub const fn idle_time(&self) -> Duration {
        Duration::from_millis(self.idle_time)
    }

    /// [`Self::connect_time`], as a time.
    pub const fn connect_time(&self) -> Duration {
        Duration::from_millis(self.connect_time)
    }
}
