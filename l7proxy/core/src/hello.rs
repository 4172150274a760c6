//! The ClientHello: who a TLS client wants to reach, read from the first records of its stream.
//!
//! The handshake message may be cut into records, and records into segments, in any way. At most
//! [`MAX_HELLO`] bytes are looked at. Everything has to fit exactly: what can be read in two ways
//! is refused.

use model::Name;

use crate::Reason;

/// The most bytes of a ClientHello, the records' headers included.
pub const MAX_HELLO: usize = 16 * 1024;

/// Whether a stream that begins so may be TLS.
pub fn looks_like_tls(first: u8) -> bool {
    first == HANDSHAKE
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
/// The drafts' encrypted server name.
const ENCRYPTED_SERVER_NAME: u16 = 0xffce;

/// What a ClientHello says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The server's name, or why there is none to judge by.
    pub server_name: Result<Name, Reason>,
    /// The protocols that the client offers, in its order.
    pub alpn: Vec<Vec<u8>>,
}

impl Hello {
    /// Reads the beginning of a stream: nothing yet if more bytes are needed.
    pub fn read(stream: &[u8]) -> Result<Option<Self>, Reason> {
        let Some(message) = join(stream)? else { return Ok(None) };
        let body = message.get(4..).ok_or(Reason::MalformedHello)?;
        Self::parse(body).ok_or(Reason::MalformedHello).map(Some)
    }

    /// The server's name as it was written, in lower case.
    pub fn server_name_text(&self) -> Option<String> {
        let text = self.server_name.as_ref().ok()?.to_string();
        Some(text.strip_suffix('.').unwrap_or(&text).to_owned())
    }

    fn parse(body: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(body);
        let version = cursor.u16()?;
        if version >> 8 != 3 {
            return None;
        }
        cursor.take(32)?;
        let session = cursor.vector8()?;
        let suites = cursor.vector16()?;
        let compressions = cursor.vector8()?;
        if session.len() > 32
            || suites.is_empty()
            || suites.len() % 2 != 0
            || compressions.is_empty()
        {
            return None;
        }
        let mut extensions = match cursor.0 {
            [] => Cursor(&[]),
            _ => Cursor(cursor.vector16()?),
        };
        if !cursor.0.is_empty() {
            return None;
        }
        let (mut names, mut alpn, mut encrypted) = (Vec::new(), None, false);
        while !extensions.0.is_empty() {
            let (kind, data) = (extensions.u16()?, extensions.vector16()?);
            match kind {
                SERVER_NAME => names.push(data),
                ALPN if alpn.is_some() => return None,
                ALPN => alpn = Some(protocols(data)?),
                ENCRYPTED_CLIENT_HELLO | ENCRYPTED_SERVER_NAME => encrypted = true,
                _ => {}
            }
        }
        let server_name = match names[..] {
            _ if encrypted => Err(Reason::EncryptedHello),
            [] => Err(Reason::ServerNameMissing),
            [data] => server_name(data),
            [_, _, ..] => Err(Reason::ServerNameOdd),
        };
        Some(Self { server_name, alpn: alpn.unwrap_or_default() })
    }
}

/// Puts the records' parts of the first handshake message together, once all of it is there.
fn join(stream: &[u8]) -> Result<Option<Vec<u8>>, Reason> {
    let mut records = Cursor(&stream[..stream.len().min(MAX_HELLO)]);
    let mut message = Vec::new();
    let more = || if stream.len() < MAX_HELLO { Ok(None) } else { Err(Reason::MalformedHello) };
    loop {
        let kinds = (records.0.first(), records.0.get(1));
        if kinds.0.is_some_and(|kind| *kind != HANDSHAKE)
            || kinds.1.is_some_and(|major| *major != 3)
        {
            return Err(Reason::MalformedHello);
        }
        let Some((_, length)) = records.take(3).zip(records.u16()) else { return more() };
        // An empty part, or one longer than any record, is legal nowhere.
        if length == 0 || length > 1 << 14 {
            return Err(Reason::MalformedHello);
        }
        let there = records.0.len().min(usize::from(length));
        message.extend_from_slice(records.take(there).unwrap_or_default());
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(Reason::MalformedHello);
        }
        if let [_, high, middle, low, rest @ ..] = &message[..] {
            let wanted = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            if wanted > MAX_HELLO || rest.len() > wanted {
                return Err(Reason::MalformedHello);
            }
            if rest.len() == wanted {
                // Nothing may follow in the message's last record: a client waits for its answer.
                let whole = there == usize::from(length);
                return if whole { Ok(Some(message)) } else { Err(Reason::MalformedHello) };
            }
        }
        if there < usize::from(length) {
            return more();
        }
    }
}

/// The one name of the extension (RFC 6066, 3).
fn server_name(data: &[u8]) -> Result<Name, Reason> {
    let text = || {
        let mut cursor = Cursor(data);
        let mut list = Cursor(cursor.vector16()?);
        let (kind, name) = (list.take(1)?, list.vector16()?);
        let alone = cursor.0.is_empty() && list.0.is_empty() && kind == [0];
        str::from_utf8(name).ok().filter(|_| alone)
    };
    let text = text().ok_or(Reason::ServerNameOdd)?;
    // An address is no name (RFC 6066), a last dot none either, nor what no host can be called.
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_address = text.parse::<std::net::IpAddr>().is_ok();
    if is_address || text.ends_with('.') || !text.bytes().all(legal) {
        return Err(Reason::ServerNameOdd);
    }
    text.parse().map_err(|_| Reason::ServerNameOdd)
}

fn protocols(data: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut cursor = Cursor(data);
    let mut list = Cursor(cursor.vector16()?);
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        protocols.push(list.vector8().filter(|protocol| !protocol.is_empty())?.to_vec());
    }
    cursor.0.is_empty().then_some(protocols)
}

/// Bytes that are taken from the front.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests;
