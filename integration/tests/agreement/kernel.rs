//! The engine's plans in real maps, and the program that reads them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bpf::{Datapath, Hook, Options, Settings, Sizes};
use engine::{
    Node, difference,
    leases::{Leases, Limits},
};
use integration::Packet;
use model::{DropReason, EndpointId, EndpointName, Moment, Protocol, State};
use nix::time::{ClockId, clock_gettime};
use policy::Policy;

use crate::{
    fate::Fate,
    places::{CLIENT, Cluster, DNS, ip},
};

const SYN: u8 = 0x02;
const TTL: u32 = 600;

/// The datapath of one client; dropping it leaves nothing.
pub struct Kernel {
    datapath: Datapath,
    pin: PathBuf,
    state: State,
    generation: u32,
    /// The next flow's port: no packet belongs to the flow of another.
    port: u16,
    /// What was dropped so far, and what was audited.
    drops: Counted,
    audits: Counted,
}

/// Packets, by whose they were and why they were counted.
type Counted = BTreeMap<(EndpointId, DropReason), u64>;

impl Kernel {
    /// In a network namespace of the caller's own, whose loopback interface is up.
    pub fn new() -> Self {
        let pin = format!("/sys/fs/bpf/fqdnd-test-agreement-{}", std::process::id());
        let pin = PathBuf::from(pin);
        let options = Options { pin: pin.clone(), sizes: sizes(), ..Options::default() };
        let datapath = Datapath::open(&options).unwrap();
        let hour = Duration::from_secs(3_600);
        let settings = Settings { tcp_idle: hour, ..Settings::default() };
        datapath.configure(&settings).unwrap();
        let state = datapath.dump().unwrap();
        let (drops, audits) = (Counted::new(), Counted::new());
        Self { datapath, pin, state, generation: 0, port: 1_024, drops, audits }
    }

    /// What the maps hold.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Has this cluster's policies in force, as a daemon does that is started there: names and
    /// all.
    pub fn load(&mut self, cluster: &Cluster, policies: &[Arc<Policy>]) {
        let mut node = Node::new(settings());
        let plan = node.plan(&cluster.inventory(policies)).unwrap();
        let mut desired = node.desired();
        for (id, local) in &plan.endpoints {
            let Some(table) = &local.table else { continue };
            let mut leases = Leases::new(*id, Limits::default());
            let mut changes = Vec::new();
            for (name, address) in &cluster.resolved {
                let answer = [(*address, TTL)];
                let sets = &mut *table.sets();
                leases.handle_answer(name.as_ref(), &answer, now(), sets, &mut changes).unwrap();
            }
            changes.iter().for_each(|change| desired.apply(change));
        }
        self.generation += 1;
        for entry in desired.endpoints.values_mut() {
            entry.generation = self.generation;
        }
        let changes: Vec<_> = difference(&self.state, &desired).into_changes().collect();
        self.datapath.apply(&changes).unwrap();
        self.state = self.datapath.dump().unwrap();
        assert_eq!(self.state, desired, "what was written is what stands there");
    }

    /// Sends the first packet of a new flow.
    pub fn send(&mut self, to: IpAddr, protocol: Protocol, port: u16) -> Fate {
        self.port = self.port.checked_add(1).unwrap_or(1_024);
        let frame = frame(to, protocol, port, self.port);
        let program = self.datapath.program(Hook::FromEndpoint);
        let (answer, _) = bpf::test_run(program, &frame, &mut [0; 192], 1).unwrap();
        let dropped = counted(&mut self.drops, self.datapath.drops().unwrap());
        let audited = counted(&mut self.audits, self.datapath.audits().unwrap());
        match (answer, dropped, audited) {
            (-1, None, audited) => Fate::Passed(audited),
            (2, Some(reason), None) => Fate::Dropped(reason),
            odd => panic!("{odd:?}: {to} {port}/{protocol}"),
        }
    }
}

/// For which reason one packet was counted since it was last looked.
fn counted(last: &mut Counted, now: Counted) -> Option<DropReason> {
    let mut risen = now.iter().filter(|(key, count)| last.get(key) != Some(count));
    let reason = risen.next().map(|((_, reason), _)| *reason);
    assert_eq!(risen.next(), None);
    *last = now;
    reason
}

impl Drop for Kernel {
    fn drop(&mut self) {
        let removed = bpf::remove(&self.pin);
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

fn frame(to: IpAddr, protocol: Protocol, port: u16, own: u16) -> Vec<u8> {
    let source = ip(CLIENT[usize::from(to.is_ipv6())]);
    let (from, at) = (SocketAddr::new(source, own), SocketAddr::new(to, port));
    let packet = match protocol {
        Protocol::TCP => Packet::tcp(from, at, SYN),
        Protocol::UDP => Packet::udp(from, at, b"data"),
        Protocol::SCTP => {
            let ports = [own.to_be_bytes(), port.to_be_bytes()].concat();
            let init = [&ports[..], &[0; 8], &[1, 0, 0, 4]].concat();
            Packet::new(source, to, Packet::SCTP, &init)
        }
        Protocol(number) => {
            let identifier = own.to_be_bytes();
            let message = [port as u8, 0, 0, 0, identifier[0], identifier[1], 0, 1, 0, 0, 0, 0];
            Packet::new(source, to, number, &message)
        }
    };
    let ethertype: [u8; 2] = if to.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] };
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &ethertype, &packet.octets()].concat()
}

fn settings() -> engine::Settings {
    let (namespace, name) = DNS;
    let prefixes = |texts: [&str; 2]| texts.map(|text| text.parse().unwrap()).to_vec();
    engine::Settings {
        dns_service: EndpointName { namespace: namespace.to_owned(), name: name.to_owned() },
        service_prefixes: prefixes(["10.96.0.0/16", "fd96::/64"]),
        pod_prefixes: prefixes(["10.0.0.0/24", "fd00::/64"]),
        api_servers: Vec::new(),
        sets_per_table: 100,
        identities: 1_000,
    }
}

fn sizes() -> Sizes {
    let few = 1_024;
    Sizes {
        endpoints: 16,
        sources: few,
        prefixes: few,
        frontends: few,
        rows: 1 << 16,
        leases: few,
        shared: few,
        names: few,
        numbers: few,
        flows_out: few,
        flows_in: few,
        fragments: few,
        ring_bytes: 1 << 16,
    }
}

fn now() -> Moment {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap());
    Moment::from_nanos(now.as_nanos() as u64)
}
