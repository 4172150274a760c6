//! What is said on connections, judged by the real proxy under the real daemon: pods' packets,
//! programs' redirects, and clients and servers that are not ours.

mod audit;
mod foreign;
mod ground;
mod http;
mod kafka;
mod production;
mod resilience;
mod source;
mod tls;
