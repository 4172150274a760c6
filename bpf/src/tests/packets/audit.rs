//! What audited policies alone would drop passes, is told with the reason, and is counted.

mod flows;
mod proxies;

use std::collections::BTreeMap;
use std::time::Duration;

use model::{Audited, Ruling};

use super::events::{Witness, counts};
use super::frames::{ACK, Part, SYN, TCP, UDP, fragment};
use super::*;

const DEFAULT_DENY: Audited = Audited { deny_rule: false, default_deny: true };
const DENY_RULE: Audited = Audited { deny_rule: true, default_deny: false };

impl World {
    fn rule(&self, identity: Identity, ports: PortPrefix, ruling: Ruling) {
        let row = Row { table: TABLE, identity, ports };
        self.apply(&[Change::PutRow(row, ruling)]);
    }

    /// What is said of every destination says that default deny is audited, or that it is enforced.
    fn default_deny(&self, audited: bool) {
        let audited = Audited { default_deny: audited, deny_rule: false };
        let udp_80 = Ruling { verdict: Some(Verdict::Allow), audited };
        self.rule(Identity::ANY, PortPrefix::port(Protocol::UDP, 80), udp_80);
        if audited.default_deny {
            self.rule(Identity::ANY, PortPrefix::Any, Ruling { verdict: None, audited });
        } else {
            let row = Row { table: TABLE, identity: Identity::ANY, ports: PortPrefix::Any };
            self.apply(&[Change::DeleteRow(row)]);
        }
    }

    /// What was counted as audited, by reason.
    fn audits(&self) -> BTreeMap<DropReason, u64> {
        let audits = self.datapath().audits().unwrap();
        assert!(audits.keys().all(|(endpoint, _)| *endpoint == ENDPOINT), "{audits:?}");
        audits.into_iter().map(|((_, reason), count)| (reason, count)).collect()
    }
}

/// Runs a test in worlds of both families whose default deny is audited.
fn for_each_audited(test: fn(&mut World, Family)) {
    for family in families() {
        in_namespace(move || {
            let mut world = World::new(Enforcement::Table(TABLE));
            world.default_deny(true);
            test(&mut world, family);
        });
    }
}

/// Takes the next event, which tells of an audited packet, and says for which reason.
#[track_caller]
fn told(witness: &mut Witness) -> DropReason {
    match witness.one().outcome {
        model::Outcome::Audited(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_numbers_are_the_same_on_both_sides() {
    let number = |audited| Ruling { verdict: Some(Verdict::Allow), audited }.number();
    assert_eq!(number(DENY_RULE), 3 | bpf_abi::AUDITED_DENY_RULE);
    assert_eq!(number(DEFAULT_DENY), 3 | bpf_abi::AUDITED_DEFAULT_DENY);
    assert!(DropReason::ALL.iter().all(|own| (*own as usize) < bpf_abi::DROP_REASONS));
}

#[test]
fn what_no_rule_allows_passes_where_default_deny_is_audited() {
    for_each_audited(|world, family| {
        let mut witness = Witness::of(world);
        assert_eq!(world.send_tcp(family, family.outside, 443, SYN), Pass);
        let event = witness.one();
        let outcome = model::Outcome::Audited(DropReason::PolicyDenied);
        assert_eq!((event.outcome, event.direction), (outcome, crate::Direction::Outbound));
        assert_eq!((event.again, event.table), (false, Some(TABLE)));
        assert_eq!(event.packet.unwrap().identity, Some(Identity::WORLD));
        assert_eq!(world.send_udp(family, family.outside, 9), Pass);
        assert_eq!(told(&mut witness), DropReason::PolicyDenied);
        assert_eq!(world.send_echo(family, family.outside, false), Pass);
        assert_eq!(told(&mut witness), DropReason::PolicyDenied);
        assert_eq!(world.audits(), [(DropReason::PolicyDenied, 3)].into());
        assert_eq!(counts(world).outbound, 3, "they passed");
        // What a rule allows is as ever.
        assert_eq!(world.send_tcp(family, family.cidr, 443, SYN), Pass);
        assert_eq!(witness.one().outcome, model::Outcome::Forwarded);
        assert_eq!(world.audits(), [(DropReason::PolicyDenied, 3)].into());
    });
}

#[test]
fn each_packet_that_belongs_to_no_flow_is_told() {
    for_each_audited(|world, family| {
        let kind = if family.own.is_ipv4() { 13 } else { 139 };
        let frame =
            frames::ip(family.own, family.outside, family.icmp, &frames::icmp(kind, 1, &[]));
        let mut witness = Witness::of(world);
        for count in 1..=2 {
            assert_eq!(world.send(&frame), Pass);
            assert_eq!(told(&mut witness), DropReason::PolicyDenied);
            assert_eq!(world.audits(), [(DropReason::PolicyDenied, count)].into());
        }
    });
}

#[test]
fn every_reason_that_default_deny_has_is_told() {
    for_each_audited(|world, family| {
        let mut witness = Witness::of(world);
        let mut audited = |outcome, reason| {
            assert_eq!((outcome, told(&mut witness)), (Pass, reason));
        };
        let unused = world.send_udp(family, family.unused, 53);
        audited(unused, DropReason::NoService);
        audited(world.send_udp(family, family.dns, 54), DropReason::NoService);
        // Not even where every destination is allowed is a service that does not exist.
        audited(world.send_udp(family, family.unused, 80), DropReason::NoService);
        audited(world.send_udp(family, family.cidr, 8443), DropReason::QuicNotInspected);
        let sctp = frames::ip(family.own, family.cidr, 132, &frames::sctp(40_000, 8443, 1));
        audited(world.send(&sctp), DropReason::PolicyDenied);
        world.lease(family.leased, [Some(NAMES), None], now());
        audited(world.send_tcp(family, family.leased, 443, SYN), DropReason::LeaseExpired);
        for prefix in ["0.0.0.0/0", "::/0"] {
            world.apply(&[Change::DeletePrefix(prefix.parse().unwrap())]);
        }
        audited(world.send_tcp(family, family.outside, 443, SYN), DropReason::PolicyDenied);
    });
}

#[test]
fn of_a_service_s_port_that_no_rule_allows_the_row_for_every_destination_tells() {
    for_each_audited(|world, family| {
        world.apply(&[Change::DeleteRow(Row {
            table: TABLE,
            identity: DNS,
            ports: PortPrefix::Any,
        })]);
        let mut witness = Witness::of(world);
        assert_eq!(world.send_tcp(family, family.dns, 53, SYN), Pass);
        let event = witness.one();
        assert_eq!(event.outcome, model::Outcome::Audited(DropReason::PolicyDenied));
        let packet = event.packet.unwrap();
        assert_eq!((packet.identity, packet.frontend), (Some(DNS), true));
        // An allow of everything counts for it no more than ever.
        let all = Ruling { verdict: Some(Verdict::Allow), audited: DEFAULT_DENY };
        world.rule(Identity::ANY, PortPrefix::Any, all);
        world.judge_again();
        assert_eq!(world.send_tcp(family, family.dns, 53, SYN), Pass);
        assert_eq!(told(&mut witness), DropReason::PolicyDenied);
        world.rule(DNS, PortPrefix::Any, Verdict::Deny.into());
        world.judge_again();
        let denied = Dropped(DropReason::DenyRule);
        assert_eq!(world.send_tcp(family, family.dns, 53, SYN), denied);
    });
}

#[test]
fn what_an_audited_deny_rule_covers_passes_if_it_would_without() {
    for_each_family(|world, family| {
        let audited = |verdict| Ruling { verdict, audited: DENY_RULE };
        let mut witness = Witness::of(world);
        // Whichever of the rows says it.
        world.rule(CIDR, tcp_port(443), audited(Some(Verdict::Allow)));
        assert_eq!(world.send_tcp(family, family.cidr, 443, SYN), Pass);
        assert_eq!(told(&mut witness), DropReason::DenyRule);
        world.rule(Identity::ANY, PortPrefix::Any, audited(None));
        assert_eq!(world.send_tcp(family, family.pod, 443, SYN), Pass);
        assert_eq!(told(&mut witness), DropReason::DenyRule);
        world.rule(Identity::ANY, PortPrefix::Any, audited(Some(Verdict::Unruled)));
        assert_eq!(world.send_tcp(family, family.outside, 443, SYN), Pass);
        assert_eq!(told(&mut witness), DropReason::DenyRule);
        assert_eq!(world.audits(), [(DropReason::DenyRule, 3)].into());
        // Default deny is enforced.
        world.rule(Identity::ANY, PortPrefix::Any, audited(None));
        let denied = Dropped(DropReason::PolicyDenied);
        assert_eq!(world.send_udp(family, family.outside, 443), denied);
        // A deny rule that is enforced too.
        let deny = Dropped(DropReason::DenyRule);
        assert_eq!(world.send_udp(family, family.denied, 80), deny);
        assert_eq!(world.audits(), [(DropReason::DenyRule, 3)].into());
    });
}

#[test]
fn where_both_are_audited_the_deny_rule_is_the_reason() {
    for_each_audited(|world, family| {
        world.rule(Identity::WORLD, PortPrefix::Any, Ruling { verdict: None, audited: DENY_RULE });
        let mut witness = Witness::of(world);
        assert_eq!(world.send_udp(family, family.outside, 9), Pass);
        assert_eq!(told(&mut witness), DropReason::DenyRule);
    });
}

#[test]
fn enforced_deny_rules_hold_beside_an_audited_default_deny() {
    for_each_audited(|world, family| {
        let denied = Dropped(DropReason::DenyRule);
        assert_eq!(world.send_tcp(family, family.denied, 443, SYN), denied);
        let everywhere = Ruling { verdict: Some(Verdict::Deny), audited: DEFAULT_DENY };
        world.rule(Identity::ANY, tcp_port(25), everywhere);
        assert_eq!(world.send_tcp(family, family.outside, 25, SYN), denied);
        let nowhere = Dropped(DropReason::NoService);
        assert_eq!(world.send_tcp(family, family.unused, 25, SYN), nowhere);
        assert_eq!(world.send_tcp(family, family.unused, 26, SYN), Pass);
    });
}

#[test]
fn what_says_nothing_of_policies_is_dropped_as_ever() {
    for_each_audited(|world, family| {
        let spoofed = frames::ip(family.outside, family.pod, UDP, &frames::udp(1, 2, &[]));
        assert_eq!(world.send(&spoofed), Dropped(DropReason::SpoofedSource));
        let cut = frames::ip(family.own, family.outside, TCP, &[0; 4]);
        assert_eq!(world.send(&cut), Dropped(DropReason::Malformed));
        let lldp = frames::ethernet(0x88cc, &[0; 28]);
        assert_eq!(world.send(&lldp), Dropped(DropReason::UnsupportedEthertype));
        if family.own.is_ipv6() {
            let advertisement = frames::icmp(134, 0, &[0; 8]);
            let frame = frames::ipv6(family.own, family.pod, 58, 255, &advertisement);
            let frame = frames::ethernet(0x86dd, &frame);
            assert_eq!(world.send(&frame), Dropped(DropReason::RouterMessage));
            let options = frames::extension(TCP, &frames::tcp(1, 443, SYN));
            let routed = frames::ip(family.own, family.outside, 43, &options);
            assert_eq!(world.send(&routed), Dropped(DropReason::UnsupportedHeader));
        }
        world.enforce(Enforcement::Closed(DropReason::EndpointConflict));
        let closed = Dropped(DropReason::EndpointConflict);
        assert_eq!(world.send_udp(family, family.outside, 9), closed);
        assert_eq!(world.audits(), BTreeMap::new());
    });
}

#[test]
fn fragments_follow_an_audited_first_and_stray_ones_are_told() {
    for_each_audited(|world, family| {
        let part = |identification, offset, more| Part { identification, offset, more };
        let send = |to, part, data: &[u8]| world.send(&fragment(family.own, to, UDP, part, data));
        let mut witness = Witness::of(world);
        let data = frames::udp(40_000, 9, &[0; 56]);
        assert_eq!(send(family.outside, part(1, 0, true), &data), Pass);
        assert_eq!(told(&mut witness), DropReason::PolicyDenied);
        assert_eq!(send(family.outside, part(1, 64, false), &[0; 32]), Pass);
        witness.none();
        assert_eq!(send(family.outside, part(2, 64, false), &[0; 32]), Pass);
        assert_eq!(told(&mut witness), DropReason::FragmentUnknown);
        let unknown = Dropped(DropReason::FragmentUnknown);
        assert_eq!(send(family.denied, part(3, 64, false), &[0; 32]), unknown);
        assert_eq!(
            send(family.outside, part(4, 0, false), &[0; 4]),
            Dropped(DropReason::Malformed)
        );
    });
}

#[test]
fn icmp_errors_of_no_flow_are_told() {
    for_each_audited(|world, family| {
        let kind = if family.own.is_ipv4() { 3 } else { 1 };
        let error = |to: IpAddr| {
            let quoted = frames::ip(to, family.own, UDP, &frames::udp(5000, 40_000, b"data"));
            let message = frames::icmp(kind, 0, &quoted[14..]);
            world.send(&frames::ip(family.own, to, family.icmp, &message))
        };
        let mut witness = Witness::of(world);
        assert_eq!(error(family.outside), Pass);
        assert_eq!(told(&mut witness), DropReason::IcmpUnrelated);
        assert_eq!(error(family.denied), Dropped(DropReason::IcmpUnrelated));
    });
}

#[test]
fn what_passes_where_no_policy_is_is_not_audited() {
    for_each_audited(|world, family| {
        world.enforce(Enforcement::Open);
        let mut witness = Witness::of(world);
        assert_eq!(world.send_tcp(family, family.outside, 443, SYN), Pass);
        assert_eq!(witness.one().outcome, model::Outcome::Forwarded);
        assert_eq!(world.audits(), BTreeMap::new());
    });
}
