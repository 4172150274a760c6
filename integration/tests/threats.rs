//! Techniques of a hostile pod, a lying DNS server and a flood, each of which must come to nothing.
//! `docs/threats.md` says which test stands for which technique.

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    thread,
    time::Duration,
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, CNAME, PTR},
    },
};
use integration::{
    Capture, Daemon, Lab, LabOptions, Packet, Pod, Ports, Reach, Resolver, Topology, Transfer, ip,
    query, soon,
};

const CLIENT: &str = "default/client";
const OTHER: &str = "default/other";
/// Where the test's own server listens: an address of the outside host `elsewhere`.
const SERVER: &str = "192.0.2.53";
/// Another address of the same host, which nobody asked.
const STRANGER: &str = "192.0.2.54";
const PATIENCE: Duration = Duration::from_secs(60);

/// Any name may be asked of the cluster's DNS and of the test's server, and reached on port 80.
const POLICY: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: threats, namespace: default}
spec:
  endpointSelector:
    matchExpressions:
    - {key: app, operator: In, values: [client, other]}
  egress:
  - toEndpoints:
    - matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}
    toPorts:
    - ports: [{port: "53", protocol: ANY}]
      rules:
        dns: [{matchPattern: "**.example.com"}, {matchPattern: "*.fresh.example"}]
  - toCIDR: [192.0.2.53/32]
    toPorts:
    - ports: [{port: "53", protocol: ANY}]
      rules:
        dns: [{matchPattern: "**.example.com"}]
  - toFQDNs: [{matchPattern: "**.example.com"}, {matchPattern: "*.fresh.example"}]
    toPorts:
    - ports: [{port: "80", protocol: TCP}]
  - toCIDR: [198.51.100.0/24]
"#;

/// A true answer to a query, to be made false.
fn answer_to(question: &[u8], records: &[(&str, u32, RData)]) -> Message {
    let asked = Message::from_vec(question).unwrap();
    let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
    answer.add_queries(asked.queries.clone());
    answer.add_answers(records.iter().map(record));
    answer
}

fn record((name, ttl, data): &(&str, u32, RData)) -> Record {
    Record::from_rdata(Name::from_ascii(name).unwrap(), *ttl, data.clone())
}

fn address(text: &str) -> RData {
    RData::A(A(text.parse().unwrap()))
}

fn alias(text: &str) -> RData {
    RData::CNAME(CNAME(Name::from_ascii(text).unwrap()))
}

/// Asks the test's server, which sends what `lie` makes of the query, in that order, each message
/// from the address beside it. Gives what the pod received.
fn ask_liar(
    lab: &Lab,
    name: &str,
    lie: impl FnOnce(&[u8]) -> Vec<(&'static str, Vec<u8>)> + Send,
) -> Option<Message> {
    let host = lab.outside("elsewhere").namespace();
    let bind = |own: &str| host.run(|| UdpSocket::bind((own, 53))).unwrap().unwrap();
    let sockets = [(SERVER, bind(SERVER)), (STRANGER, bind(STRANGER))];
    let pod = lab.pod(CLIENT);
    let client = pod.namespace().run(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    sockets[0].1.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(&query(7, name, 1, 1), (SERVER, 53)).unwrap();
    let mut buffer = [0; 4096];
    let (length, proxy) = sockets[0].1.recv_from(&mut buffer).unwrap();
    for (from, message) in lie(&buffer[..length]) {
        let (_, socket) = sockets.iter().find(|(own, _)| *own == from).unwrap();
        socket.send_to(&message, proxy).unwrap();
    }
    let length = client.recv(&mut buffer).ok()?;
    Some(Message::from_vec(&buffer[..length]).unwrap())
}

fn addresses(message: &Message) -> Vec<IpAddr> {
    let of = |record: &Record| match &record.data {
        RData::A(own) => Some(IpAddr::from(own.0)),
        _ => None,
    };
    message.answers.iter().filter_map(of).collect()
}

#[test]
fn of_forged_answers_none_counts_and_the_true_one_does() {
    let (lab, daemon) = begin(&[]);
    let received = ask_liar(&lab, "www.example.com", |query| {
        let forged = [("www.example.com.", 60, address("203.0.113.66"))];
        let of = |message: &Message| message.to_vec().unwrap();
        let mut wrong_id = answer_to(query, &forged);
        wrong_id.metadata.id = wrong_id.metadata.id.wrapping_add(1);
        let mut wrong_name = of(&answer_to(query, &forged));
        // The first letter of the question's name, in the other case and as another letter.
        wrong_name[13] = b'v';
        let mut wrong_case = of(&answer_to(query, &forged));
        wrong_case[13] ^= 0x20;
        let mut no_response = of(&answer_to(query, &forged));
        no_response[2] &= 0x7f;
        let truth = answer_to(query, &[("www.example.com.", 60, address("203.0.113.10"))]);
        vec![
            (SERVER, of(&wrong_id)),
            (SERVER, wrong_name),
            (SERVER, wrong_case),
            (SERVER, no_response),
            (STRANGER, of(&answer_to(query, &forged))),
            (SERVER, of(&truth)),
            // Twice, and late.
            (SERVER, of(&answer_to(query, &forged))),
        ]
    });
    let received = received.unwrap();
    assert_eq!((received.metadata.id, addresses(&received)), (7, vec![ip("203.0.113.10")]));
    let counts =
        ["unsolicited-id", "unsolicited-question", "unsolicited-kind", "unsolicited-server"];
    let count = || counts.map(|kind| daemon.count("dns", kind));
    soon("all six are counted", || count().iter().sum::<u64>() == 6);
    println!("{counts:?}: {:?}", count());
    let learned = [("www.example.com.".to_owned(), ip("203.0.113.10"))];
    assert_eq!(daemon.learned(CLIENT), learned.into());
    assert_eq!(lab.pod(CLIENT).connect(ip("203.0.113.66"), 80), Reach::Silent);
}

#[test]
fn only_what_the_question_leads_to_is_learned() {
    let (lab, daemon) = begin(&[]);
    let received = ask_liar(&lab, "shop.example.com", |query| {
        let mut answer = answer_to(
            query,
            &[
                // Behind its alias, a name that is not in the chain, and one of another domain.
                ("edge.example.com.", 60, address("203.0.113.31")),
                ("stray.example.com.", 60, address("203.0.113.32")),
                ("shop.example.com.", 60, alias("edge.example.com.")),
                ("bank.example.org.", 60, address("203.0.113.33")),
                ("31.113.0.203.in-addr.arpa.", 60, RData::PTR(PTR(name("shop.example.com.")))),
            ],
        );
        answer.add_authorities([record(&("shop.example.com.", 60, address("203.0.113.34")))]);
        answer.add_additionals([record(&("shop.example.com.", 60, address("203.0.113.35")))]);
        vec![(SERVER, answer.to_vec().unwrap())]
    });
    assert_eq!(received.unwrap().answers.len(), 5, "the answer itself is let through as it is");
    let learned = [("shop.example.com.".to_owned(), ip("203.0.113.31"))];
    assert_eq!(daemon.learned(CLIENT), learned.into());
    let stray: Vec<IpAddr> = (32..=35).map(|last| ip(&format!("203.0.113.{last}"))).collect();
    let reached = lab.pod(CLIENT).connect_all(&stray, Ports::HTTP);
    assert_eq!(reached, vec![Reach::Silent; 4]);
}

#[test]
fn a_chain_in_two_answers_a_loop_and_a_long_one_teach_nothing() {
    let (lab, daemon) = begin(&[]);
    // The first half of a chain; the second half comes as an answer of its own, to nobody's
    // question.
    ask_liar(&lab, "first.example.com", |query| {
        let half = answer_to(query, &[("first.example.com.", 60, alias("second.example.com."))]);
        let mut rest = answer_to(query, &[("second.example.com.", 60, address("203.0.113.41"))]);
        rest.queries[0].set_name(name("second.example.com."));
        vec![(SERVER, half.to_vec().unwrap()), (SERVER, rest.to_vec().unwrap())]
    });
    ask_liar(&lab, "loop.example.com", |query| {
        let records = [
            ("loop.example.com.", 60, alias("pool.example.com.")),
            ("pool.example.com.", 60, alias("loop.example.com.")),
            ("other.example.com.", 60, address("203.0.113.42")),
        ];
        vec![(SERVER, answer_to(query, &records).to_vec().unwrap())]
    });
    ask_liar(&lab, "c0.example.com", |query| {
        let names: Vec<String> = (0..40).map(|link| format!("c{link}.example.com.")).collect();
        let links = names.windows(2).map(|pair| (pair[0].as_str(), 60, alias(&pair[1])));
        let mut records: Vec<_> = links.collect();
        records.push((&names[39], 60, address("203.0.113.43")));
        vec![(SERVER, answer_to(query, &records).to_vec().unwrap())]
    });
    assert!(daemon.learned(CLIENT).is_empty(), "{:?}", daemon.learned(CLIENT));
    assert_eq!(daemon.count("dns", "chains-cut"), 1);
}

#[test]
fn a_time_to_live_is_neither_taken_for_years_nor_for_nothing() {
    let (lab, daemon) = begin(&["--dns-max-ttl", "300s", "--dns-min-ttl", "5s"]);
    let received = ask_liar(&lab, "www.example.com", |query| {
        let years = answer_to(query, &[("www.example.com.", 0x7fff_ffff, address("203.0.113.10"))]);
        vec![(SERVER, years.to_vec().unwrap())]
    });
    assert_eq!(received.unwrap().answers[0].ttl, 300);
    ask_liar(&lab, "v4only.example.com", |query| {
        let none = answer_to(query, &[("v4only.example.com.", 0, address("203.0.113.13"))]);
        vec![(SERVER, none.to_vec().unwrap())]
    });
    assert_eq!(lab.pod(CLIENT).connect(ip("203.0.113.13"), 80), Reach::Open);
    let list = daemon.ctl_json(&["cache", "list", "-e", CLIENT]).unwrap();
    println!("{list:#}");
    assert_eq!(list.as_array().unwrap().len(), 2);
}

#[test]
fn a_server_that_no_rule_names_is_not_asked_whatever_the_port() {
    let (lab, daemon) = begin(&[]);
    let client = lab.pod(CLIENT);
    let socket = client.namespace().run(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    let before = daemon.drops(CLIENT);
    let asked = daemon.count("dns", "udp-queries");
    // A resolver nobody allowed; then, at the one that is, DNS over QUIC, multicast DNS and LLMNR.
    let targets = [("9.9.9.9", 53), (STRANGER, 53), (SERVER, 853), (SERVER, 5353), (SERVER, 5355)];
    for target in targets {
        socket.send_to(&query(1, "www.example.com", 1, 1), target).unwrap();
    }
    // DNS over TLS and HTTPS.
    for (server, port) in [(SERVER, 853), ("9.9.9.9", 853), ("9.9.9.9", 443), (SERVER, 443)] {
        assert_eq!(client.connect(ip(server), port), Reach::Silent, "{server}:{port}");
    }
    let count = || daemon.drops(CLIENT).get("policy-denied").copied().unwrap_or(0);
    let first = before.get("policy-denied").copied().unwrap_or(0);
    soon("each packet is dropped", || count() >= first + 9);
    assert_eq!(daemon.count("dns", "udp-queries"), asked);
    assert!(daemon.learned(CLIENT).is_empty());
}

#[test]
fn an_icmp_error_for_a_flow_that_never_was_is_dropped() {
    let (lab, daemon) = begin(&[]);
    let client = lab.pod(CLIENT);
    let own = client.addresses()[0];
    for (outside, port) in [("192.0.2.99", 4000), ("203.0.113.10", 80), ("198.51.100.10", 9)] {
        let remote = SocketAddr::new(ip(outside), port);
        let quoted = Packet::udp(remote, SocketAddr::new(own, 5000), b"never sent").octets();
        let message = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
        let before = daemon.count("drops", "icmp-unrelated");
        Packet::new(own, remote.ip(), Packet::ICMP, &message).send(client.namespace()).unwrap();
        soon("it is dropped", || daemon.count("drops", "icmp-unrelated") == before + 1);
    }
}

#[test]
fn another_mac_or_another_pods_address_sends_nothing() {
    for topology in [Topology::Routed, Topology::Bridged] {
        let (lab, daemon) = begin_on(topology, &[]);
        let (client, other) = (lab.pod(CLIENT), lab.pod(OTHER));
        let foreign = SocketAddr::new(other.addresses()[0], 4000);
        let cdn = SocketAddr::new(ip("198.51.100.10"), 9);
        // Its own address goes on working from another MAC; the other's does not, from any.
        run(client, &["ip", "link", "set", "eth0", "address", "02:00:00:00:be:ef"]);
        let before = daemon.count("drops", "spoofed-source");
        Packet::udp(foreign, cdn, b"not mine").send(client.namespace()).unwrap();
        soon("it is dropped", || daemon.count("drops", "spoofed-source") == before + 1);
        let capture = Capture::start(lab.outside("cdn").namespace()).unwrap();
        let mine = SocketAddr::new(client.addresses()[0], 4000);
        Packet::udp(mine, cdn, b"this is mine").send(client.namespace()).unwrap();
        let frames = capture.until(b"this is mine", PATIENCE).unwrap();
        assert!(!frames.iter().any(|frame| frame.windows(8).any(|own| own == b"not mine")));
    }
}

#[test]
fn a_flood_of_flows_evicts_its_own_and_nobody_elses() {
    let (lab, daemon) = begin(&["--bpf-flows-per-endpoint", "512"]);
    let (client, other) = (lab.pod(CLIENT), lab.pod(OTHER));
    let resolver = Resolver::new(lab.dns_service()[0]);
    other.ask(resolver, "www.example.com", RecordType::A);
    let transfer = Transfer::start(other.namespace(), ip("203.0.113.10")).unwrap();
    transfer.goes_on().unwrap();
    let flood = || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for number in 0..6000_u16 {
            let last = (number % 250) as u8 + 1;
            let _ = socket.send_to(b"x", (IpAddr::from([198, 51, 100, last]), 1000 + number));
        }
    };
    client.namespace().run(flood).unwrap();
    let evicted = || daemon.count("limits", "outbound-flows-evicted");
    let limits = || daemon.ctl_json(&["status"]).unwrap()["limits"].clone();
    println!("{:#}", limits());
    soon("evictions are counted", || evicted() > 5000);
    transfer.goes_on().unwrap();
    // The policy is judged again on what lives, and the other's connection is still known.
    lab.policy("more", &POLICY.replace("name: threats", "name: more")).unwrap();
    transfer.goes_on().unwrap();
}

#[test]
fn a_flood_of_names_evicts_its_own_and_nobody_elses() {
    let (lab, daemon) = begin(&["--cache-names", "50"]);
    let (client, other) = (lab.pod(CLIENT), lab.pod(OTHER));
    let resolver = Resolver::new(lab.dns_service()[0]);
    other.ask(resolver, "www.example.com", RecordType::A);
    let before = daemon.learned(OTHER);
    for number in 0..200 {
        client.ask(resolver, &format!("f{number}.fresh.example"), RecordType::A);
    }
    assert_eq!(daemon.learned(CLIENT).len(), 50);
    assert_eq!(daemon.count("limits", "names-evicted"), 150);
    assert_eq!(daemon.learned(OTHER), before);
    assert_eq!(other.connect(ip("203.0.113.10"), 80), Reach::Open);
    assert_eq!(client.connect(ip("203.0.113.10"), 80), Reach::Silent);
}

#[test]
fn queries_that_nobody_answers_take_no_place_from_another_pod() {
    let (lab, daemon) = begin(&["--dns-in-flight-per-endpoint", "20", "--dns-in-flight", "64"]);
    let (client, other) = (lab.pod(CLIENT), lab.pod(OTHER));
    // A server that hears everything and says nothing.
    let host = lab.outside("elsewhere").namespace();
    let _silent = host.run(|| UdpSocket::bind((SERVER, 53))).unwrap().unwrap();
    let ask = || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for number in 0..200 {
            let query = query(number, &format!("n{number}.example.com"), 1, 1);
            socket.send_to(&query, (SERVER, 53)).unwrap();
            thread::sleep(Duration::from_micros(200));
        }
    };
    client.namespace().run(ask).unwrap();
    let answer = other.ask(Resolver::new(lab.dns_service()[0]), "www.example.com", RecordType::A);
    assert_eq!((answer.code, answer.addresses), (ResponseCode::NoError, vec![ip("203.0.113.10")]));
    println!("{:#}", daemon.ctl_json(&["status"]).unwrap()["dns"]);
    soon("what is over the bound is counted", || daemon.count("dns", "over-endpoint") >= 180);
}

#[test]
fn every_test_that_the_document_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(root.join("docs/threats.md")).unwrap();
    let named: Vec<(&str, &str)> =
        text.split('`').filter_map(|code| code.split_once("::")).collect();
    let named = named.into_iter().filter(|named| *named != ("file", "test") && !named.0.is_empty());
    let mut count = 0;
    for (file, test) in named {
        let path = match file.strip_suffix(".rs") {
            Some(_) => root.join(file),
            None => root.join(format!("integration/tests/{file}.rs")),
        };
        let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(source.contains(&format!("fn {test}(")), "{file} has no test {test}");
        count += 1;
    }
    assert!(count > 50, "{count}");
}

fn begin(flags: &[&str]) -> (Lab, Daemon) {
    begin_on(Topology::Routed, flags)
}

fn begin_on(topology: Topology, flags: &[&str]) -> (Lab, Daemon) {
    let lab = Lab::new(LabOptions::with_topology(topology)).unwrap();
    lab.policy("threats", POLICY).unwrap();
    // The test's server lies with the rights of a trusted one.
    let usual = ["--log-level", "debug", "--learning-resolvers", SERVER];
    let daemon = Daemon::start(&lab, &[&usual, flags].concat()).unwrap();
    (lab, daemon)
}

/// Runs a program in a pod.
fn run(pod: &Pod, command: &[&str]) {
    let output = pod.command(command[0]).args(&command[1..]).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}
