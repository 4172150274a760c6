//! The DNS proxy without its sockets: reading messages where they lie, what is refused before
//! policy, the life of one query, TCP framing, and the refusals themselves.
//!
//! Nothing here knows a clock, a socket or a task: `now` and random numbers are arguments, and
//! buffers belong to the caller. No function panics on any input, and none allocates once its
//! buffers have grown to what the traffic needs.
#![forbid(unsafe_code)]

mod answer;
mod framing;
mod header;
mod outline;
mod pending;
mod question;
mod rewrite;
mod screen;
mod wire;

pub use answer::{Address, Answer};
pub use framing::{FrameError, Frames};
pub use header::{Flags, HEADER_LEN, Header, Rcode};
pub use outline::{ExtendedError, Outline, REFUSAL_MAX_LEN};
pub use pending::{
    Asked, Breach, Client, Course, Key, Limits, Pending, Refused, Slot, Unsolicited,
};
pub use question::Question;
pub use rewrite::{set_id, write_framed};
pub use screen::{Rejection, Screened, screen};
pub use wire::Malformed;
