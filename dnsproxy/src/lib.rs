//! The DNS proxy's sockets: it takes the queries that the datapath hands over, asks the
//! [`Authority`], forwards what is allowed to the server that the client meant, and releases an
//! answer only once the authority has learned its addresses.
//!
//! A query gets an answer or is counted: REFUSED or NXDOMAIN for what is not allowed, SERVFAIL
//! for what fails. UDP is served by one thread per core, each with sockets of its own and without
//! any shared state; TCP by one more.
#![deny(unsafe_code)]

mod alarm;
mod authority;
#[allow(unsafe_code, reason = "recvmmsg and sendmmsg with control messages per datagram")]
mod batch;
mod clock;
mod datagram;
mod gate;
mod latency;
mod options;
mod proxy;
mod socket;
mod stats;
mod tcp;
mod upstreams;
mod worker;

pub use authority::{Authority, Ending, Judgement, LearnError, Query, Settled};
pub use dnsproxy_core::{Address, Answer, Breach};
pub use latency::{Bucket, LATENCY_BOUNDS, Latency, Stage};
pub use options::{Options, Refusal, TcpOptions};
pub use proxy::{Error, Proxy, start};
pub use stats::Stats;
