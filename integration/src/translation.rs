//! What kube-proxy and a CNI's masquerading do on a node, as one nftables table: the DNS service's
//! addresses become the DNS pod's, and pods leave the node with its address.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
};

use crate::{
    links::{LinkError, feed},
    namespace::Namespace,
    plan::{DNS_SERVICE, NODE, POD_RANGES},
    service::ServiceSpec,
};

/// Installs the translation on the node.
pub(crate) fn install(
    node: &Namespace,
    (pod4, pod6): (Ipv4Addr, Ipv6Addr),
) -> Result<(), LinkError> {
    let (service4, service6) = DNS_SERVICE;
    let (pods4, pods6) = POD_RANGES;
    let rules = format!(
        "table inet kube-proxy {{
            chain services {{
                ip daddr {service4} meta l4proto {{ tcp, udp }} th dport 53 dnat ip to {pod4}:53
                ip6 daddr {service6} meta l4proto {{ tcp, udp }} th dport 53 dnat ip6 to [{pod6}]:53
            }}
            chain prerouting {{
                type nat hook prerouting priority dstnat; policy accept;
                jump services
            }}
            chain output {{
                type nat hook output priority -100; policy accept;
                jump services
            }}
            chain postrouting {{
                type nat hook postrouting priority srcnat; policy accept;
                ip saddr {pods4} oifname uplink masquerade
                ip6 saddr {pods6} oifname uplink masquerade
            }}
        }}\n"
    );
    feed(node, &["nft", "-f", "-"], &rules)?;
    // Loads of many short connections must not fill the table of all namespaces together.
    node.set_sysctls(&[
        ("net/netfilter/nf_conntrack_tcp_timeout_close", "1"),
        ("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "1"),
        ("net/netfilter/nf_conntrack_udp_timeout", "10"),
    ])?;
    Ok(())
}

/// Installs a service's translation on the node, in place of what it was. Of several backends the
/// first takes everything, so that a test knows who answers; where none is ready, the node says so.
/// By a reset: an ICMPv6 error comes over the veth while connect(2) still holds the socket, and is
/// heard only with the next SYN.
pub(crate) fn install_service(node: &Namespace, spec: &ServiceSpec) -> Result<(), LinkError> {
    let table = format!("service-{}-{}", spec.namespace, spec.name);
    let (mut services, mut unready) = (String::new(), String::new());
    for (address, protocol, port, backend) in spec.translations(NODE) {
        let family = if address.is_ipv4() { "ip" } else { "ip6" };
        let protocol = protocol.to_lowercase();
        let at = format!("{family} daddr {address} {protocol} dport {port}");
        // Writing to a String cannot fail.
        let _ = match backend {
            Some(backend) => writeln!(services, "{at} dnat {family} to {backend}"),
            None => writeln!(unready, "{at} reject with tcp reset"),
        };
    }
    let script = format!(
        "table inet {table}
        delete table inet {table}
        table inet {table} {{
            chain prerouting {{
                type nat hook prerouting priority dstnat; policy accept;
                {services}
            }}
            chain output {{
                type nat hook output priority -100; policy accept;
                {services}
            }}
            chain forward {{
                type filter hook forward priority filter; policy accept;
                {unready}
            }}
        }}\n"
    );
    feed(node, &["nft", "-f", "-"], &script)
}
