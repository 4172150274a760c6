//! Three judges of the same packets: the rules, read one after the other; the maps that the engine
//! makes of them, searched from end to end; and the kernel's program on those maps.
//!
//! Policies are random text, of every field that decides a verdict. So are the labels and ports of
//! pods, and the names that addresses were resolved from. Nothing is shared between the first judge
//! and the others but the reading of policies.

mod documents;
mod fate;
mod kernel;
mod places;
mod rows;

use std::{cell::RefCell, path::Path, sync::Arc};

use integration::Namespace;
use model::{DropReason, Protocol, Ruling, Verdict};
use policy::{DefaultDeny, Document, Policy, Rule};
use proptest::{prelude::*, test_runner::TestRunner};

use crate::{
    fate::{Fate, Judgement},
    kernel::Kernel,
    places::{Cluster, Target},
};

const CASES: u32 = 200;
/// Ports that rules and services are about, and one that they are not.
const PORTS: [u16; 7] = [7, 53, 80, 443, 8_080, 30_080, 60_000];

#[test]
fn rules_maps_and_kernel_agree_on_every_packet() {
    let namespace = Namespace::new(format!("fqdnd-{}-0-agreement", std::process::id())).unwrap();
    namespace.ip("link set lo up\n").unwrap();
    // Programs look interfaces up in the namespace of the thread that runs them.
    namespace.run(compare).unwrap();
}

fn compare() {
    let world = RefCell::new((Kernel::new(), Seen::default()));
    let mut config = ProptestConfig::with_cases(CASES);
    config.failure_persistence = None;
    let cases = (documents::any(), places::any());
    let ran = TestRunner::new(config).run(&cases, |(texts, cluster)| {
        let (kernel, seen) = &mut *world.borrow_mut();
        judge_all(kernel, &texts, &cluster, seen)
    });
    let (_, seen) = world.into_inner();
    ran.unwrap_or_else(|error| panic!("{error}"));
    println!("{} packets: {seen:?}", seen.total());
    assert!(seen.is_varied(), "too few of one kind: {seen:?}");
}

/// How often each outcome was met, so that a world in which nothing passes is noticed.
#[derive(Debug, Default)]
struct Seen {
    allowed: u32,
    asked: u32,
    judged: u32,
    denied: u32,
    dropped: u32,
    audited: u32,
}

fn judge_all(
    kernel: &mut Kernel,
    texts: &[String],
    cluster: &Cluster,
    seen: &mut Seen,
) -> Result<(), TestCaseError> {
    let policies: Vec<_> = texts.iter().map(|text| read(text)).collect();
    kernel.load(cluster, &policies);
    let rules = cluster.rules(&policies);
    let context = cluster.context();
    let audits_default_deny = default_deny(&rules).is_lenient();
    for target in cluster.targets() {
        for (protocol, port) in packets(&target) {
            let ruling = places::judge(&rules, &context, &target, protocol, port);
            let expected = Judgement { ruling, audits_default_deny }.fate(protocol);
            seen.count(ruling, expected);
            let rows = rows::judge(kernel.state(), target.address, protocol, port);
            let about = format!("{} {port}/{protocol}\n{}", target.address, texts.join("\n"));
            // Where there is no service, what is enforced for every destination is all that counts.
            if ruling.is_ok() || !rules.iter().any(enforces_denials) {
                prop_assert_eq!(rows, expected, "the maps, of {}", about);
            }
            let fate = kernel.send(target.address, protocol, port);
            prop_assert_eq!(fate, rows, "the kernel, of {}", about);
        }
    }
    Ok(())
}

fn default_deny(rules: &[Arc<Rule>]) -> DefaultDeny {
    rules.iter().map(|rule| rule.default_deny()).max().unwrap_or_default()
}

fn enforces_denials(rule: &Arc<Rule>) -> bool {
    !rule.audited && !rule.denied.is_empty()
}

fn packets(target: &Target) -> Vec<(Protocol, u16)> {
    let (icmp, types) = match target.address.is_ipv4() {
        true => (Protocol::ICMP, [8, 13]),
        false => (Protocol::ICMPV6, [128, 139]),
    };
    let with_ports = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];
    let with_ports = with_ports.into_iter().flat_map(|own| PORTS.map(|port| (own, port)));
    with_ports.chain(types.map(|own| (icmp, own))).collect()
}

fn read(text: &str) -> Arc<Policy> {
    let (documents, problems) = Document::read_all(&Arc::from(Path::new("any.yaml")), text);
    assert_eq!(problems, [], "{text}");
    let read = Policy::read(&documents[0]);
    Arc::new(read.unwrap_or_else(|problems| panic!("{problems:?}\n{text}")))
}

impl Seen {
    fn count(&mut self, ruling: Result<Ruling, DropReason>, fate: Fate) {
        *match (fate, ruling.map(|own| own.verdict)) {
            (Fate::Passed(Some(_)), _) => &mut self.audited,
            (_, Ok(Some(Verdict::Allow | Verdict::Unruled))) => &mut self.allowed,
            (_, Ok(Some(Verdict::Proxy))) => &mut self.judged,
            (_, Ok(Some(Verdict::Dns))) => &mut self.asked,
            (_, Ok(Some(Verdict::Deny))) => &mut self.denied,
            (_, Ok(None) | Err(_)) => &mut self.dropped,
        } += 1;
    }

    fn each(&self) -> [u32; 6] {
        [self.allowed, self.asked, self.judged, self.denied, self.dropped, self.audited]
    }

    fn total(&self) -> u32 {
        self.each().into_iter().sum()
    }

    fn is_varied(&self) -> bool {
        let least = self.total() / 1_000;
        self.each().into_iter().all(|own| own > least)
    }
}
