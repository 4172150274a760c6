//! An object's metadata: names that Kubernetes takes, and the annotations that say how the policy
//! is meant.

use super::CLUSTERWIDE;
use crate::rule::PolicyKey;
use crate::spec::fields::{At, Check, Fields};

/// The annotation that lifts the rebinding guard.
const ALLOW_PRIVATE: &str = "fqdnd.io/allow-private";
/// The annotation that has a policy tell what it would drop, and not drop it.
const AUDIT: &str = "fqdnd.io/audit";

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

/// What a policy's annotations say of it.
#[derive(Clone, Copy)]
pub(super) struct Marks {
    /// Names may lead to private addresses.
    pub(super) allow_private: bool,
    /// What it would drop is told, and passes.
    pub(super) audited: bool,
}

/// Checks the metadata, and tells what the annotations say.
pub(super) fn read(check: &mut Check, document: &Fields<'_>, key: &PolicyKey) -> Option<Marks> {
    let Some(at) = document.field("metadata") else {
        check.problem(document.itself(), "metadata must be set");
        return None;
    };
    let fields = check.fields(&at, METADATA)?;
    match fields.field("name") {
        None => check.problem(&at, "name must be set"),
        Some(name) => drop(check_name(check, &name)),
    }
    let labels = fields.field("labels").and_then(|labels| check.entries(&labels));
    for (_, value) in labels.into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        check.text(&value);
    }
    if let Some(namespace) = fields.field("namespace") {
        if check.text(&namespace).is_some_and(|name| !is_dns_name(name, 63, false)) {
            check.warn(&namespace, "is no name that a namespace can have, so nothing is selected");
        }
        if key.is_clusterwide() {
            check.warn(&namespace, format!("has no meaning in a {CLUSTERWIDE}"));
        }
    }
    let audited = check.options.audit;
    let mut marks = Marks { allow_private: false, audited };
    let Some(annotations) = fields.field("annotations") else { return Some(marks) };
    for (name, value) in check.entries(&annotations)? {
        let mark = match name {
            ALLOW_PRIVATE => Some(&mut marks.allow_private),
            AUDIT => Some(&mut marks.audited),
            _ => None,
        };
        if value.is_null() && mark.is_none() {
            continue;
        }
        match (mark, check.text(&value)?) {
            (Some(mark), "true") => *mark = true,
            // On a node that audits all of them, so is this one.
            (Some(_), "false") => {}
            (Some(_), _) => check.problem(&value, "must be \"true\" or \"false\""),
            (None, _) if name.starts_with("fqdnd.io/") => {
                let known = format!("is not known for policies; {ALLOW_PRIVATE} and {AUDIT} are");
                check.warn(&value, known);
            }
            (None, _) => {}
        }
    }
    Some(marks)
}

/// Checks an object's name.
pub(super) fn check_name(check: &mut Check, at: &At<'_>) -> Option<()> {
    let text = check.text(at)?;
    if !is_dns_name(text, 253, true) {
        let message = format!(
            "`{text}` is no Kubernetes name: up to 253 lower-case letters, digits, `-`, `.`"
        );
        check.problem(at, message);
    }
    Some(())
}

/// Whether this is a Kubernetes name: RFC 1123 labels, several with dots between if `dots`.
fn is_dns_name(text: &str, max: usize, dots: bool) -> bool {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.iter().all(|byte| is_alphanumeric(*byte) || *byte == b'-')
            && bytes.first().copied().is_some_and(is_alphanumeric)
            && bytes.last().copied().is_some_and(is_alphanumeric)
    };
    text.len() <= max && if dots { text.split('.').all(is_label) } else { is_label(text) }
}
