//! Packets as a hostile pod would send them: each is dropped with its own reason or arrives as it
//! should, and networks go on working under default deny.

use std::{
    io::ErrorKind,
    net::{Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use hickory_proto::op::ResponseCode;
use integration::{
    Capture, Daemon, DnsStream, Lab, LabOptions, OutsideHost, Packet, Pod, Ports, Reach, Topology,
    ip, query, soon, wait_until,
};
use socket2::{Domain, SockRef, Socket, Type};

const CLIENT: &str = "default/client";
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;
/// Shorter than the second after which TCP would send its SYN again.
const FIRST_PACKET: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(60);

/// Two ports of one network, all of another, and any name of the cluster's and one outside server.
const POLICY: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: packets
  namespace: default
spec:
  endpointSelector:
    matchLabels:
      app: client
  egress:
  - toEndpoints:
    - matchLabels:
        k8s:io.kubernetes.pod.namespace: kube-system
        k8s-app: kube-dns
    toPorts:
    - ports:
      - {port: "53", protocol: ANY}
      rules:
        dns:
        - matchPattern: "*"
  - toCIDR: [9.9.9.9/32, "2620:fe::9/128"]
    toPorts:
    - ports:
      - {port: "53", protocol: ANY}
      rules:
        dns:
        - matchPattern: "*"
  - toCIDR: [203.0.113.0/24, "2001:db8:1::/64"]
    toPorts:
    - ports:
      - {port: "7", protocol: UDP}
      - {port: "80", protocol: TCP}
  - toCIDR: [198.51.100.0/24, "2001:db8:2::/64"]
"#;

/// An address of each family in the network with two open ports, and in the one that is all open.
const SOME: [&str; 2] = ["203.0.113.10", "2001:db8:1::10"];
const ALL: [&str; 2] = ["198.51.100.10", "2001:db8:2::10"];
const NONE: [&str; 2] = ["192.0.2.10", "2001:db8:bad::10"];

#[test]
fn a_foreign_source_is_dropped_whatever_it_is() {
    let (lab, daemon) = begin(Topology::Routed);
    let client = lab.pod(CLIENT);
    greet_gateway(client);
    let other = lab.pod("default/other").addresses();
    let (node4, node6) = lab.node_addresses();
    for (source, to) in [
        (other[0], SOME[0]),
        (node4.into(), SOME[0]),
        (ip("203.0.113.66"), SOME[0]),
        (ip("127.0.0.1"), SOME[0]),
        (ip("169.254.1.1"), SOME[0]),
        (other[1], SOME[1]),
        (node6.into(), SOME[1]),
        (ip("2001:db8:1::66"), SOME[1]),
        (ip("fe80::1234"), SOME[1]),
    ] {
        let (from, to) = (SocketAddr::new(source, 4000), SocketAddr::new(ip(to), 80));
        let echo = SocketAddr::new(to.ip(), Ports::ECHO);
        for packet in [
            Packet::udp(from, echo, b"spoofed"),
            Packet::tcp(from, to, SYN),
            Packet::echo_request(source, to.ip(), 7),
            Packet::udp(from, echo, &[0; 64]).fragments(7, 64).remove(1),
        ] {
            dropped(&daemon, client, &packet, "spoofed-source");
        }
    }
}

#[test]
fn an_allowed_datagram_arrives_in_fragments_and_a_later_one_alone_does_not() {
    for topology in [Topology::Routed, Topology::Bridged] {
        let (lab, daemon) = begin(topology);
        let client = lab.pod(CLIENT);
        for (own, to) in client.addresses().into_iter().zip(SOME) {
            let large = vec![7; 4_000];
            let echoed = echo(client, SocketAddr::new(ip(to), Ports::ECHO), &large);
            assert_eq!(echoed.as_deref(), Some(&large[..]), "{topology:?} {to}");

            let source = SocketAddr::new(own, 4001);
            let allowed = Packet::udp(source, SocketAddr::new(ip(to), Ports::ECHO), &[1; 192]);
            let [first, middle, last] = &allowed.fragments(101, 80)[..] else { panic!() };
            dropped(&daemon, client, middle, "fragment-unknown");
            first.send(client.namespace()).unwrap();
            let capture = Capture::start(lab.router()).unwrap();
            middle.send(client.namespace()).unwrap();
            last.send(client.namespace()).unwrap();
            // The node's translation puts fragments together again, so what leaves is the whole.
            capture.until(&[1; 192], PATIENCE).unwrap();
            // Another datagram's fragments are not this one's.
            let [_, foreign, _] = &allowed.fragments(102, 80)[..] else { panic!() };
            dropped(&daemon, client, foreign, "fragment-unknown");

            let denied = Packet::udp(source, SocketAddr::new(ip(to), 9), &[1; 192]);
            let [first, middle, _] = &denied.fragments(103, 80)[..] else { panic!() };
            dropped(&daemon, client, first, "policy-denied");
            dropped(&daemon, client, middle, "fragment-unknown");
        }
    }
}

#[test]
fn a_fragment_that_could_write_over_the_judged_ports_is_dropped() {
    let (lab, daemon) = begin(Topology::Routed);
    let client = lab.pod(CLIENT);
    greet_gateway(client);
    let source = SocketAddr::new(client.addresses()[0], 4002);
    let web = SocketAddr::new(ip(SOME[0]), 80);
    let segment = Packet::tcp(source, web, SYN);
    let [tiny, rest, _] = &segment.fragments(201, 8)[..] else { panic!() };
    dropped(&daemon, client, tiny, "malformed");
    dropped(&daemon, client, rest, "malformed");
}

#[test]
fn a_query_in_fragments_reaches_neither_the_proxy_nor_the_server() {
    for topology in [Topology::Routed, Topology::Bridged] {
        let (lab, daemon) = begin(topology);
        let client = lab.pod(CLIENT);
        greet_gateway(client);
        let servers = lab.dns_service().into_iter().chain([ip("9.9.9.9"), ip("2620:fe::9")]);
        for (server, identification) in servers.zip(300..) {
            let own = client.addresses()[usize::from(server.is_ipv6())];
            let query = Packet::udp(
                SocketAddr::new(own, 4003),
                SocketAddr::new(server, 53),
                &query(1, "www.example.com", 1, 1),
            );
            let fragments = query.fragments(identification, 24);
            let [first, second, ..] = &fragments[..] else { panic!() };
            dropped(&daemon, client, first, "fragment-to-proxy");
            dropped(&daemon, client, second, "fragment-to-proxy");
        }
        assert_eq!(lab.questions().total(), 0);
        assert_eq!(lab.outside("resolver").questions().unwrap().total(), 0);
    }
}

#[test]
fn neighbours_are_found_under_default_deny() {
    for topology in [Topology::Routed, Topology::Bridged] {
        let (lab, daemon) = begin(topology);
        let client = lab.pod(CLIENT);
        for to in SOME {
            for _ in 0..3 {
                client.namespace().ip("neigh flush all\n").unwrap();
                lab.node().ip("neigh flush all\n").unwrap();
                assert_eq!(client.connect(ip(to), 80), Reach::Open, "{topology:?} {to}");
            }
        }
        assert_eq!(daemon.drops(CLIENT), [].into(), "{topology:?}");
    }
}

#[test]
fn a_router_advertisement_of_a_pod_is_dropped() {
    for topology in [Topology::Routed, Topology::Bridged] {
        let (lab, daemon) = begin(topology);
        let client = lab.pod(CLIENT);
        let link_local: Ipv6Addr = "fe80::1234".parse().unwrap();
        dropped(&daemon, client, &Packet::router_advertisement(link_local), "router-message");
    }
}

#[test]
fn echo_requests_need_a_rule_that_has_no_ports() {
    let (lab, daemon) = begin(Topology::Routed);
    let client = lab.pod(CLIENT);
    greet_gateway(client);
    for (family, own) in client.addresses().into_iter().enumerate() {
        let request = |to: &str| Packet::echo_request(own, ip(to), 77);
        dropped(&daemon, client, &request(SOME[family]), "policy-denied");
        dropped(&daemon, client, &request(NONE[family]), "policy-denied");
        // The reply ends as the request does.
        let replies = Capture::start(client.namespace()).unwrap();
        request(ALL[family]).send(client.namespace()).unwrap();
        let next = || replies.until(b"abcdefgh", PATIENCE).unwrap().pop().unwrap();
        while !is_echo_reply(&next()) {}
    }
}

#[test]
fn extension_headers_pass_where_they_are_known_and_hide_nothing() {
    let (lab, daemon) = begin(Topology::Routed);
    let client = lab.pod(CLIENT);
    greet_gateway(client);
    let source = SocketAddr::new(client.addresses()[1], 4004);
    let echo = SocketAddr::new(ip(SOME[1]), Ports::ECHO);
    // Padding of four octets.
    let padding = [1, 4, 0, 0, 0, 0];
    let allowed = Packet::udp(source, echo, b"behind options");
    let options = allowed.clone().behind(Packet::DESTINATION_OPTIONS, padding);
    arrives(lab.outside("web"), client, &options, b"behind options");

    let denied = Packet::udp(source, SocketAddr::new(ip(SOME[1]), 9), b"hidden");
    let hidden = denied.behind(Packet::DESTINATION_OPTIONS, padding);
    dropped(&daemon, client, &hidden, "policy-denied");
    // An experiment's header and Mobile IPv6's; a routing header's last hop would be elsewhere.
    for header in [253, 135] {
        let unknown = allowed.clone().behind(header, [0; 6]);
        dropped(&daemon, client, &unknown, "unsupported-header");
    }
    let routed = allowed.behind(Packet::ROUTING, [4, 0, 0, 0, 0, 0]);
    dropped(&daemon, client, &routed, "unsupported-header");
}

#[test]
fn other_protocols_need_a_rule_that_has_no_ports() {
    let (lab, daemon) = begin(Topology::Routed);
    let client = lab.pod(CLIENT);
    greet_gateway(client);
    const PROTOCOLS: [u8; 5] = [Packet::SCTP, Packet::GRE, Packet::IPIP, Packet::IPV6, 200];
    let marker = b"a tunnelled secret, long enough";
    for (family, own) in client.addresses().into_iter().enumerate() {
        for protocol in PROTOCOLS {
            let packet = |to: &str| Packet::new(own, ip(to), protocol, marker);
            dropped(&daemon, client, &packet(SOME[family]), "policy-denied");
            dropped(&daemon, client, &packet(NONE[family]), "policy-denied");
        }
        let capture = Capture::start(lab.router()).unwrap();
        for protocol in PROTOCOLS {
            Packet::new(own, ip(ALL[family]), protocol, marker).send(client.namespace()).unwrap();
            capture.until(marker, PATIENCE).unwrap_or_else(|error| panic!("{protocol}: {error}"));
        }
    }
}

#[test]
fn a_packet_that_only_looks_like_a_reply_is_judged() {
    let (lab, daemon) = begin(Topology::Routed);
    let client = lab.pod(CLIENT);
    greet_gateway(client);
    for (family, own) in client.addresses().into_iter().enumerate() {
        let (from, to) = (SocketAddr::new(own, 4005), SocketAddr::new(ip(NONE[family]), 443));
        for flags in [SYN_ACK, ACK, 0x04, 0x01] {
            dropped(&daemon, client, &Packet::tcp(from, to, flags), "policy-denied");
        }
    }
}

#[test]
fn a_living_connection_to_a_dns_server_is_reset_when_the_proxy_is_to_see_it() {
    for topology in [Topology::Routed, Topology::Bridged] {
        let lab = Lab::new(LabOptions::with_topology(topology)).unwrap();
        let plain = |rules: &str| {
            format!(
                "apiVersion: cilium.io/v2\n\
                 kind: CiliumNetworkPolicy\n\
                 metadata: {{name: server, namespace: default}}\n\
                 spec:\n  endpointSelector: {{matchLabels: {{app: client}}}}\n  egress:\n  \
                 - toCIDR: [9.9.9.9/32]\n    toPorts:\n    \
                   - ports: [{{port: \"53\", protocol: TCP}}]\n{rules}"
            )
        };
        lab.policy("server", &plain("")).unwrap();
        let daemon = Daemon::start(&lab, &["--log-level", "debug"]).unwrap();
        let client = lab.pod(CLIENT);
        let mut stream = DnsStream::connect(client.namespace(), ip("9.9.9.9")).unwrap();
        let question = query(1, "www.example.com", 1, 1);
        assert_eq!(stream.exchange(&question).unwrap().id, 1);
        assert_eq!(daemon.count("dns", "tcp-queries"), 0, "nothing went through the proxy");

        let generation = daemon.endpoint(CLIENT)["generation"].clone();
        let rules = "      rules: {dns: [{matchName: api.example.com}]}\n";
        lab.policy("server", &plain(rules)).unwrap();
        soon("the rule is in force", || daemon.endpoint(CLIENT)["generation"] != generation);
        let error = stream.exchange(&question).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{topology:?} {error}");

        let mut stream = DnsStream::connect(client.namespace(), ip("9.9.9.9")).unwrap();
        let answer = stream.exchange(&question).unwrap();
        assert_eq!(answer.response_code, ResponseCode::Refused);
    }
}

#[test]
fn a_dns_rule_opens_its_own_port_alone() {
    let (lab, daemon) = begin(Topology::Routed);
    let client = lab.pod(CLIENT);
    greet_gateway(client);
    for (family, own) in client.addresses().into_iter().enumerate() {
        let question = query(9, "www.example.com", 1, 1);
        for server in [lab.dns_pod().addresses()[family], ip(["9.9.9.9", "2620:fe::9"][family])] {
            for port in [5353, 853, 54] {
                let (from, to) = (SocketAddr::new(own, 4006), SocketAddr::new(server, port));
                dropped(&daemon, client, &Packet::udp(from, to, &question), "policy-denied");
                dropped(&daemon, client, &Packet::tcp(from, to, SYN), "policy-denied");
            }
        }
        // A server that no rule names, on the right port.
        let (from, to) = (SocketAddr::new(own, 4006), SocketAddr::new(ip(SOME[family]), 53));
        dropped(&daemon, client, &Packet::udp(from, to, &question), "policy-denied");
    }
}

#[test]
fn an_unknown_address_in_the_service_range_is_no_service() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    // Everything outside: were the service range that, it would be open.
    let everything = "apiVersion: cilium.io/v2\n\
         kind: CiliumNetworkPolicy\n\
         metadata: {name: everything, namespace: default}\n\
         spec:\n  endpointSelector: {matchLabels: {app: client}}\n  egress:\n  \
         - toCIDR: [0.0.0.0/0, \"::/0\"]\n";
    lab.policy("everything", everything).unwrap();
    let flags = ["--cluster-service-prefixes", "10.96.0.0/16,fd00:96::/112"];
    let daemon = Daemon::start(&lab, &flags).unwrap();
    let client = lab.pod(CLIENT);
    assert_eq!(client.connect(ip(NONE[0]), 80), Reach::Open);
    assert_eq!(client.connect(ip(NONE[1]), 80), Reach::Open);
    let service = lab.dns_service();
    for (own, unknown, known) in [
        (client.addresses()[0], ip("10.96.77.77"), service[0]),
        (client.addresses()[1], ip("fd00:96::7777"), service[1]),
    ] {
        let from = SocketAddr::new(own, 4007);
        for to in [SocketAddr::new(unknown, 80), SocketAddr::new(known, 80)] {
            dropped(&daemon, client, &Packet::tcp(from, to, SYN), "no-service");
            dropped(&daemon, client, &Packet::udp(from, to, b"?"), "no-service");
        }
    }
}

#[test]
fn a_late_packet_from_outside_reopens_no_denied_flow() {
    let (lab, daemon) = begin(Topology::Routed);
    let client = lab.pod(CLIENT);
    let web = lab.outside("web");
    for (family, own) in client.addresses().into_iter().enumerate() {
        lab.policy("packets", POLICY).unwrap();
        let remote = SocketAddr::new(ip(SOME[family]), Ports::ECHO);
        soon("it is open", || client.echo(remote.ip()) == Reach::Open);
        let local = SocketAddr::new(own, 4008);
        let socket = client.namespace().run(|| UdpSocket::bind(local)).unwrap().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(b"one", remote).unwrap();
        assert_eq!(receive(&socket).unwrap(), b"one");

        lab.policy("packets", &POLICY.replace("port: \"7\"", "port: \"17\"")).unwrap();
        let before = daemon.dropped(CLIENT, "policy-denied");
        soon("it is closed", || {
            socket.send_to(b"two", remote).unwrap();
            daemon.dropped(CLIENT, "policy-denied") > before
        });
        // It arrives, but answers nothing that may be gone on with.
        Packet::udp(remote, local, b"late").send(web.namespace()).unwrap();
        while receive(&socket).unwrap() != b"late" {}
        let before = daemon.dropped(CLIENT, "policy-denied");
        socket.send_to(b"three", remote).unwrap();
        soon("it is dropped", || daemon.dropped(CLIENT, "policy-denied") == before + 1);

        // What truly begins outside is answered.
        let fresh = SocketAddr::new(remote.ip(), 9);
        Packet::udp(fresh, local, b"hello").send(web.namespace()).unwrap();
        while receive(&socket).unwrap() != b"hello" {}
        let capture = Capture::start(web.namespace()).unwrap();
        socket.send_to(b"an answer to outside", fresh).unwrap();
        capture.until(b"an answer to outside", PATIENCE).unwrap();
    }
}

#[test]
fn a_mark_of_the_pods_own_opens_nothing() {
    for topology in [Topology::Routed, Topology::Bridged] {
        let (lab, daemon) = begin(topology);
        let client = lab.pod(CLIENT);
        for mark in [0x1000, 0x2000, 0x3000, u32::MAX] {
            for family in [0, 1] {
                let reach = |to: SocketAddr| {
                    let domain = Domain::for_address(to);
                    let socket = Socket::new(domain, Type::STREAM, None).unwrap();
                    socket.set_mark(mark).unwrap();
                    socket.connect_timeout(&to.into(), FIRST_PACKET)
                };
                let open = SocketAddr::new(ip(SOME[family]), 80);
                client.namespace().run(|| reach(open)).unwrap().unwrap();
                let before = daemon.dropped(CLIENT, "policy-denied");
                let closed = SocketAddr::new(ip(NONE[family]), 80);
                let error = client.namespace().run(|| reach(closed)).unwrap().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TimedOut, "{topology:?} {mark:#x}");
                assert_eq!(daemon.dropped(CLIENT, "policy-denied"), before + 1);
            }
        }
        // Nor past the proxy to the server.
        let question = query(5, "www.example.com", 1, 1);
        let server = SocketAddr::new(lab.dns_service()[0], 53);
        let answered = client.namespace().run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            SockRef::from(&socket).set_mark(0x1000).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.send_to(&question, server).unwrap();
            receive(&socket).is_ok()
        });
        assert!(answered.unwrap());
        assert_eq!(daemon.count("dns", "udp-queries"), 1);
    }
}

fn begin(topology: Topology) -> (Lab, Daemon) {
    let lab = Lab::new(LabOptions::with_topology(topology)).unwrap();
    lab.policy("packets", POLICY).unwrap();
    let daemon = Daemon::start(&lab, &["--log-level", "debug"]).unwrap();
    (lab, daemon)
}

/// Has the pod learn its gateway's address, which a spoofed packet would ask for in vain.
fn greet_gateway(pod: &Pod) {
    for to in SOME {
        assert_eq!(pod.connect(ip(to), 80), Reach::Open);
    }
}

/// Sends a packet, which must be dropped once and for this reason.
fn dropped(daemon: &Daemon, pod: &Pod, packet: &Packet, reason: &str) {
    let before = daemon.drops(CLIENT);
    let count = before.get(reason).copied().unwrap_or(0);
    packet.send(pod.namespace()).unwrap_or_else(|error| panic!("{packet:?}: {error}"));
    let wait = wait_until(reason, PATIENCE, || daemon.dropped(CLIENT, reason) > count);
    let after = daemon.drops(CLIENT);
    assert!(wait.is_ok(), "{packet:?}: not {reason}, {before:?} became {after:?}");
    let mut expected = before;
    expected.insert(reason.to_owned(), count + 1);
    assert_eq!(after, expected, "{packet:?}");
}

/// Sends a packet, which must reach the host as it is.
fn arrives(host: &OutsideHost, pod: &Pod, packet: &Packet, marker: &[u8]) {
    let capture = Capture::start(host.namespace()).unwrap();
    packet.send(pod.namespace()).unwrap();
    capture.until(marker, PATIENCE).unwrap_or_else(|error| panic!("{packet:?}: {error}"));
}

fn is_echo_reply(packet: &[u8]) -> bool {
    match packet[0] >> 4 {
        4 => packet[9] == Packet::ICMP && packet[20] == 0,
        _ => packet[6] == Packet::ICMPV6 && packet[40] == 129,
    }
}

fn echo(pod: &Pod, to: SocketAddr, data: &[u8]) -> Option<Vec<u8>> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = pod.namespace().run(|| UdpSocket::bind(any)).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(data, to).unwrap();
    receive(&socket).ok()
}

fn receive(socket: &UdpSocket) -> std::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 65_535];
    let (length, _) = socket.recv_from(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}
