//! DNS messages in a TCP stream: two bytes of length before each (RFC 1035, 4.2.2).
//!
//! The stream may be split anywhere and may carry many messages at once. A length below a
//! header's, or over the bound, ends the stream: what follows it cannot be trusted to be a
//! message. Memory is bounded by the longest message allowed.

use std::ops::Range;

use thiserror::Error;

use crate::header::HEADER_LEN;

/// The bytes of the length.
const PREFIX: usize = 2;

/// The least space that is offered for reading, so that small messages come in few reads.
const READ_SIZE: usize = 2048;

/// Messages in the making.
#[derive(Debug)]
pub struct Frames {
    buffer: Vec<u8>,
    /// What was read and not yet taken.
    filled: Range<usize>,
    /// The longest message that is taken.
    max_message: u16,
}

/// Why a stream cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A message has no room for a header.
    #[error("a message of {0} bytes is shorter than a header")]
    TooShort(u16),
    /// A message is longer than allowed.
    #[error("a message of {0} bytes is longer than allowed")]
    TooLong(u16),
}

impl Frames {
    /// An empty stream whose messages have at most `max_message` bytes.
    pub const fn new(max_message: u16) -> Self {
        Self { buffer: Vec::new(), filled: 0..0, max_message }
    }

    /// Room to read into; never empty as long as every whole message was taken by
    /// [`Self::next_message`]. Tell [`Self::advance`] how much was read.
    pub fn space(&mut self) -> &mut [u8] {
        if self.filled.is_empty() {
            self.filled = 0..0;
        }
        let needed = self.missing().max(READ_SIZE).min(self.capacity() - self.filled.len());
        if self.buffer.len() < self.filled.end + needed {
            self.buffer.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
            self.buffer.resize(self.buffer.len().max(self.filled.end + needed), 0);
        }
        &mut self.buffer[self.filled.end..]
    }

    /// Takes note that `count` bytes were read into [`Self::space`].
    pub fn advance(&mut self, count: usize) {
        self.filled.end = self.buffer.len().min(self.filled.end + count);
    }

    /// The next whole message, without its length; none until more was read.
    pub fn next_message(&mut self) -> Result<Option<&mut [u8]>, FrameError> {
        let Some(length) = self.length() else { return Ok(None) };
        if usize::from(length) < HEADER_LEN {
            return Err(FrameError::TooShort(length));
        }
        if length > self.max_message {
            return Err(FrameError::TooLong(length));
        }
        let start = self.filled.start + PREFIX;
        let end = start + usize::from(length);
        if end > self.filled.end {
            return Ok(None);
        }
        self.filled.start = end;
        Ok(Some(&mut self.buffer[start..end]))
    }

    /// Whether a part of a message was read and not the whole.
    pub fn is_inside_message(&self) -> bool {
        !self.filled.is_empty()
    }

    /// The most bytes that the buffer ever holds.
    fn capacity(&self) -> usize {
        (usize::from(self.max_message) + PREFIX).max(READ_SIZE)
    }

    fn length(&self) -> Option<u16> {
        let bytes = self.buffer[self.filled.clone()].first_chunk::<PREFIX>()?;
        Some(u16::from_be_bytes(*bytes))
    }

    /// How many bytes of the message that was begun are not read yet.
    fn missing(&self) -> usize {
        let whole = self.length().map_or(PREFIX, |length| PREFIX + usize::from(length));
        whole.saturating_sub(self.filled.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(messages: &[&[u8]]) -> Vec<u8> {
        let mut stream = Vec::new();
        for message in messages {
            assert!(crate::write_framed(message, &mut stream));
        }
        stream
    }

    /// Feeds `stream` in pieces of `size` bytes and gives the messages.
    fn read(frames: &mut Frames, stream: &[u8], size: usize) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut messages = Vec::new();
        let mut rest = stream;
        while !rest.is_empty() {
            let space = frames.space();
            assert!(!space.is_empty());
            let count = size.min(space.len()).min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            frames.advance(count);
            rest = &rest[count..];
            while let Some(message) = frames.next_message()? {
                messages.push(message.to_vec());
            }
        }
        Ok(messages)
    }

    #[test]
    fn reads_many_messages_however_the_stream_is_split() {
        let (first, second) = (vec![1; HEADER_LEN], vec![2; 5000]);
        let stream = framed(&[&first, &second, &first, &first]);
        for size in [1, 2, 3, 13, 14, 15, 700, 5000, 9000] {
            let mut frames = Frames::new(u16::MAX);
            let messages = read(&mut frames, &stream, size).unwrap();
            assert_eq!(messages, [&first[..], &second, &first, &first], "pieces of {size}");
            assert!(!frames.is_inside_message());
        }
    }

    #[test]
    fn knows_a_message_that_is_not_whole() {
        let mut frames = Frames::new(512);
        assert_eq!(read(&mut frames, &[0], 1), Ok(vec![]));
        assert!(frames.is_inside_message());
    }

    #[test]
    fn ends_at_a_length_that_no_message_has() {
        let read = |stream: &[u8]| read(&mut Frames::new(512), stream, 64);
        assert_eq!(read(&[0, 0]), Err(FrameError::TooShort(0)));
        assert_eq!(read(&[0, 11]), Err(FrameError::TooShort(11)));
        assert_eq!(read(&[2, 1]), Err(FrameError::TooLong(513)));
        assert_eq!(read(&framed(&[&[7; 512]])).unwrap().len(), 1);
    }

    #[test]
    fn holds_no_more_than_one_longest_message() {
        let mut frames = Frames::new(4096);
        let stream = framed(&[&[7; 4096][..]; 50]);
        assert_eq!(read(&mut frames, &stream, 1000).unwrap().len(), 50);
        assert!(frames.buffer.len() <= 4098, "{}", frames.buffer.len());
    }
}
