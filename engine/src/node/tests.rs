//! Revisions from policies written as text, and what the kernel then says of a packet.

mod audited;
mod conversing;
mod incremental;
mod language;
mod packets;
mod revisions;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use model::{
    Attachment, Audited, DropReason, Enforcement, Fate, Frontend, Label, Moment, Pod, Protocol,
    Ruling, Service, ServicePort, Transport, Verdict, Way,
};
use policy::{Document, Policy};

use super::*;
use crate::leases::{Leases, Limits, NameSets, SetsFull};
use crate::snapshot::{Judgement, Question};
use crate::{InventoryProblem, VerdictTable};

const CLIENT: &str = "10.0.0.2";
const DNS: &str = "10.0.0.53";
const CLUSTER_IP: &str = "10.96.0.10";

/// What the kernel holds, kept in step with an engine's plans.
struct Bench {
    node: Node,
    kernel: State,
    inventory: Inventory,
    leases: BTreeMap<EndpointId, Leases>,
    /// What each endpoint's names are judged by.
    tables: BTreeMap<EndpointId, Arc<VerdictTable>>,
    /// Everything that was written.
    log: Vec<Change>,
    snapshot: Arc<crate::Snapshot>,
    problems: Vec<InventoryProblem>,
}

/// Where no policy selects an endpoint, no selector matches anything.
struct NoSets;

impl NameSets for NoSets {
    fn set_of(
        &mut self,
        _: model::NameRef<'_>,
        _: &mut Vec<Change>,
    ) -> Result<Option<Identity>, SetsFull> {
        Ok(None)
    }

    fn union(
        &mut self,
        _: Identity,
        _: Identity,
        _: &mut Vec<Change>,
    ) -> Result<Identity, SetsFull> {
        Err(SetsFull)
    }
}

impl Bench {
    fn empty() -> Self {
        Self {
            node: Node::new(settings()),
            kernel: State::default(),
            inventory: Inventory::default(),
            leases: BTreeMap::new(),
            tables: BTreeMap::new(),
            log: Vec::new(),
            snapshot: Arc::default(),
            problems: Vec::new(),
        }
    }

    /// A node with a client and the cluster's DNS.
    fn new() -> Self {
        let mut bench = Self::empty();
        bench.inventory.host_addresses.insert("10.0.0.1".parse().unwrap());
        bench.pod("default/client", &[("app", "client")], &[CLIENT], Some(7));
        bench.pod("kube-system/dns", &[("k8s-app", "kube-dns")], &[DNS], Some(8));
        bench.dns_service(&[DNS]);
        bench
    }

    fn pod(&mut self, name: &str, labels: &[(&str, &str)], addresses: &[&str], index: Option<u32>) {
        let (namespace, own) = name.split_once('/').unwrap();
        let name = EndpointName { namespace: namespace.into(), name: own.into() };
        let mut all: Labels = labels.iter().map(|(k, v)| Label::kubernetes(*k, *v)).collect();
        all.insert(Label::kubernetes(Labels::NAMESPACE, namespace));
        let pod = Pod {
            name: name.clone(),
            uid: String::new(),
            labels: all,
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            extra_sources: Vec::new(),
            attachment: index.map(|index| Attachment::Interface(format!("veth{index}"))),
            host_network: false,
            ports: Default::default(),
        };
        if let Some(index) = index {
            self.inventory.bindings.bound.insert(name.clone(), Interface(index));
        }
        self.inventory.pods.insert(name, Arc::new(pod));
    }

    fn dns_service(&mut self, backends: &[&str]) {
        let name = EndpointName { namespace: "kube-system".into(), name: "kube-dns".into() };
        let backends: Vec<SocketAddr> =
            backends.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 5353)).collect();
        let port = |protocol| ServicePort {
            name: String::new(),
            protocol,
            port: 53,
            node_port: None,
            backends: backends.clone(),
        };
        let service = Service {
            name: name.clone(),
            labels: Labels::default(),
            selects_pods: true,
            external_name: None,
            addresses: vec![CLUSTER_IP.parse().unwrap()],
            ports: vec![port(Protocol::UDP), port(Protocol::TCP)],
            backends: backends.iter().map(SocketAddr::ip).collect(),
        };
        self.inventory.services.insert(name, Arc::new(service));
    }

    fn policies(&mut self, text: &str) {
        let file: Arc<Path> = Path::new("test.yaml").into();
        let (documents, problems) = Document::read_all(&file, text);
        assert_eq!(problems, []);
        let policies = documents.iter().map(|own| Arc::new(Policy::read(own).unwrap()));
        self.inventory.policies = policies.map(|own| (own.key.clone(), own)).collect();
    }

    /// Plans and carries out revisions as the daemon does, and returns their cold changes.
    fn commit(&mut self) -> Vec<Change> {
        let mut changes = self.carry_out();
        while !self.node.is_settled() {
            changes.extend(self.carry_out());
        }
        changes
    }

    fn carry_out(&mut self) -> Vec<Change> {
        let plan = self.node.plan(&self.inventory).unwrap();
        self.apply(&plan.difference.before);
        for (id, local) in &plan.endpoints {
            let changes = self.switch(*id, local);
            self.apply(&changes);
        }
        self.apply(&plan.difference.endpoints);
        let mut bumps = self.bump(self.holders(&plan.enclosed));
        let mut after = Vec::new();
        for (id, _) in &plan.gone {
            self.tables.remove(id);
            if let Some(mut leases) = self.leases.remove(id) {
                leases.forget(|_| true, &mut NoSets, &mut after);
            }
        }
        plan.replaced.iter().for_each(|(old, new)| old.retire_into(new, &mut after));
        plan.retired.iter().for_each(|table| table.sets().clear(&mut after));
        self.apply(&after);
        self.apply(&plan.difference.after);
        bumps.extend(self.bump(plan.narrowed.clone()));
        self.snapshot = Arc::clone(&plan.snapshot);
        self.problems.clone_from(&plan.problems);
        self.node.applied(&plan);
        assert_eq!(cold_part(&self.kernel), self.node.desired());
        plan.difference.into_changes().chain(bumps).collect()
    }

    /// The endpoints with leases under one of these prefixes.
    fn holders(&self, prefixes: &BTreeSet<Prefix>) -> Vec<EndpointId> {
        let holds = |leases: &Leases| prefixes.iter().any(|own| leases.may_hold(*own));
        self.leases.iter().filter(|(_, leases)| holds(leases)).map(|(id, _)| *id).collect()
    }

    fn bump(&mut self, endpoints: Vec<EndpointId>) -> Vec<Change> {
        let bumps = endpoints.into_iter().filter_map(|own| self.node.bump(own));
        let bumps: Vec<Change> = bumps.collect();
        self.apply(&bumps);
        bumps
    }

    fn apply(&mut self, changes: &[Change]) {
        changes.iter().for_each(|change| self.kernel.apply(change));
        self.log.extend_from_slice(changes);
    }

    /// Has an endpoint's names judged by its table, if that says anything else of them.
    fn switch(&mut self, id: EndpointId, local: &LocalEndpoint) -> Vec<Change> {
        let leases = self.leases.entry(id).or_insert_with(|| Leases::new(id, Limits::default()));
        let mut changes = Vec::new();
        let known = match &local.table {
            Some(table) => self.tables.insert(id, Arc::clone(table)),
            None => self.tables.remove(&id),
        };
        match &local.table {
            Some(table) if known.as_ref().is_some_and(|own| own.shares_sets(table)) => {}
            Some(table) => {
                leases.rejudge(&mut *table.sets(), &mut changes).unwrap();
                table.sets().confirm();
            }
            None => leases.rejudge(&mut NoSets, &mut changes).unwrap(),
        }
        changes.push(Change::PutEndpoint(local.interface, local.entry));
        leases.settle(&mut changes);
        changes
    }

    fn learn(&mut self, client: &str, name: &str, address: &str, now: Moment) {
        let endpoint = self.snapshot.endpoint(client.parse().unwrap()).unwrap();
        let name: model::Name = name.parse().unwrap();
        let table = self.table(endpoint);
        let mut changes = Vec::new();
        let leases = self.leases.get_mut(&endpoint).unwrap();
        let answer = [(address.parse().unwrap(), 60)];
        leases
            .handle_answer(name.as_ref(), &answer, now, &mut *table.sets(), &mut changes)
            .unwrap();
        table.sets().confirm();
        changes.iter().for_each(|change| self.kernel.apply(change));
    }

    fn table(&self, endpoint: EndpointId) -> Arc<VerdictTable> {
        let entry =
            self.kernel.endpoints.values().find(|entry| entry.endpoint == endpoint).unwrap();
        let Enforcement::Table(id) = entry.enforcement else { panic!("not enforced") };
        let mut tables = self.node.tables.values().map(LiveTable::table);
        Arc::clone(tables.find(|table| table.id() == id).unwrap())
    }

    /// What the programs would say of a new flow, read from the maps as they read them.
    fn verdict(&self, index: u32, to: &str, protocol: Protocol) -> Result<Verdict, DropReason> {
        let entry = self.kernel.endpoints[&Interface(index)];
        let table = match entry.enforcement {
            Enforcement::Open => return Ok(Verdict::Allow),
            Enforcement::Closed(reason) => return Err(reason),
            Enforcement::Table(table) => table,
        };
        let (ruling, unspoken) = self.ruling(entry.endpoint, table, to, protocol);
        match ruling.verdict {
            None if ruling.audited.default_deny => Ok(Verdict::Unruled),
            None => Err(unspoken),
            Some(Verdict::Deny) => Err(DropReason::PolicyDenied),
            Some(verdict) => Ok(verdict),
        }
    }

    /// What becomes of a new flow.
    fn fate(&self, index: u32, to: &str, protocol: Protocol) -> Fate {
        let entry = self.kernel.endpoints[&Interface(index)];
        match entry.enforcement {
            Enforcement::Open => Fate { way: Way::Direct, reason: None },
            Enforcement::Closed(reason) => Fate::dropped(reason),
            Enforcement::Table(table) => {
                let (ruling, unspoken) = self.ruling(entry.endpoint, table, to, protocol);
                ruling.fate(protocol, unspoken)
            }
        }
    }

    /// What all rows together say of a new flow, and why it is dropped if that is nothing.
    fn ruling(
        &self,
        endpoint: EndpointId,
        table: TableId,
        to: &str,
        protocol: Protocol,
    ) -> (Ruling, DropReason) {
        let to: SocketAddr = to.parse().unwrap();
        let said = |level: Identity| {
            let rows = self.kernel.rows.iter().filter(|(row, _)| {
                row.table == table && row.identity == level && row.ports.covers(protocol, to.port())
            });
            let longest = rows.max_by_key(|(row, _)| row.ports.len());
            longest.map(|(_, ruling)| *ruling).unwrap_or_default()
        };
        // Of services and of what is known to be nothing, this alone counts of what is said of all.
        let default_deny = said(Identity::ANY).audited.default_deny;
        let audited = Audited { deny_rule: false, default_deny };
        let default = Ruling { verdict: None, audited };
        let frontend = Frontend { address: to.ip(), protocol, port: to.port() };
        if let Some(service) = self.kernel.frontends.get(&frontend) {
            return (said(*service).union(default), DropReason::PolicyDenied);
        }
        match self.levels(endpoint, to.ip()) {
            Ok(levels) => {
                let ruling = levels.into_iter().map(said).reduce(Ruling::union);
                (ruling.unwrap_or_default(), DropReason::PolicyDenied)
            }
            Err(reason) if said(Identity::ANY).verdict == Some(Verdict::Deny) => {
                (Ruling::default(), reason)
            }
            Err(reason) => (default, reason),
        }
    }

    fn levels(&self, endpoint: EndpointId, to: IpAddr) -> Result<Vec<Identity>, DropReason> {
        let covering = self.kernel.prefixes.iter().filter(|(prefix, _)| prefix.covers(to));
        let longest = covering.max_by_key(|(prefix, _)| prefix.length());
        let identity = *longest.ok_or(DropReason::PolicyDenied)?.1;
        if identity == Identity::NO_SERVICE {
            return Err(DropReason::NoService);
        }
        let mut levels = vec![identity, Identity::ANY];
        let lease = self.kernel.leases.get(&(endpoint, to)).filter(|_| identity.is_outside());
        levels.extend(lease.into_iter().flat_map(|lease| lease.sets).flatten());
        Ok(levels)
    }

    fn tcp(&self, to: &str) -> Result<Verdict, DropReason> {
        self.verdict(7, to, Protocol::TCP)
    }

    fn ask(&self, server: &str, name: &str) -> bool {
        matches!(self.judge(server, name), Judgement::Allowed(_))
    }

    fn judge(&self, server: &str, name: &str) -> Judgement {
        let name: model::Name = name.parse().unwrap();
        let question = Question {
            client: CLIENT.parse().unwrap(),
            server: server.parse().unwrap(),
            transport: Transport::Udp,
            name: name.as_ref(),
        };
        let sets = |endpoint, address| self.leases[&endpoint].sets_of(address);
        self.snapshot.judge(&question, sets)
    }

    fn endpoint(&self, index: u32) -> EndpointId {
        self.kernel.endpoints[&Interface(index)].endpoint
    }

    fn generation(&self, index: u32) -> u32 {
        self.kernel.endpoints[&Interface(index)].generation
    }
}

/// What of a dump the engine's cold half owns.
fn cold_part(dump: &State) -> State {
    let is_set = |identity: Identity| identity.scope() == Scope::Names;
    let mut cold = dump.clone();
    cold.names.clear();
    cold.leases.clear();
    cold.shared.clear();
    cold.rows.retain(|row, _| !is_set(row.identity));
    cold.numbers
        .retain(|(kind, number), _| *kind != NumberKind::Identity || !is_set(Identity(*number)));
    cold
}

fn settings() -> Settings {
    Settings {
        dns_service: EndpointName { namespace: "kube-system".into(), name: "kube-dns".into() },
        service_prefixes: vec!["10.96.0.0/16".parse().unwrap()],
        pod_prefixes: vec!["10.0.0.0/24".parse().unwrap()],
        api_servers: Vec::new(),
        sets_per_table: 100,
        identities: 1000,
    }
}

const POLICY: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: client, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
    - toEndpoints:
        - matchLabels:
            k8s:io.kubernetes.pod.namespace: kube-system
            k8s-app: kube-dns
      toPorts:
        - ports: [{port: "53", protocol: ANY}, {port: "5353", protocol: ANY}]
          rules:
            dns: [{matchPattern: "*.example.com"}]
    - toFQDNs: [{matchPattern: "*.example.com"}]
      toPorts: [{ports: [{port: "443", protocol: TCP}]}]
    - toCIDR: [198.51.100.0/24]
"#;
