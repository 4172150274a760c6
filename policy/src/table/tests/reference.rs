//! Random rules against the obvious model: every rule asked for every packet.

use std::net::IpAddr;

use model::{CidrGroup, EndpointName, L7Rule, Label, Name, Requests, Service, Verdict};
use proptest::prelude::*;
use proptest::sample::select;

use super::{entry, name, open, row_for, rule};
use crate::explain::{Destination, Packet, explain};
use crate::rule::{
    Application, Direction, Egress, EndpointPeer, Entity, L7, Peers, PortRule, PrefixBase,
    PrefixPeer, ServicePeer, Unenforced,
};
use crate::selector::{LabelSelector, Operator, Requirement};
use crate::table::*;

const NAMES: &[&str] = &["a", "b.a", "c.b.a", "d"];
const PREFIXES: &[&str] = &[
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.1.0/24",
    "10.1.1.1/32",
    "::/0",
    "fd00::/8",
    "fd00::1/128",
];
const ADDRESSES: &[&str] =
    &["9.9.9.9", "10.0.0.1", "10.1.0.1", "10.1.1.1", "10.1.1.2", "2001::1", "fd00::1", "fd00::2"];

fn any_ports() -> impl Strategy<Value = Vec<PortPrefix>> {
    let protocol = || select(vec![Protocol::TCP, Protocol::UDP]);
    let icmp = || select(vec![Protocol::ICMP, Protocol::ICMPV6]);
    let one = prop_oneof![
        1 => Just(vec![PortPrefix::Any]),
        1 => protocol().prop_map(|protocol| vec![PortPrefix::Protocol(protocol)]),
        1 => (icmp(), 0u16..10).prop_map(|(protocol, kind)| vec![PortPrefix::port(protocol, kind)]),
        4 => (protocol(), 0u16..70, 0u16..20)
            .prop_map(|(protocol, first, more)| PortPrefix::range(protocol, first, first + more)),
    ];
    prop::collection::vec(one, 0..3).prop_map(|lists| lists.concat())
}

fn any_named() -> impl Strategy<Value = Vec<NamedPort>> {
    let one = (select(vec![Protocol::TCP, Protocol::UDP]), "[pq]")
        .prop_map(|(protocol, name)| NamedPort { protocol, name });
    prop::collection::vec(one, 0..2)
}

fn any_pattern() -> impl Strategy<Value = Pattern> {
    select(vec!["a", "*", "*.a", "b*.a", "**.a", "c.b.a"])
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
    let reserved =
        select(vec!["host", "world", "kube-apiserver"]).prop_map(LabelSelector::reserved);
    prop_oneof![
        4 => prop::collection::vec(requirement, 0..3).prop_map(|all| all.into_iter().collect()),
        1 => reserved,
    ]
}

fn any_prefix() -> impl Strategy<Value = Prefix> {
    select(PREFIXES).prop_map(|text| text.parse().unwrap())
}

fn any_prefix_peer() -> impl Strategy<Value = PrefixPeer> {
    let base = prop_oneof![
        4 => any_prefix().prop_map(PrefixBase::Prefix),
        1 => "[gh]".prop_map(PrefixBase::Group),
        1 => any_selector().prop_map(PrefixBase::Groups),
    ];
    (base, prop::collection::vec(any_prefix(), 0..3))
        .prop_map(|(base, except)| PrefixPeer { base, except })
}

fn any_service() -> impl Strategy<Value = ServicePeer> {
    let text = |values| prop::option::of(select::<&str>(values).prop_map(str::to_owned));
    (text(vec!["s", "t", "e"]), text(vec!["n", "m"]), prop::option::of(any_selector()))
        .prop_map(|(name, namespace, selector)| ServicePeer { name, namespace, selector })
}

fn any_peers() -> impl Strategy<Value = Peers> {
    let peer = (any_selector(), prop::option::of(any_selector()))
        .prop_map(|(selector, unscoped)| EndpointPeer { selector, unscoped });
    let entity = select(Entity::names()).prop_map(|name| Entity::parse(name).unwrap());
    prop_oneof![
        2 => Just(Peers::All),
        1 => prop::collection::vec(peer, 0..3).prop_map(Peers::Endpoints),
        1 => prop::collection::vec(entity, 0..3).prop_map(Peers::Entities),
        1 => prop::collection::vec(any_service(), 0..3).prop_map(Peers::Services),
        1 => prop::collection::vec(any_selector(), 0..2).prop_map(Peers::Nodes),
        1 => prop::collection::vec(any_prefix_peer(), 0..3).prop_map(Peers::Prefixes),
        1 => any_patterns().prop_map(Peers::Names),
    ]
}

fn any_l7() -> impl Strategy<Value = L7> {
    let requests = vec![
        (Unenforced::Http, Requests::Http(vec![])),
        (Unenforced::Kafka, Requests::Kafka(vec![])),
        (Unenforced::ServerNames, Requests::Any),
    ];
    select(requests).prop_map(|(field, requests)| {
        let rule = L7Rule { server_names: None, terminate: None, originate: None, requests };
        L7 { field, rule, terminating: None, originating: None, headers: Vec::new() }
    })
}

fn any_entry(direction: Direction) -> impl Strategy<Value = Egress> {
    let application = match direction {
        Direction::Deny => Just(None).boxed(),
        Direction::Allow => prop_oneof![
            3 => Just(None),
            3 => any_patterns().prop_map(|patterns| Some(Application::Dns(patterns))),
            2 => any_l7().prop_map(|l7| Some(Application::L7(Arc::new(l7)))),
            1 => Just(Some(Application::Unenforced(Unenforced::Listener))),
        ]
        .boxed(),
    };
    let ports = (any_ports(), any_named(), application)
        .prop_map(|(ports, named, application)| PortRule { named, application, ..open(ports) });
    let ports = prop::option::of(prop::collection::vec(ports, 0..4));
    let unenforced = prop::bool::weighted(0.1).prop_map(move |unenforced| {
        (unenforced && direction == Direction::Allow).then_some(Unenforced::Authentication)
    });
    (any_peers(), ports, unenforced)
        .prop_map(|(peers, ports, unenforced)| Egress { unenforced, ..entry(peers, ports) })
}

pub(super) fn any_rule() -> impl Strategy<Value = Arc<Rule>> {
    let allowed = prop::collection::vec(any_entry(Direction::Allow), 0..4);
    let denied = prop::collection::vec(any_entry(Direction::Deny), 0..2);
    let marks = (any::<bool>(), prop::bool::weighted(0.4));
    (allowed, denied, marks).prop_map(|(egress, denied, (deny, audited))| {
        let rule = rule(egress, false, deny);
        Arc::new(Rule { denied, audited, ..(*rule).clone() })
    })
}

fn any_labels() -> impl Strategy<Value = Labels> {
    let one = prop_oneof![
        4 => ("[ab]", "[xy]").prop_map(|(key, value)| Label::kubernetes(key, value)),
        1 => select(vec!["host", "remote-node", "kube-apiserver", "health"]).prop_map(reserved),
        1 => ("[nm]", "[st]").prop_map(|(namespace, name)| {
            Wants::service_label(&EndpointName { namespace, name })
        }),
        3 => ("[pq]", select(vec![Protocol::TCP, Protocol::UDP]), 0u16..70)
            .prop_map(|(name, protocol, port)| Wants::port_label(&name, protocol, port)),
    ];
    prop::collection::vec(one, 0..4).prop_map(|all| all.into_iter().collect())
}

fn reserved(name: &str) -> Label {
    Label { key: name.to_owned(), source: Source::Reserved, value: String::new() }
}

pub(super) fn any_context() -> impl Strategy<Value = Context> {
    (any_labels(), any_labels(), prop::collection::vec(any_prefix(), 0..3)).prop_map(
        |(dns, labels, prefixes)| {
            let service = |namespace: &str, name: &str, external: Option<&str>| {
                let name = EndpointName { namespace: namespace.into(), name: name.into() };
                let external_name = external.map(|text| text.parse().unwrap());
                let labels = own(&labels);
                let service = Service { labels, external_name, ..Service::new(name.clone()) };
                (name, Arc::new(service))
            };
            let services = [
                service("n", "s", None),
                service("n", "t", None),
                service("m", "t", None),
                service("m", "e", Some("b.a")),
            ];
            let group = Arc::new(CidrGroup { name: "g".into(), labels: own(&labels), prefixes });
            Context {
                dns_pods: [own(&dns)].into(),
                services: services.into_iter().collect(),
                cidr_groups: std::iter::once(("g".to_owned(), group)).collect(),
            }
        },
    )
}

/// A destination that owns what [`Destination`] borrows.
#[derive(Clone, Debug)]
pub(super) enum Owned {
    Inside(Labels),
    Outside(IpAddr, Labels, Vec<Name>),
}

impl Owned {
    pub(super) fn borrow(&self) -> Destination<'_> {
        match self {
            Self::Inside(labels) => Destination::Inside(labels),
            Self::Outside(address, labels, names) => {
                Destination::Outside { address: *address, labels, names }
            }
        }
    }
}

pub(super) fn any_destination() -> impl Strategy<Value = Owned> {
    let address = select(ADDRESSES).prop_map(|text| text.parse().unwrap());
    let names = prop::collection::vec(select(NAMES).prop_map(name), 0..3);
    prop_oneof![
        any_labels().prop_map(Owned::Inside),
        (address, any_labels(), names)
            .prop_map(|(address, labels, names)| Owned::Outside(address, labels, names)),
    ]
}

/// Calls `ask` with the levels that a destination is on.
pub(super) fn with_levels<T>(
    table: &Table,
    to: &Owned,
    ask: impl FnOnce(&[Subject<'_>]) -> T,
) -> T {
    match to {
        Owned::Inside(labels) => ask(&[Subject::Labels(labels)]),
        Owned::Outside(address, labels, names) => {
            // The world stands in the tries beside the table's own prefixes.
            let roots = [Prefix::all_ipv4(), Prefix::all_ipv6()];
            let all = table.prefixes().chain(roots).filter(|prefix| prefix.covers(*address));
            let prefix = all.max_by_key(|prefix| prefix.length()).unwrap();
            let mut selectors = Vec::new();
            names.iter().for_each(|name| table.selectors_of(name.as_ref(), &mut selectors));
            selectors.sort_unstable();
            selectors.dedup();
            ask(&[Subject::Outside { prefix, labels }, Subject::Names(&selectors)])
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_rows_of_all_levels_say_what_all_rules_say(
        rules in prop::collection::vec(any_rule(), 0..5),
        context in any_context(),
        destination in any_destination(),
    ) {
        let table = Table::compile(&rules, &context);
        let levels: Vec<Vec<TableRow>> = with_levels(&table, &destination, |levels| {
            levels.iter().chain([&Subject::Any]).map(|level| table.rows(*level)).collect()
        });
        for rows in &levels {
            prop_assert!(rows.is_sorted_by_key(|row| row.ports));
        }
        for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP, Protocol::ICMP] {
            for port in 0..100 {
                let rows = levels.iter().filter_map(|rows| row_for(rows, protocol, port));
                let ruling = rows.map(|row| row.ruling).reduce(Ruling::union).unwrap_or_default();
                let packet = Packet { destination: destination.borrow(), protocol, port, asks: None };
                let expected = explain(&rules, &context, &packet);
                prop_assert_eq!(ruling.verdict, expected.verdict, "{}/{}", port, protocol);
                let default_deny = expected.default_deny.is_lenient();
                prop_assert_eq!(ruling.audited.default_deny, default_deny);
                if ruling.verdict != Some(Verdict::Deny) {
                    prop_assert_eq!(ruling.audited.deny_rule, !expected.audited.is_empty());
                }
            }
        }
    }

    #[test]
    fn names_are_filtered_by_all_levels_together(
        rules in prop::collection::vec(any_rule(), 0..5),
        context in any_context(),
        destination in any_destination(),
        asked in select(NAMES).prop_map(name),
        port in 0u16..90,
    ) {
        let table = Table::compile(&rules, &context);
        let filter = with_levels(&table, &destination, |levels| {
            table.name_filter(levels, Protocol::UDP, port)
        });
        let packet = Packet {
            destination: destination.borrow(),
            protocol: Protocol::UDP,
            port,
            asks: Some(asked.as_ref()),
        };
        let expected = explain(&rules, &context, &packet);
        prop_assert_eq!(filter.map(|filter| filter.allows(asked.as_ref())), expected.asks);
    }

    #[test]
    fn one_port_is_said_the_same_of_as_in_the_rows(
        rules in prop::collection::vec(any_rule(), 0..5),
        context in any_context(),
        destination in any_destination(),
        port in 0u16..90,
    ) {
        let table = Table::compile(&rules, &context);
        with_levels(&table, &destination, |levels| {
            for level in levels.iter().chain([&Subject::Any]) {
                let rows = table.rows(*level);
                for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP] {
                    let at = table.row_at(*level, protocol, port);
                    let ports = PortPrefix::port(protocol, port);
                    let row = row_for(&rows, protocol, port);
                    let row = row.map(|row| TableRow { ports, ..row.clone() });
                    prop_assert_eq!(at, row);
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn the_same_text_compiles_to_the_same_rows(
        rules in prop::collection::vec(any_rule(), 1..4),
        (one, other) in (any_context(), any_context()),
        destination in any_destination(),
    ) {
        prop_assume!(one.canonical_for(&rules) == other.canonical_for(&rules));
        let tables = [&one, &other].map(|context| Table::compile(&rules, context));
        let [one, other] = tables.each_ref().map(|table| {
            with_levels(table, &destination, |levels| {
                levels.iter().map(|level| table.rows(*level)).collect::<Vec<_>>()
            })
        });
        prop_assert_eq!(one, other);
    }
}
