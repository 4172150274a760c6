//! Objects as an API server gives them, and what they are read to.
//!
//! An object is taken whole as text first: one that cannot be read is a problem of its own, and
//! never one of its list. Then only what enforcement needs of it is kept.

use std::path::Path;
use std::sync::Arc;

use policy::{Document, Policy, Problem};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::backends::Slice;
use crate::cluster::condition::Condition;
use crate::cluster::kept;
use crate::cluster::kind::{Kind, Resource};
use crate::crd::{ENFORCED, VALID};
use crate::described::{Described, Json};
use crate::pod::Pod;
use crate::reading::{NamespaceDocument, Object};
use crate::service::Service;
use crate::{cidr_group, node, secret};

/// An object as the API server gave it.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Raw(Box<RawValue>);

/// An object's namespace and name; nodes and the like have no namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name {
    pub namespace: Option<String>,
    pub name: String,
}

/// What an object was read to.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub name: Name,
    /// What it is called in problems.
    pub source: Arc<Path>,
    pub uid: String,
    /// Of its `spec`, as the API server counts it.
    pub generation: i64,
    /// Where a watch goes on after it.
    pub resource_version: String,
    /// What its status says of what became of it.
    pub told: Vec<Condition>,
    /// What it says, or why it says nothing.
    pub object: Result<Object, Vec<Problem>>,
    /// What the next start is to find of it.
    pub kept: Option<Box<str>>,
}

/// What every object says of itself. It is read first, and without checks: an object that breaks
/// a rule must still be known by its name.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Header {
    metadata: HeaderMetadata,
    status: HeaderStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct HeaderStatus {
    /// Those of policies; other objects' conditions are of other kinds, and not looked at.
    conditions: serde_json::Value,
}

impl HeaderStatus {
    fn told(self) -> Vec<Condition> {
        let conditions: Vec<Condition> =
            serde_json::from_value(self.conditions).unwrap_or_default();
        let of_ours = |own: &Condition| own.kind == VALID || own.kind == ENFORCED;
        conditions.into_iter().filter(of_ours).collect()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct HeaderMetadata {
    name: String,
    namespace: Option<String>,
    uid: String,
    resource_version: String,
    generation: i64,
}

impl Raw {
    /// Reads it as a type of the caller's.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.0.get())
    }

    /// Where a watch goes on after it.
    pub fn version(&self) -> Option<String> {
        let header: Header = self.parse().ok()?;
        Some(header.metadata.resource_version).filter(|version| !version.is_empty())
    }

    /// Reads it as an object of this kind. One without a name is none.
    pub fn read(&self, kind: Kind, policies: policy::Options) -> Option<Read> {
        let text = self.0.get();
        let Header { metadata, status } = self.parse().ok()?;
        if metadata.name.is_empty() {
            return None;
        }
        let source = kind.source(metadata.namespace.as_deref(), &metadata.name);
        let json = Json { name: &source, text };
        let alone = |problem| vec![problem];
        let object = match kind {
            Kind::NetworkPolicies | Kind::ClusterwideNetworkPolicies => {
                policy(&source, &typed(kind, text), policies)
            }
            Kind::LocalPods | Kind::RemotePods => Pod::read(&json).map(Arc::new).map(Object::Pod),
            Kind::Services => {
                Service::read(&json).map(Arc::new).map(Object::Service).map_err(alone)
            }
            Kind::EndpointSlices => {
                let slice = Slice::read(&json).map(|(_, slice)| slice.map(Arc::new));
                slice.map(Object::Slice).map_err(alone)
            }
            Kind::Nodes => node::read(&json).map(Arc::new).map(Object::Node).map_err(alone),
            Kind::CidrGroups => {
                cidr_group::read(&json).map(Arc::new).map(Object::CidrGroup).map_err(alone)
            }
            Kind::Secrets => {
                let secret = secret::read(&json).map(|(_, secret)| Arc::new(secret));
                secret.map(Object::Secret).map_err(alone)
            }
            Kind::Namespaces => json
                .read()
                .map(|read: NamespaceDocument| Object::Namespace(read.labels()))
                .map_err(alone),
        };
        Some(Read {
            name: Name { namespace: metadata.namespace, name: metadata.name },
            source,
            uid: metadata.uid,
            generation: metadata.generation,
            resource_version: metadata.resource_version,
            told: if kind.is_policy() { status.told() } else { Vec::new() },
            object,
            kept: None,
        })
    }

    /// What is kept of it for the next start.
    pub fn kept(&self, kind: Kind) -> Option<Box<str>> {
        kept::text(kind, self.0.get())
    }
}

fn policy(
    source: &Arc<Path>,
    text: &str,
    options: policy::Options,
) -> Result<Object, Vec<Problem>> {
    let (documents, problems) = Document::read_all(source, text);
    let [document] = &documents[..] else { return Err(unplaced(problems)) };
    match Policy::read_with(document, options) {
        Ok(mut policy) => {
            policy.warnings = unplaced(policy.warnings);
            policy.unenforced = unplaced(policy.unenforced);
            Ok(Object::Policy(Arc::new(policy)))
        }
        Err(problems) => Err(unplaced(problems)),
    }
}

/// A policy's document, the same whatever else the server says of the object: one that only has
/// another status is the policy that it was.
fn typed(kind: Kind, text: &str) -> String {
    let kept = kept::text(kind, text);
    let rest = kept.as_deref().unwrap_or(text).trim_start();
    let Some(rest) = rest.strip_prefix('{') else { return rest.to_owned() };
    let Resource { group, version, kind, .. } = kind.resource();
    format!("{{\"apiVersion\":\"{group}/{version}\",\"kind\":\"{kind}\",{rest}")
}

/// Places in the API server's text mean nothing: the field says where.
fn unplaced(problems: Vec<Problem>) -> Vec<Problem> {
    problems.into_iter().map(|problem| Problem { line: 0, column: 0, ..problem }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, text: &str) -> Read {
        let raw: Raw = serde_json::from_str(text).unwrap();
        raw.read(kind, policy::Options::default()).unwrap()
    }

    #[test]
    fn a_policy_is_checked_as_one_in_a_file_and_named_by_its_kind_and_name() {
        let text = r#"{"metadata": {"name": "web", "namespace": "prod", "generation": 3, "uid": "u"},
            "spec": {"endpointSelector": {}, "egress": [{"toCIDR": ["10.0.0.0/40"]}]}}"#;
        let read = read(Kind::NetworkPolicies, text);
        assert_eq!((read.generation, read.uid.as_str()), (3, "u"));
        let problems = read.object.unwrap_err();
        assert_eq!(problems.len(), 1);
        let problem = &problems[0];
        assert_eq!(problem.file.to_str(), Some("ciliumnetworkpolicy prod/web"));
        assert_eq!((problem.line, problem.field.as_str()), (0, "spec.egress[0].toCIDR[0]"));
    }

    #[test]
    fn a_policy_of_which_only_the_status_changed_is_the_same() {
        let policy = |more: &str, rest: &str| {
            let text = format!(
                r#"{{{more}"metadata": {{"name": "web", "namespace": "prod"{rest}}},
                "spec": {{"endpointSelector": {{}}, "egress": [{{"toCIDR": ["10.0.0.0/8"]}}]}},
                "status": {{"conditions": [{{"type": "Valid", "message": "{}"}}]}}}}"#,
                rest.len()
            );
            let Ok(Object::Policy(policy)) = read(Kind::NetworkPolicies, &text).object else {
                panic!("{text}")
            };
            policy
        };
        let kind = r#""apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "#;
        let managed = r#", "managedFields": [{"manager": "fqdnd"}], "resourceVersion": "9""#;
        assert_eq!(policy("", ""), policy(kind, managed));
    }

    #[test]
    fn a_pod_through_an_api_server_says_nothing_of_its_interface_and_addresses() {
        let text = r#"{"metadata": {"name": "a", "namespace": "n", "uid": "1", "annotations": {
            "fqdnd.io/interface": "veth1", "fqdnd.io/addresses": "10.0.0.9",
            "fqdnd.io/extra-sources": "10.9.0.0/16"}},
            "spec": {"containers": [{"ports": [{"name": "web", "containerPort": 80}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]}}"#;
        let Ok(Object::Pod(pod)) = read(Kind::LocalPods, text).object else { panic!() };
        assert_eq!(pod.attachment, None);
        assert_eq!(pod.addresses, ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(pod.extra_sources.len(), 1);
    }

    #[test]
    fn an_object_that_cannot_be_read_is_still_known_by_its_name() {
        let text = r#"{"metadata": {"name": "a", "namespace": "n"},
            "spec": {"ports": [{"port": 99999}]}}"#;
        let read = read(Kind::Services, text);
        assert_eq!(read.name.name, "a");
        assert_eq!(read.object.unwrap_err()[0].field, "spec.ports[0].port");
    }

    #[test]
    fn an_object_without_a_name_is_none() {
        let raw: Raw = serde_json::from_str(r#"{"metadata": {}}"#).unwrap();
        assert!(raw.read(Kind::Nodes, policy::Options::default()).is_none());
    }
}
