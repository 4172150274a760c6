//! A snapshot of the node's links and addresses, and how one snapshot differs from the next.
//!
//! Pure: updates go in, a value comes out. A link keeps its incarnation for as long as it is known
//! to be the same device, so a new device under a used index is never taken for the old one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use model::Interface;

/// A hardware address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where the other end of a pair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerNamespace {
    /// In the node's own namespace.
    Here,
    /// In the namespace that the node's namespace knows by this number.
    Numbered(i32),
}

/// The other end of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// Its index, in its own namespace.
    pub index: u32,
    /// Its namespace.
    pub namespace: PeerNamespace,
}

/// What sort of device a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// A device without a kind: hardware, loopback.
    Plain,
    /// One end of a pair; without a peer in the moment in which the pair is taken apart.
    Veth(Option<Peer>),
    /// One end of a pair whose own programs come before any others (6.7).
    Netkit(Option<Peer>),
    /// A bridge.
    Bridge,
    /// Anything else, by the kernel's name for it.
    Other(String),
}

/// A network interface of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: Interface,
    /// Its name, which may change.
    pub name: String,
    /// Whether it is administratively up.
    pub up: bool,
    /// What sort of device it is.
    pub kind: LinkKind,
    /// The bridge, bond or the like that it is a port of.
    pub master: Option<Interface>,
    /// Its hardware address; none for devices that have none.
    pub mac: Option<Mac>,
    /// The number of the XDP program on it, which packets meet before all others.
    pub xdp: Option<u32>,
    /// Tells devices apart that had the same index one after the other.
    pub incarnation: u64,
}

impl Link {
    /// The other end, if this is a veth that has one.
    pub fn peer(&self) -> Option<Peer> {
        match self.kind {
            LinkKind::Veth(peer) => peer,
            LinkKind::Plain | LinkKind::Netkit(_) | LinkKind::Bridge | LinkKind::Other(_) => None,
        }
    }

    /// The other end, if this is one end of a netkit pair.
    pub fn netkit_peer(&self) -> Option<Peer> {
        match self.kind {
            LinkKind::Netkit(peer) => peer,
            LinkKind::Plain | LinkKind::Veth(_) | LinkKind::Bridge | LinkKind::Other(_) => None,
        }
    }

    /// Whether this may be `earlier`, seen again after a gap in what the kernel told us.
    fn continues(&self, earlier: &Self) -> bool {
        self.index == earlier.index && self.kind == earlier.kind && self.mac == earlier.mac
    }
}

/// An address of one of the node's interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The address itself.
    pub address: IpAddr,
    /// The length of its prefix; an interface may hold one address with several.
    pub prefix_length: u8,
    /// The interface that holds it.
    pub interface: Interface,
}

impl Address {
    /// Whether it means something on one link only (169.254.0.0/16, fe80::/10).
    pub fn is_link_local(&self) -> bool {
        match self.address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        }
    }
}

/// A difference between two snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// A link that was not there.
    Appeared(Link),
    /// The same device, changed.
    Changed {
        /// As it was.
        before: Link,
        /// As it is.
        after: Link,
    },
    /// A link that is there no more.
    Gone(Link),
}

/// The node's links and addresses at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    links: BTreeMap<Interface, Link>,
    addresses: BTreeSet<Address>,
    births: u64,
}

/// One thing that the kernel said about the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Update {
    /// The link as it is now; its incarnation is not looked at.
    Link(Link),
    LinkGone(Interface),
    Address(Address),
    AddressGone(Address),
}

impl FromIterator<Link> for Node {
    /// A node with these links, by their indices, and no addresses.
    fn from_iter<T: IntoIterator<Item = Link>>(links: T) -> Self {
        let links = links.into_iter().map(|link| (link.index, link)).collect();
        Self { links, ..Self::default() }
    }
}

impl Node {
    /// All links, by index.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// The link with this index.
    pub fn link(&self, index: Interface) -> Option<&Link> {
        self.links.get(&index)
    }

    /// The link with this name.
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// The bridge that the link is a port of.
    pub fn bridge_of(&self, index: Interface) -> Option<&Link> {
        let master = self.link(self.link(index)?.master?)?;
        matches!(master.kind, LinkKind::Bridge).then_some(master)
    }

    /// All addresses, loopback's and link-local ones too.
    pub fn assigned(&self) -> impl Iterator<Item = &Address> {
        self.addresses.iter()
    }

    /// The addresses by which the node is reached: all but loopback and link-local ones.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.addresses
            .iter()
            .filter(|held| !held.address.is_loopback() && !held.is_link_local())
            .map(|held| held.address)
            .collect()
    }

    /// What happened to the links between this snapshot and a later one. What is gone comes first,
    /// so that whoever follows the list never holds two devices under one index or name.
    pub fn difference(&self, later: &Self) -> Vec<LinkEvent> {
        let mut gone = Vec::new();
        let mut rest = Vec::new();
        for before in self.links.values() {
            match later.links.get(&before.index) {
                Some(after) if after.incarnation == before.incarnation => {
                    if after != before {
                        rest.push(LinkEvent::Changed {
                            before: before.clone(),
                            after: after.clone(),
                        });
                    }
                }
                Some(_) | None => gone.push(LinkEvent::Gone(before.clone())),
            }
        }
        let known = |link: &Link| {
            self.links.get(&link.index).is_some_and(|old| old.incarnation == link.incarnation)
        };
        rest.extend(later.links.values().filter(|l| !known(l)).cloned().map(LinkEvent::Appeared));
        gone.append(&mut rest);
        gone
    }

    /// An empty snapshot to be filled anew, whose incarnations are none of this one's.
    pub(crate) fn successor(&self) -> Self {
        Self { births: self.births, ..Self::default() }
    }

    /// Gives links that were in `earlier` already, as far as one can tell, their old incarnation.
    pub(crate) fn recognise(&mut self, earlier: &Self) {
        for link in self.links.values_mut() {
            let Some(old) = earlier.links.get(&link.index) else { continue };
            if link.continues(old) {
                link.incarnation = old.incarnation;
            }
        }
    }

    /// Applies an update; says whether anything is different now.
    pub(crate) fn apply(&mut self, update: Update) -> bool {
        match update {
            Update::Link(link) => self.apply_link(link),
            Update::LinkGone(index) => {
                self.addresses.retain(|held| held.interface != index);
                self.links.remove(&index).is_some()
            }
            Update::Address(address) => self.addresses.insert(address),
            Update::AddressGone(address) => self.addresses.remove(&address),
        }
    }

    fn apply_link(&mut self, mut link: Link) -> bool {
        if let Some(known) = self.links.get_mut(&link.index) {
            link.incarnation = known.incarnation;
            let different = *known != link;
            *known = link;
            return different;
        }
        self.births += 1;
        link.incarnation = self.births;
        self.links.insert(link.index, link);
        true
    }
}

#[cfg(test)]
mod tests;
