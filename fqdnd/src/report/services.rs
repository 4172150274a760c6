//! Services and who stands behind them, in the words of the API.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use kubernetes::Inventory;
use model::{Labels, ServicePort};

/// The labels of pods by their addresses. Those of the node's network have none of their own there.
type Pods<'a> = HashMap<IpAddr, &'a Labels>;

/// All services that have ports, by name.
pub fn services(inventory: &Inventory) -> Vec<api::Service> {
    let pods = inventory.pods.values().filter(|pod| !pod.host_network);
    let pods = pods.flat_map(|pod| pod.addresses.iter().map(|own| (*own, &pod.labels)));
    let pods: Pods<'_> = pods.collect();
    let with_ports = inventory.services.values().filter(|service| !service.ports.is_empty());
    let mut services: Vec<api::Service> = with_ports
        .map(|service| api::Service {
            namespace: service.name.namespace.clone(),
            name: service.name.name.clone(),
            ports: service.ports.iter().map(|port| described(port, &pods)).collect(),
        })
        .collect();
    services
        .sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
    services
}

fn described(port: &ServicePort, pods: &Pods<'_>) -> api::ServicePort {
    let backend = |address: &SocketAddr| {
        let labels = pods.get(&address.ip()).into_iter().flat_map(|labels| labels.iter());
        api::Backend { address: *address, labels: labels.map(ToString::to_string).collect() }
    };
    api::ServicePort {
        protocol: port.protocol,
        port: port.port,
        node_port: port.node_port,
        backends: port.backends.iter().map(backend).collect(),
    }
}
