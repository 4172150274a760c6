//! Revisions from policies written as text, and what the kernel then says of a packet.

mod audited;
mod conversing;
mod incremental;
mod language;

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
    fn new() -> Self {
        let mut inventory = Inventory::default();
        inventory.host_addresses.insert("10.0.0.1".parse().unwrap());
        let mut bench = Self {
            node: Node::new(settings()),
            kernel: State::default(),
            inventory,
            leases: BTreeMap::new(),
            tables: BTreeMap::new(),
            log: Vec::new(),
            snapshot: Arc::default(),
            problems: Vec::new(),
        };
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

#[test]
fn an_endpoint_that_no_policy_selects_is_open() {
    let mut bench = Bench::new();
    bench.commit();
    assert_eq!(bench.kernel.endpoints[&Interface(7)].enforcement, Enforcement::Open);
    assert_eq!(bench.tcp("203.0.113.1:443"), Ok(Verdict::Allow));
}

#[test]
fn what_no_rule_allows_is_denied() {
    let mut bench = Bench::new();
    bench.policies(POLICY);
    bench.commit();
    assert_eq!(bench.tcp("203.0.113.1:443"), Err(DropReason::PolicyDenied));
    assert_eq!(bench.tcp("10.0.0.1:22"), Err(DropReason::PolicyDenied));
    assert_eq!(bench.tcp("198.51.100.9:22"), Ok(Verdict::Allow));
    assert_eq!(bench.verdict(8, "203.0.113.1:443", Protocol::TCP), Ok(Verdict::Allow));
}

#[test]
fn a_resolved_address_is_allowed_to_the_endpoint_that_asked_alone() {
    let mut bench = Bench::new();
    bench.pod("default/other", &[("app", "client")], &["10.0.0.3"], Some(9));
    bench.policies(POLICY);
    bench.commit();
    bench.learn(CLIENT, "www.example.com", "203.0.113.1", Moment::from_secs(1));
    assert_eq!(bench.tcp("203.0.113.1:443"), Ok(Verdict::Allow));
    assert_eq!(bench.tcp("203.0.113.1:80"), Err(DropReason::PolicyDenied));
    assert_eq!(bench.verdict(9, "203.0.113.1:443", Protocol::TCP), Err(DropReason::PolicyDenied));
    let (first, second) =
        (bench.kernel.endpoints[&Interface(7)], bench.kernel.endpoints[&Interface(9)]);
    assert_eq!(first.enforcement, second.enforcement, "the same rules share a table");
}

#[test]
fn dns_goes_to_the_proxy_by_backend_and_by_cluster_ip() {
    let mut bench = Bench::new();
    bench.policies(POLICY);
    bench.commit();
    let udp = |to| bench.verdict(7, to, Protocol::UDP);
    assert_eq!(udp("10.0.0.53:5353"), Ok(Verdict::Dns));
    assert_eq!(udp("10.96.0.10:53"), Ok(Verdict::Dns));
    assert_eq!(udp("10.96.0.10:80"), Err(DropReason::NoService));
    assert_eq!(udp("10.96.0.11:53"), Err(DropReason::NoService));
    assert!(bench.ask("10.96.0.10:53", "www.example.com"));
    assert!(bench.ask("10.0.0.53:5353", "www.example.com"));
    assert!(!bench.ask("10.96.0.10:53", "www.example.org"));
    assert!(!bench.ask("9.9.9.9:53", "www.example.com"));
}

#[test]
fn a_frontend_is_denied_with_one_denied_backend_and_with_none_ready() {
    let mut bench = Bench::new();
    bench.pod("default/fake", &[("app", "fake")], &["10.0.0.66"], None);
    bench.dns_service(&[DNS, "10.0.0.66"]);
    bench.policies(POLICY);
    bench.commit();
    assert_eq!(bench.verdict(7, "10.96.0.10:53", Protocol::UDP), Err(DropReason::PolicyDenied));
    assert!(!bench.ask("10.96.0.10:53", "www.example.com"));

    bench.dns_service(&[]);
    bench.commit();
    assert_eq!(bench.verdict(7, "10.96.0.10:53", Protocol::UDP), Err(DropReason::PolicyDenied));
    assert!(!bench.ask("10.96.0.10:53", "www.example.com"));
}

#[test]
fn a_resolved_address_gives_no_right_to_a_pod_or_node() {
    let mut bench = Bench::new();
    bench.pod("default/db", &[("app", "db")], &["203.0.113.9"], None);
    bench.policies(POLICY);
    bench.commit();
    bench.learn(CLIENT, "evil.example.com", "203.0.113.9", Moment::from_secs(1));
    bench.learn(CLIENT, "evil.example.com", "10.0.0.1", Moment::from_secs(1));
    assert_eq!(bench.tcp("203.0.113.9:443"), Err(DropReason::PolicyDenied));
    assert_eq!(bench.tcp("10.0.0.1:443"), Err(DropReason::PolicyDenied));
}

#[test]
fn a_changed_policy_moves_resolved_addresses_to_the_new_table() {
    let mut bench = Bench::new();
    bench.policies(POLICY);
    bench.commit();
    bench.learn(CLIENT, "www.example.com", "203.0.113.1", Moment::from_secs(1));
    let before = bench.generation(7);
    bench.policies(&POLICY.replace("\"443\"", "\"8443\""));
    bench.commit();
    assert_eq!(bench.tcp("203.0.113.1:443"), Err(DropReason::PolicyDenied));
    assert_eq!(bench.tcp("203.0.113.1:8443"), Ok(Verdict::Allow));
    assert_eq!(bench.generation(7), before + 1);
    let tables: BTreeSet<_> = bench.kernel.rows.keys().map(|row| row.table).collect();
    assert_eq!(tables.len(), 1, "the old table is gone");
}

#[test]
fn a_policy_more_writes_its_own_rows_alone_and_one_less_takes_them_out() {
    let mut bench = Bench::new();
    bench.policies(POLICY);
    bench.commit();
    bench.learn(CLIENT, "www.example.com", "203.0.113.1", Moment::from_secs(1));
    let before = bench.kernel.clone();
    let more = POLICY.replace("name: client", "name: more");
    let (head, _) = more.split_once("  egress:").unwrap();
    let more = format!("{head}  egress:\n    - toCIDR: [203.0.113.128/25]\n");
    bench.policies(&format!("{POLICY}---{more}"));
    let changes = bench.commit();
    assert!(
        matches!(
            changes[..],
            [
                Change::PutNumber(NumberKind::Identity, ..),
                Change::PutNumber(NumberKind::Table, ..),
                Change::PutPrefix(..),
                Change::PutRow(_, Ruling { verdict: Some(Verdict::Allow), .. }),
            ]
        ),
        "{changes:?}"
    );
    assert_eq!(bench.tcp("203.0.113.200:22"), Ok(Verdict::Allow));

    bench.policies(POLICY);
    let changes = bench.commit();
    let rows = |change: &&Change| matches!(change, Change::PutRow(..) | Change::DeleteRow(..));
    assert_eq!(changes.iter().filter(rows).count(), 1, "{changes:?}");
    let entry = bench.kernel.endpoints.get_mut(&Interface(7)).unwrap();
    assert_eq!(entry.generation, before.endpoints[&Interface(7)].generation + 1);
    entry.generation -= 1;
    assert_eq!(bench.kernel, before);
}

#[test]
fn flows_by_a_name_are_judged_again_when_their_address_becomes_a_pods() {
    let mut bench = Bench::new();
    bench.policies(POLICY);
    bench.commit();
    bench.learn(CLIENT, "www.example.com", "203.0.113.1", Moment::from_secs(1));
    assert_eq!(bench.tcp("203.0.113.1:443"), Ok(Verdict::Allow));
    let before = (bench.generation(7), bench.generation(8));
    bench.pod("default/late", &[("app", "late")], &["203.0.113.1"], None);
    bench.commit();
    assert_eq!(bench.tcp("203.0.113.1:443"), Err(DropReason::PolicyDenied));
    assert!(bench.generation(7) > before.0);
    assert_eq!(bench.generation(8), before.1, "without such a lease nothing has changed");
}

#[test]
fn nothing_is_written_when_nothing_changes() {
    let mut bench = Bench::new();
    bench.policies(POLICY);
    bench.commit();
    assert_eq!(bench.commit(), []);
    // The same rules elsewhere in a file mean the same.
    bench.policies(&format!("\n\n{POLICY}"));
    assert_eq!(bench.commit(), []);
}

#[test]
fn an_address_that_a_pod_loses_begins_a_generation_and_one_that_it_gains_does_not() {
    let mut bench = Bench::new();
    bench.policies(POLICY);
    let mut addresses = |addresses: &[&str]| {
        bench.pod("default/late", &[("app", "late")], addresses, Some(12));
        bench.commit();
        bench.generation(12)
    };
    let before = addresses(&["10.0.0.77"]);
    assert_eq!(addresses(&["10.0.0.77", "10.0.0.78"]), before);
    assert_eq!(addresses(&["10.0.0.78"]), before + 1);
    assert_eq!(addresses(&["10.0.0.78"]), before + 1);
}

#[test]
fn a_new_pod_leaves_other_endpoints_alone_and_a_moved_address_does_not() {
    let mut bench = Bench::new();
    bench.policies(&POLICY.replace("    - toCIDR: [198.51.100.0/24]\n", ""));
    bench.commit();
    let before = bench.generation(8);
    bench.pod("default/late", &[("app", "late")], &["10.0.0.77"], Some(12));
    bench.commit();
    assert_eq!(bench.generation(8), before);

    // The DNS pod's address becomes another pod's.
    let before = bench.generation(7);
    bench.pod("kube-system/dns", &[("k8s-app", "kube-dns")], &["10.0.0.54"], Some(8));
    bench.pod("default/late", &[("app", "late")], &[DNS], Some(12));
    bench.commit();
    assert!(bench.generation(7) > before);
    assert_eq!(bench.verdict(7, "10.0.0.53:5353", Protocol::UDP), Err(DropReason::PolicyDenied));
    assert_eq!(bench.verdict(7, "10.0.0.54:5353", Protocol::UDP), Ok(Verdict::Dns));
}

#[test]
fn a_restart_gives_the_same_meanings_the_same_numbers() {
    let mut bench = Bench::new();
    bench.policies(POLICY);
    bench.commit();
    bench.learn(CLIENT, "www.example.com", "203.0.113.1", Moment::from_secs(1));

    let mut node = Node::new(settings());
    node.restore(&bench.kernel);
    let plan = node.plan(&bench.inventory).unwrap();
    assert!(plan.difference.is_empty(), "{:?}", plan.difference);
    let mut desired = node.desired();
    for (id, local) in &plan.endpoints {
        let mut leases = Leases::restore(*id, Limits::default(), &bench.kernel);
        let mut changes: Vec<Change> = leases.rows().collect();
        if let Some(table) = &local.table {
            leases.rejudge(&mut *table.sets(), &mut changes).unwrap();
        }
        leases.settle(&mut changes);
        changes.iter().for_each(|change| desired.apply(change));
    }
    assert_eq!(desired, bench.kernel);
}

#[test]
fn a_pod_that_goes_takes_everything_with_it() {
    let mut bench = Bench::new();
    bench.policies(POLICY);
    bench.commit();
    let name = EndpointName { namespace: "default".into(), name: "client".into() };
    let gone = bench.node.plan(&bench.inventory).unwrap().endpoints;
    let (id, _) = gone.iter().find(|(_, local)| local.name == name).unwrap();
    bench.inventory.pods.remove(&name);
    bench.inventory.bindings.bound.remove(&name);
    bench.commit();
    assert!(bench.kernel.endpoints.values().all(|entry| entry.endpoint != *id));
    assert!(bench.kernel.sources.keys().all(|(endpoint, _)| endpoint != id));
    assert!(bench.kernel.rows.is_empty());
    assert!(!bench.kernel.prefixes.contains_key(&Prefix::host(CLIENT.parse().unwrap())));
}

#[test]
fn a_closed_interface_drops_everything() {
    let mut bench = Bench::new();
    bench.inventory.bindings.closed.insert(Interface(30));
    bench.commit();
    assert_eq!(
        bench.verdict(30, "203.0.113.1:443", Protocol::TCP),
        Err(DropReason::EndpointConflict)
    );
}

#[test]
fn an_address_that_two_pods_claim_is_nobodys() {
    let mut bench = Bench::new();
    bench.pod("default/twin", &[("app", "twin")], &[DNS], None);
    bench.policies(POLICY);
    bench.commit();
    assert_eq!(bench.verdict(7, "10.0.0.53:5353", Protocol::UDP), Err(DropReason::PolicyDenied));
}

#[test]
fn what_was_enforced_and_may_be_missing_is_closed_and_nothing_else_is() {
    let mut bench = Bench::new();
    bench.policies(POLICY);
    bench.commit();
    let (table, generation) = (bench.table(bench.endpoint(7)).id(), bench.generation(7));
    bench.inventory.pending = [(Interface(7), Some(table)), (Interface(40), None)].into();
    bench.commit();
    assert_eq!(bench.verdict(7, "10.0.0.53:5353", Protocol::UDP), Ok(Verdict::Dns));
    assert_eq!(bench.verdict(40, "1.1.1.1:1", Protocol::UDP), Err(DropReason::EndpointPending));

    bench.inventory.policies.clear();
    let plan = bench.node.plan(&bench.inventory).unwrap();
    let problems: Vec<String> = plan.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "pod default/client: is closed: what was enforced on it may stand in what cannot be \
             read",
            "interface 40: is closed: its pod and policies may stand in what cannot be read",
        ]
    );
    bench.commit();
    assert_eq!(bench.tcp("203.0.113.1:443"), Err(DropReason::EndpointPending));
    assert!(!bench.ask("10.96.0.10:53", "www.example.com"));
    assert!(bench.generation(7) > generation);
    assert_eq!(bench.verdict(8, "203.0.113.1:443", Protocol::TCP), Ok(Verdict::Allow));

    bench.policies(POLICY);
    bench.inventory.pending = [(Interface(7), None)].into();
    bench.commit();
    assert_eq!(bench.tcp("203.0.113.1:443"), Err(DropReason::EndpointPending));
    assert!(!bench.kernel.endpoints.contains_key(&Interface(40)));
    bench.inventory.pending.clear();
    bench.commit();
    assert!(bench.ask("10.96.0.10:53", "www.example.com"));
}
