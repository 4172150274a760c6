use super::*;

fn link(index: u32, name: &str, kind: LinkKind) -> Link {
    Link {
        index: Interface(index),
        name: name.to_owned(),
        up: true,
        kind,
        master: None,
        mac: Some(Mac([2, 0, 0, 0, 0, index.to_le_bytes()[0]])),
        xdp: None,
        incarnation: 0,
    }
}

fn node(links: &[Link]) -> Node {
    let mut node = Node::default();
    for link in links {
        node.apply(Update::Link(link.clone()));
    }
    node
}

fn address(text: &str, prefix_length: u8, interface: u32) -> Address {
    Address { address: text.parse().unwrap(), prefix_length, interface: Interface(interface) }
}

fn summary(events: &[LinkEvent]) -> Vec<String> {
    events
        .iter()
        .map(|event| match event {
            LinkEvent::Appeared(link) => format!("+{}", link.name),
            LinkEvent::Changed { before, after } => format!("{}>{}", before.name, after.name),
            LinkEvent::Gone(link) => format!("-{}", link.name),
        })
        .collect()
}

#[test]
fn a_rename_changes_the_link_and_is_not_a_new_one() {
    let before = node(&[link(3, "veth3", LinkKind::Plain)]);
    let mut after = before.clone();
    assert!(after.apply(Update::Link(link(3, "pod-a", LinkKind::Plain))));
    assert_eq!(summary(&before.difference(&after)), ["veth3>pod-a"]);
    assert_eq!(after.link_named("pod-a").unwrap().index, Interface(3));
    assert!(after.link_named("veth3").is_none());
}

#[test]
fn an_index_used_again_is_another_device() {
    let before = node(&[link(3, "a", LinkKind::Plain), link(4, "b", LinkKind::Plain)]);
    let mut after = before.clone();
    after.apply(Update::LinkGone(Interface(3)));
    after.apply(Update::Link(link(3, "a", LinkKind::Plain)));
    assert_eq!(summary(&before.difference(&after)), ["-a", "+a"]);
}

#[test]
fn saying_the_same_twice_changes_nothing() {
    let mut node = node(&[link(3, "a", LinkKind::Plain)]);
    assert!(!node.apply(Update::Link(link(3, "a", LinkKind::Plain))));
    assert!(node.apply(Update::Address(address("192.0.2.1", 24, 3))));
    assert!(!node.apply(Update::Address(address("192.0.2.1", 24, 3))));
    assert!(!node.apply(Update::AddressGone(address("192.0.2.1", 32, 3))));
}

#[test]
fn a_reading_anew_recognises_what_was_there_and_only_that() {
    let before = node(&[link(1, "lo", LinkKind::Plain), link(2, "a", LinkKind::Plain)]);
    let mut replaced = link(2, "a", LinkKind::Plain);
    replaced.mac = Some(Mac([2, 0, 0, 0, 0, 99]));
    let mut after = before.successor();
    for link in [link(1, "lo", LinkKind::Plain), replaced] {
        after.apply(Update::Link(link));
    }
    after.recognise(&before);
    assert_eq!(summary(&before.difference(&after)), ["-a", "+a"]);
}

#[test]
fn an_address_on_two_interfaces_stays_until_both_have_lost_it() {
    let mut node = node(&[link(2, "a", LinkKind::Plain), link(3, "b", LinkKind::Plain)]);
    node.apply(Update::Address(address("192.0.2.1", 24, 2)));
    node.apply(Update::Address(address("192.0.2.1", 32, 3)));
    node.apply(Update::AddressGone(address("192.0.2.1", 24, 2)));
    assert_eq!(node.addresses().len(), 1);
    node.apply(Update::LinkGone(Interface(3)));
    assert_eq!(node.addresses().len(), 0);
}

#[test]
fn loopback_and_link_local_addresses_are_not_the_nodes() {
    let mut node = Node::default();
    for text in ["127.0.0.1", "::1", "169.254.20.10", "fe80::1", "192.0.2.1", "2001:db8::1"] {
        node.apply(Update::Address(address(text, 32, 1)));
    }
    let own: Vec<_> = node.addresses().iter().map(ToString::to_string).collect();
    assert_eq!(own, ["192.0.2.1", "2001:db8::1"]);
}

#[test]
fn only_a_bridge_counts_as_one() {
    let mut port = link(2, "port", LinkKind::Veth(None));
    port.master = Some(Interface(3));
    let mut slave = link(4, "slave", LinkKind::Plain);
    slave.master = Some(Interface(5));
    let bond = link(5, "bond0", LinkKind::Other("bond".to_owned()));
    let node = node(&[port, link(3, "cni0", LinkKind::Bridge), slave, bond]);
    assert_eq!(node.bridge_of(Interface(2)).unwrap().name, "cni0");
    assert_eq!(node.bridge_of(Interface(4)), None);
    assert_eq!(node.bridge_of(Interface(3)), None);
}
