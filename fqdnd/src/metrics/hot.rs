//! What workers and the kernel hold and count, as families.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bpf::MapInfo;
use flows::LossSource;
use model::{DropReason, EndpointId};

use super::family::{counter, gauge};
use super::totals::Totals;
use crate::daemon::Shared;

/// What is counted of each endpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Count {
    Dropped(DropReason),
    Audited(DropReason),
    BegunOutbound,
    BegunInbound,
    Redirected,
    Evicted(Evicted),
}

/// What gives way where an endpoint has too much of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Evicted {
    Names,
    Addresses,
    KeptAddresses,
    OutboundFlows,
    InboundFlows,
}

/// The share of one core's time that walking through maps may take: one part of this many.
const SHARE: u32 = 50;

/// The sums over endpoints, and what is in the maps.
#[derive(Default)]
pub struct Hot {
    counts: Totals<Count>,
    /// Apart from the others, because finding them takes a walk through the flow tables.
    evicted_flows: Totals<Evicted>,
    maps: Vec<MapInfo>,
    walk: Option<Walk>,
}

/// The last time that all maps were walked through. Over a million entries that takes a second.
struct Walk {
    ended: Instant,
    took: Duration,
}

impl Hot {
    /// Takes in what the endpoints count now.
    pub fn look(&mut self, shared: &Shared) -> Result<()> {
        let mut counts: Vec<((EndpointId, Count), u64)> = Vec::new();
        let drops = shared.datapath.drops().context("drop counters cannot be read")?;
        counts
            .extend(drops.into_iter().map(|((id, own), count)| ((id, Count::Dropped(own)), count)));
        let audits = shared.datapath.audits().context("audit counters cannot be read")?;
        counts.extend(
            audits.into_iter().map(|((id, own), count)| ((id, Count::Audited(own)), count)),
        );
        let begun = shared.datapath.counts().context("flow counters cannot be read")?;
        for (id, own) in begun {
            counts.extend([
                ((id, Count::BegunOutbound), own.outbound),
                ((id, Count::BegunInbound), own.inbound),
                ((id, Count::Redirected), own.redirected + own.inspected),
            ]);
        }
        shared.names.visit(|id, leases| {
            let stats = leases.stats();
            counts.extend([
                ((id, Count::Evicted(Evicted::Names)), stats.evicted_names),
                ((id, Count::Evicted(Evicted::Addresses)), stats.evicted_addresses),
                ((id, Count::Evicted(Evicted::KeptAddresses)), stats.evicted_kept),
            ]);
        });
        self.counts.take(counts);
        Ok(())
    }

    /// Tells of everything.
    pub fn tell(&mut self, shared: &Shared) -> Result<()> {
        self.walk(shared)?;
        self.tell_packets();
        self.tell_evictions();
        tell_names(shared);
        tell_records(shared);
        tell_maps(&self.maps);
        Ok(())
    }

    /// Walks through the maps, unless the last walk was a moment ago for the time that it took.
    fn walk(&mut self, shared: &Shared) -> Result<()> {
        let rests = |walk: &Walk| walk.ended.elapsed() < walk.took * (SHARE - 1);
        if self.walk.as_ref().is_some_and(rests) {
            return Ok(());
        }
        let begun = Instant::now();
        self.look_at_flow_tables(shared)?;
        self.maps = shared.datapath.maps().context("the maps cannot be read")?;
        self.walk = Some(Walk { ended: Instant::now(), took: begun.elapsed() });
        Ok(())
    }

    fn look_at_flow_tables(&mut self, shared: &Shared) -> Result<()> {
        let mut evicted = Vec::new();
        for id in shared.names.endpoints() {
            for (direction, what) in [
                (bpf::Direction::Outbound, Evicted::OutboundFlows),
                (bpf::Direction::Inbound, Evicted::InboundFlows),
            ] {
                let count = shared.datapath.evictions(id, direction);
                evicted.push(((id, what), count.context("flow tables cannot be read")?));
            }
        }
        self.evicted_flows.take(evicted);
        Ok(())
    }

    fn tell_packets(&self) {
        let dropped =
            |reason: &DropReason| (reason.as_str(), self.counts.of(Count::Dropped(*reason)));
        counter("fqdnd_dropped_packets_total", "Packets dropped, by reason.")
            .by("reason", DropReason::ALL.iter().map(dropped));
        let audited =
            |reason: &DropReason| (reason.as_str(), self.counts.of(Count::Audited(*reason)));
        counter(
            "fqdnd_audited_packets_total",
            "Packets that passed only because policies are audited, by the reason for which they would have been dropped.",
        )
        .by("reason", DropReason::ALL.iter().map(audited));
        counter("fqdnd_flows_total", "Flows whose first packet passed or went to a proxy.")
            .with(
                [("direction", "egress"), ("verdict", "forwarded")],
                self.counts.of(Count::BegunOutbound),
            )
            .with(
                [("direction", "egress"), ("verdict", "redirected")],
                self.counts.of(Count::Redirected),
            )
            .with(
                [("direction", "ingress"), ("verdict", "forwarded")],
                self.counts.of(Count::BegunInbound),
            );
    }

    fn tell_evictions(&self) {
        let own = |what| self.counts.of(Count::Evicted(what));
        counter("fqdnd_evictions_total", "What gave way because an endpoint had too much of it.")
            .by(
                "what",
                [
                    ("names", own(Evicted::Names)),
                    ("addresses", own(Evicted::Addresses)),
                    ("kept-addresses", own(Evicted::KeptAddresses)),
                    ("outbound-flows", self.evicted_flows.of(Evicted::OutboundFlows)),
                    ("inbound-flows", self.evicted_flows.of(Evicted::InboundFlows)),
                ],
            );
    }
}

fn tell_names(shared: &Shared) {
    let (mut names, mut addresses, mut leases, mut kept) = (0, 0, 0, 0);
    shared.names.visit(|_, own| {
        let stats = own.stats();
        names += stats.names as u64;
        addresses += stats.addresses as u64;
        leases += stats.leases as u64;
        kept += own.entries().filter(|entry| entry.kept_alive).count() as u64;
    });
    let gauge_of = |name, help, count| gauge(name, help).counts(count);
    gauge_of("fqdnd_names", "Resolved names, over all endpoints.", names);
    gauge_of("fqdnd_addresses", "Addresses of resolved names, over all endpoints.", addresses);
    gauge_of("fqdnd_leases", "Addresses that resolved names opened in the kernel.", leases);
    gauge_of(
        "fqdnd_kept_addresses",
        "Addresses that have expired and that living connections keep.",
        kept,
    );
    counter("fqdnd_addresses_refused_total", "Answers or addresses that were not learned.")
        .by("reason", shared.names.counts().read());
}

fn tell_records(shared: &Shared) {
    let Some(flows) = &shared.flows else { return };
    let (recorded, held, capacity, lost) = flows.look(|ring| {
        let lost = LossSource::ALL.into_iter().filter(|source| *source != LossSource::Ring);
        let lost: Vec<_> = lost.map(|source| (source.as_str(), ring.lost(source))).collect();
        (ring.flows(), ring.len(), ring.capacity().get(), lost)
    });
    counter("fqdnd_flow_records_total", "Records of flows that were made.").is(recorded);
    counter(
        "fqdnd_flow_records_lost_total",
        "Records that were not made, by where they were lost.",
    )
    .by("source", lost);
    gauge("fqdnd_flow_records", "Records that are held for whoever looks.").counts(held as u64);
    gauge("fqdnd_flow_records_limit", "Records that can be held.").counts(capacity as u64);
}

fn tell_maps(maps: &[MapInfo]) {
    let entries = maps.iter().filter_map(|map| Some((map.name, map.entries? as u64)));
    gauge("fqdnd_map_entries", "Entries of each BPF map.").by("map", entries);
    // Of the ring and the like no entries are known, and their sizes are no numbers of entries.
    let limits = maps.iter().filter(|map| map.entries.is_some());
    gauge("fqdnd_map_entries_limit", "Entries that each BPF map can take.")
        .by("map", limits.map(|map| (map.name, map.size.into())));
    gauge("fqdnd_map_memory_bytes", "Kernel memory of each BPF map.")
        .by("map", maps.iter().map(|map| (map.name, map.bytes)));
}
