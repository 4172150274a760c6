//! The kinds of objects that the server knows.

/// A kind of objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Resource {
    pub group: String,
    pub version: String,
    pub plural: String,
    pub kind: String,
    pub namespaced: bool,
    /// Whether its status is written by requests of its own.
    pub status: bool,
}

impl Resource {
    /// What `apiVersion` says.
    pub fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }
}

/// The kinds that every cluster has, as far as tests need them.
pub(crate) fn built_in() -> Vec<Resource> {
    [
        ("", "v1", "namespaces", "Namespace", false, true),
        ("", "v1", "nodes", "Node", false, true),
        ("", "v1", "pods", "Pod", true, true),
        ("", "v1", "services", "Service", true, true),
        ("", "v1", "secrets", "Secret", true, false),
        ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", true, false),
        ("coordination.k8s.io", "v1", "leases", "Lease", true, false),
        ("events.k8s.io", "v1", "events", "Event", true, false),
        (
            "apiextensions.k8s.io",
            "v1",
            "customresourcedefinitions",
            "CustomResourceDefinition",
            false,
            true,
        ),
    ]
    .into_iter()
    .map(|(group, version, plural, kind, namespaced, status)| Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: plural.to_owned(),
        kind: kind.to_owned(),
        namespaced,
        status,
    })
    .collect()
}

/// What the path of a request means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub group: String,
    pub version: String,
    pub plural: String,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub status: bool,
}

impl Target {
    /// Reads `/api/V/…` and `/apis/G/V/…`.
    pub fn read(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() && rest != ["status"] => {
                (Some((*namespace).to_owned()), rest)
            }
            rest => (None, rest),
        };
        let (plural, name, status) = match rest {
            [plural] => (plural, None, false),
            [plural, name] => (plural, Some((*name).to_owned()), false),
            [plural, name, "status"] => (plural, Some((*name).to_owned()), true),
            _ => return None,
        };
        Some(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: (*plural).to_owned(),
            namespace,
            name,
            status,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> (String, Option<String>, Option<String>, bool) {
        let target = Target::read(path).unwrap();
        (target.plural, target.namespace, target.name, target.status)
    }

    #[test]
    fn paths_are_read_as_an_api_server_reads_them() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(read("/api/v1/pods"), ("pods".into(), None, None, false));
        assert_eq!(read("/api/v1/namespaces/a"), ("namespaces".into(), None, some("a"), false));
        let status = ("namespaces".into(), None, some("a"), true);
        assert_eq!(read("/api/v1/namespaces/a/status"), status);
        let policy = "/apis/cilium.io/v2/namespaces/a/ciliumnetworkpolicies/b/status";
        assert_eq!(read(policy), ("ciliumnetworkpolicies".into(), some("a"), some("b"), true));
        assert_eq!(Target::read("/version"), None);
    }
}
