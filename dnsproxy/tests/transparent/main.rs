//! The proxy on real packets: intercepted in a namespace of its own, for both families, over UDP
//! and TCP, with `dig` and plain sockets as clients. Needs root, `ip`, `nft` and `dig`.

mod lab;
mod server;

use std::net::{TcpStream, UdpSocket};
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dnsproxy::{
    Address, Authority, Breach, Judgement, LearnError, Options, Proxy, Query, Refusal, Settled,
    Stats, TcpOptions,
};
use hickory_proto::op::{Message, Query as Question, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use model::EndpointId;

use lab::Lab;
use server::{Asked, read_framed, write_framed};

const SERVER: &str = "192.0.2.53:53";
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const ADDRESSES: [&str; 2] = ["192.0.2.53", "2001:db8::53"];

/// Allows everything but what is under `denied.test.` or `over.test.`, audits what is under
/// `audited.test.`, and notes what it learns, which is nothing for names that begin with `lie.`,
/// and what is against queries that went upstream all the same.
#[derive(Default)]
struct Judge {
    learned: Mutex<Vec<String>>,
    breaches: Mutex<Vec<(String, Breach)>>,
}

impl Authority for Judge {
    fn judge(&self, query: &Query<'_>) -> Judgement {
        let zones = ["denied.test.", "over.test.", "audited.test."];
        let [denied, over, audited] = zones.map(|own| Name::from_str(own).unwrap());
        let name = Name::from_str(&query.name.to_string()).unwrap();
        match query.client.ip().to_string().as_str() {
            "10.0.0.9" => Judgement::Unknown,
            _ if denied.zone_of(&name) => Judgement::Refuse(EndpointId(7)),
            _ if over.zone_of(&name) => Judgement::OverLimit(EndpointId(7)),
            _ if audited.zone_of(&name) => Judgement::Audit(EndpointId(7), Breach::Policy),
            _ => Judgement::Forward(EndpointId(7)),
        }
    }

    fn may_teach(&self, _: EndpointId, query: &Query<'_>) -> bool {
        !query.name.to_string().starts_with("lie.")
    }

    fn learn(
        &self,
        endpoint: EndpointId,
        query: &Query<'_>,
        addresses: &[Address],
    ) -> Result<(), LearnError> {
        assert_eq!(endpoint, EndpointId(7));
        if query.name.to_string().starts_with("full.") {
            return Err(LearnError::Bound);
        }
        for Address { ip, ttl } in addresses {
            self.learned.lock().unwrap().push(format!("{} {ip} {ttl}", query.name));
        }
        Ok(())
    }

    fn note(&self, settled: &Settled<'_>) {
        let name = settled.query.name.to_string();
        self.breaches.lock().unwrap().extend(settled.breach.map(|breach| (name, breach)));
    }
}

/// A lab with a running proxy and a running server.
struct Scene {
    proxy: Proxy,
    judge: Arc<Judge>,
    asked: Asked,
    lab: Lab,
}

impl Scene {
    fn new(options: Options) -> Self {
        let lab = Lab::new();
        let asked = server::start(&lab.server);
        let judge = Arc::new(Judge::default());
        let authority = Arc::clone(&judge);
        let proxy = lab.node.run(|| dnsproxy::start(options, authority).unwrap());
        lab.intercept(proxy.udp_ports()[0], proxy.tcp_ports()[0]);
        Self { proxy, judge, asked, lab }
    }

    fn dig(&self, arguments: &str) -> String {
        self.lab.pod.output("dig", &format!("+tries=1 +time=60 {arguments}"))
    }

    /// A UDP socket of the pod.
    fn udp(&self, from: &'static str) -> UdpSocket {
        self.lab.pod.run(move || {
            let socket = UdpSocket::bind(from).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(SERVER).unwrap();
            socket
        })
    }

    /// A TCP connection of the pod.
    fn tcp(&self) -> TcpStream {
        self.lab.pod.run(|| {
            let stream = TcpStream::connect(SERVER).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        })
    }

    fn learned(&self) -> Vec<String> {
        self.judge.learned.lock().unwrap().clone()
    }

    fn stats(&self) -> Stats {
        self.proxy.stats()
    }

    /// Waits until the counts are as they should be, and says how long that took.
    fn eventually(&self, what: &str, mut holds: impl FnMut(&Stats) -> bool) {
        let start = Instant::now();
        while !holds(&self.stats()) {
            assert!(start.elapsed() < PATIENCE, "{what}: {:?}", self.stats());
            std::thread::sleep(Duration::from_millis(5));
        }
        println!("{what} after {:?}", start.elapsed());
    }
}

fn options() -> Options {
    Options {
        workers: NonZeroUsize::MIN,
        upstream_timeout: PATIENCE,
        max_ttl: 300,
        ..Options::default()
    }
}

/// The same, where silence is not waited for.
fn impatient() -> Options {
    Options { upstream_timeout: Duration::from_secs(1), ..options() }
}

fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = id;
    message.metadata.recursion_desired = true;
    let mut question = Question::query(Name::from_str(name).unwrap(), RecordType::A);
    question.name.set_fqdn(true);
    message.add_query(question);
    message.to_vec().unwrap()
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 65_535];
    let length = socket.recv(&mut buffer).expect("an answer");
    buffer[..length].to_vec()
}

fn exchange(socket: &UdpSocket, query: &[u8]) -> Vec<u8> {
    socket.send(query).unwrap();
    receive(socket)
}

fn code(answer: &[u8]) -> ResponseCode {
    Message::from_vec(answer).unwrap().metadata.response_code
}

#[test]
fn an_allowed_name_is_answered_and_learned_whatever_the_way() {
    let scene = Scene::new(options());
    for address in ADDRESSES {
        for way in ["+notcp", "+tcp"] {
            for (kind, ip) in [("A", "198.51.100.1"), ("AAAA", "2001:db8:1::1")] {
                let answer = scene.dig(&format!("@{address} {way} www.example.com {kind}"));
                assert!(answer.contains("status: NOERROR"), "{address} {way} {kind}:\n{answer}");
                assert!(answer.contains(ip) && answer.contains("\t300\t"), "{answer}");
                let learned = scene.learned();
                assert_eq!(learned.last().unwrap(), &format!("www.example.com. {ip} 86400"));
            }
        }
    }
    assert_eq!(scene.learned().len(), 8, "records beside the question are not learned");
    let stats = scene.stats();
    assert_eq!((stats.udp_queries, stats.tcp_queries), (4, 4));
    assert_eq!((stats.answered, stats.learned, stats.timeouts), (8, 8, 0));
    assert!(scene.proxy.is_healthy());
}

#[test]
fn a_refused_name_never_leaves_and_the_answer_says_why() {
    for (refusal, status) in [(Refusal::Refused, "REFUSED"), (Refusal::NxDomain, "NXDOMAIN")] {
        let scene = Scene::new(Options { refusal, ..options() });
        for address in ADDRESSES {
            for way in ["+notcp", "+tcp"] {
                let answer = scene.dig(&format!("@{address} {way} secret.denied.test"));
                assert!(answer.contains(&format!("status: {status}")), "{answer}");
                assert!(answer.contains("EDE: 15 (Blocked)"), "{answer}");
            }
        }
        assert_eq!(scene.asked.names(), Vec::<String>::new());
        assert_eq!((scene.stats().refused, scene.stats().allowed), (4, 0));
    }
}

#[test]
fn a_query_over_a_limit_never_leaves_and_is_refused_whatever_refusals_are() {
    let scene = Scene::new(Options { refusal: Refusal::NxDomain, ..options() });
    for way in ["+notcp", "+tcp"] {
        let answer = scene.dig(&format!("@192.0.2.53 {way} much.over.test"));
        assert!(answer.contains("status: REFUSED"), "{answer}");
        assert!(answer.contains("EDE: 15 (Blocked)"), "{answer}");
    }
    assert_eq!(scene.asked.names(), Vec::<String>::new());
    assert_eq!((scene.stats().over_query_limit, scene.stats().allowed), (2, 0));
}

#[test]
fn an_audited_query_is_answered_and_learned_and_noted_with_what_is_against_it() {
    let scene = Scene::new(options());
    for way in ["+notcp", "+tcp"] {
        for name in ["some.audited.test", "www.example.com"] {
            let answer = scene.dig(&format!("@192.0.2.53 {way} {name}"));
            assert!(answer.contains("status: NOERROR"), "{answer}");
        }
    }
    assert_eq!(scene.learned().len(), 4);
    let noted = ("some.audited.test.".to_owned(), Breach::Policy);
    assert_eq!(*scene.judge.breaches.lock().unwrap(), [noted.clone(), noted]);
    let stats = scene.stats();
    assert_eq!((stats.audited, stats.allowed, stats.answered), (2, 2, 4));
}

#[test]
fn an_answer_that_may_not_teach_is_released_and_not_learned() {
    let scene = Scene::new(options());
    for way in ["+notcp", "+tcp"] {
        let answer = scene.dig(&format!("@192.0.2.53 {way} lie.test"));
        assert!(answer.contains("status: NOERROR"), "{answer}");
    }
    assert!(scene.learned().is_empty());
    let stats = scene.stats();
    assert_eq!((stats.answered, stats.answers_not_learned, stats.learned), (2, 2, 0));
}

#[test]
fn a_client_that_is_no_endpoint_is_refused() {
    let scene = Scene::new(options());
    let answer = exchange(&scene.udp("10.0.0.9:0"), &query(1, "www.test"));
    assert_eq!(code(&answer), ResponseCode::Refused);
    assert_eq!((scene.stats().unknown_clients, scene.asked.names().len()), (1, 0));
}

#[test]
fn the_bytes_and_the_case_of_a_question_come_back_as_they_went() {
    let scene = Scene::new(Options { max_ttl: u32::MAX, ..options() });
    let query = query(0xbeef, "wWw.ExAmPlE.com");
    let answer = exchange(&scene.udp("10.0.0.2:0"), &query);
    assert_eq!(answer[..2], query[..2]);
    assert_eq!(answer[12..query.len()], query[12..]);
    let read = Message::from_vec(&answer).unwrap();
    assert!(read.answers.iter().all(|record| record.ttl == 86_400));
    assert_eq!(scene.learned(), ["www.example.com. 198.51.100.1 86400"]);
}

#[test]
fn answers_of_four_kilobytes_arrive_in_fragments() {
    let scene = Scene::new(options());
    for address in ADDRESSES {
        for way in ["+notcp +bufsize=8192", "+tcp"] {
            let answer = scene.dig(&format!("@{address} {way} big.example.com TXT"));
            assert!(answer.contains("status: NOERROR"), "{address} {way}:\n{answer}");
            assert!(answer.matches(&"x".repeat(255)).count() == 16, "{address} {way}");
        }
    }
    assert_eq!(scene.stats().unsent, 0);
}

#[test]
fn silence_upstream_becomes_servfail_in_time() {
    let scene = Scene::new(impatient());
    for way in ["+notcp", "+tcp"] {
        let start = Instant::now();
        let answer = scene.dig(&format!("@192.0.2.53 {way} silent.test"));
        assert!(answer.contains("status: SERVFAIL"), "{way}:\n{answer}");
        assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    }
    assert_eq!(scene.stats().timeouts, 2);
}

#[test]
fn an_upstream_that_cannot_be_reached_becomes_servfail_at_once() {
    // Whoever asks does not wait that long.
    let scene = Scene::new(Options { upstream_timeout: 2 * PATIENCE, ..options() });
    // The node has no route there.
    let answer = scene.dig("@203.0.113.53 +notcp www.test");
    assert!(answer.contains("status: SERVFAIL") && answer.contains("EDE: 22"), "{answer}");
    let answer = scene.dig("@203.0.113.53 +tcp www.test");
    assert!(answer.contains("status: SERVFAIL"), "{answer}");
    let answer = scene.dig("@192.0.2.53 +tcp hangup.test");
    assert!(answer.contains("status: SERVFAIL"), "{answer}");
    assert_eq!(scene.stats().unreachable, 3);
}

#[test]
fn forged_answers_are_ignored_and_counted() {
    let scene = Scene::new(options());
    let answer = exchange(&scene.udp("10.0.0.2:0"), &query(5, "forged.test"));
    assert_eq!(code(&answer), ResponseCode::NoError);
    let stats = scene.stats();
    assert_eq!((stats.unsolicited_id, stats.unsolicited_question), (1, 1));
    assert_eq!((stats.unsolicited_server, stats.answered), (1, 1));
}

#[test]
fn an_answer_that_cannot_be_learned_or_read_becomes_servfail() {
    let scene = Scene::new(options());
    for name in ["full.test", "garbage.test"] {
        for way in ["+notcp", "+tcp"] {
            let answer = scene.dig(&format!("@192.0.2.53 {way} {name}"));
            assert!(answer.contains("status: SERVFAIL"), "{name} {way}:\n{answer}");
        }
    }
    assert_eq!(scene.learned(), Vec::<String>::new());
    let stats = scene.stats();
    assert_eq!((stats.learn_failed, stats.malformed_answers, stats.answered), (2, 2, 0));
}

#[test]
fn a_cut_answer_sends_the_client_to_tcp() {
    let scene = Scene::new(options());
    let answer = scene.dig("@192.0.2.53 +notcp +ignore cut.test");
    assert!(answer.contains("flags: qr tc"), "{answer}");
    let answer = scene.dig("@192.0.2.53 cut.test");
    assert!(answer.contains("198.51.100.1") && answer.contains("(TCP)"), "{answer}");
}

#[test]
fn what_is_no_plain_question_is_refused_unjudged() {
    let scene = Scene::new(options());
    let socket = scene.udp("10.0.0.2:0");
    let plain = query(9, "www.test");
    let changed = |at: usize, byte: u8| {
        let mut message = plain.clone();
        message[at] = byte;
        message
    };
    let two_questions = changed(5, 2);
    let status = changed(2, 0x11);
    let chaos = changed(plain.len() - 1, 3);
    let trailing = [&plain[..], b"x"].concat();
    let mut pointer = plain.clone();
    pointer[12..14].copy_from_slice(&[0xc0, 0x0c]);
    for (message, expected) in [
        (&two_questions, ResponseCode::FormErr),
        (&status, ResponseCode::NotImp),
        (&chaos, ResponseCode::Refused),
        (&trailing, ResponseCode::FormErr),
        (&pointer, ResponseCode::FormErr),
    ] {
        assert_eq!(code(&exchange(&socket, message)), expected, "{message:?}");
    }
    socket.send(&changed(2, 0x80)).unwrap();
    socket.send(b"short").unwrap();
    scene.eventually("two messages are ignored", |stats| stats.ignored == 2);
    assert_eq!((scene.stats().rejected, scene.asked.names().len()), (5, 0));
}

#[test]
fn a_repeated_query_is_sent_again_and_answered_once() {
    let scene = Scene::new(options());
    let socket = scene.udp("10.0.0.2:0");
    socket.send(&query(5, "lossy.test")).unwrap();
    scene.eventually("the query is forwarded", |stats| stats.allowed == 1);
    let answer = exchange(&socket, &query(5, "lossy.test"));
    assert_eq!(code(&answer), ResponseCode::NoError);
    assert_eq!(scene.asked.names().len(), 2);
    assert_eq!((scene.stats().repeated, scene.stats().answered), (1, 1));
}

#[test]
fn the_queries_of_an_endpoint_in_flight_are_bounded() {
    let scene = Scene::new(Options { in_flight_per_endpoint: 2, ..impatient() });
    let socket = scene.udp("10.0.0.2:0");
    for id in 1..=3 {
        socket.send(&query(id, "silent.test")).unwrap();
    }
    // The one that is over the bound is answered at once, before the others run out of time.
    let first = Message::from_vec(&receive(&socket)).unwrap();
    assert_eq!((first.metadata.id, first.metadata.response_code), (3, ResponseCode::ServFail));
    assert_eq!(code(&receive(&socket)), ResponseCode::ServFail);
    assert_eq!(code(&receive(&socket)), ResponseCode::ServFail);
    assert_eq!((scene.stats().over_endpoint, scene.stats().timeouts), (1, 2));
}

#[test]
fn queries_in_flight_survive_the_rotation_of_their_sockets() {
    let scene = Scene::new(Options { rotate_after_queries: 1, ..options() });
    let socket = scene.udp("10.0.0.2:0");
    for id in 0..40 {
        socket.send(&query(id, &format!("slow.n{id}.test"))).unwrap();
    }
    for _ in 0..40 {
        assert_eq!(code(&receive(&socket)), ResponseCode::NoError);
    }
    assert!(scene.stats().rotations > 0 && scene.stats().timeouts == 0, "{:?}", scene.stats());
}

#[test]
fn a_server_asked_often_gets_sockets_of_its_own_and_all_are_answered() {
    let scene = Scene::new(Options { rotate_after_queries: 100, ..options() });
    let socket = scene.udp("10.0.0.2:0");
    for round in 0..80 {
        for id in 0..8 {
            socket.send(&query(round * 8 + id, "www.test")).unwrap();
        }
        for _ in 0..8 {
            assert_eq!(code(&receive(&socket)), ResponseCode::NoError);
        }
    }
    let stats = scene.stats();
    assert_eq!((stats.answered, stats.servers_connected, stats.timeouts), (640, 1, 0), "{stats:?}");
    assert!(stats.rotations > 0, "{stats:?}");
}

#[test]
fn whoever_waits_when_the_proxy_stops_is_told() {
    let scene = Scene::new(options());
    let socket = scene.udp("10.0.0.2:0");
    socket.send(&query(5, "silent.test")).unwrap();
    scene.eventually("the query is forwarded", |stats| stats.allowed == 1);
    let Scene { proxy, lab: _lab, .. } = scene;
    proxy.shutdown();
    assert_eq!(code(&receive(&socket)), ResponseCode::ServFail);
}

#[test]
fn pipelined_queries_are_judged_one_by_one_and_answered_out_of_order() {
    let scene = Scene::new(options());
    let mut stream = scene.tcp();
    let mut bytes = Vec::new();
    let names = ["slow.test", "a.denied.test", "www.test", "b.denied.test", "www.example.com"];
    for (id, name) in names.iter().enumerate() {
        let message = query(id as u16, name);
        bytes.extend((message.len() as u16).to_be_bytes());
        bytes.extend(message);
    }
    // In pieces of seven bytes, so that lengths and messages are split in every way.
    for piece in bytes.chunks(7) {
        std::io::Write::write_all(&mut stream, piece).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    let answers: Vec<_> = (0..5)
        .map(|_| Message::from_vec(&read_framed(&mut stream).expect("an answer")).unwrap())
        .collect();
    let code_of = |id: u16| {
        let answer = answers.iter().find(|answer| answer.metadata.id == id).unwrap();
        answer.metadata.response_code
    };
    assert_eq!([0, 2, 4].map(code_of), [ResponseCode::NoError; 3]);
    assert_eq!([1, 3].map(code_of), [ResponseCode::Refused; 2]);
    assert_eq!(answers.last().unwrap().metadata.id, 0, "the slow answer holds up none");
    assert_eq!(scene.asked.names().len(), 3);
}

#[test]
fn a_client_that_will_send_no_more_still_gets_its_answers() {
    let scene = Scene::new(options());
    let mut stream = scene.tcp();
    write_framed(&mut stream, &query(1, "slow.test"));
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answer = read_framed(&mut stream).expect("an answer");
    assert_eq!(code(&answer), ResponseCode::NoError);
    assert_eq!(read_framed(&mut stream), None, "the connection ends");
}

#[test]
fn a_later_query_reopens_the_way_to_a_server_that_hung_up() {
    let scene = Scene::new(options());
    let mut stream = scene.tcp();
    for (name, expected) in
        [("hangup.test", ResponseCode::ServFail), ("www.test", ResponseCode::NoError)]
    {
        write_framed(&mut stream, &query(1, name));
        assert_eq!(code(&read_framed(&mut stream).expect("an answer")), expected);
    }
}

#[test]
fn a_client_that_takes_no_answers_is_cut_off_but_not_one_whose_server_is_slow() {
    let tcp = TcpOptions {
        message_time: Duration::from_millis(200),
        pipelined: 1024,
        ..TcpOptions::default()
    };
    let scene = Scene::new(Options { tcp, ..impatient() });
    let mut patient = scene.tcp();
    write_framed(&mut patient, &query(1, "silent.test"));
    assert_eq!(code(&read_framed(&mut patient).expect("an answer")), ResponseCode::ServFail);
    let mut greedy = scene.tcp();
    greedy.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    scene.eventually("it is cut off", |stats| {
        write_framed(&mut greedy, &query(1, "big.test"));
        stats.tcp_slow == 1
    });
}

#[test]
fn idle_slow_broken_and_surplus_connections_are_closed() {
    let tcp = TcpOptions {
        connections_per_endpoint: 3,
        idle_time: Duration::from_secs(5),
        message_time: Duration::from_millis(300),
        ..TcpOptions::default()
    };
    let scene = Scene::new(Options { tcp, ..options() });
    let (mut slow, mut idle, mut broken) = (scene.tcp(), scene.tcp(), scene.tcp());
    scene.eventually("three are taken", |stats| stats.tcp_accepted == 3);
    assert_eq!(read_framed(&mut scene.tcp()), None);
    scene.eventually("one is too many", |stats| stats.tcp_over_endpoint == 1);
    std::io::Write::write_all(&mut slow, &[0, 40, 1]).unwrap();
    std::io::Write::write_all(&mut broken, &[0, 3, 1]).unwrap();
    assert_eq!(read_framed(&mut broken), None);
    assert_eq!(read_framed(&mut slow), None);
    scene.eventually("two are cut off", |stats| (stats.tcp_broken, stats.tcp_slow) == (1, 1));
    assert_eq!(read_framed(&mut idle), None);
    scene.eventually("one was idle", |stats| stats.tcp_idle == 1);
    let is_answered = || {
        let mut again = scene.tcp();
        write_framed(&mut again, &query(1, "www.test"));
        read_framed(&mut again).is_some()
    };
    scene.eventually("places are free again", |_| is_answered());
}

#[test]
fn the_proxy_stands_beside_a_resolver_on_the_node() {
    let scene = Scene::new(options());
    // A resolver of the node on the port of the server, on all addresses.
    let resolver = scene.lab.node.run(|| UdpSocket::bind("0.0.0.0:53").unwrap());
    let answer = exchange(&scene.udp("10.0.0.2:0"), &query(1, "www.test"));
    assert_eq!(code(&answer), ResponseCode::NoError);
    resolver.set_nonblocking(true).unwrap();
    assert!(resolver.recv(&mut [0; 512]).is_err(), "nothing strays to it");
}
