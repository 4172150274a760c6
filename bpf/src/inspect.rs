//! The maps for people to look at.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use bpf_abi as abi;
use model::{DropReason, Interface, Moment};

use crate::flow_table::FlowTable;
use crate::tables::SPECS;
use crate::{Datapath, Error, codec, sys};

/// A map's figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapInfo {
    /// Its name, the pin's too.
    pub name: &'static str,
    /// Its type.
    pub kind: &'static str,
    /// How many elements it has; none for the ring.
    pub entries: Option<usize>,
    /// How many it takes; of the ring, its bytes.
    pub size: u32,
    /// The kernel memory that it takes, as the kernel counts.
    pub bytes: u64,
}

/// A map's elements as text.
type Rows = Vec<(String, String)>;

impl Datapath {
    /// Every map, in the order of [`Datapath::dump_map`]'s names.
    pub fn maps(&self) -> Result<Vec<MapInfo>, Error> {
        SPECS
            .iter()
            .map(|spec| {
                let failed = |source| Error::Map { map: spec.name, action: "read", source };
                let map = self.maps.descriptor(spec.name);
                let info = sys::map_info(map).map_err(failed)?;
                Ok(MapInfo {
                    name: spec.name,
                    kind: kind_name(info.kind),
                    entries: self.entries(spec.name)?,
                    size: info.max_entries,
                    bytes: memory(map.as_raw_fd()),
                })
            })
            .collect()
    }

    fn entries(&self, name: &str) -> Result<Option<usize>, Error> {
        let maps = &self.maps;
        let count = match name {
            "settings" => maps.settings.count()?,
            "endpoints" | "flows4" | "flows6" => self.dump_map(name)?.len(),
            "sources" => maps.sources.count()?,
            "prefixes" => maps.prefixes.count()?,
            "frontends" => maps.frontends.count()?,
            "rows" => maps.rows.count()?,
            "leases" => maps.leases.count()?,
            "shared" => maps.shared.count()?,
            "names" => maps.names.count()?,
            "numbers" => maps.numbers.count()?,
            "fragments" => maps.fragments.count()?,
            "counters" => {
                let mut count = 0;
                maps.counters.for_each(|_, _| count += 1)?;
                count
            }
            _ => return Ok(None),
        };
        Ok(Some(count))
    }

    /// A map's elements, each key and value as people read it. Budgets and the event ring have none to show.
    pub fn dump_map(&self, name: &str) -> Result<Rows, Error> {
        let mut rows = match name {
            "settings" | "endpoints" | "sources" | "prefixes" | "frontends" | "rows" => {
                self.dump_node_map(name)?
            }
            "leases" | "shared" | "names" | "numbers" => self.dump_name_map(name)?,
            "flows4" | "flows6" | "fragments" | "counters" => self.dump_live_map(name)?,
            "budgets" | "events" => Vec::new(),
            _ => return Err(Error::UnknownMap(name.to_owned())),
        };
        rows.sort_unstable();
        Ok(rows)
    }

    fn dump_node_map(&self, name: &str) -> Result<Rows, Error> {
        let maps = &self.maps;
        let mut rows = Rows::new();
        let mut row = |key: String, value: String| rows.push((key, value));
        match name {
            "settings" => maps.settings.for_each(|_, value| {
                row("settings".to_owned(), settings(value));
            })?,
            "endpoints" => maps.endpoints.for_each(|_, value| {
                if value.interface == 0 {
                    return;
                }
                let entry = codec::to_endpoint(value);
                row(
                    format!("interface {}", Interface(value.interface)),
                    entry.map_or_else(|| format!("{value:?}"), |entry| entry.to_string()),
                );
            })?,
            "sources" => maps.sources.for_each(|key, _| {
                let source = codec::to_source(key).map(|(_, prefix)| prefix.to_string());
                let source = source.unwrap_or_else(|| format!("{key:?}"));
                row(format!("endpoint {} {source}", key.endpoint), "legal".to_owned());
            })?,
            "prefixes" => maps.prefixes.for_each(|key, value| {
                let prefix = codec::to_prefix(key.address, key.bits);
                let identity = model::Identity(value.identity);
                row(
                    prefix.map_or_else(|| format!("{key:?}"), |prefix| prefix.to_string()),
                    format!("identity {identity}"),
                );
            })?,
            "frontends" => maps.frontends.for_each(|key, value| {
                let frontend = codec::to_frontend(key);
                let socket = SocketAddr::new(frontend.address, frontend.port);
                row(format!("{socket} {}", frontend.protocol), format!("identity {value}"));
            })?,
            _ => maps.rows.for_each(|key, value| {
                let found = codec::to_row(key).zip(codec::to_ruling(*value));
                let (key, value) = found.map_or_else(
                    || (format!("{key:?}"), value.to_string()),
                    |(at, ruling)| {
                        let key = format!("table {} {} {}", at.table, at.identity, at.ports);
                        (key, ruling.to_string())
                    },
                );
                row(key, value);
            })?,
        }
        Ok(rows)
    }

    fn dump_name_map(&self, name: &str) -> Result<Rows, Error> {
        let maps = &self.maps;
        let mut rows = Rows::new();
        let mut row = |key: String, value: String| rows.push((key, value));
        match name {
            "leases" => maps.leases.for_each(|key, value| {
                let lease = codec::to_lease(value);
                let sets = lease.sets.iter().flatten().map(ToString::to_string);
                let sets = sets.collect::<Vec<_>>().join(",");
                row(
                    format!("endpoint {} {}", key.endpoint, codec::to_address(key.address)),
                    format!("sets {sets} name {} expires {}", lease.name, lease.expires),
                );
            })?,
            "shared" => maps.shared.for_each(|key, value| {
                let address = codec::to_address(key.address);
                row(
                    format!("endpoint {} {address} name {}", key.endpoint, key.name),
                    format!("expires {}", Moment::from_nanos(*value)),
                );
            })?,
            "names" => maps.names.for_each(|key, value| {
                let name = codec::to_name(value);
                row(
                    format!("endpoint {} name {}", key.first, key.second),
                    name.map_or_else(|| format!("{value:?}"), |name| name.to_string()),
                );
            })?,
            _ => maps.numbers.for_each(|key, value| {
                let hex: String = value.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                row(format!("kind {} number {}", key.first, key.second), hex);
            })?,
        }
        Ok(rows)
    }

    fn dump_live_map(&self, name: &str) -> Result<Rows, Error> {
        let maps = &self.maps;
        let mut rows = Rows::new();
        let mut row = |key: String, value: String| rows.push((key, value));
        match name {
            "flows4" | "flows6" => {
                for (endpoint, _, kind, table) in self.endpoints.all_tables() {
                    if kind.map() == name {
                        let direction = format!("{:?}", kind.direction).to_lowercase();
                        row(format!("endpoint {endpoint} {direction}"), flow_count(&table)?);
                    }
                }
            }
            "fragments" => maps.fragments.for_each(|key, value| {
                let (from, to) =
                    (codec::to_address(key.source), codec::to_address(key.destination));
                row(
                    format!("endpoint {} {from} {to} {:#x}", key.endpoint, key.identification),
                    format!("seen {}", Moment::from_nanos(value.seen_ns)),
                );
            })?,
            _ => maps.counters.for_each(|key, cpus| {
                row(format!("endpoint {key}"), summary(cpus));
            })?,
        }
        Ok(rows)
    }
}

fn flow_count(table: &FlowTable) -> Result<String, Error> {
    Ok(format!("flows {}", table.count()?))
}

fn settings(own: &abi::Settings) -> String {
    let idle = |nanos| format!("{:?}", Duration::from_nanos(nanos));
    let events = |kind: usize| match own.event_burst[kind] {
        0 => "none".to_owned(),
        burst => format!("{burst} and one each {}", idle(own.event_interval_ns[kind])),
    };
    let ports = |ports: &[u16], workers: u32| {
        let ports = ports.iter().take(workers as usize).map(|port| u16::from_be(*port).to_string());
        ports.collect::<Vec<_>>().join(" ")
    };
    let parts = [
        format!("tcp idle {}", idle(own.tcp_idle_ns)),
        format!("handshake idle {}", idle(own.handshake_idle_ns)),
        format!("udp idle {}", idle(own.udp_idle_ns)),
        format!("drop events {}", events(abi::EVENT_DROP)),
        format!("flow events {}", events(abi::EVENT_FLOW)),
        format!("marks {:#x}", own.mark_mask),
        format!("redirect mark {:#x}", own.mark_redirect),
        format!("answer mark {:#x}", own.mark_answer),
        format!("udp ports {}", ports(&own.udp_ports_be, own.udp_workers)),
        format!("tcp ports {}", ports(&own.tcp_ports_be, own.tcp_workers)),
        format!("l7 ports {}", ports(&own.l7_ports_be, own.l7_listeners)),
    ];
    parts.join(", ")
}

fn summary(cpus: &[abi::Counters]) -> String {
    let sum = |of: fn(&abi::Counters) -> u64| cpus.iter().map(of).sum::<u64>();
    let mut parts = vec![
        format!("outbound {}", sum(|cpu| cpu.begun[0])),
        format!("inbound {}", sum(|cpu| cpu.begun[1])),
        format!("redirected {}", sum(|cpu| cpu.redirected)),
        format!("inspected {}", sum(|cpu| cpu.inspected)),
    ];
    for reason in DropReason::ALL {
        let count: u64 = cpus.iter().map(|cpu| cpu.drops[*reason as usize]).sum();
        if count > 0 {
            parts.push(format!("{reason} {count}"));
        }
        let audited: u64 = cpus.iter().map(|cpu| cpu.audits[*reason as usize]).sum();
        if audited > 0 {
            parts.push(format!("audited {reason} {audited}"));
        }
    }
    parts.join(" ")
}

const fn kind_name(kind: u32) -> &'static str {
    match kind {
        sys::kind::HASH => "hash",
        sys::kind::ARRAY => "array",
        sys::kind::PERCPU_HASH => "percpu-hash",
        sys::kind::LRU_HASH => "lru-hash",
        sys::kind::LPM_TRIE => "lpm-trie",
        sys::kind::ARRAY_OF_MAPS => "array-of-maps",
        sys::kind::RINGBUF => "ringbuf",
        _ => "unknown",
    }
}

/// What the kernel says a map takes, 0 where it does not say.
fn memory(fd: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}
