//! What the transport layer's header says.

use std::fmt;

use model::Protocol;

/// The transport layer of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer4 {
    /// TCP.
    Tcp {
        /// The source port.
        source_port: u16,
        /// The destination port.
        destination_port: u16,
        /// The flags; none for what a proxy saw, which is no packet.
        flags: Option<TcpFlags>,
    },
    /// UDP.
    Udp {
        /// The source port.
        source_port: u16,
        /// The destination port.
        destination_port: u16,
    },
    /// SCTP.
    Sctp {
        /// The source port.
        source_port: u16,
        /// The destination port.
        destination_port: u16,
    },
    /// ICMP.
    IcmpV4 {
        /// The message's type.
        kind: u8,
        /// The message's code.
        code: u8,
    },
    /// ICMP for IPv6.
    IcmpV6 {
        /// The message's type.
        kind: u8,
        /// The message's code.
        code: u8,
    },
    /// Any other protocol.
    Other(Protocol),
}

/// The flags of a TCP header, as they stand in its fourteenth byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpFlags(pub u8);

impl Layer4 {
    /// The protocol.
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::Tcp { .. } => Protocol::TCP,
            Self::Udp { .. } => Protocol::UDP,
            Self::Sctp { .. } => Protocol::SCTP,
            Self::IcmpV4 { .. } => Protocol::ICMP,
            Self::IcmpV6 { .. } => Protocol::ICMPV6,
            Self::Other(protocol) => protocol,
        }
    }

    /// The source and destination ports, where the protocol has any.
    pub const fn ports(self) -> Option<(u16, u16)> {
        match self {
            Self::Tcp { source_port, destination_port, .. }
            | Self::Udp { source_port, destination_port }
            | Self::Sctp { source_port, destination_port } => Some((source_port, destination_port)),
            Self::IcmpV4 { .. } | Self::IcmpV6 { .. } | Self::Other(_) => None,
        }
    }
}

impl TcpFlags {
    /// The sender sends no more.
    pub const FIN: Self = Self(1);
    /// The connection begins.
    pub const SYN: Self = Self(2);
    /// The connection is broken off.
    pub const RST: Self = Self(4);
    /// The receiver shall read.
    pub const PSH: Self = Self(8);
    /// The acknowledgement counts.
    pub const ACK: Self = Self(16);
    /// The urgent pointer counts.
    pub const URG: Self = Self(32);
    /// Congestion was seen.
    pub const ECE: Self = Self(64);
    /// The window was made smaller.
    pub const CWR: Self = Self(128);

    const NAMES: [(Self, &'static str); 8] = [
        (Self::FIN, "FIN"),
        (Self::SYN, "SYN"),
        (Self::RST, "RST"),
        (Self::PSH, "PSH"),
        (Self::ACK, "ACK"),
        (Self::URG, "URG"),
        (Self::ECE, "ECE"),
        (Self::CWR, "CWR"),
    ];

    /// Whether all flags of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = Self::NAMES.iter().filter(|(flag, _)| self.has(*flag));
        let names: Vec<_> = set.map(|(_, name)| *name).collect();
        f.write_str(&names.join(", "))
    }
}
