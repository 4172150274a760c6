//! Who stands at an end of a flow, under the name that people know best.

use flows::{Flow, Record, Side};
use model::Source;
use serde::Serialize;

/// An end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(super) struct Party {
    pub kind: Kind,
    /// The name, without a trailing dot; `namespace/name` of pods and services.
    pub name: String,
}

/// What a party is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Pod,
    Service,
    Name,
    Address,
    /// By what it is in the cluster, such as `host` or `remote-node`.
    Group,
    /// Several parties that are not shown each.
    Others,
}

impl Party {
    /// Who sends.
    pub fn source(flow: &Flow) -> Self {
        Self::of(&flow.source)
    }

    /// Who was meant: of a question of DNS, the name that was asked for.
    pub fn destination(flow: &Flow) -> Self {
        if let Some(Record::Dns(dns)) = flow.l7.as_deref().map(|l7| &l7.record) {
            return Self::named(Kind::Name, plain(&dns.query.to_string()));
        }
        match flow.destination_service.as_deref() {
            Some(own) => Self::named(Kind::Service, &format!("{}/{}", own.namespace, own.name)),
            None => Self::of(&flow.destination),
        }
    }

    /// Those that are not shown each.
    pub fn others(count: usize) -> Self {
        Self::named(Kind::Others, &format!("{count} others"))
    }

    fn of(side: &Side) -> Self {
        if let Some(pod) = &side.who.pod {
            return Self::named(Kind::Pod, &pod.to_string());
        }
        if let Some(name) = side.names.first() {
            return Self::named(Kind::Name, plain(&name.to_string()));
        }
        match (group(side), side.address) {
            (Some(group), _) => Self::named(Kind::Group, group),
            (None, Some(address)) => Self::named(Kind::Address, &address.to_string()),
            (None, None) => Self::named(Kind::Group, "unknown"),
        }
    }

    fn named(kind: Kind, name: &str) -> Self {
        Self { kind, name: name.to_owned() }
    }
}

/// The node itself, other nodes and the like. The world is no group: its addresses tell more.
fn group(side: &Side) -> Option<&str> {
    let reserved = side.who.labels.iter().filter(|label| label.source == Source::Reserved);
    reserved.map(|label| label.key.as_str()).find(|name| !name.starts_with("world"))
}

/// A name without its trailing dot; the root stays a dot.
fn plain(name: &str) -> &str {
    name.strip_suffix('.').filter(|name| !name.is_empty()).unwrap_or(name)
}
