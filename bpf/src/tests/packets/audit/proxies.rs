//! What should go to a proxy and cannot, where default deny is audited.

use std::net::{TcpListener, UdpSocket};

use nix::sys::socket::{setsockopt, sockopt};

use super::*;
use crate::Settings;

/// The proxies' sockets, reached through a bridge: what goes to them is redirected.
struct Proxies {
    udp: UdpSocket,
    tcp: TcpListener,
    l7: TcpListener,
}

impl Proxies {
    fn new(family: Family) -> Self {
        let loopback = if family.own.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let mark = settings().marks.answer;
        let listener = || {
            let listener = TcpListener::bind(loopback).unwrap();
            setsockopt(&listener, sockopt::Mark, &mark).unwrap();
            listener
        };
        let udp = UdpSocket::bind(loopback).unwrap();
        setsockopt(&udp, sockopt::Mark, &mark).unwrap();
        Self { udp, tcp: listener(), l7: listener() }
    }

    fn settings(&self) -> Settings {
        let port = |listener: &TcpListener| vec![listener.local_addr().unwrap().port()];
        Settings {
            udp_ports: vec![self.udp.local_addr().unwrap().port()],
            tcp_ports: port(&self.tcp),
            l7_ports: port(&self.l7),
            ..settings()
        }
    }

    /// Opens them to the programs.
    fn serve(world: &World, family: Family) -> Self {
        let proxies = Self::new(family);
        world.datapath().configure(&proxies.settings()).unwrap();
        proxies
    }
}

impl World {
    /// Has everything judged again, on a bridge's port.
    fn on_a_bridge(&mut self) {
        self.put_endpoint(Enforcement::Table(TABLE), Some(LOOPBACK));
    }
}

#[test]
fn a_query_goes_on_directly_while_the_proxy_is_gone_and_to_it_when_it_is_back() {
    for_each_audited(|world, family| {
        world.on_a_bridge();
        let mut witness = Witness::of(world);
        for _ in 0..2 {
            assert_eq!(world.send_udp(family, family.dns, 53), Pass);
            assert_eq!(told(&mut witness), DropReason::ProxyUnavailable);
            world.receive_udp(family, family.dns, 53);
        }
        assert_eq!((counts(world).outbound, counts(world).redirected), (1, 0));
        world.on_a_bridge();
        assert_eq!(world.send_udp(family, family.dns, 53), Pass);
        assert_eq!(told(&mut witness), DropReason::ProxyUnavailable);
        assert_eq!(world.audits(), [(DropReason::ProxyUnavailable, 3)].into());
        let _proxies = Proxies::serve(world, family);
        assert_eq!(world.send_udp(family, family.dns, 53), Redirect);
        witness.none();
        world.default_deny(false);
        world.datapath().configure(&settings()).unwrap();
        let unavailable = Dropped(DropReason::ProxyUnavailable);
        assert_eq!(world.send_udp(family, family.dns, 53), unavailable);
    });
}

#[test]
fn a_connection_that_begins_while_the_proxy_is_gone_stays_direct_and_the_next_does_not() {
    for_each_audited(|world, family| {
        world.on_a_bridge();
        for (to, port) in [(family.cidr, 8443), (family.dns, 53)] {
            world.datapath().configure(&settings()).unwrap();
            let mut witness = Witness::of(world);
            assert_eq!(world.send_tcp(family, to, port, SYN), Pass);
            assert_eq!(told(&mut witness), DropReason::ProxyUnavailable);
            world.receive_tcp(family, to, port, SYN | ACK);
            let _proxies = Proxies::serve(world, family);
            assert_eq!(world.send_tcp(family, to, port, ACK), Pass);
            world.on_a_bridge();
            assert_eq!(world.send_tcp(family, to, port, ACK), Pass);
            witness.none();
            assert_eq!(world.send_tcp(family, to, port, SYN), Redirect);
        }
        assert_eq!(world.audits(), [(DropReason::ProxyUnavailable, 2)].into());
        assert_eq!(counts(world).outbound, 2);
    });
}

#[test]
fn a_direct_connection_that_a_proxy_must_judge_from_now_on_goes_on_until_that_is_enforced() {
    for_each_audited(|world, family| {
        world.on_a_bridge();
        let _proxies = Proxies::serve(world, family);
        assert_eq!(world.send_tcp(family, family.cidr, 443, SYN), Pass);
        world.receive_tcp(family, family.cidr, 443, SYN | ACK);
        let mut witness = Witness::of(world);
        world.rule(CIDR, tcp_port(443), Verdict::Proxy.into());
        world.on_a_bridge();
        assert_eq!(world.send_tcp(family, family.cidr, 443, ACK), Pass);
        let event = witness.one();
        let outcome = model::Outcome::Audited(DropReason::ProxyUnavailable);
        assert_eq!((event.outcome, event.again), (outcome, true));
        world.on_a_bridge();
        assert_eq!(world.send_tcp(family, family.cidr, 443, ACK), Pass);
        witness.none();
        world.default_deny(false);
        world.on_a_bridge();
        assert_eq!(world.send_tcp(family, family.cidr, 443, ACK), Redirect);
    });
}

#[test]
fn a_connection_that_nobody_knows_goes_on_directly() {
    for_each_audited(|world, family| {
        world.on_a_bridge();
        let _proxies = Proxies::serve(world, family);
        let mut witness = Witness::of(world);
        assert_eq!(world.send_tcp(family, family.cidr, 8443, ACK), Pass);
        assert_eq!(told(&mut witness), DropReason::ProxyUnavailable);
        assert_eq!(world.send_tcp(family, family.cidr, 8443, ACK), Pass);
        witness.none();
    });
}

#[test]
fn an_audited_deny_rule_keeps_nothing_from_its_proxy() {
    for_each_family(|world, family| {
        world.on_a_bridge();
        let _proxies = Proxies::serve(world, family);
        let audited = |verdict| Ruling { verdict: Some(verdict), audited: DENY_RULE };
        world.rule(DNS, PortPrefix::Any, audited(Verdict::Dns));
        world.rule(CIDR, tcp_port(8443), audited(Verdict::Proxy));
        let mut witness = Witness::of(world);
        assert_eq!(world.send_udp(family, family.dns, 53), Redirect);
        assert_eq!(told(&mut witness), DropReason::DenyRule);
        assert_eq!(world.send_tcp(family, family.cidr, 8443, SYN), Redirect);
        assert_eq!(told(&mut witness), DropReason::DenyRule);
        let counts = counts(world);
        assert_eq!((counts.redirected, counts.inspected, counts.outbound), (1, 1, 0));
        // Default deny is enforced, and so is that no proxy is gone round.
        world.datapath().configure(&settings()).unwrap();
        let unavailable = Dropped(DropReason::ProxyUnavailable);
        assert_eq!(world.send_tcp(family, family.cidr, 8443, SYN), unavailable);
        assert_eq!(world.send_udp(family, family.dns, 53), unavailable);
    });
}

#[test]
fn fragments_of_a_query_pass_by_the_proxy() {
    for_each_audited(|world, family| {
        world.on_a_bridge();
        let _proxies = Proxies::serve(world, family);
        let data = frames::udp(40_000, 53, &[0; 56]);
        let send = |offset, more, data: &[u8]| {
            let part = Part { identification: 1, offset, more };
            world.send(&fragment(family.own, family.dns, UDP, part, data))
        };
        let mut witness = Witness::of(world);
        assert_eq!(send(0, true, &data), Pass);
        assert_eq!(told(&mut witness), DropReason::FragmentToProxy);
        assert_eq!(send(64, false, &[0; 32]), Pass);
        witness.none();
        assert_eq!(world.send_udp(family, family.dns, 53), Redirect);
    });
}
