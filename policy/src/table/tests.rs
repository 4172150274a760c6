//! Policies written as text, and the rows of their tables.

mod audited;
mod change;
mod destinations;
mod reference;
mod scale;
mod spoken;

use std::path::Path;
use std::sync::LazyLock;

use model::{Label, Name};

use super::*;
use crate::rule::{Egress, Origin, Peers, PolicyKey, PortRule, Spot};
use crate::selector::LabelSelector;
use crate::{Document, Options, Policy};

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

#[test]
fn no_rules_leave_everything_open() {
    let table = Table::compile(&[], &Context::default());
    assert_eq!(table.default_deny(), DefaultDeny::None);
    assert_eq!(shown(&table.rows(Subject::Any)), ["any unruled"]);
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
