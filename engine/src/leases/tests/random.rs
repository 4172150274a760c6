//! Random events against a plain list of names that does everything the slow and obvious way.

use std::cmp::Reverse;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    min_ttl: 2,
    max_ttl: 40,
    grace: Duration::from_secs(5),
    addresses_per_name: 3,
    kept_per_name: 2,
    names: 4,
    addresses: 8,
    recheck: Duration::from_secs(7),
    ahead: Duration::from_secs(2),
};

const NAMES: [&str; 6] =
    ["a.one.test", "b.one.test", "c.one.test", "a.two.test", "b.two.test", "x.three.test"];

const POLICIES: [&[&str]; 5] = [
    &["*.test"],
    &["*.one.test", "a.one.test", "a.two.test"],
    &["*.two.test", "b.one.test"],
    &["*.one.test", "*.two.test", "*.three.test"],
    &[],
];

#[derive(Clone, Debug)]
enum Event {
    Answer { after: u64, name: usize, addresses: Vec<(u8, u32)> },
    Wait { after: u64, live: BTreeSet<u8> },
    Forget { name: usize },
    Policy { index: usize },
    Restart,
}

fn address_bytes() -> impl Strategy<Value = u8> {
    prop_oneof![1..6u8, 200..202u8]
}

fn event() -> impl Strategy<Value = Event> {
    let addresses = prop::collection::vec((address_bytes(), 0..50u32), 1..6);
    let live = prop::collection::btree_set(address_bytes(), 0..4);
    prop_oneof![
        8 => (0..6u64, 0..NAMES.len(), addresses)
            .prop_map(|(after, name, addresses)| Event::Answer { after, name, addresses }),
        8 => (0..15u64, live).prop_map(|(after, live)| Event::Wait { after, live }),
        1 => (0..NAMES.len()).prop_map(|name| Event::Forget { name }),
        2 => (0..POLICIES.len()).prop_map(|index| Event::Policy { index }),
        1 => Just(Event::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn does_what_a_plain_list_does(events in prop::collection::vec(event(), 1..60)) {
        let mut pod = Pod::new(LIMITS, POLICIES[0]);
        // No daemon sees moment zero, which stands for what the kernel does not have.
        let mut list = List { policy: 0, now: 1, last_number: 0, names: Vec::new() };
        for event in &events {
            run(&mut pod, &mut list, event);
            prop_assert_eq!(view(&pod), list.view(), "after {:?}", event);
            check_settled(&pod.kernel);
            let stats = pod.leases.stats();
            prop_assert!(stats.names <= LIMITS.names && stats.addresses <= LIMITS.addresses);
            let rows = pod.leases.rows().fold(State::default(), |mut state, change| {
                state.apply(&change);
                state
            });
            prop_assert_eq!(rows.leases, pod.kernel.leases.clone());
            prop_assert_eq!(rows.shared, pod.kernel.shared.clone());
            prop_assert_eq!(rows.names, pod.kernel.names.clone());
        }
    }
}

fn run(pod: &mut Pod, list: &mut List, event: &Event) {
    match event {
        Event::Answer { after, name, addresses } => {
            list.now += after;
            pod.answer(list.now, NAMES[*name], addresses).unwrap();
            list.answer(*name, addresses);
        }
        Event::Wait { after, live } => {
            list.now += after;
            let (before, evicted) = (pod.kernel.clone(), pod.leases.stats().evicted_kept);
            let live: Vec<u8> = live.iter().copied().collect();
            pod.wait(list.now, &live);
            list.wait(&live);
            if pod.leases.stats().evicted_kept == evicted {
                closes_only_what_is_over(&before, pod, seconds(list.now));
            }
            assert!(pod.leases.poll_timeout().is_none_or(|due| due > seconds(list.now)));
        }
        Event::Forget { name } => {
            let known = list.names.iter().filter(|known| known.name == *name).count();
            assert_eq!(pod.forget(NAMES[*name]), known);
            list.names.retain(|known| known.name != *name);
        }
        Event::Policy { index } => {
            let before = pod.kernel.leases.clone();
            pod.rejudge(POLICIES[*index]).unwrap();
            keeps_what_stood(&before, pod);
            let bridged = pod.kernel.leases.clone();
            pod.settle();
            keeps_only_what_was_bridged(&bridged, pod);
            list.change_policy(*index);
        }
        Event::Restart => {
            pod.leases = Leases::restore(POD, LIMITS, &pod.kernel);
            pod.rejudge(POLICIES[list.policy]).unwrap();
            // Sets joined in another order may pass through a union that was not needed before.
            assert!(pod.changes.iter().all(|change| matches!(change, Change::PutRow(..))));
            pod.settle();
            assert_eq!(pod.changes, []);
            list.restart();
        }
    }
}

fn closes_only_what_is_over(before: &State, pod: &Pod, now: Moment) {
    for change in &pod.changes {
        if let Change::DeleteLease(endpoint, address) = change {
            assert!(before.leases[&(*endpoint, *address)].expires < now, "{address}");
        }
    }
}

fn keeps_what_stood(before: &BTreeMap<(EndpointId, IpAddr), LeaseEntry>, pod: &Pod) {
    for (key, lease) in before {
        let bridged = pod.kernel.leases[key];
        assert!(lease.sets.iter().flatten().all(|set| bridged.sets.contains(&Some(*set))));
        assert_eq!(lease.expires.max(bridged.expires), bridged.expires);
    }
}

fn keeps_only_what_was_bridged(bridged: &BTreeMap<(EndpointId, IpAddr), LeaseEntry>, pod: &Pod) {
    for (key, lease) in &pod.kernel.leases {
        assert!(lease.sets.iter().flatten().all(|set| bridged[key].sets.contains(&Some(*set))));
        assert_eq!(lease.sets[1], None);
    }
}

/// What the kernel has of an address: the selectors that open it, and its names with their expiry.
type View = BTreeMap<IpAddr, (BTreeSet<String>, BTreeMap<String, Moment>)>;

fn view(pod: &Pod) -> View {
    let kernel = &pod.kernel;
    let names_of = |address: IpAddr, lease: &LeaseEntry| {
        if lease.name != NameNumber::SHARED {
            let name = kernel.names[&(POD, lease.name)].to_string();
            return BTreeMap::from([(name, lease.expires)]);
        }
        let rows = kernel.shared.iter().filter(|(key, _)| key.1 == address);
        rows.map(|(key, &expires)| (kernel.names[&(POD, key.2)].to_string(), expires)).collect()
    };
    let leases = kernel.leases.iter();
    leases
        .map(|(&(_, address), lease)| {
            let sets = lease.sets.into_iter().flatten();
            let members = sets.flat_map(|set| pod.sets.members_of(set).clone()).collect();
            (address, (members, names_of(address, lease)))
        })
        .collect()
}

/// The model: names with their addresses, searched from end to end for everything.
struct List {
    policy: usize,
    now: u64,
    last_number: u32,
    names: Vec<Known>,
}

struct Known {
    name: usize,
    number: u32,
    links: BTreeMap<IpAddr, Held>,
}

#[derive(Clone, Copy)]
struct Held {
    expires: Moment,
    ended: Option<Moment>,
    in_use: bool,
    looked_at: bool,
    /// What the kernel has; zero where it does not know the name.
    lasts: Moment,
}

impl List {
    fn members(&self, name: usize) -> BTreeSet<String> {
        Selectors::new(POLICIES[self.policy]).members(name_of(NAMES[name]).as_ref())
    }

    fn is_selected(&self, name: usize) -> bool {
        !self.members(name).is_empty()
    }

    fn view(&self) -> View {
        let mut view = View::new();
        for known in self.names.iter().filter(|known| self.is_selected(known.name)) {
            for (&address, held) in &known.links {
                let (members, names) = view.entry(address).or_default();
                members.append(&mut self.members(known.name));
                names.insert(name_of(NAMES[known.name]).to_string(), held.lasts);
            }
        }
        view
    }

    fn answer(&mut self, name: usize, addresses: &[(u8, u32)]) {
        let now = seconds(self.now);
        let selected = self.is_selected(name);
        if !self.names.iter().any(|known| known.name == name) {
            while self.names.len() >= LIMITS.names {
                self.evict(None);
            }
            self.last_number += 1;
            let number = self.last_number;
            self.names.push(Known { name, number, links: BTreeMap::new() });
        }
        let known = self.names.iter_mut().find(|known| known.name == name).unwrap();
        let before = known.links.clone();
        for &(last, ttl) in addresses {
            let end = now + Duration::from_secs(ttl.clamp(LIMITS.min_ttl, LIMITS.max_ttl).into());
            let expires = end + LIMITS.grace;
            let new =
                Held { expires, ended: None, in_use: false, looked_at: false, lasts: Moment::ZERO };
            let held = known.links.entry(address(last)).or_insert(new);
            held.expires = held.expires.max(expires);
            (held.ended, held.looked_at) = (None, false);
            if selected && held.lasts < end {
                held.lasts = held.expires;
            }
        }
        if known.links.len() > before.len() {
            known.limit(&before, selected, now);
            self.limit(name);
        }
    }

    fn limit(&mut self, name: usize) {
        while self.names.iter().map(|known| known.links.len()).sum::<usize>() > LIMITS.addresses {
            if !self.evict(Some(name)) {
                self.names[0].drop_one();
            }
        }
    }

    fn evict(&mut self, except: Option<usize>) -> bool {
        let candidates = self.names.iter().filter(|known| Some(known.name) != except);
        let rank = |known: &&Known| {
            let kept = known.links.values().any(|held| held.ended.is_some());
            (kept, known.links.values().map(|held| held.expires).max(), known.number)
        };
        let Some(number) = candidates.min_by_key(rank).map(|known| known.number) else {
            return false;
        };
        self.names.retain(|known| known.number != number);
        true
    }

    fn wait(&mut self, live: &[u8]) {
        let now = seconds(self.now);
        let live: BTreeSet<IpAddr> = live.iter().map(|&last| address(last)).collect();
        let selected: Vec<bool> =
            self.names.iter().map(|known| self.is_selected(known.name)).collect();
        for (known, selected) in self.names.iter_mut().zip(selected) {
            known.wait(selected, now, &live);
        }
        self.names.retain(|known| !known.links.is_empty());
    }

    fn change_policy(&mut self, index: usize) {
        let before: Vec<bool> =
            self.names.iter().map(|known| self.is_selected(known.name)).collect();
        self.policy = index;
        let after: Vec<bool> =
            self.names.iter().map(|known| self.is_selected(known.name)).collect();
        for ((known, before), after) in self.names.iter_mut().zip(before).zip(after) {
            for held in known.links.values_mut() {
                match (before, after) {
                    (false, true) => held.lasts = held.expires,
                    (true, false) => held.lasts = Moment::ZERO,
                    (true, true) | (false, false) => (),
                }
            }
        }
    }

    fn restart(&mut self) {
        let selected: BTreeSet<usize> =
            (0..NAMES.len()).filter(|name| self.is_selected(*name)).collect();
        self.names.retain(|known| selected.contains(&known.name));
        self.last_number = self.names.iter().map(|known| known.number).max().unwrap_or(0);
        for held in self.names.iter_mut().flat_map(|known| known.links.values_mut()) {
            let expires = held.lasts;
            *held = Held { expires, ended: None, in_use: false, looked_at: false, lasts: expires };
        }
    }
}

impl Known {
    fn limit(&mut self, before: &BTreeMap<IpAddr, Held>, selected: bool, now: Moment) {
        if self.links.len() <= LIMITS.addresses_per_name {
            return;
        }
        let leased = self.links.iter().filter(|(_, held)| held.ended.is_none());
        let leased = leased.filter(|(_, held)| held.expires >= now);
        let mut leased: Vec<_> = leased.map(|(&address, held)| (held.expires, address)).collect();
        leased.sort();
        leased.truncate(leased.len().saturating_sub(LIMITS.addresses_per_name));
        for (_, address) in leased {
            if selected && before.contains_key(&address) {
                let held = self.links.get_mut(&address).unwrap();
                (held.expires, held.lasts) = (now, now);
            } else {
                self.links.remove(&address);
            }
        }
        while self.links.len() > LIMITS.addresses_per_name + LIMITS.kept_per_name {
            self.drop_one();
        }
    }

    fn drop_one(&mut self) {
        let order = |(address, held): (&IpAddr, &Held)| {
            let kept = held.ended.is_some();
            (kept, kept && held.in_use, held.ended.unwrap_or(held.expires), *address)
        };
        let (.., first) = self.links.iter().map(order).min().unwrap();
        self.links.remove(&first);
    }

    fn wait(&mut self, selected: bool, now: Moment, live: &BTreeSet<IpAddr>) {
        for held in self.links.values_mut() {
            let runs = held.expires >= now;
            if selected && runs && held.expires - LIMITS.grace <= now {
                held.lasts = held.expires;
            }
        }
        let ends = |held: &Held| held.expires - LIMITS.ahead < now;
        let is_due = |held: &Held| held.expires < now || ends(held) && !held.looked_at;
        if !self.links.values().any(is_due) {
            return;
        }
        let over = |held: &Held| ends(held) || held.ended.is_some();
        let in_use = |(address, held): (&IpAddr, &Held)| over(held) && live.contains(address);
        if !self.links.iter().any(in_use) {
            self.links.retain(|_, held| held.expires >= now);
            self.links.values_mut().for_each(|held| held.looked_at |= ends(held));
            return;
        }
        for (address, held) in self.links.iter_mut().filter(|(_, held)| over(held)) {
            held.ended = Some(held.ended.unwrap_or(held.expires));
            held.in_use = live.contains(address);
            held.looked_at = false;
            held.expires = held.expires.max(now + LIMITS.recheck);
            held.lasts = if selected { held.expires } else { Moment::ZERO };
        }
        while self.links.values().filter(|held| held.ended.is_some()).count() > LIMITS.kept_per_name
        {
            let kept = self.links.iter().filter(|(_, held)| held.ended.is_some());
            let order =
                |(address, held): (&IpAddr, &Held)| (held.in_use, held.ended, Reverse(*address));
            let (.., Reverse(first)) = kept.map(order).min().unwrap();
            self.links.remove(&first);
        }
    }
}
