//! A request's head: its line and its fields, as far as they frame the request.

use crate::Reason;

/// What a head says about the request's framing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub framing: Framing,
    /// Whether the request asks to go on in WebSocket.
    pub upgrades: bool,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// With an empty chunk.
    Chunked,
}

/// The fields that bear on framing, as far as they were seen.
#[derive(Default)]
struct Fields {
    length: Option<u64>,
    chunked: bool,
    hosts: usize,
    websocket: bool,
}

impl Head {
    /// Reads a head that ends with an empty line.
    pub fn read(bytes: &[u8], max_fields: usize) -> Result<Self, Reason> {
        let mut lines = lines(bytes)?;
        let request = lines.next().ok_or(Reason::MalformedRequest)?;
        let version = request_line(request)?;
        let mut fields = Fields::default();
        for (index, line) in lines.enumerate() {
            if index >= max_fields {
                return Err(Reason::HeadTooLarge);
            }
            let (name, value) = field(line)?;
            fields.note(name, value)?;
        }
        if fields.hosts > 1 || (fields.hosts == 0 && version == Version::Http11) {
            return Err(Reason::AmbiguousHost);
        }
        let framing = match (fields.length, fields.chunked) {
            (None, false) => Framing::None,
            (Some(length), false) => Framing::Length(length),
            (None, true) if version == Version::Http11 => Framing::Chunked,
            (Some(_) | None, true) => return Err(Reason::AmbiguousLength),
        };
        // A body before the protocol's change has no use, and every reader a view of its own.
        if fields.websocket && !matches!(framing, Framing::None | Framing::Length(0)) {
            return Err(Reason::AmbiguousLength);
        }
        let framing = if fields.websocket { Framing::None } else { framing };
        Ok(Self { framing, upgrades: fields.websocket })
    }
}

impl Fields {
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Reason> {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is("content-length") {
            if self.length.is_some() {
                return Err(Reason::AmbiguousLength);
            }
            self.length = Some(length(value)?);
        } else if is("transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Reason::AmbiguousLength);
            }
            self.chunked = true;
        } else if is("host") {
            self.hosts += 1;
        } else if is("upgrade") {
            self.websocket |= value.eq_ignore_ascii_case(b"websocket");
        }
        Ok(())
    }
}

/// Checks the fields behind a chunked body: none may change what the head said.
pub(super) fn check_trailers(bytes: &[u8], max_fields: usize) -> Result<(), Reason> {
    const FORBIDDEN: [&str; 5] =
        ["content-length", "transfer-encoding", "host", "upgrade", "connection"];
    for (index, line) in lines(bytes)?.enumerate() {
        let (name, _) = field(line)?;
        if index >= max_fields {
            return Err(Reason::HeadTooLarge);
        }
        if FORBIDDEN.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes())) {
            return Err(Reason::MalformedChunk);
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// The lines of a section, without their ends and the empty line behind them.
fn lines(bytes: &[u8]) -> Result<impl Iterator<Item = &[u8]>, Reason> {
    let body = bytes.strip_suffix(b"\r\n\r\n").ok_or(Reason::MalformedRequest)?;
    let mut rest = Some(body);
    let lines = std::iter::from_fn(move || {
        let current = rest?;
        let end = current.windows(2).position(|pair| pair == b"\r\n");
        rest = end.map(|end| &current[end + 2..]);
        Some(&current[..end.unwrap_or(current.len())])
    });
    Ok(lines)
}

fn request_line(line: &[u8]) -> Result<Version, Reason> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Reason::MalformedRequest);
    };
    if !is_token(method) || target.is_empty() {
        return Err(Reason::MalformedRequest);
    }
    if !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(Reason::AmbiguousPath);
    }
    if method == b"CONNECT" {
        return Err(Reason::ConnectMethod);
    }
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        _ => Err(Reason::MalformedRequest),
    }
}

/// A field's name and value, without the white space around the value.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Reason> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Reason::MalformedRequest)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let legal = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    if is_token(name) && line[colon + 1..].iter().all(legal) {
        Ok((name, value))
    } else {
        Err(Reason::MalformedRequest)
    }
}

fn length(value: &[u8]) -> Result<u64, Reason> {
    let is_number = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(value).ok().filter(|_| is_number);
    text.and_then(|text| text.parse().ok()).ok_or(Reason::AmbiguousLength)
}

fn is_token(bytes: &[u8]) -> bool {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(legal)
}
