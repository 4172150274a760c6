//! What a look means, in words: pure.

use std::collections::{BTreeMap, BTreeSet};

use api::{Bypass, BypassKind};
use bpf::{Other, Redirects, Side, Sight, Unread};
use model::{EndpointName, Interface};

/// How many connections of each endpoint ended without an answer that was seen.
pub type Unanswered = BTreeMap<EndpointName, u64>;

/// One may be chance: a server that died just then.
const TELLING: u64 = 3;
/// So many interfaces or pods are named.
const NAMED: usize = 4;

const UNSEEN: &str = "what it hands into pods never passes the node's end of their interfaces: \
    answers of pods to connections from there are judged as packets of the pods' own, and dropped \
    unless a policy allows them; answers to pods' connections are not noted, so that these count \
    as idle after a minute";
const UNJUDGED: &str =
    "what it ends with a verdict of its own, or sends another way, is not judged";
const UNRECORDED: &str = "what it ends with a verdict of its own, or sends another way, is not seen \
    to reach the pod, so that answers to it may be dropped";

/// What there is to tell, in a fixed order.
pub fn judge(sight: &Sight, node: &host::Node, unanswered: &Unanswered) -> Vec<Bypass> {
    let mut found = into_pods(sight, node);
    found.extend(first(sight, node));
    found.extend(first_by_xdp(sight, node));
    found.extend(netkit(node));
    found.extend(unseen_answers(unanswered));
    found.extend(unread(sight, node));
    found
}

/// Programs that hand packets into pods, each with all interfaces on which one of its name stands.
fn into_pods(sight: &Sight, node: &host::Node) -> Vec<Bypass> {
    let mut places: BTreeMap<(&str, &str), Vec<&Other>> = BTreeMap::new();
    for other in &sight.others {
        if let Redirects::IntoNamespace { caller } = &other.redirects {
            places.entry((&other.name, caller)).or_default().push(other);
        }
    }
    let told = places.into_iter().map(|((name, caller), others)| {
        let call = if name == caller {
            "calls bpf_redirect_peer".to_owned()
        } else {
            format!("goes on with `{caller}`, which calls bpf_redirect_peer")
        };
        Bypass {
            kind: BypassKind::IntoPod,
            subject: name.to_owned(),
            cause: format!("{} {call}", place(&others, node)),
            effect: UNSEEN.to_owned(),
            remedy: remedy(&[name, caller]).to_owned(),
        }
    });
    told.collect()
}

/// What turns it off, for those whose programs are known by their names.
fn remedy(names: &[&str]) -> &'static str {
    let is_of = |prefixes: &[&str]| {
        names.iter().any(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
    };
    if is_of(&["cil_", "tail_"]) {
        "These are Cilium's names: set bpf.hostLegacyRouting=true there"
    } else if is_of(&["cali"]) {
        "These are Calico's names: set bpfRedirectToPeer: Disabled in its FelixConfiguration, or \
         use its iptables or nftables dataplane"
    } else {
        "Have whoever loaded it send packets to the node's end (bpf_redirect, bpf_redirect_neigh)"
    }
}

fn first(sight: &Sight, node: &host::Node) -> Vec<Bypass> {
    let mut places: BTreeMap<(Side, &str), Vec<&Other>> = BTreeMap::new();
    for other in sight.others.iter().filter(|other| other.precedes) {
        places.entry((other.side, &other.name)).or_default().push(other);
    }
    let told = places.into_iter().map(|((side, name), others)| Bypass {
        kind: BypassKind::First,
        subject: format!("{name} at {side}"),
        cause: format!("{} comes before fqdnd's", place(&others, node)),
        effect: match side {
            Side::Ingress => UNJUDGED,
            Side::Egress => UNRECORDED,
        }
        .to_owned(),
        remedy:
            "Have it attached behind: by tcx without BPF_F_BEFORE, or as a filter with a later \
                 priority"
                .to_owned(),
    });
    told.collect()
}

fn first_by_xdp(sight: &Sight, node: &host::Node) -> Option<Bypass> {
    let with_xdp = |index: &&Interface| node.link(**index).is_some_and(|link| link.xdp.is_some());
    let interfaces: BTreeSet<Interface> = sight.own.iter().filter(with_xdp).copied().collect();
    (!interfaces.is_empty()).then(|| Bypass {
        kind: BypassKind::First,
        subject: "xdp".to_owned(),
        cause: format!("an XDP program on {} comes before fqdnd's", names(&interfaces, node)),
        effect: UNJUDGED.to_owned(),
        remedy: "Take it off pods' interfaces".to_owned(),
    })
}

fn netkit(node: &host::Node) -> Option<Bypass> {
    let devices = node.links().filter(|link| matches!(link.kind, host::LinkKind::Netkit(_)));
    let devices: BTreeSet<Interface> = devices.map(|link| link.index).collect();
    (!devices.is_empty()).then(|| Bypass {
        kind: BypassKind::Netkit,
        subject: "netkit".to_owned(),
        cause: format!("netkit devices: {}", names(&devices, node)),
        effect:
            "pods behind them are not judged, but for those whose record names the device, and \
                 these only for what the device's own programs let through"
                .to_owned(),
        remedy: "Have the CNI make veths; of Cilium: bpf.datapathMode=veth".to_owned(),
    })
}

fn unseen_answers(unanswered: &Unanswered) -> Option<Bypass> {
    let telling: Vec<_> = unanswered.iter().filter(|(_, count)| **count >= TELLING).collect();
    let count: u64 = telling.iter().map(|(_, count)| **count).sum();
    let pods = listed(telling.iter().map(|(name, _)| format!("{}/{}", name.namespace, name.name)));
    (!telling.is_empty()).then(|| Bypass {
        kind: BypassKind::Unanswered,
        subject: "connections".to_owned(),
        cause: format!("{count} connections that ended without an answer being seen, of {pods}"),
        effect: "answers seem to reach these pods past the node's end of their interfaces, by \
                 which they are not noted: connections count as idle after a minute, and answers \
                 of pods to connections from outside may be dropped"
            .to_owned(),
        remedy: "Find the program that does it by `fqdnd check`, with all of root's rights on the \
                 node"
            .to_owned(),
    })
}

fn unread(sight: &Sight, node: &host::Node) -> Vec<Bypass> {
    let mut places: BTreeMap<Unread, Vec<&Other>> = BTreeMap::new();
    for other in sight.others.iter().filter(|other| other.side == Side::Ingress) {
        if let Redirects::Unread(why) = other.redirects {
            places.entry(why).or_default().push(other);
        }
    }
    let told = places.into_iter().map(|(why, others)| {
        let interfaces: BTreeSet<Interface> = others.iter().map(|other| other.interface).collect();
        Bypass {
            kind: BypassKind::Unread,
            subject: why.to_string(),
            cause: format!("programs of others at ingress of {}", names(&interfaces, node)),
            effect: format!("whether they hand packets into pods is not known: {why}"),
            remedy: "`fqdnd check`, with all of root's rights on the node, can tell".to_owned(),
        }
    });
    told.collect()
}

/// The programs of one name, by number, and where they stand.
fn place(others: &[&Other], node: &host::Node) -> String {
    let interfaces: BTreeSet<Interface> = others.iter().map(|other| other.interface).collect();
    let ids: BTreeSet<u32> = others.iter().filter_map(|other| other.program).collect();
    let Some(one) = others.first() else { return String::new() };
    let what = match (one.name.as_str(), one.program) {
        ("", _) => "a program".to_owned(),
        (name, Some(_)) => format!("the program `{name}`"),
        (name, None) => format!("a {name} filter"),
    };
    let ids = match ids.len() {
        0 => String::new(),
        _ => format!(" (id {})", listed(ids.iter().map(ToString::to_string))),
    };
    format!("{what}{ids} at {} of {}", one.side, names(&interfaces, node))
}

fn names(interfaces: &BTreeSet<Interface>, node: &host::Node) -> String {
    listed(interfaces.iter().map(|index| {
        node.link(*index).map_or_else(|| format!("interface {index}"), |link| link.name.clone())
    }))
}

/// The first few, and how many more.
fn listed(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(NAMED);
    let mut text = all.take(NAMED).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests;
