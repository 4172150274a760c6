//! What the L7 proxy decides: which requests pass, and why the others do not.
//!
//! Pure: bytes and rules go in, decisions come out. Nothing here knows a socket, a clock or a task.
//! What the wire claims about lengths and counts never decides an allocation, and whatever cannot
//! be read in exactly one way is refused.
#![forbid(unsafe_code)]

pub mod control;
mod fate;
pub mod hello;
pub mod http;
pub mod kafka;
mod options;
mod protocol;
mod reason;
mod rules;
pub mod screen;

pub use fate::{Fate, Unmatched};
pub use options::Options;
pub use protocol::Protocol;
pub use reason::Reason;
pub use rules::{Admitted, CompiledRules, Resolved, RuleProblem, TlsRoute};
