//! Entries of policies as text, and back.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use model::{Label, Labels, Name, Prefix, Protocol, Source};
use policy::{Egress, Options, PolicyKey};

use super::place::{Destination, Place, Port};

/// Labels that say what a pod is, the best first.
const TELLING: [&str; 5] = ["app.kubernetes.io/name", "app", "k8s-app", "name", "component"];
/// Labels that another pod of the same kind does not have.
const FLEETING: [&str; 5] = [
    "pod-template-hash",
    "controller-revision-hash",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/controller-uid",
];
/// What stands before the keys of derived labels.
const DERIVED: [&str; 2] = ["io.cilium.k8s.", "io.kubernetes.pod."];

/// What selects something in the cluster by its labels.
pub(super) fn inside(key: &PolicyKey, labels: &Labels) -> String {
    // The narrowest first: an API server may be a node as well.
    let entities =
        ["kube-apiserver", "host", "remote-node", "health", "init", "ingress", "unmanaged"];
    let carries = |name: &&str| labels.values(&Source::Reserved, name).next().is_some();
    if let Some(entity) = entities.into_iter().find(|name| carries(name)) {
        return format!("toEntities:\n- {entity}\n");
    }
    let mut text = "toEndpoints:\n- matchLabels:\n".to_owned();
    for label in telling(labels) {
        text.push_str(&format!("    {}: \"{}\"\n", label.key, label.value));
    }
    let namespace = labels.values(&Source::Kubernetes, Labels::NAMESPACE).next();
    if let Some(namespace) = namespace.filter(|own| key.namespace.as_deref() != Some(*own)) {
        text.push_str(&format!("    k8s:{}: \"{namespace}\"\n", Labels::NAMESPACE));
    } else if telling(labels).is_empty() {
        text = "toEndpoints:\n- {}\n".to_owned();
    }
    text
}

/// The labels by which a pod's kind is known: one that says what it is, or all that last.
fn telling(labels: &Labels) -> Vec<&Label> {
    let is_own = |label: &&Label| {
        label.source == Source::Kubernetes
            && !FLEETING.contains(&&*label.key)
            && !DERIVED.iter().any(|start| label.key.starts_with(start))
    };
    let own: Vec<&Label> = labels.iter().filter(is_own).collect();
    let found = TELLING.iter().find_map(|key| own.iter().find(|label| label.key == *key));
    found.map_or(own.clone(), |label| vec![label])
}

/// What selects an address outside: by its name, if it has one.
pub(super) fn outside(address: IpAddr, labels: &Labels, names: &[Name]) -> String {
    if labels.values(&Source::Reserved, "kube-apiserver").next().is_some() {
        return "toEntities:\n- kube-apiserver\n".to_owned();
    }
    match names.first() {
        Some(name) => format!("toFQDNs:\n- matchName: \"{}\"\n", plain(name)),
        None => format!("toCIDR:\n- \"{}\"\n", Prefix::host(address)),
    }
}

/// A service's backends, and their ports. For a question of DNS the pods: rules for names do not
/// go with `toServices`.
pub(super) fn service(
    key: &PolicyKey,
    port: &Port,
    to: &Destination,
) -> Option<(String, BTreeSet<u16>)> {
    let numbers = port.backends.iter().map(|(backend, _)| backend.port());
    let numbers = if port.backends.is_empty() { [to.port].into() } else { numbers.collect() };
    if to.asks.is_some() {
        let mut pods = port.backends.iter().filter_map(|(_, place)| match place {
            Place::Inside(labels) => Some(inside(key, labels)),
            Place::Outside { .. } | Place::Frontend(_) | Place::NoService => None,
        });
        return pods.next().map(|peers| (peers, numbers));
    }
    let name = &port.service;
    let peers = format!(
        "toServices:\n- k8sService:\n    serviceName: \"{}\"\n    namespace: \"{}\"\n",
        name.name, name.namespace
    );
    Some((peers, numbers))
}

/// The ports of a destination, and the name that is asked for there.
pub(super) fn ports(to: &Destination, numbers: &BTreeSet<u16>) -> Option<String> {
    let icmp =
        |family: &str| format!("icmps:\n- fields:\n  - family: {family}\n    type: {}\n", to.port);
    if to.protocol == Protocol::ICMP {
        return Some(icmp("IPv4"));
    }
    if to.protocol == Protocol::ICMPV6 {
        return Some(icmp("IPv6"));
    }
    let known = [Protocol::TCP, Protocol::UDP, Protocol::SCTP].contains(&to.protocol);
    let items = numbers.iter().map(|number| port_item(*number, to.protocol));
    let items: String = items.collect::<Vec<_>>().join("\n");
    let dns = to
        .asks
        .as_ref()
        .map(|name| format!("  rules:\n    dns:\n    - matchName: \"{}\"\n", plain(name)));
    let dns = dns.unwrap_or_default();
    known.then(|| format!("toPorts:\n- ports:\n{}{dns}", indented(&items, "  ")))
}

/// One item of `ports`.
pub(super) fn port_item(number: u16, protocol: Protocol) -> String {
    format!("- port: \"{number}\"\n  protocol: {protocol}")
}

/// A name as documents write it.
pub(super) fn plain(name: &Name) -> String {
    let text = name.to_string();
    text.strip_suffix('.').filter(|own| !own.is_empty()).unwrap_or(&text).to_owned()
}

/// The entry of a policy that this text is.
pub(super) fn read_entry(key: &PolicyKey, yaml: &str) -> Option<Egress> {
    let (kind, namespace) = match &key.namespace {
        Some(namespace) => ("CiliumNetworkPolicy", format!(", namespace: \"{namespace}\"")),
        None => ("CiliumClusterwideNetworkPolicy", String::new()),
    };
    let text = format!(
        "apiVersion: cilium.io/v2\nkind: {kind}\nmetadata: {{name: change{namespace}}}\nspec:\n  \
         endpointSelector: {{}}\n  egress:\n{}\n",
        indented(yaml, "  ")
    );
    let file = Arc::from(Path::new("change"));
    let report = policy::check(&file, &text, Options::default()).pop()?;
    let rule = report.policy?.rules.into_iter().next()?;
    rule.egress.first().cloned()
}

pub(super) fn indented(text: &str, by: &str) -> String {
    text.lines().map(|line| format!("{by}{line}\n")).collect()
}
