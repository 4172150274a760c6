//! What each fuzz target holds against its input: a second opinion, or a slow and obvious model.
//!
//! A check panics where the two differ. A crash found here becomes a test beside the code at
//! fault.
#![forbid(unsafe_code)]

pub mod client_hello;
pub mod configuration;
pub mod dns_framing;
pub mod dns_messages;
pub mod engine;
pub mod kafka_requests;
pub mod kernel;
pub mod l7_framing;
pub mod packets;
pub mod policies;
