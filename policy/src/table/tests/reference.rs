//! Random rules against the obvious model: every rule asked for every packet.

use std::collections::BTreeSet;

use model::{Label, Name};
use proptest::prelude::*;

use super::{name, rule};
use crate::rule::EndpointPeer;
use crate::selector::{LabelSelector, Operator, Requirement};
use crate::table::*;

fn any_ports() -> impl Strategy<Value = Vec<PortPrefix>> {
    let protocol = || prop::sample::select(vec![Protocol::TCP, Protocol::UDP]);
    let one = prop_oneof![
        1 => Just(vec![PortPrefix::Any]),
        1 => protocol().prop_map(|protocol| vec![PortPrefix::Protocol(protocol)]),
        4 => (protocol(), 0u16..70, 0u16..20)
            .prop_map(|(protocol, first, more)| PortPrefix::range(protocol, first, first + more)),
    ];
    prop::collection::vec(one, 0..3).prop_map(|lists| lists.concat())
}

fn any_pattern() -> impl Strategy<Value = Pattern> {
    prop::sample::select(vec!["a", "*", "*.a", "b*.a", "**.a", "c.b.a"])
        .prop_map(|text| Pattern::match_pattern(text).unwrap())
}

fn any_patterns() -> impl Strategy<Value = Vec<Pattern>> {
    prop::collection::vec(any_pattern(), 0..3)
}

fn any_selector() -> impl Strategy<Value = LabelSelector> {
    let operator = prop_oneof![
        3 => "[xy]".prop_map(|value| Operator::In([value].into())),
        1 => "[xy]".prop_map(|value| Operator::NotIn([value].into())),
    ];
    let requirement =
        ("[ab]", operator).prop_map(|(key, operator)| Requirement::new(&key, operator));
    prop::collection::vec(requirement, 0..3).prop_map(|all| all.into_iter().collect())
}

fn any_peers() -> impl Strategy<Value = Peers> {
    let peer = (any_selector(), prop::option::of(any_selector()))
        .prop_map(|(selector, unscoped)| EndpointPeer { selector, unscoped });
    prop_oneof![
        Just(Peers::All),
        prop::collection::vec(peer, 0..3).prop_map(Peers::Endpoints),
        prop::collection::vec(any_prefix(), 0..3).prop_map(Peers::Prefixes),
        any_patterns().prop_map(Peers::Names),
    ]
}

fn any_prefix() -> impl Strategy<Value = Prefix> {
    prop::sample::select(vec![
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.1.1/32",
        "::/0",
        "fd00::/8",
    ])
    .prop_map(|text| text.parse().unwrap())
}

fn any_rule() -> impl Strategy<Value = Arc<Rule>> {
    let dns = any_patterns().prop_map(Application::Dns);
    let ports = (any_ports(), prop::option::of(dns))
        .prop_map(|(ports, application)| PortRule { ports, application });
    let ports = prop::option::of(prop::collection::vec(ports, 0..4));
    let egress = (any_peers(), ports).prop_map(|(peers, ports)| Egress { line: 1, peers, ports });
    (prop::collection::vec(egress, 0..4), any::<bool>())
        .prop_map(|(egress, deny)| rule(egress, false, deny))
}

/// A destination that owns what a [`Subject`] borrows.
#[derive(Clone, Debug)]
enum Destination {
    Any,
    Pod(Labels),
    Prefix(Prefix),
    Name(Name),
}

fn any_destination() -> impl Strategy<Value = Destination> {
    let pod = prop::collection::vec(("[ab]", "[xy]"), 0..3)
        .prop_map(|all| all.into_iter().map(|(k, v)| Label::kubernetes(k, v)).collect());
    prop_oneof![
        Just(Destination::Any),
        pod.prop_map(Destination::Pod),
        any_prefix().prop_map(Destination::Prefix),
        prop::sample::select(vec!["a", "b.a", "c.b.a", "d"])
            .prop_map(|text| Destination::Name(name(text))),
    ]
}

/// What the rules say of a destination and port at its level alone.
fn expected(
    rules: &[Arc<Rule>],
    dns_pods: &[Labels],
    destination: &Destination,
    protocol: Protocol,
    port: u16,
) -> (bool, Option<BTreeSet<Pattern>>) {
    let (mut allowed, mut names) = (false, None::<BTreeSet<Pattern>>);
    for egress in rules.iter().flat_map(|rule| &rule.egress) {
        let all = vec![PortRule { ports: vec![PortPrefix::Any], application: None }];
        for rule in egress.ports.as_ref().unwrap_or(&all) {
            let is_dns = rule.application.is_some();
            let covers = rule.ports.iter().any(|ports| ports.covers(protocol, port));
            if !covers || !reaches(&egress.peers, destination, is_dns, dns_pods) {
                continue;
            }
            match &rule.application {
                None => allowed = true,
                Some(Application::Dns(patterns)) => {
                    names.get_or_insert_default().extend(patterns.iter().cloned());
                }
            }
        }
    }
    (allowed, names)
}

fn reaches(peers: &Peers, destination: &Destination, is_dns: bool, dns_pods: &[Labels]) -> bool {
    match (peers, destination) {
        (Peers::All, Destination::Any) => true,
        (Peers::Endpoints(peers), Destination::Pod(labels)) => peers.iter().any(|peer| {
            let widened = peer.unscoped.as_ref().is_some_and(|unscoped| unscoped.matches(labels));
            peer.selector.matches(labels) || (is_dns && widened && dns_pods.contains(labels))
        }),
        (Peers::Prefixes(prefixes), Destination::Prefix(inner)) => {
            prefixes.iter().any(|prefix| prefix.contains(*inner))
        }
        (Peers::Names(patterns), Destination::Name(name)) => {
            patterns.iter().any(|pattern| pattern.matches(name.as_ref()))
        }
        _ => false,
    }
}

/// Calls `ask` with the destination as the table knows it.
fn with_subject<T>(
    table: &Table,
    destination: &Destination,
    ask: impl FnOnce(Subject<'_>) -> T,
) -> T {
    let mut selectors = Vec::new();
    ask(match destination {
        Destination::Any => Subject::Any,
        Destination::Pod(labels) => Subject::Labels(labels),
        Destination::Prefix(prefix) => Subject::Prefix(*prefix),
        Destination::Name(name) => {
            table.selectors_of(name.as_ref(), &mut selectors);
            Subject::Names(&selectors)
        }
    })
}

fn row_for(rows: &[TableRow], protocol: Protocol, port: u16) -> Option<&TableRow> {
    rows.iter().filter(|row| row.ports.covers(protocol, port)).max_by_key(|row| row.ports.len())
}

fn patterns(names: BTreeSet<Pattern>) -> Vec<Pattern> {
    names.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_longest_row_says_what_all_rules_say(
        rules in prop::collection::vec(any_rule(), 0..5),
        destination in any_destination(),
        is_dns_pod in any::<bool>(),
    ) {
        let dns_pods: Vec<Labels> = match &destination {
            Destination::Pod(labels) if is_dns_pod => vec![labels.clone()],
            _ => Vec::new(),
        };
        let table = Table::compile(&rules, &dns_pods);
        let rows = with_subject(&table, &destination, |subject| table.rows(subject));
        prop_assert!(rows.is_sorted_by_key(|row| row.ports));
        let rest_is_allowed =
            matches!(destination, Destination::Any) && rules.iter().all(|rule| !rule.default_deny);
        for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP] {
            for port in 0..100 {
                let (allowed, names) = expected(&rules, &dns_pods, &destination, protocol, port);
                let row = row_for(&rows, protocol, port);
                match (names, allowed || rest_is_allowed) {
                    (None, false) => prop_assert_eq!(row, None),
                    (None, true) => {
                        prop_assert_eq!(row.map(|row| (row.verdict, &row.filter)),
                            Some((Verdict::Allow, &None)));
                    }
                    (Some(names), _) => {
                        let row = row.unwrap();
                        prop_assert_eq!(row.verdict, Verdict::Dns);
                        let filter = row.filter.as_ref().unwrap();
                        prop_assert_eq!(filter.allows_all(), allowed);
                        if !allowed {
                            prop_assert_eq!(filter.patterns(), patterns(names));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn names_are_filtered_by_all_levels_together(
        rules in prop::collection::vec(any_rule(), 0..5),
        destination in any_destination(),
        port in 0u16..90,
    ) {
        let table = Table::compile(&rules, &[]);
        let filter = with_subject(&table, &destination, |subject| {
            table.name_filter(&[subject], Protocol::UDP, port)
        });
        let own = expected(&rules, &[], &destination, Protocol::UDP, port);
        let any = expected(&rules, &[], &Destination::Any, Protocol::UDP, port);
        let names = match (own.1, any.1) {
            (Some(own), Some(any)) => Some(own.union(&any).cloned().collect()),
            (own, any) => own.or(any),
        };
        prop_assert_eq!(filter.is_some(), names.is_some());
        if let (Some(filter), Some(names)) = (filter, names) {
            prop_assert_eq!(filter.allows_all(), own.0 || any.0);
            if !filter.allows_all() {
                prop_assert_eq!(filter.patterns(), patterns(names));
            }
        }
    }
}
