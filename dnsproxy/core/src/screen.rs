//! What is refused before any policy is asked: messages that are not one plain question.

use thiserror::Error;

use crate::header::{Flags, Header, Rcode};
use crate::outline::Outline;
use crate::question::Question;
use crate::wire::{self, CLASS_IN, Malformed, kind};

/// What a client's message is.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "never stored; a box would cost an allocation a query"
)]
pub enum Screened<'a> {
    /// One question, to be judged, and what an error answer to it would repeat.
    Query(Question<'a>, Outline<'a>),
    /// Something that is answered by an error.
    Reject(Rejection),
    /// No query at all: too short for a header, or a response. It gets no answer, because an
    /// answer to an answer could go round for ever.
    Ignore,
}

/// Why a query is refused whatever the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Rejection {
    /// The opcode is not QUERY.
    #[error("the opcode is not QUERY")]
    Opcode,
    /// The class is not IN.
    #[error("the class is not IN")]
    Class,
    /// A zone transfer, whose many answers cannot be held until they are enforced.
    #[error("zone transfers are not forwarded")]
    Transfer,
    /// A query that carries answers or authority records, or unknown additional ones.
    #[error("a query carries records that a query has not")]
    Records,
    /// The message cannot be read.
    #[error("{0}")]
    Malformed(#[from] Malformed),
}

impl Rejection {
    /// The code that the client is answered with.
    pub const fn rcode(self) -> Rcode {
        match self {
            Self::Opcode => Rcode::NOTIMP,
            Self::Class | Self::Transfer => Rcode::REFUSED,
            Self::Records | Self::Malformed(_) => Rcode::FORMERR,
        }
    }
}

/// Decides whether a client's message is one plain question.
pub fn screen(message: &[u8]) -> Screened<'_> {
    match Header::read(message) {
        None => Screened::Ignore,
        Some(header) if header.flags.has(Flags::RESPONSE) => Screened::Ignore,
        Some(header) => match question(message, header) {
            Ok((question, edns)) => {
                let Header { id, flags, .. } = header;
                let outline = Outline { id, flags, edns, question: question.wire };
                Screened::Query(question, outline)
            }
            Err(rejection) => Screened::Reject(rejection),
        },
    }
}

/// The question, and the DO bit of the query's OPT record if it has one.
fn question(message: &[u8], header: Header) -> Result<(Question<'_>, Option<bool>), Rejection> {
    if !header.flags.is_query_opcode() {
        return Err(Rejection::Opcode);
    }
    let question = Question::read(message)?;
    if question.qclass != CLASS_IN {
        return Err(Rejection::Class);
    }
    if matches!(question.qtype, kind::AXFR | kind::IXFR) {
        return Err(Rejection::Transfer);
    }
    if header.answers != 0 || header.authorities != 0 {
        return Err(Rejection::Records);
    }
    let (end, edns) = additional(message, question.end(), header.additionals)?;
    if end == message.len() { Ok((question, edns)) } else { Err(Malformed::Trailing.into()) }
}

/// Checks the additional records, of which a query has at most one OPT and signatures. Gives
/// where they end, and the OPT record's DO bit.
fn additional(
    message: &[u8],
    mut at: usize,
    count: u16,
) -> Result<(usize, Option<bool>), Rejection> {
    let mut edns = None;
    for _ in 0..count {
        let (record, next) = wire::read_record(message, at)?;
        let of_the_root = message[at] == 0;
        match record.kind {
            kind::OPT if edns.is_none() && of_the_root => edns = Some(record.dnssec_ok()),
            kind::TSIG | kind::SIG => {}
            _ => return Err(Rejection::Records),
        }
        at = next;
    }
    Ok((at, edns))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &[u8] = b"\x01a\0\0\x01\0\x01";
    const OPT: &[u8] = b"\0\0\x29\x04\xd0\0\0\x80\0\0\0";

    fn message(flags: u16, counts: [u16; 4], body: &[&[u8]]) -> Vec<u8> {
        let words = [0x1234, flags, counts[0], counts[1], counts[2], counts[3]];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word: &u16| word.to_be_bytes()).collect();
        bytes.extend(body.concat());
        bytes
    }

    fn verdict(message: &[u8]) -> Option<Result<String, Rejection>> {
        match screen(message) {
            Screened::Query(question, _) => Some(Ok(question.name.as_ref().to_string())),
            Screened::Reject(rejection) => Some(Err(rejection)),
            Screened::Ignore => None,
        }
    }

    #[test]
    fn a_plain_question_is_judged_with_or_without_an_opt() {
        let plain = message(0x0100, [1, 0, 0, 0], &[QUESTION]);
        assert_eq!(verdict(&plain), Some(Ok("a.".into())));
        let edns = message(0x0100, [1, 0, 0, 1], &[QUESTION, OPT]);
        assert_eq!(verdict(&edns), Some(Ok("a.".into())));
    }

    #[test]
    fn the_outline_is_that_of_the_whole_query() {
        for body in [&[QUESTION][..], &[QUESTION, OPT]] {
            let query = message(0x0110, [1, 0, 0, body.len() as u16 - 1], body);
            let Screened::Query(_, outline) = screen(&query) else { panic!("{query:?}") };
            assert_eq!(Some(outline), Outline::read(&query));
        }
    }

    #[test]
    fn what_is_no_query_gets_no_answer() {
        assert_eq!(verdict(&message(0x8180, [1, 0, 0, 0], &[QUESTION])), None);
        assert_eq!(verdict(&[0; 11]), None);
        assert_eq!(verdict(&[]), None);
    }

    #[test]
    fn odd_opcodes_classes_and_transfers_are_refused() {
        let reject = |message: Vec<u8>| verdict(&message).unwrap().unwrap_err();
        let opcode = reject(message(0x2800, [1, 0, 0, 0], &[QUESTION]));
        assert_eq!((opcode, opcode.rcode()), (Rejection::Opcode, Rcode::NOTIMP));
        let chaos = reject(message(0, [1, 0, 0, 0], &[b"\x01a\0\0\x10\0\x03"]));
        assert_eq!((chaos, chaos.rcode()), (Rejection::Class, Rcode::REFUSED));
        let transfer = reject(message(0, [1, 0, 0, 0], &[b"\x01a\0\0\xfc\0\x01"]));
        assert_eq!((transfer, transfer.rcode()), (Rejection::Transfer, Rcode::REFUSED));
    }

    #[test]
    fn what_is_not_exactly_one_question_is_a_format_error() {
        let reject = |message: Vec<u8>| {
            let rejection = verdict(&message).unwrap().unwrap_err();
            assert_eq!(rejection.rcode(), Rcode::FORMERR);
            rejection
        };
        let none = message(0, [0, 0, 0, 0], &[]);
        assert_eq!(reject(none), Rejection::Malformed(Malformed::Questions));
        let two = message(0, [2, 0, 0, 0], &[QUESTION, QUESTION]);
        assert_eq!(reject(two), Rejection::Malformed(Malformed::Questions));
        let trailing = message(0, [1, 0, 0, 0], &[QUESTION, b"x"]);
        assert_eq!(reject(trailing), Rejection::Malformed(Malformed::Trailing));
        let cut = message(0, [1, 0, 0, 1], &[QUESTION, &OPT[..9]]);
        assert_eq!(reject(cut), Rejection::Malformed(Malformed::Short));
        let record = b"\x01a\0\0\x01\0\x01\0\0\0\0\0\0";
        assert_eq!(reject(message(0, [1, 1, 0, 0], &[QUESTION, record])), Rejection::Records);
        assert_eq!(reject(message(0, [1, 0, 1, 0], &[QUESTION, record])), Rejection::Records);
        assert_eq!(reject(message(0, [1, 0, 0, 1], &[QUESTION, record])), Rejection::Records);
        assert_eq!(reject(message(0, [1, 0, 0, 2], &[QUESTION, OPT, OPT])), Rejection::Records);
    }
}
