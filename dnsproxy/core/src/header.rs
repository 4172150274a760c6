//! The twelve bytes that every DNS message begins with (RFC 1035, 4.1.1).

use std::fmt;

/// The length of a header.
pub const HEADER_LEN: usize = 12;

/// A header as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The number that joins an answer to its query.
    pub id: u16,
    /// What the message is.
    pub flags: Flags,
    /// How many questions follow.
    pub questions: u16,
    /// How many answer records follow.
    pub answers: u16,
    /// How many authority records follow.
    pub authorities: u16,
    /// How many additional records follow.
    pub additionals: u16,
}

/// The second sixteen bits of a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

/// A response code, its upper bits from the OPT record included (RFC 6891, 6.1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rcode(pub u16);

impl Header {
    /// Reads the header of `message`, or nothing if it is shorter than one.
    pub fn read(message: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_LEN] = message.first_chunk()?;
        let field = |index: usize| u16::from_be_bytes([bytes[index * 2], bytes[index * 2 + 1]]);
        Some(Self {
            id: field(0),
            flags: Flags(field(1)),
            questions: field(2),
            answers: field(3),
            authorities: field(4),
            additionals: field(5),
        })
    }
}

impl Flags {
    /// QR: the message is a response.
    pub const RESPONSE: Self = Self(0x8000);
    /// The four bits of the opcode.
    pub const OPCODE: Self = Self(0x7800);
    /// TC: the message is cut short.
    pub const TRUNCATED: Self = Self(0x0200);
    /// RD: recursion is desired.
    pub const RECURSION_DESIRED: Self = Self(0x0100);
    /// RA: recursion is available.
    pub const RECURSION_AVAILABLE: Self = Self(0x0080);
    /// CD: checking is disabled (RFC 4035).
    pub const CHECKING_DISABLED: Self = Self(0x0010);

    /// Whether any bit of `mask` is set.
    pub const fn has(self, mask: Self) -> bool {
        self.0 & mask.0 != 0
    }

    /// The bits of `mask` alone.
    #[must_use]
    pub const fn only(self, mask: Self) -> Self {
        Self(self.0 & mask.0)
    }

    /// Whether this is the flags word of a standard query or its response.
    pub const fn is_query_opcode(self) -> bool {
        !self.has(Self::OPCODE)
    }

    /// The lower four bits of the response code.
    pub const fn rcode(self) -> Rcode {
        Rcode(self.0 & 0x000f)
    }
}

impl Rcode {
    /// No error.
    pub const NOERROR: Self = Self(0);
    /// The query could not be read.
    pub const FORMERR: Self = Self(1);
    /// The server failed.
    pub const SERVFAIL: Self = Self(2);
    /// The name does not exist.
    pub const NXDOMAIN: Self = Self(3);
    /// The kind of query is not supported.
    pub const NOTIMP: Self = Self(4);
    /// Refused by policy.
    pub const REFUSED: Self = Self(5);
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NOERROR => f.write_str("NOERROR"),
            Self::FORMERR => f.write_str("FORMERR"),
            Self::SERVFAIL => f.write_str("SERVFAIL"),
            Self::NXDOMAIN => f.write_str("NXDOMAIN"),
            Self::NOTIMP => f.write_str("NOTIMP"),
            Self::REFUSED => f.write_str("REFUSED"),
            Self(number) => number.fmt(f),
        }
    }
}
