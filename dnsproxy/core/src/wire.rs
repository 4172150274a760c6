//! Names and records in a message, read where they lie.
//!
//! A compression pointer must lead to before the place where the name, or the part of it read so
//! far, begins. So every jump goes strictly backwards: loops and forward pointers cannot be read.

use std::ops::Range;

use model::{NameBuf, NameRef};
use thiserror::Error;

use crate::header::{HEADER_LEN, Header};

/// Record types that mean something to the proxy (IANA's numbers).
pub(crate) mod kind {
    pub const A: u16 = 1;
    pub const CNAME: u16 = 5;
    pub const SIG: u16 = 24;
    pub const AAAA: u16 = 28;
    pub const DNAME: u16 = 39;
    pub const OPT: u16 = 41;
    pub const SVCB: u16 = 64;
    pub const HTTPS: u16 = 65;
    pub const TSIG: u16 = 250;
    pub const IXFR: u16 = 251;
    pub const AXFR: u16 = 252;
}

/// The class of the Internet.
pub(crate) const CLASS_IN: u16 = 1;

/// The most jumps within one name; a name has at most 127 labels.
const MAX_JUMPS: u32 = 127;

/// The longest name in wire format, its last zero byte included.
const MAX_NAME: usize = model::Name::MAX_LEN;

/// Why a message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// It ends before what its header or its lengths promise.
    #[error("the message ends early")]
    Short,
    /// Bytes follow the last record.
    #[error("bytes follow the last record")]
    Trailing,
    /// A label's length byte is neither a length nor a pointer.
    #[error("a label has a reserved type")]
    Label,
    /// A compression pointer leads forward, to itself, or through too many others.
    #[error("a compression pointer does not lead back to a name")]
    Pointer,
    /// A name has over 255 bytes.
    #[error("a name is longer than 255 bytes")]
    NameTooLong,
    /// There is not exactly one question.
    #[error("the message has not exactly one question")]
    Questions,
    /// An address or a list of service parameters has an impossible length.
    #[error("the data of a record does not fit its type")]
    Data,
}

/// One resource record: where its parts stand in the message.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Where the owner's name begins.
    pub owner: usize,
    pub kind: u16,
    pub class: u16,
    pub ttl: u32,
    /// Where the four bytes of the TTL stand.
    pub ttl_at: usize,
    /// Where the data stands; inside the message.
    pub data: Range<usize>,
}

impl Record {
    /// The DO bit, which stands in the TTL of an OPT record (RFC 3225).
    pub const fn dnssec_ok(&self) -> bool {
        self.ttl & 0x8000 != 0
    }
}

/// The labels of a name, the leftmost first, pointers followed.
struct Labels<'a> {
    message: &'a [u8],
    at: usize,
    /// A pointer must lead to before this place.
    before: usize,
    jumps: u32,
    /// Bytes of the name so far, the last zero byte included.
    len: usize,
    /// Where the message goes on behind the name, once that is known.
    end: Option<usize>,
}

impl<'a> Labels<'a> {
    const fn new(message: &'a [u8], at: usize) -> Self {
        Self { message, at, before: at, jumps: 0, len: 1, end: None }
    }

    fn next(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        loop {
            let first = *self.message.get(self.at).ok_or(Malformed::Short)?;
            match first {
                0 => {
                    self.end.get_or_insert(self.at + 1);
                    return Ok(None);
                }
                1..=63 => return self.label(usize::from(first)).map(Some),
                64..=191 => return Err(Malformed::Label),
                192..=255 => self.jump(first)?,
            }
        }
    }

    fn label(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let start = self.at + 1;
        let label = self.message.get(start..start + length).ok_or(Malformed::Short)?;
        self.at = start + length;
        self.len += 1 + length;
        if self.len > MAX_NAME { Err(Malformed::NameTooLong) } else { Ok(label) }
    }

    fn jump(&mut self, first: u8) -> Result<(), Malformed> {
        let second = *self.message.get(self.at + 1).ok_or(Malformed::Short)?;
        let target = usize::from(first & 0x3f) << 8 | usize::from(second);
        self.end.get_or_insert(self.at + 2);
        self.jumps += 1;
        if target < HEADER_LEN || target >= self.before || self.jumps > MAX_JUMPS {
            return Err(Malformed::Pointer);
        }
        self.before = target;
        self.at = target;
        Ok(())
    }

    /// Where the message goes on, after the last label was read.
    fn end(&self) -> usize {
        self.end.unwrap_or(self.at)
    }
}

/// Reads the name at `at` into `name`, in lower case, and says where the message goes on.
pub(crate) fn read_name(message: &[u8], at: usize, name: &mut NameBuf) -> Result<usize, Malformed> {
    name.clear();
    let mut labels = Labels::new(message, at);
    while let Some(label) = labels.next()? {
        name.push(label).map_err(|_| Malformed::NameTooLong)?;
    }
    Ok(labels.end())
}

/// Checks the name at `at` without keeping it, and says where the message goes on.
pub(crate) fn skip_name(message: &[u8], at: usize) -> Result<usize, Malformed> {
    let mut labels = Labels::new(message, at);
    while labels.next()?.is_some() {}
    Ok(labels.end())
}

/// Whether the name at `at` is `name`, whatever its case.
pub(crate) fn name_is(message: &[u8], at: usize, name: NameRef<'_>) -> Result<bool, Malformed> {
    let mut labels = Labels::new(message, at);
    let mut expected = name.labels();
    loop {
        match (labels.next()?, expected.next()) {
            (Some(label), Some(other)) if label.eq_ignore_ascii_case(other) => {}
            (None, None) => return Ok(true),
            (Some(_), _) | (None, Some(_)) => return Ok(false),
        }
    }
}

/// Reads the record at `at` and says where the next one begins.
pub(crate) fn read_record(message: &[u8], at: usize) -> Result<(Record, usize), Malformed> {
    let ttl_at = skip_name(message, at)? + 4;
    let fixed = message.get(ttl_at - 4..).and_then(<[u8]>::first_chunk::<10>);
    let [k0, k1, c0, c1, t0, t1, t2, t3, l0, l1] = *fixed.ok_or(Malformed::Short)?;
    let start = ttl_at + 6;
    let end = start + usize::from(u16::from_be_bytes([l0, l1]));
    if end > message.len() {
        return Err(Malformed::Short);
    }
    let record = Record {
        owner: at,
        kind: u16::from_be_bytes([k0, k1]),
        class: u16::from_be_bytes([c0, c1]),
        ttl: u32::from_be_bytes([t0, t1, t2, t3]),
        ttl_at,
        data: start..end,
    };
    Ok((record, end))
}

/// Splits sixteen bits off the front of `bytes`.
pub(crate) fn split_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (value, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*value), rest))
}

/// The header of a message that must have exactly one question.
pub(crate) fn one_question(message: &[u8]) -> Result<Header, Malformed> {
    let header = Header::read(message).ok_or(Malformed::Short)?;
    if header.questions == 1 { Ok(header) } else { Err(Malformed::Questions) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message whose bytes after an empty header are `body`.
    fn message(body: &[u8]) -> Vec<u8> {
        [&[0; HEADER_LEN], body].concat()
    }

    fn read(body: &[u8], at: usize) -> Result<(String, usize), Malformed> {
        let mut name = NameBuf::new();
        let end = read_name(&message(body), HEADER_LEN + at, &mut name)?;
        Ok((name.as_ref().to_string(), end - HEADER_LEN))
    }

    #[test]
    fn follows_pointers_backwards() {
        let body = b"\x03COM\0\x01b\xc0\x0c\x01a\xc0\x11";
        assert_eq!(read(body, 0), Ok(("com.".into(), 5)));
        assert_eq!(read(body, 5), Ok(("b.com.".into(), 9)));
        assert_eq!(read(body, 9), Ok(("a.b.com.".into(), 13)));
    }

    #[test]
    fn refuses_pointers_that_do_not_lead_back() {
        assert_eq!(read(b"\xc0\x0c", 0), Err(Malformed::Pointer), "to itself");
        assert_eq!(read(b"\x01a\xc0\x0c", 0), Err(Malformed::Pointer), "to its own beginning");
        assert_eq!(read(b"\xc0\x0e\x01a\0", 0), Err(Malformed::Pointer), "forward");
        assert_eq!(read(b"\x01a\0\xc0\x00", 3), Err(Malformed::Pointer), "into the header");
        assert_eq!(read(b"\x01a\xc0\x10\x01b\xc0\x0c", 4), Err(Malformed::Pointer), "a loop");
    }

    #[test]
    fn refuses_a_long_chain_of_pointers() {
        let mut body = b"\x01a\0".to_vec();
        for jump in 0..200usize {
            let target = HEADER_LEN + if jump == 0 { 0 } else { 3 + (jump - 1) * 2 };
            body.extend([0xc0 | (target >> 8) as u8, target as u8]);
        }
        assert_eq!(read(&body, 3 + 126 * 2), Ok(("a.".into(), 3 + 127 * 2)));
        assert_eq!(read(&body, 3 + 127 * 2), Err(Malformed::Pointer));
    }

    #[test]
    fn refuses_names_that_are_cut_reserved_or_too_long() {
        assert_eq!(read(b"\x05abc", 0), Err(Malformed::Short));
        assert_eq!(read(b"\x01a", 0), Err(Malformed::Short));
        assert_eq!(read(b"\xc0", 0), Err(Malformed::Short));
        assert_eq!(read(b"\x40a\0", 0), Err(Malformed::Label));
        assert_eq!(read(b"\x80a\0", 0), Err(Malformed::Label));
        let long = |labels: usize| [b"\x01a".repeat(labels), vec![0]].concat();
        assert!(read(&long(127), 0).is_ok());
        assert_eq!(read(&long(128), 0), Err(Malformed::NameTooLong));
        assert_eq!(skip_name(&message(&long(128)), HEADER_LEN), Err(Malformed::NameTooLong));
    }

    #[test]
    fn compares_whole_names_without_regard_to_case() {
        let name: NameBuf = "a.com".parse().unwrap();
        let is = |body: &[u8]| name_is(&message(body), HEADER_LEN, name.as_ref());
        assert_eq!(is(b"\x01A\x03cOm\0"), Ok(true));
        assert_eq!(is(b"\x01a\x03con\0"), Ok(false));
        assert_eq!(is(b"\x01a\0"), Ok(false));
        assert_eq!(is(b"\x01a\x03com\x01x\0"), Ok(false));
    }
}
