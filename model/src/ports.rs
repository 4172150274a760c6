//! Protocols and port ranges.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An IP protocol number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Protocol(pub u8);

impl Protocol {
    /// Internet Control Message Protocol.
    pub const ICMP: Self = Self(1);
    /// Transmission Control Protocol.
    pub const TCP: Self = Self(6);
    /// User Datagram Protocol.
    pub const UDP: Self = Self(17);
    /// ICMP for IPv6.
    pub const ICMPV6: Self = Self(58);
    /// Stream Control Transmission Protocol.
    pub const SCTP: Self = Self(132);
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ICMP => f.write_str("ICMP"),
            Self::TCP => f.write_str("TCP"),
            Self::UDP => f.write_str("UDP"),
            Self::ICMPV6 => f.write_str("ICMPv6"),
            Self::SCTP => f.write_str("SCTP"),
            Self(number) => number.fmt(f),
        }
    }
}

/// What carries a DNS message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// One message a datagram.
    Udp,
    /// Messages with a length of two bytes before each (RFC 1035, 4.2.2).
    Tcp,
}

impl Transport {
    /// The protocol number.
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::Udp => Protocol::UDP,
            Self::Tcp => Protocol::TCP,
        }
    }
}

/// The protocols and ports that a verdict row covers: everything, a protocol, or the ports of a
/// protocol that share their first `bits` bits.
///
/// Ranges become prefixes because the kernel's tables are longest-prefix tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortPrefix {
    /// Every protocol, every port.
    Any,
    /// Every port of a protocol.
    Protocol(Protocol),
    /// The ports from `port` up to the next multiple of 2^(16 - `bits`); `bits` is 1 to 16.
    Ports {
        /// The protocol.
        protocol: Protocol,
        /// The first port of the block.
        port: u16,
        /// How many leading bits are fixed, 1 to 16.
        bits: u8,
    },
}

impl PortPrefix {
    /// One port.
    pub const fn port(protocol: Protocol, port: u16) -> Self {
        Self::Ports { protocol, port, bits: 16 }
    }

    /// The fewest prefixes that cover the ports from `first` to `last`; none if `last < first`.
    pub fn range(protocol: Protocol, first: u16, last: u16) -> Vec<Self> {
        let mut prefixes = Vec::new();
        let (mut next, end) = (u32::from(first), u32::from(last));
        while next <= end {
            let fits = |log: &u32| next.is_multiple_of(1 << log) && next + (1 << log) - 1 <= end;
            let log = (0..=16).take_while(fits).last().unwrap_or(0);
            prefixes.push(match u16::try_from(next) {
                Ok(port) if log < 16 => Self::Ports { protocol, port, bits: 16 - log as u8 },
                _ => Self::Protocol(protocol),
            });
            next += 1 << log;
        }
        prefixes
    }

    /// How many leading bits of {protocol, port} are fixed: 0, 8, or 9 to 24.
    pub const fn len(self) -> u8 {
        match self {
            Self::Any => 0,
            Self::Protocol(_) => 8,
            Self::Ports { bits, .. } => 8 + bits,
        }
    }

    /// Whether nothing is fixed, so that everything is covered.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether a packet of `protocol` to `port` is covered.
    pub const fn covers(self, protocol: Protocol, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Protocol(own) => own.0 == protocol.0,
            Self::Ports { protocol: own, port: first, bits } => {
                own.0 == protocol.0 && (first ^ port) as u32 >> (16 - bits as u32) == 0
            }
        }
    }

    /// The prefixes that contain this one, the longest first.
    pub fn wider(self) -> impl Iterator<Item = Self> {
        std::iter::successors(self.parent(), |prefix| prefix.parent())
    }

    const fn parent(self) -> Option<Self> {
        match self {
            Self::Any => None,
            Self::Protocol(_) => Some(Self::Any),
            Self::Ports { protocol, bits: ..=1, .. } => Some(Self::Protocol(protocol)),
            Self::Ports { protocol, port, bits } => {
                let port = port & (u16::MAX << (17 - bits));
                Some(Self::Ports { protocol, port, bits: bits - 1 })
            }
        }
    }

    /// Whether everything that `other` covers is covered here too.
    pub const fn contains(self, other: Self) -> bool {
        if self.len() > other.len() {
            return false;
        }
        match other {
            Self::Any => true,
            Self::Protocol(protocol) => self.covers(protocol, 0),
            Self::Ports { protocol, port, .. } => self.covers(protocol, port),
        }
    }
}

impl fmt::Display for PortPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Protocol(protocol) => write!(f, "{protocol}"),
            Self::Ports { protocol, port, bits: 16 } => write!(f, "{port}/{protocol}"),
            Self::Ports { protocol, port, bits } => {
                let last = u32::from(*port) + (1 << (16 - bits)) - 1;
                write!(f, "{port}-{last}/{protocol}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_becomes_the_fewest_prefixes() {
        let shown = |first, last| {
            let prefixes = PortPrefix::range(Protocol::TCP, first, last);
            prefixes.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(shown(443, 443), ["443/TCP"]);
        assert_eq!(shown(0, 65535), ["TCP"]);
        assert_eq!(shown(8000, 8009), ["8000-8007/TCP", "8008-8009/TCP"]);
        assert_eq!(shown(1, 65535).len(), 16);
        assert_eq!(shown(65535, 65535), ["65535/TCP"]);
        assert_eq!(shown(9, 8), Vec::<String>::new());
    }

    #[test]
    fn a_range_covers_its_ports_and_no_other() {
        let prefixes = PortPrefix::range(Protocol::UDP, 1000, 5003);
        let covered = |port| prefixes.iter().any(|prefix| prefix.covers(Protocol::UDP, port));
        assert!((0..=65535).all(|port| covered(port) == (1000..=5003).contains(&port)));
        assert!(!prefixes.iter().any(|prefix| prefix.covers(Protocol::TCP, 2000)));
    }

    #[test]
    fn every_wider_prefix_contains_the_narrower_ones_and_the_widest_is_the_last() {
        let port = PortPrefix::port(Protocol::TCP, 8003);
        let wider: Vec<PortPrefix> = port.wider().collect();
        assert_eq!(wider.len(), 17);
        assert!([&[port][..], &wider].concat().is_sorted_by(|a, b| b.contains(*a)));
        assert_eq!(wider[15..], [PortPrefix::Protocol(Protocol::TCP), PortPrefix::Any]);
    }

    #[test]
    fn containment_follows_length_and_ports() {
        let tcp = PortPrefix::Protocol(Protocol::TCP);
        let block = PortPrefix::Ports { protocol: Protocol::TCP, port: 8000, bits: 13 };
        let port = PortPrefix::port(Protocol::TCP, 8003);
        assert!(PortPrefix::Any.contains(tcp) && tcp.contains(block) && block.contains(port));
        assert!(!port.contains(block) && !block.contains(tcp) && !tcp.contains(PortPrefix::Any));
        assert!(!tcp.contains(PortPrefix::port(Protocol::UDP, 8003)));
    }
}
