//! The entries of `egress` and `egressDeny`.

use model::{Labels, Pattern, Source};

use crate::options::SelectorScope;
use crate::rule::{
    Application, Direction, Egress, EndpointPeer, Entity, Peers, PortRule, Spot, Unenforced,
};
use crate::selector::{LabelSelector, Operator, Requirement};
use crate::spec::fields::{At, Check, Fields};
use crate::spec::{icmp, names, ports, prefixes, selector, services};

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
/// The fields of an entry beside them.
const ASIDES: &[&str] = &["authentication", "icmps", "toPorts", "toRequires"];
const MODES: &[&str] = &["disabled", "required", "test-always-fail"];

/// What is told to the readers of an entry's parts.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    /// The policy's namespace; none for a clusterwide one.
    pub(super) namespace: Option<&'a str>,
    pub(super) direction: Direction,
}

/// Reads an entry.
pub(super) fn read(check: &mut Check, at: &At<'_>, scope: Scope<'_>) -> Option<Egress> {
    let known: Vec<&str> = KINDS.iter().chain(ASIDES).copied().collect();
    let fields = check.fields(at, &known)?;
    if scope.direction == Direction::Deny {
        check.for_allowed_only(&fields, &["authentication", "toFQDNs"]);
    }
    requirements(check, &fields, "toRequires");
    let unenforced = authentication(check, &fields);
    let ports = all_ports(check, &fields, scope);
    let peers = peers(check, &fields, scope)?;
    if ports.iter().flatten().any(PortRule::is_for_dns) {
        warn_of_dns_pods(check, &fields, &peers.peers, scope);
    }
    // Without destinations and ports an entry allows nothing: `egress: [{}]` is how Cilium's
    // policies say that nothing may be sent.
    let ports = if peers.peers == Peers::All { ports.or(Some(Vec::new())) } else { ports };
    Some(Egress {
        at: at.spot(),
        peers_at: peers.at,
        peers: peers.peers,
        ports,
        unenforced: unenforced.or(peers.unenforced),
    })
}

impl PortRule {
    fn is_for_dns(&self) -> bool {
        matches!(self.application, Some(Application::Dns(_)))
    }
}

pub(super) fn authentication(check: &mut Check, fields: &Fields<'_>) -> Option<Unenforced> {
    let at = check.present(fields, "authentication")?;
    let own = check.fields(&at, &["mode"])?;
    let Some(mode) = check.present(&own, "mode") else {
        check.problem(&at, "mode must be set");
        return None;
    };
    if check.one_of(&mode, MODES)? == "disabled" {
        return None;
    }
    check.unenforced(&at, Unenforced::Authentication, "the entry allows nothing");
    Some(Unenforced::Authentication)
}

/// `toRequires` and `fromRequires`: Cilium knows them no more, but as empty lists.
pub(super) fn requirements(check: &mut Check, fields: &Fields<'_>, key: &str) {
    let Some(at) = check.present(fields, key) else { return };
    if check.list(&at).is_some_and(|items| !items.is_empty()) {
        check.problem(&at, "must be empty: Cilium has no such requirements any more");
    }
}

/// The ports, or the ICMP types in their place.
fn all_ports(check: &mut Check, fields: &Fields<'_>, scope: Scope<'_>) -> Option<Vec<PortRule>> {
    let icmps = check.present(fields, "icmps").and_then(|icmps| icmp::read(check, &icmps));
    let to_ports = check.present(fields, "toPorts");
    let ports = to_ports.and_then(|to_ports| ports::read(check, &to_ports, scope.direction));
    if icmps.is_some() && ports.is_some() {
        check.problem(fields.at("icmps"), "must not stand beside toPorts: write an entry for each");
    }
    icmps.or(ports)
}

/// The destinations of an entry, and what they need that is not enforced.
struct Read {
    at: Spot,
    peers: Peers,
    unenforced: Option<Unenforced>,
}

/// The fields whose empty list selects nothing, whatever stands beside it. Cilium takes the others
/// for absent where they are empty; here they select nothing too, but beside one that is not.
const NOTHING_IF_EMPTY: &[&str] = &["toCIDR", "toCIDRSet", "toEndpoints", "toEntities", "toNodes"];

/// The fields that name destinations, with their items.
type Named<'n> = Vec<(&'static str, At<'n>, Vec<At<'n>>)>;

fn named<'n>(check: &mut Check, fields: &Fields<'n>) -> Option<Named<'n>> {
    let mut named = Vec::new();
    for kind in KINDS {
        if let Some(at) = check.present(fields, kind) {
            let items = check.list(&at)?;
            named.push((*kind, at, items));
        }
    }
    Some(named)
}

fn peers(check: &mut Check, fields: &Fields<'_>, scope: Scope<'_>) -> Option<Read> {
    let named = named(check, fields)?;
    let (full, empty): (Named<'_>, Named<'_>) =
        named.into_iter().partition(|(_, _, items)| !items.is_empty());
    let Some((kind, at, items)) = full.first().or(empty.first()) else {
        return Some(Read { at: fields.itself().spot(), peers: Peers::All, unenforced: None });
    };
    for (other, at, _) in full.iter().skip(1) {
        let message = format!("{kind} and {other} must not stand in one entry: write one for each");
        check.problem(at, message);
    }
    for (kind, at, _) in &empty {
        let message = match NOTHING_IF_EMPTY.contains(kind) {
            true => "is empty, so the entry selects nothing",
            false if full.is_empty() => {
                "is empty, so the entry selects nothing; Cilium would \
                                         take it for absent"
            }
            false => continue,
        };
        check.warn(at, message);
    }
    let read = read_peers(check, kind, at, items, scope);
    let nothing = empty.iter().find(|(kind, _, _)| NOTHING_IF_EMPTY.contains(kind));
    match nothing.filter(|_| !items.is_empty()) {
        Some((_, at, _)) => {
            Some(Read { at: at.spot(), peers: Peers::Endpoints(Vec::new()), unenforced: None })
        }
        None => Some(read),
    }
}

fn read_peers(
    check: &mut Check,
    kind: &str,
    at: &At<'_>,
    items: &[At<'_>],
    scope: Scope<'_>,
) -> Read {
    let peers = match kind {
        "toEndpoints" => Peers::Endpoints(each(items, |item| endpoints(check, item, scope))),
        "toEntities" => Peers::Entities(each(items, |item| entity(check, item))),
        "toServices" => Peers::Services(each(items, |item| services::read(check, item))),
        "toNodes" => Peers::Nodes(each(items, |item| nodes(check, item))),
        "toCIDR" => Peers::Prefixes(each(items, |item| prefixes::plain(check, item))),
        "toCIDRSet" => Peers::Prefixes(each(items, |item| prefixes::set(check, item))),
        "toFQDNs" => Peers::Names(each(items, |item| names::selector(check, item))),
        _ => return groups(check, at, items, scope),
    };
    Read { at: at.spot(), peers, unenforced: None }
}

fn each<T>(items: &[At<'_>], read: impl FnMut(&At<'_>) -> Option<T>) -> Vec<T> {
    items.iter().filter_map(read).collect()
}

/// An item of `toEndpoints`, with the namespaces that it means.
fn endpoints(check: &mut Check, at: &At<'_>, scope: Scope<'_>) -> Option<EndpointPeer> {
    let written = selector::read(check, at)?;
    written.warn_of_labels_left_out(check, at);
    written.warn_of_world(check, at);
    let written = written.into_selector();
    let is_pod = || Requirement::new(&namespace_key(), Operator::Exists);
    let as_written = |selector| Some(EndpointPeer { selector, unscoped: None });
    if written.requirements().any(|own| own.source == Source::Reserved) {
        return as_written(written);
    }
    if written.requirements().any(|own| is_key(own, |key| key == Labels::NAMESPACE)) {
        return as_written(pods_only(written));
    }
    let Some(namespace) = scope.namespace else {
        // Every pod has the key, and nothing outside the cluster does.
        return as_written(written.and(is_pod()));
    };
    let is_namespace_label = |key: &str| {
        key.strip_prefix(Labels::NAMESPACE_LABELS).is_some_and(|rest| rest.starts_with('.'))
    };
    if written.requirements().any(|own| is_key(own, is_namespace_label)) {
        return as_written(pods_only(written));
    }
    if check.options.selector_scope == SelectorScope::AllNamespaces {
        return as_written(written.and(is_pod()));
    }
    let scoped = written.clone().and(Requirement::label(&namespace_key(), namespace));
    Some(EndpointPeer { selector: scoped, unscoped: Some(written) })
}

fn namespace_key() -> String {
    format!("k8s:{}", Labels::NAMESPACE)
}

/// Keeps a selector such as `namespace notin (a)` from selecting what is no pod at all. Cilium does
/// so by the label of its cluster, which it asks for wherever a selector does not.
fn pods_only(selector: LabelSelector) -> LabelSelector {
    let present = |own: &Requirement| {
        matches!(own.operator, Operator::In(_) | Operator::Exists)
            && is_key(own, |key| {
                key == Labels::NAMESPACE || key.starts_with(Labels::NAMESPACE_LABELS)
            })
    };
    if selector.requirements().any(present) {
        return selector;
    }
    selector.and(Requirement::new(&namespace_key(), Operator::Exists))
}

/// Whether the requirement is on a label of pods with such a key.
fn is_key(requirement: &Requirement, fits: impl Fn(&str) -> bool) -> bool {
    matches!(requirement.source, Source::Kubernetes | Source::Any) && fits(&requirement.key)
}

fn warn_of_dns_pods(check: &mut Check, fields: &Fields<'_>, peers: &Peers, scope: Scope<'_>) {
    let (Peers::Endpoints(peers), Some(namespace)) = (peers, scope.namespace) else { return };
    if peers.iter().any(|peer| peer.unscoped.is_some()) {
        let message = format!(
            "selects the cluster's DNS pods too where their labels match, for rules.dns; Cilium \
             keeps to the namespace `{namespace}`: name {} to be exact",
            Labels::NAMESPACE
        );
        check.warn(fields.at("toEndpoints"), message);
    }
}

fn entity(check: &mut Check, at: &At<'_>) -> Option<Entity> {
    let name = check.one_of(at, &Entity::names())?;
    Entity::parse(name)
}

/// An item of `toNodes`: as in Cilium, other nodes are meant, not the pod's own.
fn nodes(check: &mut Check, at: &At<'_>) -> Option<LabelSelector> {
    let written = selector::read(check, at)?.into_selector();
    Some(written.and(Requirement::new("reserved:remote-node", Operator::Exists)))
}

/// `toGroups`: nobody here knows the addresses of a cloud's groups.
fn groups(check: &mut Check, at: &At<'_>, items: &[At<'_>], scope: Scope<'_>) -> Read {
    items.iter().for_each(|item| group(check, item));
    if items.is_empty() {
        return Read { at: at.spot(), peers: Peers::Prefixes(Vec::new()), unenforced: None };
    }
    match scope.direction {
        Direction::Allow => {
            check.unenforced(at, Unenforced::Groups, "the entry allows nothing");
            let peers = Peers::Prefixes(Vec::new());
            Read { at: at.spot(), peers, unenforced: Some(Unenforced::Groups) }
        }
        // A denial that cannot be looked up must not open what it was to close.
        Direction::Deny => {
            check.unenforced(
                at,
                Unenforced::Groups,
                "the entry denies everything outside the cluster",
            );
            let peers = Peers::Entities(vec![Entity::WORLD]);
            Read { at: at.spot(), peers, unenforced: None }
        }
    }
}

/// An item of `toGroups`.
pub(super) fn group(check: &mut Check, item: &At<'_>) {
    let Some(group) = check.fields(item, &["aws"]) else { return };
    let Some(aws) = check.present(&group, "aws") else { return };
    let known = ["labels", "region", "securityGroupsIds", "securityGroupsNames"];
    let Some(aws) = check.fields(&aws, &known) else { return };
    check.optional_text(&aws, "region");
    for key in ["securityGroupsIds", "securityGroupsNames"] {
        let list = check.present(&aws, key).and_then(|list| check.list(&list));
        for name in list.into_iter().flatten() {
            check.text(&name);
        }
    }
    let labels = check.present(&aws, "labels").and_then(|labels| check.entries(&labels));
    for (_, value) in labels.into_iter().flatten() {
        check.text(&value);
    }
}

/// An item of `rules.dns`.
pub(super) fn question(check: &mut Check, at: &At<'_>) -> Option<Pattern> {
    names::read(check, at)
}
