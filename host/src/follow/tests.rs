use super::*;
use crate::node::{Link, LinkKind, Mac, Peer};

fn veth(index: u32, peer: Option<(u32, PeerNamespace)>) -> Link {
    Link {
        index: Interface(index),
        name: format!("v{index}"),
        up: true,
        kind: LinkKind::Veth(peer.map(|(index, namespace)| Peer { index, namespace })),
        master: None,
        mac: Some(Mac([2, 0, 0, 0, 0, index.to_le_bytes()[0]])),
        xdp: None,
        incarnation: 0,
    }
}

fn says(follower: &mut Follower, inputs: impl IntoIterator<Item = Input>) {
    for input in inputs {
        follower.handle_input(input).unwrap();
    }
}

fn there(link: Link) -> Input {
    Input::Update(Update::Link(link))
}

fn gone(index: u32) -> Input {
    Input::Update(Update::LinkGone(Interface(index)))
}

/// Answers both dumps, the first with `links`.
fn settled(earlier: Node, links: &[Link]) -> Follower {
    let mut follower = Follower::after(earlier);
    let (sequence, request) = follower.poll_request().unwrap();
    assert_eq!(request, Request::DumpLinks);
    says(&mut follower, links.iter().cloned().map(there));
    says(&mut follower, [Input::Done(sequence)]);
    let (sequence, request) = follower.poll_request().unwrap();
    assert_eq!(request, Request::DumpAddresses);
    says(&mut follower, [Input::Done(sequence)]);
    follower
}

fn indices(node: &Node) -> Vec<u32> {
    node.links().map(|link| link.index.0).collect()
}

#[test]
fn shows_nothing_before_both_dumps_are_whole() {
    let mut follower = Follower::after(Node::default());
    let (sequence, _) = follower.poll_request().unwrap();
    says(&mut follower, [there(veth(2, None)), Input::Done(sequence)]);
    assert_eq!(follower.poll_snapshot(), None);
    let (sequence, _) = follower.poll_request().unwrap();
    says(&mut follower, [Input::Done(sequence)]);
    assert_eq!(indices(follower.poll_snapshot().unwrap()), [2]);
    assert_eq!(follower.poll_snapshot(), None, "nothing has changed since");
}

#[test]
fn a_link_that_goes_while_the_dump_runs_is_gone() {
    let mut follower = Follower::after(Node::default());
    let (sequence, _) = follower.poll_request().unwrap();
    let inputs = [there(veth(2, None)), there(veth(3, None)), gone(2), Input::Done(sequence)];
    says(&mut follower, inputs);
    let (sequence, _) = follower.poll_request().unwrap();
    says(&mut follower, [Input::Done(sequence)]);
    assert_eq!(indices(follower.poll_snapshot().unwrap()), [3]);
}

#[test]
fn a_disturbed_dump_is_made_again() {
    let mut follower = Follower::after(Node::default());
    let (first, _) = follower.poll_request().unwrap();
    says(&mut follower, [Input::Disturbed, Input::Done(first)]);
    let (second, request) = follower.poll_request().unwrap();
    assert_eq!(request, Request::DumpLinks);
    says(&mut follower, [there(veth(2, None)), Input::Done(first)]);
    assert_eq!(follower.poll_request(), None, "the end of another dump is not this one's");
    says(&mut follower, [Input::Done(second)]);
    assert_eq!(follower.poll_request().unwrap().1, Request::DumpAddresses);
}

#[test]
fn a_refused_dump_is_an_error_and_a_refused_link_is_not() {
    let mut follower = Follower::after(Node::default());
    let (sequence, _) = follower.poll_request().unwrap();
    let refused = Input::Refused(sequence, io::Error::from(io::ErrorKind::PermissionDenied));
    assert!(follower.handle_input(refused).is_err());

    let mut follower = settled(Node::default(), &[]);
    let refused = Input::Refused(3, io::Error::from(io::ErrorKind::NotFound));
    assert!(follower.handle_input(refused).is_ok());
}

#[test]
fn the_end_that_stays_is_read_again_when_the_other_moves_away() {
    let pair = [veth(2, Some((3, PeerNamespace::Here))), veth(3, Some((2, PeerNamespace::Here)))];
    let mut follower = settled(Node::default(), &pair);
    says(&mut follower, [gone(3)]);
    let (_, request) = follower.poll_request().unwrap();
    assert_eq!(request, Request::ReadLink(Interface(2)));
    assert_eq!(follower.poll_request(), None);
}

#[test]
fn a_pair_that_goes_whole_is_not_asked_for() {
    let pair = [veth(2, Some((3, PeerNamespace::Here))), veth(3, Some((2, PeerNamespace::Here)))];
    let mut follower = settled(Node::default(), &pair);
    says(&mut follower, [gone(3), gone(2)]);
    assert_eq!(follower.poll_request(), None);
}

#[test]
fn the_next_follower_sees_what_the_overflow_hid() {
    let mut first = settled(Node::default(), &[veth(2, None), veth(3, None)]);
    let before = first.poll_snapshot().unwrap().clone();
    let mut second = settled(first.into_known(), &[veth(3, None), veth(4, None)]);
    let after = second.poll_snapshot().unwrap();
    let events = before.difference(after);
    assert!(matches!(&events[..],
        [crate::LinkEvent::Gone(gone), crate::LinkEvent::Appeared(new)]
            if gone.index.0 == 2 && new.index.0 == 4));
}

#[test]
fn an_overflow_during_the_dump_keeps_what_was_known_before() {
    let first = settled(Node::default(), &[veth(2, None)]);
    let known = first.into_known();
    let mut second = Follower::after(known.clone());
    second.poll_request();
    says(&mut second, [there(veth(9, None))]);
    assert_eq!(second.into_known(), known);
}
