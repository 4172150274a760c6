//! Requests beside a whole implementation of the protocol, version by version.

use std::net::SocketAddr;

use bytes::BytesMut;
use kafka_protocol::messages::{
    ApiKey, FetchRequest, FetchResponse, MetadataRequest, ProduceRequest, RequestHeader,
    ResponseHeader, ResponseKind, TopicName,
    fetch_request::{FetchPartition, FetchTopic},
    metadata_request::MetadataRequestTopic,
    produce_request::{PartitionProduceData, TopicProduceData},
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::prelude::*;

use super::layout::Api;
use super::pipeline::{Answer, Pipeline, Step};
use super::*;
use crate::{Reason, Unmatched};

mod samples;

const BROKER: &str = "192.0.2.1:9092";

fn broker() -> SocketAddr {
    BROKER.parse().unwrap()
}

/// A request as a client encodes it, without its length.
fn frame<T: Encodable>(key: ApiKey, version: i16, body: &T) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    let header = RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(77)
        .with_client_id(Some(StrBytes::from_static_str("client")));
    header.encode(&mut bytes, key.request_header_version(version)).unwrap();
    body.encode(&mut bytes, version).unwrap();
    bytes.to_vec()
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn produce(topics: &[&str], acks: i16, version: i16) -> Vec<u8> {
    let data = |name: &&str| {
        let partitions = [0, 3].map(|index| {
            PartitionProduceData::default().with_index(index).with_records(Some("records".into()))
        });
        TopicProduceData::default()
            .with_name(topic_name(name))
            .with_partition_data(partitions.into())
    };
    let request = ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(9)
        .with_topic_data(topics.iter().map(data).collect());
    frame(ApiKey::Produce, version, &request)
}

fn fetch(topics: &[&str], session: (i32, i32), version: i16) -> Vec<u8> {
    let topic = |name: &&str| {
        let partition = FetchPartition::default().with_partition(5);
        FetchTopic::default().with_topic(topic_name(name)).with_partitions(vec![partition])
    };
    let request = FetchRequest::default()
        .with_session_id(session.0)
        .with_session_epoch(session.1)
        .with_topics(topics.iter().map(topic).collect());
    frame(ApiKey::Fetch, version, &request)
}

fn metadata(topics: Option<&[&str]>, version: i16) -> Vec<u8> {
    let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let topics = topics.map(|topics| topics.iter().map(topic).collect());
    frame(ApiKey::Metadata, version, &MetadataRequest::default().with_topics(topics))
}

fn topics(frame: &[u8]) -> Vec<(String, Vec<i32>)> {
    match Request::read(frame).unwrap().scope {
        Scope::Topics(topics) => topics.into_iter().map(|t| (t.name, t.partitions)).collect(),
        other => panic!("{other:?}"),
    }
}

fn rule(topic: Option<&str>, keys: &[i16]) -> KafkaRule {
    KafkaRule {
        topic: topic.map(str::to_owned),
        api_keys: keys.iter().copied().collect(),
        ..KafkaRule::default()
    }
}

fn allows(rules: &[KafkaRule], frame: &[u8]) -> bool {
    Request::read(frame).unwrap().is_allowed(rules.iter())
}

#[test]
fn topics_of_produce_are_read_in_every_version() {
    for version in 3..=12 {
        let wanted = [("a".to_owned(), vec![0, 3]), ("b".to_owned(), vec![0, 3])];
        assert_eq!(topics(&produce(&["a", "b"], 1, version)), wanted, "version {version}");
    }
}

#[test]
fn topics_of_fetch_are_read_in_every_version() {
    for version in 4..=12 {
        let wanted = [("a".to_owned(), vec![5])];
        assert_eq!(topics(&fetch(&["a"], (0, -1), version)), wanted, "version {version}");
    }
}

#[test]
fn topics_of_every_other_request_are_read_in_every_version() {
    for (key, version, frame) in samples::requests() {
        let request = Request::read(&frame);
        let names = match request.as_ref().map(|request| &request.scope) {
            Ok(Scope::Topics(topics)) => topics.iter().map(|topic| topic.name.as_str()).collect(),
            other => panic!("{key:?} {version}: {other:?}"),
        };
        let names: Vec<&str> = names;
        assert_eq!(names, ["payments", "orders"], "{key:?} {version}");
    }
}

#[test]
fn headers_are_read() {
    let request = Request::read(&metadata(Some(&["a"]), 9)).unwrap();
    assert_eq!((request.api_key, request.api_version, request.correlation), (3, 9, 77));
    assert_eq!(request.client_id.as_deref(), Some("client"));
}

#[test]
fn a_list_of_all_topics_is_everything() {
    for version in 1..=12 {
        let scope = Request::read(&metadata(None, version)).unwrap().scope;
        assert_eq!(scope, Scope::Everything, "version {version}");
        let scope = Request::read(&metadata(Some(&[]), version)).unwrap().scope;
        assert_eq!(scope, Scope::Topics(vec![]), "version {version}");
    }
    let oldest = [&[0, 3, 0, 0, 0, 0, 0, 1, 0xff, 0xff][..], &[0; 4]].concat();
    assert_eq!(Request::read(&oldest).unwrap().scope, Scope::Everything);
}

#[test]
fn a_topic_known_by_number_alone_is_everything() {
    let topic = MetadataRequestTopic::default().with_name(None);
    let request = MetadataRequest::default().with_topics(Some(vec![topic]));
    let frame = frame(ApiKey::Metadata, 12, &request);
    assert_eq!(Request::read(&frame).unwrap().scope, Scope::Everything);
}

#[test]
fn every_topic_has_to_be_allowed() {
    let rules = [rule(Some("a"), &[0]), rule(Some("b"), &[0, 1])];
    assert!(allows(&rules, &produce(&["a"], 1, 9)));
    assert!(allows(&rules, &produce(&["a", "b"], 1, 9)));
    assert!(!allows(&rules, &produce(&["a", "c"], 1, 9)));
    assert!(!allows(&rules, &fetch(&["a"], (0, -1), 12)));
    assert!(allows(&rules, &fetch(&["b"], (0, -1), 12)));
    assert!(!allows(&[], &produce(&["a"], 1, 9)));
    assert!(!allows(&rules, &metadata(Some(&["a"]), 9)));
}

#[test]
fn what_cannot_be_read_needs_a_rule_without_a_topic() {
    let newer = [&[0, 1, 0, 17, 0, 0, 0, 1, 0xff, 0xff][..], &[0; 40]].concat();
    assert_eq!(Request::read(&newer).unwrap().scope, Scope::Unreadable);
    assert!(!allows(&[rule(Some("a"), &[1])], &newer));
    assert!(allows(&[rule(None, &[1])], &newer));
    assert!(!allows(&[rule(None, &[0])], &newer));
    assert!(!allows(&[rule(Some("a"), &[])], &metadata(None, 9)));
}

#[test]
fn version_and_client_are_conditions_too() {
    let rule = |version, client: Option<&str>| KafkaRule {
        api_version: version,
        client_id: client.map(str::to_owned),
        ..KafkaRule::default()
    };
    let frame = produce(&["a"], 1, 9);
    assert!(allows(&[rule(Some(9), Some("client"))], &frame));
    assert!(!allows(&[rule(Some(8), None)], &frame));
    assert!(!allows(&[rule(None, Some("other"))], &frame));
}

#[test]
fn requests_that_do_not_fit_their_length_are_malformed() {
    for frame in [produce(&["a"], 1, 3), produce(&["a"], 1, 9), fetch(&["a"], (0, 0), 12)] {
        for end in 0..frame.len() {
            assert_eq!(Request::read(&frame[..end]), Err(Malformed), "{end}");
        }
        let longer = [&frame[..], &[0]].concat();
        assert_eq!(Request::read(&longer), Err(Malformed));
    }
}

#[test]
fn counts_decide_no_allocation() {
    let mut frame = produce(&["a"], 1, 3);
    let at = frame.len() - 2 * (4 + 4 + 7) - 4 - 3 - 4;
    assert_eq!(frame[at..at + 4], [0, 0, 0, 1]);
    frame[at..at + 4].copy_from_slice(&i32::MAX.to_be_bytes());
    assert_eq!(Request::read(&frame), Err(Malformed));
}

#[test]
fn a_denial_is_an_answer_of_the_same_version() {
    let mut denied = 0;
    let own =
        (3..=12).map(|version| (ApiKey::Produce, version, produce(&["payments"], 1, version)));
    let fetches =
        (4..=12).map(|version| (ApiKey::Fetch, version, fetch(&["payments"], (0, -1), version)));
    for (key, version, frame) in
        own.chain(fetches).chain(samples::requests()).chain(samples::bare())
    {
        let request = Request::read(&frame).unwrap();
        let Some(answer) = request.deny(broker()) else {
            assert!(
                Api::of(key as i16).unwrap().answer.is_empty()
                    || version > Api::of(key as i16).unwrap().newest
            );
            continue;
        };
        let (length, rest) = answer.split_first_chunk().unwrap();
        assert_eq!(u32::from_be_bytes(*length) as usize, rest.len());
        let mut bytes = bytes::Bytes::copy_from_slice(rest);
        let header =
            ResponseHeader::decode(&mut bytes, key.response_header_version(version)).unwrap();
        assert_eq!(header.correlation_id, 77, "{key:?} {version}");
        let body = ResponseKind::decode(key, &mut bytes, version)
            .unwrap_or_else(|error| panic!("{key:?} {version}: {error}"));
        assert!(bytes.is_empty(), "{key:?} {version}: {} bytes are left", bytes.len());
        let text = format!("{body:?}");
        let error = request.denial();
        assert!(text.contains(&format!("error_code: {error}")), "{key:?} {version}: {text}");
        denied += 1;
    }
    assert!(denied > 100, "{denied} denials");
}

#[test]
fn a_producer_that_waits_for_no_answer_gets_none() {
    let request = Request::read(&produce(&["a"], 0, 9)).unwrap();
    assert!(!request.is_answered);
    assert_eq!(request.deny(broker()), None);
}

#[test]
fn own_answers_wait_for_the_brokers_before_them() {
    let rules = [rule(Some("a"), &[0])];
    let mut pipeline = Pipeline::new(broker());
    let mut send = |topic: &str| {
        let mut frame = produce(&[topic], 1, 9);
        let request = Request::read(&frame).unwrap();
        pipeline.request(&request, &mut frame, rules.iter(), Unmatched::Refused)
    };
    assert_eq!(send("a"), Step::Forward);
    assert_eq!(send("b"), Step::Denied(Reason::KafkaDenied));
    assert_eq!(send("a"), Step::Forward);
    assert_eq!(pipeline.take_own(), None);
    assert_eq!(pipeline.answer(100, 78), Err(Reason::UpstreamFailed));
    assert_eq!(pipeline.answer(100, 77), Ok(Answer::Pass));
    pipeline.answered();
    assert!(pipeline.take_own().is_some());
    assert_eq!(pipeline.take_own(), None);
    assert_eq!(pipeline.answer(100, 77), Ok(Answer::Pass));
    pipeline.answered();
    assert!(pipeline.is_idle());
    assert_eq!(pipeline.answer(100, 77), Err(Reason::UpstreamFailed));
}

#[test]
fn fetch_sessions_are_kept_from_beginning() {
    let rules = [rule(Some("a"), &[])];
    let step = |session, frame: &mut Vec<u8>| {
        *frame = fetch(&["a"], session, 11);
        let request = Request::read(frame).unwrap();
        let mut pipeline = Pipeline::new(broker());
        (pipeline.request(&request, frame, rules.iter(), Unmatched::Refused), pipeline.take_own())
    };
    let mut frame = Vec::new();
    assert_eq!(step((0, 0), &mut frame), (Step::Forward, None));
    assert_eq!(frame, fetch(&["a"], (0, -1), 11));
    let (denied, answer) = step((5, 2), &mut frame);
    assert_eq!(denied, Step::Denied(Reason::KafkaDenied));
    let mut bytes = bytes::Bytes::from(answer.unwrap()).split_off(8);
    let body = FetchResponse::decode(&mut bytes, 11).unwrap();
    assert_eq!((body.error_code, body.responses.len()), (70, 0));
}

#[test]
fn what_no_rule_allows_goes_on_where_that_is_only_audited() {
    let rules = [rule(Some("a"), &[])];
    let mut pipeline = Pipeline::new(broker());
    let mut step = |mut frame: Vec<u8>| {
        let request = Request::read(&frame).or_else(|_| Request::read_head(&frame)).unwrap();
        pipeline.request(&request, &mut frame, rules.iter(), Unmatched::Audited)
    };
    assert_eq!(step(produce(&["a"], 1, 9)), Step::Forward);
    assert_eq!(step(produce(&["b"], 1, 9)), Step::Audited(Reason::KafkaDenied));
    assert_eq!(step(fetch(&["a"], (5, 2), 11)), Step::Audited(Reason::KafkaDenied));
    let cut = produce(&["a"], 1, 9)[..20].to_vec();
    assert_eq!(Request::read(&cut), Err(Malformed));
    assert_eq!(step(cut), Step::Audited(Reason::KafkaDenied));
    for _ in 0..4 {
        assert_eq!(pipeline.answer(100, 77), Ok(Answer::Pass));
        pipeline.answered();
    }
    assert!(pipeline.is_idle(), "each is answered by the broker");
}

#[test]
fn the_versions_that_a_broker_offers_are_cut_to_what_can_be_judged() {
    use kafka_protocol::messages::api_versions_response::ApiVersion;
    use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
    let offer = |key, min, max| {
        ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max)
    };
    for version in 0..=3 {
        let mut request_frame = frame(ApiKey::ApiVersions, version, &ApiVersionsRequest::default());
        let request = Request::read(&request_frame).unwrap();
        let mut pipeline = Pipeline::new(broker());
        let rules = [rule(Some("a"), &[])];
        assert_eq!(
            pipeline.request(&request, &mut request_frame, rules.iter(), Unmatched::Refused),
            Step::Forward
        );
        let offered = vec![
            offer(0, 3, 13),
            offer(1, 4, 17),
            offer(12, 0, 9),
            offer(68, 0, 1),
            offer(20, 6, 6),
        ];
        let response = ApiVersionsResponse::default().with_api_keys(offered);
        let mut bytes = BytesMut::new();
        ResponseHeader::default().with_correlation_id(77).encode(&mut bytes, 0).unwrap();
        response.encode(&mut bytes, version).unwrap();
        assert_eq!(pipeline.answer(u32::try_from(bytes.len()).unwrap(), 77), Ok(Answer::Whole));
        let capped = pipeline.rewrite(&bytes).unwrap();
        let mut rest = bytes::Bytes::copy_from_slice(&capped[8..]);
        let response = ApiVersionsResponse::decode(&mut rest, version).unwrap();
        let kept: Vec<_> =
            response.api_keys.iter().map(|v| (v.api_key, v.min_version, v.max_version)).collect();
        assert_eq!(kept, [(0, 3, 12), (1, 4, 12), (12, 0, 9)], "version {version}");
    }
}

#[test]
fn a_client_that_never_reads_is_not_read_from_without_end() {
    let mut pipeline = Pipeline::new(broker());
    let mut count = 0;
    while pipeline.has_room() {
        let mut frame = produce(&["b"], 1, 9);
        let request = Request::read(&frame).unwrap();
        pipeline.request(&request, &mut frame, [].iter(), Unmatched::Refused);
        count += 1;
    }
    assert!(count <= 1024, "{count}");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Request::read(&bytes);
    }

    #[test]
    fn changed_requests_never_name_what_was_not_sent(
        flips in prop::collection::vec((0..200_usize, any::<u8>()), 1..4),
        version in 3..=12_i16,
    ) {
        let mut frame = produce(&["payments", "orders"], 1, version);
        for (at, value) in flips {
            let at = at % frame.len();
            frame[at] = value;
        }
        if let Ok(Request { scope: Scope::Topics(topics), .. }) = Request::read(&frame) {
            let sent = String::from_utf8_lossy(&frame).into_owned();
            prop_assert!(topics.iter().all(|topic| sent.contains(&topic.name)));
        }
    }
}
