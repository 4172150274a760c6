//! What the fields that name destinations select.

use model::{CidrGroup, EndpointName, Service};

use super::*;

#[test]
fn exceptions_take_away_from_their_own_entry_only() {
    let table = table(&["
  endpointSelector: {}
  egress:
  - toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}]
    toPorts: [{ports: [{port: '80', protocol: TCP}]}]
  - toCIDRSet: [{cidr: 10.1.0.0/16}, {cidr: 10.2.0.0/16, except: [10.2.0.0/16]}]
    toPorts: [{ports: [{port: '443', protocol: TCP}]}]"]);
    let prefixes: Vec<String> = table.prefixes().map(|prefix| prefix.to_string()).collect();
    assert_eq!(prefixes, ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"]);
    assert_eq!(shown(&table.rows(outside("10.0.0.0/8"))), ["80/TCP allow"]);
    assert_eq!(shown(&table.rows(outside("10.1.0.0/16"))), ["443/TCP allow"]);
    assert_eq!(shown(&table.rows(outside("10.1.2.3/32"))), ["443/TCP allow"]);
    assert_eq!(shown(&table.rows(outside("10.2.0.0/16"))), ["80/TCP allow"]);
    assert_eq!(table.rows(Subject::Labels(&pod("prod", "db"))), []);
}

#[test]
fn entities_are_label_sets_and_the_world() {
    let reserved = |names: &[&str]| -> Labels {
        let label = |name: &&str| Label {
            key: (*name).to_owned(),
            source: Source::Reserved,
            value: String::new(),
        };
        names.iter().map(label).collect()
    };
    let allows = |entity: &str, subject: Subject<'_>| {
        let table =
            table(&[&format!("{{endpointSelector: {{}}, egress: [{{toEntities: [{entity}]}}]}}")]);
        !table.rows(subject).is_empty() || !table.rows(Subject::Any).is_empty()
    };
    let (host, node, api) =
        (reserved(&["host"]), reserved(&["remote-node"]), reserved(&["kube-apiserver"]));
    let pod = pod("dev", "db");
    let world = outside("9.9.9.9/32");
    let outer_api = Subject::Outside { prefix: "9.9.9.9/32".parse().unwrap(), labels: &api };
    let inner = [&host, &node, &api, &pod].map(Subject::Labels);
    let all = |entity: &str| {
        let inner = inner.map(|subject| allows(entity, subject));
        (inner, [world, outside("fd00::/8"), outer_api].map(|subject| allows(entity, subject)))
    };
    assert_eq!(all("all"), ([true; 4], [true; 3]));
    assert_eq!(all("none"), ([false; 4], [false; 3]));
    assert_eq!(all("cluster"), ([true; 4], [false, false, true]));
    assert_eq!(all("world"), ([false; 4], [true; 3]));
    assert_eq!(all("world-ipv4"), ([false; 4], [true, false, true]));
    assert_eq!(all("world-ipv6"), ([false; 4], [false, true, false]));
    assert_eq!(all("host"), ([true, false, false, false], [false; 3]));
    assert_eq!(all("remote-node"), ([false, true, false, false], [false; 3]));
    assert_eq!(all("kube-apiserver"), ([false, false, true, false], [false, false, true]));
    assert_eq!(all("health, init, ingress, unmanaged"), ([false; 4], [false; 3]));
}

#[test]
fn named_ports_are_those_of_each_pod() {
    let table = table(&["
  endpointSelector: {}
  egress:
  - toEndpoints: [{matchLabels: {k8s-app: web}}]
    toPorts: [{ports: [{port: HTTP, protocol: TCP}]}]
  - toPorts: [{ports: [{port: metrics}]}]"]);
    let wanted: Vec<String> = table.wants().ports.into_iter().collect();
    assert_eq!(wanted, ["http", "metrics"]);
    let with = |app: &str, ports: &[(&str, u16)]| -> Labels {
        let named = ports.iter().map(|(name, port)| Wants::port_label(name, Protocol::TCP, *port));
        pod("prod", app).iter().cloned().chain(named).collect()
    };
    let rows = |labels: &Labels| shown(&table.rows(Subject::Labels(labels)));
    assert_eq!(
        rows(&with("web", &[("http", 8080), ("metrics", 9)])),
        ["9/TCP allow", "8080/TCP allow"]
    );
    assert_eq!(rows(&with("db", &[("http", 8080), ("metrics", 9)])), ["9/TCP allow"]);
    assert_eq!(rows(&with("web", &[])), Vec::<String>::new());
    assert_eq!(table.rows(Subject::Any), []);
}

#[test]
fn services_are_their_backends_and_names() {
    let specs = ["
  endpointSelector: {}
  egress:
  - toServices: [{k8sService: {serviceName: db, namespace: prod}}]
    toPorts: [{ports: [{port: '5432', protocol: TCP}]}]
  - toServices: [{k8sServiceSelector: {selector: {matchLabels: {team: pay}}}}]"];
    let rules: Vec<Arc<Rule>> = specs.iter().flat_map(|spec| policy(spec).rules).collect();
    let name = |name: &str| EndpointName { namespace: "prod".into(), name: name.into() };
    let team = labels(&[("team", "pay")]);
    let service = |own: &str, external: Option<&str>| {
        let external_name = external.map(|text| text.parse().unwrap());
        let service = Service { labels: team.clone(), external_name, ..Service::new(name(own)) };
        (name(own), Arc::new(service))
    };
    let services = [service("bill", None), service("card", Some("card.com"))];
    let context = Context { services: services.into_iter().collect(), ..Context::default() };
    let table = Table::compile(&rules, &context);
    let wanted: Vec<String> = table.wants().services.iter().map(ToString::to_string).collect();
    assert_eq!(wanted, ["prod/bill", "prod/db"]);
    let backend =
        |service: &str| -> Labels { [Wants::service_label(&name(service))].into_iter().collect() };
    let outer = backend("db");
    let outer = Subject::Outside { prefix: "9.9.9.9/32".parse().unwrap(), labels: &outer };
    assert_eq!(shown(&table.rows(Subject::Labels(&backend("db")))), ["5432/TCP allow"]);
    assert_eq!(shown(&table.rows(outer)), ["5432/TCP allow"]);
    assert_eq!(shown(&table.rows(Subject::Labels(&backend("bill")))), ["any allow"]);
    assert_eq!(shown(&table.rows(Subject::Labels(&backend("other")))), Vec::<String>::new());
    assert_eq!(shown(&table.rows(Subject::Names(&[SelectorId(0)]))), ["any allow"]);
    let unready = |own: &str| shown(&table.rows(Subject::Service(&name(own))));
    assert_eq!((unready("db"), unready("other")), (vec!["5432/TCP allow".to_owned()], Vec::new()));
    let other = Context::default();
    assert_ne!(context.canonical_for(&rules), other.canonical_for(&rules));
    assert_eq!(context.canonical_for(&[]), other.canonical_for(&[]));
}

#[test]
fn groups_of_prefixes_are_looked_up() {
    let rules = policy(
        "
  endpointSelector: {}
  egress:
  - toCIDRSet: [{cidrGroupRef: office, except: [9.1.0.0/16]}, {cidrGroupRef: gone}]
  - toCIDRSet: [{cidrGroupSelector: {matchLabels: {a: b}}}]
    toPorts: [{ports: [{port: '1', protocol: TCP}]}]",
    )
    .rules;
    let group = |name: &str, labels: Labels, prefix: &str| {
        let prefixes = vec![prefix.parse().unwrap()];
        (name.to_owned(), Arc::new(CidrGroup { name: name.to_owned(), labels, prefixes }))
    };
    let groups = [
        group("office", Labels::default(), "9.0.0.0/8"),
        group("other", labels(&[("a", "b")]), "8.0.0.0/8"),
    ];
    let context = Context { cidr_groups: groups.into_iter().collect(), ..Context::default() };
    let table = Table::compile(&rules, &context);
    assert_eq!(shown(&table.rows(outside("9.0.0.0/8"))), ["any allow"]);
    assert_eq!(shown(&table.rows(outside("9.1.0.0/16"))), Vec::<String>::new());
    assert_eq!(shown(&table.rows(outside("8.0.0.0/8"))), ["1/TCP allow"]);
}
