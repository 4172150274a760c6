//! Why a connection passes or does not: the question and answer of
//! [`EXPLAIN`](crate::path::EXPLAIN), and what `fqdnctl policy explain -o json` prints.

use std::net::IpAddr;

use engine::explain;
use model::{EndpointName, Protocol};
use policy::DefaultDeny;
use serde::{Deserialize, Serialize};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExplainQuery {
    /// The pod that sends.
    pub from: EndpointName,
    /// `NAMESPACE/POD`, an address, a name, `entity:NAME` or `service:NAMESPACE/NAME`.
    pub to: String,
    /// The protocol's number.
    pub protocol: Protocol,
    /// The port; for ICMP, the type.
    pub port: u16,
    /// The name that is asked for, if this is a question of DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<String>,
    /// Names with addresses that count beside those that the pod has resolved.
    #[serde(default)]
    pub resolved: Vec<ResolvedName>,
}

/// A name and an address of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResolvedName {
    /// The name.
    pub name: String,
    /// The address.
    pub address: IpAddr,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// `allow`, `redirect`, `audit` or `deny`. What is audited passes, and would be dropped or
    /// refused, were none of the pod's policies audited.
    pub verdict: String,
    /// Why, in a word: `no-policy`, `not-enforced`, `allow-rule`, `l7-rule`, `dns-rule`,
    /// `name-refused`, or the reason that the datapath counts the drop under.
    pub reason: String,
    /// Whether what no rule allows is denied for the pod.
    pub enforced: bool,
    /// The same, with what is between: `none`, `audited` or `enforced`.
    #[serde(default)]
    pub default_deny: String,
    /// The rules that decided; those that would deny it, if it is audited.
    pub rules: Vec<RulePlace>,
    /// Rules that would allow it, were it not for one thing, the nearest first.
    pub near: Vec<NearRule>,
    /// The policies that select the pod.
    pub policies: Vec<String>,
    /// Those of them that are audited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audited: Vec<String>,
    /// Each destination that was meant.
    pub destinations: Vec<Destination>,
    /// Where a name was meant: whether it may be asked for at the cluster's DNS service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lookup: Option<Destination>,
    /// What would let it pass; nothing where no rule can.
    pub changes: Vec<Change>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// A part of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RulePlace {
    /// The policy's file.
    pub file: String,
    /// The line of the entry.
    pub line: usize,
    /// The policy, `namespace/name` or `name`.
    pub policy: String,
    /// `allow` or `deny`.
    pub direction: String,
    /// The entry.
    pub entry: Spot,
    /// The field that names the destinations.
    pub peers: Spot,
    /// The field that names the ports; absent where the entry is for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Spot>,
    /// Whether the file may have other lines by now: what is in force is an earlier version.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spot {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The field's path.
    pub field: String,
}

/// A part of a rule that would allow it, were it not for one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NearRule {
    /// The part.
    #[serde(flatten)]
    pub rule: RulePlace,
    /// What is in the way: `port`, `destination`, `name`, or a field that is not enforced.
    pub lacks: String,
}

/// What becomes of one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// The destination, for people.
    pub destination: String,
    /// Its address, if one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// `allow`, `redirect`, `audit` or `deny`.
    pub verdict: String,
    /// Why, in a word.
    pub reason: String,
    /// The rules that decided.
    pub rules: Vec<RulePlace>,
}

/// A change to a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// What to do.
    pub kind: ChangeKind,
    /// The policy.
    pub policy: String,
    /// Its file.
    pub file: String,
    /// The line of what is changed, or after which to add.
    pub line: usize,
    /// The list that gains an item, or the field that is replaced or taken out.
    pub field: String,
    /// What to add, or to put in the field's place.
    pub yaml: String,
}

/// What to do with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// Add an item to the list.
    Add,
    /// Put something else in its place.
    Replace,
    /// Take it out.
    Remove,
}

impl From<explain::Explanation> for Explanation {
    fn from(own: explain::Explanation) -> Self {
        Self {
            verdict: own.outcome.as_str().to_owned(),
            reason: own.reason.as_str().to_owned(),
            enforced: own.default_deny == DefaultDeny::Enforced,
            default_deny: own.default_deny.as_str().to_owned(),
            rules: own.decided.iter().map(RulePlace::from).collect(),
            near: own.near.iter().map(NearRule::from).collect(),
            policies: own.policies,
            audited: own.audited,
            destinations: own.destinations.iter().map(Destination::from).collect(),
            lookup: own.lookup.as_ref().map(Destination::from),
            changes: own.changes.into_iter().map(Change::from).collect(),
            notes: own.notes,
        }
    }
}

impl From<&explain::Judged> for Destination {
    fn from(own: &explain::Judged) -> Self {
        Self {
            destination: own.destination.clone(),
            address: own.address,
            verdict: own.outcome.as_str().to_owned(),
            reason: own.reason.as_str().to_owned(),
            rules: own.decided.iter().map(RulePlace::from).collect(),
        }
    }
}

impl From<&policy::Decision> for RulePlace {
    fn from(own: &policy::Decision) -> Self {
        Self {
            file: own.file.display().to_string(),
            line: own.entry.line,
            policy: own.policy.to_string(),
            direction: own.direction.to_string(),
            entry: Spot::from(&own.entry),
            peers: Spot::from(&own.peers),
            ports: own.ports.as_ref().map(Spot::from),
            stale: false,
        }
    }
}

impl From<&policy::Spot> for Spot {
    fn from(own: &policy::Spot) -> Self {
        Self { line: own.line, column: own.column, field: own.field.to_string() }
    }
}

impl From<&policy::Near> for NearRule {
    fn from(own: &policy::Near) -> Self {
        let lacks = match own.lacks {
            policy::Lack::Enforcement(what) => what.field(),
            policy::Lack::Name => "name",
            policy::Lack::Port => "port",
            policy::Lack::Destination => "destination",
        };
        Self { rule: RulePlace::from(&own.rule), lacks: lacks.to_owned() }
    }
}

impl From<explain::Change> for Change {
    fn from(own: explain::Change) -> Self {
        Self {
            kind: match own.kind {
                explain::ChangeKind::Add => ChangeKind::Add,
                explain::ChangeKind::Replace => ChangeKind::Replace,
                explain::ChangeKind::Remove => ChangeKind::Remove,
            },
            policy: own.policy.to_string(),
            file: own.file.display().to_string(),
            line: own.line,
            field: own.field,
            yaml: own.yaml,
        }
    }
}

/// Why a question cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The target is none.
    #[error(transparent)]
    Target(#[from] explain::TargetError),
    /// A name is none.
    #[error("`{0}` is no name: {1}")]
    Name(String, model::NameError),
}

impl ExplainQuery {
    /// The question as the engine takes it. What the pod has resolved by itself is not in it.
    pub fn question(&self) -> Result<explain::Question, QueryError> {
        let name = |text: &String| {
            text.parse::<model::Name>().map_err(|error| QueryError::Name(text.clone(), error))
        };
        let resolved = self.resolved.iter().map(|own| {
            let name = name(&own.name)?;
            Ok(explain::Resolved { name, address: own.address, expired: false })
        });
        Ok(explain::Question {
            from: self.from.clone(),
            to: self.to.parse()?,
            protocol: self.protocol,
            port: self.port,
            asks: self.asks.as_ref().map(name).transpose()?,
            resolved: resolved.collect::<Result<_, QueryError>>()?,
            closed: None,
        })
    }
}
