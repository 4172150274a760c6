//! What the programs report of a packet: that it was dropped, that it began a flow, or that it
//! passes only because a policy is audited.
//!
//! Events are samples, limited per endpoint; the counters beside them are exact.

use std::net::SocketAddr;

use crate::{DropReason, EndpointId, Identity, Interface, Moment, Protocol, TableId};

/// Which way a packet or a flow's first packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The endpoint sent it.
    Outbound,
    /// It reached the endpoint.
    Inbound,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It passed.
    Forwarded,
    /// It went to the DNS proxy.
    Redirected,
    /// It went to the L7 proxy.
    Inspected,
    /// It was dropped.
    Dropped(DropReason),
    /// It went on, to a proxy or past it, and would have been dropped, were no policy audited.
    Audited(DropReason),
}

/// A packet was dropped, began a flow, or was audited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketEvent {
    /// When.
    pub at: Moment,
    /// Whose packet it was; none where the interface is bound to no endpoint.
    pub endpoint: Option<EndpointId>,
    /// The interface that it was seen on.
    pub interface: Interface,
    /// Which way it went.
    pub direction: Direction,
    /// What became of it.
    pub outcome: Outcome,
    /// Whether its flow lived before, under another verdict.
    pub again: bool,
    /// The frame's length in bytes.
    pub length: u32,
    /// The table that the endpoint was judged by; none where it is open or closed.
    pub table: Option<TableId>,
    /// The packet's headers, as far as they could be read.
    pub packet: Option<PacketHeaders>,
}

/// The headers of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketHeaders {
    /// Where it said it came from; port 0 where the protocol has none or it was not read.
    pub source: SocketAddr,
    /// Where it was going, likewise.
    pub destination: SocketAddr,
    /// The transport protocol.
    pub protocol: Protocol,
    /// What else the transport header says; none where it was not read.
    pub transport: Option<TransportHeader>,
    /// Who the destination is, where the packet came so far as to be judged.
    pub identity: Option<Identity>,
    /// Whether the destination is a service's port, and the identity that port's.
    pub frontend: bool,
}

/// What a transport header says beside its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransportHeader {
    /// TCP, with its flags: FIN is the lowest bit, CWR the highest.
    Tcp(u8),
    /// ICMP, of the addresses' family.
    Icmp {
        /// The message's type.
        kind: u8,
        /// Its code.
        code: u8,
    },
    /// A protocol that has ports and nothing more to say.
    Ports,
}
