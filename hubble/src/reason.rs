//! Our reasons of drops among Hubble's.
//!
//! No two of ours share one of Hubble's: a filter by reason selects exactly, and a client of ours
//! tells the reason that was meant from the number alone.

use model::DropReason;

use crate::proto::flow;

/// The one of Hubble's reasons that stands for ours.
pub const fn to_hubble(reason: DropReason) -> flow::DropReason {
    use flow::DropReason as Hubble;
    match reason {
        DropReason::PolicyDenied => Hubble::PolicyDenied,
        DropReason::DenyRule => Hubble::PolicyDeny,
        DropReason::SpoofedSource => Hubble::InvalidSourceIp,
        DropReason::Malformed => Hubble::InvalidPacketDropped,
        DropReason::UnsupportedHeader => Hubble::InvalidIpv6ExtensionHeader,
        DropReason::UnsupportedEthertype => Hubble::UnsupportedL3Protocol,
        DropReason::FragmentToProxy => Hubble::IpFragmentationNotSupported,
        DropReason::FragmentUnknown => Hubble::FirstLogicalDatagramFragmentNotFound,
        DropReason::ProxyUnavailable => Hubble::SocketLookupFailed,
        DropReason::NoService => Hubble::ServiceBackendNotFound,
        DropReason::EndpointConflict => Hubble::InvalidIdentity,
        DropReason::RouterMessage => Hubble::ForbiddenIcmpv6Message,
        DropReason::LeaseExpired => Hubble::StaleOrUnroutableIp,
        DropReason::FlowTable => Hubble::CtMapInsertionFailed,
        DropReason::IcmpUnrelated => Hubble::UnknownConnectionTrackingState,
        DropReason::EndpointUnknown => Hubble::UnknownSender,
        DropReason::EndpointPending => Hubble::DropEpNotReady,
        DropReason::QuicNotInspected => Hubble::UnknownL4Protocol,
    }
}

/// Our reason for which one of Hubble's stands, if it stands for any.
pub fn from_hubble(reason: flow::DropReason) -> Option<DropReason> {
    DropReason::ALL.iter().copied().find(|&own| to_hubble(own) == reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_reasons_look_the_same_to_a_client() {
        for &reason in DropReason::ALL {
            assert_eq!(from_hubble(to_hubble(reason)), Some(reason));
        }
    }

    #[test]
    fn the_usual_reasons_have_the_numbers_that_clients_know() {
        let number = |reason| to_hubble(reason) as i32;
        assert_eq!(number(DropReason::SpoofedSource), 132);
        assert_eq!(number(DropReason::PolicyDenied), 133);
        assert_eq!(number(DropReason::LeaseExpired), 151);
        assert_eq!(number(DropReason::DenyRule), 181);
    }

    #[test]
    fn the_manual_lists_them_all() {
        let manual = include_str!("../../docs/observe.md");
        for &reason in DropReason::ALL {
            let (name, number) = (to_hubble(reason).as_str_name(), to_hubble(reason) as i32);
            let row = format!("| {reason} | `{name}` | {number} |");
            assert!(manual.lines().any(|line| line == row), "docs/observe.md lacks {row}");
        }
    }
}
