//! New flows: whom they are for, and what the table says.

use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use super::frames::{ACK, SYN, TCP, UDP};
use super::*;

#[test]
fn a_destination_is_reached_as_its_identity_s_rows_say() {
    for_each_family(|world, family| {
        let denied = Dropped(DropReason::PolicyDenied);
        assert_eq!(world.send_tcp(family, family.pod, 9999, SYN), Pass);
        assert_eq!(world.send_tcp(family, family.cidr, 443, SYN), Pass);
        assert_eq!(world.send_tcp(family, family.cidr, 80, SYN), denied);
        assert_eq!(world.send_tcp(family, family.outside, 443, SYN), denied);
        assert_eq!(world.send_udp(family, family.cidr, 9), Pass);
        assert_eq!(world.send_echo(family, family.cidr, false), Pass);
        assert_eq!(world.send_echo(family, family.outside, false), denied);
    });
}

#[test]
fn a_deny_beats_what_allows_any_destination() {
    for_each_family(|world, family| {
        assert_eq!(world.send_udp(family, family.outside, 80), Pass);
        assert_eq!(world.send_udp(family, family.denied, 80), Dropped(DropReason::DenyRule));
    });
}

#[test]
fn a_protocol_that_no_rule_names_is_denied() {
    for_each_family(|world, family| {
        for protocol in [4, 41, 47, 50, 132, 255] {
            let sctp = frames::sctp(1, 443, 1);
            let frame = frames::ip(family.own, family.cidr, protocol, &sctp);
            assert_eq!(world.send(&frame), Dropped(DropReason::PolicyDenied), "{protocol}");
        }
        let gre = frames::ip(family.own, family.pod, 47, &[0; 8]);
        assert_eq!(world.send(&gre), Pass);
    });
}

#[test]
fn an_address_is_reached_once_it_is_leased_and_by_the_lease_s_names() {
    for_each_family(|world, family| {
        let denied = Dropped(DropReason::PolicyDenied);
        assert_eq!(world.send_tcp(family, family.leased, 443, SYN), denied);
        let expires = now() + Duration::from_secs(60);
        world.lease(family.leased, [Some(NAMES), None], expires);
        assert_eq!(world.send_tcp(family, family.leased, 443, SYN), Pass);
        assert_eq!(world.send_tcp(family, family.leased, 8443, SYN), denied);
        world.lease(family.leased, [Some(NAMES), Some(NEW_NAMES)], expires);
        assert_eq!(world.send_tcp(family, family.leased, 8443, SYN), Pass);
    });
}

#[test]
fn a_lease_opens_nothing_inside_the_cluster() {
    for_each_family(|world, family| {
        let expires = now() + Duration::from_secs(60);
        let none = Row { table: TABLE, identity: POD, ports: PortPrefix::Any };
        world.apply(&[Change::DeleteRow(none)]);
        world.lease(family.pod, [Some(NAMES), None], expires);
        world.lease(family.unused, [Some(NAMES), None], expires);
        let denied = Dropped(DropReason::PolicyDenied);
        assert_eq!(world.send_tcp(family, family.pod, 443, SYN), denied);
        let unused = world.send_tcp(family, family.unused, 443, SYN);
        assert_eq!(unused, Dropped(DropReason::NoService));
    });
}

#[test]
fn an_expired_lease_opens_nothing_new_and_keeps_what_lives() {
    for_each_family(|world, family| {
        world.lease(family.leased, [Some(NAMES), None], now() + Duration::from_secs(60));
        assert_eq!(world.send_tcp(family, family.leased, 443, SYN), Pass);
        world.receive_tcp(family, family.leased, 443, SYN | ACK);
        world.lease(family.leased, [Some(NAMES), None], now());
        world.judge_again();
        assert_eq!(world.send_tcp(family, family.leased, 443, ACK), Pass);
        let expired = Dropped(DropReason::LeaseExpired);
        let other = frames::ip(family.own, family.leased, TCP, &frames::tcp(40_001, 443, SYN));
        assert_eq!(world.send(&other), expired);
        // A new connection on the living one's ports is new all the same.
        assert_eq!(world.send_tcp(family, family.leased, 443, SYN), expired);
        assert_eq!(world.send_tcp(family, family.leased, 443, ACK), Pass);
    });
}

#[test]
fn the_service_range_is_judged_by_frontends_alone() {
    for_each_family(|world, family| {
        let none = Dropped(DropReason::NoService);
        assert_eq!(world.send_udp(family, family.unused, 53), none);
        assert_eq!(world.send_udp(family, family.dns, 54), none);
        // Not even what may go anywhere.
        assert_eq!(world.send_udp(family, family.unused, 80), none);
        assert_eq!(world.send_echo(family, family.dns, false), none);
    });
}

#[test]
fn what_the_proxy_must_judge_is_dropped_where_there_is_none() {
    for_each_family(|world, family| {
        let unavailable = Dropped(DropReason::ProxyUnavailable);
        assert_eq!(world.send_udp(family, family.dns, 53), unavailable);
        assert_eq!(world.send_tcp(family, family.dns, 53, SYN), unavailable);
        let mut with_workers = settings();
        (with_workers.udp_ports, with_workers.tcp_ports) = (vec![9], vec![9]);
        world.datapath().configure(&with_workers).unwrap();
        assert_eq!(world.send_udp(family, family.dns, 53), unavailable);
        assert_eq!(world.send_tcp(family, family.dns, 53, SYN), unavailable);
    });
}

#[test]
fn on_a_bridge_port_a_query_goes_to_the_bridge_while_the_proxy_lives() {
    for_each_family(|world, family| {
        world.put_endpoint(Enforcement::Table(TABLE), Some(LOOPBACK));
        let unavailable = Dropped(DropReason::ProxyUnavailable);
        assert_eq!(world.send_udp(family, family.dns, 53), unavailable);
        let loopback = if family.own.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = std::net::UdpSocket::bind(loopback).unwrap();
        let listener = std::net::TcpListener::bind(loopback).unwrap();
        let mut with_workers = settings();
        with_workers.udp_ports = vec![socket.local_addr().unwrap().port()];
        with_workers.tcp_ports = vec![listener.local_addr().unwrap().port()];
        world.datapath().configure(&with_workers).unwrap();
        // Without the proxy's mark, they are somebody else's who came by its ports.
        assert_eq!(world.send_udp(family, family.dns, 53), unavailable);
        assert_eq!(world.send_tcp(family, family.dns, 53, SYN), unavailable);
        let mark = with_workers.marks.answer;
        setsockopt(&socket, sockopt::Mark, &mark).unwrap();
        setsockopt(&listener, sockopt::Mark, &mark).unwrap();
        assert_eq!(world.send_udp(family, family.dns, 53), Redirect);
        assert_eq!(world.send_tcp(family, family.dns, 53, SYN), Redirect);
        let mut ring = world.datapath().events().unwrap();
        while ring.next().is_some() {}
        let query = frames::udp(40_001, 53, b"data");
        let query = frames::ip(family.own, family.dns, UDP, &query);
        assert_eq!((world.send(&query), world.send(&query)), (Redirect, Redirect));
        let told = ring.next().unwrap();
        assert_eq!((told.outcome, ring.next()), (model::Outcome::Redirected, None));
        let packet = told.packet.unwrap();
        assert_eq!((packet.identity, packet.frontend), (Some(DNS), true));
    });
}

#[test]
fn of_what_the_l7_proxy_must_judge_only_tcp_waits_for_it() {
    for_each_family(|world, family| {
        let unavailable = Dropped(DropReason::ProxyUnavailable);
        assert_eq!(world.send_tcp(family, family.cidr, 8443, SYN), unavailable);
        let quic = Dropped(DropReason::QuicNotInspected);
        assert_eq!(world.send_udp(family, family.cidr, 8443), quic);
        assert_eq!(world.send_udp(family, family.cidr, 8444), Pass);
        let sctp = frames::ip(family.own, family.cidr, 132, &frames::sctp(40_000, 8443, 1));
        assert_eq!(world.send(&sctp), Dropped(DropReason::PolicyDenied));
        // A DNS worker's socket is not the L7 proxy's.
        let worker = transparent(family);
        let mut with_workers = settings();
        with_workers.tcp_ports = vec![worker.local_addr().unwrap().port()];
        world.put_endpoint(Enforcement::Table(TABLE), Some(LOOPBACK));
        world.datapath().configure(&with_workers).unwrap();
        assert_eq!(world.send_tcp(family, family.cidr, 8443, SYN), unavailable);
        assert_eq!(world.send_tcp(family, family.dns, 53, SYN), Redirect);
        std::mem::swap(&mut with_workers.tcp_ports, &mut with_workers.l7_ports);
        world.datapath().configure(&with_workers).unwrap();
        assert_eq!(world.send_tcp(family, family.cidr, 8443, SYN), Redirect);
        assert_eq!(world.send_tcp(family, family.dns, 53, SYN), unavailable);
    });
}

#[test]
fn a_plain_allow_by_name_leaves_nothing_to_the_l7_proxy() {
    for_each_family(|world, family| {
        let minute = now() + Duration::from_secs(60);
        world.lease(family.cidr, [Some(NEW_NAMES), None], minute);
        assert_eq!(world.send_tcp(family, family.cidr, 8443, SYN), Pass);
        let row = Row { table: TABLE, identity: NEW_NAMES, ports: tcp_port(8443) };
        world.apply(&[Change::PutRow(row, Verdict::Deny.into())]);
        world.judge_again();
        assert_eq!(world.send_tcp(family, family.cidr, 8443, ACK), Dropped(DropReason::DenyRule));
    });
}

#[test]
fn what_no_rule_speaks_of_passes_without_default_deny_and_is_judged_where_one_does() {
    for_each_family(|world, family| {
        let everything = Row { table: TABLE, identity: Identity::ANY, ports: PortPrefix::Any };
        world.apply(&[Change::PutRow(everything, Verdict::Unruled.into())]);
        assert_eq!(world.send_tcp(family, family.outside, 9, SYN), Pass);
        let unavailable = Dropped(DropReason::ProxyUnavailable);
        assert_eq!(world.send_tcp(family, family.cidr, 8443, SYN), unavailable);
        let quic = Dropped(DropReason::QuicNotInspected);
        assert_eq!(world.send_udp(family, family.cidr, 8443), quic);
    });
}

/// A listener of a proxy's.
fn transparent(family: Family) -> std::net::TcpListener {
    let loopback = if family.own.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let listener = std::net::TcpListener::bind(loopback).unwrap();
    setsockopt(&listener, sockopt::Mark, &settings().marks.answer).unwrap();
    listener
}

#[test]
fn a_source_that_is_not_the_endpoint_s_is_dropped_even_where_no_policy_is() {
    for_each_family(|world, family| {
        let spoofed = Dropped(DropReason::SpoofedSource);
        let frame = frames::ip(family.outside, family.pod, UDP, &frames::udp(1, 2, &[]));
        assert_eq!(world.send(&frame), spoofed);
        world.enforce(Enforcement::Open);
        assert_eq!(world.send(&frame), spoofed);
        assert_eq!(world.send_udp(family, family.outside, 9), Pass);
    });
}

#[test]
fn a_short_ipv6_source_prefix_makes_no_ipv4_source_legal() {
    in_namespace(|| {
        let world = World::new(Enforcement::Table(TABLE));
        let [v4, v6] = families();
        let all = Change::PutSource(ENDPOINT, "::/0".parse().unwrap());
        let own = Change::DeleteSource(ENDPOINT, "10.0.0.2/32".parse().unwrap());
        world.apply(&[all, own]);
        assert_eq!(world.send_udp(v6, v6.pod, 9), Pass);
        assert_eq!(world.send_udp(v4, v4.pod, 9), Dropped(DropReason::SpoofedSource));
    });
}

#[test]
fn a_closed_endpoint_sends_nothing_and_says_why() {
    for_each_family(|world, family| {
        world.enforce(Enforcement::Closed(DropReason::EndpointConflict));
        let closed = Dropped(DropReason::EndpointConflict);
        assert_eq!(world.send_udp(family, family.pod, 9), closed);
        assert_eq!(world.send(&frames::ethernet(0x0806, &[0; 28])), closed);
        world.receive_udp(family, family.outside, 9);
        world.judge_again();
        let denied = Dropped(DropReason::PolicyDenied);
        assert_eq!(world.send_udp(family, family.outside, 9), denied);
    });
}

#[test]
fn an_interface_without_an_endpoint_sends_nothing() {
    for_each_family(|world, family| {
        world.apply(&[Change::DeleteEndpoint(LOOPBACK)]);
        let unknown = Dropped(DropReason::EndpointUnknown);
        assert_eq!(world.send_udp(family, family.pod, 9), unknown);
    });
}

#[test]
fn a_vlan_tag_hides_nothing() {
    for_each_family(|world, family| {
        let frame = |to| {
            let segment = frames::tcp(1, 443, SYN);
            frames::tagged(&frames::tagged(&frames::ip(family.own, to, TCP, &segment)))
        };
        assert_eq!(world.send(&frame(family.cidr)), Pass);
        assert_eq!(world.send(&frame(family.outside)), Dropped(DropReason::PolicyDenied));
        let deeper = frames::tagged(&frame(family.cidr));
        assert_eq!(world.send(&deeper), Dropped(DropReason::UnsupportedEthertype));
    });
}

#[test]
fn other_ethertypes_pass_only_where_no_policy_is() {
    in_namespace(|| {
        let mut world = World::new(Enforcement::Table(TABLE));
        let arp = frames::ethernet(0x0806, &[0; 28]);
        let lldp = frames::ethernet(0x88cc, &[0; 28]);
        assert_eq!(world.send(&arp), Pass);
        assert_eq!(world.send(&lldp), Dropped(DropReason::UnsupportedEthertype));
        world.enforce(Enforcement::Open);
        assert_eq!(world.send(&lldp), Pass);
    });
}

#[test]
fn headers_that_lie_are_malformed() {
    for_each_family(|world, family| {
        let good = frames::ip(family.own, family.pod, TCP, &frames::tcp(1, 443, SYN));
        assert_eq!(world.send(&good), Pass);
        let malformed = Dropped(DropReason::Malformed);
        assert_eq!(world.send(&good[..good.len() - 1]), malformed, "cut short");
        let v4 = family.own.is_ipv4();
        let transport = if v4 { 34 } else { 54 };
        let changed = |at: usize, value: u8| {
            let mut frame = good.clone();
            frame[at] = value;
            world.send(&frame)
        };
        assert_eq!(changed(14, 0x55), malformed, "version");
        assert_eq!(changed(if v4 { 17 } else { 19 }, 255), malformed, "length");
        assert_eq!(changed(transport + 12, 0x40), malformed, "data offset under 5");
        assert_eq!(changed(transport + 12, 0xf0), malformed, "data offset past the end");
        let mut udp = frames::udp(1, 2, b"data");
        udp[5] = 7;
        let frame = frames::ip(family.own, family.pod, UDP, &udp);
        assert_eq!(world.send(&frame), malformed, "datagram length");
        let short = frames::ip(family.own, family.pod, UDP, &[0; 7]);
        assert_eq!(world.send(&short), malformed, "no room for a header");
    });
}

#[test]
fn ipv4_options_are_not_supported() {
    in_namespace(|| {
        let world = World::new(Enforcement::Table(TABLE));
        let [v4, _] = families();
        let mut frame = frames::ip(v4.own, v4.pod, TCP, &frames::tcp(1, 443, SYN));
        frame[14] = 0x46;
        assert_eq!(world.send(&frame), Dropped(DropReason::UnsupportedHeader));
    });
}

#[test]
fn extension_headers_are_walked_and_unknown_ones_dropped() {
    in_namespace(|| {
        let world = World::new(Enforcement::Table(TABLE));
        let [_, v6] = families();
        let send = |to, next, payload: &[u8]| world.send(&frames::ip(v6.own, to, next, payload));
        let segment = frames::tcp(1, 443, SYN);
        let options = frames::extension(TCP, &segment);
        let chain = frames::extension(60, &options);
        assert_eq!(send(v6.cidr, 60, &options), Pass);
        assert_eq!(send(v6.cidr, 0, &chain), Pass);
        assert_eq!(send(v6.outside, 0, &chain), Dropped(DropReason::PolicyDenied));
        let unsupported = Dropped(DropReason::UnsupportedHeader);
        for next in [43, 51, 135, 139, 140, 253, 254] {
            assert_eq!(send(v6.pod, next, &options), unsupported, "{next}");
        }
        // Hop-by-hop options stand first or nowhere.
        assert_eq!(send(v6.pod, 60, &frames::extension(0, &options)), unsupported);
        let mut endless = options;
        for _ in 0..9 {
            endless = frames::extension(60, &endless);
        }
        assert_eq!(send(v6.pod, 60, &endless), unsupported);
        assert_eq!(send(v6.pod, 60, &[60, 9, 0, 0, 0, 0, 0, 0]), Dropped(DropReason::Malformed));
    });
}

#[test]
fn v4_mapped_addresses_on_the_wire_are_malformed() {
    in_namespace(|| {
        let world = World::new(Enforcement::Table(TABLE));
        let [_, v6] = families();
        let mapped = "::ffff:10.0.0.9".parse().unwrap();
        let segment = frames::tcp(1, 443, SYN);
        let to = frames::ethernet(0x86dd, &frames::ipv6(v6.own, mapped, TCP, 64, &segment));
        let own = "::ffff:10.0.0.2".parse().unwrap();
        let from = frames::ethernet(0x86dd, &frames::ipv6(own, v6.pod, TCP, 64, &segment));
        assert_eq!(world.send(&to), Dropped(DropReason::Malformed));
        assert_eq!(world.send(&from), Dropped(DropReason::Malformed));
    });
}
