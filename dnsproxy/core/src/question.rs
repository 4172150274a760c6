//! The question of a query or of an answer.

use model::NameBuf;

use crate::header::HEADER_LEN;
use crate::wire::{self, Malformed};

/// The one question of a message.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The name asked for, in lower case.
    pub name: NameBuf,
    /// The record type asked for.
    pub qtype: u16,
    /// The class asked for.
    pub qclass: u16,
    /// The question's bytes as they came: name, type and class.
    pub wire: &'a [u8],
}

impl<'a> Question<'a> {
    /// The longest question, in bytes.
    pub const MAX_LEN: usize = model::Name::MAX_LEN + 4;

    /// Reads the question of a message that has exactly one.
    ///
    /// Nothing but the header stands before it, so its name cannot be compressed.
    pub fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        wire::one_question(message)?;
        Self::parse(&message[HEADER_LEN..], message)
    }

    /// Reads a question from its bytes alone, as [`Self::wire`] gave them.
    pub fn from_wire(wire: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse(wire, wire)
    }

    fn parse(body: &'a [u8], message: &'a [u8]) -> Result<Self, Malformed> {
        let start = message.len() - body.len();
        let mut name = NameBuf::new();
        let end = wire::read_name(message, start, &mut name)?;
        let fixed = message.get(end..).and_then(<[u8]>::first_chunk::<4>);
        let [t0, t1, c0, c1] = *fixed.ok_or(Malformed::Short)?;
        Ok(Self {
            name,
            qtype: u16::from_be_bytes([t0, t1]),
            qclass: u16::from_be_bytes([c0, c1]),
            wire: &message[start..end + 4],
        })
    }

    /// Where the message goes on behind its question.
    pub(crate) const fn end(&self) -> usize {
        HEADER_LEN + self.wire.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_bytes_and_folds_the_name() {
        let message = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03wWw\x02Eu\0\0\x1c\0\x01rest";
        let question = Question::read(message).unwrap();
        assert_eq!(question.name.as_ref().to_string(), "www.eu.");
        assert_eq!((question.qtype, question.qclass), (28, 1));
        assert_eq!(question.wire, b"\x03wWw\x02Eu\0\0\x1c\0\x01");
        assert_eq!(&message[question.end()..], b"rest");
        let again = Question::from_wire(question.wire).unwrap();
        assert_eq!(again.name.as_ref(), question.name.as_ref());
    }

    #[test]
    fn refuses_a_name_with_a_pointer() {
        let message = b"\0\0\0\0\0\x01\0\0\0\0\0\0\x01a\xc0\x0c\0\x01\0\x01";
        assert_eq!(Question::read(message).unwrap_err(), Malformed::Pointer);
    }

    #[test]
    fn refuses_any_count_but_one() {
        let message = b"\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\x01\0\x01\0\0\x01\0\x01";
        assert_eq!(Question::read(message).unwrap_err(), Malformed::Questions);
        assert_eq!(Question::read(&message[..11]).unwrap_err(), Malformed::Short);
    }
}
