//! Bounds in number and time, and a daemon that is not there.

use l7proxy::Options;
use l7proxy_core::Reason;

use crate::rules::{ok, rules};
use crate::servers::Echo;
use crate::stage::{Stage, get};

async fn stage(options: Options) -> Stage {
    Stage::with(Echo::http1().await.address, ok(), options)
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_an_endpoint_are_bounded() {
    let stage = stage(Options { connections_per_endpoint: 1, ..Options::default() }).await;
    let mut first = stage.connect().await;
    first.ask(get("/ok")).await;
    let mut second = stage.connect().await;
    assert_eq!(second.rest().await, "");
    stage.refusal(Reason::OverEndpointConnections).await;
    first.ask(get("/ok")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_in_all_are_bounded() {
    let stage = stage(Options { connections: 1, ..Options::default() }).await;
    let mut first = stage.connect().await;
    first.ask(get("/ok")).await;
    assert_eq!(stage.connect().await.rest().await, "");
    stage.refusal(Reason::OverConnections).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_is_given_up() {
    let stage = stage(Options { opening_time: 200, ..Options::default() }).await;
    assert_eq!(stage.connect().await.rest().await, "");
    stage.refusal(Reason::SlowClient).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_trickles_in_is_given_up() {
    let stage = stage(Options { request_time: 300, ..Options::default() }).await;
    let mut client = stage.connect().await;
    client.ask(get("/ok")).await;
    client.send("GET /ok HTTP/1.1\r\nHost: a\r\n").await;
    let (mut reader, mut writer) = client.0.into_split();
    let trickle = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        while writer.write_all(b"X: a\r\n").await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    let mut sink = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut sink).await;
    trickle.abort();
    stage.refusal(Reason::SlowClient).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_between_requests_is_not_slow_but_not_kept_for_ever() {
    let options = Options { request_time: 100, idle_time: 5_000, ..Options::default() };
    let stage = stage(options).await;
    let mut client = stage.connect().await;
    client.ask(get("/ok")).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    client.ask(get("/ok")).await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_judgement_nothing_passes() {
    let stage = stage(Options { judgement_time: 2_000, ..Options::default() }).await;
    let mut living = stage.connect().await;
    living.ask(get("/ok")).await;
    stage.silence();
    assert_eq!(stage.connect().await.rest().await, "");
    stage.refusal(Reason::NoJudgement).await;
    stage.change(ok());
    // The change is on its way: the first answer under it shows that it came.
    loop {
        let (status, text) = living.ask(get("/ok")).await;
        if status == "HTTP/1.1 503 Service Unavailable" {
            assert_eq!(text, "no-judgement\r\n");
            break;
        }
    }
    assert_eq!(living.rest().await, "", "the connection is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_refuses_is_heard() {
    let stage = stage(Options::default()).await;
    stage.refuse(Reason::NoRules);
    assert_eq!(stage.connect().await.rest().await, "");
    stage.refusal(Reason::NoRules).await;
    stage.change(rules([]));
    let mut client = stage.connect().await;
    client.send(get("/ok")).await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_no_known_protocol_are_refused() {
    let stage = stage(Options::default()).await;
    let mut client = stage.connect().await;
    client.send([0, 0, 0, 20, 0, 3]).await;
    assert_eq!(client.rest().await, "");
    stage.refusal(Reason::UnknownProtocol).await;
}
