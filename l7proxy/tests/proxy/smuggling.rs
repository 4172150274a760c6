//! Requests that could be read in two ways: refused, and never seen by the destination.

use std::time::Duration;

use l7proxy_core::{Fate, Reason};

use crate::rules::ok;
use crate::servers::Echo;
use crate::stage::{Stage, get};

fn with(fields: &str, rest: &str) -> String {
    format!("POST /ok HTTP/1.1\r\nHost: a\r\n{fields}\r\n{rest}")
}

/// What is refused, why, and with which status.
fn cases() -> Vec<(String, Reason, &'static str)> {
    let hidden = "0\r\n\r\nGET /no HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = |fields: &str| (with(fields, hidden), Reason::AmbiguousLength, "400");
    let malformed = |stream: String| (stream, Reason::MalformedRequest, "400");
    vec![
        length("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        length("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        length("Content-Length: 5\r\nContent-Length: 44\r\n"),
        length("Content-Length: 5, 44\r\n"),
        length("Content-Length: +5\r\n"),
        length("Transfer-Encoding: xchunked\r\n"),
        length("Transfer-Encoding: chunked, identity\r\n"),
        length("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"),
        length("Transfer-Encoding: \x0bchunked\r\n").with(Reason::MalformedRequest),
        malformed(with("Transfer-Encoding : chunked\r\n", hidden)),
        malformed(with("X: a\r\n Transfer-Encoding: chunked\r\n", hidden)),
        malformed(with("X: a\nTransfer-Encoding: chunked\r\n", hidden)),
        malformed(with("X: a\rTransfer-Encoding: chunked\r\n", hidden)),
        malformed(with("X: \0\r\n", "")),
        malformed("GET /ok HTTP/1.1\nHost: a\n\n".into()),
        malformed("GET /ok  HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        malformed("GET /ok HTTP/1.9\r\nHost: a\r\n\r\n".into()),
        malformed("GET /ok HTTP/1.1 \r\nHost: a\r\n\r\n".into()),
        ("GET /ok HTTP/1.1\r\n\r\n".into(), Reason::AmbiguousHost, "400"),
        (with("Host: b\r\n", ""), Reason::AmbiguousHost, "400"),
        (with("Host: a\r\n", ""), Reason::AmbiguousHost, "400"),
        ("GET /ok HTTP/1.1\r\nHost: a b\r\n\r\n".into(), Reason::AmbiguousHost, "400"),
        ("GET /ok HTTP/1.1\r\nHost: u@a\r\n\r\n".into(), Reason::AmbiguousHost, "400"),
        ("GET /ok HTTP/1.0\r\n\r\n".into(), Reason::AmbiguousHost, "400"),
        ("GET http://b/ok HTTP/1.1\r\nHost: a\r\n\r\n".into(), Reason::AmbiguousHost, "400"),
        ("GET /ok/../no HTTP/1.1\r\nHost: a\r\n\r\n".into(), Reason::AmbiguousPath, "400"),
        ("GET /ok/%2e%2e/no HTTP/1.1\r\nHost: a\r\n\r\n".into(), Reason::AmbiguousPath, "400"),
        ("GET /ok\\..\\no HTTP/1.1\r\nHost: a\r\n\r\n".into(), Reason::AmbiguousPath, "400"),
        ("GET /ok#/no HTTP/1.1\r\nHost: a\r\n\r\n".into(), Reason::AmbiguousPath, "400"),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".into(), Reason::ConnectMethod, "405"),
        (with(&"X: a\r\n".repeat(200), ""), Reason::HeadTooLarge, "431"),
        (with(&format!("X: {}\r\n", "a".repeat(40_000)), ""), Reason::HeadTooLarge, "431"),
        (format!("GET /{}", "a".repeat(40_000)), Reason::HeadTooLarge, "431"),
    ]
}

trait With {
    fn with(self, reason: Reason) -> Self;
}

impl With for (String, Reason, &'static str) {
    fn with(mut self, reason: Reason) -> Self {
        self.1 = reason;
        self
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_read_in_two_ways_is_refused_behind_what_cannot() {
    let server = Echo::http1().await;
    let stage = Stage::new(server.address, ok());
    for (stream, reason, status) in cases() {
        let mut client = stage.connect().await;
        client.send([get("/ok/first"), stream.clone()].concat()).await;
        let (_, first) = client.answer().await;
        assert_eq!(first, "GET /ok/first a.example\n", "{stream:?}");
        let head = client.until("\r\n\r\n").await;
        assert_eq!(head.split(' ').nth(1), Some(status), "{stream:?}: {head}");
        stage.record(|record| record.fate == Fate::Refused(reason)).await;
    }
    assert!(stage.passed().iter().all(|path| path == "/ok/first"), "{:?}", stage.passed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_framed_wrong_fails_its_request() {
    let server = Echo::http1().await;
    let stage = Stage::new(server.address, ok());
    for body in [
        "5;a=b\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFFF\r\nhello",
        "0\r\nHost: b\r\n\r\n",
    ] {
        let mut client = stage.connect().await;
        client.send(with("Transfer-Encoding: chunked\r\n", body)).await;
        let text = client.rest().await;
        assert!(!text.contains("200 OK"), "{body:?}: {text}");
    }
    assert!(stage.passed().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_behind_a_fault_is_read() {
    let server = Echo::http1().await;
    let stage = Stage::new(server.address, ok());
    let mut client = stage.connect().await;
    client.send(["broken\r\n\r\n".to_owned(), get("/ok")].concat()).await;
    let text = client.rest().await;
    assert!(text.starts_with("HTTP/1.1 400") && !text.contains("200"), "{text}");
    assert_eq!(server.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cut_of_a_request_is_the_same_request() {
    let server = Echo::http1().await;
    let stage = Stage::new(server.address, ok());
    let request = with("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n");
    let mut client = stage.connect().await;
    client.0.set_nodelay(true).unwrap();
    for byte in request.as_bytes() {
        client.send([*byte]).await;
        tokio::time::sleep(Duration::from_micros(50)).await;
    }
    assert_eq!(client.answer().await.1, "POST /ok a\nhello");
}
