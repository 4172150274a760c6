//! Framing: however a stream is cut, its messages are those of the whole stream.

use arbitrary::Unstructured;
use dnsproxy_core::{FrameError, Frames};

const MAX_MESSAGE: u16 = 600;

/// Splits a stream at the places that the first bytes say.
pub fn check(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(stream) = stream(&mut input) else { return };
    let sizes = input.take_rest();
    let mut frames = Frames::new(MAX_MESSAGE);
    let (mut rest, mut turn) = (&stream[..], 0);
    let (mut messages, mut end) = (Vec::new(), None);
    while !rest.is_empty() && end.is_none() {
        let space = frames.space();
        assert!(!space.is_empty(), "no room for the rest of a message");
        let wanted =
            sizes.get(turn % sizes.len().max(1)).map_or(usize::MAX, |size| 1 + usize::from(*size));
        let count = wanted.min(space.len()).min(rest.len());
        space[..count].copy_from_slice(&rest[..count]);
        frames.advance(count);
        (rest, turn) = (&rest[count..], turn + 1);
        end = loop {
            match frames.next_message() {
                Ok(Some(message)) => messages.push(message.to_vec()),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
    }
    let expected = whole(&stream);
    assert_eq!((messages, end, frames.is_inside_message()), expected);
}

/// A stream of messages, most of them whole.
fn stream(input: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    let mut stream = Vec::new();
    for _ in 0..input.int_in_range(0..=8)? {
        let length = input.int_in_range(0..=MAX_MESSAGE + 4)?;
        stream.extend(length.to_be_bytes());
        let cut = if input.ratio(1, 8)? { input.int_in_range(0..=length)? } else { length };
        stream.resize(stream.len() + usize::from(cut), input.arbitrary()?);
    }
    Ok(stream)
}

/// What a reader sees that has the whole stream: messages, error, whether something is left.
fn whole(stream: &[u8]) -> (Vec<Vec<u8>>, Option<FrameError>, bool) {
    let (mut messages, mut at) = (Vec::new(), 0);
    while let Some(length) = stream.get(at..at + 2) {
        let length = u16::from_be_bytes([length[0], length[1]]);
        if length < 12 {
            return (messages, Some(FrameError::TooShort(length)), true);
        }
        if length > MAX_MESSAGE {
            return (messages, Some(FrameError::TooLong(length)), true);
        }
        let Some(message) = stream.get(at + 2..at + 2 + usize::from(length)) else { break };
        messages.push(message.to_vec());
        at += 2 + usize::from(length);
    }
    (messages, None, at < stream.len())
}
