//! The framing of HTTP/1 requests, held to the letter, before anybody else reads them.
//!
//! A [`Screen`] is shown a client's bytes in order and says how many of them may go on. A request's
//! head goes on only when all of it is there and can be read in one way; then its body, as far as
//! its framing says. What it lets through, every reader cuts into the same requests. After the
//! first fault nothing goes on any more.
//!
//! Stricter than RFC 9112 allows a server to be: no bare line feeds, no folded lines, no empty
//! lines before a request, no chunk extensions, no list of lengths, no coding but `chunked`.

use crate::Reason;

mod head;

use head::{Framing, Head};

/// The bounds of a request's head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// The most bytes of a head, and of a body's trailer section.
    pub bytes: usize,
    /// The most header fields.
    pub fields: usize,
}

/// The longest line with a chunk's size: fifteen digits and the line's end.
const MAX_SIZE_LINE: usize = 17;

/// The state of one client's stream.
#[derive(Debug)]
pub struct Screen {
    limits: HeadLimits,
    state: State,
    /// How many bytes of an unfinished head have been looked at.
    seen: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A head is next.
    Head,
    /// So many bytes of a body are left.
    Body(u64),
    /// A line with a chunk's size is next.
    Size,
    /// So many bytes of a chunk are left.
    Chunk(u64),
    /// The line's end behind a chunk is next.
    ChunkEnd,
    /// A body's trailers are next.
    Trailers,
    /// A request to change the protocol went on; the answer decides what follows.
    Held,
    /// The protocol was changed: anything goes on.
    Open,
    /// Nothing goes on.
    Closed(Fault),
}

/// Why nothing goes on any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What was wrong.
    pub reason: Reason,
    /// Whether it was in the body of a request whose head went on.
    pub in_body: bool,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes: 32 * 1024, fields: 100 }
    }
}

impl Screen {
    /// A stream that begins with a request.
    pub const fn new(limits: HeadLimits) -> Self {
        Self { limits, state: State::Head, seen: 0 }
    }

    /// How many of these bytes may go on now. They are those that follow on what went on before;
    /// the next call begins behind what went on, with what is left and what came in since.
    ///
    /// A fault is told once all that stands before it has gone on.
    pub fn pass(&mut self, bytes: &[u8]) -> Result<usize, Reason> {
        let mut passed = 0;
        while passed < bytes.len() {
            match self.step(&bytes[passed..]) {
                Ok(0) => break,
                Ok(count) => passed += count,
                Err(reason) => {
                    let in_body = self.state != State::Head;
                    if !matches!(self.state, State::Closed(_)) {
                        self.state = State::Closed(Fault { reason, in_body });
                    }
                    return if passed == 0 { Err(reason) } else { Ok(passed) };
                }
            }
        }
        Ok(passed)
    }

    /// How many bytes may go on unseen, whatever they are. Whoever passes some on tells it by
    /// [`Screen::skip`].
    pub const fn unseen(&self) -> u64 {
        match self.state {
            State::Body(left) | State::Chunk(left) => left,
            State::Open => u64::MAX,
            State::Head
            | State::Size
            | State::ChunkEnd
            | State::Trailers
            | State::Held
            | State::Closed(_) => 0,
        }
    }

    /// Says that so many bytes, at most [`Screen::unseen`], went on unseen.
    pub fn skip(&mut self, count: u64) {
        debug_assert!(count <= self.unseen(), "bytes went on that should have been looked at");
        self.state = match self.state {
            State::Body(left) if left > count => State::Body(left - count),
            State::Body(_) => State::Head,
            State::Chunk(left) if left > count => State::Chunk(left - count),
            State::Chunk(_) => State::ChunkEnd,
            other => other,
        };
    }

    /// Whether the stream stands between two requests.
    pub fn is_between_requests(&self) -> bool {
        self.state == State::Head && self.seen == 0
    }

    /// Whether the stream stands inside a head or a trailer section.
    pub const fn is_in_section(&self) -> bool {
        self.seen > 0
    }

    /// Whether a request to change the protocol went on and is not answered.
    pub fn is_held(&self) -> bool {
        self.state == State::Held
    }

    /// The fault after which nothing goes on.
    pub const fn fault(&self) -> Option<Fault> {
        match self.state {
            State::Closed(fault) => Some(fault),
            _ => None,
        }
    }

    /// The protocol was changed: what follows is no HTTP.
    pub fn open(&mut self) {
        if self.is_held() {
            self.state = State::Open;
        }
    }

    /// The protocol was not changed: a request follows.
    pub fn resume(&mut self) {
        if self.is_held() {
            self.state = State::Head;
        }
    }

    /// Takes what comes next: how many bytes went on, 0 where more are needed.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Reason> {
        match self.state {
            State::Head => self.head(bytes),
            State::Size => self.size(bytes),
            State::ChunkEnd => self.chunk_end(bytes),
            State::Trailers => self.trailers(bytes),
            State::Held => Ok(0),
            State::Closed(fault) => Err(fault.reason),
            State::Body(_) | State::Chunk(_) | State::Open => {
                let count =
                    usize::try_from(self.unseen()).map_or(bytes.len(), |n| n.min(bytes.len()));
                self.skip(count as u64);
                Ok(count)
            }
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Result<usize, Reason> {
        let Some(end) = self.end_of_section(bytes, Reason::HeadTooLarge)? else { return Ok(0) };
        let head = Head::read(&bytes[..end], self.limits.fields)?;
        self.state = match head.framing {
            Framing::None if head.upgrades => State::Held,
            Framing::None | Framing::Length(0) => State::Head,
            Framing::Length(length) => State::Body(length),
            Framing::Chunked => State::Size,
        };
        Ok(end)
    }

    fn size(&mut self, bytes: &[u8]) -> Result<usize, Reason> {
        let line = &bytes[..bytes.len().min(MAX_SIZE_LINE)];
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        match line[digits..] {
            [b'\r', b'\n', ..] if digits > 0 => {}
            [] | [b'\r'] if line.len() < MAX_SIZE_LINE && (digits > 0 || line.is_empty()) => {
                return Ok(0);
            }
            _ => return Err(Reason::MalformedChunk),
        }
        let digits = str::from_utf8(&line[..digits]).map_err(|_| Reason::MalformedChunk)?;
        self.state = match u64::from_str_radix(digits, 16).map_err(|_| Reason::MalformedChunk)? {
            0 => State::Trailers,
            size => State::Chunk(size),
        };
        Ok(digits.len() + 2)
    }

    fn chunk_end(&mut self, bytes: &[u8]) -> Result<usize, Reason> {
        match bytes {
            [b'\r', b'\n', ..] => {
                self.state = State::Size;
                Ok(2)
            }
            [b'\r'] => Ok(0),
            _ => Err(Reason::MalformedChunk),
        }
    }

    fn trailers(&mut self, bytes: &[u8]) -> Result<usize, Reason> {
        let end = match bytes {
            [b'\r', b'\n', ..] => 2,
            [b'\r'] => return Ok(0),
            _ => match self.end_of_section(bytes, Reason::HeadTooLarge)? {
                Some(end) => {
                    head::check_trailers(&bytes[..end], self.limits.fields)?;
                    end
                }
                None => return Ok(0),
            },
        };
        self.state = State::Head;
        Ok(end)
    }

    /// Where a section that ends with an empty line ends, if it is all there.
    fn end_of_section(&mut self, bytes: &[u8], too_large: Reason) -> Result<Option<usize>, Reason> {
        // Looks again at the last three bytes, which may begin the end.
        let from = self.seen.saturating_sub(3).min(bytes.len());
        let mut line_feeds = bytes[from..].iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let end = line_feeds.find_map(|(offset, _)| {
            let at = from + offset;
            bytes[..=at].ends_with(b"\r\n\r\n").then_some(at + 1)
        });
        if end.unwrap_or(bytes.len()) > self.limits.bytes {
            return Err(too_large);
        }
        if let Some(end) = end {
            self.seen = 0;
            return Ok(Some(end));
        }
        // Broken lines are not waited for.
        let start = self.seen.saturating_sub(1).min(bytes.len());
        let broken = bytes[start..].windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r');
        if broken || bytes.first().is_some_and(|first| !first.is_ascii_graphic()) {
            return Err(Reason::MalformedRequest);
        }
        self.seen = bytes.len();
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
