//! The entries of `egress`.

use model::{Labels, Pattern, Prefix, Source};

use crate::rule::{Application, Egress, EndpointPeer, Peers};
use crate::selector::{LabelSelector, Operator, Requirement};
use crate::spec::fields::{At, Check, Fields};
use crate::spec::{ports, selector};

/// The fields that name destinations. Cilium takes one of them in an entry.
const KINDS: &[&str] = &[
    "toCIDR",
    "toCIDRSet",
    "toEndpoints",
    "toEntities",
    "toFQDNs",
    "toGroups",
    "toNodes",
    "toServices",
];
const ENTRY: &[&str] = &[
    "authentication",
    "icmps",
    "toCIDR",
    "toCIDRSet",
    "toEndpoints",
    "toEntities",
    "toFQDNs",
    "toGroups",
    "toNodes",
    "toPorts",
    "toServices",
];

/// Reads an entry of a policy in `namespace`, or of a clusterwide one.
pub(super) fn read(check: &mut Check, at: &At<'_>, namespace: Option<&str>) -> Option<Egress> {
    let fields = check.fields(at, ENTRY)?;
    if let Some(authentication) = check.present(&fields, "authentication") {
        check.not_yet(&authentication);
    }
    let icmps = check.present(&fields, "icmps").and_then(|icmps| check.list(&icmps));
    if icmps.is_some_and(|icmps| !icmps.is_empty()) {
        check.not_yet(fields.at("icmps"));
    }
    let ports =
        check.present(&fields, "toPorts").and_then(|to_ports| ports::read(check, &to_ports));
    let peers = peers(check, &fields, namespace)?;
    let rules = ports.iter().flatten();
    let asks = rules.clone().any(|rule| matches!(rule.application, Some(Application::Dns(_))));
    if asks {
        warn_of_dns_pods(check, &fields, &peers, namespace);
    }
    // Without destinations and ports an entry allows nothing: `egress: [{}]` is how Cilium's
    // policies say that nothing may be sent.
    let ports = if peers == Peers::All { ports.or(Some(Vec::new())) } else { ports };
    Some(Egress { line: at.line(), peers, ports })
}

/// The destinations of an entry.
fn peers(check: &mut Check, fields: &Fields<'_>, namespace: Option<&str>) -> Option<Peers> {
    let mut named: Option<(&str, Vec<At<'_>>)> = None;
    let mut others = Vec::new();
    for kind in KINDS {
        let Some(at) = check.present(fields, kind) else { continue };
        let items = check.list(&at)?;
        match &named {
            Some((_, known)) if !known.is_empty() => {
                if !items.is_empty() {
                    others.push(*kind);
                }
            }
            _ => named = Some((kind, items)),
        }
    }
    let Some((kind, items)) = named else { return Some(Peers::All) };
    for other in others {
        let message = format!("{kind} and {other} must not stand in one entry: write one for each");
        check.problem(fields.at(other), message);
    }
    Some(match kind {
        "toEndpoints" => {
            Peers::Endpoints(each(&items, |item| endpoint_peer(check, item, namespace)))
        }
        "toCIDR" => Peers::Prefixes(each(&items, |item| prefix(check, item))),
        "toFQDNs" => Peers::Names(each(&items, |item| pattern(check, item))),
        // Present and empty selects nothing, whatever the kind.
        _ if items.is_empty() => Peers::Prefixes(Vec::new()),
        _ => {
            check.not_yet(fields.at(kind));
            return None;
        }
    })
}

fn each<T>(items: &[At<'_>], read: impl FnMut(&At<'_>) -> Option<T>) -> Vec<T> {
    items.iter().filter_map(read).collect()
}

/// An item of `toEndpoints`, with the namespaces that it means.
fn endpoint_peer(check: &mut Check, at: &At<'_>, namespace: Option<&str>) -> Option<EndpointPeer> {
    let written = selector::read(check, at)?.into_selector();
    let namespace_key = format!("k8s:{}", Labels::NAMESPACE);
    if names_reserved(&written)
        || written.requirements().any(|own| is_key(own, |key| key == Labels::NAMESPACE))
    {
        return Some(EndpointPeer { selector: written, unscoped: None });
    }
    let Some(namespace) = namespace else {
        // Every pod has the key, and nothing outside the cluster does.
        let is_pod = Requirement::new(&namespace_key, Operator::Exists);
        return Some(EndpointPeer { selector: written.and(is_pod), unscoped: None });
    };
    let is_namespace_label = |key: &str| {
        key.strip_prefix(Labels::NAMESPACE_LABELS).is_some_and(|rest| rest.starts_with('.'))
    };
    if written.requirements().any(|own| is_key(own, is_namespace_label)) {
        return Some(EndpointPeer { selector: written, unscoped: None });
    }
    let scoped = written.clone().and(Requirement::label(&namespace_key, namespace));
    Some(EndpointPeer { selector: scoped, unscoped: Some(written) })
}

fn names_reserved(selector: &LabelSelector) -> bool {
    selector.requirements().any(|requirement| requirement.source == Source::Reserved)
}

/// Whether the requirement is on a label of pods with such a key.
fn is_key(requirement: &Requirement, fits: impl Fn(&str) -> bool) -> bool {
    matches!(requirement.source, Source::Kubernetes | Source::Any) && fits(&requirement.key)
}

fn warn_of_dns_pods(
    check: &mut Check,
    fields: &Fields<'_>,
    peers: &Peers,
    namespace: Option<&str>,
) {
    let (Peers::Endpoints(peers), Some(namespace)) = (peers, namespace) else { return };
    if peers.iter().any(|peer| peer.unscoped.is_some()) {
        let message = format!(
            "selects the cluster's DNS pods too where their labels match, for rules.dns; Cilium \
             keeps to the namespace `{namespace}`: name {} to be exact",
            Labels::NAMESPACE
        );
        check.warn(fields.at("toEndpoints"), message);
    }
}

fn prefix(check: &mut Check, at: &At<'_>) -> Option<Prefix> {
    match check.text(at)?.parse() {
        Ok(prefix) => Some(prefix),
        Err(error) => {
            check.problem(at, error.to_string());
            None
        }
    }
}

/// An item of `toFQDNs` or `rules.dns`: a `matchName` or a `matchPattern`.
pub(super) fn pattern(check: &mut Check, at: &At<'_>) -> Option<Pattern> {
    let fields = check.fields(at, &["matchName", "matchPattern"])?;
    let (name, pattern) =
        (check.present(&fields, "matchName"), check.present(&fields, "matchPattern"));
    let (at, read): (_, fn(&str) -> _) = match (name, pattern) {
        (Some(name), None) => (name, Pattern::match_name),
        (None, Some(pattern)) => (pattern, Pattern::match_pattern),
        (Some(_), Some(pattern)) => {
            check.problem(&pattern, "must not stand beside matchName: write an item for each");
            return None;
        }
        (None, None) => {
            check.problem(at, "one of matchName and matchPattern must be set");
            return None;
        }
    };
    match read(check.text(&at)?) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            check.problem(&at, error.to_string());
            None
        }
    }
}
