//! What a stream without TLS speaks, by its first bytes.
//!
//! Where rules are enforced it need not be known: what begins like a protocol goes to its reader,
//! which refuses what is none. Where they are only audited, a stream of another protocol must get
//! past the readers whole.

use crate::kafka::{MAX_REQUEST, MIN_REQUEST};

/// What every version of HTTP is called.
const HTTP: &[u8] = b"HTTP/";
/// The most bytes of a first line that is waited for.
const MAX_LINE: usize = 8 * 1024;
/// More than the number of any kind of Kafka request.
const KAFKA_KINDS: u16 = 256;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP of any version.
    Http,
    /// Kafka.
    Kafka,
    /// Something else.
    Other,
}

impl Protocol {
    /// What a stream speaks that begins so; nothing if more bytes are needed.
    pub fn of(stream: &[u8]) -> Option<Self> {
        match stream.first()? {
            0 => Self::by_length(stream),
            first if first.is_ascii_graphic() => Self::by_line(stream),
            _ => Some(Self::Other),
        }
    }

    /// A Kafka request begins with its length and the number of its kind.
    fn by_length(stream: &[u8]) -> Option<Self> {
        let (length, rest) = stream.split_first_chunk::<4>()?;
        let (kind, _) = rest.split_first_chunk::<2>()?;
        let fits = (MIN_REQUEST..=MAX_REQUEST).contains(&(u32::from_be_bytes(*length) as usize));
        let fits = fits && u16::from_be_bytes(*kind) < KAFKA_KINDS;
        Some(if fits { Self::Kafka } else { Self::Other })
    }

    /// A request of HTTP begins with a line of three words, of which the last is the version.
    fn by_line(stream: &[u8]) -> Option<Self> {
        let stream = &stream[..stream.len().min(MAX_LINE)];
        let end = stream.iter().position(|byte| *byte == b'\n');
        let line = &stream[..end.unwrap_or(stream.len())];
        let mut words = line.split(|byte| *byte == b' ');
        let method = words.next().unwrap_or_default();
        let (_, version, more) = (words.next(), words.next(), words.next());
        let version = version.unwrap_or_default();
        let known = version.len().min(HTTP.len());
        let fits = method.iter().all(u8::is_ascii_graphic)
            && version[..known] == HTTP[..known]
            && more.is_none();
        match end {
            _ if !fits => Some(Self::Other),
            Some(_) if known == HTTP.len() => Some(Self::Http),
            None if stream.len() < MAX_LINE => None,
            Some(_) | None => Some(Self::Other),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(stream: &[u8], protocol: Protocol) {
        assert_eq!(Protocol::of(stream), Some(protocol), "{stream:?}");
        for end in 0..stream.len() {
            let early = Protocol::of(&stream[..end]);
            assert!(early.is_none_or(|own| own == protocol), "{:?}: {early:?}", &stream[..end]);
        }
    }

    #[test]
    fn a_stream_is_known_by_its_first_bytes_however_they_come() {
        whole(b"GET /a HTTP/1.1\r\n", Protocol::Http);
        whole(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Protocol::Http);
        whole(b"\0\0\0\x1a\0\x12\0\x03", Protocol::Kafka);
        for other in [
            &b"SSH-2.0-OpenSSH_9.6\r\n"[..],
            b"EHLO a.example\r\n",
            b"get key\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"GET /a\r\n",
            b"GET /a b HTTP/1.1\r\n",
            b"\x03\0\0\x13",
            b"\0\0\0\x08\x04\xd2\x16\x2f",
            b"\0\0\0\x01\0\x03",
            b"\xff",
        ] {
            whole(other, Protocol::Other);
        }
    }

    #[test]
    fn a_line_without_an_end_is_not_waited_for_for_ever() {
        assert_eq!(Protocol::of(&[b'a'; MAX_LINE - 1]), None);
        assert_eq!(Protocol::of(&[b'a'; MAX_LINE]), Some(Protocol::Other));
        let late = [&b"GET /"[..], &[b'a'; MAX_LINE], b" HTTP/1.1\r\n"].concat();
        assert_eq!(Protocol::of(&late), Some(Protocol::Other));
    }

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        const WORDS: [&[u8]; 6] = [b"GET", b" ", b"HTTP/", b"1.1", b"\r\n", b"\0"];
        let word = prop::sample::select(&WORDS[..]);
        prop_oneof![word.prop_map(<[u8]>::to_vec), prop::collection::vec(any::<u8>(), 0..4)]
    }

    proptest! {
        #[test]
        fn what_is_known_of_a_stream_stays_so_whatever_comes(
            pieces in prop::collection::vec(piece(), 0..9),
        ) {
            let stream = pieces.concat();
            for end in 0..stream.len() {
                let early = Protocol::of(&stream[..end]);
                prop_assert!(early.is_none() || early == Protocol::of(&stream));
            }
        }
    }
}
