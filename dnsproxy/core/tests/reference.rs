//! The reader beside hickory-proto: what that library builds reads the same here, and random
//! bytes never do harm.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use dnsproxy_core::{Address, Answer, Flags, Frames, Header, Outline, Question, Screened, screen};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::svcb::{IpHint, SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, HTTPS, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proptest::prelude::*;

/// Few names, so that chains, loops and unconnected records all come about.
fn name() -> impl Strategy<Value = Name> {
    prop::sample::select(vec!["a.test.", "B.test.", "c.b.test.", "deep.c.b.Test.", "x.other."])
        .prop_map(|text| Name::from_str(text).unwrap())
}

fn data() -> impl Strategy<Value = RData> {
    let hints = (any::<[u8; 4]>(), any::<[u8; 16]>(), name()).prop_map(|(v4, v6, target)| {
        let params = vec![
            (SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(vec![A(v4.into())]))),
            (SvcParamKey::Ipv6Hint, SvcParamValue::Ipv6Hint(IpHint(vec![AAAA(v6.into())]))),
        ];
        RData::HTTPS(HTTPS(SVCB::new(1, target, params)))
    });
    prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| RData::A(A(ip.into()))),
        any::<[u8; 16]>().prop_map(|ip| RData::AAAA(AAAA(ip.into()))),
        name().prop_map(|target| RData::CNAME(CNAME(target))),
        Just(RData::TXT(TXT::new(vec!["text".into()]))),
        hints,
    ]
}

fn record() -> impl Strategy<Value = Record> {
    (name(), 0u32..100_000, data())
        .prop_map(|(name, ttl, data)| Record::from_rdata(name, ttl, data))
}

fn message() -> impl Strategy<Value = Message> {
    let records = || prop::collection::vec(record(), 0..12);
    (name(), records(), records(), records(), any::<bool>()).prop_map(
        |(question, answers, authorities, additionals, edns)| {
            let mut message = Message::new(7, MessageType::Response, OpCode::Query);
            message.add_query(Query::query(question, RecordType::A));
            message.add_answers(answers).add_authorities(authorities);
            message.add_additionals(additionals);
            if edns {
                message.set_edns(Edns::new());
            }
            message
        },
    )
}

/// The slow and obvious way from the question to its addresses, over hickory's own records.
fn reachable(message: &Message) -> Vec<Address> {
    let mut found = Vec::new();
    let mut records: Vec<&Record> = message.answers.iter().collect();
    let mut name = message.queries[0].name().clone();
    let mut least = u32::MAX;
    for _ in 0..=16 {
        records.retain(|record| {
            let addresses: Vec<IpAddr> = match &record.data {
                RData::A(ip) => vec![ip.0.into()],
                RData::AAAA(ip) => vec![ip.0.into()],
                RData::HTTPS(service) => hints(&service.0),
                _ => return true,
            };
            if record.name != name {
                return true;
            }
            let ttl = least.min(record.ttl);
            found.extend(addresses.into_iter().map(|ip| Address { ip, ttl }));
            false
        });
        let alias = records
            .iter()
            .position(|record| record.name == name && matches!(record.data, RData::CNAME(_)));
        let Some(alias) = alias.map(|index| records.remove(index)) else { break };
        let RData::CNAME(target) = &alias.data else { unreachable!() };
        least = least.min(alias.ttl);
        name = target.0.clone();
    }
    found
}

fn hints(service: &SVCB) -> Vec<IpAddr> {
    let address = |(_, value): &(SvcParamKey, SvcParamValue)| -> Vec<IpAddr> {
        match value {
            SvcParamValue::Ipv4Hint(hint) => hint.0.iter().map(|ip| IpAddr::V4(ip.0)).collect(),
            SvcParamValue::Ipv6Hint(hint) => hint.0.iter().map(|ip| IpAddr::V6(ip.0)).collect(),
            _ => Vec::new(),
        }
    };
    service.svc_params.iter().flat_map(address).collect()
}

/// Whatever the bytes are, every reader comes to an end without harm.
fn read_all(bytes: &[u8]) {
    let mut answer = Answer::default();
    let mut capped = bytes.to_vec();
    if answer.read(&mut capped, 60).is_ok() {
        let (addresses, sent) = (answer.addresses.clone(), capped.clone());
        answer.read(&mut capped, 60).unwrap();
        assert!(answer.addresses.iter().map(|own| own.ip).eq(addresses.iter().map(|own| own.ip)));
        assert_eq!(capped, sent);
    }
    let _ = Question::read(bytes);
    let _ = Question::from_wire(bytes);
    if let Some(outline) = Outline::read(bytes) {
        let mut refusal = Vec::new();
        outline.truncate(&mut refusal);
        assert!(Header::read(&refusal).unwrap().flags.has(Flags::RESPONSE));
    }
    if let Screened::Query(question, _) = screen(bytes) {
        assert_eq!(
            Question::from_wire(question.wire).unwrap().name.as_ref(),
            question.name.as_ref()
        );
    }
}

proptest! {
    #[test]
    fn reads_the_addresses_that_the_reference_reaches(message in message()) {
        let mut bytes = message.to_vec().unwrap();
        let mut answer = Answer::default();
        answer.read(&mut bytes, u32::MAX).unwrap();
        prop_assert_eq!(&answer.addresses, &reachable(&message));
    }

    #[test]
    fn caps_ttls_as_the_reference_reads_them(message in message(), max in 0u32..50_000) {
        let mut bytes = message.to_vec().unwrap();
        let mut answer = Answer::default();
        answer.read(&mut bytes, max).unwrap();
        let mut expected = Message::from_vec(&message.to_vec().unwrap()).unwrap();
        let sections =
            [&mut expected.answers, &mut expected.authorities, &mut expected.additionals];
        for record in sections.into_iter().flatten() {
            record.ttl = record.ttl.min(max);
        }
        prop_assert_eq!(Message::from_vec(&bytes).unwrap(), expected);
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read_all(&bytes);
    }

    #[test]
    fn damaged_messages_do_no_harm(
        message in message(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = message.to_vec().unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read_all(&bytes);
        read_all(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn a_random_stream_never_overfills_its_frames(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
        let mut frames = Frames::new(4096);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let space = frames.space();
            prop_assert!(!space.is_empty());
            let count = space.len().min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            frames.advance(count);
            rest = &rest[count..];
            loop {
                match frames.next_message() {
                    Ok(Some(message)) => prop_assert!(message.len() <= 4096),
                    Ok(None) => break,
                    Err(_) => return Ok(()),
                }
            }
        }
    }
}

#[test]
fn the_reference_reads_our_refusals() {
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_str("www.example.").unwrap(), RecordType::AAAA));
    query.set_edns(Edns::new());
    let bytes = query.to_vec().unwrap();
    let mut refusal = Vec::new();
    let outline = Outline::read(&bytes).unwrap();
    outline.refuse(
        dnsproxy_core::Rcode::REFUSED,
        dnsproxy_core::ExtendedError::Blocked,
        &mut refusal,
    );
    let refusal = Message::from_vec(&refusal).unwrap();
    assert_eq!(refusal.metadata.response_code.to_string(), "Query Refused");
    assert_eq!((refusal.metadata.id, &refusal.queries), (query.metadata.id, &query.queries));
    assert!(refusal.edns.is_some() && refusal.answers.is_empty());
}

#[test]
fn addresses_of_both_families_come_out_as_they_went_in() {
    let name = Name::from_str("a.test.").unwrap();
    let mut message = Message::new(7, MessageType::Response, OpCode::Query);
    message.add_query(Query::query(name.clone(), RecordType::A));
    let (v4, v6) = (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::LOCALHOST);
    message.add_answer(Record::from_rdata(name.clone(), 60, RData::A(A(v4))));
    message.add_answer(Record::from_rdata(name, 61, RData::AAAA(AAAA(v6))));
    let mut answer = Answer::default();
    answer.read(&mut message.to_vec().unwrap(), u32::MAX).unwrap();
    let expected = [Address { ip: v4.into(), ttl: 60 }, Address { ip: v6.into(), ttl: 61 }];
    assert_eq!(answer.addresses, expected);
}
