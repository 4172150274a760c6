//! What a route netlink message says about the node.
//!
//! Only whole descriptions of links count: notifications about bridge ports and wireless events
//! come under the same message types and are not about the device's existence.

use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use model::Interface;

use crate::node::{Address, Link, LinkKind, Mac, Peer, PeerNamespace, Update};

/// The update that the message amounts to; none if it is about something else.
pub(crate) fn update(message: &RouteNetlinkMessage) -> Option<Update> {
    match message {
        RouteNetlinkMessage::NewLink(message) => link(message).map(Update::Link),
        RouteNetlinkMessage::DelLink(message) if is_of_device(message) => {
            Some(Update::LinkGone(Interface(message.header.index)))
        }
        RouteNetlinkMessage::NewAddress(message) => address(message).map(Update::Address),
        RouteNetlinkMessage::DelAddress(message) => address(message).map(Update::AddressGone),
        _ => None,
    }
}

/// The link that the message describes; none if it does not describe a device.
pub(crate) fn link(message: &LinkMessage) -> Option<Link> {
    if !is_of_device(message) {
        return None;
    }
    let mut name = None;
    let mut kind = LinkKind::Plain;
    let mut master = None;
    let mut mac = None;
    let mut xdp = None;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::LinkInfo(infos) => kind = kind_of(infos, &message.attributes),
            LinkAttribute::Controller(index) => master = Some(Interface(*index)),
            LinkAttribute::Address(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac),
            LinkAttribute::Xdp(told) => xdp = xdp_program(told),
            _ => {}
        }
    }
    Some(Link {
        index: Interface(message.header.index),
        name: name?,
        up: message.header.flags.contains(LinkFlags::Up),
        kind,
        master: master.filter(|index| index.0 != 0),
        mac,
        xdp,
        incarnation: 0,
    })
}

/// The program of whatever mode; with programs of several modes, the kernel names them apart.
fn xdp_program(told: &[LinkXdp]) -> Option<u32> {
    told.iter().find_map(|own| match own {
        LinkXdp::ProgId(id)
        | LinkXdp::DrvProgId(id)
        | LinkXdp::SkbProgId(id)
        | LinkXdp::HwProgId(id) => Some(*id),
        _ => None,
    })
}

fn is_of_device(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
        && !message.attributes.iter().any(|a| matches!(a, LinkAttribute::Wireless(_)))
}

fn kind_of(infos: &[LinkInfo], attributes: &[LinkAttribute]) -> LinkKind {
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    match kind {
        None => LinkKind::Plain,
        Some(InfoKind::Veth) => LinkKind::Veth(peer(attributes)),
        Some(InfoKind::Netkit) => LinkKind::Netkit(peer(attributes)),
        Some(InfoKind::Bridge) => LinkKind::Bridge,
        Some(other) => LinkKind::Other(other.to_string()),
    }
}

fn peer(attributes: &[LinkAttribute]) -> Option<Peer> {
    let mut index = None;
    let mut namespace = PeerNamespace::Here;
    for attribute in attributes {
        match attribute {
            LinkAttribute::Link(peer) => index = Some(*peer),
            LinkAttribute::LinkNetNsId(number) => namespace = PeerNamespace::Numbered(*number),
            _ => {}
        }
    }
    index.filter(|index| *index != 0).map(|index| Peer { index, namespace })
}

/// On a point-to-point link the "address" is the other side's, and the own one is "local".
fn address(message: &AddressMessage) -> Option<Address> {
    let mut own = None;
    let mut local = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(address) => own = Some(*address),
            AddressAttribute::Local(address) => local = Some(*address),
            _ => {}
        }
    }
    Some(Address {
        address: local.or(own)?,
        prefix_length: message.header.prefix_len,
        interface: Interface(message.header.index),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(family: AddressFamily, attributes: Vec<LinkAttribute>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.interface_family = family;
        message.header.index = 7;
        message.attributes = attributes;
        message
    }

    fn veth(more: Vec<LinkAttribute>) -> Vec<LinkAttribute> {
        let mut attributes = vec![
            LinkAttribute::IfName("v".to_owned()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]),
        ];
        attributes.extend(more);
        attributes
    }

    #[test]
    fn a_port_that_leaves_its_bridge_is_not_a_device_that_goes() {
        let port = described(AddressFamily::Bridge, veth(vec![]));
        assert_eq!(update(&RouteNetlinkMessage::DelLink(port.clone())), None);
        assert_eq!(update(&RouteNetlinkMessage::NewLink(port)), None);
    }

    #[test]
    fn a_link_without_a_name_is_not_believed() {
        let message = described(AddressFamily::Unspec, vec![]);
        assert_eq!(update(&RouteNetlinkMessage::NewLink(message)), None);
    }

    #[test]
    fn reads_where_the_other_end_of_a_veth_is() {
        let away = vec![LinkAttribute::Link(2), LinkAttribute::LinkNetNsId(0)];
        let away = link(&described(AddressFamily::Unspec, veth(away))).unwrap();
        assert_eq!(away.peer(), Some(Peer { index: 2, namespace: PeerNamespace::Numbered(0) }));
        let here = veth(vec![LinkAttribute::Link(8)]);
        let here = link(&described(AddressFamily::Unspec, here)).unwrap();
        assert_eq!(here.peer(), Some(Peer { index: 8, namespace: PeerNamespace::Here }));
        let alone = veth(vec![LinkAttribute::Link(0)]);
        let alone = link(&described(AddressFamily::Unspec, alone)).unwrap();
        assert_eq!(alone.peer(), None);
    }

    #[test]
    fn a_netkit_device_is_no_veth() {
        let mut attributes = veth(vec![LinkAttribute::Link(2), LinkAttribute::LinkNetNsId(5)]);
        attributes[1] = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Netkit)]);
        let netkit = link(&described(AddressFamily::Unspec, attributes)).unwrap();
        let there = Peer { index: 2, namespace: PeerNamespace::Numbered(5) };
        assert_eq!((netkit.peer(), netkit.netkit_peer()), (None, Some(there)));
    }

    #[test]
    fn an_xdp_program_is_read_in_whatever_mode_it_runs() {
        let xdp = |told| {
            let told = veth(vec![LinkAttribute::Xdp(told)]);
            link(&described(AddressFamily::Unspec, told)).unwrap().xdp
        };
        assert_eq!(xdp(vec![LinkXdp::Flags(2)]), None);
        assert_eq!(xdp(vec![LinkXdp::Flags(2), LinkXdp::ProgId(7)]), Some(7));
        assert_eq!(xdp(vec![LinkXdp::SkbProgId(8), LinkXdp::DrvProgId(9)]), Some(8));
    }

    #[test]
    fn the_own_address_of_a_point_to_point_link_is_the_local_one() {
        let mut message = AddressMessage::default();
        message.attributes = vec![
            AddressAttribute::Address("192.0.2.2".parse().unwrap()),
            AddressAttribute::Local("192.0.2.1".parse().unwrap()),
        ];
        assert_eq!(address(&message).unwrap().address.to_string(), "192.0.2.1");
    }
}
