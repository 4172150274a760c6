//! What being audited means: as it is written, and for random rules with random audit marks.

use std::path::Path;

use model::{DropReason, Fate, Verdict, Way};
use proptest::prelude::*;

use super::reference::{Owned, any_context, any_destination, any_rule, with_levels};
use super::{row_for, shown};
use crate::explain::{Packet, explain};
use crate::table::*;
use crate::{Document, Options, Policy};

/// The rows of all levels that a destination is on.
struct Levels(Vec<Vec<TableRow>>);

impl Levels {
    fn of(rules: &[Arc<Rule>], context: &Context, to: &Owned) -> Self {
        let table = Table::compile(rules, context);
        Self(with_levels(&table, to, |levels| {
            levels.iter().chain([&Subject::Any]).map(|level| table.rows(*level)).collect()
        }))
    }

    /// What becomes of a packet.
    fn fate(&self, (protocol, port): (Protocol, u16)) -> Fate {
        let rows = self.0.iter().filter_map(|rows| row_for(rows, protocol, port));
        let ruling = rows.map(|row| row.ruling).reduce(Ruling::union).unwrap_or_default();
        ruling.fate(protocol, DropReason::PolicyDenied)
    }
}

fn packets() -> impl Iterator<Item = (Protocol, u16)> {
    let protocols = [Protocol::TCP, Protocol::UDP, Protocol::ICMP].into_iter();
    protocols.flat_map(|protocol| (0..90).step_by(3).map(move |port| (protocol, port)))
}

/// The rules, each changed.
fn each(rules: &[Arc<Rule>], change: impl Fn(&mut Rule)) -> Vec<Arc<Rule>> {
    let changed = |rule: &Arc<Rule>| {
        let mut rule = Rule::clone(rule);
        change(&mut rule);
        Arc::new(rule)
    };
    rules.iter().map(changed).collect()
}

/// Whether a packet is dropped, by the words of the definition: a deny rule of an enforced policy
/// covers it; or an enforced policy asks for default deny, and no rule of any policy allows it.
fn is_dropped(
    rules: &[Arc<Rule>],
    context: &Context,
    to: &Owned,
    (protocol, port): (Protocol, u16),
) -> bool {
    let packet = Packet { destination: to.borrow(), protocol, port, asks: None };
    let ask = |rules: &[Arc<Rule>]| explain(rules, context, &packet);
    let enforced: Vec<_> = rules.iter().filter(|rule| !rule.audited).cloned().collect();
    let denied = each(&enforced, |rule| rule.egress.clear());
    let is_denied = ask(&denied).verdict == Some(Verdict::Deny);
    let allowing = each(rules, |rule| {
        rule.denied.clear();
        rule.default_deny = true;
        rule.audited = false;
    });
    let verdict = ask(&allowing).verdict;
    let is_allowed = match verdict {
        Some(Verdict::Proxy) => protocol == Protocol::TCP,
        Some(Verdict::Dns) => protocol != Protocol::ICMP,
        verdict => verdict.is_some(),
    };
    let denies_the_rest = enforced.iter().any(|rule| rule.default_deny);
    // What may hide what rules are about is dropped unless that rule is audited with the rest.
    let asks_for_default_deny = rules.iter().any(|rule| rule.default_deny);
    let is_hidden = verdict.is_some() && !is_allowed && !asks_for_default_deny;
    is_denied || !is_allowed && denies_the_rest || is_hidden
}

/// A policy of a kind with such metadata, read as the options say.
fn read(kind: &str, metadata: &str, options: Options) -> Result<Policy, Vec<String>> {
    let text = format!(
        "apiVersion: cilium.io/v2\nkind: {kind}\nmetadata:\n  name: web\n{metadata}\nspec:
  endpointSelector: {{}}
  egress: [{{toCIDR: [9.0.0.0/8], toPorts: [{{ports: [{{port: '443', protocol: TCP}}]}}]}}]
  egressDeny: [{{toPorts: [{{ports: [{{port: '22', protocol: TCP}}]}}]}}]"
    );
    let (documents, problems) = Document::read_all(&Arc::from(Path::new("web.yaml")), &text);
    assert_eq!(problems, []);
    let shown = |problems: Vec<crate::Problem>| problems.iter().map(ToString::to_string).collect();
    Policy::read_with(&documents[0], options).map_err(shown)
}

fn marked(value: &str) -> String {
    format!("  annotations: {{fqdnd.io/audit: {value}}}")
}

#[test]
fn a_policy_is_audited_by_its_annotation() {
    for kind in ["CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"] {
        let audited = |metadata: &str| {
            let policy = read(kind, metadata, Options::default()).unwrap();
            assert_eq!(policy.warnings, []);
            assert!(policy.rules.iter().all(|rule| rule.audited == policy.audited));
            policy.audited
        };
        assert!(!audited("") && !audited(&marked("'false'")));
        assert!(audited(&marked("'true'")));
    }
}

#[test]
fn anything_else_in_the_annotation_is_an_error_that_names_its_place() {
    let problems = |value: &str| {
        let read = read("CiliumNetworkPolicy", &marked(value), Options::default());
        read.unwrap_err()
    };
    let place = "web.yaml:5:33: metadata.annotations[fqdnd.io/audit]:";
    for value in ["yes please", "''", "'True'"] {
        assert_eq!(problems(value), [format!("{place} must be \"true\" or \"false\"")]);
    }
    for value in ["true", "null", "1"] {
        let problems = problems(value);
        assert!(problems.len() == 1 && problems[0].starts_with(place), "{problems:?}");
    }
}

#[test]
fn a_node_that_audits_everything_audits_every_policy() {
    let options = Options { audit: true, ..Options::default() };
    for metadata in [String::new(), marked("'true'"), marked("'false'")] {
        assert!(read("CiliumNetworkPolicy", &metadata, options).unwrap().rules[0].audited);
    }
}

#[test]
fn an_audited_policy_allows_what_it_allows_and_audits_the_rest() {
    let policy = |metadata: &str| {
        read("CiliumNetworkPolicy", metadata, Options::default()).unwrap().rules.remove(0)
    };
    let (audited, enforced) = (policy(&marked("'true'")), policy(""));
    assert_ne!(audited.canonical(), enforced.canonical());
    let rows = |rules: &[Arc<Rule>]| {
        let table = Table::compile(rules, &Context::default());
        let outside =
            Subject::Outside { prefix: "9.0.0.0/8".parse().unwrap(), labels: &Labels::default() };
        (table.default_deny(), shown(&table.rows(Subject::Any)), shown(&table.rows(outside)))
    };
    let allowed = vec!["443/TCP allow".to_owned()];
    let (any, ssh) = ("any audited default-deny", "22/TCP audited deny-rule");
    let told = vec![any.to_owned(), format!("{ssh}, audited default-deny")];
    assert_eq!(rows(std::slice::from_ref(&audited)), (DefaultDeny::Audited, told, allowed.clone()));
    let enforces_the_rest = Rule { denied: Vec::new(), ..Rule::clone(&enforced) };
    assert_eq!(
        rows(&[audited, Arc::new(enforces_the_rest)]),
        (DefaultDeny::Enforced, vec![ssh.to_owned()], allowed.clone())
    );
    let denied = vec!["22/TCP deny".to_owned()];
    assert_eq!(rows(&[enforced]), (DefaultDeny::Enforced, denied, allowed));
}

#[test]
fn an_explanation_names_what_would_deny() {
    let policy = read("CiliumNetworkPolicy", &marked("'true'"), Options::default()).unwrap();
    let labels = Labels::default();
    let ask = |port| {
        let packet = Packet {
            destination: crate::Destination::Inside(&labels),
            protocol: Protocol::TCP,
            port,
            asks: None,
        };
        explain(&policy.rules, &Context::default(), &packet)
    };
    let (ssh, https) = (ask(22), ask(443));
    assert!(ssh.passes(Protocol::TCP) && ssh.would_be_dropped(Protocol::TCP));
    assert_eq!((ssh.verdict, ssh.default_deny), (None, DefaultDeny::Audited));
    let audited: Vec<_> =
        ssh.audited.iter().map(|own| (&*own.policy.name, own.direction)).collect();
    assert_eq!(audited, [("web", crate::Direction::Deny)]);
    assert!(https.passes(Protocol::TCP) && https.would_be_dropped(Protocol::TCP));
    assert_eq!((https.audited.len(), https.near.len()), (0, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_packet_is_dropped_by_what_is_enforced_and_told_by_what_would_be(
        rules in prop::collection::vec(any_rule(), 0..5),
        context in any_context(),
        to in any_destination(),
    ) {
        let enforced = each(&rules, |rule| rule.audited = false);
        let own = Levels::of(&rules, &context, &to);
        let enforced = Levels::of(&enforced, &context, &to);
        for packet in packets() {
            let fate = own.fate(packet);
            let is_dropped = is_dropped(&rules, &context, &to, packet);
            prop_assert_eq!(fate.way == Way::Dropped, is_dropped, "{:?}", packet);
            let would_be = enforced.fate(packet).way == Way::Dropped;
            let is_told = fate.way != Way::Dropped && fate.reason.is_some();
            prop_assert_eq!(is_told, !is_dropped && would_be, "{:?}", packet);
        }
    }

    #[test]
    fn marking_a_policy_drops_nothing_and_unmarking_it_lets_nothing_pass(
        rules in prop::collection::vec(any_rule(), 1..5),
        which in any::<prop::sample::Index>(),
        context in any_context(),
        to in any_destination(),
    ) {
        let which = which.index(rules.len());
        let marked = |audited| {
            let mut rules = rules.clone();
            rules[which] = Arc::new(Rule { audited, ..Rule::clone(&rules[which]) });
            rules
        };
        let levels = |audited| Levels::of(&marked(audited), &context, &to);
        let (audited, enforced) = (levels(true), levels(false));
        for packet in packets() {
            let (audited, enforced) = (audited.fate(packet).way, enforced.fate(packet).way);
            prop_assert!(
                audited == enforced || enforced == Way::Dropped,
                "{packet:?}: {audited:?} where audited, {enforced:?} where not"
            );
        }
    }
}
