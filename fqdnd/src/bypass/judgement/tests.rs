use bpf::By;
use host::{Link, LinkKind};

use super::*;

fn node() -> host::Node {
    let link = |index, name: &str, kind, xdp| Link {
        index: Interface(index),
        name: name.to_owned(),
        up: true,
        kind,
        master: None,
        mac: None,
        xdp,
        incarnation: 0,
    };
    let links = [
        link(2, "eth0", LinkKind::Plain, Some(31)),
        link(7, "veth7", LinkKind::Veth(None), Some(32)),
        link(8, "veth8", LinkKind::Veth(None), None),
        link(9, "nk9", LinkKind::Netkit(None), None),
    ];
    links.into_iter().collect()
}

fn other(interface: u32, program: u32, name: &str, redirects: Redirects) -> Other {
    Other {
        interface: Interface(interface),
        side: Side::Ingress,
        by: By::Tcx,
        program: Some(program),
        name: name.to_owned(),
        precedes: false,
        redirects,
    }
}

fn into_namespace(caller: &str) -> Redirects {
    Redirects::IntoNamespace { caller: caller.to_owned() }
}

fn told(others: Vec<Other>) -> Vec<(BypassKind, String, String)> {
    let sight = Sight { own: [Interface(8)].into(), others };
    let plain: host::Node =
        node().links().filter(|link| link.index != Interface(9)).cloned().collect();
    let found = judge(&sight, &plain, &Unanswered::new());
    found.into_iter().map(|own| (own.kind, own.cause, own.remedy)).collect()
}

#[test]
fn a_program_that_hands_packets_into_pods_is_named_with_its_places_and_what_to_turn_off() {
    let found = told(vec![
        other(2, 12, "cil_from_netdev", into_namespace("tail_ipv4")),
        other(7, 13, "cali_tc_preamble", into_namespace("cali_tc_preamble")),
        other(8, 14, "cali_tc_preamble", into_namespace("cali_tc_preamble")),
        other(2, 15, "mine", into_namespace("mine")),
        other(2, 16, "harmless", Redirects::Never),
        other(2, 17, "onward", Redirects::ToInterface),
    ]);
    let causes: Vec<&str> = found.iter().map(|(_, cause, _)| cause.as_str()).collect();
    assert_eq!(
        causes,
        [
            "the program `cali_tc_preamble` (id 13, 14) at ingress of veth7, veth8 calls \
             bpf_redirect_peer",
            "the program `cil_from_netdev` (id 12) at ingress of eth0 goes on with `tail_ipv4`, \
             which calls bpf_redirect_peer",
            "the program `mine` (id 15) at ingress of eth0 calls bpf_redirect_peer",
        ]
    );
    assert!(found.iter().all(|(kind, ..)| *kind == BypassKind::IntoPod));
    let remedies: Vec<&str> = found.iter().map(|(.., remedy)| remedy.as_str()).collect();
    assert!(remedies[0].contains("bpfRedirectToPeer: Disabled"), "{remedies:?}");
    assert!(remedies[1].contains("bpf.hostLegacyRouting=true"), "{remedies:?}");
    assert!(remedies[2].contains("bpf_redirect_neigh"), "{remedies:?}");
}

#[test]
fn what_comes_first_is_told_by_what_it_keeps_from_us() {
    let first = |side| Other { side, precedes: true, ..other(7, 12, "cni", Redirects::Never) };
    let filter = Other {
        program: None,
        by: By::Clsact,
        precedes: true,
        ..other(7, 0, "flower", Redirects::Never)
    };
    let sight = Sight {
        own: [Interface(7), Interface(8)].into(),
        others: vec![first(Side::Ingress), first(Side::Egress), filter],
    };
    let found = judge(&sight, &node(), &Unanswered::new());
    let found: Vec<_> =
        found.iter().map(|own| (own.kind, own.cause.as_str(), own.effect.as_str())).collect();
    assert_eq!(
        found[..4],
        [
            (
                BypassKind::First,
                "the program `cni` (id 12) at ingress of veth7 comes before fqdnd's",
                UNJUDGED
            ),
            (
                BypassKind::First,
                "a flower filter at ingress of veth7 comes before fqdnd's",
                UNJUDGED
            ),
            (
                BypassKind::First,
                "the program `cni` (id 12) at egress of veth7 comes before fqdnd's",
                UNRECORDED
            ),
            // That on eth0 sees no pod's packets first.
            (BypassKind::First, "an XDP program on veth7 comes before fqdnd's", UNJUDGED),
        ]
    );
    assert_eq!((found[4].0, found[4].1), (BypassKind::Netkit, "netkit devices: nk9"));
    assert_eq!(found.len(), 5);
}

#[test]
fn what_cannot_be_read_is_told_where_packets_may_come_in() {
    let unread = |index, side, why| Other { side, ..other(index, 12, "", Redirects::Unread(why)) };
    let found = told(vec![
        unread(2, Side::Ingress, Unread::NotPermitted),
        unread(7, Side::Ingress, Unread::NotPermitted),
        unread(8, Side::Egress, Unread::NotPermitted),
    ]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, BypassKind::Unread);
    assert_eq!(found[0].1, "programs of others at ingress of eth0, veth7");
}

#[test]
fn connections_without_answers_tell_from_the_third_of_a_pod_on() {
    let name = |name: &str| EndpointName { namespace: "default".into(), name: name.into() };
    let counts = [("a", 2), ("b", 3), ("c", 4), ("d", 5), ("e", 6), ("f", 7)];
    let unanswered = counts.map(|(pod, count)| (name(pod), count)).into();
    let found = judge(&Sight::default(), &host::Node::default(), &unanswered);
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].cause,
        "25 connections that ended without an answer being seen, of default/b, default/c, \
         default/d, default/e and 1 more"
    );
    assert_eq!(judge(&Sight::default(), &host::Node::default(), &Unanswered::new()), []);
}
