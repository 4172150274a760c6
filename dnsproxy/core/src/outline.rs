//! What an error answer takes from its query, and the writing of that answer.
//!
//! An answer repeats the query's ID, opcode, RD and CD bits and its question as it came. If the
//! query had an OPT record, so has the answer (RFC 6891, 6.1.1), with the reason in it (RFC 8914).

use crate::header::{Flags, Header, Rcode};
use crate::question::Question;
use crate::wire::{self, kind};

/// The longest message that [`Outline::refuse`] writes.
pub const REFUSAL_MAX_LEN: usize = crate::HEADER_LEN + Question::MAX_LEN + OPT_LEN;

/// An OPT record with an extended error and no text.
const OPT_LEN: usize = 17;

/// The UDP size that our OPT record offers, as the DNS flag day of 2020 recommends.
const UDP_SIZE: u16 = 1232;

/// The DO bit in the TTL of an OPT record.
const DNSSEC_OK: u32 = 0x8000;

/// The option code of an extended error.
const EXTENDED_ERROR: u16 = 15;

/// The parts of a query that an error answer repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline<'a> {
    /// The query's ID.
    pub id: u16,
    /// The query's flags.
    pub flags: Flags,
    /// Whether the query has an OPT record, and whether that sets the DO bit.
    pub edns: Option<bool>,
    /// The question's bytes; empty where they could not be read.
    pub question: &'a [u8],
}

/// Why a query was answered with an error, for people who look (RFC 8914, 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ExtendedError {
    /// 0, Other.
    Other = 0,
    /// 15, Blocked: policy does not allow the name.
    Blocked = 15,
    /// 18, Prohibited: the client may not ask at all.
    Prohibited = 18,
    /// 21, Not Supported: a kind of query that is not forwarded.
    NotSupported = 21,
    /// 22, No Reachable Authority: upstream was silent or unreachable.
    NoReachableAuthority = 22,
    /// 24, Invalid Data: upstream's answer could not be read.
    InvalidData = 24,
}

impl<'a> Outline<'a> {
    /// Reads what can be read of a query. Nothing if it has no header.
    pub fn read(query: &'a [u8]) -> Option<Self> {
        let Header { id, flags, additionals, .. } = Header::read(query)?;
        let Ok(question) = Question::read(query) else {
            return Some(Self { id, flags, edns: None, question: &[] });
        };
        let edns = find_opt(query, question.end(), additionals);
        Some(Self { id, flags, edns, question: question.wire })
    }

    /// Appends an answer with `rcode` to `out`, at most [`REFUSAL_MAX_LEN`] bytes.
    pub fn refuse(&self, rcode: Rcode, reason: ExtendedError, out: &mut Vec<u8>) {
        self.write(Flags(rcode.0 & 0xf), Some(reason), out);
    }

    /// Appends an empty answer that is marked as cut short, so that the client asks over TCP.
    pub fn truncate(&self, out: &mut Vec<u8>) {
        self.write(Flags::TRUNCATED, None, out);
    }

    fn write(&self, own: Flags, reason: Option<ExtendedError>, out: &mut Vec<u8>) {
        const KEPT: Flags =
            Flags(Flags::OPCODE.0 | Flags::RECURSION_DESIRED.0 | Flags::CHECKING_DISABLED.0);
        const SET: Flags = Flags(Flags::RESPONSE.0 | Flags::RECURSION_AVAILABLE.0);
        let flags = self.flags.only(KEPT).0 | SET.0 | own.0;
        let questions = u16::from(!self.question.is_empty());
        let additionals = u16::from(self.edns.is_some());
        for word in [self.id, flags, questions, 0, 0, additionals] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(self.question);
        if let Some(dnssec_ok) = self.edns {
            write_opt(dnssec_ok, reason, out);
        }
    }
}

fn write_opt(dnssec_ok: bool, reason: Option<ExtendedError>, out: &mut Vec<u8>) {
    let ttl = if dnssec_ok { DNSSEC_OK } else { 0 };
    out.push(0);
    out.extend_from_slice(&kind::OPT.to_be_bytes());
    out.extend_from_slice(&UDP_SIZE.to_be_bytes());
    out.extend_from_slice(&ttl.to_be_bytes());
    let Some(reason) = reason else {
        out.extend_from_slice(&[0, 0]);
        return;
    };
    for word in [6, EXTENDED_ERROR, 2, reason as u16] {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

/// The DO bit of the first OPT record among the additional ones that can be read.
fn find_opt(query: &[u8], mut at: usize, additionals: u16) -> Option<bool> {
    for _ in 0..additionals {
        let (record, next) = wire::read_record(query, at).ok()?;
        if record.kind == kind::OPT {
            return Some(record.dnssec_ok());
        }
        at = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(query: &[u8], rcode: Rcode) -> Vec<u8> {
        let mut out = Vec::new();
        Outline::read(query).unwrap().refuse(rcode, ExtendedError::Blocked, &mut out);
        assert!(out.len() <= REFUSAL_MAX_LEN);
        out
    }

    #[test]
    fn repeats_the_id_the_question_and_what_it_must_of_the_flags() {
        let query = b"\x12\x34\x01\x30\0\x01\0\0\0\0\0\0\x03WwW\x02eu\0\0\x01\0\x01";
        let answer = b"\x12\x34\x81\x95\0\x01\0\0\0\0\0\0\x03WwW\x02eu\0\0\x01\0\x01";
        assert_eq!(refused(query, Rcode::REFUSED), answer);
    }

    #[test]
    fn answers_an_opt_with_an_opt_that_says_why() {
        let query = b"\0\x07\x01\0\0\x01\0\0\0\0\0\x01\0\0\x02\0\x01\0\0\x29\x10\0\0\0\x80\0\0\0";
        let answer = b"\0\x07\x81\x83\0\x01\0\0\0\0\0\x01\0\0\x02\0\x01\
            \0\0\x29\x04\xd0\0\0\x80\0\0\x06\0\x0f\0\x02\0\x0f";
        assert_eq!(refused(query, Rcode::NXDOMAIN), answer);
    }

    #[test]
    fn leaves_out_a_question_that_cannot_be_read() {
        let query = b"\0\x07\x10\0\0\x01\0\0\0\0\0\0\xc0\x0c";
        assert_eq!(refused(query, Rcode::FORMERR), b"\0\x07\x90\x81\0\0\0\0\0\0\0\0");
        assert_eq!(Outline::read(&query[..11]), None);
    }

    #[test]
    fn a_cut_answer_has_its_bit_and_nothing_else() {
        let query = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\0\0\x02\0\x01";
        let mut out = Vec::new();
        Outline::read(query).unwrap().truncate(&mut out);
        assert_eq!(out, b"\0\x07\x83\x80\0\x01\0\0\0\0\0\0\0\0\x02\0\x01");
    }
}
