//! A service of the lab: its documents as the API server would show them, and what a node makes of
//! its addresses.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::manifests::quote;

/// A service to be made, or to be made anew with other backends.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    /// Its namespace.
    pub namespace: String,
    /// Its name there.
    pub name: String,
    /// Its labels: `app` and its name.
    pub labels: BTreeMap<String, String>,
    addresses: Vec<IpAddr>,
    outside: Vec<IpAddr>,
    selector: Option<(String, String)>,
    external_name: Option<String>,
    ports: Vec<Port>,
    ready: Vec<IpAddr>,
    unready: Vec<IpAddr>,
}

#[derive(Clone, Debug)]
struct Port {
    protocol: String,
    number: u16,
    target: u16,
    node: Option<u16>,
}

impl ServiceSpec {
    /// A service `namespace/name` without a selector; without addresses it is headless.
    pub fn new(path: &str, addresses: &[&str]) -> ServiceSpec {
        let (namespace, name) = path.split_once('/').unwrap_or(("default", path));
        ServiceSpec {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            labels: BTreeMap::from([("app".to_owned(), name.to_owned())]),
            addresses: addresses.iter().map(|text| known(text)).collect(),
            outside: Vec::new(),
            selector: None,
            external_name: None,
            ports: Vec::new(),
            ready: Vec::new(),
            unready: Vec::new(),
        }
    }

    /// The same with one port more, which leads to this one of the backends.
    #[must_use]
    pub fn port(mut self, protocol: &str, number: u16, target: u16) -> ServiceSpec {
        self.ports.push(Port { protocol: protocol.to_owned(), number, target, node: None });
        self
    }

    /// The same, met at this port of every node too; it is the last port's.
    #[must_use]
    pub fn node_port(mut self, number: u16) -> ServiceSpec {
        if let Some(last) = self.ports.last_mut() {
            last.node = Some(number);
        }
        self
    }

    /// The same, met at these addresses of the outside too.
    #[must_use]
    pub fn also_at(mut self, outside: &[&str]) -> ServiceSpec {
        self.outside = outside.iter().map(|text| known(text)).collect();
        self
    }

    /// The same, standing for pods with this label.
    #[must_use]
    pub fn selecting(mut self, key: &str, value: &str) -> ServiceSpec {
        self.selector = Some((key.to_owned(), value.to_owned()));
        self
    }

    /// The same, but only another name for this one outside.
    #[must_use]
    pub fn external(mut self, name: &str) -> ServiceSpec {
        self.external_name = Some(name.to_owned());
        self
    }

    /// The same with these backends.
    #[must_use]
    pub fn backends(mut self, ready: &[IpAddr]) -> ServiceSpec {
        self.ready = ready.to_vec();
        self
    }

    /// The same with these backends that are not ready.
    #[must_use]
    pub fn not_ready(mut self, unready: &[IpAddr]) -> ServiceSpec {
        self.unready = unready.to_vec();
        self
    }

    /// Its documents: the service and a slice for each family.
    pub(crate) fn manifest(&self) -> String {
        let (namespace, name) = (quote(&self.namespace), quote(&self.name));
        let mut text = format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  \
             labels:\n"
        );
        // Writing to a String cannot fail, here and below.
        for (key, value) in &self.labels {
            let _ = writeln!(text, "    {}: {}", quote(key), quote(value));
        }
        if let Some(external) = &self.external_name {
            let external = quote(external);
            let _ = writeln!(text, "spec:\n  type: ExternalName\n  externalName: {external}");
            return text;
        }
        let kind = if self.ports.iter().any(|port| port.node.is_some()) {
            "NodePort"
        } else {
            "ClusterIP"
        };
        let addresses = self.addresses.iter().map(|own| quote(&own.to_string()));
        let addresses: Vec<String> = addresses.collect();
        let first = addresses.first().map_or("None", String::as_str);
        let all = if addresses.is_empty() { "None".to_owned() } else { addresses.join(", ") };
        let _ =
            writeln!(text, "spec:\n  type: {kind}\n  clusterIP: {first}\n  clusterIPs: [{all}]");
        if let Some((key, value)) = &self.selector {
            let _ = writeln!(text, "  selector: {{{}: {}}}", quote(key), quote(value));
        }
        let outside = self.outside.iter().map(|own| quote(&own.to_string()));
        let _ = writeln!(text, "  externalIPs: [{}]", outside.collect::<Vec<_>>().join(", "));
        let _ = writeln!(text, "  ports:");
        for Port { protocol, number, target, node } in &self.ports {
            let node = node.map_or(String::new(), |node| format!(", nodePort: {node}"));
            let _ = writeln!(
                text,
                "  - {{name: p{number}, protocol: {protocol}, port: {number}, targetPort: \
                 {target}{node}}}"
            );
        }
        for (family, ipv4) in [("IPv4", true), ("IPv6", false)] {
            self.write_slice(&mut text, family, ipv4);
        }
        text
    }

    fn write_slice(&self, text: &mut String, family: &str, ipv4: bool) {
        let (namespace, name) = (quote(&self.namespace), quote(&self.name));
        let own = quote(&format!("{}-{}", self.name, family.to_lowercase()));
        let _ = writeln!(
            text,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {own}\n  \
             namespace: {namespace}\n  labels:\n    kubernetes.io/service-name: {name}\n\
             addressType: {family}\nendpoints:"
        );
        let ready = self.ready.iter().map(|address| (address, true));
        let all = ready.chain(self.unready.iter().map(|address| (address, false)));
        for (address, ready) in all.filter(|(address, _)| address.is_ipv4() == ipv4) {
            let address = quote(&address.to_string());
            let _ = writeln!(text, "- {{addresses: [{address}], conditions: {{ready: {ready}}}}}");
        }
        let _ = writeln!(text, "ports:");
        for Port { protocol, number, target, .. } in &self.ports {
            let _ = writeln!(text, "- {{name: p{number}, protocol: {protocol}, port: {target}}}");
        }
    }

    /// What a node turns into what: address, protocol and port into a backend, if one is ready.
    pub(crate) fn translations(
        &self,
        (node4, node6): (Ipv4Addr, Ipv6Addr),
    ) -> Vec<(IpAddr, String, u16, Option<SocketAddr>)> {
        let nodes = [IpAddr::V4(node4), node6.into()];
        let mut all = Vec::new();
        for port in &self.ports {
            let own = self.addresses.iter().chain(&self.outside);
            let at_service = own.map(|address| (*address, port.number));
            let at_nodes = port.node.into_iter().flat_map(|own| nodes.map(|node| (node, own)));
            for (address, number) in at_service.chain(at_nodes) {
                let backend = self.ready.iter().find(|own| own.is_ipv4() == address.is_ipv4());
                let backend = backend.map(|own| SocketAddr::new(*own, port.target));
                all.push((address, port.protocol.clone(), number, backend));
            }
        }
        all
    }
}

fn known(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_takes_the_first_ready_backend_of_the_family() {
        let backends = ["10.0.0.2", "10.0.0.3", "fd00::2"].map(known);
        let spec = ServiceSpec::new("a/b", &["10.96.0.1", "fd96::1"])
            .port("TCP", 80, 8080)
            .node_port(30_080)
            .backends(&backends);
        let node = ("172.20.0.2".parse().unwrap(), "fd00:172::2".parse().unwrap());
        let shown: Vec<String> = spec
            .translations(node)
            .into_iter()
            .map(|(address, protocol, port, to)| {
                format!("{address} {protocol} {port} {}", to.unwrap())
            })
            .collect();
        assert_eq!(
            shown,
            [
                "10.96.0.1 TCP 80 10.0.0.2:8080",
                "fd96::1 TCP 80 [fd00::2]:8080",
                "172.20.0.2 TCP 30080 10.0.0.2:8080",
                "fd00:172::2 TCP 30080 [fd00::2]:8080",
            ]
        );
    }
}
