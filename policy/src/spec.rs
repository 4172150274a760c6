//! Documents to policies: every field checked, every problem named at its place.
//!
//! A field that nobody knows is refused. One that Cilium knows and that is not enforced here is
//! checked and noted, and the rule that needs it allows nothing. Where Cilium's code and its CRD
//! schema differ in what they take, the stricter one is followed.

use std::sync::Arc;

use model::Labels;

use crate::document::Document;
use crate::options::Options;
use crate::problem::Problem;
use crate::rule::{Direction, Origin, Policy, PolicyKey, Rule};
use crate::selector::{LabelSelector, Requirement};

mod application;
mod egress;
mod expression;
mod fields;
mod hints;
mod http;
mod icmp;
mod ingress;
mod kafka;
mod metadata;
mod names;
mod ports;
mod prefixes;
mod selector;
mod services;
mod tls;

use egress::Scope;
use fields::{At, Check, Fields};
use metadata::Marks;

const NAMESPACED: &str = "CiliumNetworkPolicy";
const CLUSTERWIDE: &str = "CiliumClusterwideNetworkPolicy";
const API_VERSION: &str = "cilium.io/v2";

/// The longest `log.value`, in characters.
const MAX_LOG: usize = 32;

const DOCUMENT: &[&str] = &["apiVersion", "kind", "metadata", "spec", "specs", "status"];
const SPEC: &[&str] = &[
    "description",
    "egress",
    "egressDeny",
    "enableDefaultDeny",
    "endpointSelector",
    "ingress",
    "ingressDeny",
    "labels",
    "log",
    "nodeSelector",
];

impl Policy {
    /// The key of the policy that a document holds; none if it is no policy at all.
    pub fn key_of(document: &Document) -> Option<PolicyKey> {
        let namespace = match &*document.kind {
            NAMESPACED => {
                let namespace = document.namespace.as_deref();
                Some(namespace.unwrap_or(Document::DEFAULT_NAMESPACE).to_owned())
            }
            CLUSTERWIDE => None,
            _ => return None,
        };
        let is_ciliums = document.api_version.starts_with("cilium.io/");
        is_ciliums.then(|| PolicyKey { namespace, name: document.name.clone() })
    }

    /// Whether objects of this kind are policies.
    pub(crate) fn is_kind(kind: &str) -> bool {
        matches!(kind, NAMESPACED | CLUSTERWIDE)
    }

    /// Checks a document that is a policy.
    pub fn read(document: &Document) -> Result<Self, Vec<Problem>> {
        Self::read_with(document, Options::default())
    }

    /// Checks a document that is a policy, reading it as the options say.
    pub fn read_with(document: &Document, options: Options) -> Result<Self, Vec<Problem>> {
        Self::check(document, options).0
    }

    /// The policy, or what is wrong with it; and the warnings in both cases.
    pub(crate) fn check(
        document: &Document,
        options: Options,
    ) -> (Result<Self, Vec<Problem>>, Vec<Problem>) {
        let mut check = Check::new(&document.file, options);
        let policy = read(&mut check, document, &At::root(&document.root));
        let mut found = check.finish();
        match policy {
            Some(policy) if found.problems.is_empty() => {
                let (warnings, unenforced) = (found.warnings.clone(), found.unenforced);
                (Ok(Self { warnings, unenforced, ..policy }), found.warnings)
            }
            policy => {
                if policy.is_none() && found.problems.is_empty() {
                    found.problems.push(document.problem_at(&[], "is no policy"));
                }
                (Err(found.problems), found.warnings)
            }
        }
    }
}

fn read(check: &mut Check, document: &Document, root: &At<'_>) -> Option<Policy> {
    let Some(key) = Policy::key_of(document) else {
        let message = format!("is no {NAMESPACED} or {CLUSTERWIDE} of {API_VERSION}");
        check.problem(root, message);
        return None;
    };
    check.namespace.clone_from(&key.namespace);
    let fields = check.fields(root, DOCUMENT)?;
    if document.api_version != API_VERSION {
        check.problem(fields.at("apiVersion"), format!("must be {API_VERSION}"));
    }
    let marks = metadata::read(check, &fields, &key)?;
    // What stands in it is no part of the policy, and older versions of Cilium wrote other things.
    check.present(&fields, "status").and_then(|status| check.entries(&status));
    let (spec, list) = (check.present(&fields, "spec"), check.present(&fields, "specs"));
    if spec.is_none() && list.is_none() {
        check.problem(root, "has neither spec nor specs");
    }
    let mut specs: Vec<At<'_>> = spec.into_iter().collect();
    specs.extend(list.and_then(|list| check.list(&list)).into_iter().flatten());
    if specs.is_empty() {
        check.warn(root, "has no rule, so it does nothing");
    }
    let mut rules = Vec::new();
    for spec in &specs {
        let origin =
            Origin { policy: key.clone(), file: Arc::clone(&document.file), line: spec.line() };
        rules.extend(rule(check, spec, origin, marks).map(Arc::new));
    }
    hints::warn(check, &rules);
    Some(Policy {
        key,
        rules,
        warnings: Vec::new(),
        unenforced: Vec::new(),
        allow_private: marks.allow_private,
        audited: marks.audited,
    })
}

/// Checks one spec; none if it says nothing of egress, or nothing that could be understood.
fn rule(check: &mut Check, at: &At<'_>, origin: Origin, marks: Marks) -> Option<Rule> {
    let fields = check.fields(at, SPEC)?;
    check_asides(check, &fields);
    let namespace = origin.policy.namespace.clone();
    let subject = subject(check, &fields, namespace.as_deref());
    let enabled = default_deny(check, &fields);
    let egress = section(check, &fields, "egress");
    let denied = section(check, &fields, "egressDeny");
    let ingress = ["ingress", "ingressDeny"].map(|key| section(check, &fields, key));
    if fields.field("nodeSelector").is_some() {
        for section in [&egress, &ingress[0]] {
            refuse_for_nodes(check, section);
        }
    }
    let directions = [("ingress", Direction::Allow), ("ingressDeny", Direction::Deny)];
    for (entries, (key, direction)) in ingress.iter().zip(directions) {
        ingress::check(check, entries, direction);
        if !entries.is_empty() {
            check.warn(fields.at(key), "is not looked at: only egress is enforced here");
        }
    }
    if egress.is_empty() && denied.is_empty() && ingress.iter().all(Vec::is_empty) {
        check.problem(at, "needs at least one of egress, egressDeny, ingress, ingressDeny");
    }
    if egress.is_empty() && denied.is_empty() {
        return None;
    }
    let mut read = |entries: &[At<'_>], direction| -> Vec<_> {
        let scope = Scope { namespace: namespace.as_deref(), direction };
        entries.iter().filter_map(|entry| egress::read(check, entry, scope)).collect()
    };
    let egress = read(&egress, Direction::Allow);
    let denied = read(&denied, Direction::Deny);
    let default_deny = enabled.unwrap_or(true);
    let Marks { allow_private, audited } = marks;
    let subject = subject?;
    Some(Rule { origin, subject, default_deny, allow_private, audited, egress, denied })
}

/// The entries of a section; none where it is absent or empty, which mean the same.
fn section<'n>(check: &mut Check, fields: &Fields<'n>, key: &str) -> Vec<At<'n>> {
    let section = check.present(fields, key);
    section.and_then(|section| check.list(&section)).unwrap_or_default()
}

/// Checks what has no effect on verdicts.
fn check_asides(check: &mut Check, fields: &Fields<'_>) {
    if let Some(description) = check.present(fields, "description") {
        check.text(&description);
    }
    if let Some(labels) = check.present(fields, "labels") {
        for label in check.list(&labels).into_iter().flatten() {
            check_label(check, &label);
        }
    }
    if let Some(log) = check.present(fields, "log") {
        check_log(check, &log);
        check.warn(&log, "is not written to flow records");
    }
}

fn check_label(check: &mut Check, at: &At<'_>) {
    let Some(fields) = check.fields(at, &["key", "source", "value"]) else { return };
    check.required_text(&fields, "key");
    for key in ["source", "value"] {
        check.optional_text(&fields, key);
    }
}

fn check_log(check: &mut Check, at: &At<'_>) {
    let Some(fields) = check.fields(at, &["value"]) else { return };
    let Some((at, text)) = check.optional_text(&fields, "value") else { return };
    if text.chars().count() > MAX_LOG || text.chars().any(char::is_control) {
        check.problem(&at, format!("must be at most {MAX_LOG} characters that can be printed"));
    }
}

/// Whose egress the spec rules.
fn subject(
    check: &mut Check,
    fields: &Fields<'_>,
    namespace: Option<&str>,
) -> Option<LabelSelector> {
    let endpoints = check.present(fields, "endpointSelector");
    let nodes = check.present(fields, "nodeSelector");
    let at = match (endpoints, nodes) {
        (Some(endpoints), None) => endpoints,
        (None, None) => {
            check.problem(fields.itself(), "endpointSelector must be set; `{}` selects every pod");
            return None;
        }
        (Some(_), Some(nodes)) => {
            check.problem(&nodes, "must not stand beside endpointSelector");
            return None;
        }
        (None, Some(nodes)) => {
            node_subject(check, &nodes, namespace);
            return None;
        }
    };
    let mut written = selector::read(check, &at)?;
    written.warn_of_labels_left_out(check, &at);
    let Some(namespace) = namespace else { return Some(written.into_selector()) };
    let own = Requirement::label(&format!("k8s:{}", Labels::NAMESPACE), namespace);
    let other = |requirement: &Requirement| requirement.key == own.key && *requirement != own;
    if written.labels.iter().any(|written| other(written) && written.operator != own.operator) {
        let message =
            format!("names another namespace; a policy selects in its own, `{namespace}`, only");
        check.warn(&at, message);
    }
    // As in Cilium, the policy's namespace takes the place of one written with its source.
    written.labels.retain(|requirement| !(other(requirement) && requirement.source == own.source));
    Some(written.into_selector().and(own))
}

/// Checks a `nodeSelector`: a policy for nodes themselves, of which this is none.
fn node_subject(check: &mut Check, at: &At<'_>, namespace: Option<&str>) {
    if namespace.is_some() {
        check.problem(at, format!("is for a {CLUSTERWIDE} only; use endpointSelector"));
        return;
    }
    selector::read(check, at);
    check.not_enforced(
        at,
        "what nodes themselves send is not enforced here, so the rule does nothing",
    );
}

/// Refuses rules that Cilium has no proxy for on what nodes themselves send and receive.
fn refuse_for_nodes(check: &mut Check, entries: &[At<'_>]) {
    let ports = entries.iter().filter_map(|entry| entry.value_of("toPorts"));
    let items: Vec<At<'_>> = ports.flat_map(|ports| ports.items()).collect();
    for rules in items.iter().filter_map(|item| item.value_of("rules")) {
        let own = ["http", "kafka"].into_iter().filter_map(|protocol| rules.value_of(protocol));
        for rules in own.filter(|rules| !rules.items().is_empty()) {
            check.problem(&rules, "is not for nodes");
        }
    }
}

/// `enableDefaultDeny.egress`, where it is set.
fn default_deny(check: &mut Check, fields: &Fields<'_>) -> Option<bool> {
    let at = check.present(fields, "enableDefaultDeny")?;
    let fields = check.fields(&at, &["egress", "ingress"])?;
    if let Some(ingress) = check.present(&fields, "ingress") {
        check.boolean(&ingress);
    }
    let egress = check.present(&fields, "egress")?;
    check.boolean(&egress)
}

#[cfg(test)]
mod tests;
