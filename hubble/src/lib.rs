//! Hubble's Observer service: what [`mod@flows`] has recorded, for Hubble's own clients and for ours.
//!
//! Whoever records hands in a [`Recording`]; nothing here knows who that is. What clients may cost
//! is bounded: how many there are, what a request may hold, and what waits for one of them, which
//! is nothing: a reader that falls behind is told how much it has missed.
#![forbid(unsafe_code)]

pub mod client;
pub mod event;
mod filter;
pub mod json;
mod mask;
mod message;
pub mod proto;
mod query;
mod reader;
pub mod reason;
mod recording;
#[cfg(test)]
mod samples;
pub mod server;
mod service;
pub mod tls;

pub use query::QueryError;
pub use reader::flows;
pub use recording::Recording;
pub use server::{Clients, Listener, serve};
