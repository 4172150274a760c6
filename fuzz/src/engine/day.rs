//! The engine's half: a node with its leases, what the kernel holds, and the list beside them.

mod revision;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use engine::leases::{Leases, Limits, NameSets, SetsFull};
use engine::{Inventory, Node, Settings, VerdictTable};
use model::{
    Attachment, Change, DropReason, EndpointId, EndpointName, Fate, Identity, Interface, Label,
    Labels, Moment, NameRef, NumberKind, Pod, Protocol, Scope, State, Verdict, Way,
};

use super::expected::{self, POLICIES, Policies, Situation, Standing};
use crate::kernel::{Probe, judge};

/// Pods by name, with the label that counts, their address, and their interface on this node.
const PODS: [(&str, &str, &str, Option<u32>); 5] = [
    ("one", "client", "10.0.0.2", Some(7)),
    ("two", "other", "10.0.0.3", Some(8)),
    ("three", "server", "10.0.0.4", Some(9)),
    ("four", "client", "10.0.0.5", Some(10)),
    ("far", "server", "10.0.1.9", None),
];
const NAMES: [&str; 5] = ["a.one.test", "b.one.test", "deep.a.one.test", "c.two.test", "x.other"];
const DESTINATIONS: [&str; 9] = [
    "198.51.100.5",
    "198.51.100.130",
    "203.0.113.5",
    "203.0.113.70",
    "192.0.2.1",
    "192.0.2.2",
    "10.0.0.4",
    "10.0.1.9",
    "10.96.0.77",
];
const PORTS: [(Protocol, u16); 4] =
    [(Protocol::TCP, 80), (Protocol::TCP, 443), (Protocol::UDP, 53), (Protocol::UDP, 443)];

/// No grace, so that a lease ends when the list says.
fn limits() -> Limits {
    Limits { grace: Duration::ZERO, ..Limits::default() }
}

/// The sets of an endpoint without a table.
struct NoSets;

impl NameSets for NoSets {
    fn set_of(
        &mut self,
        _: NameRef<'_>,
        _: &mut Vec<Change>,
    ) -> std::result::Result<Option<Identity>, SetsFull> {
        Ok(None)
    }

    fn union(
        &mut self,
        a: Identity,
        b: Identity,
        _: &mut Vec<Change>,
    ) -> std::result::Result<Identity, SetsFull> {
        unreachable!("{a} and {b} without a table")
    }
}

/// An endpoint's names, and the table that judges it.
struct Slot {
    pod: &'static str,
    leases: Leases,
    table: Option<Arc<VerdictTable>>,
}

impl Slot {
    /// A pod's endpoint with what the kernel knows of its names, and no table yet.
    fn restore(id: EndpointId, name: &str, kernel: &State) -> Self {
        let pod = PODS.iter().find(|pod| pod.0 == name).unwrap().0;
        Self { pod, leases: Leases::restore(id, limits(), kernel), table: None }
    }

    fn rejudge(&mut self, changes: &mut Vec<Change>) {
        match &self.table {
            Some(table) => {
                self.leases.rejudge(&mut *table.sets(), changes).unwrap();
                table.sets().confirm();
            }
            None => self.leases.rejudge(&mut NoSets, changes).unwrap(),
        }
    }
}

/// A day so far.
pub struct Day {
    node: Node,
    inventory: Inventory,
    kernel: State,
    slots: BTreeMap<EndpointId, Slot>,
    now: Moment,
    policies: Policies,
    pods: [bool; PODS.len()],
    /// Until when a pod's name has an address.
    known: BTreeMap<(&'static str, &'static str, IpAddr), Moment>,
}

/// Where each packet goes that might be sent: by interface and packet.
type Ways = Vec<Way>;

impl Day {
    /// All pods are there, and no policy.
    pub fn new() -> Self {
        let mut day = Self {
            node: Node::new(settings()),
            inventory: Inventory::default(),
            kernel: State::default(),
            slots: BTreeMap::new(),
            now: Moment::from_secs(1000),
            policies: Policies::NONE,
            pods: [true; PODS.len()],
            known: BTreeMap::new(),
        };
        day.inventory.host_addresses.insert(address("10.0.0.1"));
        day.commit();
        day
    }

    /// Some policies come, go, or are audited from now on or no more, in one revision.
    pub fn change_policies(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        for _ in 0..input.int_in_range(1..=2)? {
            let number = input.int_in_range(0..=POLICIES - 1)?;
            let standings = [Standing::Absent, Standing::Enforced, Standing::Audited];
            self.policies.standing[number] = *input.choose(&standings)?;
        }
        self.commit();
        Ok(())
    }

    /// A pod comes or goes.
    pub fn change_pods(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let number = input.int_in_range(0..=PODS.len() - 1)?;
        self.pods[number] = !self.pods[number];
        if !self.pods[number] {
            self.known.retain(|(pod, ..), _| *pod != PODS[number].0);
        }
        self.commit();
        Ok(())
    }

    /// A pod's answer comes in.
    pub fn learn(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let name = *input.choose(&NAMES)?;
        let mut addresses = Vec::new();
        for _ in 0..input.int_in_range(1..=3)? {
            addresses.push((address(input.choose(&DESTINATIONS)?), input.int_in_range(0..=40)?));
        }
        let enforced: Vec<EndpointId> =
            self.slots.iter().filter(|(_, slot)| slot.table.is_some()).map(|(id, _)| *id).collect();
        let Ok(id) = input.choose(&enforced) else { return Ok(()) };
        let slot = self.slots.get_mut(id).unwrap();
        let table = Arc::clone(slot.table.as_ref().unwrap());
        let own: model::Name = name.parse().unwrap();
        let (mut changes, now) = (Vec::new(), self.now);
        let leases = &mut slot.leases;
        leases
            .handle_answer(own.as_ref(), &addresses, now, &mut *table.sets(), &mut changes)
            .unwrap();
        table.sets().confirm();
        for (ip, ttl) in addresses {
            let until = self.now + Duration::from_secs(ttl.into());
            let known = self.known.entry((slot.pod, name, ip)).or_insert(until);
            *known = until.max(*known);
        }
        self.write(&changes);
        Ok(())
    }

    /// Time passes, and no connection lives.
    pub fn wait(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        for slot in self.slots.values_mut() {
            let mut changes = Vec::new();
            while slot.leases.poll_timeout().is_some_and(|due| due <= self.now) {
                match &slot.table {
                    Some(table) => slot.leases.handle_timeout(
                        self.now,
                        |_| false,
                        &mut *table.sets(),
                        &mut changes,
                    ),
                    None => {
                        slot.leases.handle_timeout(self.now, |_| false, &mut NoSets, &mut changes);
                    }
                }
            }
            changes.iter().for_each(|change| self.kernel.apply(change));
        }
        self.known.retain(|_, until| *until >= self.now);
    }

    /// The daemon is killed and starts again, perhaps with the node's switch set otherwise.
    pub fn restart(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let switched = input.ratio(1, 3)?;
        self.policies.node_audits ^= switched;
        self.node = Node::new(settings());
        self.node.restore(&self.kernel);
        self.slots.clear();
        let policies = self.policies;
        self.known.retain(|(pod, name, _), _| policies.selects(app_of(pod), name));
        let before = self.kernel.clone();
        self.begin();
        assert!(
            switched || in_use(&before) == in_use(&self.kernel),
            "a start changes nothing where nothing has changed"
        );
        if !self.node.is_settled() {
            self.commit();
        }
        Ok(())
    }

    /// The maps say what the list says.
    pub fn check(&self) {
        for (interface, pod, probe) in self.probes() {
            let found = self.fate(interface, probe);
            let peer = PODS
                .iter()
                .zip(self.pods)
                .find(|(own, there)| *there && address(own.2) == probe.to);
            let known = self.known.iter().filter(|((own, _, ip), until)| {
                *own == pod && *ip == probe.to && **until > self.now
            });
            let situation = Situation {
                policies: &self.policies,
                app: app_of(pod),
                peer: peer.map(|(own, _)| own.1),
                names: known.map(|((_, name, _), _)| *name).collect(),
                probe,
            };
            assert_eq!(found, expected::fate(&situation), "{pod}: {probe:?}");
        }
    }

    fn probes(&self) -> impl Iterator<Item = (Interface, &'static str, Probe)> {
        let pods = PODS.iter().zip(self.pods).filter(|(_, there)| *there);
        let local = pods.filter_map(|(pod, _)| Some((Interface(pod.3?), pod.0)));
        local.flat_map(|(interface, pod)| packets().map(move |probe| (interface, pod, probe)))
    }

    fn fate(&self, interface: Interface, probe: Probe) -> Fate {
        let Some(entry) = self.kernel.endpoints.get(&interface) else {
            return Fate::dropped(DropReason::EndpointUnknown);
        };
        // How long a name that has run out is told as such is not said here.
        let told = |reason| match reason {
            DropReason::LeaseExpired => DropReason::PolicyDenied,
            other => other,
        };
        match judge(&self.kernel, entry, probe, self.now, false) {
            Ok(judged) => Fate { way: way(judged.verdict), reason: judged.audited.map(told) },
            Err(reason) => Fate::dropped(told(reason)),
        }
    }

    /// The ways from all interfaces that ever were.
    fn ways(&self) -> Ways {
        let interfaces = PODS.iter().filter_map(|pod| pod.3);
        let all = interfaces.flat_map(|own| packets().map(move |probe| (Interface(own), probe)));
        all.map(|(interface, probe)| self.fate(interface, probe).way).collect()
    }

    fn write(&mut self, changes: &[Change]) -> Vec<(Change, Ways)> {
        let mut seen = Vec::new();
        for change in changes {
            self.kernel.apply(change);
            seen.push((change.clone(), self.ways()));
        }
        seen
    }

    fn describe(&mut self) {
        let policies = self.policies.read();
        self.inventory.policies = policies.map(|own| (own.key.clone(), Arc::clone(own))).collect();
        self.inventory.pods.clear();
        self.inventory.bindings.bound.clear();
        for (pod, _) in PODS.iter().zip(self.pods).filter(|(_, there)| *there) {
            let (name, app, ip, interface) = *pod;
            let name = EndpointName { namespace: "default".into(), name: name.into() };
            let mut labels: Labels = [Label::kubernetes("app", app)].into_iter().collect();
            labels.insert(Label::kubernetes(Labels::NAMESPACE, "default"));
            if let Some(index) = interface {
                self.inventory.bindings.bound.insert(name.clone(), Interface(index));
            }
            let pod = Pod {
                name: name.clone(),
                uid: String::new(),
                labels,
                addresses: vec![address(ip)],
                extra_sources: Vec::new(),
                attachment: interface.map(|index| Attachment::Interface(format!("veth{index}"))),
                host_network: false,
                ports: Arc::default(),
            };
            self.inventory.pods.insert(name, Arc::new(pod));
        }
    }
}

/// What is in the maps, without name sets that no lease has any more: a start does not keep these.
fn in_use(kernel: &State) -> State {
    let sets: BTreeSet<Identity> =
        kernel.leases.values().flat_map(|lease| lease.sets).flatten().collect();
    let is_in_use = |own: Identity| own.scope() != Scope::Names || sets.contains(&own);
    let mut kernel = kernel.clone();
    kernel.rows.retain(|row, _| is_in_use(row.identity));
    kernel
        .numbers
        .retain(|(kind, number), _| *kind != NumberKind::Identity || is_in_use(Identity(*number)));
    kernel
}

fn way(verdict: Verdict) -> Way {
    match verdict {
        Verdict::Allow | Verdict::Unruled => Way::Direct,
        Verdict::Dns => Way::DnsProxy,
        Verdict::Proxy => Way::L7Proxy,
        Verdict::Deny => Way::Dropped,
    }
}

fn packets() -> impl Iterator<Item = Probe> {
    DESTINATIONS.iter().flat_map(|to| {
        let to = address(to);
        PORTS.into_iter().map(move |(protocol, port)| Probe { to, protocol, port })
    })
}

fn app_of(pod: &str) -> &'static str {
    PODS.iter().find(|own| own.0 == pod).unwrap().1
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn settings() -> Settings {
    Settings {
        dns_service: EndpointName { namespace: "kube-system".into(), name: "kube-dns".into() },
        service_prefixes: vec!["10.96.0.0/16".parse().unwrap()],
        sets_per_table: 100,
        identities: 1000,
        api_servers: Vec::new(),
        pod_prefixes: Vec::new(),
    }
}
