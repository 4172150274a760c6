//! How the plugins that pods' networks are made by are configured.

use std::path::Path;

use serde_json::json;

/// Where the plugins are: as Debian installs them, and as everybody else does.
const PLUGINS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];
/// What this node gives its pods, beside what the lab's own pods have.
const RANGES: [&str; 2] = ["10.244.1.0/24", "fd00:244:0:1::/64"];

/// How a node's pods are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodNetwork {
    /// Ports of a bridge `cni0`, by the plugin and in the way of flannel.
    Bridge,
    /// Routed veths, by the plugin and in the way of kindnet.
    PointToPoint,
}

impl PodNetwork {
    /// The configuration that a runtime reads.
    pub(super) fn configuration(self) -> String {
        let ranges = RANGES.map(|subnet| json!([{"subnet": subnet}]));
        let routes = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
        let addresses = json!({"type": "host-local", "ranges": ranges, "routes": routes});
        let plugin = match self {
            PodNetwork::Bridge => json!({
                "type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "hairpinMode": true,
                "ipam": {"type": "host-local", "ranges": ranges},
            }),
            PodNetwork::PointToPoint => json!({"type": "ptp", "ipam": addresses}),
        };
        json!({"cniVersion": "0.4.0", "name": "lab", "plugins": [plugin]}).to_string()
    }
}

/// Where this machine's plugins are.
pub(super) fn plugins() -> &'static str {
    let found = PLUGINS.into_iter().find(|directory| Path::new(directory).join("ptp").exists());
    found.unwrap_or(PLUGINS[0])
}
