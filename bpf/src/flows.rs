//! The flows of endpoints, and what the programs count.

use std::collections::{BTreeMap, HashSet};
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};

use bpf_abi as abi;
use model::{Direction, DropReason, EndpointId, Moment, Protocol, Verdict};

use crate::flow_table::Key;
use crate::{Datapath, Error, codec};

/// An answer to a packet has come by then, if one comes.
const ANSWER_TIME_NS: u64 = 3_000_000_000;

/// How far a flow's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The answering side has said nothing yet.
    Begun,
    /// Both sides have spoken.
    Established,
    /// A FIN or RST was seen.
    Closing,
    /// It was silent for too long, and counts as gone.
    Idle,
}

/// An entry of a flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// Who began it.
    pub direction: Direction,
    /// The protocol.
    pub protocol: Protocol,
    /// The endpoint's side; for ICMP the port is the echo's identifier.
    pub local: SocketAddr,
    /// The other side.
    pub remote: SocketAddr,
    /// The verdict it goes by; deny where it was allowed once.
    pub verdict: Verdict,
    /// Why it would have been dropped, were no policy audited.
    pub audited: Option<DropReason>,
    /// How far it has come.
    pub stage: Stage,
    /// The generation that the verdict was given under.
    pub generation: u32,
    /// When it was last seen, to a second.
    pub seen: Moment,
}

/// What the programs have counted for an endpoint, over all CPUs; [`Datapath::drops`] has the
/// packets that did not pass, [`Datapath::audits`] those that passed only because of an audit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// First packets of flows that the endpoint began and that passed.
    pub outbound: u64,
    /// First packets of flows that came in.
    pub inbound: u64,
    /// First packets of flows that went to the DNS proxy.
    pub redirected: u64,
    /// First packets of flows that went to the L7 proxy.
    pub inspected: u64,
    /// What was not told of dropped packets.
    pub drop_events: Untold,
    /// What was not told of first packets.
    pub flow_events: Untold,
}

/// Events of a kind that were not written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Untold {
    /// Because the endpoint's budget was spent.
    pub suppressed: u64,
    /// Because the ring was full.
    pub lost: u64,
}

impl Counts {
    fn of(cpus: &[abi::Counters]) -> Self {
        let sum = |of: fn(&abi::Counters) -> u64| cpus.iter().map(of).sum();
        let untold = |kind: usize| Untold {
            suppressed: cpus.iter().map(|cpu| cpu.events_suppressed[kind]).sum(),
            lost: cpus.iter().map(|cpu| cpu.events_lost[kind]).sum(),
        };
        Self {
            outbound: sum(|cpu| cpu.begun[Direction::Outbound as usize]),
            inbound: sum(|cpu| cpu.begun[Direction::Inbound as usize]),
            redirected: sum(|cpu| cpu.redirected),
            inspected: sum(|cpu| cpu.inspected),
            drop_events: untold(abi::EVENT_DROP),
            flow_events: untold(abi::EVENT_FLOW),
        }
    }
}

/// The same reading of a flow's bits that the programs have.
fn stage(settings: &abi::Settings, key: &Key, flow: &abi::Flow, now: Moment) -> Stage {
    let connected = key.protocol == Protocol::TCP || key.protocol == Protocol::SCTP;
    let closing = flow.bits & (abi::FLOW_FIN_LOCAL | abi::FLOW_FIN_REMOTE | abi::FLOW_RESET) != 0;
    let stage = match flow.bits & abi::FLOW_REPLIED != 0 {
        _ if closing => Stage::Closing,
        true => Stage::Established,
        false => Stage::Begun,
    };
    let idle = match stage {
        _ if !connected => settings.udp_idle_ns,
        Stage::Established => settings.tcp_idle_ns,
        Stage::Begun | Stage::Closing | Stage::Idle => settings.handshake_idle_ns,
    };
    if now.as_nanos() < flow.seen_ns.saturating_add(idle) { stage } else { Stage::Idle }
}

/// The reason for which it is audited.
fn audited(flow: &abi::Flow) -> Option<DropReason> {
    let number = (flow.bits & abi::FLOW_AUDITED) >> abi::FLOW_AUDITED_SHIFT;
    DropReason::from_number(u8::try_from(number).ok()?)
}

/// Whether some rule lets it pass, and not only that default deny is audited.
fn is_allowed(flow: &abi::Flow) -> bool {
    flow.bits & abi::FLOW_VERDICT != Verdict::Deny as u32
        && matches!(audited(flow), None | Some(DropReason::DenyRule))
}

/// Whether both sides have closed it, or either has reset it.
const fn is_over(flow: &abi::Flow) -> bool {
    let closed = abi::FLOW_FIN_LOCAL | abi::FLOW_FIN_REMOTE;
    flow.bits & abi::FLOW_RESET != 0 || flow.bits & closed == closed
}

impl Datapath {
    /// Adds the remote addresses of the endpoint's living outbound flows: allowed by some rule, not
    /// idle for too long, neither closed by both sides nor reset.
    pub fn live_addresses<S: BuildHasher>(
        &self,
        endpoint: EndpointId,
        now: Moment,
        addresses: &mut HashSet<IpAddr, S>,
    ) -> Result<(), Error> {
        let settings = self.settings()?;
        for (kind, table) in self.endpoints.tables(endpoint) {
            if kind.direction == Direction::Inbound {
                continue;
            }
            table.for_each(|key, flow| {
                if is_allowed(flow)
                    && !is_over(flow)
                    && stage(&settings, key, flow, now) != Stage::Idle
                {
                    addresses.insert(key.remote.ip());
                }
            })?;
        }
        Ok(())
    }

    /// How many TCP connections the endpoint began and ended of late, with no answer seen between:
    /// allowed and not redirected, and ended long enough ago for an answer to have come.
    pub fn unanswered(&self, endpoint: EndpointId, now: Moment) -> Result<u64, Error> {
        let settings = self.settings()?;
        let mut count = 0;
        for (kind, table) in self.endpoints.tables(endpoint) {
            if kind.direction == Direction::Inbound {
                continue;
            }
            table.for_each(|key, flow| {
                let ended = flow.bits & abi::FLOW_FIN_LOCAL != 0;
                let silent = flow.bits & abi::FLOW_REPLIED == 0;
                let allowed = flow.bits & abi::FLOW_VERDICT == Verdict::Allow as u32;
                let late = now.as_nanos() > flow.seen_ns.saturating_add(ANSWER_TIME_NS);
                let of_late = stage(&settings, key, flow, now) != Stage::Idle;
                if key.protocol == Protocol::TCP && ended && silent && allowed && late && of_late {
                    count += 1;
                }
            })?;
        }
        Ok(count)
    }

    /// The endpoint's flows in both directions, those that count as gone included.
    pub fn flows(&self, endpoint: EndpointId, now: Moment) -> Result<Vec<Flow>, Error> {
        let settings = self.settings()?;
        let mut flows = Vec::new();
        for (kind, table) in self.endpoints.tables(endpoint) {
            table.for_each(|key, flow| {
                let verdict = codec::to_verdict(flow.bits & abi::FLOW_VERDICT);
                flows.push(Flow {
                    direction: kind.direction,
                    protocol: key.protocol,
                    local: key.local,
                    remote: key.remote,
                    // What no program writes lets nothing pass.
                    verdict: verdict.unwrap_or(Verdict::Deny),
                    audited: audited(flow),
                    stage: stage(&settings, key, flow, now),
                    generation: flow.generation,
                    seen: Moment::from_nanos(flow.seen_ns),
                });
            })?;
        }
        Ok(flows)
    }

    /// How many packets were dropped, by endpoint and reason; [`EndpointId`] 0 stands for
    /// interfaces that are bound to no endpoint.
    pub fn drops(&self) -> Result<BTreeMap<(EndpointId, DropReason), u64>, Error> {
        self.by_reason(|cpu| &cpu.drops)
    }

    /// How many packets passed that would have been dropped, were no policy audited, likewise: the
    /// first of each flow, and each that belongs to no flow or went past its proxy.
    pub fn audits(&self) -> Result<BTreeMap<(EndpointId, DropReason), u64>, Error> {
        self.by_reason(|cpu| &cpu.audits)
    }

    fn by_reason(
        &self,
        counted: fn(&abi::Counters) -> &[u64; abi::DROP_REASONS],
    ) -> Result<BTreeMap<(EndpointId, DropReason), u64>, Error> {
        let mut found = BTreeMap::new();
        self.maps.counters.for_each(|endpoint, cpus| {
            for reason in DropReason::ALL {
                let count: u64 = cpus.iter().map(|cpu| counted(cpu)[*reason as usize]).sum();
                if count > 0 {
                    found.insert((EndpointId(*endpoint), *reason), count);
                }
            }
        })?;
        Ok(found)
    }

    /// How many flows of the endpoint were evicted by newer ones: what went in, less what the
    /// programs took out, less what is there.
    pub fn evictions(&self, endpoint: EndpointId, direction: Direction) -> Result<u64, Error> {
        // Read before the entries are counted, so that a flow put meanwhile is no eviction.
        let cpus = self.counters(endpoint)?;
        let mut entries = 0;
        for (kind, table) in self.endpoints.tables(endpoint) {
            if kind.direction == direction {
                entries += table.count()? as u64;
            }
        }
        let index = direction as usize;
        let inserted: u64 = cpus.iter().map(|cpu| cpu.inserted[index]).sum();
        let removed: u64 = cpus.iter().map(|cpu| cpu.removed[index]).sum();
        Ok(inserted.saturating_sub(removed).saturating_sub(entries))
    }

    /// What was counted beside drops, by endpoint; [`EndpointId`] 0 stands for interfaces that are
    /// bound to no endpoint.
    pub fn counts(&self) -> Result<BTreeMap<EndpointId, Counts>, Error> {
        let mut counts = BTreeMap::new();
        self.maps.counters.for_each(|endpoint, cpus| {
            counts.insert(EndpointId(*endpoint), Counts::of(cpus));
        })?;
        Ok(counts)
    }

    fn counters(&self, endpoint: EndpointId) -> Result<Vec<abi::Counters>, Error> {
        let map = &self.maps.counters;
        let found = map.lookup(&endpoint.0);
        let found =
            found.map_err(|source| Error::Map { map: map.name(), action: "read", source })?;
        Ok(found.unwrap_or_default())
    }

    fn settings(&self) -> Result<abi::Settings, Error> {
        let found = self.maps.settings.lookup(&0);
        let found =
            found.map_err(|source| Error::Map { map: "settings", action: "read", source })?;
        Ok(found.unwrap_or_default())
    }
}
