use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use model::{CidrGroup, EndpointName, Label, Name, Service, Verdict};

use super::*;
use crate::rule::{Egress, EndpointPeer, Origin, Peers, PolicyKey, PortRule, PrefixPeer, Spot};
use crate::selector::{LabelSelector, Requirement};
use crate::{Document, Options, Policy};

mod audited;
mod change;
mod reference;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| Label::kubernetes(*key, *value)).collect()
}

fn pod(namespace: &str, app: &str) -> Labels {
    labels(&[(Labels::NAMESPACE, namespace), ("k8s-app", app)])
}

/// The table of all endpoints of the namespace `prod`, in a cluster with one DNS pod.
fn table(specs: &[&str]) -> Table {
    table_with(specs, Options::default())
}

fn table_with(specs: &[&str], options: Options) -> Table {
    let rules: Vec<Arc<Rule>> =
        specs.iter().flat_map(|spec| policy_with(spec, options).rules).collect();
    Table::compile(&rules, &context())
}

fn context() -> Context {
    Context { dns_pods: [pod("kube-system", "kube-dns")].into(), ..Context::default() }
}

fn policy(spec: &str) -> Policy {
    policy_with(spec, Options::default())
}

fn policy_with(spec: &str, options: Options) -> Policy {
    let text = format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
         metadata: {{name: web, namespace: prod}}\nspec: {spec}\n"
    );
    let (documents, _) = Document::read_all(&Arc::from(Path::new("p.yaml")), &text);
    Policy::read_with(&documents[0], options).unwrap()
}

fn shown(rows: &[TableRow]) -> Vec<String> {
    rows.iter().map(show).collect()
}

fn show(row: &TableRow) -> String {
    match &row.filter {
        None => format!("{} {}", row.ports, row.ruling),
        Some(filter) if filter.allows_all() => format!("{} {} all", row.ports, row.ruling),
        Some(filter) => {
            let patterns: Vec<&str> = filter.patterns().iter().map(Pattern::as_str).collect();
            format!("{} {} {}", row.ports, row.ruling, patterns.join(" "))
        }
    }
}

/// Addresses under a prefix that carry no label of their own.
fn outside(prefix: &str) -> Subject<'static> {
    static NONE: LazyLock<Labels> = LazyLock::new(Labels::default);
    Subject::Outside { prefix: prefix.parse().unwrap(), labels: &NONE }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[test]
fn destinations_are_answered_level_by_level() {
    let table = table(&["
  endpointSelector: {}
  egress:
  - toEndpoints: [{matchLabels: {k8s-app: db}}]
    toPorts: [{ports: [{port: '5432', protocol: TCP}]}]
  - toCIDR: [10.0.0.0/8, 'fd00::/8']
    toPorts: [{ports: [{port: '80', endPort: 81, protocol: TCP}]}]
  - toCIDR: [10.1.0.0/16]
  - toFQDNs: [{matchPattern: '*.example.com'}, {matchName: example.com}]
    toPorts: [{ports: [{port: '443', protocol: TCP}]}]
  - toFQDNs: [{matchName: www.example.com}]
    toPorts: [{ports: [{port: '80', protocol: TCP}]}]
  - toPorts: [{ports: [{port: '123', protocol: UDP}]}]"]);
    assert_eq!(table.default_deny(), DefaultDeny::Enforced);
    assert_eq!(shown(&table.rows(Subject::Any)), ["123/UDP allow"]);
    assert_eq!(shown(&table.rows(Subject::Labels(&pod("prod", "db")))), ["5432/TCP allow"]);
    assert_eq!(shown(&table.rows(Subject::Labels(&pod("dev", "db")))), Vec::<String>::new());
    let prefix = |text: &str| shown(&table.rows(outside(text)));
    assert_eq!(prefix("10.2.0.0/16"), ["80-81/TCP allow"]);
    assert_eq!(prefix("10.1.2.3/32"), ["any allow"]);
    assert_eq!(prefix("fd00::1/128"), ["80-81/TCP allow"]);
    assert_eq!(prefix("0.0.0.0/0"), Vec::<String>::new());
    let prefixes: Vec<String> = table.prefixes().map(|prefix| prefix.to_string()).collect();
    assert_eq!(prefixes, ["10.0.0.0/8", "10.1.0.0/16", "fd00::/8"]);

    let selectors: Vec<&str> = table.selectors().map(|(_, own)| own.as_str()).collect();
    assert_eq!(selectors, ["*.example.com", "example.com", "www.example.com"]);
    let mut ids = Vec::new();
    table.selectors_of(name("www.example.com").as_ref(), &mut ids);
    assert_eq!(ids, [SelectorId(0), SelectorId(2)]);
    assert_eq!(shown(&table.rows(Subject::Names(&ids))), ["80/TCP allow", "443/TCP allow"]);
}

#[test]
fn an_empty_entry_denies_everything() {
    let table = table(&["{endpointSelector: {}, egress: [{}]}"]);
    assert_eq!(table.default_deny(), DefaultDeny::Enforced);
    assert_eq!(table.rows(Subject::Any), []);
    assert_eq!(table.rows(Subject::Labels(&pod("prod", "db"))), []);
}

#[test]
fn longer_ports_take_in_what_wider_ones_say() {
    let table = table(&["
  endpointSelector: {}
  egress:
  - toCIDR: [10.0.0.0/8]
    toPorts:
    - ports: [{port: '0', protocol: UDP}]
    - ports: [{port: '53'}]
      rules: {dns: [{matchName: a.com}]}
    - ports: [{port: '0', endPort: 1023, protocol: TCP}]
    - ports: [{port: '80', protocol: TCP}]
    - ports: [{port: '5353'}]
      rules: {dns: [{matchName: b.com}]}
    - ports: [{port: '5353', protocol: UDP}]
      rules: {dns: [{matchPattern: '*.c.com'}]}"]);
    let prefix = outside("10.0.0.0/8");
    assert_eq!(
        shown(&table.rows(prefix)),
        [
            "UDP allow",
            "0-1023/TCP allow",
            "53/TCP dns all",
            "5353/TCP dns b.com",
            "53/UDP dns all",
            "5353/UDP dns all",
        ]
    );
}

#[test]
fn rules_for_dns_unite_their_names() {
    let dns = |name: &str| {
        format!(
            "{{endpointSelector: {{}}, egress: [{{toCIDR: [9.9.9.9/32], toPorts: [{{ports: \
             [{{port: '53', protocol: UDP}}], rules: {{dns: [{{matchPattern: '{name}'}}]}}}}]}}]}}"
        )
    };
    let table = table(&[&dns("*.b.com"), &dns("a.com"), &dns("a.com")]);
    let rows = table.rows(outside("9.9.9.9/32"));
    assert_eq!(shown(&rows), ["53/UDP dns *.b.com a.com"]);
    let filter = rows[0].filter.as_ref().unwrap();
    assert!(filter.allows(name("a.com").as_ref()) && filter.allows(name("x.b.com").as_ref()));
    assert!(!filter.allows(name("b.com").as_ref()));
}

#[test]
fn rules_without_an_item_judge_nothing() {
    for rules in ["dns", "http", "kafka"] {
        let table = table(&[&format!(
            "{{endpointSelector: {{}}, egress: [{{toPorts: [{{ports: [{{port: '53', protocol: \
             TCP}}], rules: {{{rules}: []}}}}]}}]}}"
        )]);
        assert_eq!(shown(&table.rows(Subject::Any)), ["53/TCP allow"]);
    }
}

#[test]
fn rules_for_dns_reach_dns_pods_in_other_namespaces() {
    let table = table(&["
  endpointSelector: {}
  egress:
  - toEndpoints: [{matchLabels: {k8s-app: kube-dns}}]
    toPorts:
    - ports: [{port: '53', protocol: UDP}]
    - rules: {dns: [{matchPattern: '*.com'}]}"]);
    let rows = |namespace: &str| shown(&table.rows(Subject::Labels(&pod(namespace, "kube-dns"))));
    assert_eq!(rows("kube-system"), ["53/TCP dns *.com", "53/UDP dns *.com"]);
    assert_eq!(rows("prod"), ["53/TCP dns *.com", "53/UDP dns all"]);
    assert_eq!(rows("dev"), Vec::<String>::new());
}

#[test]
fn without_default_deny_the_rest_is_allowed_and_names_are_still_filtered() {
    let spec = "{endpointSelector: {}, enableDefaultDeny: {egress: false}, egress: [{toPorts: \
                [{ports: [{port: '53', protocol: UDP}], rules: {dns: [{matchName: a.com}]}}]}]}";
    let open = table(&[spec]);
    assert_eq!(open.default_deny(), DefaultDeny::None);
    assert_eq!(shown(&open.rows(Subject::Any)), ["any unruled", "53/UDP dns a.com"]);
    let filter = open.name_filter(&[], Protocol::UDP, 53).unwrap();
    assert!(filter.allows(name("a.com").as_ref()) && !filter.allows(name("b.com").as_ref()));
    assert_eq!(open.name_filter(&[], Protocol::TCP, 53), None);

    let closed = table(&[spec, "{endpointSelector: {}, egress: [{}]}"]);
    assert_eq!(closed.default_deny(), DefaultDeny::Enforced);
    assert_eq!(shown(&closed.rows(Subject::Any)), ["53/UDP dns a.com"]);
}

#[test]
fn a_plain_allow_on_another_level_lifts_the_filter() {
    let table = table(&["
  endpointSelector: {}
  egress:
  - toPorts: [{ports: [{port: '53', protocol: UDP}]}]
  - toCIDR: [9.0.0.0/8]
    toPorts: [{ports: [{port: '53'}], rules: {dns: [{matchName: a.com}]}}]"]);
    let level = [outside("9.0.0.0/8")];
    assert!(table.name_filter(&level, Protocol::UDP, 53).unwrap().allows_all());
    assert!(!table.name_filter(&level, Protocol::TCP, 53).unwrap().allows_all());
    assert_eq!(table.name_filter(&[], Protocol::UDP, 53), None);
}

#[test]
fn a_denial_beats_allows_whatever_their_width() {
    let table = table(&["
  endpointSelector: {}
  egress:
  - toCIDR: [9.0.0.0/8]
    toPorts:
    - ports: [{port: '443', protocol: TCP}, {port: '0', protocol: UDP}]
    - ports: [{port: '53', protocol: UDP}]
      rules: {dns: [{matchName: a.com}]}
  egressDeny:
  - toCIDR: [9.1.0.0/16]
    toPorts: [{ports: [{port: '400', endPort: 500, protocol: TCP}, {port: '53', protocol: UDP}]}]
  - toCIDR: [9.2.0.0/16]
  - toEntities: [all]
    toPorts: [{ports: [{port: '22', protocol: TCP}]}]"]);
    assert_eq!(
        shown(&table.rows(outside("9.0.0.0/8"))),
        ["UDP allow", "443/TCP allow", "53/UDP dns all"]
    );
    assert_eq!(
        shown(&table.rows(outside("9.1.0.0/16"))),
        [
            "UDP allow",
            "400-415/TCP deny",
            "416-447/TCP deny",
            "448-479/TCP deny",
            "480-495/TCP deny",
            "496-499/TCP deny",
            "500/TCP deny",
            "53/UDP deny",
        ]
    );
    assert_eq!(table.name_filter(&[outside("9.1.0.0/16")], Protocol::UDP, 53), None);
    assert!(table.name_filter(&[outside("9.0.0.0/8")], Protocol::UDP, 53).is_some());
    assert_eq!(shown(&table.rows(outside("9.2.0.0/16"))), ["any deny"]);
    assert_eq!(shown(&table.rows(Subject::Any)), ["22/TCP deny"]);
}

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

#[test]
fn icmp_types_stand_in_the_place_of_ports() {
    let table = table(&["
  endpointSelector: {}
  egress:
  - toEntities: [world]
    icmps: [{fields: [{type: 8}, {type: EchoRequest, family: IPv6}, {type: -1}]}]
  - toEndpoints: [{matchLabels: {k8s-app: db}}]"]);
    assert_eq!(shown(&table.rows(outside("0.0.0.0/0"))), ["8/ICMP allow", "128/ICMPv6 allow"]);
    assert_eq!(shown(&table.rows(Subject::Labels(&pod("prod", "db")))), ["any allow"]);
}

const JUDGED: &str = "
  endpointSelector: {}
  egress:
  - toCIDR: [9.0.0.0/8]
    toPorts:
    - {ports: [{port: '80', protocol: TCP}], rules: {http: [{method: GET}]}}
    - {ports: [{port: '443', protocol: ANY}], serverNames: [a.com]}
    - {ports: [{port: '9092', protocol: TCP}], rules: {kafka: [{role: produce}]}}
    - ports: [{port: '81', protocol: TCP}]
  - toCIDR: [9.1.0.0/16]
    toPorts: [{ports: [{port: '80', protocol: TCP}]}]
  - toCIDR: [8.0.0.0/8]
    authentication: {mode: required}
  - toGroups: [{aws: {region: r}}]";

#[test]
fn rules_for_what_is_said_send_tcp_to_the_proxy_and_keep_quic_out() {
    let table = table(&[JUDGED]);
    let outer = ["80/TCP proxy", "81/TCP allow", "443/TCP proxy", "9092/TCP proxy", "80/UDP proxy"];
    assert_eq!(shown(&table.rows(outside("9.0.0.0/8"))), [&outer[..], &["443/UDP proxy"]].concat());
    let inner = shown(&table.rows(outside("9.1.0.0/16")));
    assert_eq!(inner[0], "80/TCP allow", "a plain allow leaves nothing to judge");
}

#[test]
fn rules_for_what_is_said_count_beside_absent_default_deny() {
    let table = table(&["
  endpointSelector: {}
  enableDefaultDeny: {egress: false}
  egress: [{toCIDR: [9.0.0.0/8], toPorts: [{rules: {http: [{}]}}]}]"]);
    assert_eq!(shown(&table.rows(outside("9.0.0.0/8"))), ["80/TCP proxy", "80/UDP proxy"]);
    assert_eq!(shown(&table.rows(Subject::Any)), ["any unruled"]);
}

#[test]
fn alternatives_of_wider_ports_count_for_narrower_ones() {
    let table = table(&["
  endpointSelector: {}
  egress:
  - toPorts:
    - {ports: [{port: '8000', endPort: 8191, protocol: TCP}], serverNames: [a.com]}
    - {ports: [{port: '8080', protocol: TCP}], serverNames: [b.com]}"]);
    let said = |port| {
        let row = table.row_at(Subject::Any, Protocol::TCP, port);
        row.map(|row| (row.ruling, row.conversations.len()))
    };
    assert_eq!(said(8080), Some((Verdict::Proxy.into(), 2)));
    assert_eq!(said(8081), Some((Verdict::Proxy.into(), 1)));
    assert_eq!(said(8192), None);
    let rows = table.rows(Subject::Any);
    let at = |port| row_for(&rows, Protocol::TCP, port).map(|row| row.conversations.len());
    assert_eq!((at(8080), at(8081)), (Some(2), Some(1)));
}

#[test]
fn what_is_not_enforced_allows_nothing_and_hides_nothing() {
    let table = table_with(&[JUDGED], Options { l7: false, ..Options::default() });
    assert_eq!(shown(&table.rows(outside("9.0.0.0/8"))), ["81/TCP allow"]);
    assert_eq!(shown(&table.rows(outside("9.1.0.0/16"))), ["80/TCP allow", "81/TCP allow"]);
    assert_eq!(table.rows(outside("8.0.0.0/8")), []);
    let denied =
        self::table(&["{endpointSelector: {}, egressDeny: [{toGroups: [{aws: {region: r}}]}]}"]);
    assert_eq!(shown(&denied.rows(outside("8.0.0.0/8"))), ["any deny"]);
}

#[test]
fn no_rules_leave_everything_open() {
    let table = Table::compile(&[], &Context::default());
    assert_eq!(table.default_deny(), DefaultDeny::None);
    assert_eq!(shown(&table.rows(Subject::Any)), ["any unruled"]);
}

#[test]
fn filters_are_shared_while_they_are_held() {
    let table = table(&["{endpointSelector: {}, egress: [{toPorts: [{ports: [{port: '53'}], \
         rules: {dns: [{matchName: a.com}]}}]}]}"]);
    let rows = table.rows(Subject::Any);
    let filters: Vec<_> = rows.iter().filter_map(|row| row.filter.as_ref()).collect();
    assert!(filters.len() == 2 && Arc::ptr_eq(filters[0], filters[1]));
    assert_eq!(table.filters.made(), 1);
    drop(rows);
    assert_eq!(table.name_filter(&[], Protocol::UDP, 54), None);
    assert!(table.name_filter(&[], Protocol::UDP, 53).is_some());
    assert_eq!(table.filters.made(), 1);
}

#[test]
fn private_addresses_are_allowed_by_selector() {
    let rule = |name: &str, allow_private| {
        let peers = Peers::Names(vec![Pattern::match_name(name).unwrap()]);
        rule(vec![entry(peers, None)], allow_private, true)
    };
    let table = Table::compile(&[rule("a.com", false), rule("b.com", true)], &Context::default());
    assert!(!table.allow_private(SelectorId(0)) && table.allow_private(SelectorId(1)));
    assert!(!table.allow_private(SelectorId(2)));
}

#[test]
fn ten_thousand_rules_compile_in_about_linear_time() {
    let rules = |count: usize| -> Vec<Arc<Rule>> {
        let entry = |i: usize| {
            let selector = LabelSelector::everything()
                .and(Requirement::label("app", format!("a{i}")))
                .and(Requirement::label(Labels::NAMESPACE, "prod"));
            let peers = match i % 3 {
                0 => Peers::Endpoints(vec![EndpointPeer { selector, unscoped: None }]),
                1 => Peers::Names(vec![Pattern::match_pattern(&format!("*.x{i}.com")).unwrap()]),
                _ => Peers::Prefixes(vec![PrefixPeer::whole(Prefix::host(
                    std::net::IpAddr::from([10, 0, (i >> 8) as u8, i as u8]),
                ))]),
            };
            let ports = vec![open(vec![port(443)])];
            rule(vec![entry(peers, Some(ports))], false, true)
        };
        (0..count).map(entry).collect()
    };
    let once = |count: usize| {
        let rules = rules(count);
        let start = on_cpu();
        let table = Table::compile(&rules, &Context::default());
        let compiled = on_cpu() - start;
        for i in 0..1000 {
            let labels = labels(&[("app", &format!("a{i}")), (Labels::NAMESPACE, "prod")]);
            let rows = table.rows(Subject::Labels(&labels)).len();
            assert_eq!(rows, usize::from(i % 3 == 0));
        }
        [compiled, on_cpu() - start - compiled]
    };
    // The best of several, because other work on the machine only ever makes it slower.
    let time = |count| {
        (0..5).map(|_| once(count)).reduce(|a, b| [a[0].min(b[0]), a[1].min(b[1])]).unwrap()
    };
    let (few, many) = (time(1000), time(10_000));
    println!("compiled, 1,000 pods asked: 1,000 rules {few:?}, 10,000 rules {many:?}");
    // The clock of a thread may stand still for a tick.
    let few = few.map(|time| time + Duration::from_millis(5));
    assert!(many[0] < few[0] * 60 && many[1] < few[1] * 10, "{many:?} against {few:?}");
}

/// The time that this thread has run, so that other work on the machine counts for little.
fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn row_for(rows: &[TableRow], protocol: Protocol, port: u16) -> Option<&TableRow> {
    rows.iter().filter(|row| row.ports.covers(protocol, port)).max_by_key(|row| row.ports.len())
}

fn entry(peers: Peers, ports: Option<Vec<PortRule>>) -> Egress {
    let at = Spot { line: 1, column: 1, field: "egress".into() };
    Egress { peers_at: at.clone(), at, peers, ports, unenforced: None }
}

fn open(ports: Vec<PortPrefix>) -> PortRule {
    let at = Spot { line: 1, column: 1, field: "toPorts".into() };
    PortRule { at, ports, named: Vec::new(), application: None }
}

fn port(port: u16) -> PortPrefix {
    PortPrefix::port(Protocol::TCP, port)
}

fn rule(egress: Vec<Egress>, allow_private: bool, default_deny: bool) -> Arc<Rule> {
    let origin = Origin {
        policy: PolicyKey { namespace: None, name: "p".into() },
        file: Arc::from(Path::new("p.yaml")),
        line: 1,
    };
    let subject = LabelSelector::everything();
    let (audited, denied) = (false, Vec::new());
    Arc::new(Rule { origin, subject, default_deny, allow_private, audited, egress, denied })
}

#[test]
fn what_may_be_said_is_kept_with_the_ports() {
    let table = table(&["
  endpointSelector: {}
  egress:
  - toEndpoints: [{matchLabels: {app: db}}]
    toPorts:
    - ports: [{port: '80', protocol: TCP}]
      rules: {http: [{method: GET, path: /v1/.*, headers: ['X-Key: true']}]}
    - ports: [{port: '9092', protocol: TCP}]
      rules: {kafka: [{role: produce, topic: orders}]}
    - ports: [{port: '443', protocol: TCP}]
      serverNames: ['*.example.com']
    - ports: [{port: '8443', protocol: TCP}]
      terminatingTLS: {secret: {namespace: certs, name: front}}
      originatingTLS: {secret: {name: back}, trustedCA: roots}
      rules: {http: [{headerMatches: [{name: X-Token, secret: {name: token}, mismatch: REPLACE}]}]}"]);
    let db = labels(&[("app", "db"), (Labels::NAMESPACE, "prod")]);
    let db: Labels = db.iter().cloned().chain(pod("prod", "x").iter().cloned()).collect();
    let said = |port| {
        let row = table.row_at(Subject::Labels(&db), Protocol::TCP, port);
        let all = row.map_or_else(Vec::new, |row| row.conversations);
        all.iter().map(|own| L7::clone(own)).collect::<Vec<_>>()
    };
    let [http] = &said(80)[..] else { panic!() };
    let model::Requests::Http(rules) = &http.rule.requests else { panic!() };
    assert_eq!(rules[0].method.as_deref(), Some("GET"));
    assert_eq!(
        (&*rules[0].headers[0].name, rules[0].headers[0].value.as_deref()),
        ("x-key", Some("true"))
    );
    let [kafka] = &said(9092)[..] else { panic!() };
    let model::Requests::Kafka(rules) = &kafka.rule.requests else { panic!() };
    assert_eq!(rules[0].api_keys, [0, 3, 18].into());
    let [names] = &said(443)[..] else { panic!() };
    assert_eq!(names.rule.server_names.as_ref().unwrap().0[0].as_str(), "*.example.com");
    let [tls] = &said(8443)[..] else { panic!() };
    let unavailable = model::Terminate::Unavailable("certs/front".into());
    assert_eq!(tls.rule.terminate, Some(unavailable));
    assert_eq!(tls.originating.as_ref().unwrap().trusted_ca.as_deref(), Some("roots"));
    assert_eq!((tls.headers[0].rule, tls.headers[0].header), (0, 0));
    assert_eq!(said(81), []);
}
