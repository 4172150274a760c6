//! Rules that are only audited: nothing is refused for their sake, and everything is told that
//! would be.

use std::net::SocketAddr;

use l7proxy::Options;
use l7proxy_core::control::{Access, Asked};
use l7proxy_core::{Fate, Reason};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::kafka::{allow, answer, broker, metadata, send};
use crate::rules::{http, intercepted, kafka, names, ok, request, rules};
use crate::servers::{Echo, scripted};
use crate::stage::{Stage, get};
use crate::tls::{Authority, NAME, curl};

/// A server that says who it is before it is asked, and gives back what it gets.
async fn greeter(greeting: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                writer.write_all(greeting.as_bytes()).await.unwrap();
                // How the connection ended is the test's affair.
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_no_rule_allows_is_answered_by_its_server_and_told() {
    let stage = Stage::audited(Echo::http1().await.address, ok());
    let mut client = stage.connect().await;
    assert_eq!(client.ask(get("/ok")).await.1, "GET /ok a.example\n");
    assert_eq!(client.ask(get("/no")).await.1, "GET /no a.example\n");
    let record = stage.audit(Reason::RequestDenied).await;
    let Asked::Http { path, status, .. } = record.request else { panic!("{record:?}") };
    assert_eq!((&*path, status), ("/no", Some(200)));
    assert_eq!(stage.passed(), ["/ok"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_read_is_refused_all_the_same() {
    let stage = Stage::audited(Echo::http1().await.address, ok());
    let mut client = stage.connect().await;
    client.send("GET /ok HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
    assert!(client.rest().await.starts_with("HTTP/1.1 400 "));
    stage.refusal(Reason::AmbiguousHost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_lives_is_enforced_upon_when_its_rules_are() {
    let stage = Stage::audited(Echo::http1().await.address, ok());
    let mut client = stage.connect().await;
    assert_eq!(client.ask(get("/no")).await.0, "HTTP/1.1 200 OK");
    stage.change(ok());
    // The change is on its way: the first refusal shows that it came.
    while client.ask(get("/no")).await.0 != "HTTP/1.1 403 Forbidden" {}
    stage.refusal(Reason::RequestDenied).await;
    assert_eq!(client.ask(get("/ok")).await.0, "HTTP/1.1 200 OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_goes_on_until_its_rules_are_enforced() {
    const SWITCHED: &str =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    let stage = Stage::audited(scripted(SWITCHED).await, ok());
    let mut client = stage.connect().await;
    client
        .send("GET /no HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
        .await;
    client.until("\r\n\r\n").await;
    stage.audit(Reason::RequestDenied).await;
    client.send("ping").await;
    client.until("ping").await;
    stage.change_audited(http([request("GET", "/other")]));
    client.send("pong").await;
    client.until("pong").await;
    stage.change(ok());
    assert_eq!(client.rest().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_that_no_rule_allows_goes_on_untouched_and_is_told_why() {
    let authority = Authority::new();
    let server = Echo::tls(authority.server(NAME, &[])).await;
    let stage = Stage::audited(server.address, rules([names(&["other.example"])]));
    for (rules, reason) in [
        (rules([names(&["other.example"])]), Reason::ServerNameDenied),
        (ok(), Reason::TlsNotTerminated),
        (rules([]), Reason::NoRules),
    ] {
        stage.change_audited(rules);
        assert_eq!(curl(stage.address, &authority, "/", &[]).await.1, "GET / api.example\n");
        let record = stage.audit(reason).await;
        assert_eq!(record.request, Asked::Tls);
        assert_eq!(record.server_name.as_deref(), Some(NAME));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_inside_tls_are_told_and_go_on() {
    let authority = Authority::new();
    let server = Echo::tls(authority.server(NAME, &["h2", "http/1.1"])).await;
    let requests = model::Requests::Http(vec![request("GET", "/ok")]);
    let rule = intercepted(&authority.pair(), &authority.pem(), requests);
    let stage = Stage::audited(server.address, rules([rule]));
    let (_, text) = curl(stage.address, &authority, "/no", &[]).await;
    assert_eq!(text, "GET /no api.example\n");
    let record = stage.audit(Reason::RequestDenied).await;
    assert!(matches!(record.request, Asked::Http { version: 20, .. }), "{record:?}");
    let (_, text) = curl(stage.address, &authority, "/ok", &["-H", "Host: b.example"]).await;
    assert_eq!(text, "GET /ok b.example\n");
    stage.audit(Reason::HostIsNotServerName).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spliced_bytes_end_when_the_rules_against_them_are_enforced() {
    let stage = Stage::audited(greeter("").await, rules([names(&[NAME])]));
    let mut client = stage.connect().await;
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    client.until("GET / HTTP/1.1\r\n\r\n").await;
    let record = stage.audit(Reason::NotTls).await;
    assert_eq!(record.request, Asked::Connection);
    stage.change_audited(ok());
    client.send("more").await;
    client.until("more").await;
    stage.change(ok());
    assert_eq!(client.rest().await, "");
    stage.refusal(Reason::RulesChanged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn protocols_that_no_rule_speaks_of_go_on_whole() {
    let stage = Stage::audited(greeter("").await, ok());
    let beginnings = [
        &b"SSH-2.0-OpenSSH_9.6\r\n"[..],
        b"get key\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
    ];
    for beginning in beginnings {
        let mut client = stage.connect().await;
        client.send(beginning).await;
        client.back(beginning).await;
    }
    let told = |record: &Access| record.fate == Fate::Audited(Reason::UnknownProtocol);
    stage.count(beginnings.len(), told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_client_hello_goes_on_as_it_is() {
    let stage = Stage::audited(greeter("").await, ok());
    let mut client = stage.connect().await;
    client.send([22, 3, 1, 0, 0, 0]).await;
    client.back(&[22, 3, 1, 0, 0, 0]).await;
    stage.audit(Reason::MalformedHello).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_its_server_hears_it() {
    let stage = Stage::audited(greeter("220 ready\r\n").await, ok());
    let mut client = stage.connect().await;
    client.until("220 ready\r\n").await;
    client.send("EHLO a\r\n").await;
    client.until("EHLO a\r\n").await;
    stage.audit(Reason::UnknownProtocol).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_its_time_is_judged_by_what_it_says() {
    let server = Echo::http1().await;
    let options = Options { opening_time: 50, ..Options::default() };
    let stage = Stage::audited_with(server.address, ok(), options);
    let mut client = stage.connect().await;
    while server.connections() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(client.ask(get("/ok")).await.0, "HTTP/1.1 200 OK");
    stage.wait_for_passed(&["/ok"]).await;
    assert_eq!(server.connections(), 1, "the connection that stood already is used");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_kafka_are_told_and_go_to_their_broker() {
    let stage = Stage::audited(broker().await, kafka([allow("payments")]));
    let mut client = stage.connect().await.0;
    for (correlation, topic) in [(1, "payments"), (2, "orders")] {
        send(&mut client, &metadata(correlation, topic)).await;
        let passed = [&[0, 0, 0, correlation][..], &metadata(correlation, topic)].concat();
        assert_eq!(answer(&mut client).await.unwrap(), passed);
    }
    let record = stage.audit(Reason::KafkaDenied).await;
    let Asked::Kafka { topics, error, .. } = record.request else { panic!("{record:?}") };
    assert_eq!((&topics[..], error), (&["orders".to_owned()][..], 0));
    let broken = [&metadata(3, "payments")[..], &[0; 6]].concat();
    send(&mut client, &broken).await;
    assert_eq!(answer(&mut client).await.unwrap(), [&[0, 0, 0, 3][..], &broken].concat());
    stage.audit(Reason::MalformedKafka).await;
}
