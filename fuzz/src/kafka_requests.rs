//! Kafka requests, read beside kafka-protocol, and the answers that deny them.
//!
//! kafka-protocol trusts counts, so it only sees what was read to its end before.

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, RequestHeader, RequestKind, ResponseHeader, ResponseKind};
use kafka_protocol::protocol::Decodable;
use l7proxy_core::kafka::{Request, Scope};

/// Reads the bytes as a request: its kind and version, then its body.
pub fn check(data: &[u8]) {
    let [key, version, body @ ..] = data else { return };
    let head = [0, *key, 0, *version, 0, 0, 0, 9, 0xff, 0xff];
    let frame = [&head[..], body].concat();
    let Ok(request) = Request::read(&frame) else { return };
    let Ok(key) = ApiKey::try_from(request.api_key) else { return };
    if let Scope::Topics(topics) = &request.scope {
        let names = topics.iter().map(|topic| topic.name.as_str());
        beside(key, &request, &frame, &names.collect::<Vec<_>>());
    }
    let broker = ([192, 0, 2, 1], 9092).into();
    let Some(answer) = request.deny(broker) else { return };
    let mut bytes = Bytes::from(answer).split_off(4);
    let header = key.response_header_version(request.api_version);
    let header = ResponseHeader::decode(&mut bytes, header).expect("a header");
    assert_eq!(header.correlation_id, 9);
    // Old versions are not known beside.
    if ResponseKind::decode(key, &mut bytes, request.api_version).is_ok() {
        assert!(bytes.is_empty(), "{key:?}: {} bytes are left", bytes.len());
    }
}

/// Compares the topics of the requests that matter most.
fn beside(key: ApiKey, request: &Request, frame: &[u8], topics: &[&str]) {
    if !matches!(key, ApiKey::Produce | ApiKey::Fetch | ApiKey::Metadata) {
        return;
    }
    let version = request.api_version;
    let mut bytes = Bytes::copy_from_slice(frame);
    if RequestHeader::decode(&mut bytes, key.request_header_version(version)).is_err() {
        return;
    }
    let Ok(body) = RequestKind::decode(key, &mut bytes, version) else { return };
    let names: Vec<String> = match &body {
        RequestKind::Produce(body) => body.topic_data.iter().map(|t| t.name.to_string()).collect(),
        RequestKind::Fetch(body) => {
            let asked = body.topics.iter().map(|topic| topic.topic.to_string());
            let forgotten = body.forgotten_topics_data.iter().map(|topic| topic.topic.to_string());
            asked.chain(forgotten).collect()
        }
        RequestKind::Metadata(body) => {
            let names = body.topics.iter().flatten();
            names
                .map(|topic| topic.name.as_ref().map_or(String::new(), |n| n.to_string()))
                .collect()
        }
        _ => return,
    };
    assert_eq!(topics, names, "{key:?} {version}");
}
