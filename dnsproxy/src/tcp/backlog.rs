//! What is yet to be written to a stream.

use std::io;

use dnsproxy_core::write_framed;
use tokio::net::TcpStream;

use super::progress;

/// With more than this unwritten, nothing more is read that could add to it.
const FULL: usize = 128 << 10;

/// Framed messages on their way out.
pub(crate) struct Backlog {
    bytes: Vec<u8>,
    written: usize,
}

impl Backlog {
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), written: 0 }
    }

    pub const fn is_empty(&self) -> bool {
        self.written == self.bytes.len()
    }

    /// Whether more may be added. A message that is added all the same is never cut.
    pub const fn has_room(&self) -> bool {
        self.bytes.len() - self.written < FULL
    }

    /// Adds a message with its length before it.
    pub fn push(&mut self, message: &[u8]) -> bool {
        if self.is_empty() {
            self.clear();
        }
        write_framed(message, &mut self.bytes)
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.written = 0;
    }

    /// Writes what the stream takes, and says whether it took anything.
    pub fn write(&mut self, stream: &TcpStream) -> io::Result<bool> {
        let written = progress(stream.try_write(&self.bytes[self.written..]))?;
        self.written += written.unwrap_or(0);
        if self.written >= FULL {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        Ok(written.is_some())
    }
}
