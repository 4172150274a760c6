//! Flows of random moments, described at once and when everything has changed.

use std::path::Path;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use dnsproxy::{Ending, Query, Settled};
use engine::rebinding::Guard;
use engine::{Inventory, Judgement, Node, Question, Settings};
use flows::{Service, Side};
use model::{
    EndpointId, EndpointName, Frontend, Interface, Label, Labels, Moment, NameRef, Pod,
    ServicePort, Transport,
};
use policy::{Document, Policy};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::recording::allowance::Allowance;
use crate::recording::budget::Budget;
use crate::recording::exchanges::Exchanges;
use crate::recording::grounds::{Explainer, Local, Revision};

const DNS: &str = "10.96.0.10:53";
const CLIENT: &str = "10.0.0.1";
const NAMES: [&str; 4] = ["a.example.com", "b.example.com", "c.example.org", "d.example.org"];

/// Rules for the client's questions, one a policy.
const RULES: [&str; 4] = [
    "[{matchName: a.example.com}, {matchName: c.example.org}]",
    "[{matchPattern: '*.example.com'}]",
    "[{matchPattern: '*.example.org'}]",
    "[{matchPattern: '*'}]",
];

/// What happens, one after the other.
#[derive(Clone, Debug)]
enum Step {
    /// Policies of these rules are in force, which begin at so many lines from their files' tops.
    Policies(Vec<usize>, usize),
    /// The client is there with this label, or not there any more.
    Client(Option<&'static str>),
    /// The cluster's DNS is behind this address.
    Server(u8),
    /// The client asks for a name.
    Ask(&'static str),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (prop::collection::vec(0..RULES.len(), 0..3), 0..3usize)
            .prop_map(|(rules, lines)| Step::Policies(rules, lines)),
        2 => prop::option::weighted(0.8, select(vec!["web", "other"])).prop_map(Step::Client),
        1 => (9..12u8).prop_map(Step::Server),
        6 => select(&NAMES[..]).prop_map(Step::Ask),
    ]
}

fn full(text: &str) -> EndpointName {
    let (namespace, name) = text.split_once('/').unwrap();
    EndpointName { namespace: namespace.into(), name: name.into() }
}

fn pod(name: &str, label: (&str, &str), address: &str) -> Pod {
    let name = full(name);
    let namespace = Label::kubernetes(Labels::NAMESPACE, &*name.namespace);
    Pod {
        name,
        uid: String::new(),
        labels: [Label::kubernetes(label.0, label.1), namespace].into_iter().collect(),
        addresses: vec![address.parse().unwrap()],
        extra_sources: Vec::new(),
        attachment: None,
        host_network: false,
        ports: Default::default(),
    }
}

fn policies(rules: &[usize], lines: usize) -> Vec<Arc<Policy>> {
    let text = |number: &usize| {
        format!(
            "{}apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
             metadata: {{name: rules-{number}, namespace: prod}}\nspec:\n  \
             endpointSelector: {{matchLabels: {{app: web}}}}\n  egress:\n  \
             - toEndpoints: [{{matchLabels: {{k8s:io.kubernetes.pod.namespace: kube-system, \
             k8s-app: kube-dns}}}}]\n    toPorts: [{{ports: [{{port: '53'}}], \
             rules: {{dns: {}}}}}]\n",
            "\n".repeat(lines),
            RULES[*number]
        )
    };
    let read = |number: &usize| {
        let file: Arc<Path> = Path::new("rules.yaml").into();
        let (documents, problems) = Document::read_all(&file, &text(number));
        assert_eq!(problems, []);
        Arc::new(Policy::read(&documents[0]).unwrap())
    };
    rules.iter().map(read).collect()
}

/// A node, and the grounds that two describers have: one that describes at once, and one that waits.
struct World {
    node: Node,
    inventory: Inventory,
    at_once: Grounds,
    late: Grounds,
    unexplained: Arc<AtomicU64>,
    asked: u64,
}

impl World {
    fn new() -> Self {
        let settings = Settings {
            dns_service: full("kube-system/kube-dns"),
            service_prefixes: vec!["10.96.0.0/16".parse().unwrap()],
            pod_prefixes: vec!["10.0.0.0/16".parse().unwrap()],
            api_servers: Vec::new(),
            sets_per_table: 64,
            identities: 1024,
        };
        let unexplained = Arc::new(AtomicU64::new(0));
        let mut inventory = Inventory::default();
        inventory.bindings.bound.insert(full("prod/client"), Interface(7));
        let mut node = Node::new(settings.clone());
        let revision = revision(&mut node, &inventory);
        let grounds = || {
            let learned = (Guard::default(), Weak::new());
            let allowance = Allowance::ample(Instant::now());
            let counted = Arc::clone(&unexplained);
            let explainer = Explainer::new(settings.clone(), learned, allowance, counted);
            Grounds::new(revision.clone(), Arc::new(explainer))
        };
        let (at_once, late) = (grounds(), grounds());
        let mut world = Self { node, inventory, at_once, late, unexplained, asked: 0 };
        world.take(&Step::Server(9));
        world.take(&Step::Client(Some("web")));
        world
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Policies(rules, lines) => {
                let policies = policies(rules, *lines).into_iter();
                self.inventory.policies = policies.map(|own| (own.key.clone(), own)).collect();
            }
            Step::Client(None) => {
                self.inventory.pods.remove(&full("prod/client"));
            }
            Step::Client(Some(label)) => self.put(pod("prod/client", ("app", label), CLIENT)),
            Step::Server(last) => self.serve(&format!("10.0.0.{last}")),
            Step::Ask(_) => return,
        }
        let revision = revision(&mut self.node, &self.inventory);
        self.at_once = self.at_once.followed_by(revision.clone());
        self.late = self.late.followed_by(revision);
    }

    fn put(&mut self, pod: Pod) {
        self.inventory.pods.insert(pod.name.clone(), Arc::new(pod));
    }

    fn serve(&mut self, address: &str) {
        self.put(pod("kube-system/dns", ("k8s-app", "kube-dns"), address));
        let backend = format!("{address}:53").parse().unwrap();
        let port = ServicePort {
            name: String::new(),
            protocol: Protocol::UDP,
            port: 53,
            node_port: None,
            backends: vec![backend],
        };
        let server: SocketAddr = DNS.parse().unwrap();
        let service = model::Service {
            name: full("kube-system/kube-dns"),
            labels: Labels::default(),
            selects_pods: true,
            external_name: None,
            addresses: vec![server.ip()],
            ports: vec![port],
            backends: [backend.ip()].into(),
        };
        self.inventory.services.insert(service.name.clone(), Arc::new(service));
    }

    /// The same question as two describers take it, if the client is there.
    fn ask(&mut self, name: &str) -> Option<[Seen; 2]> {
        self.asked += 1;
        let (name, server): (Name, SocketAddr) = (name.parse().unwrap(), DNS.parse().unwrap());
        let one = seen(&self.at_once, name.as_ref(), server, self.asked)?;
        Some([one, seen(&self.late, name.as_ref(), server, self.asked)?])
    }
}

fn revision(node: &mut Node, inventory: &Inventory) -> Revision {
    let plan = node.plan(inventory).unwrap();
    node.applied(&plan);
    let local = plan.endpoints.iter().map(|(id, local)| {
        let labels = inventory.pods.get(&local.name).map(|pod| pod.labels.clone());
        (*id, Local::new(*id, local, labels))
    });
    Revision {
        number: plan.revision.0,
        endpoints: local.collect(),
        inventory: inventory.clone(),
        snapshot: plan.snapshot,
    }
}

/// A question of the client's, judged and taken down.
fn seen(grounds: &Grounds, name: NameRef<'_>, server: SocketAddr, number: u64) -> Option<Seen> {
    let Revision { snapshot, endpoints, .. } = grounds.revision();
    let client: SocketAddr = SocketAddr::new(CLIENT.parse().unwrap(), 40_000);
    let transport = Transport::Udp;
    let question = Question { client: client.ip(), server, transport, name };
    let (endpoint, ending): (EndpointId, _) = match snapshot.judge(&question, |_, _| [None; 2]) {
        Judgement::Allowed(own) => (own, Ending::Failed(DnsFailure::Timeout)),
        Judgement::Refused(own) => (own, Ending::Refused),
        Judgement::Audited(_) => unreachable!("no policy is audited"),
        Judgement::Unknown => return None,
    };
    let exchanges = Exchanges::new(1, Budget::per_second(1000), Arc::default());
    let query = Query { client, server, transport, name, qtype: 1 };
    let (at, endpoint) = (Moment::from_secs(number), Some(endpoint));
    exchanges.note(&Settled { endpoint, query, forwarded: None, breach: None, at, ending });
    let exchange = exchanges.take(1).next()?;

    let local = &endpoints[&endpoint?];
    let frontend = Frontend { address: server.ip(), protocol: Protocol::UDP, port: 53 };
    let service = Who { identity: snapshot.frontend(frontend), ..Who::default() };
    let service_name = Service { namespace: "kube-system".into(), name: "kube-dns".into() };
    let ends = Ends {
        source: side(client.ip(), Arc::clone(&local.who)),
        table: local.table.as_ref().map(|table| table.id()),
        destination: Side { who: Arc::new(service), ..side(server.ip(), Arc::default()) },
        service: Some(Arc::new(service_name)),
    };
    let (time, uuid) = (Time::from_nanos(number), Uuid::new(7, number));
    let frame = Frame { time, uuid, node: "node-1".into(), grounds: Arc::new(grounds.clone()) };
    Some(Seen::new(time, move || frame.exchange(&exchange, &ends)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_flow_that_is_described_late_is_what_it_would_have_been_at_once(
        steps in prop::collection::vec(step(), 1..24),
        backwards in any::<bool>(),
    ) {
        let mut world = World::new();
        let mut told = Vec::new();
        for step in &steps {
            world.take(step);
            let Step::Ask(name) = step else { continue };
            let Some([at_once, late]) = world.ask(name) else { continue };
            at_once.describe();
            told.push((at_once, late));
        }
        if backwards {
            told.reverse();
        }
        for (at_once, late) in &told {
            prop_assert_eq!(at_once, late);
        }
        prop_assert_eq!(world.unexplained.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn a_flow_names_the_pod_and_the_policy_of_its_time() {
    let mut world = World::new();
    world.take(&Step::Policies(vec![1], 0));
    let [_, before] = world.ask("a.example.com").unwrap();
    world.take(&Step::Policies(vec![0], 2));
    let [_, after] = world.ask("a.example.com").unwrap();
    world.take(&Step::Policies(vec![2], 0));
    world.take(&Step::Client(None));
    assert!(world.ask("a.example.com").is_none());

    let policy =
        |flow: &Flow| flow.allowed_by.iter().map(|own| (own.name.clone(), own.line)).next();
    assert_eq!(policy(&before), Some(("rules-1".to_owned(), 8)));
    assert_eq!(policy(&after), Some(("rules-0".to_owned(), 10)));
    assert_eq!((before.verdict, before.source.pod()), (Verdict::Error, ("prod", "client")));
}
