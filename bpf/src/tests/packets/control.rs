//! Neighbour discovery and multicast reports: legal on the link, and nowhere else.

use super::*;

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A message of neighbour discovery with room for a target.
fn message(world: &World, from: &str, to: &str, kind: u8, hop_limit: u8) -> Outcome {
    let body = frames::icmp(kind, 0, &[0; 16]);
    let packet = frames::ipv6(address(from), address(to), 58, hop_limit, &body);
    world.send(&frames::ethernet(0x86dd, &packet))
}

fn with_world(test: fn(&mut World)) {
    in_namespace(move || test(&mut World::new(Enforcement::Table(TABLE))));
}

#[test]
fn neighbours_are_found() {
    with_world(|world| {
        let cases = [
            ("::", "ff02::1:ff00:2", SOLICITATION),
            ("fe80::2", "ff02::2", 133),
            ("fe80::2", "ff02::1:ff00:1", SOLICITATION),
            ("fd00::2", "fe80::1", ADVERTISEMENT),
            ("fd00::2", "ff02::1", ADVERTISEMENT),
        ];
        for (from, to, kind) in cases {
            assert_eq!(message(world, from, to, kind, 255), Pass, "{from} {to} {kind}");
        }
    });
}

#[test]
fn a_unicast_solicitation_passes_to_the_node_and_not_through_it() {
    with_world(|world| {
        super::super::run("ip", &["-6", "addr", "add", "fd00::1/64", "dev", "lo", "nodad"]);
        super::super::run("sysctl", &["-qw", "net.ipv6.conf.all.forwarding=1"]);
        super::super::run("ip", &["link", "add", "out", "type", "veth", "peer", "in"]);
        super::super::run("ip", &["link", "set", "in", "up"]);
        super::super::run("ip", &["link", "set", "out", "up"]);
        super::super::run("ip", &["-6", "route", "add", "2001:db8::/32", "dev", "out"]);
        assert_eq!(message(world, "fd00::2", "fd00::1", SOLICITATION, 255), Pass);
        let through = message(world, "fd00::2", "2001:db8:1::1", SOLICITATION, 255);
        assert_eq!(through, Dropped(DropReason::PolicyDenied));
    });
}

#[test]
fn what_is_not_from_this_link_is_judged_as_data() {
    with_world(|world| {
        let denied = Dropped(DropReason::PolicyDenied);
        assert_eq!(message(world, "fd00::2", "ff02::1", SOLICITATION, 64), denied);
        assert_eq!(message(world, "fd00::2", "ff05::1", SOLICITATION, 255), denied);
        let spoofed = Dropped(DropReason::SpoofedSource);
        assert_eq!(message(world, "2001:db8::5", "ff02::1", SOLICITATION, 255), spoofed);
        assert_eq!(message(world, "fe80::2", "fd00::9", 128, 64), spoofed);
        assert_eq!(message(world, "::", "fd00::9", 128, 255), spoofed);
    });
}

#[test]
fn an_endpoint_is_no_router() {
    with_world(|world| {
        let router = Dropped(DropReason::RouterMessage);
        assert_eq!(message(world, "fe80::2", "ff02::1", 134, 255), router);
        assert_eq!(message(world, "fe80::2", "fd00::9", 137, 255), router);
    });
}

#[test]
fn multicast_reports_pass_as_far_as_the_link() {
    with_world(|world| {
        for kind in [131, 132, 143] {
            assert_eq!(message(world, "::", "ff02::16", kind, 1), Pass, "{kind}");
            assert_eq!(message(world, "fe80::2", "ff05::5", kind, 1), Pass, "{kind}");
            let further = message(world, "fd00::2", "ff05::5", kind, 2);
            assert_eq!(further, Dropped(DropReason::PolicyDenied), "{kind}");
        }
    });
}
