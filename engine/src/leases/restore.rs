//! Taking over what the kernel has from a daemon that ran before.
//!
//! A record that nothing leads to is left out, so that the difference to [`Leases::rows`] removes
//! it: a daemon may have died between any two writes. What has run out is taken over, too; whether
//! a connection keeps it is for the first [`Leases::handle_timeout`] to find out.

use std::net::IpAddr;

use model::{Change, EndpointId, Identity, Moment, NameNumber, State};

use super::{Leases, Limits};

impl Leases {
    /// The names and addresses of one endpoint in a dump. Their sets stay as they are until
    /// [`Leases::rejudge`] and [`Leases::settle`], which are to follow.
    pub fn restore(endpoint: EndpointId, limits: Limits, state: &State) -> Self {
        let mut leases = Self::new(endpoint, limits);
        leases.restore_names(state);
        let (first, last) = (IpAddr::from([0; 4]), IpAddr::from([0xff; 16]));
        for (&(_, address), lease) in state.leases.range((endpoint, first)..=(endpoint, last)) {
            if lease.name == NameNumber::SHARED {
                leases.restore_shared(state, address, lease.sets);
            } else if leases.book.is_written(lease.name) {
                leases.restore_link(lease.name, address, lease.expires, lease.sets);
            }
        }
        leases.complete();
        leases
    }

    /// What the kernel should have of this endpoint, in the order in which it may be written.
    pub fn rows(&self) -> impl Iterator<Item = Change> + '_ {
        let endpoint = self.book.endpoint;
        let names = self.book.names.iter().filter(|(_, named)| named.written);
        let names = names
            .map(move |(&number, named)| Change::PutName(endpoint, number, named.name.clone()));
        let shared = self.book.links.iter().filter_map(move |(&(number, address), link)| {
            Some(Change::PutShared(endpoint, address, number, link.row?))
        });
        let leases = self.book.addresses.iter().filter_map(move |(&address, entry)| {
            Some(Change::PutLease(endpoint, address, entry.lease?))
        });
        names.chain(shared).chain(leases)
    }

    /// Of two numbers with one name the later counts: the earlier was on its way out.
    fn restore_names(&mut self, state: &State) {
        let endpoint = self.book.endpoint;
        let all = (endpoint, NameNumber(1))..=(endpoint, NameNumber(u32::MAX));
        for (&(_, number), name) in state.names.range(all) {
            if let Some(earlier) = self.book.number(name.as_ref()) {
                self.book.names.remove(&earlier);
            }
            self.book.insert_name(number, name.clone(), true);
            self.book.last = number;
        }
    }

    fn restore_shared(&mut self, state: &State, address: IpAddr, sets: [Option<Identity>; 2]) {
        let endpoint = self.book.endpoint;
        let all = (endpoint, address, NameNumber(1))..=(endpoint, address, NameNumber(u32::MAX));
        for (&(_, _, number), &expires) in state.shared.range(all) {
            if self.book.is_written(number) {
                self.restore_link(number, address, expires, sets);
            }
        }
    }

    fn restore_link(
        &mut self,
        number: NameNumber,
        address: IpAddr,
        expires: Moment,
        sets: [Option<Identity>; 2],
    ) {
        self.book.add_link(number, address, expires);
        self.book.addresses.entry(address).or_default().previous = sets;
    }

    /// Takes what was restored as what stands, and drops names that have no address.
    fn complete(&mut self) {
        // The caller compares `rows` with the dump; these changes say the same.
        self.book.write(&mut Vec::new());
        let numbers: Vec<NameNumber> = self.book.names.keys().copied().collect();
        for number in numbers {
            self.tidy(number);
        }
        self.book.departed.clear();
    }
}
