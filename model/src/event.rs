//! What the programs report of a packet that they dropped.
//!
//! Events are samples, limited per endpoint; the drop counters are exact.

use std::net::SocketAddr;

use crate::{DropReason, EndpointId, Identity, Interface, Moment, Protocol};

/// A packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropEvent {
    /// When.
    pub at: Moment,
    /// Whose packet it was; none where the interface is bound to no endpoint.
    pub endpoint: Option<EndpointId>,
    /// The interface that it came in by.
    pub interface: Interface,
    /// Why.
    pub reason: DropReason,
    /// The frame's length in bytes.
    pub length: u32,
    /// The packet's headers, as far as they could be read.
    pub packet: Option<DroppedPacket>,
}

/// The headers of a dropped packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DroppedPacket {
    /// Where it said it came from; port 0 where the protocol has none or it was not read.
    pub source: SocketAddr,
    /// Where it was going. For ICMP the port is the message's type.
    pub destination: SocketAddr,
    /// The transport protocol.
    pub protocol: Protocol,
    /// Who the destination is, where the packet came so far as to be judged.
    pub identity: Option<Identity>,
}
