//! The lab by itself, without the daemon: what the end-to-end tests take for granted.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    process::{Command, Output},
    time::Duration,
};

use hickory_proto::{op::ResponseCode, rr::RecordType};
use integration::{
    Lab, LabOptions, Load, PodSpec, Ports, Reach, Resolver, Topology, Transfer, ip, wait_until,
};

const CLIENT: &str = "default/client";
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn dig_through_the_service_address_resolves_routed_and_bridged() {
    for topology in [Topology::Routed, Topology::Bridged] {
        let lab = lab(topology);
        for server in lab.dns_service() {
            for transport in ["+notcp", "+tcp"] {
                let server = format!("@{server}");
                let arguments = [server.as_str(), transport, "+short", "+tries=1", "+time=5"];
                let v4 = said(&dig(&lab, &[&arguments[..], &["www.example.com", "A"]].concat()));
                assert_eq!(v4, "203.0.113.10\n", "{topology:?} {server} {transport}");
                let v6 = said(&dig(&lab, &[&arguments[..], &["www.example.com", "AAAA"]].concat()));
                assert_eq!(v6, "2001:db8:1::10\n", "{topology:?} {server} {transport}");
            }
        }
    }
}

#[test]
fn a_bridge_without_br_netfilter_reaches_the_dns_pod_itself() {
    let options =
        LabOptions { br_netfilter: false, ..LabOptions::with_topology(Topology::Bridged) };
    let lab = Lab::new(options).unwrap();
    for server in lab.dns_pod().addresses() {
        let answer = ask(&lab, Resolver::new(server), "www.example.com", RecordType::A);
        assert_eq!(answer.addresses, [ip("203.0.113.10")]);
    }
}

#[test]
fn curl_reaches_outside_hosts_by_address_and_by_name() {
    for topology in [Topology::Routed, Topology::Bridged] {
        let lab = lab(topology);
        for url in ["http://203.0.113.10/", "http://[2001:db8:1::10]/", "http://www.example.com/"] {
            let body = said(&curl(&lab, url));
            assert!(body.starts_with("web at "), "{topology:?} {url}: {body:?}");
        }
        let body = said(&curl(&lab, "http://shop.example.com:8080/"));
        assert!(body.starts_with("cdn at "), "{topology:?}: {body:?}");
    }
}

#[test]
fn the_outside_reaches_pods_and_pods_reach_each_other() {
    for topology in [Topology::Routed, Topology::Bridged] {
        let lab = lab(topology);
        let backend = lab.pod("prod/backend");
        for address in backend.addresses() {
            for from in [lab.outside("web").namespace(), lab.pod(CLIENT).namespace()] {
                let line = from.run(|| greeting(address)).unwrap();
                assert_eq!(line, format!("prod/backend at {address}\n"), "{topology:?}");
            }
        }
    }
}

#[test]
fn datagrams_come_back_from_the_address_they_went_to() {
    let lab = lab(Topology::Routed);
    for address in ["203.0.113.77", "2001:db8:1::77"].map(ip) {
        let echoed = lab.pod(CLIENT).namespace().run(|| {
            let socket = UdpSocket::bind((unspecified(address), 0)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            // Connected: a datagram from any other address would never be received.
            socket.connect((address, Ports::ECHO)).unwrap();
            socket.send(b"hello").unwrap();
            let mut buffer = [0; 16];
            let length = socket.recv(&mut buffer).unwrap();
            buffer[..length].to_vec()
        });
        assert_eq!(echoed.unwrap(), b"hello");
    }
}

#[test]
fn probes_tell_open_from_refused_from_silent() {
    let lab = lab(Topology::Routed);
    let client = lab.pod(CLIENT).namespace();
    let tcp = |port| Reach::tcp(client, SocketAddr::new(ip("203.0.113.10"), port)).unwrap();
    assert_eq!((tcp(Ports::HTTP), tcp(9)), (Reach::Open, Reach::Refused));
    assert_eq!(Reach::udp(client, ip("2001:db8:1::10")).unwrap(), Reach::Open);

    let transfer = Transfer::start(client, ip("203.0.113.10")).unwrap();
    transfer.goes_on().unwrap();
    let wall = "add table inet wall
        add chain inet wall forward { type filter hook forward priority 0; policy drop; }";
    assert!(lab.node().command("nft").arg(wall).status().unwrap().success());
    transfer.ends(PATIENCE).unwrap();
    assert_eq!(tcp(Ports::HTTP), Reach::Silent);
    assert!(lab.node().command("nft").arg("delete table inet wall").status().unwrap().success());
    wait_until("the transfer again", PATIENCE, || transfer.goes_on().is_ok()).unwrap();
}

#[test]
fn the_zones_hold_what_the_scenarios_need() {
    let lab = lab(Topology::Routed);
    let resolver = Resolver::new(lab.dns_service()[0]);
    let get = |name: &str, kind| ask(&lab, resolver, name, kind);

    let chain = get("shop.example.com", RecordType::A);
    assert_eq!(chain.addresses, ["198.51.100.10", "198.51.100.11"].map(ip));
    assert_eq!(chain.ttl, Some(60), "the end of the chain has the smallest TTL");
    assert_eq!(get("fleeting.example.com", RecordType::A).ttl, Some(2));
    assert_eq!(get("any.apps.example.com", RecordType::A).addresses, [ip("203.0.113.30")]);
    assert_eq!(get("short.example.com", RecordType::A).ttl, Some(1));
    assert_eq!(get("day.example.com", RecordType::AAAA).ttl, Some(86_400));
    assert_eq!(get("nothing.example.com", RecordType::A).code, ResponseCode::NXDomain);
    let none = get("v4only.example.com", RecordType::AAAA);
    assert_eq!((none.code, none.addresses.len()), (ResponseCode::NoError, 0));
    let hints = said(&dig(&lab, &["+short", "svc.example.com", "HTTPS"]));
    assert!(hints.contains("ipv4hint=203.0.113.41,203.0.113.42"), "{hints:?}");
    assert_eq!(get("f41.t3.fresh.example", RecordType::A).ttl, Some(3));
    assert_eq!(get("f41.fresh.example", RecordType::AAAA).addresses, [ip("2001:db8:f::2a")]);
}

#[test]
fn large_answers_truncate_over_udp_and_come_whole_over_tcp() {
    let lab = lab(Topology::Routed);
    let udp = Resolver::new(lab.dns_service()[0]);
    let tcp = udp.over_tcp(true);
    for (name, count) in [("hundred.many.example.com", 100), ("huge.many.example.com", 250)] {
        let short = ask(&lab, udp, name, RecordType::A);
        assert!(short.truncated && short.size <= 1_232, "{name}: {short:?}");
        let whole = ask(&lab, tcp, name, RecordType::A);
        assert!(!whole.truncated);
        assert_eq!(whole.addresses.len(), count, "{name}");
    }
    assert!(ask(&lab, tcp, "huge.many.example.com", RecordType::AAAA).size > 4_096);
    let middling = ask(&lab, udp, "forty.many.example.com", RecordType::A);
    assert!(!middling.truncated && middling.size > 512, "{middling:?}");
    let plain = said(&dig(&lab, &["+noedns", "+ignore", "forty.many.example.com", "A"]));
    assert!(plain.contains("flags: qr aa tc"), "{plain}");
}

#[test]
fn a_direct_resolver_outside_answers_and_each_server_logs_its_own_questions() {
    let lab = lab(Topology::Routed);
    for server in ["9.9.9.9", "2620:fe::9"].map(ip) {
        for tcp in [false, true] {
            let resolver = Resolver::new(server).over_tcp(tcp);
            let answer = ask(&lab, resolver, "www.example.com", RecordType::A);
            assert_eq!(answer.addresses, [ip("203.0.113.10")]);
        }
    }
    let outside = lab.outside("resolver").questions().unwrap();
    assert_eq!((outside.asked("WWW.example.com."), outside.total()), (4, 4));
    assert_eq!(lab.questions().total(), 0);
}

#[test]
fn two_thousand_fresh_names_resolve_and_connect_without_a_drop() {
    let lab = lab(Topology::Routed);
    let [service4, service6] = lab.dns_service();
    let loads = [
        Load { lookups: 1_500, ..Load::new(service4) },
        Load { lookups: 500, first: 10_000, ipv6: true, tcp: true, ..Load::new(service6) },
    ];
    for load in loads {
        let report = load.run(lab.pod(CLIENT).namespace()).unwrap();
        println!("{report}");
        assert!(report.is_clean(), "{report}");
    }
    assert_eq!(lab.questions().total(), 2_000);
}

#[test]
fn manifests_follow_pods_and_policies() {
    let mut lab = lab(Topology::Routed);
    lab.add_pod(PodSpec::new("prod/extra").label("tier", "front")).unwrap();
    let directory = lab.manifests().directory().to_owned();
    let text = std::fs::read_to_string(directory.join("pod-prod-extra.yaml")).unwrap();
    assert!(text.contains("fqdnd.io/interface: \"v4-extra\""), "{text}");
    let answer = lab
        .pod("prod/extra")
        .namespace()
        .run(|| Resolver::new(lab.dns_service()[0]).ask("www.example.com", RecordType::A))
        .unwrap();
    assert_eq!(answer.unwrap().addresses, [ip("203.0.113.10")]);

    lab.policy("one", "kind: CiliumNetworkPolicy\n").unwrap();
    assert!(directory.join("policy-one.yaml").exists());
    lab.remove_policy("one").unwrap();
    lab.remove_pod("prod/extra").unwrap();
    let mut left: Vec<_> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(
        left,
        [
            "namespaces.yaml",
            "pod-default-client.yaml",
            "pod-default-other.yaml",
            "pod-kube-system-coredns.yaml",
            "pod-prod-backend.yaml",
            "service-kube-dns.yaml"
        ]
    );
}

#[test]
fn a_lab_has_no_way_out_of_the_machine() {
    let lab = lab(Topology::Routed);
    // A route that nobody in the lab owns ends at the router.
    for namespace in [lab.pod(CLIENT).namespace(), lab.node()] {
        let target = SocketAddr::new(ip("1.1.1.1"), 53);
        let reached = namespace.run(|| TcpStream::connect_timeout(&target, Duration::from_secs(1)));
        assert!(reached.unwrap().is_err());
    }
    let links = said(&lab.router().command("ip").args(["-o", "link"]).output().unwrap());
    assert_eq!(links.lines().count(), 2 + LabOptions::default().outside.len(), "{links}");
}

#[test]
fn the_binary_loads_and_reports() {
    let output = Command::new(env!("CARGO_BIN_EXE_fqdnd-lab"))
        .args(["load", "--topology", "bridged", "--lookups", "200", "--clients", "2"])
        .output()
        .unwrap();
    let text = said(&output);
    assert!(text.contains("200 connected, 0 first packets dropped"), "{text}");
}

fn lab(topology: Topology) -> Lab {
    Lab::new(LabOptions::with_topology(topology)).unwrap()
}

fn ask(lab: &Lab, resolver: Resolver, name: &str, kind: RecordType) -> integration::Answer {
    lab.pod(CLIENT).namespace().run(|| resolver.ask(name, kind)).unwrap().unwrap()
}

fn dig(lab: &Lab, arguments: &[&str]) -> Output {
    lab.pod(CLIENT).command("dig").args(arguments).output().unwrap()
}

fn curl(lab: &Lab, url: &str) -> Output {
    lab.pod(CLIENT).command("curl").args(["-sS", "--max-time", "10", url]).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn greeting(address: IpAddr) -> String {
    let target = SocketAddr::new(address, Ports::GREET);
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE).unwrap();
    stream.write_all(b"\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut line = String::new();
    stream.read_to_string(&mut line).unwrap();
    line.trim_end_matches("\n\n").trim_end().to_owned() + "\n"
}

fn unspecified(address: IpAddr) -> IpAddr {
    if address.is_ipv4() { ip("0.0.0.0") } else { ip("::") }
}
