//! HTTP/1.1.

use l7proxy_core::control::Asked;
use l7proxy_core::{Fate, Reason};
use model::{HeaderMatch, HeaderValue, Hidden, HttpRule, Mismatch};

use crate::rules::{http, ok, request, rules};
use crate::servers::{Echo, scripted};
use crate::stage::{Stage, get, run};

const DENIED: (&str, &str) = ("HTTP/1.1 403 Forbidden", "Access denied\r\n");

fn is(answer: &(String, String), expected: (&str, &str)) {
    assert_eq!((answer.0.as_str(), answer.1.as_str()), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_what_is_allowed_and_nothing_else() {
    let server = Echo::http1().await;
    let stage = Stage::new(server.address, ok());
    let url = |path: &str| format!("http://{}{path}", stage.address);
    let (_, text) = run("curl", &["-sS", &url("/ok?a=b")]).await;
    assert!(text.starts_with("GET /ok?a=b 127.0.0.1:"), "{text}");
    let (_, text) = run("curl", &["-sS", "-d", "hello", &url("/ok")]).await;
    assert!(text.starts_with("POST /ok ") && text.ends_with("\nhello"), "{text}");
    let (_, text) = run("curl", &["-sS", "-w", "%{http_code}", &url("/no")]).await;
    assert_eq!(text, "Access denied\r\n403");
    let (_, text) = run("curl", &["-sS", "-X", "PUT", &url("/ok")]).await;
    assert_eq!(text, "Access denied\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_costs_no_connection() {
    let server = Echo::http1().await;
    let stage = Stage::new(server.address, ok());
    let mut client = stage.connect().await;
    is(&client.ask(get("/no")).await, DENIED);
    assert_eq!(server.connections(), 0, "the destination never heard of it");
    is(&client.ask(get("/ok")).await, ("HTTP/1.1 200 OK", "GET /ok a.example\n"));
    let post = "POST /no HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello";
    is(&client.ask(post).await, DENIED);
    is(&client.ask(get("/ok/2")).await, ("HTTP/1.1 200 OK", "GET /ok/2 a.example\n"));
    assert_eq!((server.connections(), stage.asked()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let server = Echo::http1().await;
    let stage = Stage::new(server.address, ok());
    let mut client = stage.connect().await;
    client.send([get("/ok/1"), get("/no"), get("/ok/2")].concat()).await;
    is(&client.answer().await, ("HTTP/1.1 200 OK", "GET /ok/1 a.example\n"));
    is(&client.answer().await, DENIED);
    is(&client.answer().await, ("HTTP/1.1 200 OK", "GET /ok/2 a.example\n"));
    stage.wait_for_passed(&["/ok/1", "/ok/2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_and_trailers_pass() {
    let server = Echo::http1().await;
    let stage = Stage::new(server.address, ok());
    let mut client = stage.connect().await;
    let head =
        "POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
    let answer = client.ask(format!("{head}2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 1\r\n\r\n")).await;
    is(&answer, ("HTTP/1.1 200 OK", "POST /ok a\n1 trailers\nhello"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_expects_a_word_gets_it_only_if_allowed() {
    let server = Echo::http1().await;
    let stage = Stage::new(server.address, ok());
    let post = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    let mut client = stage.connect().await;
    client.send(post("/ok")).await;
    assert_eq!(client.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    is(&client.ask("hello").await, ("HTTP/1.1 200 OK", "POST /ok a\nhello"));
    is(&client.ask(post("/no")).await, DENIED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_rules_holds_for_the_next_request() {
    let server = Echo::http1().await;
    let stage = Stage::new(server.address, ok());
    let mut client = stage.connect().await;
    is(&client.ask(get("/ok")).await, ("HTTP/1.1 200 OK", "GET /ok a.example\n"));
    stage.change(http([request("GET", "/other")]));
    // The change is on its way: the first answer under it shows that it came.
    while client.ask(get("/ok")).await.0 != DENIED.0 {}
    is(&client.ask(get("/other")).await, ("HTTP/1.1 200 OK", "GET /other a.example\n"));
    is(&client.ask(get("/ok")).await, DENIED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_living_connection_without_rules_gets_nothing_through() {
    let server = Echo::http1().await;
    let stage = Stage::new(server.address, ok());
    let mut client = stage.connect().await;
    client.ask(get("/ok")).await;
    stage.change(rules([]));
    while client.ask(get("/ok")).await.0 != DENIED.0 {}
    stage.refusal(Reason::NoRules).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_edited_as_the_rules_say() {
    let server = Echo::http1().await;
    let edit = |name: &str, mismatch| HeaderMatch {
        name: name.into(),
        value: HeaderValue::Exactly(Hidden("right".into())),
        mismatch,
    };
    let rule = HttpRule {
        header_matches: vec![
            edit("x-add", Mismatch::Add),
            edit("x-delete", Mismatch::Delete),
            edit("x-log", Mismatch::Log),
            edit("x-replace", Mismatch::Replace),
        ],
        ..HttpRule::default()
    };
    let stage = Stage::new(server.address, http([rule]));
    let mut client = stage.connect().await;
    let fields = "X-Add: a\r\nX-Delete: b\r\nX-Log: c\r\nX-Replace: d\r\nX-Replace: e\r\n";
    let (_, text) = client.ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
    assert_eq!(text, "GET / a\nx-add: a\nx-add: right\nx-log: c\nx-replace: right\n");
    let record = stage.record(|record| record.fate == Fate::Passed).await;
    let Asked::Http { edited, status, .. } = record.request else { panic!("{record:?}") };
    assert_eq!(edited, ["x-add", "x-delete", "x-log", "x-replace"]);
    assert_eq!(status, Some(200));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_the_hop_stay_behind() {
    let server = Echo::http1().await;
    let stage = Stage::new(server.address, ok());
    let mut client = stage.connect().await;
    let fields = "X-Hop: 1\r\nX-Kept: 2\r\nConnection: x-hop\r\n";
    let (_, text) = client.ask(format!("GET /ok HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
    assert_eq!(text, "GET /ok a\nx-kept: 2\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authority_of_the_target_is_the_host() {
    let server = Echo::http1().await;
    let stage = Stage::new(server.address, ok());
    let mut client = stage.connect().await;
    let (_, text) = client.ask("GET http://a/ok HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(text, "GET /ok a\n");
    let (status, _) = client.ask("GET http://b/ok HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(status, "HTTP/1.1 400 Bad Request");
    stage.refusal(Reason::AmbiguousHost).await;
}

const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

fn websocket(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_judged_as_its_request_and_carried() {
    let stage = Stage::new(scripted(SWITCH).await, ok());
    let mut client = stage.connect().await;
    is(&client.ask(websocket("/no")).await, DENIED);
    let (status, _) = client.ask(websocket("/ok")).await;
    assert_eq!(status, "HTTP/1.1 101 Switching Protocols");
    client.send(b"\x01\x02 anything\r\n").await;
    assert_eq!(client.until("anything\r\n").await, "\x01\x02 anything\r\n");
    stage.change(http([request("GET", "/other")]));
    assert_eq!(client.rest().await, "", "it ends when it is no longer allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_protocol_that_is_not_made_leaves_http() {
    let stage = Stage::new(Echo::http1().await.address, ok());
    let mut client = stage.connect().await;
    client.send([websocket("/ok/1"), get("/no"), get("/ok/2")].concat()).await;
    assert_eq!(client.answer().await.1, "GET /ok/1 a\n");
    is(&client.answer().await, DENIED);
    assert_eq!(client.answer().await.1, "GET /ok/2 a.example\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_protocol_is_changed_to() {
    let stage = Stage::new(scripted(SWITCH).await, ok());
    let mut client = stage.connect().await;
    let fields = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n";
    let (status, _) = client.ask(format!("GET /ok HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
    assert_eq!(status, "HTTP/1.1 502 Bad Gateway");
    stage.refusal(Reason::UpstreamFailed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_that_would_like_http2_stays_with_http1() {
    let server = Echo::http1().await;
    let stage = Stage::new(server.address, ok());
    let url = format!("http://{}/ok", stage.address);
    let (_, text) = run("curl", &["-sS", "--http2", "-w", "%{http_version}", &url]).await;
    assert!(text.ends_with("\n1.1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_streams_through_as_it_comes() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    let stage = Stage::new(scripted(head).await, ok());
    let mut client = stage.connect().await;
    client.send(get("/ok")).await;
    let text = client.until("first\r\n").await;
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_passes() {
    let server = Echo::http1().await;
    let stage = Stage::new(server.address, ok());
    let mut client = stage.connect().await;
    let body = "x".repeat(3 << 20);
    let head = format!("POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    let (_, text) = client.ask(head + &body).await;
    assert_eq!(text.len(), "POST /ok a\n".len() + body.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_not_there_is_told() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let stage = Stage::new(closed, ok());
    let mut client = stage.connect().await;
    let (status, text) = client.ask(get("/ok")).await;
    assert_eq!(
        (status.as_str(), text.as_str()),
        ("HTTP/1.1 502 Bad Gateway", "upstream-unreachable\r\n")
    );
    stage.refusal(Reason::UpstreamUnreachable).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_clients_are_served() {
    let server = Echo::http1().await;
    let stage = Stage::new(server.address, ok());
    let mut client = stage.connect().await;
    client.send("GET /ok HTTP/1.0\r\nHost: a\r\n\r\n").await;
    let text = client.rest().await;
    assert!(text.starts_with("HTTP/1.0 200 OK") && text.ends_with("GET /ok a\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_tells_what_was_asked() {
    let server = Echo::http1().await;
    let stage = Stage::new(server.address, ok());
    let mut client = stage.connect().await;
    client.ask(get("/no?x=1")).await;
    let record = stage.refusal(Reason::RequestDenied).await;
    let Asked::Http { version, method, host, path, status, .. } = record.request else {
        panic!("{record:?}");
    };
    assert_eq!((version, method.as_str(), status), (11, "GET", Some(403)));
    assert_eq!((host.as_str(), path.as_str()), ("a.example", "/no?x=1"));
    assert_eq!(
        (record.client, record.destination),
        (client.0.local_addr().unwrap(), stage.address)
    );
}
