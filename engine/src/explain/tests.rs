//! What is said of packets and lookups in a small cluster, with policies written as text.

mod audited;
mod changes;
mod kernel;

use std::net::SocketAddr;
use std::path::Path;

use model::{ClusterNode, Interface, Label, Labels, Pod, Prefix, Service, ServicePort};
use policy::{Document, Policy};

use super::*;

const DNS_RULE: &str = "\
- toEndpoints: [{matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}}]
  toPorts: [{ports: [{port: '1053', protocol: ANY}], rules: {dns: [{matchName: a.com}]}}]
";

/// A cluster of a few pods, services and nodes, with policies for the pod `prod/web`.
struct Cluster {
    inventory: Inventory,
    settings: Settings,
    guard: Guard,
}

fn name(text: &str) -> EndpointName {
    let (namespace, name) = text.split_once('/').unwrap();
    EndpointName { namespace: namespace.into(), name: name.into() }
}

fn pod(full: &str, labels: &[(&str, &str)], addresses: &[&str]) -> Pod {
    let name = name(full);
    let mut own: Labels = labels.iter().map(|(k, v)| Label::kubernetes(*k, *v)).collect();
    own.insert(Label::kubernetes(Labels::NAMESPACE, &*name.namespace));
    Pod {
        name,
        uid: String::new(),
        labels: own,
        addresses: addresses.iter().map(|own| own.parse().unwrap()).collect(),
        extra_sources: Vec::new(),
        attachment: None,
        host_network: false,
        ports: Arc::new([("sql".to_owned(), vec![(Protocol::TCP, 5432)])].into()),
    }
}

fn service(full: &str, addresses: &[&str], port: u16, backends: &[&str]) -> Service {
    let backends: Vec<SocketAddr> = backends.iter().map(|own| own.parse().unwrap()).collect();
    let port = |protocol| ServicePort {
        name: String::new(),
        protocol,
        port,
        node_port: Some(30_000 + port),
        backends: backends.clone(),
    };
    Service {
        name: name(full),
        labels: Labels::default(),
        selects_pods: true,
        external_name: None,
        addresses: addresses.iter().map(|own| own.parse().unwrap()).collect(),
        ports: vec![port(Protocol::TCP), port(Protocol::UDP)],
        backends: backends.iter().map(SocketAddr::ip).collect(),
    }
}

/// The metadata of a policy that is audited.
const AUDITED: &str = "name: web, annotations: {fqdnd.io/audit: 'true'}";

fn document(metadata: &str, spec: &str) -> String {
    let indented: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{namespace: prod, {metadata}}}
spec:
  endpointSelector: {{matchLabels: {{app: web}}}}
{indented}"
    )
}

impl Cluster {
    /// With one policy of `prod` for `app: web`, whose `spec` goes on with this text.
    fn new(spec: &str) -> Self {
        Self::with(&document("name: web", spec))
    }

    /// The same, of an audited policy.
    fn audited(spec: &str) -> Self {
        Self::with(&document(AUDITED, spec))
    }

    fn with(policies: &str) -> Self {
        let file: Arc<Path> = Path::new("web.yaml").into();
        let (documents, problems) = Document::read_all(&file, policies);
        assert_eq!(problems, []);
        let policies = documents.iter().map(|own| Arc::new(Policy::read(own).unwrap()));
        let pods = [
            pod("prod/web", &[("app", "web")], &["10.0.0.1", "fd00::1"]),
            pod("prod/db", &[("app", "db"), ("pod-template-hash", "x1")], &["10.0.0.2", "fd00::2"]),
            pod("other/db", &[("tier", "data")], &["10.0.0.3"]),
            pod("kube-system/dns", &[("k8s-app", "kube-dns")], &["10.0.0.9"]),
        ];
        let services = [
            service("kube-system/kube-dns", &["10.96.0.10"], 53, &["10.0.0.9:1053"]),
            service(
                "prod/db",
                &["10.96.0.2", "fd96::2"],
                5432,
                &["10.0.0.2:15432", "10.0.0.3:25432"],
            ),
            service("prod/empty", &["10.96.0.3"], 80, &[]),
            service("default/kubernetes", &["10.96.0.1"], 443, &["192.0.2.200:6443"]),
            service("prod/bare", &[], 5432, &["10.0.0.2:15432"]),
        ];
        let node = |name: &str, address: &str| ClusterNode {
            name: name.into(),
            labels: [Label::node("role", name)].into_iter().collect(),
            addresses: vec![address.parse().unwrap()],
            health_addresses: Vec::new(),
            pod_prefixes: Vec::new(),
        };
        let nodes = [node("here", "192.0.2.1"), node("there", "192.0.2.2")];
        let mut inventory = Inventory {
            pods: pods.into_iter().map(|own| (own.name.clone(), Arc::new(own))).collect(),
            services: services.into_iter().map(|own| (own.name.clone(), Arc::new(own))).collect(),
            nodes: nodes.into_iter().map(|own| (own.name.clone(), Arc::new(own))).collect(),
            policies: policies.map(|own| (own.key.clone(), own)).collect(),
            host_addresses: ["192.0.2.1".parse().unwrap()].into(),
            ..Inventory::default()
        };
        inventory.bindings.bound.insert(name("prod/web"), Interface(7));
        let prefix = |text: &str| text.parse::<Prefix>().unwrap();
        Self {
            inventory,
            settings: Settings {
                dns_service: name("kube-system/kube-dns"),
                service_prefixes: vec![prefix("10.96.0.0/16")],
                pod_prefixes: vec![prefix("10.0.0.0/16")],
                api_servers: Vec::new(),
                sets_per_table: 64,
                identities: 1024,
            },
            guard: Guard {
                internal_domains: vec!["cluster.local".parse().unwrap()],
                cluster_prefixes: vec![prefix("10.0.0.0/16")],
                allow: Vec::new(),
            },
        }
    }

    fn known(&self) -> Known<'_> {
        Known { inventory: &self.inventory, settings: &self.settings, guard: &self.guard }
    }

    fn ask(&self, to: &str, port: &str, resolved: &[(&str, &str)]) -> Explanation {
        explain(self.known(), &question(to, port, resolved)).unwrap()
    }

    fn said(&self, to: &str, port: &str) -> String {
        self.said_of(to, port, &[])
    }

    fn said_of(&self, to: &str, port: &str, resolved: &[(&str, &str)]) -> String {
        let Explanation { outcome, reason, decided, .. } = self.ask(to, port, resolved);
        let lines: Vec<_> = decided.iter().map(|own| own.entry.line.to_string()).collect();
        let said = [outcome.as_str(), reason.as_str(), &lines.join(",")];
        said.join(" ").trim_end().to_owned()
    }

    fn changes(&self, to: &str, port: &str) -> String {
        let shown = |change: Change| {
            let Change { kind, line, field, yaml, .. } = change;
            format!("{kind:?} {field} at {line}\n{yaml}")
        };
        self.ask(to, port, &[]).changes.into_iter().map(shown).collect::<Vec<_>>().join("\n")
    }
}

fn question(to: &str, port: &str, resolved: &[(&str, &str)]) -> Question {
    let (number, protocol) = port.split_once('/').unwrap();
    let known = [Protocol::TCP, Protocol::UDP, Protocol::SCTP, Protocol::ICMP];
    Question {
        from: name("prod/web"),
        to: to.parse().unwrap(),
        protocol: known.into_iter().find(|own| own.to_string() == protocol).unwrap(),
        port: number.parse().unwrap(),
        asks: None,
        resolved: resolved
            .iter()
            .map(|(name, address)| Resolved {
                name: name.parse().unwrap(),
                address: address.parse().unwrap(),
                expired: false,
            })
            .collect(),
        closed: None,
    }
}

#[test]
fn a_pod_is_judged_by_its_labels_and_by_each_of_its_addresses() {
    let cluster = Cluster::new("egress:\n- toEndpoints: [{matchLabels: {app: db}}]");
    assert_eq!(cluster.said("prod/db", "5432/TCP"), "allow allow-rule 7");
    assert_eq!(cluster.said("10.0.0.2", "5432/TCP"), "allow allow-rule 7");
    assert_eq!(cluster.said("other/db", "5432/TCP"), "deny policy-denied");
    let both = cluster.ask("prod/db", "5432/TCP", &[]);
    let shown: Vec<&str> = both.destinations.iter().map(|own| &*own.destination).collect();
    assert_eq!(shown, ["pod prod/db at 10.0.0.2", "pod prod/db at fd00::2"]);
    assert_eq!((both.default_deny, both.changes.len()), (DefaultDeny::Enforced, 0));
}

#[test]
fn a_named_port_is_the_destination_pods_own() {
    let cluster = Cluster::new("egress: [{toPorts: [{ports: [{port: sql, protocol: TCP}]}]}]");
    assert_eq!(cluster.said("prod/db", "5432/TCP"), "allow allow-rule 6");
    assert_eq!(cluster.said("prod/db", "5433/TCP"), "deny policy-denied");
    assert_eq!(cluster.said("198.51.100.1", "5432/TCP"), "deny policy-denied");
}

#[test]
fn a_service_is_judged_by_its_backends_at_their_ports() {
    let one = Cluster::new(
        "egress: [{toEndpoints: [{matchLabels: {app: db}}], toPorts: [{ports: [{port: '15432'}]}]}]",
    );
    let denied = one.ask("service:prod/db", "5432/TCP", &[]);
    assert_eq!(denied.destinations[0].destination, "service prod/db at 10.96.0.2, 10.0.0.3:25432");
    let both = Cluster::new(
        "egress:
- toEndpoints: [{matchLabels: {app: db}}]
- toEndpoints: [{matchLabels: {k8s:io.kubernetes.pod.namespace: other}}]",
    );
    assert_eq!(both.said("10.96.0.2", "5432/TCP"), "allow allow-rule 7,8");
    // Its IPv6 address has no backend of its family, so no rule for backends opens it.
    assert_eq!(both.said("service:prod/db", "5432/TCP"), "deny policy-denied");
    assert_eq!(both.said("service:prod/bare", "15432/TCP"), "allow allow-rule 7");
    assert_eq!(both.said("service:prod/db", "5433/TCP"), "deny no-service");
    assert_eq!(both.said("service:prod/empty", "80/TCP"), "deny policy-denied");
    assert_eq!(both.said("10.96.9.9", "80/TCP"), "deny no-service");
    let own = "egress: [{toServices: [{k8sService: {serviceName: empty, namespace: prod}}]}]";
    assert_eq!(Cluster::new(own).said("service:prod/empty", "80/TCP"), "allow allow-rule 6");
}

#[test]
fn a_node_port_is_the_services_and_not_the_nodes() {
    let cluster = Cluster::new("egress: [{toEntities: [host]}]");
    assert_eq!(cluster.said("192.0.2.1", "80/TCP"), "allow allow-rule 6");
    assert_eq!(cluster.said("192.0.2.1", "35432/TCP"), "deny policy-denied");
}

#[test]
fn a_name_counts_for_the_addresses_it_resolved_to() {
    let cluster = Cluster::new(&format!("egress:\n- toFQDNs: [{{matchName: a.com}}]\n{DNS_RULE}"));
    let resolved = [("a.com", "203.0.113.1"), ("b.com", "203.0.113.2")];
    assert_eq!(cluster.said_of("a.com", "443/TCP", &resolved), "allow allow-rule 7");
    assert_eq!(cluster.said_of("203.0.113.1", "443/TCP", &resolved), "allow allow-rule 7");
    assert_eq!(cluster.said_of("203.0.113.2", "443/TCP", &resolved), "deny policy-denied");
    assert_eq!(cluster.said("203.0.113.1", "443/TCP"), "deny policy-denied");
    assert_eq!(cluster.said("a.com", "443/TCP"), "allow allow-rule 7");
    let asked = |to: &str| {
        let lookup = cluster.ask(to, "443/TCP", &[]).lookup.unwrap();
        (lookup.outcome, lookup.reason)
    };
    assert_eq!(asked("a.com"), (Outcome::Redirect, Reason::DnsRule));
    assert_eq!(asked("b.com"), (Outcome::Deny, Reason::NameRefused));
}

#[test]
fn an_address_that_a_name_must_not_bring_does_not_count() {
    let spec = "egress: [{toFQDNs: [{matchName: a.com}]}]";
    let ask = |cluster: &Cluster| cluster.ask("a.com", "80/TCP", &[("a.com", "192.168.7.7")]);
    let refused = ask(&Cluster::new(spec));
    assert_eq!(refused.outcome, Outcome::Deny);
    assert_eq!(
        refused.notes,
        ["that a.com. resolves there does not count: 192.168.7.7 is a private address"]
    );
    let lifted = "apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: prod, annotations: {fqdnd.io/allow-private: 'true'}}
spec: {endpointSelector: {}, egress: [{toFQDNs: [{matchName: a.com}]}]}";
    assert_eq!(ask(&Cluster::with(lifted)).outcome, Outcome::Allow);
}

#[test]
fn an_expired_lease_opens_nothing_and_is_named() {
    let cluster = Cluster::new("egress: [{toFQDNs: [{matchName: a.com}]}]");
    let mut question = question("203.0.113.1", "80/TCP", &[("a.com", "203.0.113.1")]);
    question.resolved[0].expired = true;
    let explanation = explain(cluster.known(), &question).unwrap();
    assert_eq!(explanation.reason, Reason::Dropped(DropReason::LeaseExpired));
    assert_eq!(explanation.decided[0].entry.line, 6);
    assert_eq!(explanation.changes, []);
}

#[test]
fn an_entity_passes_if_all_it_stands_for_does() {
    let cluster = Cluster::new("egress: [{toEntities: [cluster, world-ipv4]}]");
    assert_eq!(cluster.said("entity:cluster", "80/TCP"), "allow allow-rule 6");
    assert_eq!(cluster.said("entity:remote-node", "80/TCP"), "allow allow-rule 6");
    assert_eq!(cluster.said("entity:kube-apiserver", "80/TCP"), "allow allow-rule 6");
    assert_eq!(cluster.said("entity:world-ipv4", "80/TCP"), "allow allow-rule 6");
    assert_eq!(cluster.said("entity:world", "80/TCP"), "deny policy-denied");
    assert_eq!(cluster.said("entity:all", "80/TCP"), "deny policy-denied");
    let none = explain(cluster.known(), &question("entity:none", "80/TCP", &[]));
    assert_eq!(none.unwrap_err(), ExplainError::EmptyEntity(Entity::None));
}

#[test]
fn a_question_of_dns_is_redirected_and_its_name_judged() {
    let cluster = Cluster::new(&format!("egress:\n{DNS_RULE}"));
    let ask = |asks: Option<&str>| {
        let question = Question {
            asks: asks.map(|name| name.parse().unwrap()),
            ..question("service:kube-system/kube-dns", "53/UDP", &[])
        };
        explain(cluster.known(), &question).unwrap()
    };
    assert_eq!((ask(None).outcome, ask(None).reason), (Outcome::Redirect, Reason::DnsRule));
    assert_eq!(ask(Some("a.com")).outcome, Outcome::Redirect);
    let refused = ask(Some("b.com"));
    assert_eq!((refused.outcome, refused.reason), (Outcome::Deny, Reason::NameRefused));
    let [change] = &refused.changes[..] else { panic!("{:?}", refused.changes) };
    assert_eq!(change.field, "spec.egress[0].toPorts[0].rules.dns");
    assert_eq!(change.yaml, "- matchName: \"b.com\"");
}

#[test]
fn a_pod_that_no_policy_selects_sends_anywhere_unless_its_interface_is_closed() {
    let cluster = Cluster::with("");
    let open = cluster.ask("203.0.113.1", "9/SCTP", &[]);
    assert_eq!((open.outcome, open.reason), (Outcome::Allow, Reason::NoPolicy));
    assert_eq!((open.default_deny, open.policies.len()), (DefaultDeny::None, 0));
    let question = Question {
        closed: Some(DropReason::EndpointConflict),
        ..question("203.0.113.1", "9/SCTP", &[])
    };
    let closed = explain(cluster.known(), &question).unwrap();
    assert_eq!(closed.reason, Reason::Dropped(DropReason::EndpointConflict));
    assert_eq!(closed.changes, []);
}

#[test]
fn unknown_pods_and_services_are_errors() {
    let cluster = Cluster::with("");
    let error = |question: &Question| explain(cluster.known(), question).unwrap_err().to_string();
    assert_eq!(error(&question("prod/no", "1/TCP", &[])), "there is no pod `prod/no`");
    assert_eq!(error(&question("service:prod/no", "1/TCP", &[])), "there is no service `prod/no`");
    let from = Question { from: name("no/web"), ..question("prod/db", "1/TCP", &[]) };
    assert_eq!(error(&from), "there is no pod `no/web`");
}
