//! Kafka, by its bytes.

use std::net::SocketAddr;

use l7proxy_core::Reason;
use l7proxy_core::control::Asked;
use model::KafkaRule;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::rules::{http, kafka, request};
use crate::stage::{PATIENCE, Stage};

/// A broker that answers each request with its own bytes behind the correlation.
pub async fn broker() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while let Some(frame) = read(&mut stream).await {
                    let answer = [&frame[4..8], &frame[..]].concat();
                    send(&mut stream, &answer).await;
                }
            });
        }
    });
    address
}

pub async fn send(stream: &mut TcpStream, frame: &[u8]) {
    let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length, frame].concat()).await.unwrap();
}

async fn read(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = stream.read_u32().await.ok()?;
    let mut frame = vec![0; length as usize];
    stream.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

pub async fn answer(stream: &mut TcpStream) -> Option<Vec<u8>> {
    timeout(PATIENCE, read(stream)).await.expect("no answer")
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    [&length, text.as_bytes()].concat()
}

/// Metadata of one topic, in version 1.
pub fn metadata(correlation: u8, topic: &str) -> Vec<u8> {
    let head = [0, 3, 0, 1, 0, 0, 0, correlation];
    [&head[..], &text("client"), &1_u32.to_be_bytes(), &text(topic)].concat()
}

pub fn allow(topic: &str) -> KafkaRule {
    KafkaRule { topic: Some(topic.into()), ..KafkaRule::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_judged_and_answered_in_its_turn() {
    let stage = Stage::new(broker().await, kafka([allow("payments")]));
    let mut client = stage.connect().await.0;
    send(&mut client, &metadata(1, "payments")).await;
    send(&mut client, &metadata(2, "orders")).await;
    send(&mut client, &metadata(3, "payments")).await;
    let passed = [&[0, 0, 0, 1][..], &metadata(1, "payments")].concat();
    assert_eq!(answer(&mut client).await.unwrap(), passed);
    let denied = answer(&mut client).await.unwrap();
    assert_eq!(denied[..4], [0, 0, 0, 2]);
    let error = [&29_u16.to_be_bytes()[..], &text("orders")].concat();
    assert!(denied.windows(error.len()).any(|part| part == error), "{denied:?}");
    assert_eq!(answer(&mut client).await.unwrap()[..4], [0, 0, 0, 3]);
    let record = stage.refusal(Reason::KafkaDenied).await;
    let expected = Asked::Kafka {
        api_key: 3,
        api_version: 1,
        correlation: 2,
        client_id: Some("client".into()),
        topics: vec!["orders".into()],
        error: 29,
    };
    assert_eq!(record.request, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_rules_holds_for_the_next_request() {
    let stage = Stage::new(broker().await, kafka([allow("payments")]));
    let mut client = stage.connect().await.0;
    send(&mut client, &metadata(1, "payments")).await;
    answer(&mut client).await.unwrap();
    stage.change(kafka([allow("orders")]));
    loop {
        send(&mut client, &metadata(2, "orders")).await;
        let passed = [&[0, 0, 0, 2][..], &metadata(2, "orders")].concat();
        if answer(&mut client).await.unwrap() == passed {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_rules_for_kafka_is_closed() {
    let stage = Stage::new(broker().await, kafka([allow("payments")]));
    let mut client = stage.connect().await.0;
    send(&mut client, &metadata(1, "payments")).await;
    answer(&mut client).await.unwrap();
    stage.change(crate::rules::rules([]));
    assert_eq!(answer(&mut client).await, None);
    stage.refusal(Reason::NoRules).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_request_end_the_connection() {
    let stage = Stage::new(broker().await, kafka([allow("payments")]));
    let broken = metadata(1, "payments");
    for stream in [
        [&[0, 0, 0, 30][..], &broken, &[0; 6]].concat(),
        vec![0, 0, 0, 1, 0],
        vec![0, 0x80, 0, 1, 0],
        [&[0, 0, 0, 14][..], &[0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]]
            .concat(),
    ] {
        let mut client = stage.connect().await.0;
        client.write_all(&stream).await.unwrap();
        assert_eq!(answer(&mut client).await, None, "{stream:?}");
        stage.refusal(Reason::MalformedKafka).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_are_no_kafka() {
    let stage = Stage::new(broker().await, kafka([allow("payments")]));
    let mut client = stage.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.rest().await, "");
    stage.refusal(Reason::UnknownProtocol).await;
    stage.change(http([request("GET", "/")]));
    let mut client = stage.connect().await.0;
    send(&mut client, &metadata(1, "payments")).await;
    assert_eq!(answer(&mut client).await, None);
}
