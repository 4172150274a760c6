use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::*;
use crate::nft;
use crate::sandbox::{Pod, in_own_namespace, ip, ip_output, run, sysctl};

const SOON: Duration = Duration::from_secs(60);
const SILENCE: Duration = Duration::from_millis(200);

fn faults_named(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn installs_once_and_then_touches_nothing() {
    in_own_namespace(|| async {
        let redirect = Redirect::default();
        let first = redirect.install().await.unwrap();
        assert_eq!(first, Installed { ipv6: true, changed: true });
        assert_eq!(redirect.check().await.unwrap(), []);
        let before = (ip_output("rule"), run("nft", "-a list table inet fqdnd"));
        assert!(!redirect.install().await.unwrap().changed);
        assert_eq!((ip_output("rule"), run("nft", "-a list table inet fqdnd")), before);
        assert!(
            before.0.contains("90:\tfrom all fwmark 0x2000/0x3000 lookup 2005"),
            "{}",
            before.0
        );
        for family in ["-4", "-6"] {
            let route = ip_output(&format!("{family} route show table 2005"));
            assert!(route.starts_with("local default dev lo"), "{route}");
        }
    });
}

#[test]
fn removing_leaves_others_rules_and_nothing_of_ours() {
    in_own_namespace(|| async {
        ip("rule add fwmark 0x40/0x40 lookup 77 priority 90");
        run("nft", "add table inet somebody");
        let before = (ip_output("rule"), ip_output("-6 rule"), run("nft", "list ruleset"));
        let redirect = Redirect::default();
        redirect.install().await.unwrap();
        redirect.remove().await.unwrap();
        assert_eq!((ip_output("rule"), ip_output("-6 rule"), run("nft", "list ruleset")), before);
        assert_eq!(ip_output("route show table all type local").matches("default").count(), 0);
        redirect.remove().await.expect("removing what is not there is no error");
    });
}

#[test]
fn says_what_is_missing_and_puts_back_only_that() {
    in_own_namespace(|| async {
        let redirect = Redirect::default();
        let nothing = faults_named(&redirect.check().await.unwrap());
        assert_eq!(nothing.len(), 5, "{nothing:?}");
        redirect.install().await.unwrap();
        for (damage, fault) in [
            ("ip rule del priority 90", Fault::RuleMissing(Family::V4)),
            ("ip -6 rule del priority 90", Fault::RuleMissing(Family::V6)),
            ("ip route flush table 2005", Fault::RouteMissing(Family::V4)),
            ("ip -6 route flush table 2005", Fault::RouteMissing(Family::V6)),
            ("nft delete table inet fqdnd", Fault::TableMissing),
            ("nft flush chain inet fqdnd answers", Fault::TableDiffers),
            ("nft insert rule inet fqdnd redirected accept", Fault::TableDiffers),
            ("nft add chain inet fqdnd more", Fault::TableDiffers),
        ] {
            let (program, arguments) = damage.split_once(' ').unwrap();
            run(program, arguments);
            assert_eq!(redirect.check().await.unwrap(), [fault], "{damage}");
            assert!(redirect.install().await.unwrap().changed, "{damage}");
            assert_eq!(redirect.check().await.unwrap(), [], "{damage}");
        }
    });
}

#[test]
fn pods_own_addresses_take_two_chains_more_that_come_and_go() {
    in_own_namespace(|| async {
        let from_pods = Redirect { from_pods: true, ..Redirect::default() };
        from_pods.install().await.unwrap();
        assert_eq!(from_pods.check().await.unwrap(), []);
        assert!(!from_pods.install().await.unwrap().changed);
        assert_eq!(Redirect::default().check().await.unwrap(), [Fault::TableDiffers]);
        Redirect::default().install().await.unwrap();
        let table = run("nft", "list table inet fqdnd");
        assert!(!table.contains("ct mark"), "{table}");
    });
}

#[test]
fn other_settings_replace_the_earlier_ones() {
    in_own_namespace(|| async {
        Redirect::default().install().await.unwrap();
        let marks = Marks::new(0x30).unwrap();
        let other = Redirect { marks, table: 100, priority: 80, from_pods: true };
        other.install().await.unwrap();
        assert_eq!(other.check().await.unwrap(), []);
        let rules = ip_output("rule");
        assert!(rules.contains("80:\tfrom all fwmark 0x20/0x30 lookup 100"), "{rules}");
        assert!(!rules.contains("2005"), "{rules}");
        assert_eq!(ip_output("route show table all").matches("2005").count(), 0);
    });
}

#[test]
fn a_table_with_others_routes_is_refused_and_a_rule_on_our_bits_reported() {
    in_own_namespace(|| async {
        ip("route add 192.0.2.0/24 dev lo table 2005");
        let error = Redirect::default().install().await.unwrap_err();
        assert!(matches!(error, RedirectError::TableInUse { table: 2005, family: Family::V4 }));
        ip("route del 192.0.2.0/24 dev lo table 2005");

        ip("rule add fwmark 0x1000/0x1000 lookup 77 priority 50");
        Redirect::default().install().await.unwrap();
        let foreign =
            Fault::ForeignRule { family: Family::V4, priority: 50, mark: 0x1000, mask: 0x1000 };
        assert_eq!(Redirect::default().check().await.unwrap(), [foreign]);
    });
}

#[test]
fn reserved_tables_and_late_priorities_are_refused() {
    in_own_namespace(|| async {
        for table in [0, 253, 254, 255] {
            let redirect = Redirect { table, ..Redirect::default() };
            assert!(matches!(redirect.install().await, Err(RedirectError::ReservedTable(_))));
        }
        for priority in [0, 32766] {
            let redirect = Redirect { priority, ..Redirect::default() };
            assert!(matches!(redirect.install().await, Err(RedirectError::Priority(_))));
        }
    });
}

#[test]
fn without_ipv6_only_ipv4_is_installed() {
    in_own_namespace(|| async {
        sysctl("net/ipv6/conf/all/disable_ipv6", "1");
        let installed = Redirect::default().install().await.unwrap();
        assert_eq!(installed, Installed { ipv6: false, changed: true });
        assert_eq!(Redirect::default().check().await.unwrap(), []);
    });
}

/// A node between a client and a DNS pod, with a service address that is translated to the DNS
/// pod's as kube-proxy does it. What the program on the client's veth would mark is marked by a
/// rule before everything else.
struct Cluster {
    client: Pod,
    dns: Pod,
}

const SERVICES: [&str; 2] = ["10.96.0.10", "fd96::10"];
const DNS_PODS: [&str; 2] = ["10.2.0.2", "fd02::2"];
const KUBE_PROXY: &str = "
    table inet kube-proxy {
        chain prerouting {
            type nat hook prerouting priority dstnat
            ip daddr 10.96.0.10 dnat ip to 10.2.0.2
            ip6 daddr fd96::10 dnat ip6 to fd02::2
        }
        chain output {
            type nat hook output priority -100
            ip daddr 10.96.0.10 dnat ip to 10.2.0.2
            ip6 daddr fd96::10 dnat ip6 to fd02::2
        }
    }
    table inet program {
        chain ingress {
            type filter hook prerouting priority -310
            iifname to-client meta l4proto { tcp, udp } th dport 53 meta mark set 0x2000
        }
    }";

impl Cluster {
    fn new() -> Self {
        let cluster = Self { client: Pod::new(), dns: Pod::new() };
        sysctl("net/ipv4/ip_forward", "1");
        sysctl("net/ipv6/conf/all/forwarding", "1");
        for (number, name, pod) in [(1, "to-client", &cluster.client), (2, "to-dns", &cluster.dns)]
        {
            ip(&format!("link add {name} type veth peer name eth0 netns {}", pod.tid()));
            ip(&format!("address add 10.{number}.0.1/24 dev {name}"));
            ip(&format!("address add fd0{number}::1/64 dev {name} nodad"));
            ip(&format!("link set {name} up"));
            pod.run(move || {
                ip(&format!("address add 10.{number}.0.2/24 dev eth0"));
                ip(&format!("address add fd0{number}::2/64 dev eth0 nodad"));
                ip("link set eth0 up");
                ip(&format!("route add default via 10.{number}.0.1"));
                ip(&format!("-6 route add default via fd0{number}::1"));
            });
        }
        // Any route will do: the address is translated before the packet leaves.
        ip("route add 10.96.0.0/16 dev to-dns");
        ip("-6 route add fd96::/64 dev to-dns");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), KUBE_PROXY).unwrap();
        run("nft", &format!("-f {}", file.path().display()));
        cluster
    }

    fn client_socket(&self, server: SocketAddr) -> UdpSocket {
        let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = self.client.run(move || UdpSocket::bind(any).unwrap());
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket
    }

    fn dns_socket(&self, address: &str) -> UdpSocket {
        let address: IpAddr = address.parse().unwrap();
        let socket = self.dns.run(move || UdpSocket::bind((address, 53)).unwrap());
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket
    }
}

/// A socket of the proxy's, at an address that is not the node's.
fn transparent(address: SocketAddr, kind: Type, protocol: Protocol) -> Socket {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol)).unwrap();
    socket.set_ip_transparent_v4(true).unwrap();
    socket.set_mark(Marks::default().answer()).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.bind(&SockAddr::from(address)).unwrap();
    socket
}

fn transparent_udp(address: SocketAddr) -> UdpSocket {
    transparent(address, Type::DGRAM, Protocol::UDP).into()
}

fn hears(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut buffer = [0; 64];
    let (length, from) = receive(socket, &mut buffer).expect("a datagram");
    (String::from_utf8_lossy(&buffer[..length]).into_owned(), from)
}

fn hears_nothing(socket: &UdpSocket) {
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let heard = receive(socket, &mut [0; 64]);
    assert!(matches!(heard, Err(ref e) if e.kind() == ErrorKind::WouldBlock), "{heard:?}");
    socket.set_read_timeout(Some(SOON)).unwrap();
}

/// Whatever other tests' processes that end meanwhile: their signal comes to any thread, and ends a
/// receive that has a time limit.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> std::io::Result<(usize, SocketAddr)> {
    loop {
        match socket.recv_from(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => return received,
        }
    }
}

fn port_53(address: &str) -> SocketAddr {
    (address.parse::<IpAddr>().unwrap(), 53).into()
}

#[test]
fn redirected_udp_is_delivered_untranslated_and_answered_in_the_servers_name() {
    in_own_namespace(|| async {
        let cluster = Cluster::new();
        Redirect::default().install().await.unwrap();
        for (service, pod) in SERVICES.into_iter().zip(DNS_PODS) {
            let start = Instant::now();
            let proxy = transparent_udp(port_53(service));
            let dns = cluster.dns_socket(pod);
            let client = cluster.client_socket(port_53(service));
            client.send(b"query").unwrap();
            let (query, from) = hears(&proxy);
            assert_eq!((query.as_str(), from.ip().to_canonical()), ("query", from.ip()));
            proxy.send_to(b"answer", from).unwrap();
            // The client's socket is connected: it takes nothing but the service's own answer.
            assert_eq!(hears(&client).0, "answer");
            hears_nothing(&dns);
            println!("UDP by way of {service}: {:?}", start.elapsed());
        }
    });
}

#[test]
fn without_the_table_translation_takes_the_query_from_the_proxy() {
    in_own_namespace(|| async {
        let cluster = Cluster::new();
        Redirect::default().install().await.unwrap();
        run("nft", "delete table inet fqdnd");
        for service in SERVICES.map(port_53) {
            let proxy = transparent_udp(service);
            cluster.client_socket(service).send(b"query").unwrap();
            hears_nothing(&proxy);
        }
    });
}

#[test]
fn redirected_tcp_is_accepted_at_the_servers_address_and_answered() {
    in_own_namespace(|| async {
        let cluster = Cluster::new();
        Redirect::default().install().await.unwrap();
        for service in SERVICES.map(port_53) {
            let listener = transparent(service, Type::STREAM, Protocol::TCP);
            listener.listen(8).unwrap();
            let listener = TcpListener::from(listener);
            let mut client =
                cluster.client.run(move || TcpStream::connect_timeout(&service, SOON)).unwrap();
            let (mut accepted, _) = listener.accept().unwrap();
            assert_eq!(SockRef::from(&accepted).mark().unwrap(), Marks::default().answer());
            assert_eq!(accepted.local_addr().unwrap(), service);
            client.write_all(b"query").unwrap();
            let mut buffer = [0; 5];
            accepted.read_exact(&mut buffer).unwrap();
            accepted.write_all(&buffer).unwrap();
            client.set_read_timeout(Some(SOON)).unwrap();
            client.read_exact(&mut buffer).unwrap();
            assert_eq!(&buffer, b"query");
        }
    });
}

#[test]
fn the_proxys_own_queries_are_translated_as_everybodys() {
    in_own_namespace(|| async {
        let cluster = Cluster::new();
        Redirect::default().install().await.unwrap();
        for (service, pod) in SERVICES.into_iter().zip(DNS_PODS) {
            let dns = cluster.dns_socket(pod);
            let any = if pod.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
            let upstream = UdpSocket::bind(any).unwrap();
            upstream.connect(port_53(service)).unwrap();
            upstream.set_read_timeout(Some(SOON)).unwrap();
            upstream.send(b"query").unwrap();
            let (_, from) = hears(&dns);
            dns.send_to(b"answer", from).unwrap();
            assert_eq!(hears(&upstream).0, "answer");
        }
    });
}

#[test]
fn a_redirected_packet_that_is_not_made_local_reaches_nobody() {
    in_own_namespace(|| async {
        let cluster = Cluster::new();
        Redirect::default().install().await.unwrap();
        ip("rule del priority 90");
        ip("-6 rule del priority 90");
        for address in DNS_PODS {
            let dns = cluster.dns_socket(address);
            let client = cluster.client_socket(port_53(address));
            let before = strays().await;
            client.send(b"query").unwrap();
            let start = Instant::now();
            while strays().await == before {
                assert!(start.elapsed() < SOON, "the packet went somewhere");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            hears_nothing(&dns);
        }
    });
}

async fn strays() -> u64 {
    let objects = nft::list("inet", table::NAME).await.unwrap().unwrap();
    let rule = objects.iter().find(|object| object["rule"]["chain"] == "strays").unwrap();
    rule["rule"]["expr"][1]["counter"]["packets"].as_u64().unwrap()
}
