//! An explanation as people read it: the verdict, then the lines of policies that decide it, then
//! what would change it.

use std::io;

use api::{Change, ChangeKind, Destination, ExplainQuery, Explanation, RulePlace, Spot};

use crate::output::{Output, Text, Tone};
use crate::source::{Place, Sources};

/// The verdict on what passes, and would not, were no policy audited.
const AUDIT: &str = "audit";

/// Prints an explanation.
pub(super) fn print(
    query: &ExplainQuery,
    explanation: &Explanation,
    output: &Output,
) -> io::Result<()> {
    let mut answer = Answer { text: output.text(), sources: Sources::default() };
    answer.verdict(query, explanation);
    answer.destinations(&explanation.destinations);
    for rule in &explanation.rules {
        answer.rule(
            &format!("{} by {}", deed(&explanation.verdict, &explanation.reason), rule.policy),
            rule,
        );
    }
    // A rule that lacks a name is the one that sent the question to the proxy.
    let near = explanation.near.iter().filter(|near| !explanation.rules.contains(&near.rule));
    for near in near {
        let what = nearly(&near.lacks);
        answer.rule(&format!("nearly allowed by {}, but {what}", near.rule.policy), &near.rule);
    }
    if let Some(lookup) = &explanation.lookup {
        answer.lookup(lookup);
    }
    if !explanation.notes.is_empty() {
        answer.text.plain("\n");
    }
    explanation.notes.iter().for_each(|note| answer.note(note));
    answer.changes(explanation);
    answer.text.print()
}

struct Answer {
    text: Text,
    sources: Sources,
}

impl Answer {
    fn verdict(&mut self, query: &ExplainQuery, explanation: &Explanation) {
        let Explanation { verdict, reason, policies, audited, .. } = explanation;
        let ExplainQuery { from, to, port, protocol, .. } = query;
        self.text.put(tone(verdict), verdict);
        self.text.plain(format!(" ({reason}): {from} to {to}, {port}/{protocol}\n"));
        if verdict == AUDIT {
            self.text.plain("it passes, because policies are audited; enforced as written, ");
        }
        self.text.plain(format!("{}\n", meaning(reason)));
        if !policies.is_empty() {
            let default = match (explanation.enforced, &*explanation.default_deny) {
                (true, _) => "is denied",
                (false, "audited") => "passes, audited",
                (false, _) => "is allowed",
            };
            let shown = policies.iter().map(|policy| {
                let mark = if audited.contains(policy) { " (audited)" } else { "" };
                format!("{policy}{mark}")
            });
            let list = shown.collect::<Vec<_>>().join(", ");
            self.text.plain(format!("policies: {list}; what no rule covers {default}\n"));
        }
    }

    /// Each destination, where there are several or more is known than what was asked.
    fn destinations(&mut self, destinations: &[Destination]) {
        for Destination { destination, verdict, reason, .. } in destinations {
            self.text.plain(format!("  {destination}: "));
            self.text.put(tone(verdict), verdict).plain(format!(" ({reason})\n"));
        }
    }

    fn rule(&mut self, title: &str, rule: &RulePlace) {
        self.text.plain(format!("\n{title}\n"));
        let spots = [Some(&rule.entry), Some(&rule.peers), rule.ports.as_ref()];
        let places: Vec<Place<'_>> = distinct(spots).into_iter().map(place).collect();
        if rule.stale {
            self.text.plain(format!(
                " --> {}:{} ({}), as it was before the file was broken\n",
                rule.file, rule.line, rule.entry.field
            ));
            return;
        }
        self.sources.show(&mut self.text, &rule.file, &places);
    }

    fn lookup(&mut self, lookup: &Destination) {
        let Destination { destination, verdict, reason, rules, .. } = lookup;
        self.text.plain(format!("\nasking for {destination}: "));
        self.text.put(tone(verdict), verdict).plain(format!(" ({reason})\n"));
        for rule in rules.iter().take(1) {
            self.rule(&format!("{} by {}", deed(verdict, reason), rule.policy), rule);
        }
    }

    fn note(&mut self, note: &str) {
        self.text.put(Tone::Faint, "note").plain(format!(": {note}\n"));
    }

    fn changes(&mut self, explanation: &Explanation) {
        if explanation.changes.is_empty() {
            if ["deny", AUDIT].contains(&&*explanation.verdict) {
                self.text.plain("\nNo rule that is added would let it pass.\n");
            }
            return;
        }
        let so = if explanation.verdict == AUDIT { " where it is enforced" } else { "" };
        self.text.plain(format!("\nThe smallest change that would let it pass{so}:\n"));
        for change in &explanation.changes {
            self.change(change);
        }
    }

    fn change(&mut self, change: &Change) {
        let Change { kind, policy, file, line, field, yaml } = change;
        let place = format!("of {policy} ({file}:{line})");
        let title = match kind {
            ChangeKind::Add => format!("add to {field} {place}"),
            ChangeKind::Replace => format!("put in place of {field} {place}"),
            ChangeKind::Remove => format!("take out {field} {place}"),
        };
        self.text.plain(format!("\n{title}\n"));
        for line in yaml.lines() {
            self.text.put(Tone::Good, format!("  {line}")).plain("\n");
        }
    }
}

/// The spots on lines of their own: on one line, the widest says enough.
fn distinct<'a>(spots: impl IntoIterator<Item = Option<&'a Spot>>) -> Vec<&'a Spot> {
    let mut distinct: Vec<&Spot> = Vec::new();
    for spot in spots.into_iter().flatten() {
        if distinct.iter().all(|known| known.line != spot.line) {
            distinct.push(spot);
        }
    }
    distinct
}

fn place(spot: &Spot) -> Place<'_> {
    Place { line: spot.line, column: spot.column, label: &spot.field }
}

fn tone(verdict: &str) -> Tone {
    match verdict {
        "allow" => Tone::Good,
        "redirect" | AUDIT => Tone::Warning,
        _ => Tone::Bad,
    }
}

/// What the rules have done that decided.
fn deed(verdict: &str, reason: &str) -> &'static str {
    match reason {
        "deny-rule" if verdict == AUDIT => "would be denied",
        "dns-rule" | "name-refused" => "sent to the DNS proxy",
        "l7-rule" | "quic-not-inspected" => "sent to the L7 proxy",
        "deny-rule" => "denied",
        "lease-expired" => "allowed, but for the time,",
        _ => "allowed",
    }
}

/// What is in the way of a rule that nearly allows.
fn nearly(lacks: &str) -> String {
    match lacks {
        "port" => "for other ports".to_owned(),
        "destination" => "for other destinations".to_owned(),
        "name" => "for other names".to_owned(),
        field => format!("it needs {field}, which is not enforced"),
    }
}

/// What a reason means. A newer daemon may have reasons of its own.
fn meaning(reason: &str) -> &str {
    match reason {
        "no-policy" => "no policy selects the pod, so it may send anything",
        "not-enforced" => "no rule covers it, and none of the pod's policies asks for default deny",
        "allow-rule" => "a rule allows it",
        "dns-rule" => "a rule for DNS sends it to the proxy, which judges each name",
        "l7-rule" => "rules for HTTP, Kafka or TLS send it to the proxy, which judges each request",
        "quic-not-inspected" => {
            "the proxy judges connections to this port, and cannot read QUIC: only TCP passes"
        }
        "name-refused" => "the proxy refuses it: no rule lets this name be asked for there",
        "policy-denied" => "no rule allows it, and what no rule allows is denied",
        "deny-rule" => "a deny rule covers it, whatever else allows it",
        "no-service" => "it is an address of the service range where no service has this port",
        "lease-expired" => "a rule would allow it, but the pod's answer for the name has expired",
        "endpoint-conflict" => "the pod's interface is claimed twice, or bound to another",
        "endpoint-pending" => "the pod's rules are not known yet, so its interface is closed",
        _ => "see the reason",
    }
}
