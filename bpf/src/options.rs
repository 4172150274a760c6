//! What the datapath is told: once before it is loaded, and while it runs.

use std::path::PathBuf;
use std::time::Duration;

use crate::Error;

/// How the datapath is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The directory of the pins, on a bpf file system.
    pub pin: PathBuf,
    /// How programs are attached.
    pub attach: AttachMode,
    /// How much the maps hold.
    pub sizes: Sizes,
}

impl Default for Options {
    fn default() -> Self {
        let pin = PathBuf::from("/sys/fs/bpf/fqdnd");
        Self { pin, attach: AttachMode::default(), sizes: Sizes::default() }
    }
}

/// How programs are attached to interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AttachMode {
    /// By tcx where the kernel has it, else by clsact.
    #[default]
    Auto,
    /// By tcx links (6.6).
    Tcx,
    /// By filters of a clsact qdisc (4.5).
    Clsact,
}

/// How many elements each map takes. Memory is taken as elements come, but for the hashes' bucket
/// arrays (16 bytes for each element allowed) and the flow and fragment tables, which have all of
/// theirs from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Endpoints: their counters (352 bytes a CPU each), and from the start 48 bytes each for the
    /// places of their flow tables and budgets.
    pub endpoints: u32,
    /// Legal source prefixes (about 100 bytes each).
    pub sources: u32,
    /// Prefixes with an identity (about 100 bytes each).
    pub prefixes: u32,
    /// Service frontends (about 80 bytes each).
    pub frontends: u32,
    /// Rows of all verdict tables (about 90 bytes each).
    pub rows: u32,
    /// Resolved addresses of all endpoints (about 120 bytes each).
    pub leases: u32,
    /// Names that share an address with others (about 90 bytes each).
    pub shared: u32,
    /// Names of all endpoints (about 320 bytes each).
    pub names: u32,
    /// Meanings of numbers (about 80 bytes each).
    pub numbers: u32,
    /// Flows that an endpoint begins; for each endpoint and family that it has an address of, about
    /// 110 bytes each from the start, 130 with IPv6: 1 MB with the default.
    pub flows_out: u32,
    /// Flows that come in to an endpoint, likewise.
    pub flows_in: u32,
    /// Datagrams in fragments, of all endpoints (about 130 bytes each from the start).
    pub fragments: u32,
    /// Bytes of the event ring: a power of two, and whole pages.
    pub ring_bytes: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            endpoints: 4096,
            sources: 16_384,
            prefixes: 262_144,
            frontends: 65_536,
            rows: 262_144,
            leases: 1_048_576,
            shared: 262_144,
            names: 262_144,
            numbers: 131_072,
            flows_out: 8192,
            flows_in: 8192,
            fragments: 8192,
            ring_bytes: 1 << 20,
        }
    }
}

/// What the programs go by; may change while they run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The bits of packet marks that are ours.
    pub marks: Marks,
    /// How long an established connection may be silent before its flow counts as gone.
    pub tcp_idle: Duration,
    /// The same before its first reply and after it was closed.
    pub handshake_idle: Duration,
    /// The same for UDP, ICMP and all else.
    pub udp_idle: Duration,
    /// How many events of dropped packets an endpoint may cause.
    pub drop_events: EventBudget,
    /// How many of first packets of flows, and of audited packets.
    pub flow_events: EventBudget,
    /// The proxy's UDP ports, one for each worker, the same on 127.0.0.1 and ::1.
    pub udp_ports: Vec<u16>,
    /// The proxy's TCP ports likewise.
    pub tcp_ports: Vec<u16>,
    /// The L7 proxy's TCP ports likewise, one for each listener, which has the mark of answers.
    /// None: what it should judge is dropped.
    pub l7_ports: Vec<u16>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            marks: Marks::default(),
            tcp_idle: Duration::from_secs(8000),
            handshake_idle: Duration::from_secs(60),
            udp_idle: Duration::from_secs(60),
            drop_events: EventBudget { per_second: 100, burst: 200 },
            flow_events: EventBudget { per_second: 500, burst: 1000 },
            udp_ports: Vec::new(),
            tcp_ports: Vec::new(),
            l7_ports: Vec::new(),
        }
    }
}

/// How many events of a kind an endpoint may cause; what is more is counted as suppressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventBudget {
    /// In a second, in the long run; at most one a nanosecond.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

impl EventBudget {
    /// No events of the kind: none are made, and none count as suppressed.
    pub const OFF: Self = Self { per_second: 0, burst: 0 };

    fn interval_ns(self) -> u64 {
        1_000_000_000 / u64::from(self.per_second.clamp(1, 1_000_000_000))
    }
}

/// Which bits of a packet's mark are used, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// All bits that are ours.
    pub mask: u32,
    /// A packet on its way to the proxy.
    pub redirect: u32,
    /// A packet that the proxy sends to an endpoint.
    pub answer: u32,
}

impl Marks {
    /// A packet that the L7 proxy sends to a destination by a pod's address. No rule of ours
    /// matches it, so that it is routed and translated like the pod's own.
    pub const fn upstream(self) -> u32 {
        self.redirect ^ self.answer
    }
}

impl Default for Marks {
    fn default() -> Self {
        Self { mask: 0x3000, redirect: 0x2000, answer: 0x1000 }
    }
}

impl Settings {
    /// The settings as the kernel has them.
    pub(crate) fn to_abi(&self) -> Result<bpf_abi::Settings, Error> {
        let Marks { mask, redirect, answer } = self.marks;
        if redirect == answer || redirect == 0 || answer == 0 || (redirect | answer) & !mask != 0 {
            return Err(Error::Marks { mask, redirect, answer });
        }
        let mut events = [EventBudget::OFF; bpf_abi::EVENT_KINDS];
        events[bpf_abi::EVENT_DROP] = self.drop_events;
        events[bpf_abi::EVENT_FLOW] = self.flow_events;
        let mut abi = bpf_abi::Settings {
            fresh_jiffies: self.fresh_jiffies(),
            tcp_idle_ns: nanoseconds(self.tcp_idle),
            handshake_idle_ns: nanoseconds(self.handshake_idle),
            udp_idle_ns: nanoseconds(self.udp_idle),
            event_interval_ns: events.map(EventBudget::interval_ns),
            event_burst: events.map(|kind| if kind.per_second == 0 { 0 } else { kind.burst }),
            mark_mask: mask,
            mark_redirect: redirect,
            mark_answer: answer,
            ..bpf_abi::Settings::default()
        };
        abi.udp_workers = fill(&mut abi.udp_ports_be, &self.udp_ports)?;
        abi.tcp_workers = fill(&mut abi.tcp_ports_be, &self.tcp_ports)?;
        abi.l7_listeners = fill(&mut abi.l7_ports_be, &self.l7_ports)?;
        Ok(abi)
    }
}

impl Settings {
    /// A second in the kernel's ticks, to which a flow's age may be taken for granted; none where
    /// that is much beside what a flow may be silent for.
    fn fresh_jiffies(&self) -> u64 {
        let shortest = self.tcp_idle.min(self.handshake_idle).min(self.udp_idle);
        if shortest < Duration::from_secs(5) {
            return 0;
        }
        // The coarse clocks go by ticks.
        let tick = nix::time::clock_getres(nix::time::ClockId::CLOCK_MONOTONIC_COARSE);
        let tick = tick.map_or(0, |tick| Duration::from(tick).as_nanos());
        u64::try_from(1_000_000_000u128.checked_div(tick).unwrap_or(0)).unwrap_or(0)
    }
}

/// At most 292 years, so that the programs' sums cannot overflow.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX / 2)
}

fn fill(target: &mut [u16; bpf_abi::MAX_WORKERS], ports: &[u16]) -> Result<u32, Error> {
    let target = target.get_mut(..ports.len()).ok_or(Error::TooManyWorkers(ports.len()))?;
    for (target, port) in target.iter_mut().zip(ports) {
        *target = port.to_be();
    }
    Ok(ports.len() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_must_differ_and_lie_in_their_mask() {
        let with = |mask, redirect, answer| {
            let marks = Marks { mask, redirect, answer };
            Settings { marks, ..Settings::default() }.to_abi().is_ok()
        };
        assert!(with(0x3000, 0x2000, 0x1000));
        assert!(!with(0x3000, 0x2000, 0x2000));
        assert!(!with(0x3000, 0x4000, 0x1000));
        assert!(!with(0x3000, 0x2000, 0));
    }

    #[test]
    fn more_workers_than_the_kernel_knows_are_refused() {
        let settings = Settings { udp_ports: vec![1; 65], ..Settings::default() };
        assert!(matches!(settings.to_abi(), Err(Error::TooManyWorkers(65))));
    }

    #[test]
    fn ports_stand_in_network_byte_order() {
        let settings = Settings { udp_ports: vec![0x1234], ..Settings::default() };
        let abi = settings.to_abi().unwrap();
        assert_eq!((abi.udp_workers, abi.udp_ports_be[0]), (1, 0x1234u16.to_be()));
    }
}
