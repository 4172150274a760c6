//! HTTP/2 with prior knowledge.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http2;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use l7proxy::Options;
use l7proxy_core::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::rules::{http, ok, request};
use crate::servers::Echo;
use crate::stage::{PATIENCE, Stage, run};

type Sender = http2::SendRequest<Full<Bytes>>;

async fn connect(stage: &Stage) -> Sender {
    let io = TokioIo::new(stage.connect().await.0);
    let (sender, connection) =
        http2::Builder::new(TokioExecutor::new()).handshake(io).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn get(sender: &mut Sender, uri: &str) -> (StatusCode, String) {
    let request = Request::get(uri).body(Full::default()).unwrap();
    let response = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_what_is_allowed_and_nothing_else() {
    let server = Echo::http2().await;
    let stage = Stage::new(server.address, ok());
    let url = |path: &str| format!("http://{}{path}", stage.address);
    let arguments = ["-sS", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}"];
    let (_, text) = run("curl", &[&arguments[..], &[&url("/ok")]].concat()).await;
    assert!(text.starts_with("GET /ok 127.0.0.1:") && text.ends_with("\n2 200"), "{text}");
    let (_, text) = run("curl", &[&arguments[..], &[&url("/no")]].concat()).await;
    assert_eq!(text, "Access denied\r\n2 403");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_judged_each_for_itself() {
    let server = Echo::http2().await;
    let stage = Stage::new(server.address, ok());
    let mut sender = connect(&stage).await;
    let mut other = sender.clone();
    let (allowed, denied) =
        tokio::join!(get(&mut sender, "http://a/ok"), get(&mut other, "http://a/no"));
    assert_eq!(allowed, (StatusCode::OK, "GET /ok a\n".into()));
    assert_eq!(denied, (StatusCode::FORBIDDEN, "Access denied\r\n".into()));
    assert_eq!((server.connections(), stage.asked()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_rules_holds_for_the_next_stream() {
    let server = Echo::http2().await;
    let stage = Stage::new(server.address, ok());
    let mut sender = connect(&stage).await;
    assert_eq!(get(&mut sender, "http://a/ok").await.0, StatusCode::OK);
    stage.change(http([request("GET", "/other")]));
    while get(&mut sender, "http://a/ok").await.0 != StatusCode::FORBIDDEN {}
    assert_eq!(get(&mut sender, "http://a/other").await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_the_authority_is_refused() {
    let server = Echo::http2().await;
    let stage = Stage::new(server.address, ok());
    let mut sender = connect(&stage).await;
    let request = Request::get("http://a/ok").header("host", "b").body(Full::default()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    stage.refusal(Reason::AmbiguousHost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_are_refused() {
    let server = Echo::http2().await;
    let stage = Stage::new(server.address, ok());
    let io = TokioIo::new(stage.connect().await.0);
    let (mut sender, connection) =
        http2::Builder::new(TokioExecutor::new()).handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::connect("a:443").body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(server.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_heads_are_refused() {
    let server = Echo::http2().await;
    let stage = Stage::new(server.address, ok());
    let mut sender = connect(&stage).await;
    let request = Request::get("http://a/ok").header("x-large", "a".repeat(40_000));
    let answer = sender.send_request(request.body(Full::default()).unwrap()).await;
    assert!(answer.is_err() || answer.is_ok_and(|a| a.status() == 431), "it got through");
    assert_eq!(server.connections(), 0);
}

/// One frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Whether the proxy ends the connection while these are sent again and again.
async fn ends_under(stage: &Stage, flood: impl Fn(u32) -> Vec<u8>) -> bool {
    let mut stream = stage.connect().await.0;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let reading = tokio::spawn(async move {
        let mut sink = vec![0; 65536];
        while matches!(reader.read(&mut sink).await, Ok(1..)) {}
    });
    for number in 0..20_000 {
        if reading.is_finished() || writer.write_all(&flood(number)).await.is_err() {
            return true;
        }
    }
    timeout(PATIENCE, reading).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_end_the_connection() {
    let server = Echo::http2().await;
    let stage =
        Stage::with(server.address, ok(), Options { idle_time: 3_000, ..Options::default() });
    // GET http://a/ok, by HPACK's static table and literals.
    let head = [&[0x82, 0x86][..], &[0x44, 3], b"/ok", &[0x41, 1], b"a"].concat();
    let rapid_reset = |number: u32| {
        let stream = 2 * number + 1;
        [frame(1, 5, stream, &head), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
    };
    assert!(ends_under(&stage, rapid_reset).await, "rapid resets");
    let endless_head = |number: u32| match number {
        0 => frame(1, 0, 1, &head),
        _ => frame(9, 0, 1, &[&[0x40, 1][..], b"x", &[100], &[b'a'; 100]].concat()),
    };
    assert!(ends_under(&stage, endless_head).await, "a head without end");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_has_so_many_requests_in_flight_and_no_more() {
    let server = Echo::http2().await;
    let options = Options { requests_per_endpoint: 0, ..Options::default() };
    let stage = Stage::with(server.address, ok(), options);
    let mut sender = connect(&stage).await;
    assert_eq!(get(&mut sender, "http://a/ok").await.0, StatusCode::SERVICE_UNAVAILABLE);
    stage.refusal(Reason::OverRequests).await;
}
