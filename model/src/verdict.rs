//! What may happen to a packet, and why it may not.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a verdict row says of the packets it covers. Of several rows, the greatest wins: a plain
/// allow leaves nothing for a proxy to judge, and a deny beats them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Verdict {
    /// Passes, because no rule speaks of it and none asks for default deny.
    Unruled = 1,
    /// TCP goes to the L7 proxy, which judges what is said; all else is dropped.
    Proxy = 2,
    /// Passes to where it is going.
    Allow = 3,
    /// Goes to the DNS proxy, which judges the name.
    Dns = 4,
    /// Dropped, whatever else allows it.
    Deny = 5,
}

impl Verdict {
    /// The verdict that stands when both do.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        self.max(other)
    }

    /// The verdict that stands where each is of one of several destinations, any of which a packet
    /// may come to: what a proxy must judge for one of them, it judges for all.
    #[must_use]
    pub fn restrict(self, other: Self) -> Self {
        match (self, other) {
            (Self::Allow | Self::Unruled, Self::Proxy)
            | (Self::Proxy, Self::Allow | Self::Unruled) => Self::Proxy,
            _ => self.max(other),
        }
    }

    /// Whether packets pass to where they are going.
    pub const fn is_direct(self) -> bool {
        matches!(self, Self::Allow | Self::Unruled)
    }

    /// The verdict of a number in a map.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Unruled),
            2 => Some(Self::Proxy),
            3 => Some(Self::Allow),
            4 => Some(Self::Dns),
            5 => Some(Self::Deny),
            _ => None,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unruled => "unruled",
            Self::Proxy => "proxy",
            Self::Allow => "allow",
            Self::Dns => "dns",
            Self::Deny => "deny",
        })
    }
}

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Why a packet was dropped. The numbers stand in maps and events and keep their meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[$doc])* $name = $number,)*
        }

        impl DropReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The reason's name as people read it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The reason of a number in a map or event.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

drop_reasons! {
    /// No rule allows the destination, protocol and port.
    PolicyDenied = 1, "policy-denied";
    /// A deny rule covers it.
    DenyRule = 2, "deny-rule";
    /// The source address is not one of the endpoint's.
    SpoofedSource = 3, "spoofed-source";
    /// Headers are cut short, lengths lie, or an address is impossible on the wire.
    Malformed = 4, "malformed";
    /// IP options, a routing header, or an extension header that is not known.
    UnsupportedHeader = 5, "unsupported-header";
    /// Neither IPv4, IPv6 nor ARP.
    UnsupportedEthertype = 6, "unsupported-ethertype";
    /// A fragment to a port that is redirected to a proxy: reassembly would lose its socket.
    FragmentToProxy = 7, "fragment-to-proxy";
    /// A later fragment whose first fragment was not seen or not allowed.
    FragmentUnknown = 8, "fragment-unknown";
    /// The proxy that must judge this has no socket open.
    ProxyUnavailable = 9, "proxy-unavailable";
    /// An address of the service range where no service is known at this port.
    NoService = 10, "no-service";
    /// The endpoint's interface is claimed twice, or bound to another.
    EndpointConflict = 11, "endpoint-conflict";
    /// A router advertisement or redirect from a pod.
    RouterMessage = 12, "router-message";
    /// The address was learned, and its lease has run out.
    LeaseExpired = 13, "lease-expired";
    /// The endpoint's flow table is missing or takes no entry.
    FlowTable = 14, "flow-table";
    /// An ICMP error for a flow that was never seen.
    IcmpUnrelated = 15, "icmp-unrelated";
    /// The endpoint is not known to the kernel's maps.
    EndpointUnknown = 16, "endpoint-unknown";
    /// The endpoint is known, and its rules are not in the kernel yet.
    EndpointPending = 17, "endpoint-pending";
    /// UDP to a port whose connections the L7 proxy judges: it could be QUIC, which hides what is
    /// said from it. Clients fall back to TCP.
    QuicNotInspected = 18, "quic-not-inspected";
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Verdict; 5] =
        [Verdict::Unruled, Verdict::Proxy, Verdict::Allow, Verdict::Dns, Verdict::Deny];

    #[test]
    fn a_plain_allow_leaves_nothing_to_the_proxy_and_a_deny_nothing_to_anybody() {
        assert_eq!(Verdict::Proxy.union(Verdict::Allow), Verdict::Allow);
        assert_eq!(Verdict::Unruled.union(Verdict::Proxy), Verdict::Proxy);
        for other in ALL {
            assert_eq!(other.union(Verdict::Deny), Verdict::Deny);
        }
    }

    #[test]
    fn what_is_judged_at_one_destination_is_judged_at_all() {
        for direct in ALL.into_iter().filter(|own| own.is_direct()) {
            assert_eq!(direct.restrict(Verdict::Proxy), Verdict::Proxy);
            assert_eq!(Verdict::Proxy.restrict(direct), Verdict::Proxy);
        }
        for one in ALL {
            assert_eq!(one.restrict(one), one);
            assert_eq!(one.restrict(Verdict::Deny), Verdict::Deny);
            assert!(ALL.into_iter().all(|other| one.restrict(other) == other.restrict(one)));
        }
    }

    #[test]
    fn numbers_come_back_as_they_were() {
        assert!(ALL.into_iter().all(|own| Verdict::from_number(own as u8) == Some(own)));
        assert_eq!((Verdict::from_number(0), Verdict::from_number(6)), (None, None));
    }
}
