//! What is told of packets: events within their budgets, counts to the packet.

use std::net::{IpAddr, SocketAddr};

use model::{DropReason, Outcome, PacketEvent, PacketHeaders, TransportHeader};

use super::frames::{ACK, SYN, TCP};
use super::*;
use crate::{Counts, Direction, EventBudget, EventRing, Settings, Untold};

/// What is told of one packet after another.
pub(super) struct Witness(EventRing);

impl Witness {
    pub(super) fn of(world: &World) -> Self {
        let mut witness = Self(world.datapath().events().unwrap());
        witness.events();
        witness
    }

    pub(super) fn events(&mut self) -> Vec<PacketEvent> {
        std::iter::from_fn(|| self.0.next()).collect()
    }

    /// The one event since the last look.
    #[track_caller]
    pub(super) fn one(&mut self) -> PacketEvent {
        let events = self.events();
        assert_eq!(events.len(), 1, "{events:?}");
        events[0]
    }

    #[track_caller]
    pub(super) fn none(&mut self) {
        assert_eq!(self.events(), []);
    }
}

pub(super) fn counts(world: &World) -> Counts {
    world.datapath().counts().unwrap()[&ENDPOINT]
}

fn budgets(world: &World, drop_events: EventBudget, flow_events: EventBudget) {
    let settings = Settings { drop_events, flow_events, ..settings() };
    world.datapath().configure(&settings).unwrap();
}

fn headers(from: (IpAddr, u16), to: (IpAddr, u16), flags: u8) -> PacketHeaders {
    PacketHeaders {
        source: SocketAddr::from(from),
        destination: SocketAddr::from(to),
        protocol: Protocol::TCP,
        transport: Some(TransportHeader::Tcp(flags)),
        identity: None,
        frontend: false,
    }
}

#[test]
fn the_first_packet_of_a_flow_is_told_and_no_other() {
    for_each_family(|world, family| {
        let mut witness = Witness::of(world);
        assert_eq!(world.send_tcp(family, family.cidr, 443, SYN), Pass);
        let told = witness.one();
        let packet = headers((family.own, 40_000), (family.cidr, 443), SYN);
        assert_eq!(told.packet, Some(PacketHeaders { identity: Some(CIDR), ..packet }));
        assert_eq!((told.endpoint, told.interface), (Some(ENDPOINT), LOOPBACK));
        assert_eq!((told.direction, told.outcome), (Direction::Outbound, Outcome::Forwarded));
        assert_eq!((told.table, told.again), (Some(TABLE), false));
        world.receive_tcp(family, family.cidr, 443, SYN | ACK);
        assert_eq!(world.send_tcp(family, family.cidr, 443, ACK), Pass);
        world.judge_again();
        assert_eq!(world.send_tcp(family, family.cidr, 443, ACK), Pass);
        witness.none();
        assert_eq!(counts(world), Counts { outbound: 1, ..Counts::default() });
    });
}

#[test]
fn a_flow_that_comes_in_is_told_as_such() {
    for_each_family(|world, family| {
        let mut witness = Witness::of(world);
        world.receive_tcp(family, family.outside, 5000, SYN);
        let told = witness.one();
        assert_eq!((told.direction, told.outcome), (Direction::Inbound, Outcome::Forwarded));
        let packet = headers((family.outside, 5000), (family.own, 40_000), SYN);
        assert_eq!(told.packet, Some(packet));
        assert_eq!(world.send_tcp(family, family.outside, 5000, SYN | ACK), Pass);
        world.receive_tcp(family, family.outside, 5000, ACK);
        witness.none();
        assert_eq!(counts(world), Counts { inbound: 1, ..Counts::default() });
    });
}

#[test]
fn a_drop_is_told_each_time_with_its_reason() {
    for_each_family(|world, family| {
        let mut witness = Witness::of(world);
        for _ in 0..2 {
            world.send_tcp(family, family.outside, 443, SYN);
            let told = witness.one();
            let denied = Outcome::Dropped(DropReason::PolicyDenied);
            assert_eq!((told.direction, told.outcome), (Direction::Outbound, denied));
            assert_eq!(told.packet.unwrap().identity, Some(Identity::WORLD));
        }
        // What cannot be read is told as far as it was.
        world.send(&frames::ip(family.own, family.cidr, TCP, &[0; 4]));
        let told = witness.one();
        assert_eq!(told.outcome, Outcome::Dropped(DropReason::Malformed));
        let packet = told.packet.unwrap();
        assert_eq!((packet.transport, packet.destination.port()), (None, 0));
        world.send(&frames::ethernet(0x88cc, &[0; 40]));
        let told = witness.one();
        assert_eq!(told.outcome, Outcome::Dropped(DropReason::UnsupportedEthertype));
        assert_eq!(told.packet, None);
    });
}

#[test]
fn icmp_is_told_by_type_and_code_and_has_no_ports() {
    for_each_family(|world, family| {
        let mut witness = Witness::of(world);
        assert_eq!(world.send_echo(family, family.cidr, false), Pass);
        let packet = witness.one().packet.unwrap();
        let echo = TransportHeader::Icmp { kind: family.echo.0, code: 0 };
        assert_eq!(packet.transport, Some(echo));
        assert_eq!((packet.source.port(), packet.destination.port()), (0, 0));
        world.receive_echo(family, family.cidr, true);
        witness.none();
        // A message that belongs to no flow is one of its own, each time: timestamps, node queries.
        let kind = if family.own.is_ipv4() { 13 } else { 139 };
        for _ in 0..2 {
            let frame =
                frames::ip(family.own, family.pod, family.icmp, &frames::icmp(kind, 1, &[]));
            assert_eq!(world.send(&frame), Pass);
            let told = witness.one();
            assert_eq!(told.outcome, Outcome::Forwarded);
            let transport = told.packet.unwrap().transport;
            assert_eq!(transport, Some(TransportHeader::Icmp { kind, code: 0 }));
        }
    });
}

#[test]
fn a_living_flow_is_told_again_when_its_verdict_changes() {
    for_each_family(|world, family| {
        let mut witness = Witness::of(world);
        world.send_tcp(family, family.cidr, 443, SYN);
        world.receive_tcp(family, family.cidr, 443, SYN | ACK);
        let row = Row { table: TABLE, identity: CIDR, ports: tcp_port(443) };
        world.apply(&[Change::PutRow(row, Verdict::Deny.into())]);
        world.judge_again();
        witness.one();
        world.send_tcp(family, family.cidr, 443, ACK);
        assert_eq!(witness.one().outcome, Outcome::Dropped(DropReason::DenyRule));
        world.apply(&[Change::PutRow(row, Verdict::Allow.into())]);
        world.judge_again();
        assert_eq!(world.send_tcp(family, family.cidr, 443, ACK), Pass);
        assert_eq!(witness.one().outcome, Outcome::Forwarded);
        assert_eq!(counts(world).outbound, 2);
    });
}

#[test]
fn each_kind_has_a_budget_of_its_own_and_what_is_not_told_is_counted() {
    for_each_family(|world, family| {
        let few = EventBudget { per_second: 1, burst: 5 };
        budgets(world, few, few);
        let mut witness = Witness::of(world);
        for port in 0..50 {
            world.send_tcp(family, family.outside, 443, SYN);
            world.send_tcp(family, family.pod, port, SYN);
        }
        let drops = world.datapath().drops().unwrap();
        assert_eq!(drops[&(ENDPOINT, DropReason::PolicyDenied)], 50);
        let events = witness.events();
        let forwarded = |event: &&PacketEvent| event.outcome == Outcome::Forwarded;
        let flows = events.iter().filter(forwarded).count() as u64;
        let counts = counts(world);
        assert_eq!(counts.outbound, 50);
        for (told, untold) in
            [(flows, counts.flow_events), (events.len() as u64 - flows, counts.drop_events)]
        {
            assert!((5..50).contains(&told), "{told}");
            assert_eq!(told + untold.suppressed + untold.lost, 50);
        }
    });
}

#[test]
fn what_the_ring_has_no_room_for_is_counted_as_lost() {
    for_each_family(|world, family| {
        let many = EventBudget { per_second: 1_000_000, burst: 1_000_000 };
        budgets(world, many, many);
        let mut witness = Witness::of(world);
        for port in 0..1000 {
            world.send_tcp(family, family.pod, port, SYN);
        }
        let counts = counts(world);
        let told = witness.events().len() as u64;
        assert_eq!(counts.outbound, 1000);
        assert!(counts.flow_events.lost > 0 && counts.flow_events.suppressed == 0);
        assert_eq!(told + counts.flow_events.lost, 1000);
    });
}

#[test]
fn a_kind_that_is_off_is_counted_and_not_told() {
    for_each_family(|world, family| {
        budgets(world, settings().drop_events, EventBudget::OFF);
        let mut witness = Witness::of(world);
        assert_eq!(world.send_tcp(family, family.cidr, 443, SYN), Pass);
        witness.none();
        assert_eq!((counts(world).outbound, counts(world).flow_events), (1, Untold::default()));
        world.send_tcp(family, family.outside, 443, SYN);
        assert_eq!(witness.events().len(), 1);
    });
}
