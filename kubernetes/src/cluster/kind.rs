//! What is watched of a cluster, and where it stands in the API.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A watched list of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// CiliumNetworkPolicies.
    NetworkPolicies,
    /// CiliumClusterwideNetworkPolicies.
    ClusterwideNetworkPolicies,
    /// CiliumCIDRGroups.
    CidrGroups,
    /// Namespaces.
    Namespaces,
    /// Services.
    Services,
    /// EndpointSlices.
    EndpointSlices,
    /// Nodes.
    Nodes,
    /// The pods of this node.
    LocalPods,
    /// All other pods.
    RemotePods,
    /// Secrets that policies name, each of which is watched alone.
    Secrets,
}

/// A kind of objects as the API names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
}

impl Resource {
    /// The path of all such objects in a namespace, if one is given.
    pub fn path_in(self, namespace: Option<&str>) -> String {
        let Self { group, version, plural, .. } = self;
        let root = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
        match namespace {
            Some(namespace) => format!("{root}/{version}/namespaces/{namespace}/{plural}"),
            None => format!("{root}/{version}/{plural}"),
        }
    }
}

impl Kind {
    /// Those that are read whole.
    pub const ALL: [Self; 9] = [
        Self::NetworkPolicies,
        Self::ClusterwideNetworkPolicies,
        Self::CidrGroups,
        Self::Namespaces,
        Self::Services,
        Self::EndpointSlices,
        Self::Nodes,
        Self::LocalPods,
        Self::RemotePods,
    ];

    /// Its name in status and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NetworkPolicies => "ciliumnetworkpolicies",
            Self::ClusterwideNetworkPolicies => "ciliumclusterwidenetworkpolicies",
            Self::CidrGroups => "ciliumcidrgroups",
            Self::Namespaces => "namespaces",
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices",
            Self::Nodes => "nodes",
            Self::LocalPods => "pods of this node",
            Self::RemotePods => "pods of other nodes",
            Self::Secrets => "secrets",
        }
    }

    /// Where it stands in the API.
    pub(crate) fn resource(self) -> Resource {
        let (group, version, kind, plural) = match self {
            Self::NetworkPolicies => {
                ("cilium.io", "v2", "CiliumNetworkPolicy", "ciliumnetworkpolicies")
            }
            Self::ClusterwideNetworkPolicies => (
                "cilium.io",
                "v2",
                "CiliumClusterwideNetworkPolicy",
                "ciliumclusterwidenetworkpolicies",
            ),
            Self::CidrGroups => ("cilium.io", "v2", "CiliumCIDRGroup", "ciliumcidrgroups"),
            Self::Namespaces => ("", "v1", "Namespace", "namespaces"),
            Self::Services => ("", "v1", "Service", "services"),
            Self::EndpointSlices => ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
            Self::Nodes => ("", "v1", "Node", "nodes"),
            Self::LocalPods | Self::RemotePods => ("", "v1", "Pod", "pods"),
            Self::Secrets => ("", "v1", "Secret", "secrets"),
        };
        Resource { group, version, kind, plural }
    }

    /// Which of the objects are meant.
    pub(crate) fn field_selector(self, node: &str) -> Option<String> {
        match self {
            Self::LocalPods => Some(format!("spec.nodeName={node}")),
            Self::RemotePods => Some(format!("spec.nodeName!={node}")),
            Self::NetworkPolicies
            | Self::ClusterwideNetworkPolicies
            | Self::CidrGroups
            | Self::Namespaces
            | Self::Services
            | Self::EndpointSlices
            | Self::Nodes
            | Self::Secrets => None,
        }
    }

    /// Whether a cluster may lack this kind altogether.
    pub(crate) fn is_custom(self) -> bool {
        match self {
            Self::NetworkPolicies | Self::ClusterwideNetworkPolicies | Self::CidrGroups => true,
            Self::Namespaces
            | Self::Services
            | Self::EndpointSlices
            | Self::Nodes
            | Self::LocalPods
            | Self::RemotePods
            | Self::Secrets => false,
        }
    }

    /// Whether its objects are policies.
    pub(crate) fn is_policy(self) -> bool {
        matches!(self, Self::NetworkPolicies | Self::ClusterwideNetworkPolicies)
    }

    /// What an object is called in problems, in the place of a file.
    pub(crate) fn source(self, namespace: Option<&str>, name: &str) -> Arc<Path> {
        let kind = match self {
            Self::NetworkPolicies => "ciliumnetworkpolicy",
            Self::ClusterwideNetworkPolicies => "ciliumclusterwidenetworkpolicy",
            Self::CidrGroups => "ciliumcidrgroup",
            Self::Namespaces => "namespace",
            Self::Services => "service",
            Self::EndpointSlices => "endpointslice",
            Self::Nodes => "node",
            Self::LocalPods | Self::RemotePods => "pod",
            Self::Secrets => "secret",
        };
        let text = match namespace {
            Some(namespace) => format!("{kind} {namespace}/{name}"),
            None => format!("{kind} {name}"),
        };
        Arc::from(Path::new(&text))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
