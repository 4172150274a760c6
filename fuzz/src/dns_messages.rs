//! DNS messages: no bytes do harm, and where hickory-proto can read a message too, both say the
//! same of it.

mod compose;
mod opinion;

use arbitrary::Unstructured;
use dnsproxy_core::{Address, Answer, Flags, Header, Outline, Question, Screened, screen};
use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::RecordType;

const MAX_TTL: u32 = 60;

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
    as_answer(bytes);
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

/// What is read of an answer is what its client reads of the message that goes on.
fn as_answer(bytes: &[u8]) {
    let mut answer = Answer::default();
    let mut sent = bytes.to_vec();
    if answer.read(&mut sent, MAX_TTL).is_err() {
        assert!(answer.addresses.is_empty());
        return;
    }
    let ips = |addresses: &[Address]| addresses.iter().map(|own| own.ip).collect::<Vec<_>>();
    let (read, capped) = (ips(&answer.addresses), sent.clone());
    answer.read(&mut sent, MAX_TTL).unwrap();
    assert_eq!((ips(&answer.addresses), &sent), (read, &capped));
    assert!(answer.addresses.iter().all(|address| address.ttl <= MAX_TTL));
    let opinion = Message::from_vec(&capped).ok();
    if let Some(expected) = opinion.as_ref().and_then(opinion::addresses) {
        assert_eq!(answer.addresses, expected);
    }
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
