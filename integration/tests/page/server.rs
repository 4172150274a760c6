//! The page's server: whom it answers, and what it bears.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    process::Output,
    thread,
    time::Duration,
};

use hickory_proto::rr::RecordType;
use integration::{Daemon, Lab, Resolver, query, soon, wait_until};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;

use super::{CLIENT, LISTEN, SOON, WWW, begin};

/// How long it may take until a reader that is stuck is dropped, on a busy machine.
const STUCK: Duration = Duration::from_secs(120);

/// What curl gets, with the answer's head.
fn curl(lab: &Lab, arguments: &[&str]) -> String {
    let Output { stdout, .. } = lab
        .node()
        .command("curl")
        .args(["-si", "--max-time", "20"])
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8(stdout).unwrap()
}

#[test]
fn only_those_are_answered_who_mean_the_loopback_and_only_with_what_is_to_be_read() {
    let (lab, daemon) = begin();
    let home = format!("http://{LISTEN}/");
    let status = format!("{home}api/status");
    let code =
        |arguments: &[&str]| curl(&lab, arguments).split(' ').nth(1).unwrap_or("").to_owned();

    let front = curl(&lab, &[&home]);
    assert!(
        front.starts_with("HTTP/1.1 200 OK") && front.contains("<title>fqdnd</title>"),
        "{front}"
    );
    for header in
        ["default-src 'none'", "frame-ancestors 'none'", "nosniff", "no-referrer", "no-store"]
    {
        assert!(front.contains(header), "{header} is not in {front}");
    }
    assert!(!front.to_ascii_lowercase().contains("access-control-"), "{front}");
    assert_eq!(code(&[&status, "-H", "Host: localhost:8080"]), "200");
    assert_eq!(code(&[&status, "-H", "Host: rebind.example:9966"]), "421");
    assert_eq!(code(&[&home, "-H", "Host: rebind.example:9966"]), "421");
    assert_eq!(code(&[&status, "-H", "Sec-Fetch-Site: cross-site"]), "403");
    assert_eq!(code(&[&home, "-H", "Sec-Fetch-Site: cross-site"]), "200");
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(code(&["-X", method, &format!("{home}api/cache")]), "405");
    }
    assert_eq!(code(&["--path-as-is", &format!("{home}../../etc/passwd")]), "404");
    assert_eq!(code(&[&format!("{home}api/source?policy=../../etc/passwd")]), "404");
    assert_eq!(code(&[&format!("{home}api/flows?allow=%5B%7B%22nonsense%22:1%7D%5D")]), "400");

    let told = daemon.ctl_json(&["status"]).unwrap();
    assert_eq!(told["page"][0]["address"], LISTEN);
    assert_eq!(told["page"][0]["failure"], Value::Null);
    let mut elsewhere = daemon.plain_command().unwrap();
    let refused = elsewhere.args(["--page-listen", "0.0.0.0:9966", "--manifests", "/none"]);
    let refused = refused.output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is not of the loopback"));
}

#[test]
fn clients_that_are_too_many_are_turned_away_and_counted() {
    let (lab, daemon) = begin();
    let connect = || {
        let address: SocketAddr = LISTEN.parse().unwrap();
        lab.node().run(|| TcpStream::connect_timeout(&address, SOON)).unwrap().unwrap()
    };
    let held: Vec<TcpStream> = (0..48).map(|_| connect()).collect();
    let mut late = connect();
    late.set_read_timeout(Some(SOON)).unwrap();
    let sent = late.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let read = sent.and_then(|()| late.read(&mut [0; 1]));
    let is_over = matches!(
        read.as_ref().map_err(std::io::Error::kind),
        Ok(0) | Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
    );
    assert!(is_over, "{read:?}");
    soon("it is counted", || daemon.count("limits", "page-clients-refused") == 1);
    drop(held);
    let home = format!("http://{LISTEN}/");
    let answers = || curl(&lab, &[&home]).starts_with("HTTP/1.1 200");
    wait_until("a place is free again", SOON, answers).unwrap();
}

fn connect(lab: &Lab) -> TcpStream {
    let address: SocketAddr = LISTEN.parse().unwrap();
    lab.node().run(|| TcpStream::connect_timeout(&address, SOON)).unwrap().unwrap()
}

/// A connection that has asked for all flows as they come.
fn reader(lab: &Lab) -> TcpStream {
    let mut stream = connect(lab);
    stream.write_all(b"GET /api/flows HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    stream
}

/// Whether the server has a connection from this port, and something that waits to be read there.
fn is_served(lab: &Lab, port: u16) -> Option<bool> {
    let here = format!("sport = :{}", LISTEN.rsplit(':').next().unwrap());
    let filter = ["-Htn", "state", "established", &here, "and", "dport", "=", &format!(":{port}")];
    let output = lab.node().command("ss").args(filter).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let waiting = text.split_whitespace().nth(1)?;
    Some(waiting != "0")
}

fn resident_kib(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Asks for a name that is refused, some hundred times.
fn ask_much(lab: &Lab) {
    let ask = || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for number in 0..400 {
            // Of what finds no room, the next is as good.
            let _ = socket
                .send_to(&query(number, "evil.example.org", 1, 1), (lab.dns_service()[0], 53));
        }
    };
    lab.pod(CLIENT).namespace().run(ask).unwrap();
}

/// Reads what comes until a text is in it; whether it was.
fn reads(stream: TcpStream, text: &str) -> bool {
    stream.set_read_timeout(Some(STUCK)).unwrap();
    BufReader::new(stream).lines().map_while(Result::ok).any(|line| line.contains(text))
}

#[test]
fn a_reader_that_is_stuck_is_dropped_and_hurts_nobody() {
    let (lab, daemon) = begin();
    let resolver = Resolver::new(lab.dns_service()[0]);
    let stuck = reader(&lab);
    setsockopt(&stuck, sockopt::RcvBuf, &4096).unwrap();
    let port = stuck.local_addr().unwrap().port();
    let lively = reader(&lab);
    let lively = thread::spawn(move || reads(lively, "www.example.com"));

    wait_until("what is not read waits", SOON, || {
        ask_much(&lab);
        is_served(&lab, port) == Some(true)
    })
    .unwrap();
    let before = resident_kib(&daemon);
    wait_until("the reader is dropped", STUCK, || {
        ask_much(&lab);
        assert!(!lively.is_finished(), "nobody has asked for that name yet");
        is_served(&lab, port).is_none()
    })
    .unwrap();
    let grown = resident_kib(&daemon).saturating_sub(before);
    assert!(grown < 32 << 10, "the daemon has grown by {grown} KiB");
    // By now there is room for records of the pod's questions again.
    wait_until("the other reader gets what happens", SOON, || {
        let answer = lab.pod(CLIENT).ask(resolver, "www.example.com", RecordType::A);
        assert_eq!(answer.addresses, [WWW]);
        lively.is_finished()
    })
    .unwrap();
    assert!(lively.join().unwrap());
}
