//! The map of who talks to which names: the flows that are held, counted by their two ends.
//!
//! A pod can make up as many destinations as it likes. Of each source so many are drawn, those that
//! let it pass and those that did not apart, and the rest as one: no pod's noise hides another's
//! edges.

use std::collections::{BTreeMap, BTreeSet};

use ::flows::{Direction, Entry, Flow, Layer4, Record, Ring, Time, Verdict};
use serde::Serialize;

use super::party::Party;
use crate::recording::Flows;

/// How many entries are taken from the ring at once: it is locked meanwhile.
const BATCH: usize = 1024;
/// How many sources are drawn.
const SOURCES: usize = 40;
/// How many destinations of a source are drawn, of those it reached and of those it did not.
const DESTINATIONS: usize = 12;
/// How many ports are named at an edge.
const PORTS: usize = 6;

/// What is drawn.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Map {
    /// By source, then the busiest first.
    edges: Vec<Edge>,
    /// How many sources are left out.
    more_sources: usize,
    /// How many flows are counted.
    flows: u64,
    /// How many more there were since the first of them that were not recorded.
    lost: u64,
    /// When the first of them was, in milliseconds since 1970.
    since: Option<u64>,
}

/// Flows from one party to another.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Edge {
    source: Party,
    destination: Party,
    #[serde(flatten)]
    counts: Counts,
    ports: BTreeSet<String>,
    /// What was dropped or audited, by reason.
    reasons: BTreeMap<String, u64>,
    /// When the last of them was, in milliseconds since 1970.
    last: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    allowed: u64,
    /// What passed, and would not if its policies were enforced.
    audited: u64,
    dropped: u64,
    failed: u64,
    /// How many of all of these were questions of DNS.
    questions: u64,
}

impl Map {
    /// Draws what is recorded.
    pub fn of(flows: &Flows) -> Self {
        let mut sketch = Sketch::default();
        let mut cursor = flows.look(Ring::oldest);
        loop {
            let batch: Vec<Entry> = flows
                .look(|ring| std::iter::from_fn(|| ring.next(&mut cursor)).take(BATCH).collect());
            batch.iter().for_each(|entry| sketch.add(entry));
            if batch.len() < BATCH {
                return sketch.finish();
            }
        }
    }
}

/// A map in the making.
#[derive(Debug, Default)]
struct Sketch {
    sources: BTreeMap<Party, BTreeMap<Party, Edge>>,
    map: Map,
}

impl Sketch {
    fn add(&mut self, entry: &Entry) {
        self.map.since.get_or_insert_with(|| millis(entry.time()));
        match entry {
            Entry::Flow(flow) => self.add_flow(flow),
            Entry::Lost(lost) => self.map.lost += lost.count,
        }
    }

    fn add_flow(&mut self, flow: &Flow) {
        // What two endpoints of this node say to each other was seen at both.
        let seen_at_source = flow.source.who.endpoint.is_some();
        let again = flow.direction == Some(Direction::Ingress) && seen_at_source;
        if again || flow.is_reply == Some(true) {
            return;
        }
        self.map.flows += 1;
        let (source, destination) = (Party::source(flow), Party::destination(flow));
        let edges = self.sources.entry(source.clone()).or_default();
        let edge =
            edges.entry(destination.clone()).or_insert_with(|| Edge::new(source, destination));
        edge.add(flow);
    }

    fn finish(mut self) -> Map {
        let mut sources: Vec<Vec<Edge>> =
            self.sources.into_values().map(|own| drawn(own.into_values().collect())).collect();
        let weight = |edges: &Vec<Edge>| edges.iter().map(|edge| edge.counts.sum()).sum::<u64>();
        sources.sort_by_key(|edges| std::cmp::Reverse(weight(edges)));
        self.map.more_sources = sources.len().saturating_sub(SOURCES);
        sources.truncate(SOURCES);
        self.map.edges = sources.into_iter().flatten().collect();
        self.map
    }
}

/// Of one source's edges those to draw, the busiest first, and one for the rest.
fn drawn(mut edges: Vec<Edge>) -> Vec<Edge> {
    edges.sort_by_key(|edge| std::cmp::Reverse(edge.counts.sum()));
    let (mut reached, mut not_reached) = (0, 0);
    let (mut drawn, rest): (Vec<Edge>, Vec<Edge>) = edges.into_iter().partition(|edge| {
        let kind = if edge.counts.allowed + edge.counts.audited > 0 {
            &mut reached
        } else {
            &mut not_reached
        };
        *kind += 1;
        *kind <= DESTINATIONS
    });
    let count = rest.len();
    let rest = rest.into_iter().reduce(Edge::joined);
    drawn.extend(rest.map(|edge| Edge { destination: Party::others(count), ..edge }));
    drawn
}

impl Edge {
    fn new(source: Party, destination: Party) -> Self {
        let (ports, reasons) = (BTreeSet::new(), BTreeMap::new());
        Self { source, destination, counts: Counts::default(), ports, reasons, last: 0 }
    }

    fn add(&mut self, flow: &Flow) {
        self.counts.add(flow);
        self.last = self.last.max(millis(flow.time));
        if let Some(reason) = flow.drop_reason {
            *self.reasons.entry(reason.to_string()).or_default() += 1;
        }
        if let Some(port) = flow.l4.map(port)
            && self.ports.len() < PORTS
        {
            self.ports.insert(port);
        }
    }

    fn joined(mut self, other: Self) -> Self {
        self.counts.join(&other.counts);
        self.last = self.last.max(other.last);
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
        let room = PORTS.saturating_sub(self.ports.len());
        self.ports.extend(other.ports.into_iter().take(room));
        self
    }
}

impl Counts {
    fn add(&mut self, flow: &Flow) {
        let count = match flow.verdict {
            Verdict::Audit => &mut self.audited,
            Verdict::Dropped => &mut self.dropped,
            Verdict::Error => &mut self.failed,
            Verdict::Forwarded | Verdict::Redirected | Verdict::Traced | Verdict::Translated => {
                &mut self.allowed
            }
        };
        *count += 1;
        let record = flow.l7.as_deref().map(|l7| &l7.record);
        self.questions += u64::from(matches!(record, Some(Record::Dns(_))));
    }

    fn join(&mut self, other: &Self) {
        self.allowed += other.allowed;
        self.audited += other.audited;
        self.dropped += other.dropped;
        self.failed += other.failed;
        self.questions += other.questions;
    }

    fn sum(&self) -> u64 {
        self.allowed + self.audited + self.dropped + self.failed
    }
}

/// The destination's port with its protocol; the protocol alone where there are no ports.
fn port(l4: Layer4) -> String {
    let protocol = l4.protocol();
    match l4.ports() {
        Some((_, port)) => format!("{port}/{protocol}"),
        None => protocol.to_string(),
    }
}

fn millis(time: Time) -> u64 {
    u64::try_from(time.since_epoch().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
