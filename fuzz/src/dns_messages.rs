//! DNS messages: no bytes do harm, and where hickory-proto can read a message too, both say the
//! same of it.

mod compose;
mod opinion;

use arbitrary::Unstructured;
use dnsproxy_core::{Answer, Flags, Header, Outline, Question, Screened, screen};
use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::RecordType;

/// Reads bytes as they are, or, where they begin with an odd one, as instructions for a message.
pub fn check(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    if kind % 2 == 0 {
        read(rest);
    } else if let Ok(message) = compose::message(&mut Unstructured::new(rest)) {
        read(&message);
    }
}

fn read(bytes: &[u8]) {
    let opinion = Message::from_vec(bytes).ok();
    as_answer(bytes, opinion.as_ref());
    as_query(bytes, opinion.as_ref());
    let question = Question::read(bytes);
    if let Ok(question) = &question {
        let again = Question::from_wire(question.wire).unwrap();
        assert_eq!(again.name.as_ref(), question.name.as_ref());
    }
    if let Some(outline) = Outline::read(bytes) {
        let mut refusal = Vec::new();
        outline.truncate(&mut refusal);
        assert!(Header::read(&refusal).unwrap().flags.has(Flags::RESPONSE));
        Message::from_vec(&refusal).unwrap();
    }
}

fn as_answer(bytes: &[u8], opinion: Option<&Message>) {
    let mut answer = Answer::default();
    if answer.read(bytes).is_err() {
        assert!(answer.addresses.is_empty());
        return;
    }
    check_caps(bytes, &answer);
    if let Some(expected) = opinion.and_then(opinion::addresses) {
        assert_eq!(answer.addresses, expected);
    }
}

/// Capped TTLs change nothing else. A name may lead, by a pointer, into the bytes of a TTL; whoever
/// writes such an answer gets what comes of it.
fn check_caps(bytes: &[u8], answer: &Answer) {
    let mut capped = bytes.to_vec();
    answer.cap_ttls(&mut capped, 60);
    assert_eq!(capped.len(), bytes.len());
    let mut again = Answer::default();
    let read = again.read(&capped);
    let question = 12 + Question::read(bytes).unwrap().wire.len();
    let pointers = bytes[12..].windows(2).filter(|pair| pair[0] >= 0xc0);
    let mut targets = pointers.map(|pair| usize::from(pair[0] & 0x3f) << 8 | usize::from(pair[1]));
    if !targets.all(|target| target < question) {
        return;
    }
    assert_eq!(read, Ok(()));
    assert!(again.addresses.iter().all(|address| address.ttl <= 60));
    let ips = |answer: &Answer| answer.addresses.iter().map(|own| own.ip).collect::<Vec<_>>();
    assert_eq!(ips(answer), ips(&again));
}

fn as_query(bytes: &[u8], opinion: Option<&Message>) {
    let Screened::Query(question, _) = screen(bytes) else { return };
    let Some(message) = opinion else { return };
    let metadata = &message.metadata;
    assert_eq!((metadata.message_type, metadata.op_code), (MessageType::Query, OpCode::Query));
    let [query] = &message.queries[..] else { panic!("{} questions", message.queries.len()) };
    assert_eq!(RecordType::from(question.qtype), query.query_type());
    assert_eq!(opinion::wire(query.name()), question.name.as_ref().as_wire());
    assert!(message.answers.is_empty() && message.authorities.is_empty());
}
