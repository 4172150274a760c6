//! What was seen of somebody's flows, counted, and the entries that allow just that.
//!
//! Nothing depends on the order of flows: a lookup may be told of after the connection to what it
//! found. What is kept is bounded; what is left out is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use engine::rebinding::Guard;
use hubble::proto::flow::{Endpoint, Flow, TrafficDirection, Verdict};
use model::{Name, Pattern};

use super::kind::Kind;
use super::peer::{Peer, Services};
use super::seen::{Fate, Port, Seen, Target};
use super::wildcard::Wildcards;

/// What is asked for where lookups were not seen.
const ANY_NAME: &str = "*";

/// Whose flows count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Pod { namespace: String, name: String },
    Pods(Kind),
}

/// Which flows count, and what is made of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Manner {
    /// What no policy allowed counts as well.
    pub denied: bool,
    /// Patterns stand for several names.
    pub wildcards: bool,
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Lessons {
    subject: Subject,
    manner: Manner,
    /// How many entries may be kept.
    room: usize,
    pub counts: Counts,
    /// The labels of the pods whose flows count.
    pub kind: Option<Kind>,
    lookups: BTreeMap<(Target, Port), BTreeMap<String, u64>>,
    connections: BTreeMap<(Pod, Target, Port), u64>,
    /// The names that a pod has for an address.
    names: BTreeMap<(Pod, IpAddr), BTreeSet<String>>,
    /// Addresses that no outside name brings.
    guarded: BTreeSet<IpAddr>,
}

/// A pod's namespace and name.
type Pod = (String, String);

/// How many flows were what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// They are in the policy.
    pub learned: u64,
    /// Of these, the L7 proxy judged what was said on them, which the policy does not.
    pub judged: u64,
    /// Nothing allowed them, and they do not count.
    pub denied: u64,
    /// No entry could be about them.
    pub unsayable: u64,
    /// There was no room for them.
    pub left_out: u64,
}

/// The entries of a policy, less their form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entries {
    /// What may be asked for at whom, and how often it was.
    pub lookups: BTreeMap<(Peer, u16), BTreeMap<String, u64>>,
    /// Who may be reached at which ports, and how often they were.
    pub connections: BTreeMap<Peer, BTreeMap<Port, u64>>,
    /// Servers whose lookups were not seen.
    pub unseen: BTreeSet<Peer>,
    /// Addresses that stand for themselves, since no outside name brings them.
    pub guarded: BTreeSet<IpAddr>,
    /// Services of which it is not known who is behind them.
    pub unknown: BTreeSet<(String, String)>,
}

impl Subject {
    fn covers(&self, source: &Endpoint) -> bool {
        match self {
            Self::Pod { namespace, name } => {
                source.namespace == *namespace && source.pod_name == *name
            }
            Self::Pods(kind) => Kind::read(&source.labels).is_some_and(|own| kind.covers(&own)),
        }
    }
}

impl Lessons {
    /// Nothing seen yet; at most `room` different things will be kept.
    pub fn new(subject: Subject, manner: Manner, room: usize) -> Self {
        let kind = match &subject {
            Subject::Pod { .. } => None,
            Subject::Pods(kind) => Some(kind.clone()),
        };
        Self {
            subject,
            manner,
            room,
            counts: Counts::default(),
            kind,
            lookups: BTreeMap::new(),
            connections: BTreeMap::new(),
            names: BTreeMap::new(),
            guarded: BTreeSet::new(),
        }
    }

    /// Takes in a flow, if it is one that the subject began.
    pub fn handle_flow(&mut self, flow: &Flow) {
        let began =
            flow.traffic_direction() == TrafficDirection::Egress && flow.is_reply != Some(true);
        let Some(source) = flow.source.as_ref().filter(|own| began && self.subject.covers(own))
        else {
            return;
        };
        match Fate::of(flow) {
            Fate::Passed => {}
            Fate::Denied if self.manner.denied => {}
            Fate::Denied => {
                self.counts.denied += 1;
                return;
            }
            Fate::Other => return,
        }
        let Some(seen) = Seen::read(flow) else { return };
        if self.kind.is_none() {
            self.kind = Kind::read(&source.labels);
        }
        let pod = (source.namespace.clone(), source.pod_name.clone());
        let judged = flow.verdict() == Verdict::Redirected;
        match self.keep(pod, seen) {
            Kept::Yes => {
                self.counts.learned += 1;
                self.counts.judged += u64::from(judged);
            }
            Kept::NoRoom => self.counts.left_out += 1,
            Kept::Unsayable => self.counts.unsayable += 1,
        }
    }

    fn keep(&mut self, pod: Pod, seen: Seen) -> Kept {
        if self.room == 0 {
            return Kept::NoRoom;
        }
        match seen {
            Seen::Unsayable => return Kept::Unsayable,
            Seen::Lookup { server, port, name, addresses } => {
                if Pattern::match_name(&name).is_err() {
                    return Kept::Unsayable;
                }
                for address in addresses {
                    self.keep_answer(&pod, address, &name);
                }
                let names = self.lookups.entry((server, port)).or_default();
                let before = names.len();
                *names.entry(name).or_default() += 1;
                self.room = self.room.saturating_sub(names.len() - before);
            }
            Seen::Connection { target, port, names } => {
                if let Target::Outside(address) = target {
                    let names = names.iter().filter(|own| Pattern::match_name(own).is_ok());
                    names.for_each(|name| self.keep_name(&pod, address, name));
                }
                let before = self.connections.len();
                *self.connections.entry((pod, target, port)).or_default() += 1;
                self.room = self.room.saturating_sub(self.connections.len() - before);
            }
        }
        Kept::Yes
    }

    /// An address that the daemon would not learn for the name does not stand behind it. That it has
    /// learned one all the same, since it is configured to, the connection's own names tell.
    fn keep_answer(&mut self, pod: &Pod, address: IpAddr, name: &str) {
        let admits = |name: &Name| Guard::default().admits(name.as_ref(), address).is_ok();
        if name.parse().is_ok_and(|name| admits(&name)) {
            self.keep_name(pod, address, name);
        } else if self.guarded.insert(address) {
            self.room = self.room.saturating_sub(1);
        }
    }

    fn keep_name(&mut self, pod: &Pod, address: IpAddr, name: &str) {
        let names = self.names.entry((pod.clone(), address)).or_default();
        if names.insert(name.to_owned()) {
            self.room = self.room.saturating_sub(1);
        }
    }

    /// Entries that allow what was seen.
    pub fn entries(&self, services: &Services) -> Entries {
        let mut entries = Entries::default();
        let wildcards = self.wildcards();
        for ((server, port), names) in &self.lookups {
            for peer in self.servers(server, *port, services, &mut entries) {
                let known = entries.lookups.entry(peer).or_default();
                for (name, count) in names {
                    *known.entry(wildcards.widen(name)).or_default() += count;
                }
            }
        }
        let connections = self.connections.iter();
        // Where lookups were seen, a packet shows one of them: a plain entry would allow them all.
        let plain = connections
            .filter(|((_, target, port), _)| !self.lookups.contains_key(&(target.clone(), *port)));
        for ((pod, target, port), count) in plain {
            if port.is_dns() {
                self.add_unseen_lookup(target, *port, *count, services, &mut entries);
                continue;
            }
            for (peer, port) in self.peers(pod, target, *port, services, &mut entries) {
                let peer = match peer {
                    Peer::Name(name) => Peer::Name(wildcards.widen(&name)),
                    other => other,
                };
                *entries.connections.entry(peer).or_default().entry(port).or_default() += count;
            }
        }
        entries
    }

    fn wildcards(&self) -> Wildcards {
        if !self.manner.wildcards {
            return Wildcards::default();
        }
        let asked = self.lookups.values().flat_map(BTreeMap::keys);
        let reached = self.names.values().flatten();
        Wildcards::of(asked.chain(reached).map(String::as_str))
    }

    /// The servers behind a target. Rules for names do not go with services, so where nothing else
    /// is known of a server, only its port is said.
    fn servers(
        &self,
        server: &Target,
        port: Port,
        services: &Services,
        entries: &mut Entries,
    ) -> BTreeSet<(Peer, u16)> {
        note_unknown(server, port, services, entries);
        let behind = services.behind(server, port).into_iter();
        behind
            .map(|(peer, port)| match peer {
                Peer::Service { .. } => (Peer::Anybody, port.number),
                other => (other, port.number),
            })
            .collect()
    }

    /// Lookups that did not pass the DNS proxy: the names are not known, so all are allowed.
    fn add_unseen_lookup(
        &self,
        target: &Target,
        port: Port,
        count: u64,
        services: &Services,
        entries: &mut Entries,
    ) {
        for peer in self.servers(target, port, services, entries) {
            if !entries.lookups.contains_key(&peer) {
                entries.unseen.insert(peer.0.clone());
            }
            if entries.unseen.contains(&peer.0) {
                let names = entries.lookups.entry(peer).or_default();
                *names.entry(ANY_NAME.to_owned()).or_default() += count;
            }
        }
    }

    /// Who was reached: outside, by the names that this pod has for the address.
    fn peers(
        &self,
        pod: &Pod,
        target: &Target,
        port: Port,
        services: &Services,
        entries: &mut Entries,
    ) -> BTreeSet<(Peer, Port)> {
        if let Target::Outside(address) = target {
            let names = self.names.get(&(pod.clone(), *address)).into_iter().flatten();
            let named: BTreeSet<_> = names.map(|name| (Peer::Name(name.clone()), port)).collect();
            if !named.is_empty() {
                return named;
            }
            if self.guarded.contains(address) {
                entries.guarded.insert(*address);
            }
        }
        note_unknown(target, port, services, entries);
        services.behind(target, port)
    }
}

/// Whether something was kept.
enum Kept {
    Yes,
    NoRoom,
    Unsayable,
}

fn note_unknown(target: &Target, port: Port, services: &Services, entries: &mut Entries) {
    if let Target::Service { namespace, name } = target
        && !services.knows(target, port)
    {
        entries.unknown.insert((namespace.clone(), name.clone()));
    }
}
