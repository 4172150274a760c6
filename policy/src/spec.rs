//! Documents to policies: every field checked, every problem named at its place.
//!
//! A field that Cilium knows and that is not enforced here is refused, as is one that nobody
//! knows: a policy is in force as a whole or not at all. Where Cilium's code and its CRD schema
//! differ in what they take, the stricter one is followed.

use std::sync::Arc;

use model::Labels;

use crate::document::Document;
use crate::problem::Problem;
use crate::rule::{Origin, Policy, PolicyKey, Rule};
use crate::selector::{LabelSelector, Requirement};

mod egress;
mod fields;
mod ports;
mod selector;

use fields::{At, Check, Fields};

const NAMESPACED: &str = "CiliumNetworkPolicy";
const CLUSTERWIDE: &str = "CiliumClusterwideNetworkPolicy";
const API_VERSION: &str = "cilium.io/v2";
/// The annotation that lifts the rebinding guard.
const ALLOW_PRIVATE: &str = "fqdnd.io/allow-private";

const DOCUMENT: &[&str] = &["apiVersion", "kind", "metadata", "spec", "specs", "status"];
/// The fields of Kubernetes' `ObjectMeta`.
const METADATA: &[&str] = &[
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];
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

    /// Checks a document that is a policy.
    pub fn read(document: &Document) -> Result<Self, Vec<Problem>> {
        let mut check = Check::new(&document.file);
        let root = At::root(&document.root);
        let policy = read(&mut check, document, &root);
        let (mut problems, warnings) = check.finish();
        match policy {
            Some(policy) if problems.is_empty() => Ok(Self { warnings, ..policy }),
            Some(_) => Err(problems),
            None => {
                if problems.is_empty() {
                    problems.push(document.problem_at(&[], "is no policy"));
                }
                Err(problems)
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
    let fields = check.fields(root, DOCUMENT)?;
    if document.api_version != API_VERSION {
        check.problem(fields.at("apiVersion"), format!("must be {API_VERSION}"));
    }
    let allow_private = metadata(check, &fields, &key)?;
    let mut specs: Vec<At<'_>> = check.present(&fields, "spec").into_iter().collect();
    if let Some(list) = check.present(&fields, "specs") {
        specs.extend(check.list(&list).into_iter().flatten());
    }
    if specs.is_empty() {
        check.problem(root, "has neither spec nor specs");
    }
    let mut rules = Vec::new();
    for spec in &specs {
        let origin =
            Origin { policy: key.clone(), file: Arc::clone(&document.file), line: spec.line() };
        rules.extend(rule(check, spec, origin, allow_private).map(Arc::new));
    }
    Some(Policy { key, rules, warnings: Vec::new(), allow_private })
}

/// Checks the metadata, and tells whether the policy lifts the rebinding guard.
fn metadata(check: &mut Check, document: &Fields<'_>, key: &PolicyKey) -> Option<bool> {
    let Some(at) = document.field("metadata") else {
        check.problem(document.itself(), "metadata must be set");
        return None;
    };
    let fields = check.fields(&at, METADATA)?;
    match fields.field("name") {
        None => check.problem(&at, "name must be set"),
        Some(name) => check_dns_name(check, &name, 253, true),
    }
    if let Some(namespace) = fields.field("namespace") {
        check_dns_name(check, &namespace, 63, false);
        if key.is_clusterwide() {
            check.warn(&namespace, format!("has no meaning in a {CLUSTERWIDE}"));
        }
    }
    let Some(annotations) = fields.field("annotations") else { return Some(false) };
    let mut allow_private = false;
    for (name, value) in check.entries(&annotations)? {
        if value.is_null() && name != ALLOW_PRIVATE {
            continue;
        }
        match (name, check.text(&value)?) {
            (ALLOW_PRIVATE, "true") => allow_private = true,
            (ALLOW_PRIVATE, "false") => {}
            (ALLOW_PRIVATE, _) => check.problem(&value, "must be \"true\" or \"false\""),
            (other, _) if other.starts_with("fqdnd.io/") => {
                check.warn(&value, format!("is not known for policies; {ALLOW_PRIVATE} is"));
            }
            _ => {}
        }
    }
    Some(allow_private)
}

/// Checks a Kubernetes name: RFC 1123 labels, several with dots between if `dots`.
fn check_dns_name(check: &mut Check, at: &At<'_>, max: usize, dots: bool) {
    let Some(text) = check.text(at) else { return };
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.iter().all(|byte| is_alphanumeric(*byte) || *byte == b'-')
            && bytes.first().copied().is_some_and(is_alphanumeric)
            && bytes.last().copied().is_some_and(is_alphanumeric)
    };
    let valid = if dots { text.split('.').all(is_label) } else { is_label(text) };
    if text.len() > max || !valid {
        let dot = if dots { ", `.`" } else { "" };
        check.problem(
            at,
            format!(
                "`{text}` is no Kubernetes name: up to {max} lower-case letters, digits, `-`{dot}"
            ),
        );
    }
}

/// Checks one spec; none if it says nothing of egress, or nothing that could be understood.
fn rule(check: &mut Check, at: &At<'_>, origin: Origin, allow_private: bool) -> Option<Rule> {
    let fields = check.fields(at, SPEC)?;
    check_asides(check, &fields);
    let namespace = origin.policy.namespace.clone();
    let subject = subject(check, &fields, namespace.as_deref());
    let enabled = default_deny(check, &fields);
    let egress = section(check, &fields, "egress");
    let denied = section(check, &fields, "egressDeny");
    let ingress = ["ingress", "ingressDeny"].map(|key| section(check, &fields, key));
    for (entry, key) in ingress.iter().zip(["ingress", "ingressDeny"]) {
        if !entry.is_empty() {
            check.warn(fields.at(key), "is not looked at: only egress is enforced here");
        }
    }
    if !denied.is_empty() {
        check.not_yet(fields.at("egressDeny"));
    }
    if egress.is_empty() && denied.is_empty() && ingress.iter().all(Vec::is_empty) {
        check.problem(at, "needs at least one of egress, egressDeny, ingress, ingressDeny");
    }
    if egress.is_empty() {
        return None;
    }
    let egress: Vec<_> = egress
        .iter()
        .filter_map(|entry| egress::read(check, entry, namespace.as_deref()))
        .collect();
    let default_deny = enabled.unwrap_or(true);
    Some(Rule { origin, subject: subject?, default_deny, allow_private, egress })
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
            check.fields(&label, &["cidr", "key", "source", "value"]);
        }
    }
    if let Some(log) = check.present(fields, "log") {
        check.fields(&log, &["value"]);
        check.warn(&log, "is not written to flow records");
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
            check.not_yet(&nodes);
            return None;
        }
    };
    let mut written = selector::read(check, &at)?;
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
