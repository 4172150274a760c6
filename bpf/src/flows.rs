//! The flow tables of endpoints, and what the programs count.
//!
//! Each endpoint has an LRU table for each direction, pinned under `flows/` beside its row in the
//! outer map, so that a restarted daemon finds it without leave to open maps by their ids.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::hash::BuildHasher;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use bpf_abi as abi;
use model::{Direction, DropReason, EndpointId, Moment, Protocol, Verdict};

use crate::sys::{self, kind};
use crate::tables::Map;
use crate::{Datapath, Error, bpffs, codec};

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
    /// How far it has come.
    pub stage: Stage,
    /// The generation that the verdict was given under.
    pub generation: u32,
    /// When it was last seen, to a second.
    pub seen: Moment,
}

/// What the programs have counted for an endpoint, over all CPUs; [`Datapath::drops`] has the
/// packets that did not pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// First packets of flows that the endpoint began and that passed.
    pub outbound: u64,
    /// First packets of flows that came in.
    pub inbound: u64,
    /// First packets of flows that went to the DNS proxy.
    pub redirected: u64,
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
            drop_events: untold(abi::EVENT_DROP),
            flow_events: untold(abi::EVENT_FLOW),
        }
    }
}

const DIRECTIONS: [Direction; 2] = [Direction::Outbound, Direction::Inbound];

/// The map of an endpoint's tables of a direction.
const fn outer_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Outbound => "flows_out",
        Direction::Inbound => "flows_in",
    }
}

/// The same reading of a flow's bits that the programs have.
fn stage(settings: &abi::Settings, key: &abi::FlowKey, flow: &abi::Flow, now: Moment) -> Stage {
    let protocol = Protocol(key.protocol);
    let connected = protocol == Protocol::TCP || protocol == Protocol::SCTP;
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

/// Whether both sides have closed it, or either has reset it.
const fn is_over(flow: &abi::Flow) -> bool {
    let closed = abi::FLOW_FIN_LOCAL | abi::FLOW_FIN_REMOTE;
    flow.bits & abi::FLOW_RESET != 0 || flow.bits & closed == closed
}

impl Datapath {
    /// Adds the remote addresses of the endpoint's living outbound flows: allowed, not idle for too
    /// long, neither closed by both sides nor reset.
    pub fn live_addresses<S: BuildHasher>(
        &self,
        endpoint: EndpointId,
        now: Moment,
        addresses: &mut HashSet<IpAddr, S>,
    ) -> Result<(), Error> {
        let settings = self.settings()?;
        let Some(table) = self.flow_table(endpoint, Direction::Outbound)? else {
            return Ok(());
        };
        table.for_each(|key, flow| {
            let allowed = flow.bits & abi::FLOW_VERDICT != Verdict::Deny as u32;
            if allowed && !is_over(flow) && stage(&settings, key, flow, now) != Stage::Idle {
                addresses.insert(codec::to_address(key.remote));
            }
        })
    }

    /// The endpoint's flows in both directions, those that count as gone included.
    pub fn flows(&self, endpoint: EndpointId, now: Moment) -> Result<Vec<Flow>, Error> {
        let settings = self.settings()?;
        let mut flows = Vec::new();
        for direction in DIRECTIONS {
            let Some(table) = self.flow_table(endpoint, direction)? else {
                continue;
            };
            table.for_each(|key, flow| {
                let verdict = codec::to_verdict(flow.bits & abi::FLOW_VERDICT);
                let socket =
                    |address, port| SocketAddr::new(codec::to_address(address), u16::from_be(port));
                flows.push(Flow {
                    direction,
                    protocol: Protocol(key.protocol),
                    local: socket(key.local, key.local_port_be),
                    remote: socket(key.remote, key.remote_port_be),
                    // What no program writes lets nothing pass.
                    verdict: verdict.unwrap_or(Verdict::Deny),
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
        let mut drops = BTreeMap::new();
        self.maps.counters.for_each(|endpoint, cpus| {
            for reason in DropReason::ALL {
                let count: u64 = cpus.iter().map(|cpu| cpu.drops[*reason as usize]).sum();
                if count > 0 {
                    drops.insert((EndpointId(*endpoint), *reason), count);
                }
            }
        })?;
        Ok(drops)
    }

    /// How many flows of the endpoint were evicted by newer ones: what went in, less what the
    /// programs took out, less what is there.
    pub fn evictions(&self, endpoint: EndpointId, direction: Direction) -> Result<u64, Error> {
        let Some(table) = self.flow_table(endpoint, direction)? else {
            return Ok(0);
        };
        // Read before the entries are counted, so that a flow put meanwhile is no eviction.
        let cpus = self.counters(endpoint)?;
        let entries = table.count()? as u64;
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

    fn flow_pin(&self, endpoint: EndpointId, direction: Direction) -> PathBuf {
        self.directory.join(format!("flows/{endpoint}-{}", outer_name(direction)))
    }

    /// The endpoint's table, if it has one.
    pub(crate) fn flow_table(
        &self,
        endpoint: EndpointId,
        direction: Direction,
    ) -> Result<Option<Map<abi::FlowKey, abi::Flow>>, Error> {
        match sys::object_get(&self.flow_pin(endpoint, direction)) {
            Ok(fd) => Map::new(outer_name(direction), fd).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Map { map: outer_name(direction), action: "open", source }),
        }
    }

    /// Makes what the endpoint lacks of its tables. One that a killed daemon has pinned but not yet
    /// linked is linked now.
    pub(crate) fn make_flow_tables(&self, endpoint: EndpointId) -> Result<(), Error> {
        for direction in DIRECTIONS {
            let outer = self.flow_tables(direction);
            let failed =
                |action| move |source| Error::Map { map: outer_name(direction), action, source };
            if outer.lookup(&endpoint.0).map_err(failed("read"))?.is_some() {
                continue;
            }
            let table = match self.flow_table(endpoint, direction)? {
                Some(table) => table,
                None => self.new_flow_table(endpoint, direction).map_err(failed("make"))?,
            };
            let descriptor = table.fd().as_raw_fd().cast_unsigned();
            outer.put_new(&endpoint.0, &descriptor).map_err(failed("write"))?;
        }
        Ok(())
    }

    fn new_flow_table(
        &self,
        endpoint: EndpointId,
        direction: Direction,
    ) -> io::Result<Map<abi::FlowKey, abi::Flow>> {
        let entries = match direction {
            Direction::Outbound => self.sizes.flows_out,
            Direction::Inbound => self.sizes.flows_in,
        };
        let fd = make_flow_map(entries)?;
        bpffs::pin(fd.as_fd(), &self.flow_pin(endpoint, direction))?;
        Map::new(outer_name(direction), fd).map_err(io::Error::other)
    }

    /// Takes the endpoint's tables away.
    pub(crate) fn remove_flow_tables(&self, endpoint: EndpointId) -> Result<(), Error> {
        for direction in DIRECTIONS {
            let outer = self.flow_tables(direction);
            outer.delete(&endpoint.0).map_err(|source| Error::Map {
                map: outer_name(direction),
                action: "write",
                source,
            })?;
            let path = self.flow_pin(endpoint, direction);
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Path { action: "remove", path, source }),
            }
        }
        Ok(())
    }

    const fn flow_tables(&self, direction: Direction) -> &Map<u32, u32> {
        match direction {
            Direction::Outbound => &self.maps.flows_out,
            Direction::Inbound => &self.maps.flows_in,
        }
    }
}

fn make_flow_map(entries: u32) -> io::Result<OwnedFd> {
    let (key, value) = (size_of::<abi::FlowKey>(), size_of::<abi::Flow>());
    sys::map_create("flows", kind::LRU_HASH, key as u32, value as u32, entries, 0, None)
}
