//! Random changes, one after the other, beside a node that is started anew at every step.

use model::{CidrGroup, ClusterNode, EndpointEntry, PortPrefix, Row, TableId};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

const PODS: [&str; 6] =
    ["default/client", "default/other", "prod/db", "prod/api", "kube-system/dns", "far/away"];
const ADDRESSES: [&str; 8] = [
    "10.0.0.2",
    "10.0.0.3",
    "10.0.0.20",
    "10.0.0.53",
    "10.7.0.1",
    "192.0.2.11",
    "203.0.113.9",
    "fd00::7",
];
const NAMES: [&str; 3] = ["www.example.com", "db.example.com", "a.example.org"];
const RANGES: [&str; 3] = ["10.7.0.0/16", "192.0.2.0/24", "203.0.113.0/25"];

/// What policies say, each for the pods with one label.
const SPECS: [&str; 21] = [
    "egress: [{toEntities: [cluster]}]",
    "egress: [{toEntities: [world], toPorts: [{ports: [{port: '443', protocol: TCP}]}]}]",
    "egress: [{toEndpoints: [{matchLabels: {app: db, k8s:io.kubernetes.pod.namespace: prod}}]}]",
    "egress: [{toEndpoints: [{matchExpressions: [{key: app, operator: Exists}]}]}]",
    "egress: [{toServices: [{k8sService: {serviceName: db, namespace: prod}}]}]",
    "egress: [{toServices: [{k8sServiceSelector: {selector: {matchLabels: {app: api}}}}]}]",
    "egress: [{toCIDRSet: [{cidr: 203.0.113.0/24, except: [203.0.113.8/29]}]}]",
    "egress: [{toCIDR: [192.0.2.0/24, 10.0.0.0/8, 203.0.113.9/32]}]",
    "egress: [{toCIDRSet: [{cidrGroupRef: partners}]}]",
    "egress: [{toPorts: [{ports: [{port: web, protocol: TCP}]}]}]",
    "egress: [{toPorts: [{ports: [{port: '8000', endPort: 8100, protocol: TCP}]}]}]",
    "egress: [{toNodes: [{matchLabels: {role: gateway}}]}]",
    "egress: [{toEntities: [kube-apiserver, host]}]",
    "egress: [{toEntities: [all]}]\negressDeny: [{toCIDR: [203.0.113.0/28]}]",
    "egress: [{}]\negressDeny: [{toEndpoints: [{matchLabels: {app: db}}]}]",
    "egress:\n- toEndpoints: [{matchLabels: {k8s-app: kube-dns}}]\n  toPorts: [{ports: [{port: \
     '5353'}], rules: {dns: [{matchPattern: '*.example.com'}]}}]\n- toFQDNs: [{matchPattern: \
     '*.example.com'}]",
    "egress: [{toEntities: [all], toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{}]}}]}]",
    "egress: [{toPorts: [{ports: [{port: web, protocol: TCP}], serverNames: [a.com]}]}]\n\
     enableDefaultDeny: {egress: false}",
    "egress: [{toServices: [{k8sService: {serviceName: db, namespace: prod}}], toPorts: [{rules: \
     {kafka: [{}]}}, {rules: {http: [{}]}}]}]",
    "egress: [{toFQDNs: [{matchName: www.example.com}], toPorts: [{ports: [{port: '443', protocol: \
     TCP}]}]}]",
    "egress: [{toFQDNs: [{matchPattern: 'w*.example.com'}, {matchName: a.example.org}], toPorts: \
     [{ports: [{port: '80', protocol: TCP}, {port: '443', protocol: TCP}]}]}]\negressDeny: \
     [{toCIDR: [203.0.113.0/28], toPorts: [{ports: [{port: '443', protocol: TCP}]}]}]",
];

/// One change of the inventory.
#[derive(Clone, Debug)]
enum Step {
    Pod {
        pod: usize,
        label: &'static str,
        addresses: Vec<&'static str>,
        port: bool,
        bound: bool,
    },
    NoPod(usize),
    Policy {
        number: usize,
        spec: Index,
        subject: &'static str,
        audited: bool,
    },
    NoPolicy(usize),
    Service {
        name: &'static str,
        at: Option<&'static str>,
        backends: Vec<&'static str>,
    },
    NoService(&'static str),
    Node {
        name: &'static str,
        address: &'static str,
        range: Option<&'static str>,
    },
    NoNode(&'static str),
    Host(Vec<&'static str>),
    Group(Vec<&'static str>),
    Closed(Option<u32>),
    /// A pod of this node resolves a name.
    Answer {
        pod: usize,
        name: &'static str,
        address: &'static str,
    },
    /// The last plan could not be written, and only this many of its changes were.
    Failure(Index),
}

fn addresses() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::btree_set(select(&ADDRESSES[..]), 0..3)
        .prop_map(|all| all.into_iter().collect())
}

fn step() -> impl Strategy<Value = Step> {
    let service =
        || select(vec!["prod/db", "prod/api", "kube-system/kube-dns", "default/kubernetes"]);
    let label = || select(vec!["client", "db", "api", "kube-dns"]);
    let node = || select(vec!["here", "there", "beyond"]);
    let cluster_ip = || prop::option::of(select(vec!["10.96.0.10", "10.96.0.20", "203.0.113.9"]));
    prop_oneof![
        6 => (0..PODS.len(), label(), addresses(), any::<bool>(), any::<bool>()).prop_map(
            |(pod, label, addresses, port, bound)| Step::Pod { pod, label, addresses, port, bound }
        ),
        2 => (0..PODS.len()).prop_map(Step::NoPod),
        8 => (0..4usize, any::<Index>(), label(), prop::bool::weighted(0.4)).prop_map(
            |(number, spec, subject, audited)| Step::Policy { number, spec, subject, audited }
        ),
        2 => (0..4usize).prop_map(Step::NoPolicy),
        4 => (service(), cluster_ip(), addresses())
            .prop_map(|(name, at, backends)| Step::Service { name, at, backends }),
        1 => service().prop_map(Step::NoService),
        2 => (node(), select(&ADDRESSES[..]), prop::option::of(select(&RANGES[..])))
            .prop_map(|(name, address, range)| Step::Node { name, address, range }),
        1 => node().prop_map(Step::NoNode),
        1 => addresses().prop_map(Step::Host),
        1 => prop::collection::vec(select(&RANGES[..]), 0..2).prop_map(Step::Group),
        1 => prop::option::of(20..23u32).prop_map(Step::Closed),
        4 => (0..2usize, select(&NAMES[..]), select(&ADDRESSES[5..7]))
            .prop_map(|(pod, name, address)| Step::Answer { pod, name, address }),
        1 => any::<Index>().prop_map(Step::Failure),
    ]
}

fn full(name: &str) -> EndpointName {
    let (namespace, name) = name.split_once('/').unwrap();
    EndpointName { namespace: namespace.into(), name: name.into() }
}

fn all<T: std::str::FromStr<Err: std::fmt::Debug>>(texts: &[&str]) -> Vec<T> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

impl Step {
    fn take(&self, inventory: &mut Inventory) {
        match self {
            Self::Pod { pod, label, addresses, port, bound } => {
                let index = 7 + u32::try_from(*pod).unwrap();
                let name = full(PODS[*pod]);
                let own = [(if *label == "kube-dns" { "k8s-app" } else { "app" }, *label)];
                let own = own.into_iter().chain([(Labels::NAMESPACE, &*name.namespace)]);
                let ports = port.then(|| ("web".to_owned(), vec![(Protocol::TCP, 8080)]));
                let pod = Pod {
                    name: name.clone(),
                    uid: String::new(),
                    labels: own.map(|(key, value)| Label::kubernetes(key, value)).collect(),
                    addresses: all(addresses),
                    extra_sources: Vec::new(),
                    attachment: None,
                    host_network: false,
                    ports: Arc::new(ports.into_iter().collect()),
                };
                inventory.pods.insert(name.clone(), Arc::new(pod));
                if *bound {
                    inventory.bindings.bound.insert(name, Interface(index));
                } else {
                    inventory.bindings.bound.remove(&name);
                }
            }
            Self::NoPod(pod) => {
                inventory.pods.remove(&full(PODS[*pod]));
                inventory.bindings.bound.remove(&full(PODS[*pod]));
            }
            Self::Policy { number, spec, subject, audited } => {
                let spec = SPECS[spec.index(SPECS.len())];
                let policy = policy(*number, spec, subject, *audited);
                inventory.policies.insert(policy.key.clone(), Arc::new(policy));
            }
            Self::NoPolicy(number) => {
                inventory.policies.remove(&policy(*number, SPECS[0], "db", false).key);
            }
            Self::Service { name, at, backends } => {
                let service = service(&full(name), at.as_slice(), backends);
                inventory.services.insert(service.name.clone(), Arc::new(service));
            }
            Self::NoService(name) => drop(inventory.services.remove(&full(name))),
            Self::Node { name, address, range } => {
                let node = ClusterNode {
                    name: (*name).to_owned(),
                    labels: [Label::node("role", "gateway")].into_iter().collect(),
                    addresses: all(&[address]),
                    health_addresses: all(&["192.0.2.77"]),
                    pod_prefixes: all(range.as_slice()),
                };
                inventory.nodes.insert((*name).to_owned(), Arc::new(node));
            }
            Self::NoNode(name) => drop(inventory.nodes.remove(*name)),
            Self::Host(addresses) => {
                inventory.host_addresses = all(addresses).into_iter().collect();
            }
            Self::Group(prefixes) => {
                let (name, labels) = ("partners".to_owned(), Labels::default());
                let group = CidrGroup { name: name.clone(), labels, prefixes: all(prefixes) };
                inventory.cidr_groups.insert(name, Arc::new(group));
            }
            Self::Closed(index) => {
                inventory.bindings.closed = index.map(Interface).into_iter().collect();
            }
            Self::Answer { .. } | Self::Failure(_) => {}
        }
    }
}

fn policy(number: usize, spec: &str, subject: &str, audited: bool) -> Policy {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    let key = if subject == "kube-dns" { "k8s-app" } else { "app" };
    let (kind, namespace) = match number % 2 {
        0 => ("CiliumClusterwideNetworkPolicy", ""),
        _ => ("CiliumNetworkPolicy", ", namespace: default"),
    };
    let text = format!(
        "apiVersion: cilium.io/v2\nkind: {kind}\nmetadata: {{name: p{number}{namespace}, \
         annotations: {{fqdnd.io/audit: '{audited}'}}}}\nspec:\n  \
         endpointSelector: {{matchLabels: {{{key}: {subject}}}}}\n{spec}"
    );
    let (documents, problems) = Document::read_all(&Path::new("p.yaml").into(), &text);
    assert_eq!(problems, []);
    Policy::read(&documents[0]).unwrap()
}

fn service(name: &EndpointName, at: &[&str], backends: &[&str]) -> Service {
    let backends: Vec<IpAddr> = all(backends);
    let ready = backends.iter().map(|own| SocketAddr::new(*own, 8080)).collect();
    let port = ServicePort {
        name: String::new(),
        protocol: Protocol::TCP,
        port: 80,
        node_port: Some(30_080),
        backends: ready,
    };
    Service {
        labels: [Label::kubernetes("app", &*name.name)].into_iter().collect(),
        addresses: all(at),
        ports: vec![port],
        backends,
        ..Service::new(name.clone())
    }
}

/// What could be sent, and is looked at after every change.
fn probes() -> Vec<SocketAddr> {
    let more = ["10.96.0.10", "10.96.0.20", "10.0.0.99", "203.0.113.1", "203.0.113.130", "8.8.8.8"];
    let addresses = ADDRESSES.iter().chain(&more).map(|text| text.parse().unwrap());
    let ports = [80, 443, 5353, 8080, 30_080];
    addresses.flat_map(|own: IpAddr| ports.map(|port| SocketAddr::new(own, port))).collect()
}

/// TCP, which every proxy judges, and UDP, which the L7 proxy does not.
const PROTOCOLS: [Protocol; 2] = [Protocol::TCP, Protocol::UDP];

/// Where packets go.
type Ways = BTreeMap<(Interface, SocketAddr, Protocol), Way>;

fn ways(bench: &Bench) -> Ways {
    let interfaces = bench.kernel.endpoints.keys();
    let all = interfaces.flat_map(|own| probes().into_iter().map(move |to| (*own, to)));
    let each = all.flat_map(|(own, to)| PROTOCOLS.map(|protocol| (own, to, protocol)));
    each.map(|(own, to, protocol)| ((own, to, protocol), bench.way(own, to, protocol))).collect()
}

impl Bench {
    /// A pod of this node learns an address, if it is judged by rules.
    fn answer(&mut self, pod: usize, name: &str, address: &str) {
        let interface = Interface(7 + u32::try_from(pod).unwrap());
        let Some(entry) = self.kernel.endpoints.get(&interface) else { return };
        let (Some(table), Some(leases)) =
            (self.tables.get(&entry.endpoint), self.leases.get_mut(&entry.endpoint))
        else {
            return;
        };
        let name: model::Name = name.parse().unwrap();
        let answer = [(address.parse().unwrap(), 60)];
        let (now, mut changes) = (Moment::from_secs(1), Vec::new());
        let sets = &mut *table.sets();
        leases.handle_answer(name.as_ref(), &answer, now, sets, &mut changes).unwrap();
        sets.confirm();
        changes.iter().for_each(|change| self.kernel.apply(change));
    }

    /// What the kernel holds of names is what the rules say of them, and nothing else.
    fn check_names(&self) {
        let mut expected: BTreeMap<Row, Ruling> = BTreeMap::new();
        for (id, table) in &self.tables {
            let local = self.node.endpoints().get(id).unwrap();
            let labels = &self.inventory.pods[&local.name].labels;
            let (rules, _) = self.inventory.rules_for(labels);
            let context = self.inventory.context(&settings().dns_service);
            let anew = policy::Table::compile(&rules, &context);
            let sets = table.sets();
            for (set, _) in sets.iter() {
                let texts = sets.patterns(set);
                let members = anew.selectors().filter(|own| texts.contains(&own.1.to_string()));
                let members: Vec<policy::SelectorId> = members.map(|(own, _)| own).collect();
                assert_eq!(members.len(), texts.len());
                for row in anew.rows(policy::Subject::Names(&members)) {
                    let place = Row { table: table.id(), identity: set, ports: row.ports };
                    expected.insert(place, row.ruling);
                }
            }
            for address in ADDRESSES[5..7].iter().map(|own| own.parse::<IpAddr>().unwrap()) {
                let mut matching = Vec::new();
                let names = self.leases[id].names_of(address);
                names.for_each(|name| anew.selectors_of(name, &mut matching));
                let lease = self.kernel.leases.get(&(*id, address));
                let own = lease.into_iter().flat_map(|lease| lease.sets).flatten();
                let own: BTreeSet<String> = own.flat_map(|set| sets.patterns(set)).collect();
                let matching = matching.iter().filter_map(|own| anew.selector(*own));
                assert_eq!(own, matching.map(ToString::to_string).collect(), "{address}");
            }
        }
        let rows = self.kernel.rows.iter();
        let named = rows.filter(|(row, _)| row.identity.scope() == Scope::Names);
        assert_eq!(named.map(|(row, own)| (*row, *own)).collect::<BTreeMap<_, _>>(), expected);
    }

    /// Plans a revision of which only the first changes can be written.
    fn fail(&mut self, written: Index) {
        let plan = self.node.plan(&self.inventory).unwrap();
        let changes: Vec<Change> = plan.difference.into_changes().collect();
        let written = written.index(changes.len() + 1);
        changes[..written].iter().for_each(|change| self.kernel.apply(change));
        self.node.resync(&self.kernel);
    }

    /// A node that is started now finds nothing to do, and tells DNS workers the same.
    fn check_against_a_fresh_node(&self) {
        let mut fresh = Node::new(settings());
        fresh.restore(&self.kernel);
        let plan = fresh.plan(&self.inventory).unwrap();
        assert!(plan.difference.is_empty(), "{:#?}", plan.difference);
        assert_eq!(shown(&plan.snapshot), shown(&self.snapshot));
        assert_eq!(plan.problems, self.problems);
    }

    /// Every change changes something, and nothing is changed twice but rows in passing.
    fn check_changes(&self, before: &State, changes: &[Change]) {
        let mut state = before.clone();
        let passing: Vec<&Change> = changes
            .iter()
            .filter(|change| match change {
                Change::PutRow(row, _) => changes.contains(&Change::DeleteRow(*row)),
                _ => false,
            })
            .collect();
        for change in changes {
            let was = state.clone();
            state.apply(change);
            assert!(was != state || passing.contains(&change), "{change:?} changes nothing");
        }
        assert_eq!(cold_part(&state), self.node.desired());
    }

    /// On the way from one policy to another everything fares as before or as after, at every moment.
    fn check_the_way(&mut self, before: &State, was: &Ways, changes: &[Change]) {
        let is = ways(self);
        let after = std::mem::replace(&mut self.kernel, before.clone());
        for change in changes {
            self.kernel.apply(change);
            if matches!(change, Change::PutNumber(..) | Change::DeleteNumber(..)) {
                continue;
            }
            for (&(own, to, protocol), &was) in was {
                let Some(&is) = is.get(&(own, to, protocol)) else { continue };
                let now = self.way(own, to, protocol);
                let fares = [was, is].contains(&now);
                assert!(
                    fares,
                    "{own} to {to}/{protocol}: {was:?}, {now:?}, {is:?} when {change:?}"
                );
            }
        }
        self.kernel = after;
    }

    /// Who was allowed something that has changed is judged again; who was not, is left alone,
    /// unless that is excused: what is in force had to be read back, there are services, or it
    /// has another table.
    fn check_generations(&self, before: &State, named: &BTreeSet<TableId>, excused: bool) {
        let bench = |kernel: &State| Self { kernel: kernel.clone(), ..Self::empty() };
        let (was, is) = (bench(before), bench(&self.kernel));
        let places = spoken_of(before, &self.kernel);
        for (interface, entry) in &self.kernel.endpoints {
            let Some(old) = before.endpoints.get(interface) else { continue };
            let by_tables = [old.enforcement, entry.enforcement]
                .iter()
                .all(|own| matches!(own, Enforcement::Table(_)));
            if old.endpoint != entry.endpoint || !by_tables {
                continue;
            }
            let flows = places.iter().flat_map(|to| PROTOCOLS.map(|protocol| (*to, protocol)));
            let changed = flows.into_iter().find(|(to, protocol)| {
                let way = |bench: &Self| bench.way(*interface, *to, *protocol);
                way(&was) != Way::Dropped && way(&was) != way(&is)
            });
            if let Some((to, _)) = changed {
                assert!(
                    entry.generation > old.generation,
                    "{interface} must be judged again: {to}"
                );
            } else if old.enforcement == entry.enforcement
                && !excused
                && !self.may_be_judged_again(before, named, *entry)
            {
                assert_eq!(entry.generation, old.generation, "{interface} is judged again");
            }
        }
    }

    /// Whether more than the verdicts on addresses counts: names that may be resolved, the right to
    /// send from an address.
    fn may_be_judged_again(
        &self,
        before: &State,
        named: &BTreeSet<TableId>,
        entry: EndpointEntry,
    ) -> bool {
        let own = |(endpoint, _): &&(EndpointId, Prefix)| *endpoint == entry.endpoint;
        let mut sources = before.sources.keys().filter(own);
        sources.any(|source| !self.kernel.sources.contains_key(source))
            || named.union(&self.named()).any(|own| {
                let old = before.endpoints.values().find(|old| old.endpoint == entry.endpoint);
                let own = Enforcement::Table(*own);
                own == entry.enforcement || old.is_some_and(|old| old.enforcement == own)
            })
    }

    /// Where a packet goes.
    fn way(&self, own: Interface, to: SocketAddr, protocol: Protocol) -> Way {
        self.fate(own.0, &to.to_string(), protocol).way
    }

    /// Whether there are services, which stand for what is behind them.
    fn serves(&self) -> bool {
        !self.inventory.services.is_empty()
    }

    /// The tables with rules for names.
    fn named(&self) -> BTreeSet<TableId> {
        let tables = self.node.tables.values().filter(|table| table.rules().has_selectors());
        tables.map(|own| own.table().id()).collect()
    }
}

/// Every place that one of two states tells from others.
fn spoken_of(one: &State, other: &State) -> BTreeSet<SocketAddr> {
    let states = [one, other];
    let prefixes = states.iter().flat_map(|own| own.prefixes.keys().map(|own| own.address()));
    let frontends = states.iter().flat_map(|own| own.frontends.keys().map(|own| own.address));
    let addresses: BTreeSet<IpAddr> =
        prefixes.chain(frontends).chain(probes().into_iter().map(|own| own.ip())).collect();
    let rows = states.iter().flat_map(|own| own.rows.keys());
    let ports: BTreeSet<u16> = rows
        .filter_map(|row| match row.ports {
            PortPrefix::Ports { port, .. } => Some(port),
            PortPrefix::Protocol(_) | PortPrefix::Any => None,
        })
        .chain(states.iter().flat_map(|own| own.frontends.keys().map(|own| own.port)))
        .chain([7, 80])
        .collect();
    addresses
        .into_iter()
        .flat_map(|own| ports.iter().map(move |port| SocketAddr::new(own, *port)))
        .collect()
}

/// What of a snapshot can be compared.
fn shown(snapshot: &crate::Snapshot) -> BTreeSet<String> {
    let clients = snapshot.clients.iter();
    let clients = clients.map(|(address, own)| format!("{address} {own:?}"));
    let frontends = snapshot.frontends.iter().map(|own| format!("{own:?}"));
    let backends = snapshot.backends.iter().map(|own| format!("{own:?}"));
    let levels = snapshot.views.iter().flat_map(|(table, view)| {
        let levels = view.levels.iter();
        levels.map(move |(identity, own)| format!("{table} {identity} {:?}", own.rows))
    });
    clients.chain(frontends).chain(backends).chain(levels).collect()
}

#[test]
fn a_table_that_endpoints_part_from_stands_until_they_have_left() {
    let mut bench = Bench::new();
    bench.pod("prod/db", &[("app", "db")], &["10.0.0.20"], Some(9));
    let apply = |bench: &mut Bench, policies: &[(&str, &str)]| {
        let documents = policies.iter().enumerate().map(|(number, (apps, prefixes))| {
            format!(
                "---\napiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: \
                 {{name: p{number}}}\nspec:\n  endpointSelector: {{matchExpressions: [{{key: app, \
                 operator: In, values: [{apps}]}}]}}\n  egress: [{{toCIDR: [{prefixes}]}}]\n"
            )
        });
        bench.policies(&documents.collect::<String>());
        bench.log.clear();
        bench.commit();
    };
    apply(&mut bench, &[("client, db", "203.0.113.0/24, 192.0.2.0/24")]);
    let (before, was) = (bench.kernel.clone(), ways(&bench));
    apply(&mut bench, &[("client", "203.0.113.0/24"), ("db", "192.0.2.0/24")]);
    let written = bench.log.clone();
    bench.check_the_way(&before, &was, &written);
    bench.check_against_a_fresh_node();
}

#[test]
fn after_a_failed_write_new_destinations_begin_with_what_was_said_of_them() {
    let mut bench = Bench::new();
    bench.pod("prod/db", &[("app", "db")], &["10.0.0.20"], None);
    let db = bench.inventory.pods.get_mut(&full("prod/db")).unwrap();
    let ports = [("web".to_owned(), vec![(Protocol::TCP, 80)])];
    *db = Arc::new(Pod {
        ports: ports.into_iter().collect::<BTreeMap<_, _>>().into(),
        ..Pod::clone(db)
    });
    let apply = |bench: &mut Bench, spec| {
        let policy = policy(0, spec, "client", false);
        bench.inventory.policies.insert(policy.key.clone(), Arc::new(policy));
        bench.log.clear();
        bench.commit();
    };
    apply(&mut bench, SPECS[3]);
    bench.node.plan(&bench.inventory).unwrap();
    bench.node.resync(&bench.kernel);
    let (before, was) = (bench.kernel.clone(), ways(&bench));
    apply(&mut bench, SPECS[17]);
    let written = bench.log.clone();
    bench.check_the_way(&before, &was, &written);
    bench.check_against_a_fresh_node();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_step_leads_to_what_a_start_would_lead_to(
        steps in prop::collection::vec(step(), 1..28),
    ) {
        let mut bench = Bench::empty();
        bench.commit();
        let mut after_failure = false;
        for step in steps {
            let served = bench.serves();
            step.take(&mut bench.inventory);
            let (before, was) = (bench.kernel.clone(), ways(&bench));
            let named = bench.named();
            if let Step::Answer { pod, name, address } = step {
                bench.answer(pod, name, address);
                continue;
            }
            if let Step::Failure(written) = step {
                bench.fail(written);
                after_failure = true;
                continue;
            }
            let excused = after_failure || served || bench.serves();
            bench.log.clear();
            let changes = bench.commit();
            bench.check_changes(&before, &changes);
            if matches!(step, Step::Policy { .. } | Step::NoPolicy(_) | Step::Group(_)) {
                let all = bench.log.clone();
                bench.check_the_way(&before, &was, &all);
            }
            bench.check_generations(&before, &named, excused);
            after_failure = false;
            bench.check_conversations(&probes());
            bench.check_names();
            bench.check_against_a_fresh_node();
        }
    }
}
