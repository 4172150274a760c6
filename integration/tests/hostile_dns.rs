//! DNS as a hostile pod, or a hostile domain, would have it: every message is judged, whatever its
//! form, and nothing is learned that the question did not ask for or that leads inside.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, UdpSocket},
    time::Duration,
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use integration::{
    Daemon, DnsStream, Lab, LabOptions, Packet, Pod, Reach, Resolver, Topology, framed, ip, query,
    question, soon,
};

const CLIENT: &str = "default/client";
const A: u16 = 1;
const PTR: u16 = 12;
const TXT: u16 = 16;
const ANY: u16 = 255;
const AXFR: u16 = 252;
const IN: u16 = 1;
const CHAOS: u16 = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// Two domains may be asked for and reached; so may reverse names, as far as asking goes.
const POLICY: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: names
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
        - matchPattern: "*.example.com"
        - matchPattern: "*.example.org"
        - matchPattern: "**.cluster.local"
        - matchPattern: "**.in-addr.arpa"
        - matchPattern: "**.version.bind"
        - matchName: "version.bind"
  - toFQDNs:
    - matchPattern: "*"
"#;

#[test]
fn an_outside_name_that_leads_inside_is_answered_and_not_learned() {
    let (lab, daemon) = begin(&[]);
    let client = lab.pod(CLIENT);
    let resolver = Resolver::new(lab.dns_service()[0]);
    let mut refused = 0;
    for (name, kind, address) in [
        ("loopback.example.org", RecordType::A, "127.0.0.1"),
        ("loopback.example.org", RecordType::AAAA, "::1"),
        ("metadata.example.org", RecordType::A, "169.254.169.254"),
        ("linklocal.example.org", RecordType::AAAA, "fe80::1"),
        ("pod.example.org", RecordType::A, "10.244.0.2"),
        ("pod.example.org", RecordType::AAAA, "fd00:244::2"),
        ("service.example.org", RecordType::A, "10.96.0.10"),
        ("private.example.org", RecordType::A, "192.168.1.1"),
        ("mapped.example.org", RecordType::AAAA, "::ffff:10.244.0.2"),
        ("nat64.example.org", RecordType::AAAA, "64:ff9b::10.244.0.2"),
        ("node.example.org", RecordType::A, "172.20.0.2"),
        ("node.example.org", RecordType::AAAA, "fd00:172::2"),
    ] {
        let answer = client.ask(resolver, name, kind);
        assert_eq!(answer.addresses, [ip(address)], "{name} {kind}");
        refused += 1;
        assert_eq!(daemon.count("limits", "rebinding-not-learned"), refused, "{name} {kind}");
    }
    // Of several addresses, only the one that leads inside is left out.
    let answer = client.ask(resolver, "mixed.example.org", RecordType::A);
    let both: BTreeSet<IpAddr> = answer.addresses.into_iter().collect();
    assert_eq!(both, [ip("127.0.0.1"), ip("203.0.113.50")].into());
    assert_eq!(daemon.count("limits", "rebinding-not-learned"), refused + 1);
    let learned = [("mixed.example.org.".to_owned(), ip("203.0.113.50"))];
    assert_eq!(daemon.learned(CLIENT), learned.into());

    for (inside, port) in [("10.244.0.2", 80), ("fd00:244::2", 80), ("172.20.0.2", 22)] {
        assert_eq!(client.connect(ip(inside), port), Reach::Silent, "{inside}");
    }
    assert_eq!(client.connect(ip("203.0.113.50"), 80), Reach::Open);
}

#[test]
fn what_the_configuration_allows_may_lead_inside_and_the_clusters_own_names_may() {
    let (lab, daemon) = begin(&["--cluster-rebind-allow", "192.168.0.0/16"]);
    let client = lab.pod(CLIENT);
    let resolver = Resolver::new(lab.dns_service()[0]);
    client.ask(resolver, "private.example.org", RecordType::A);
    client.ask(resolver, "kube-dns.kube-system.svc.cluster.local", RecordType::A);
    client.ask(resolver, "service.example.org", RecordType::A);
    assert_eq!(daemon.count("limits", "rebinding-not-learned"), 1);
    assert_eq!(daemon.learned_for(CLIENT, "private.example.org."), [ip("192.168.1.1")]);
    assert!(daemon.learned_for(CLIENT, "service.example.org.").is_empty());
}

#[test]
fn a_tcp_client_may_pipeline_and_split_as_it_likes() {
    for topology in [Topology::Routed, Topology::Bridged] {
        let (lab, daemon) = begin_on(topology, &[]);
        let client = lab.pod(CLIENT);
        for server in lab.dns_service() {
            // Several in one segment: each is judged by itself.
            let names = ["www.example.com", "www.example.net", "api.example.com", "secret.net"];
            let all: Vec<u8> =
                (0..).zip(names).flat_map(|(id, name)| framed(&query(id, name, A, IN))).collect();
            let mut stream = DnsStream::connect(client.namespace(), server).unwrap();
            stream.send(&all).unwrap();
            let answers: Vec<Message> = names.iter().map(|_| stream.receive().unwrap()).collect();
            let code = |id: u16| {
                let answer = answers.iter().find(|answer| answer.id == id).expect("an answer");
                answer.response_code
            };
            let (good, refused) = (ResponseCode::NoError, ResponseCode::Refused);
            assert_eq!([0, 1, 2, 3].map(code), [good, refused, good, refused], "{topology:?}");
            assert_eq!(client.connect(ip("203.0.113.10"), 80), Reach::Open);

            // One octet a segment, and the end of one message with the beginning of the next.
            for octet in framed(&query(7, "v4only.example.com", A, IN)) {
                stream.send(&[octet]).unwrap();
            }
            assert_eq!(stream.receive().unwrap().id, 7);
            let two = [
                framed(&query(8, "www.example.com", A, IN)),
                framed(&query(9, "www.example.net", A, IN)),
            ]
            .concat();
            let (head, tail) = two.split_at(two.len() / 2 + 1);
            stream.send(head).unwrap();
            assert_eq!(stream.receive().unwrap().id, 8);
            stream.send(tail).unwrap();
            let answer = stream.receive().unwrap();
            assert_eq!((answer.id, answer.response_code), (9, refused));
        }
        assert_eq!(lab.questions().asked("www.example.net."), 0);
        assert_eq!(lab.questions().asked("secret.net."), 0);
        assert_eq!(daemon.count("dns", "tcp-queries"), 14);
    }
}

#[test]
fn a_stream_that_is_no_sequence_of_messages_is_ended() {
    let (lab, daemon) = begin(&[]);
    let client = lab.pod(CLIENT);
    let server = lab.dns_service()[0];
    let mut stream = DnsStream::connect(client.namespace(), server).unwrap();
    stream.send(&[0, 0, 0, 0]).unwrap();
    stream.receive().unwrap_err();
    soon("it is counted", || daemon.count("dns", "tcp-broken") == 1);
    // Others are served as before.
    let mut stream = DnsStream::connect(client.namespace(), server).unwrap();
    assert_eq!(stream.exchange(&query(1, "www.example.com", A, IN)).unwrap().id, 1);
}

#[test]
fn messages_that_are_no_plain_question_are_refused_and_never_forwarded() {
    let (lab, daemon) = begin(&[]);
    let client = lab.pod(CLIENT);
    let plain = query(1, "www.example.com", A, IN);
    let with = |at: usize, octets: &[u8], message: &[u8]| {
        let mut message = message.to_vec();
        message[at..at + octets.len()].copy_from_slice(octets);
        message
    };
    let second = question("secret.example.net", A, IN);
    let two = with(4, &[0, 2], &[plain.clone(), second].concat());
    let looped = [&plain[..12], &[0xc0, 0x0c, 0, 1, 0, 1]].concat();
    let cases = [
        ("two questions", two, ResponseCode::FormErr),
        ("no question", with(4, &[0, 0], &plain[..12]), ResponseCode::FormErr),
        ("a name that points to itself", looped, ResponseCode::FormErr),
        ("a cut question", plain[..20].to_vec(), ResponseCode::FormErr),
        ("octets behind the end", [&plain[..], b"exfiltrated"].concat(), ResponseCode::FormErr),
        ("an answer in a query", with(6, &[0, 1], &plain), ResponseCode::FormErr),
        ("CHAOS", query(1, "version.bind", TXT, CHAOS), ResponseCode::Refused),
        ("a zone transfer", query(1, "www.example.com", AXFR, IN), ResponseCode::Refused),
        ("NOTIFY", with(2, &[0x20], &plain), ResponseCode::NotImp),
        ("UPDATE", with(2, &[0x28], &plain), ResponseCode::NotImp),
    ];
    for server in lab.dns_service() {
        for (what, message, code) in &cases {
            let before = daemon.count("dns", "rejected");
            let answer = ask_raw(client, server, message);
            assert_eq!((answer.id, answer.response_code), (1, *code), "{what} over UDP");
            let mut stream = DnsStream::connect(client.namespace(), server).unwrap();
            let answer = stream.exchange(message).unwrap();
            assert_eq!((answer.id, answer.response_code), (1, *code), "{what} over TCP");
            assert_eq!(daemon.count("dns", "rejected"), before + 2, "{what}");
        }
        // What is an answer gets none, or it could go round for ever.
        let before = daemon.count("dns", "ignored");
        let socket = send_raw(client, server, &with(2, &[0x81], &plain));
        soon("it is ignored", || daemon.count("dns", "ignored") == before + 1);
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 512]).is_err());
    }
    assert_eq!(lab.questions().total(), 0);
}

#[test]
fn names_are_judged_as_they_are_read_and_asked_as_they_are_written() {
    let (lab, _daemon) = begin(&[]);
    let client = lab.pod(CLIENT);
    let server = lab.dns_service()[0];
    let mixed = ask_raw(client, server, &query(1, "wWw.ExAmPlE.cOm", A, IN));
    assert_eq!(mixed.response_code, ResponseCode::NoError);
    assert_eq!(mixed.queries[0].name().to_ascii(), "wWw.ExAmPlE.cOm.");
    assert_eq!(client.connect(ip("203.0.113.10"), 80), Reach::Open);

    // A dot inside of a label makes no domain of it, nor does an octet that is no character.
    let mut dotted = query(2, "", A, IN);
    let name = b"\x0fa.www.example.c\x03com\x00";
    dotted.splice(12..13, name.iter().copied());
    let mut inside = query(3, "", A, IN);
    inside.splice(12..13, b"\x0fwww.example.com\x00".iter().copied());
    for message in [dotted, inside] {
        let answer = ask_raw(client, server, &message);
        assert_eq!(answer.response_code, ResponseCode::Refused);
    }
    assert_eq!(lab.questions().total(), 1);
}

#[test]
fn reverse_names_and_all_that_has_no_address_teach_nothing() {
    let (lab, daemon) = begin(&[]);
    let client = lab.pod(CLIENT);
    let server = lab.dns_service()[0];
    for (name, kind) in [
        ("10.113.0.203.in-addr.arpa", PTR),
        ("text.example.com", TXT),
        ("absent.example.com", A),
        ("dangling.example.com", A),
        ("loop.example.com", A),
    ] {
        ask_raw(client, server, &query(1, name, kind, IN));
        assert_eq!(daemon.learned(CLIENT), [].into(), "{name}");
    }
    assert_eq!(client.connect(ip("203.0.113.10"), 80), Reach::Silent);
    ask_raw(client, server, &query(2, "v4only.example.com", ANY, IN));
    let learned = daemon.learned(CLIENT);
    println!("ANY teaches {learned:?}");
    assert!(learned.iter().all(|(name, _)| name == "v4only.example.com."));
}

#[test]
fn an_answer_of_a_server_that_was_not_asked_is_counted_and_teaches_nothing() {
    let (lab, daemon) = begin(&[]);
    let (client, liar) = (lab.pod(CLIENT), lab.pod("prod/backend"));
    client.ask(Resolver::new(lab.dns_service()[0]), "www.example.com", RecordType::A);
    let learned = daemon.learned(CLIENT);
    assert_eq!(daemon.enforcement("prod/backend"), "open", "it may send anything");

    // To every port that is bound on the node, those that the proxy asks from among them.
    let mut lie = query(0, "www.example.com", A, IN);
    lie[2] = 0x81;
    let (node, _) = lab.node_addresses();
    let ports = udp_ports(&lab);
    assert!(!ports.is_empty(), "the proxy asks from some port");
    for port in &ports {
        let from = (liar.addresses()[0], 53).into();
        let forged = Packet::udp(from, (node, *port).into(), &lie);
        forged.send(liar.namespace()).unwrap();
    }
    let unsolicited = || {
        let kinds = ["unsolicited-id", "unsolicited-server", "unsolicited-question"];
        kinds.iter().map(|kind| daemon.count("dns", kind)).sum::<u64>()
    };
    soon("they are counted", || unsolicited() == ports.len() as u64);
    assert_eq!(daemon.learned(CLIENT), learned);
}

/// The UDP ports that are bound on the node's IPv4 addresses, all of them at once.
fn udp_ports(lab: &Lab) -> BTreeSet<u16> {
    let table = lab.node().run(|| fs::read_to_string("/proc/thread-self/net/udp"));
    let table = table.unwrap().unwrap();
    let local = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1));
    let every = local.filter_map(|local| local.strip_prefix("00000000:"));
    every.map(|port| u16::from_str_radix(port, 16).unwrap()).collect()
}

fn begin(flags: &[&str]) -> (Lab, Daemon) {
    begin_on(Topology::Routed, flags)
}

fn begin_on(topology: Topology, flags: &[&str]) -> (Lab, Daemon) {
    let lab = Lab::new(LabOptions::with_topology(topology)).unwrap();
    lab.policy("names", POLICY).unwrap();
    let daemon = Daemon::start(&lab, &[&["--log-level", "debug"], flags].concat()).unwrap();
    (lab, daemon)
}

/// Sends octets over UDP and reads what comes back.
fn ask_raw(pod: &Pod, server: IpAddr, message: &[u8]) -> Message {
    let socket = send_raw(pod, server, message);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = vec![0; 65_535];
    let length = socket.recv(&mut buffer).unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

/// Sends octets over UDP.
fn send_raw(pod: &Pod, server: IpAddr, message: &[u8]) -> UdpSocket {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = pod.namespace().run(|| UdpSocket::bind(any)).unwrap().unwrap();
    socket.connect((server, 53)).unwrap();
    socket.send(message).unwrap();
    socket
}
