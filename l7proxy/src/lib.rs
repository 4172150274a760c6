//! The L7 proxy: pods' connections come in, are judged request by request, and go on to where they
//! were going.
//!
//! A process of its own, so that hostile bytes meet no process that can write the kernel's maps.
//! What it knows of rules comes over a socket from the daemon, connection by connection; where no
//! answer comes, nothing passes. What decides is in `l7proxy_core`; here are sockets, time and
//! bounds.
#![deny(unsafe_code)]

mod access;
mod admission;
mod cache;
mod connection;
mod control;
mod dial;
mod http;
mod kafka;
mod prefixed;
pub mod privileges;
mod proxy;
mod screened;
mod session;
mod splice;
mod tls;

pub use control::ControlEnded;
pub use dial::{Dial, DialFuture, Transparent};
pub use l7proxy_core::Options;
pub use proxy::{Proxy, Stopped};
