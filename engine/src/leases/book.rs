//! Who has what: names, addresses, and the links between them, in indexes that are kept in step.
//!
//! Every link stands in `links` and `holders`. Those of names that the kernel knows
//! ([`Named::written`]) stand in `lasting`, too, and those of names that have a set are counted in
//! `sets`. What a change of the book means for the kernel is noted in `touched` and `departed`, and
//! carried out by `write`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use model::{Change, EndpointId, Identity, LeaseEntry, Moment, Name, NameNumber, NameRef};

#[derive(Debug)]
pub(super) struct Book {
    pub(super) endpoint: EndpointId,
    /// Looked into with every answer. Names are the pod's choice, so this map's hash has a secret.
    pub(super) numbers: HashMap<Name, NameNumber>,
    pub(super) names: BTreeMap<NameNumber, Named>,
    pub(super) links: BTreeMap<(NameNumber, IpAddr), Link>,
    /// The links by address.
    pub(super) holders: BTreeSet<(IpAddr, NameNumber)>,
    /// The addresses that the kernel knows, or is about to.
    pub(super) addresses: BTreeMap<IpAddr, Address>,
    /// The links that the kernel knows, or is about to, by address and [`Link::lasts`].
    pub(super) lasting: BTreeSet<(IpAddr, Moment, NameNumber)>,
    /// How many of an address's names have a set.
    pub(super) sets: BTreeMap<(IpAddr, Identity), u32>,
    /// The number given last.
    pub(super) last: NameNumber,
    /// Links that may differ from the kernel.
    pub(super) touched: Vec<Touch>,
    /// Names that the kernel knows and need not any more.
    pub(super) departed: Vec<NameNumber>,
    /// Whether an address was ever left without the sets that it should have.
    pub(super) lacked: bool,
}

#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: Name,
    /// The selectors that match it.
    pub(super) set: Option<Identity>,
    /// Whether `set` is what the policy says, and not a leftover of what could not be found out.
    pub(super) judged: bool,
    /// Whether the kernel knows the name, or is about to.
    pub(super) written: bool,
    /// Where it stands in the agenda.
    pub(super) due: Moment,
    /// Where it stands in the order of eviction.
    pub(super) rank: super::Rank,
}

/// One name's hold on one address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// The last moment at which it is good: the lease's end with the grace, or the end of the
    /// time for which a living connection keeps it.
    pub(super) expires: Moment,
    /// When its lease ran out, if it is kept for a living connection.
    pub(super) ended: Option<Moment>,
    /// Whether a connection lived when last looked at.
    pub(super) in_use: bool,
    /// Whether it was looked at ahead of its time, and nothing lived.
    pub(super) looked_at: bool,
    /// What the kernel has for `expires`; zero where it does not know the name.
    pub(super) lasts: Moment,
    /// The shared record that stands in the kernel.
    pub(super) row: Option<Moment>,
    /// Whether no change has been emitted for it yet.
    pub(super) fresh: bool,
}

/// An address in the kernel.
#[derive(Debug, Default)]
pub(super) struct Address {
    /// The sets that stood before policy changed, and stand until it is settled.
    pub(super) previous: [Option<Identity>; 2],
    /// The union of the sets of its names.
    pub(super) union: Option<Identity>,
    /// Whether `union` is to be computed.
    pub(super) stale: bool,
    /// Whether a set was taken away since it was computed.
    pub(super) shrunk: bool,
    /// What stands in the kernel.
    pub(super) lease: Option<LeaseEntry>,
}

/// A link to be compared with the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Touch {
    pub(super) address: IpAddr,
    pub(super) number: NameNumber,
    /// Whether the link is gone and left a shared record.
    pub(super) row_left: bool,
}

/// The least and the greatest key with this first half.
macro_rules! under {
    (name $number:expr) => {
        ($number, std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
            ..=($number, std::net::IpAddr::V6(std::net::Ipv6Addr::from_bits(u128::MAX)))
    };
    (holder $address:expr) => {
        ($address, model::NameNumber(0))..=($address, model::NameNumber(u32::MAX))
    };
    (lasting $address:expr) => {
        ($address, model::Moment::ZERO, model::NameNumber(0))
            ..=($address, model::Moment::MAX, model::NameNumber(u32::MAX))
    };
    (set $address:expr) => {
        ($address, model::Identity(0))..=($address, model::Identity(u32::MAX))
    };
}
pub(super) use under;

impl Book {
    pub(super) fn new(endpoint: EndpointId) -> Self {
        Self {
            endpoint,
            numbers: HashMap::new(),
            names: BTreeMap::new(),
            links: BTreeMap::new(),
            holders: BTreeSet::new(),
            addresses: BTreeMap::new(),
            lasting: BTreeSet::new(),
            sets: BTreeMap::new(),
            last: NameNumber::SHARED,
            touched: Vec::new(),
            departed: Vec::new(),
            lacked: false,
        }
    }

    pub(super) fn number(&self, name: NameRef<'_>) -> Option<NameNumber> {
        self.numbers.get(name.as_wire()).copied()
    }

    pub(super) fn named(&self, number: NameNumber) -> Option<&Named> {
        self.names.get(&number)
    }

    pub(super) fn is_written(&self, number: NameNumber) -> bool {
        self.named(number).is_some_and(|named| named.written)
    }

    pub(super) fn link_mut(&mut self, number: NameNumber, address: IpAddr) -> Option<&mut Link> {
        self.links.get_mut(&(number, address))
    }

    /// The addresses of a name.
    pub(super) fn links_of(&self, number: NameNumber) -> impl Iterator<Item = (IpAddr, &Link)> {
        self.links.range(under!(name number)).map(|(&(_, address), link)| (address, link))
    }

    /// Adds a name that is not there, under the next number that is free.
    pub(super) fn add_name(&mut self, name: NameRef<'_>) -> NameNumber {
        loop {
            self.last = NameNumber(self.last.0.wrapping_add(1).max(1));
            if !self.names.contains_key(&self.last) {
                break;
            }
        }
        self.insert_name(self.last, name.to_name(), false);
        self.last
    }

    pub(super) fn insert_name(&mut self, number: NameNumber, name: Name, written: bool) {
        let (due, rank) = (Moment::MAX, (false, Moment::MAX));
        let named = Named { name: name.clone(), set: None, judged: false, written, due, rank };
        self.numbers.insert(name, number);
        self.names.insert(number, named);
    }

    /// Removes a name that has no addresses.
    pub(super) fn remove_name(&mut self, number: NameNumber) {
        let Some(named) = self.names.remove(&number) else { return };
        self.numbers.remove(&named.name);
        if named.written {
            self.departed.push(number);
        }
    }

    /// Gives a name its set. A name that had none becomes known to the kernel; one that has none
    /// now stays known until [`Self::withdraw`].
    pub(super) fn select(
        &mut self,
        number: NameNumber,
        set: Option<Identity>,
        changes: &mut Vec<Change>,
    ) {
        let Some(named) = self.names.get_mut(&number) else { return };
        let before = std::mem::replace(&mut named.set, set);
        let begins = set.is_some() && !named.written;
        named.judged = true;
        named.written |= begins;
        if begins {
            changes.push(Change::PutName(self.endpoint, number, named.name.clone()));
        }
        if before == set {
            return;
        }
        for address in self.addresses_of(number) {
            self.count_out(address, before);
            self.count_in(address, set);
            if begins {
                self.stand(number, address);
            }
            self.touch(number, address);
        }
    }

    /// Takes a name out of the kernel that no selector matches any more.
    pub(super) fn withdraw(&mut self, number: NameNumber) {
        for address in self.addresses_of(number) {
            let Some(link) = self.links.get_mut(&(number, address)) else { continue };
            self.lasting.remove(&(address, link.lasts, number));
            link.lasts = Moment::ZERO;
            let row_left = link.row.take().is_some();
            self.touched.push(Touch { address, number, row_left });
        }
        if let Some(named) = self.names.get_mut(&number) {
            named.written = false;
            self.departed.push(number);
        }
    }

    pub(super) fn addresses_of(&self, number: NameNumber) -> Vec<IpAddr> {
        self.links_of(number).map(|(address, _)| address).collect()
    }

    /// Links an address to a name that does not have it.
    pub(super) fn add_link(
        &mut self,
        number: NameNumber,
        address: IpAddr,
        expires: Moment,
    ) -> Link {
        let (lasts, row) = (Moment::ZERO, None);
        let ended = None;
        let (in_use, looked_at, fresh) = (false, false, true);
        let link = Link { expires, ended, in_use, looked_at, lasts, row, fresh };
        self.links.insert((number, address), link);
        self.holders.insert((address, number));
        let named = self.names.get(&number).filter(|named| named.written);
        let Some(set) = named.map(|named| named.set) else { return link };
        self.count_in(address, set);
        Link { lasts: self.stand(number, address).unwrap_or(lasts), ..link }
    }

    pub(super) fn remove_link(&mut self, number: NameNumber, address: IpAddr) {
        let Some(link) = self.links.remove(&(number, address)) else { return };
        self.holders.remove(&(address, number));
        let Some(named) = self.names.get(&number).filter(|named| named.written) else { return };
        self.count_out(address, named.set);
        self.lasting.remove(&(address, link.lasts, number));
        self.touched.push(Touch { address, number, row_left: link.row.is_some() });
    }

    /// Lets the kernel have a link's expiry, if it knows the name; the expiry.
    pub(super) fn stand(&mut self, number: NameNumber, address: IpAddr) -> Option<Moment> {
        if !self.is_written(number) {
            return None;
        }
        let link = self.links.get_mut(&(number, address))?;
        self.lasting.remove(&(address, link.lasts, number));
        link.lasts = link.expires;
        self.lasting.insert((address, link.lasts, number));
        let lasts = link.lasts;
        self.touch(number, address);
        Some(lasts)
    }

    pub(super) fn touch(&mut self, number: NameNumber, address: IpAddr) {
        self.touched.push(Touch { address, number, row_left: false });
    }

    /// Has every address that the kernel knows looked at again.
    pub(super) fn touch_all(&mut self) {
        let links = self.lasting.iter();
        let touch = |&(address, _, number)| Touch { address, number, row_left: false };
        self.touched.extend(links.map(touch));
    }

    /// Has an address looked at again whose sets could not be joined before.
    pub(super) fn touch_if_stale(&mut self, number: NameNumber, address: IpAddr) {
        if self.lacked && self.addresses.get(&address).is_some_and(|entry| entry.stale) {
            self.touch(number, address);
        }
    }

    fn count_in(&mut self, address: IpAddr, set: Option<Identity>) {
        let Some(set) = set else { return };
        let count = self.sets.entry((address, set)).or_default();
        *count += 1;
        if *count == 1 {
            self.addresses.entry(address).or_default().stale = true;
        }
    }

    fn count_out(&mut self, address: IpAddr, set: Option<Identity>) {
        let Some(set) = set else { return };
        let Some(count) = self.sets.get_mut(&(address, set)) else { return };
        *count -= 1;
        if *count == 0 {
            self.sets.remove(&(address, set));
            let entry = self.addresses.entry(address).or_default();
            (entry.stale, entry.shrunk) = (true, true);
        }
    }
}
