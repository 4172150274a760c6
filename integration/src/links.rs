//! Links, addresses and routes of the lab, as scripts for `ip -batch`: one run a namespace.
//!
//! Nothing waits for duplicate address detection (`nodad` makes an address usable at once, which
//! `accept_dad=0` alone does a moment later), and interfaces are made by the namespace that
//! keeps their host side, so that all of them go with the lab's namespaces.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::IpAddr,
    process::Stdio,
};

use crate::{
    namespace::{Namespace, NamespaceError},
    plan::{BRIDGE, NODE, OutsideSpec, POD_RANGES, ROUTER, Topology, pod_addresses},
};

/// Every host-side veth of a routed node has this address, as Calico's have.
const GATEWAY_MAC: &str = "ee:ee:ee:ee:ee:ee";
/// What follows from it by EUI-64.
const GATEWAY_LINK_LOCAL: &str = "fe80::ecee:eeff:feee:eeee";
const GATEWAY_V4: &str = "169.254.1.1";
/// A bridge without an address of its own takes that of a port, and another when the port goes;
/// so the bridge plugin gives it one, and pods keep their gateway.
const BRIDGE_MAC: &str = "0a:58:0a:f4:00:01";

/// Why the lab's network could not be laid.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A namespace could not be configured.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A tool could not be run.
    #[error("run {tool} in {namespace}: {source}")]
    Run {
        /// The tool.
        tool: String,
        /// Where.
        namespace: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A tool refused its script.
    #[error("{tool} in {namespace}: {message}")]
    Refused {
        /// The tool.
        tool: String,
        /// Where.
        namespace: String,
        /// What it said.
        message: String,
    },
}

/// Feeds `script` to a tool inside `namespace`.
pub(crate) fn feed(namespace: &Namespace, command: &[&str], script: &str) -> Result<(), LinkError> {
    let tool = command.join(" ");
    let failed = |source| LinkError::Run {
        tool: tool.clone(),
        namespace: namespace.name().to_owned(),
        source,
    };
    let mut child = namespace
        .command(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // Taken, so that the pipe closes and the tool sees the end.
    let written = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(script.as_bytes()));
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(LinkError::Refused { tool, namespace: namespace.name().to_owned(), message });
    }
    written.map_err(failed)
}

fn ip(namespace: &Namespace, script: &str) -> Result<(), LinkError> {
    feed(namespace, &["ip", "-batch", "-"], script)
}

impl Namespace {
    /// Runs commands of `ip` inside, one a line, up to the first that fails.
    pub fn ip(&self, script: &str) -> Result<(), LinkError> {
        ip(self, script)
    }
}

/// What holds in every namespace of the lab before its links are made.
fn prepare(namespace: &Namespace) -> Result<(), LinkError> {
    namespace.set_sysctls(&[
        ("net/ipv6/conf/default/accept_dad", "0"),
        ("net/ipv6/conf/all/accept_dad", "0"),
        ("net/ipv6/conf/default/router_solicitations", "0"),
        // What systemd sets on Debian: loose.
        ("net/ipv4/conf/default/rp_filter", "2"),
    ])?;
    Ok(())
}

fn forward(namespace: &Namespace) -> Result<(), LinkError> {
    namespace.set_sysctls(&[
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv6/conf/default/forwarding", "1"),
    ])?;
    Ok(())
}

/// The node with its uplink to the router, and the router's side of it.
pub(crate) fn lay_uplink(node: &Namespace, router: &Namespace) -> Result<(), LinkError> {
    for namespace in [node, router] {
        prepare(namespace)?;
        forward(namespace)?;
    }
    let (node4, node6) = NODE;
    let (router4, router6) = ROUTER;
    ip(
        node,
        &format!(
            "link set lo up\n\
             link add uplink type veth peer name node netns {}\n\
             link set uplink up\n\
             addr add {node4}/24 dev uplink\n\
             addr add {node6}/64 dev uplink nodad\n",
            router.name()
        ),
    )?;
    let (pods4, pods6) = POD_RANGES;
    ip(
        router,
        &format!(
            "link set lo up\n\
             link set node up\n\
             addr add {router4}/24 dev node\n\
             addr add {router6}/64 dev node nodad\n\
             route add {pods4} via {node4}\n\
             route add {pods6} via {node6}\n"
        ),
    )?;
    // Only now is the other end up, so that the gateway counts as reachable.
    ip(node, &format!("route add default via {router4}\nroute add default via {router6}\n"))
}

/// What the node needs before its first pod.
pub(crate) fn lay_topology(
    node: &Namespace,
    topology: Topology,
    br_netfilter: bool,
) -> Result<(), LinkError> {
    match topology {
        Topology::Routed => Ok(()),
        Topology::Bridged => {
            let filter = if br_netfilter { "1" } else { "0" };
            node.set_sysctls(&[
                ("net/bridge/bridge-nf-call-iptables", filter),
                ("net/bridge/bridge-nf-call-ip6tables", filter),
            ])?;
            let (v4, v6) = BRIDGE;
            ip(
                node,
                &format!(
                    "link add cni0 address {BRIDGE_MAC} type bridge forward_delay 0\n\
                     link set cni0 up\n\
                     addr add {v4}/24 dev cni0\n\
                     addr add {v6}/64 dev cni0 nodad\n"
                ),
            )
        }
    }
}

/// A pod's veth: `eth0` inside, `host_side` on the node.
pub(crate) fn lay_pod(
    node: &Namespace,
    pod: &Namespace,
    topology: Topology,
    place: u8,
    host_side: &str,
) -> Result<(), LinkError> {
    prepare(pod)?;
    let (v4, v6) = pod_addresses(place);
    let add = format!("link add {host_side} type veth peer name eth0 netns {}\n", pod.name());
    let up = "link set lo up\nlink set eth0 up\n";
    match topology {
        Topology::Routed => {
            ip(
                node,
                &format!(
                    "{add}link set {host_side} address {GATEWAY_MAC}\n\
                     link set {host_side} up\n\
                     route add {v4}/32 dev {host_side}\n\
                     route add {v6}/128 dev {host_side}\n"
                ),
            )?;
            let proxy_arp = format!("net/ipv4/conf/{host_side}/proxy_arp");
            // Answering ARP for the gateway waits up to 0.8 s unless told not to.
            let no_delay = format!("net/ipv4/neigh/{host_side}/proxy_delay");
            node.set_sysctls(&[(&proxy_arp, "1"), (&no_delay, "0")])?;
            ip(
                pod,
                &format!(
                    "{up}addr add {v4}/32 dev eth0\n\
                     addr add {v6}/128 dev eth0 nodad\n\
                     route add {GATEWAY_V4} dev eth0 scope link\n\
                     route add default via {GATEWAY_V4} dev eth0\n\
                     route add default via {GATEWAY_LINK_LOCAL} dev eth0\n"
                ),
            )
        }
        Topology::Bridged => {
            let (gateway4, gateway6) = BRIDGE;
            ip(node, &format!("{add}link set {host_side} master cni0\nlink set {host_side} up\n"))?;
            ip(
                pod,
                &format!(
                    "{up}addr add {v4}/24 dev eth0\n\
                     addr add {v6}/64 dev eth0 nodad\n\
                     route add default via {gateway4}\n\
                     route add default via {gateway6}\n"
                ),
            )
        }
    }
}

/// An outside host behind the router, which owns all of its prefixes.
pub(crate) fn lay_outside(
    router: &Namespace,
    host: &Namespace,
    spec: &OutsideSpec,
    place: u8,
) -> Result<(), LinkError> {
    prepare(host)?;
    // A local route lets IPv4 sockets bind any of its addresses; IPv6 sockets want this as well.
    host.set_sysctls(&[("net/ipv6/ip_nonlocal_bind", "1")])?;
    let link = format!("h{place}");
    let mut there = format!(
        "link add {link} type veth peer name eth0 netns {}\n\
         link set {link} up\n\
         addr add 100.64.{place}.1/30 dev {link}\n\
         addr add fd00:64:{place}::1/64 dev {link} nodad\n",
        host.name()
    );
    let mut here = format!(
        "link set lo up\n\
         link set eth0 up\n\
         addr add 100.64.{place}.2/30 dev eth0\n\
         addr add fd00:64:{place}::2/64 dev eth0 nodad\n\
         route add default via 100.64.{place}.1\n\
         route add default via fd00:64:{place}::1\n"
    );
    for (address, length) in &spec.prefixes {
        let gateway = match address {
            IpAddr::V4(_) => format!("100.64.{place}.2"),
            IpAddr::V6(_) => format!("fd00:64:{place}::2"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(there, "route add {address}/{length} via {gateway}");
        let _ = writeln!(here, "route add local {address}/{length} dev lo");
    }
    // The router's routes wait for the host's end to be up.
    let (links, routes) = there.split_once("route add").unwrap_or((&there, ""));
    ip(router, links)?;
    ip(host, &here)?;
    ip(router, &format!("route add{routes}"))
}
