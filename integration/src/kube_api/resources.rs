//! The kinds of objects that the server knows.

/// The group of the definitions of custom objects.
const DEFINITIONS: &str = "apiextensions.k8s.io";

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
    /// Other names by which people ask for it.
    pub short: Vec<String>,
}

impl Resource {
    /// What `apiVersion` says.
    pub fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// Its plural with its group.
    pub fn full_name(&self) -> String {
        match self.group.as_str() {
            "" => self.plural.clone(),
            group => format!("{}.{group}", self.plural),
        }
    }
}

/// The kinds that every cluster has, as far as tests need them.
pub(crate) fn built_in() -> Vec<Resource> {
    [
        ("", "namespaces", "Namespace", false, true, "ns"),
        ("", "nodes", "Node", false, true, "no"),
        ("", "pods", "Pod", true, true, "po"),
        ("", "services", "Service", true, true, "svc"),
        ("", "secrets", "Secret", true, false, ""),
        // The same objects as those of events.k8s.io.
        ("", "events", "Event", true, false, "ev"),
        ("discovery.k8s.io", "endpointslices", "EndpointSlice", true, false, ""),
        ("coordination.k8s.io", "leases", "Lease", true, false, ""),
        ("events.k8s.io", "events", "Event", true, false, "ev"),
        (DEFINITIONS, "customresourcedefinitions", "CustomResourceDefinition", false, true, "crd"),
    ]
    .into_iter()
    .map(|(group, plural, kind, namespaced, status, short)| Resource {
        group: group.to_owned(),
        version: "v1".to_owned(),
        plural: plural.to_owned(),
        kind: kind.to_owned(),
        namespaced,
        status,
        short: short.split_whitespace().map(str::to_owned).collect(),
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
    /// What of the object is meant, where it is not the object: `status`, `exec`.
    pub part: Option<String>,
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
        let (plural, name, part) = match rest {
            [plural] => (plural, None, None),
            [plural, name] => (plural, Some((*name).to_owned()), None),
            [plural, name, part] => (plural, Some((*name).to_owned()), Some((*part).to_owned())),
            _ => return None,
        };
        Some(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: (*plural).to_owned(),
            namespace,
            name,
            part,
        })
    }

    /// Whether an object's status is meant.
    pub fn is_status(&self) -> bool {
        self.part.as_deref() == Some("status")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> (String, Option<String>, Option<String>, bool) {
        let target = Target::read(path).unwrap();
        (target.plural, target.namespace, target.name, target.part.is_some())
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
