//! `rules`: what may be said at a port.
//!
//! As in Cilium, rules without an item are as absent: nothing is judged by them.

use model::{Pattern, Requests};

use crate::rule::{HeaderSecret, Unenforced};
use crate::spec::fields::{At, Check};
use crate::spec::{egress, http, kafka};

const RULES: &[&str] = &["dns", "http", "kafka"];

/// What the rules are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Dns,
    Http,
    Kafka,
}

/// Checked rules.
pub(super) struct Rules<'n> {
    /// The field of their protocol.
    pub(super) at: At<'n>,
    pub(super) kind: Kind,
    /// What may be said; none where the list has no item.
    pub(super) spoken: Option<Spoken>,
}

/// What may be said.
pub(super) enum Spoken {
    /// The names that may be asked for.
    Dns(Vec<Pattern>),
    /// Requests, and the secrets that they name.
    Requests(Unenforced, Requests, Vec<HeaderSecret>),
}

/// Reads `rules`.
pub(super) fn read<'n>(check: &mut Check, at: &At<'n>) -> Option<Rules<'n>> {
    let fields = check.fields(at, RULES)?;
    let known = [("dns", Kind::Dns), ("http", Kind::Http), ("kafka", Kind::Kafka)];
    let mut present = Vec::new();
    for (key, kind) in known {
        present.extend(check.present(&fields, key).map(|at| (at, kind)));
    }
    let mut present = present.into_iter();
    let Some((at, kind)) = present.next() else {
        check.problem(at, "must have one of dns, http, kafka");
        return None;
    };
    for (other, _) in present {
        let message = "must not stand beside rules for another protocol: write an item for each";
        check.problem(&other, message);
    }
    let items = check.list(&at)?;
    if items.is_empty() {
        return Some(Rules { at, kind, spoken: None });
    }
    let spoken = match kind {
        Kind::Dns => dns(check, &items),
        Kind::Http => http(check, &items),
        Kind::Kafka => kafka(check, &items),
    };
    Some(Rules { at, kind, spoken: Some(spoken) })
}

fn http(check: &mut Check, items: &[At<'_>]) -> Spoken {
    let (mut rules, mut secrets) = (Vec::new(), Vec::new());
    for item in items {
        rules.extend(http::read(check, item, rules.len(), &mut secrets));
    }
    Spoken::Requests(Unenforced::Http, Requests::Http(rules), secrets)
}

fn kafka(check: &mut Check, items: &[At<'_>]) -> Spoken {
    let rules = items.iter().filter_map(|item| kafka::read(check, item)).collect();
    Spoken::Requests(Unenforced::Kafka, Requests::Kafka(rules), Vec::new())
}

fn dns(check: &mut Check, items: &[At<'_>]) -> Spoken {
    Spoken::Dns(items.iter().filter_map(|item| egress::question(check, item)).collect())
}
