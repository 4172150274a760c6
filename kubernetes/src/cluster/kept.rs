//! What is kept of an object for the next start: the fields that are read, as they came.
//!
//! What changes without changing what is enforced is left out, so that it is not written again and
//! again. Secrets are never kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::cluster::kind::Kind;

/// Parts of annotations' names that somebody reads.
const ANNOTATIONS: [&str; 3] = ["fqdnd.io/", "cilium", "kubernetes.io/config.mirror"];

/// An object of which nearly all counts.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Whole<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spec: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address_type: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
}

#[derive(Deserialize, Serialize)]
struct Pod<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    spec: Option<PodSpec<'a>>,
    status: Option<Status<'a>>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    host_network: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_account_name: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    containers: Option<Vec<Container<'a>>>,
}

#[derive(Deserialize, Serialize)]
struct Container<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    ports: Option<&'a RawValue>,
}

/// What is read of the status of pods, services and nodes.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    phase: Option<&'a RawValue>,
    #[serde(rename = "podIP", skip_serializing_if = "Option::is_none")]
    pod_ip: Option<&'a RawValue>,
    #[serde(rename = "podIPs", skip_serializing_if = "Option::is_none")]
    pod_ips: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load_balancer: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    addresses: Option<&'a RawValue>,
}

#[derive(Deserialize, Serialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    name: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<String, &'a RawValue>>,
}

impl Metadata<'_> {
    fn prune(&mut self) {
        if let Some(annotations) = &mut self.annotations {
            annotations.retain(|key, _| ANNOTATIONS.iter().any(|part| key.contains(part)));
        }
    }
}

/// The text to keep of an object that could be read; one line. None where nothing is to be kept.
pub(super) fn text(kind: Kind, object: &str) -> Option<Box<str>> {
    let text = match kind {
        Kind::Secrets => return None,
        Kind::LocalPods | Kind::RemotePods => {
            let mut pod: Pod<'_> = serde_json::from_str(object).ok()?;
            pod.metadata.prune();
            serde_json::to_string(&pod).ok()?
        }
        Kind::NetworkPolicies | Kind::ClusterwideNetworkPolicies => policy(object)?,
        Kind::CidrGroups
        | Kind::Namespaces
        | Kind::Services
        | Kind::EndpointSlices
        | Kind::Nodes => {
            let mut whole: Whole<'_> = serde_json::from_str(object).ok()?;
            whole.metadata.prune();
            if !matches!(kind, Kind::Services | Kind::Nodes) {
                whole.status = None;
            }
            serde_json::to_string(&whole).ok()?
        }
    };
    // Between two fields only: within a string it is escaped.
    Some(text.replace(['\n', '\r'], " ").into())
}

/// All of a policy but its status, and what the server says besides: a field that nobody knows is
/// told of, so it must not go.
fn policy(object: &str) -> Option<String> {
    let mut fields: BTreeMap<String, &RawValue> = serde_json::from_str(object).ok()?;
    for other in ["apiVersion", "kind", "status"] {
        fields.remove(other);
    }
    let mut metadata: Metadata<'_> = serde_json::from_str(fields.get("metadata")?.get()).ok()?;
    metadata.prune();
    let metadata = to_raw_value(&metadata).ok()?;
    fields.insert("metadata".to_owned(), &metadata);
    serde_json::to_string(&fields).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::object::Raw;

    #[test]
    fn what_is_kept_of_an_object_reads_as_the_object_did() {
        let noise = json!({"managedFields": [{"manager": "x"}], "resourceVersion": "7",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}",
                "fqdnd.io/extra-sources": "10.9.0.0/16",
                "network.cilium.io/ipv4-health-ip": "192.0.2.9",
                "kubernetes.io/config.mirror": "abc"},
            "labels": {"app": "a\nb", "kubernetes.io/service-name": "db"},
            "name": "a", "namespace": "n", "uid": "1", "generation": 3});
        let mut noise = noise;
        noise["labels"]["app"] = "web".into();
        let port = json!({"name": "web", "containerPort": 80, "port": 80, "protocol": "TCP"});
        let objects = [
            (
                Kind::LocalPods,
                json!({"spec": {"hostNetwork": false, "serviceAccountName": "s",
                "containers": [{"image": "x", "ports": [port]}, {"image": "y"}]},
                "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}],
                    "conditions": [{"type": "Ready"}]}}),
            ),
            (
                Kind::RemotePods,
                json!({"spec": {"hostNetwork": true},
                "status": {"phase": "Failed"}}),
            ),
            (
                Kind::Services,
                json!({"spec": {"clusterIP": "10.96.0.9", "ports": [port],
                "selector": {"a": "b"}},
                "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}}}),
            ),
            (
                Kind::EndpointSlices,
                json!({"addressType": "IPv4", "ports": [port],
                "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}]}),
            ),
            (
                Kind::Nodes,
                json!({"spec": {"podCIDR": "10.1.0.0/24"}, "status": {
                "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
                "conditions": [{"lastHeartbeatTime": "now"}]}}),
            ),
            (Kind::Namespaces, json!({})),
            (Kind::CidrGroups, json!({"spec": {"externalCIDRs": ["10.0.0.0/8"]}})),
            (
                Kind::NetworkPolicies,
                json!({"spec": {"endpointSelector": {},
                "egress": [{"toCIDR": ["10.0.0.0/8"]}]}, "status": {"conditions": []}}),
            ),
            (
                Kind::ClusterwideNetworkPolicies,
                json!({"specs": [{"endpointSelector": {},
                "egressDeny": [{"toEntities": ["world"]}]}]}),
            ),
        ];
        let seen: Vec<Kind> = Kind::ALL
            .into_iter()
            .filter(|kind| objects.iter().any(|(own, _)| own == kind))
            .collect();
        assert_eq!(seen, Kind::ALL);
        for (kind, mut object) in objects {
            object["metadata"] = noise.clone();
            // As an indented text, which is kept as one line all the same.
            let whole = serde_json::to_string_pretty(&object).unwrap();
            let kept = text(kind, &whole).unwrap();
            assert!(!kept.contains(['\n', '\r']) && !kept.contains("managedFields"), "{kept}");
            let read = |text: &str| {
                let raw: Raw = serde_json::from_str(text).unwrap();
                let read = raw.read(kind, policy::Options::default()).unwrap();
                assert!(read.object.is_ok(), "{kind}: {:?}", read.object);
                (format!("{:?}", read.object), read.name, read.uid, read.generation)
            };
            assert_eq!(read(&whole), read(&kept), "{kind}");
            assert_eq!(text(kind, &kept), Some(kept), "{kind}");
        }
        assert_eq!(text(Kind::Secrets, r#"{"metadata": {"name": "x"}}"#), None);
    }
}
