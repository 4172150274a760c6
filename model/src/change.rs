//! Changes to the kernel's maps: what the engine decides and the datapath carries out.
//!
//! Applying a change twice is the same as applying it once. Their order matters and is the
//! engine's: rows before the prefixes that lead to them, names before leases, generations last.

use std::fmt;
use std::net::IpAddr;

use crate::{
    DropReason, EndpointId, Identity, Interface, Moment, Name, NameNumber, PortPrefix, Prefix,
    Protocol, Ruling, TableId,
};

/// A version of the decided state. Whoever holds one can wait until it is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// Sixteen bytes that stand for the meaning of a number: the start of the SHA-256 of what it
/// means, in canonical text. A restarted daemon gives the same meaning the same number.
pub type Digest = [u8; 16];

/// One write to one map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Binds an interface to an endpoint, or changes how it is enforced.
    PutEndpoint(Interface, EndpointEntry),
    /// Unbinds an interface.
    DeleteEndpoint(Interface),
    /// Lets an endpoint send from the addresses under a prefix.
    PutSource(EndpointId, Prefix),
    /// Takes that back.
    DeleteSource(EndpointId, Prefix),
    /// Gives the addresses under a prefix an identity.
    PutPrefix(Prefix, Identity),
    /// Takes that back, so that the next shorter prefix counts.
    DeletePrefix(Prefix),
    /// Gives a service frontend an identity.
    PutFrontend(Frontend, Identity),
    /// Takes that back.
    DeleteFrontend(Frontend),
    /// Writes a row of a verdict table.
    PutRow(Row, Ruling),
    /// Takes it out.
    DeleteRow(Row),
    /// Writes the name that a number stands for.
    PutName(EndpointId, NameNumber, Name),
    /// Frees the number.
    DeleteName(EndpointId, NameNumber),
    /// Lets an endpoint reach a resolved address.
    PutLease(EndpointId, IpAddr, LeaseEntry),
    /// Takes that back.
    DeleteLease(EndpointId, IpAddr),
    /// Records one of several names that share an endpoint's address, and when it expires.
    PutShared(EndpointId, IpAddr, NameNumber, Moment),
    /// Takes that record out.
    DeleteShared(EndpointId, IpAddr, NameNumber),
    /// Records what a number stands for.
    PutNumber(NumberKind, u32, Digest),
    /// Frees the number.
    DeleteNumber(NumberKind, u32),
}

impl Change {
    /// Whether this takes something out.
    pub const fn is_removal(&self) -> bool {
        match self {
            Self::DeleteEndpoint(..)
            | Self::DeleteSource(..)
            | Self::DeletePrefix(..)
            | Self::DeleteFrontend(..)
            | Self::DeleteRow(..)
            | Self::DeleteName(..)
            | Self::DeleteLease(..)
            | Self::DeleteShared(..)
            | Self::DeleteNumber(..) => true,
            Self::PutEndpoint(..)
            | Self::PutSource(..)
            | Self::PutPrefix(..)
            | Self::PutFrontend(..)
            | Self::PutRow(..)
            | Self::PutName(..)
            | Self::PutLease(..)
            | Self::PutShared(..)
            | Self::PutNumber(..) => false,
        }
    }
}

/// What the programs know of an interface's endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointEntry {
    /// The endpoint's number.
    pub endpoint: EndpointId,
    /// How its packets are judged.
    pub enforcement: Enforcement,
    /// Counts up when verdicts given before must be given again.
    pub generation: u32,
    /// The bridge that the interface is a port of.
    pub bridge: Option<Interface>,
}

impl fmt::Display for EndpointEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, enforcement, generation, bridge } = self;
        write!(f, "endpoint {endpoint} {enforcement} generation {generation}")?;
        bridge.map_or(Ok(()), |bridge| write!(f, " bridge {bridge}"))
    }
}

/// How an endpoint's packets are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Enforcement {
    /// No policy selects it: everything passes, and flows are recorded.
    Open,
    /// By a verdict table.
    Table(TableId),
    /// Everything is dropped for this reason.
    Closed(DropReason),
}

impl fmt::Display for Enforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Table(table) => write!(f, "table {table}"),
            Self::Closed(reason) => write!(f, "closed ({reason})"),
        }
    }
}

/// Where clients meet a service: address, protocol, port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// A clusterIP, external address or node address.
    pub address: IpAddr,
    /// The service port's protocol.
    pub protocol: Protocol,
    /// The service port.
    pub port: u16,
}

/// The place of a ruling: in which table, towards whom, on which ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// The table.
    pub table: TableId,
    /// The destination, [`Identity::ANY`] for all.
    pub identity: Identity,
    /// The protocols and ports.
    pub ports: PortPrefix,
}

/// A resolved address of an endpoint, as the kernel's trie holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseEntry {
    /// The identities of the name sets that the address has: one, or two while a policy changes.
    pub sets: [Option<Identity>; 2],
    /// Whose address it is; [`NameNumber::SHARED`] where several names have it.
    pub name: NameNumber,
    /// From then on it opens no new flow (grace included).
    pub expires: Moment,
}

/// What a recorded number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum NumberKind {
    /// An [`Identity`] outside the reserved scope.
    Identity = 1,
    /// A [`TableId`].
    Table = 2,
    /// An [`EndpointId`].
    Endpoint = 3,
}

impl NumberKind {
    /// The kind of a number in a map.
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Identity),
            2 => Some(Self::Table),
            3 => Some(Self::Endpoint),
            _ => None,
        }
    }
}
