//! Audited flows: what is kept of them, and what becomes of them when policies change.

use std::collections::HashSet;

use super::*;
use crate::Flow;

/// The world's one outbound flow.
fn flow(world: &World) -> Flow {
    let flows = world.datapath().flows(ENDPOINT, now()).unwrap();
    let own = flows.iter().filter(|flow| flow.direction == crate::Direction::Outbound);
    let own: Vec<&Flow> = own.collect();
    assert_eq!(own.len(), 1, "{flows:?}");
    *own[0]
}

#[test]
fn an_audited_flow_is_kept_as_any_allowed_one_and_told_once() {
    for_each_audited(|world, family| {
        let mut witness = Witness::of(world);
        assert_eq!(world.send_tcp(family, family.outside, 443, SYN), Pass);
        assert_eq!(told(&mut witness), DropReason::PolicyDenied);
        world.receive_tcp(family, family.outside, 443, SYN | ACK);
        assert_eq!(world.send_tcp(family, family.outside, 443, ACK), Pass);
        world.judge_again();
        assert_eq!(world.send_tcp(family, family.outside, 443, ACK), Pass);
        witness.none();
        let flow = flow(world);
        assert_eq!(flow.verdict, Verdict::Allow);
        assert_eq!(flow.audited, Some(DropReason::PolicyDenied));
        assert_eq!(flow.stage, crate::Stage::Established);
        assert_eq!(world.audits(), [(DropReason::PolicyDenied, 1)].into());
    });
}

#[test]
fn a_living_flow_is_told_again_when_it_becomes_audited_and_when_it_is_no_more() {
    for_each_audited(|world, family| {
        let mut witness = Witness::of(world);
        let row = Row { table: TABLE, identity: CIDR, ports: tcp_port(443) };
        let steps = [
            (Change::PutRow(row, Verdict::Allow.into()), model::Outcome::Forwarded),
            (Change::DeleteRow(row), model::Outcome::Audited(DropReason::PolicyDenied)),
            (
                Change::PutRow(row, Ruling { verdict: Some(Verdict::Allow), audited: DENY_RULE }),
                model::Outcome::Audited(DropReason::DenyRule),
            ),
            (Change::PutRow(row, Verdict::Allow.into()), model::Outcome::Forwarded),
        ];
        for (step, (change, outcome)) in steps.into_iter().enumerate() {
            world.apply(&[change]);
            world.judge_again();
            let flags = if step == 0 { SYN } else { ACK };
            assert_eq!(world.send_tcp(family, family.cidr, 443, flags), Pass);
            let event = witness.one();
            assert_eq!((event.outcome, event.again), (outcome, step > 0), "{step}");
            world.receive_tcp(family, family.cidr, 443, ACK);
        }
        assert_eq!(flow(world).audited, None);
    });
}

#[test]
fn a_living_flow_ends_where_audit_becomes_enforcement_and_goes_on_where_it_comes_back() {
    for_each_audited(|world, family| {
        assert_eq!(world.send_tcp(family, family.outside, 443, SYN), Pass);
        world.receive_tcp(family, family.outside, 443, SYN | ACK);
        world.default_deny(false);
        assert_eq!(world.send_tcp(family, family.outside, 443, ACK), Pass, "not yet in force");
        world.judge_again();
        let denied = Dropped(DropReason::PolicyDenied);
        assert_eq!(world.send_tcp(family, family.outside, 443, ACK), denied);
        assert_eq!((flow(world).verdict, flow(world).audited), (Verdict::Deny, None));
        world.default_deny(true);
        let mut witness = Witness::of(world);
        assert_eq!(world.send_tcp(family, family.outside, 443, ACK), Pass);
        assert_eq!(told(&mut witness), DropReason::PolicyDenied);
    });
}

#[test]
fn an_expired_lease_carries_no_flow_that_began_only_because_of_an_audit() {
    for_each_audited(|world, family| {
        let lease = |expires| world.lease(family.leased, [Some(NAMES), None], expires);
        lease(now());
        assert_eq!(world.send_tcp(family, family.leased, 443, SYN), Pass);
        world.receive_tcp(family, family.leased, 443, SYN | ACK);
        assert_eq!(flow(world).audited, Some(DropReason::LeaseExpired));
        let live = |world: &World| {
            let mut addresses = HashSet::<IpAddr>::new();
            world.datapath().live_addresses(ENDPOINT, now(), &mut addresses).unwrap();
            addresses.contains(&family.leased)
        };
        assert!(!live(world), "the lease need not stay for it");
        world.default_deny(false);
        world.judge_again();
        let expired = Dropped(DropReason::LeaseExpired);
        assert_eq!(world.send_tcp(family, family.leased, 443, ACK), expired);
    });
}

#[test]
fn an_expired_lease_carries_a_flow_that_an_audited_deny_rule_covers() {
    for_each_family(|world, family| {
        let minute = now() + Duration::from_secs(60);
        let audited = Ruling { verdict: Some(Verdict::Allow), audited: DENY_RULE };
        world.rule(NAMES, tcp_port(443), audited);
        world.lease(family.leased, [Some(NAMES), None], minute);
        assert_eq!(world.send_tcp(family, family.leased, 443, SYN), Pass);
        world.receive_tcp(family, family.leased, 443, SYN | ACK);
        world.lease(family.leased, [Some(NAMES), None], now());
        world.judge_again();
        assert_eq!(world.send_tcp(family, family.leased, 443, ACK), Pass);
        assert_eq!(flow(world).audited, Some(DropReason::DenyRule));
    });
}

#[test]
fn an_audited_flow_passes_without_flow_tables() {
    for_each_audited(|world, family| {
        for (_, slot, kind, _) in world.datapath().endpoints.all_tables() {
            assert!(kind.outer(&world.datapath().maps).delete(&kind.index(slot)).unwrap());
        }
        let mut witness = Witness::of(world);
        assert_eq!(world.send_tcp(family, family.pod, 443, SYN), Pass);
        assert_eq!(told(&mut witness), DropReason::FlowTable);
        let deny = Dropped(DropReason::DenyRule);
        assert_eq!(world.send_tcp(family, family.denied, 443, SYN), deny);
    });
}

#[test]
fn audited_packets_have_the_budget_of_flows_and_are_counted_to_the_packet() {
    for_each_audited(|world, family| {
        let few = crate::EventBudget { per_second: 1, burst: 5 };
        let off = crate::EventBudget::OFF;
        let own = crate::Settings { flow_events: few, drop_events: off, ..settings() };
        world.datapath().configure(&own).unwrap();
        let mut witness = Witness::of(world);
        for port in 1..=50 {
            assert_eq!(world.send_tcp(family, family.outside, port, SYN), Pass);
        }
        let events = witness.events().len() as u64;
        let untold = counts(world).flow_events;
        assert!((5..50).contains(&events), "{events}");
        assert_eq!(events + untold.suppressed + untold.lost, 50);
        assert_eq!(world.audits(), [(DropReason::PolicyDenied, 50)].into());
    });
}
