//! What was seen on the node: one [`Flow`] for each first packet, drop and question of DNS, the
//! [`Ring`] that keeps the newest of them, and the [`Filters`] that choose among them. A flow in the
//! ring is [`Seen`], and described when somebody reads it.
//!
//! Pure: times are handed in, and whoever wants to wait for the next flow does so elsewhere. The
//! meaning of fields and filters is Hubble's, so that its clients understand them. What could not
//! be recorded is an entry of the ring as well ([`Lost`]).
#![forbid(unsafe_code)]

mod filter;
mod flow;
mod layer4;
mod layer7;
mod ring;
mod seen;
mod summary;
mod time;

pub use filter::{EventPattern, Filter, FilterError, FilterSpec, Filters};
pub use flow::{
    Direction, EventKind, Flow, PolicyKind, PolicyRef, Service, Side, Uuid, Verdict, Who,
};
pub use layer4::{Layer4, TcpFlags};
pub use layer7::{Dns, Http, Kafka, Layer7, MessageKind, Record, Tls};
pub use model::DnsFailure;
pub use ring::{Capacity, Cursor, Entry, LossSource, Lost, Ring};
pub use seen::Seen;
pub use time::Time;
