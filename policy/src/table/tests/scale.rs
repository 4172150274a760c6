//! What many rules cost.

use std::time::Duration;

use super::*;
use crate::rule::{EndpointPeer, PrefixPeer};
use crate::selector::Requirement;

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

fn port(port: u16) -> PortPrefix {
    PortPrefix::port(Protocol::TCP, port)
}
