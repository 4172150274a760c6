//! Flows: what they let pass, and how they end.

use std::collections::HashSet;
use std::time::Duration;

use super::frames::{ACK, FIN, RST, SYN, TCP, UDP};
use super::*;
use crate::{Direction, Stage};

const DENIED: Outcome = Dropped(DropReason::PolicyDenied);

#[test]
fn replies_to_what_came_in_pass() {
    for_each_family(|world, family| {
        assert_eq!(world.send_tcp(family, family.outside, 5000, SYN | ACK), DENIED);
        world.receive_tcp(family, family.outside, 5000, SYN);
        assert_eq!(world.send_tcp(family, family.outside, 5000, SYN | ACK), Pass);
        assert_eq!(world.send_tcp(family, family.outside, 5001, SYN | ACK), DENIED);
        world.receive_udp(family, family.outside, 5000);
        assert_eq!(world.send_udp(family, family.outside, 5000), Pass);
        assert_eq!(world.send_udp(family, family.outside, 5001), DENIED);
        world.receive_echo(family, family.outside, false);
        assert_eq!(world.send_echo(family, family.outside, true), Pass);
        let init = frames::ip(family.outside, family.own, 132, &frames::sctp(5000, 40_000, 1));
        let ack = frames::ip(family.own, family.outside, 132, &frames::sctp(40_000, 5000, 2));
        assert_eq!(world.send(&ack), DENIED);
        world.receive(&init);
        assert_eq!(world.send(&ack), Pass);
    });
}

#[test]
fn no_flow_outlives_the_right_to_its_source() {
    for_each_family(|world, family| {
        let spoofed = Dropped(DropReason::SpoofedSource);
        let prefix = Prefix::host(family.own);
        world.receive_tcp(family, family.outside, 5000, SYN);
        assert_eq!(world.send_udp(family, family.cidr, 9), Pass);
        world.apply(&[Change::DeleteSource(ENDPOINT, prefix)]);
        world.judge_again();
        assert_eq!(world.send_udp(family, family.cidr, 9), spoofed);
        assert_eq!(world.send_tcp(family, family.outside, 5000, SYN | ACK), spoofed);
        world.apply(&[Change::PutSource(ENDPOINT, prefix)]);
        assert_eq!(world.send_udp(family, family.cidr, 9), Pass);
        assert_eq!(world.send_tcp(family, family.outside, 5000, SYN | ACK), Pass);
    });
}

#[test]
fn what_reaches_an_address_that_is_not_the_endpoint_s_begins_nothing() {
    for_each_family(|world, family| {
        let udp = frames::udp(5000, 40_000, b"data");
        world.receive(&frames::ip(family.outside, family.pod, UDP, &udp));
        assert_eq!(world.datapath().flows(ENDPOINT, now()).unwrap(), []);
        let answer = frames::udp(40_000, 5000, b"data");
        let answer = frames::ip(family.pod, family.outside, UDP, &answer);
        assert_eq!(world.send(&answer), Dropped(DropReason::SpoofedSource));
    });
}

#[test]
fn what_only_looks_like_the_middle_of_a_connection_begins_none() {
    for_each_family(|world, family| {
        for flags in [ACK, SYN | ACK, FIN | ACK, RST] {
            world.receive_tcp(family, family.outside, 5000, flags);
            assert_eq!(world.send_tcp(family, family.outside, 5000, ACK), DENIED, "{flags:#x}");
        }
        world.receive_echo(family, family.outside, true);
        assert_eq!(world.send_echo(family, family.outside, true), DENIED);
        assert_eq!(world.datapath().flows(ENDPOINT, now()).unwrap(), []);
    });
}

#[test]
fn a_connection_that_came_in_is_no_way_to_open_one() {
    for_each_family(|world, family| {
        world.receive_tcp(family, family.outside, 5000, SYN);
        assert_eq!(world.send_tcp(family, family.outside, 5000, SYN), DENIED);
        world.receive_echo(family, family.outside, false);
        assert_eq!(world.send_echo(family, family.outside, false), DENIED);
        assert_eq!(world.send_tcp(family, family.outside, 5000, SYN | ACK), Pass);
    });
}

#[test]
fn a_flow_that_is_denied_later_is_cut_and_stays_cut() {
    for_each_family(|world, family| {
        assert_eq!(world.send_tcp(family, family.cidr, 443, SYN), Pass);
        world.receive_tcp(family, family.cidr, 443, SYN | ACK);
        assert_eq!(world.send_udp(family, family.cidr, 9), Pass);
        world.receive_udp(family, family.cidr, 9);
        let rows = [tcp_port(443), PortPrefix::Protocol(Protocol::UDP)];
        let delete =
            rows.map(|ports| Change::DeleteRow(Row { table: TABLE, identity: CIDR, ports }));
        world.apply(&delete);
        // Until the generation changes, the verdict of before stands.
        assert_eq!(world.send_tcp(family, family.cidr, 443, ACK), Pass);
        world.judge_again();
        assert_eq!(world.send_tcp(family, family.cidr, 443, ACK), DENIED);
        assert_eq!(world.send_udp(family, family.cidr, 9), DENIED);
        // Packets that arrive late open it from neither side.
        world.receive_tcp(family, family.cidr, 443, ACK);
        world.receive_udp(family, family.cidr, 9);
        assert_eq!(world.send_tcp(family, family.cidr, 443, ACK), DENIED);
        assert_eq!(world.send_udp(family, family.cidr, 9), DENIED);
        // A connection that the other side opens is another matter.
        world.receive_tcp(family, family.cidr, 443, SYN);
        assert_eq!(world.send_tcp(family, family.cidr, 443, SYN | ACK), Pass);
    });
}

#[test]
fn a_flow_that_is_allowed_again_goes_on() {
    for_each_family(|world, family| {
        assert_eq!(world.send_tcp(family, family.cidr, 443, SYN), Pass);
        let row = Row { table: TABLE, identity: CIDR, ports: tcp_port(443) };
        world.apply(&[Change::DeleteRow(row)]);
        world.judge_again();
        assert_eq!(world.send_tcp(family, family.cidr, 443, ACK), DENIED);
        world.apply(&[Change::PutRow(row, Verdict::Allow.into())]);
        assert_eq!(world.send_tcp(family, family.cidr, 443, ACK), Pass);
    });
}

#[test]
fn a_denial_is_never_remembered() {
    for_each_family(|world, family| {
        assert_eq!(world.send_tcp(family, family.leased, 443, SYN), DENIED);
        world.lease(family.leased, [Some(NAMES), None], now() + Duration::from_secs(60));
        assert_eq!(world.send_tcp(family, family.leased, 443, SYN), Pass);
    });
}

#[test]
fn without_a_policy_flows_are_recorded_for_when_one_comes() {
    for_each_family(|world, family| {
        world.enforce(Enforcement::Open);
        world.receive_tcp(family, family.outside, 5000, SYN);
        assert_eq!(world.send_tcp(family, family.outside, 5000, SYN | ACK), Pass);
        assert_eq!(world.send_tcp(family, family.outside, 443, SYN), Pass);
        world.judge_again();
        assert_eq!(world.send_tcp(family, family.outside, 5000, ACK), Pass);
        assert_eq!(world.send_tcp(family, family.outside, 443, ACK), DENIED);
    });
}

#[test]
fn a_flow_that_was_silent_for_too_long_is_gone() {
    for_each_family(|world, family| {
        let mut short = settings();
        short.udp_idle = Duration::from_millis(600);
        short.handshake_idle = Duration::from_millis(600);
        world.datapath().configure(&short).unwrap();
        world.receive_udp(family, family.outside, 5000);
        world.receive_tcp(family, family.outside, 5000, SYN);
        world.receive_tcp(family, family.outside, 5001, SYN);
        assert_eq!(world.send_tcp(family, family.outside, 5001, SYN | ACK), Pass);
        assert_eq!(world.send_udp(family, family.outside, 5000), Pass);
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(world.send_udp(family, family.outside, 5000), DENIED);
        assert_eq!(world.send_tcp(family, family.outside, 5000, SYN | ACK), DENIED);
        // Both sides have spoken: the longer time holds.
        assert_eq!(world.send_tcp(family, family.outside, 5001, ACK), Pass);
    });
}

#[test]
fn living_outbound_flows_keep_their_addresses() {
    for_each_family(|world, family| {
        let live = || {
            let mut live = HashSet::new();
            world.datapath().live_addresses(ENDPOINT, now(), &mut live).unwrap();
            live
        };
        assert_eq!(live(), HashSet::new());
        world.receive_udp(family, family.outside, 5000);
        world.send_tcp(family, family.cidr, 443, SYN);
        world.send_udp(family, family.pod, 9);
        assert_eq!(live(), HashSet::from([family.cidr, family.pod]));
        world.send_tcp(family, family.cidr, 443, FIN | ACK);
        assert_eq!(live(), HashSet::from([family.cidr, family.pod]), "half closed");
        world.receive_tcp(family, family.cidr, 443, FIN | ACK);
        assert_eq!(live(), HashSet::from([family.pod]));
        world.send_tcp(family, family.cidr, 443, SYN);
        assert_eq!(live(), HashSet::from([family.cidr, family.pod]), "opened again");
        world.receive_tcp(family, family.cidr, 443, RST);
        assert_eq!(live(), HashSet::from([family.pod]));
        let mut later = HashSet::new();
        let then = now() + Duration::from_secs(61);
        world.datapath().live_addresses(ENDPOINT, then, &mut later).unwrap();
        assert_eq!(later, HashSet::new());
    });
}

#[test]
fn flows_are_told_with_their_direction_and_stage() {
    for_each_family(|world, family| {
        world.send_tcp(family, family.cidr, 443, SYN);
        world.receive_tcp(family, family.outside, 5000, SYN);
        world.send_tcp(family, family.outside, 5000, SYN | ACK);
        let flows = world.datapath().flows(ENDPOINT, now()).unwrap();
        let told: Vec<_> = flows
            .iter()
            .map(|flow| (flow.direction, flow.remote.ip(), flow.remote.port(), flow.stage))
            .collect();
        let outbound = (Direction::Outbound, family.cidr, 443, Stage::Begun);
        let inbound = (Direction::Inbound, family.outside, 5000, Stage::Established);
        assert_eq!(told, [outbound, inbound]);
    });
}

#[test]
fn a_flood_evicts_the_endpoint_s_own_flows_and_is_counted() {
    for_each_family(|world, family| {
        for port in 1..=2000 {
            world.receive(&frames::ip(family.outside, family.own, UDP, &frames::udp(port, 9, &[])));
        }
        let evicted = world.datapath().evictions(ENDPOINT, Direction::Inbound).unwrap();
        let left = world.datapath().flows(ENDPOINT, now()).unwrap().len() as u64;
        assert_eq!(evicted + left, 2000);
        assert!(left <= 512 && left > 0, "{left}");
        assert_eq!(world.datapath().evictions(ENDPOINT, Direction::Outbound).unwrap(), 0);
    });
}

#[test]
fn a_late_answer_of_the_proxy_opens_no_way_to_the_server() {
    for_each_family(|world, family| {
        let datagram = frames::udp(53, 40_000, b"answer");
        let answer = frames::ip(family.outside, family.own, UDP, &datagram);
        world.receive_marked(&answer, 0x1000);
        assert_eq!(world.send_udp(family, family.outside, 53), DENIED);
    });
}

#[test]
fn an_endpoint_without_flow_tables_is_closed() {
    for_each_family(|world, family| {
        for (_, slot, kind, _) in world.datapath().endpoints.all_tables() {
            assert!(kind.outer(&world.datapath().maps).delete(&kind.index(slot)).unwrap());
        }
        let table = Dropped(DropReason::FlowTable);
        assert_eq!(world.send_tcp(family, family.pod, 443, SYN), table);
        world.fixture.reopen();
        assert_eq!(world.send_tcp(family, family.pod, 443, SYN), Pass);
    });
}

#[test]
fn icmp_errors_pass_only_back_to_where_a_flow_leads() {
    for_each_family(|world, family| {
        let kind = if family.own.is_ipv4() { 3 } else { 1 };
        let error = |to: IpAddr, about: IpAddr, port: u16| {
            let quoted = frames::ip(about, family.own, UDP, &frames::udp(port, 40_000, b"data"));
            let message = frames::icmp(kind, 0, &quoted[14..]);
            frames::ip(family.own, to, family.icmp, &message)
        };
        let unrelated = Dropped(DropReason::IcmpUnrelated);
        assert_eq!(world.send(&error(family.outside, family.outside, 5000)), unrelated);
        world.receive_udp(family, family.outside, 5000);
        assert_eq!(world.send(&error(family.outside, family.outside, 5000)), Pass);
        assert_eq!(world.send(&error(family.outside, family.outside, 5001)), unrelated);
        assert_eq!(world.send(&error(family.denied, family.outside, 5000)), unrelated);
        assert_eq!(world.send_udp(family, family.cidr, 9), Pass);
        assert_eq!(world.send(&error(family.cidr, family.cidr, 9)), Pass);
        let cut = frames::ip(family.own, family.cidr, family.icmp, &frames::icmp(kind, 0, &[0; 9]));
        assert_eq!(world.send(&cut), unrelated);
        // Where the flow waits to be judged again, so does what speaks of it.
        world.judge_again();
        assert_eq!(world.send(&error(family.cidr, family.cidr, 9)), unrelated);
    });
}

#[test]
fn a_tcp_connection_may_be_picked_up_in_its_middle_where_a_rule_allows_it() {
    for_each_family(|world, family| {
        assert_eq!(world.send_tcp(family, family.cidr, 443, ACK), Pass);
        let other = frames::ip(family.own, family.outside, TCP, &frames::tcp(40_000, 443, ACK));
        assert_eq!(world.send(&other), DENIED);
    });
}
