//! `rules`: what may be said at a port.
//!
//! Rules for other protocols than DNS, HTTP and Kafka are checked whole, and not enforced here.

use model::{Pattern, Requests};

use crate::rule::{HeaderSecret, Unenforced};
use crate::spec::fields::{At, Check, Fields};
use crate::spec::{egress, http, kafka};

const RULES: &[&str] = &["dns", "http", "kafka", "l7", "l7proto"];

/// What the rules are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Dns,
    Http,
    Kafka,
    Other,
}

/// Checked rules.
pub(super) struct Rules<'n> {
    /// The field of their protocol.
    pub(super) at: At<'n>,
    pub(super) kind: Kind,
    /// Whether the list is there and has no item.
    pub(super) is_empty: bool,
    pub(super) spoken: Spoken,
}

/// What may be said.
pub(super) enum Spoken {
    /// The names that may be asked for.
    Dns(Vec<Pattern>),
    /// Requests, and the secrets that they name.
    Requests(Unenforced, Requests, Vec<HeaderSecret>),
    /// In a protocol that nothing here judges.
    Other,
}

/// Reads `rules`.
pub(super) fn read<'n>(check: &mut Check, at: &At<'n>) -> Option<Rules<'n>> {
    let fields = check.fields(at, RULES)?;
    if fields.field("l7").is_some() && fields.field("l7proto").is_none() {
        check.problem(fields.at("l7"), "needs l7proto beside it");
        return None;
    }
    let known = [
        ("dns", Kind::Dns),
        ("http", Kind::Http),
        ("kafka", Kind::Kafka),
        ("l7proto", Kind::Other),
    ];
    let mut present = Vec::new();
    for (key, kind) in known {
        present.extend(check.present(&fields, key).map(|at| (at, kind)));
    }
    let mut present = present.into_iter();
    let Some((own, kind)) = present.next() else {
        check.problem(at, "must have one of dns, http, kafka, l7proto");
        return None;
    };
    for (other, _) in present {
        let message = "must not stand beside rules for another protocol: write an item for each";
        check.problem(&other, message);
    }
    let (is_empty, spoken) = match kind {
        Kind::Dns => dns(check, &own)?,
        Kind::Http => http(check, &own)?,
        Kind::Kafka => kafka(check, &own)?,
        Kind::Other => (other(check, &fields, &own)?, Spoken::Other),
    };
    Some(Rules { at: own, kind, is_empty, spoken })
}

fn http(check: &mut Check, at: &At<'_>) -> Option<(bool, Spoken)> {
    let items = check.list(at)?;
    let (mut rules, mut secrets) = (Vec::new(), Vec::new());
    for item in &items {
        rules.extend(http::read(check, item, rules.len(), &mut secrets));
    }
    Some((items.is_empty(), Spoken::Requests(Unenforced::Http, Requests::Http(rules), secrets)))
}

fn kafka(check: &mut Check, at: &At<'_>) -> Option<(bool, Spoken)> {
    let items = check.list(at)?;
    let rules: Vec<_> = items.iter().filter_map(|item| kafka::read(check, item)).collect();
    let requests = Requests::Kafka(rules);
    Some((items.is_empty(), Spoken::Requests(Unenforced::Kafka, requests, Vec::new())))
}

fn dns(check: &mut Check, at: &At<'_>) -> Option<(bool, Spoken)> {
    let items = check.list(at)?;
    let patterns: Vec<Pattern> =
        items.iter().filter_map(|item| egress::question(check, item)).collect();
    Some((items.is_empty(), Spoken::Dns(patterns)))
}

/// Checks the items of a list, and tells whether there is none.
fn items(check: &mut Check, at: &At<'_>, read: fn(&mut Check, &At<'_>)) -> Option<bool> {
    let items = check.list(at)?;
    items.iter().for_each(|item| read(check, item));
    Some(items.is_empty())
}

/// `l7proto` and `l7`: maps of text to text, as the protocol's own parser wants them.
fn other(check: &mut Check, fields: &Fields<'_>, at: &At<'_>) -> Option<bool> {
    check.text(at)?;
    let Some(list) = check.present(fields, "l7") else { return Some(true) };
    items(check, &list, |check, item| {
        for (_, value) in check.entries(item).into_iter().flatten() {
            check.text(&value);
        }
    })
}
