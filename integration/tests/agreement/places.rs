//! The cluster that random policies meet, and the slow and obvious judge of packets in it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use engine::Inventory;
use model::{
    Audited, CidrGroup, ClusterNode, DropReason, EndpointName, Interface, Label, Labels, Name,
    Objects, Pod, Protocol, Ruling, Service, ServicePort, Source,
};
use policy::{Context, Destination, Explanation, Packet, Policy, Rule, Wants, explain};
use proptest::{collection::vec, option, prelude::*, sample::select};

pub const CLIENT: [&str; 2] = ["10.0.0.2", "fd00::2"];
/// The interface that stands for the client's: the loopback of every new namespace.
pub const LOOPBACK: Interface = Interface(1);
pub const DNS: (&str, &str) = ("kube-system", "kube-dns");

const DNS_POD: [&str; 2] = ["10.0.0.53", "fd00::53"];
const HOST: [&str; 2] = ["10.0.0.1", "fd00::1"];
const REMOTE: [&str; 2] = ["192.0.2.11", "2001:db8:bad::11"];
const HEALTH: [&str; 2] = ["192.0.2.12", "2001:db8:bad::12"];
const API: [&str; 2] = ["192.0.2.13", "2001:db8:bad::13"];
const UNMANAGED: [&str; 2] = ["10.0.0.99", "fd00::99"];
const WORLD: [&str; 6] =
    ["203.0.113.5", "203.0.113.6", "192.0.2.9", "2001:db8:1::5", "2001:db8:1::6", "2001:db8:2::9"];
const NAMES: [&str; 4] = ["a.example", "b.example", "c.b.example", "elsewhere.test"];
/// Services: name, addresses, port, backends' port, port at nodes.
const INSIDE: [&str; 2] = ["10.96.0.20", "fd96::20"];
const OUTSIDE: [&str; 2] = ["10.96.0.30", "fd96::30"];
const API_SERVICE: [&str; 2] = ["10.96.0.1", "fd96::1"];
const UNUSED: [&str; 2] = ["10.96.9.9", "fd96::9"];

/// What is random of the cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Labels and named ports of the pods beside the client.
    pods: Vec<RandomPod>,
    /// Names that the client has resolved, each to an address of the world.
    pub resolved: Vec<(Name, IpAddr)>,
}

#[derive(Clone, Debug)]
struct RandomPod {
    namespace: &'static str,
    labels: Vec<(&'static str, &'static str)>,
    port: Option<(&'static str, Protocol, u16)>,
}

/// Something to send packets to.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: IpAddr,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Inside(Labels),
    Outside(Labels, Vec<Name>),
    /// At frontends, what is behind them; all else is as the other place says, or is no service.
    Service(Vec<Frontend>, Option<Box<Place>>),
}

/// A port of a service, with what is behind it and the port there.
#[derive(Clone, Debug)]
struct Frontend {
    protocol: Protocol,
    port: u16,
    backends: Vec<(Target, u16)>,
}

/// A random cluster.
pub fn any() -> impl Strategy<Value = Cluster> {
    let label = (select(vec!["a", "b"]), select(vec!["x", "y"]));
    let port = (
        select(vec!["web", "echo"]),
        select(vec![Protocol::TCP, Protocol::UDP, Protocol::SCTP]),
        select(vec![7, 80, 8_080]),
    );
    let pod = (select(vec!["default", "other"]), vec(label, 0..3), option::of(port))
        .prop_map(|(namespace, labels, port)| RandomPod { namespace, labels, port });
    let resolved = (select(NAMES.to_vec()), select(WORLD.to_vec()));
    let resolved = resolved.prop_map(|(name, address)| (name.parse().unwrap(), ip(address)));
    (vec(pod, 3), vec(resolved, 0..6)).prop_map(|(pods, resolved)| Cluster { pods, resolved })
}

/// What the rules say of a packet of the client's, each rule asked. An error is a packet that no
/// rule is asked about.
pub fn judge(
    rules: &[Arc<Rule>],
    context: &Context,
    target: &Target,
    protocol: Protocol,
    port: u16,
) -> Result<Ruling, DropReason> {
    let ask = |destination| {
        let packet = Packet { destination, protocol, port, asks: None };
        let Explanation { verdict, audited, .. } = explain(rules, context, &packet);
        let audited = Audited { deny_rule: !audited.is_empty(), default_deny: false };
        Ok(Ruling { verdict, audited })
    };
    match &target.place {
        Place::Inside(labels) => ask(Destination::Inside(labels)),
        Place::Outside(labels, names) => {
            ask(Destination::Outside { address: target.address, labels, names })
        }
        Place::Service(frontends, otherwise) => {
            let at = frontends.iter().find(|own| (own.protocol, own.port) == (protocol, port));
            if let Some(frontend) = at {
                let each = frontend
                    .backends
                    .iter()
                    .map(|(backend, port)| judge(rules, context, backend, protocol, *port));
                let each: Vec<Ruling> = each.collect::<Result<_, _>>()?;
                return Ok(each.into_iter().reduce(Ruling::restrict).unwrap_or_default());
            }
            let Some(place) = otherwise else { return Err(DropReason::NoService) };
            let target = Target { address: target.address, place: (**place).clone() };
            judge(rules, context, &target, protocol, port)
        }
    }
}

impl Cluster {
    /// The rules that select the client.
    pub fn rules(&self, policies: &[Arc<Policy>]) -> Vec<Arc<Rule>> {
        let client = labels_of("default", &[("app", "client")]);
        let rules = policies.iter().flat_map(|policy| &policy.rules);
        rules.filter(|rule| rule.selects(&client)).cloned().collect()
    }

    /// What of this cluster changes the meaning of rules.
    pub fn context(&self) -> Context {
        let dns = labels_of(DNS.0, &[("k8s-app", "kube-dns")]);
        Context { dns_pods: [dns].into(), services: self.services(), cidr_groups: groups() }
    }

    /// The engine's view of it.
    pub fn inventory(&self, policies: &[Arc<Policy>]) -> Inventory {
        let mut inventory = Inventory {
            services: self.services(),
            cidr_groups: groups(),
            policies: policies.iter().map(|own| (own.key.clone(), Arc::clone(own))).collect(),
            host_addresses: HOST.map(ip).into(),
            ..Inventory::default()
        };
        let client = name("default", "client");
        inventory.bindings.bound.insert(client.clone(), LOOPBACK);
        let labels = labels_of("default", &[("app", "client")]);
        inventory.pods.insert(client.clone(), pod(client, labels, CLIENT).into());
        let dns = name("kube-system", "dns");
        let labels = labels_of(DNS.0, &[("k8s-app", "kube-dns")]);
        inventory.pods.insert(dns.clone(), pod(dns, labels, DNS_POD).into());
        for (number, random) in self.pods.iter().enumerate() {
            let name = name(random.namespace, &format!("pod-{number}"));
            let labels = labels_of(random.namespace, &random.labels);
            let [v4, v6] = pod_addresses(number);
            let mut pod = pod(name.clone(), labels, [&v4, &v6]);
            if let Some((named, protocol, port)) = random.port {
                Arc::make_mut(&mut pod.ports).insert(named.to_owned(), vec![(protocol, port)]);
            }
            inventory.pods.insert(name, pod.into());
        }
        for (name, addresses, health, role) in [
            ("here", HOST, [].as_slice(), "worker"),
            ("there", REMOTE, HEALTH.as_slice(), "gateway"),
        ] {
            let node = ClusterNode {
                name: name.to_owned(),
                labels: [Label::node("role", role)].into_iter().collect(),
                addresses: addresses.map(ip).to_vec(),
                health_addresses: health.iter().map(|text| ip(text)).collect(),
                pod_prefixes: vec!["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
            };
            inventory.nodes.insert(name.to_owned(), node.into());
        }
        inventory
    }

    /// Everything that packets are sent to, with what the rules know of it.
    pub fn targets(&self) -> Vec<Target> {
        let mut targets = self.addresses();
        for service in self.services().values() {
            for address in service.addresses.clone() {
                let place = Place::Service(self.frontends(service, address, false), None);
                targets.push(Target { address, place });
            }
        }
        // The port of a service at the node's addresses is met before the node itself.
        let inside = &self.services()[&name("other", "inside")];
        for target in targets.iter_mut().filter(|own| HOST.map(ip).contains(&own.address)) {
            let frontends = self.frontends(inside, target.address, true);
            target.place = Place::Service(frontends, Some(Box::new(target.place.clone())));
        }
        for target in targets.iter_mut().filter(|own| REMOTE.map(ip).contains(&own.address)) {
            let frontends = self.frontends(inside, target.address, true);
            target.place = Place::Service(frontends, Some(Box::new(target.place.clone())));
        }
        let unused = UNUSED
            .map(ip)
            .map(|address| Target { address, place: Place::Service(Vec::new(), None) });
        targets.extend(unused);
        targets
    }

    fn frontends(&self, service: &Service, address: IpAddr, at_node: bool) -> Vec<Frontend> {
        let all = self.addresses();
        // A name opens the addresses it resolves to, never a service in front of them.
        let nameless = |target: &Target| match &target.place {
            Place::Outside(labels, _) => {
                Target { place: Place::Outside(labels.clone(), Vec::new()), ..target.clone() }
            }
            Place::Inside(_) | Place::Service(..) => target.clone(),
        };
        let find = |own: IpAddr| nameless(all.iter().find(|target| target.address == own).unwrap());
        let ports = service.ports.iter().filter_map(|port| {
            let number = if at_node { port.node_port? } else { port.port };
            let family = port.backends.iter().filter(|own| own.is_ipv4() == address.is_ipv4());
            let backends = family.map(|own| (find(own.ip()), own.port())).collect();
            Some(Frontend { protocol: port.protocol, port: number, backends })
        });
        ports.collect()
    }

    /// Every address that is no service's, with the labels it carries.
    fn addresses(&self) -> Vec<Target> {
        let mut inside: Vec<([IpAddr; 2], Labels)> = vec![
            (DNS_POD.map(ip), labels_of(DNS.0, &[("k8s-app", "kube-dns")])),
            (UNMANAGED.map(ip), reserved("unmanaged")),
            (HEALTH.map(ip), reserved("health")),
        ];
        for (addresses, entity, role) in
            [(HOST, "host", "worker"), (REMOTE, "remote-node", "gateway")]
        {
            let mut labels = reserved(entity);
            labels.insert(Label::node("role", role));
            inside.push((addresses.map(ip), labels));
        }
        for (number, random) in self.pods.iter().enumerate() {
            let mut labels = labels_of(random.namespace, &random.labels);
            if let Some((named, protocol, port)) = random.port {
                labels.insert(Wants::port_label(named, protocol, port));
            }
            inside.push((pod_addresses(number).map(|text| ip(&text)), labels));
        }
        let mut targets = Vec::new();
        for (addresses, labels) in inside {
            targets.extend(addresses.map(|address| {
                let place = Place::Inside(self.with_services(address, labels.clone()));
                Target { address, place }
            }));
        }
        for address in WORLD.into_iter().chain(API).map(ip) {
            let mut own = Labels::default();
            if API.map(ip).contains(&address) {
                own = reserved("kube-apiserver");
            }
            let names = self.resolved.iter().filter(|(_, to)| *to == address);
            let names = names.map(|(name, _)| name.clone()).collect();
            let place = Place::Outside(self.with_services(address, own), names);
            targets.push(Target { address, place });
        }
        targets
    }

    /// These labels, and those of the services that the address is behind.
    fn with_services(&self, address: IpAddr, mut labels: Labels) -> Labels {
        for (name, service) in &self.services() {
            if service.backends.contains(&address) {
                labels.insert(Wants::service_label(name));
            }
        }
        labels
    }

    fn services(&self) -> Objects<EndpointName, Service> {
        let pods: Vec<IpAddr> =
            (0..2).flat_map(|number| pod_addresses(number).map(|own| ip(&own))).collect();
        let outside = ["203.0.113.6", "2001:db8:1::6"].map(ip);
        let all = [
            service(
                ("other", "inside"),
                &INSIDE,
                (80, 8_080, Some(30_080)),
                &pods,
                &["TCP", "UDP"],
            ),
            service(("default", "outside"), &OUTSIDE, (443, 443, None), &outside, &["TCP"]),
            service(
                ("default", "kubernetes"),
                &API_SERVICE,
                (443, 443, None),
                &API.map(ip),
                &["TCP"],
            ),
            service(
                DNS,
                &["10.96.0.10", "fd96::10"],
                (53, 53, None),
                &DNS_POD.map(ip),
                &["TCP", "UDP"],
            ),
        ];
        let mut services: Objects<_, _> =
            all.into_iter().map(|own| (own.name.clone(), Arc::new(own))).collect();
        let named = name("default", "named");
        let mut external = service(("default", "named"), &[], (1, 1, None), &[], &[]);
        external.external_name = Some("a.example".parse().unwrap());
        services.insert(named, external.into());
        services
    }
}

fn service(
    (namespace, own): (&str, &str),
    addresses: &[&str],
    (port, target, node_port): (u16, u16, Option<u16>),
    backends: &[IpAddr],
    protocols: &[&str],
) -> Service {
    let tier = if own == "inside" { "x" } else { "y" };
    let protocol = |text: &&str| if *text == "TCP" { Protocol::TCP } else { Protocol::UDP };
    let ports = protocols.iter().map(|text| ServicePort {
        name: text.to_lowercase(),
        protocol: protocol(text),
        port,
        node_port,
        backends: backends.iter().map(|own| SocketAddr::new(*own, target)).collect(),
    });
    Service {
        name: name(namespace, own),
        labels: [Label::kubernetes("tier", tier)].into_iter().collect(),
        selects_pods: true,
        external_name: None,
        addresses: addresses.iter().map(|text| ip(text)).collect(),
        ports: ports.collect(),
        backends: backends.to_vec(),
    }
}

fn groups() -> Objects<String, CidrGroup> {
    let prefixes = ["203.0.113.4/30", "2001:db8:2::/64"].map(|text| text.parse().unwrap());
    let group = CidrGroup {
        name: "partners".to_owned(),
        labels: [Label::kubernetes("trust", "some")].into_iter().collect(),
        prefixes: prefixes.to_vec(),
    };
    std::iter::once((group.name.clone(), Arc::new(group))).collect()
}

fn pod(name: EndpointName, labels: Labels, addresses: [&str; 2]) -> Pod {
    Pod {
        name,
        uid: String::new(),
        labels,
        addresses: addresses.map(ip).to_vec(),
        extra_sources: Vec::new(),
        attachment: None,
        host_network: false,
        ports: Arc::default(),
    }
}

fn pod_addresses(number: usize) -> [String; 2] {
    [format!("10.0.0.{}", 20 + number), format!("fd00::2{number}")]
}

fn labels_of(namespace: &str, own: &[(&str, &str)]) -> Labels {
    let own: BTreeMap<_, _> = own.iter().copied().collect();
    let namespace = Label::kubernetes(Labels::NAMESPACE, namespace);
    let own = own.into_iter().map(|(key, value)| Label::kubernetes(key, value));
    own.chain([namespace]).collect()
}

fn reserved(name: &str) -> Labels {
    let label = Label { key: name.to_owned(), source: Source::Reserved, value: String::new() };
    [label].into_iter().collect()
}

fn name(namespace: &str, name: &str) -> EndpointName {
    EndpointName { namespace: namespace.to_owned(), name: name.to_owned() }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
