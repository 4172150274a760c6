//! Fragments follow their first fragment.

use super::frames::{Part, SYN, TCP, UDP, fragment};
use super::*;

fn first(identification: u32) -> Part {
    Part { identification, offset: 0, more: true }
}

fn later(identification: u32, offset: u16) -> Part {
    Part { identification, offset, more: false }
}

#[test]
fn later_fragments_follow_an_allowed_first_and_no_other() {
    for_each_family(|world, family| {
        let data = frames::udp(40_000, 9, &[0; 56]);
        let send = |to, part, data: &[u8]| world.send(&fragment(family.own, to, UDP, part, data));
        let unknown = Dropped(DropReason::FragmentUnknown);
        assert_eq!(send(family.cidr, later(1, 64), &[0; 32]), unknown);
        assert_eq!(send(family.cidr, first(1), &data), Pass);
        assert_eq!(send(family.cidr, later(1, 64), &[0; 32]), Pass);
        assert_eq!(send(family.cidr, later(2, 64), &[0; 32]), unknown);
        assert_eq!(send(family.pod, later(1, 64), &[0; 32]), unknown);
        assert_eq!(send(family.outside, first(3), &data), Dropped(DropReason::PolicyDenied));
        assert_eq!(send(family.outside, later(3, 64), &[0; 32]), unknown);
    });
}

#[test]
fn a_first_fragment_holds_the_whole_header_and_no_later_one_reaches_into_it() {
    for_each_family(|world, family| {
        let send =
            |part, data: &[u8]| world.send(&fragment(family.own, family.pod, TCP, part, data));
        let malformed = Dropped(DropReason::Malformed);
        let segment = frames::tcp(40_000, 443, SYN);
        assert_eq!(send(first(1), &segment[..16]), malformed);
        let mut whole = segment;
        whole.extend([0; 4]);
        assert_eq!(send(first(1), &whole), Pass);
        assert_eq!(send(later(1, 8), &[0; 16]), malformed);
        assert_eq!(send(later(1, 16), &[0; 16]), malformed);
        assert_eq!(send(later(1, 24), &[0; 16]), Pass);
    });
}

#[test]
fn fragments_of_a_query_never_reach_the_proxy_nor_anyone_else() {
    for_each_family(|world, family| {
        let data = frames::udp(40_000, 53, &[0; 56]);
        let send =
            |part, data: &[u8]| world.send(&fragment(family.own, family.dns, UDP, part, data));
        let fragment = Dropped(DropReason::FragmentToProxy);
        assert_eq!(send(first(1), &data), fragment);
        assert_eq!(send(later(1, 64), &[0; 32]), fragment);
    });
}

#[test]
fn a_later_fragment_s_source_is_checked_too() {
    for_each_family(|world, family| {
        let frame = fragment(family.outside, family.pod, UDP, later(1, 64), &[0; 32]);
        assert_eq!(world.send(&frame), Dropped(DropReason::SpoofedSource));
    });
}

#[test]
fn a_fragment_header_within_another_is_malformed() {
    in_namespace(|| {
        let world = World::new(Enforcement::Table(TABLE));
        let [_, v6] = families();
        let inner = frames::extension(UDP, &frames::udp(1, 9, &[]));
        let frame = fragment(v6.own, v6.pod, 44, first(1), &inner);
        assert_eq!(world.send(&frame), Dropped(DropReason::Malformed));
        // One that is the whole of its datagram is no fragment.
        let alone = Part::default();
        let frame = fragment(v6.own, v6.pod, UDP, alone, &frames::udp(1, 9, &[]));
        assert_eq!(world.send(&frame), Pass);
    });
}

#[test]
fn without_a_policy_fragments_pass() {
    for_each_family(|world, family| {
        world.enforce(Enforcement::Open);
        let frame = fragment(family.own, family.outside, UDP, later(1, 64), &[0; 32]);
        assert_eq!(world.send(&frame), Pass);
    });
}
