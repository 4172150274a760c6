//! The directory of Kubernetes manifests that describes a lab, for the daemon to watch.
//!
//! A document appears, changes and goes by a rename or an unlink: whoever watches never reads half
//! a file. Names are those of the lab, so a test adds and removes documents by the same names.

use std::{
    fmt::Write as _,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use crate::plan::{Binding, DNS_SERVICE, PodSpec};

/// Why a document could not be put into the directory or taken out of it.
#[derive(Debug, thiserror::Error)]
#[error("manifest {}: {source}", path.display())]
pub struct ManifestsError {
    path: PathBuf,
    source: io::Error,
}

/// A directory of manifests.
#[derive(Debug)]
pub struct Manifests {
    directory: PathBuf,
}

impl Manifests {
    pub(crate) fn new(directory: PathBuf) -> Result<Manifests, ManifestsError> {
        match fs::create_dir_all(&directory) {
            Ok(()) => Ok(Manifests { directory }),
            Err(source) => Err(ManifestsError { path: directory, source }),
        }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes `NAME.yaml`, in place of what it held.
    pub fn write(&self, name: &str, text: &str) -> Result<(), ManifestsError> {
        let path = self.path(name);
        let draft = self.directory.join(format!(".{name}.draft"));
        fs::write(&draft, text)
            .and_then(|()| fs::rename(&draft, &path))
            .map_err(|source| ManifestsError { path, source })
    }

    /// Takes `NAME.yaml` away.
    pub fn remove(&self, name: &str) -> Result<(), ManifestsError> {
        let path = self.path(name);
        fs::remove_file(&path).map_err(|source| ManifestsError { path, source })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.yaml"))
    }
}

/// What a pod's document says about the machine.
pub(crate) struct PodFacts<'a> {
    pub(crate) addresses: (Ipv4Addr, Ipv6Addr),
    pub(crate) host_interface: &'a str,
    pub(crate) namespace_path: &'a Path,
}

/// The name under which a pod's document stands.
pub(crate) fn pod_name(spec: &PodSpec) -> String {
    format!("pod-{}-{}", spec.namespace, spec.name)
}

/// A running pod as the API server would show it, bound to its interface by annotation.
pub(crate) fn pod(spec: &PodSpec, facts: &PodFacts<'_>) -> String {
    let (v4, v6) = facts.addresses;
    let mut text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {}\n  namespace: {}\n  labels:\n",
        quote(&spec.name),
        quote(&spec.namespace)
    );
    for (key, value) in &spec.labels {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "    {}: {}", quote(key), quote(value));
    }
    let annotation = match spec.binding {
        Binding::Interface => Some(("fqdnd.io/interface", facts.host_interface.to_owned())),
        Binding::Namespace => Some(("fqdnd.io/netns", facts.namespace_path.display().to_string())),
        Binding::None => None,
    };
    if let Some((key, value)) = annotation {
        let _ = writeln!(text, "  annotations:\n    {key}: {}", quote(&value));
    }
    if !spec.ports.is_empty() {
        let _ = writeln!(text, "spec:\n  containers:\n  - name: main\n    ports:");
    }
    for (name, protocol, number) in &spec.ports {
        let name = quote(name);
        let _ =
            writeln!(text, "    - {{name: {name}, protocol: {protocol}, containerPort: {number}}}");
    }
    let _ = writeln!(
        text,
        "status:\n  phase: Running\n  podIP: {v4}\n  podIPs:\n  - ip: {v4}\n  - ip: {}",
        quote(&v6.to_string())
    );
    text
}

/// The namespaces of `names`, labelled as the API server labels them.
pub(crate) fn namespaces<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let document = |name: &str| {
        let name = quote(name);
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels:\n    \
             kubernetes.io/metadata.name: {name}\n"
        )
    };
    names.into_iter().map(document).collect::<Vec<_>>().join("---\n")
}

/// The DNS service and its slices, one a family.
pub(crate) fn dns_service((pod4, pod6): (Ipv4Addr, Ipv6Addr)) -> String {
    let (service4, service6) = DNS_SERVICE;
    let service6 = quote(&service6.to_string());
    let service = format!(
        "apiVersion: v1\n\
         kind: Service\n\
         metadata:\n  name: kube-dns\n  namespace: kube-system\n  \
           labels:\n    k8s-app: kube-dns\n\
         spec:\n  type: ClusterIP\n  clusterIP: {service4}\n  \
           clusterIPs:\n  - {service4}\n  - {service6}\n  \
           ipFamilies: [IPv4, IPv6]\n  ipFamilyPolicy: RequireDualStack\n  \
           selector:\n    k8s-app: kube-dns\n  \
           ports:\n  \
           - {{name: dns, port: 53, protocol: UDP, targetPort: 53}}\n  \
           - {{name: dns-tcp, port: 53, protocol: TCP, targetPort: 53}}\n"
    );
    let slices = [endpoint_slice("v4", pod4.into()), endpoint_slice("v6", pod6.into())];
    [service, slices.join("---\n")].join("---\n")
}

fn endpoint_slice(suffix: &str, address: IpAddr) -> String {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let address = quote(&address.to_string());
    format!(
        "apiVersion: discovery.k8s.io/v1\n\
         kind: EndpointSlice\n\
         metadata:\n  name: kube-dns-{suffix}\n  namespace: kube-system\n  \
           labels:\n    kubernetes.io/service-name: kube-dns\n\
         addressType: {family}\n\
         endpoints:\n\
         - addresses: [{address}]\n  conditions: {{ready: true, serving: true}}\n  \
           targetRef: {{kind: Pod, name: coredns, namespace: kube-system}}\n\
         ports:\n\
         - {{name: dns, port: 53, protocol: UDP}}\n\
         - {{name: dns-tcp, port: 53, protocol: TCP}}\n"
    )
}

/// A text as a double-quoted YAML scalar, whose escapes include JSON's.
pub(crate) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_written_as_a_person_would() {
        let spec = PodSpec::new("default/client").label("tier", "1");
        let facts = PodFacts {
            addresses: crate::plan::pod_addresses(0),
            host_interface: "v0-client",
            namespace_path: Path::new("/run/netns/x"),
        };
        assert_eq!(
            pod(&spec, &facts),
            r#"apiVersion: v1
kind: Pod
metadata:
  name: "client"
  namespace: "default"
  labels:
    "app": "client"
    "tier": "1"
  annotations:
    fqdnd.io/interface: "v0-client"
status:
  phase: Running
  podIP: 10.244.0.2
  podIPs:
  - ip: 10.244.0.2
  - ip: "fd00:244::2"
"#
        );
    }

    #[test]
    fn the_dns_service_has_both_families() {
        let text = dns_service(crate::plan::pod_addresses(0));
        assert!(text.contains("clusterIPs:\n  - 10.96.0.10\n  - \"fd00:96::a\"\n"), "{text}");
        assert!(text.contains("addressType: IPv4\nendpoints:\n- addresses: [\"10.244.0.2\"]\n"));
        assert!(text.contains("addressType: IPv6\nendpoints:\n- addresses: [\"fd00:244::2\"]\n"));
        assert_eq!(text.matches("---\n").count(), 2);
    }
}
